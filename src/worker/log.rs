//! The access log as far as workers write it: lines in a buffer, which is handed over when it is full or old.
//!
//! What goes in: access records. What comes out: batches of lines on the desk, where the log's thread takes them. It owns
//! the buffer. Always true: a worker never waits for the log; what finds no place is dropped and counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::access::line::{Format, Line, name};
use crate::access::{Access, Block, Steps, Tls};
use crate::clock::{self, Moment};
use crate::config::model::Config;
use crate::counters::Count;
use crate::limits::{LOG_BATCH_BYTES, LOG_BATCH_TIME, LOG_BATCHES_MAX};
use crate::meters::Meters;
use crate::ring::Io;

use super::Worker;
use super::edition::EditionSlot;

/// Lines, and how many. None at all: there is something else to look at.
#[derive(Debug, Default)]
pub struct Batch {
    /// Whole lines.
    pub bytes: Vec<u8>,
    /// How many.
    pub lines: u64,
}

/// Where workers leave batches for the log's thread.
#[derive(Debug)]
pub struct Desk {
    batches: SyncSender<Batch>,
    taken: Mutex<Option<Receiver<Batch>>>,
    lost: AtomicU64,
}

impl Default for Desk {
    fn default() -> Self {
        let (batches, taken) = sync_channel(LOG_BATCHES_MAX);
        Self { batches, taken: Mutex::new(Some(taken)), lost: AtomicU64::new(0) }
    }
}

impl Desk {
    /// The end at which batches come out; once.
    pub fn receiver(&self) -> Option<Receiver<Batch>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Leaves a batch; false when there is no place for it.
    pub fn leave(&self, batch: Batch) -> bool {
        self.batches.try_send(batch).is_ok()
    }

    /// Counts lines that were left but could not be written.
    pub fn lose(&self, lines: u64) {
        self.lost.fetch_add(lines, Ordering::Relaxed);
    }

    /// Lines that were left but could not be written.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// A worker's lines that were not handed over yet.
#[derive(Debug)]
pub(super) struct Lines {
    batch: Batch,
    due: Moment,
    time: Time,
}

impl Default for Lines {
    fn default() -> Self {
        Self { batch: Batch::default(), due: Moment::NEVER, time: Time::default() }
    }
}

impl Lines {
    /// When they are to be handed over.
    pub(super) const fn due(&self) -> Moment {
        self.due
    }
}

/// The wall clock in words, from a reading of it once per second.
#[derive(Debug)]
struct Time {
    read: SystemTime,
    at: Moment,
    until: Moment,
    second: u64,
    text: String,
}

impl Default for Time {
    fn default() -> Self {
        let (at, until) = (Moment::default(), Moment::default());
        Self { read: SystemTime::UNIX_EPOCH, at, until, second: u64::MAX, text: String::new() }
    }
}

impl Time {
    /// RFC 3339 with milliseconds.
    fn text(&mut self, now: Moment) -> &str {
        if now >= self.until {
            // The turn's time may lie before the reading.
            let (wall, late) = (clock::wall(), clock::now().since(now));
            (self.read, self.at, self.until) =
                (wall.checked_sub(late).unwrap_or(wall), now, now + Duration::from_secs(1));
        }
        let time = self.read + now.since(self.at);
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        if since.as_secs() != self.second {
            self.second = since.as_secs();
            let second = i64::try_from(self.second).unwrap_or(0);
            let text = jiff::Timestamp::from_second(second).unwrap_or_default().to_string();
            self.text = format!("{}.000Z", text.trim_end_matches('Z'));
        }
        let end = self.text.len() - 4;
        let millis = since.subsec_millis();
        let digits =
            [millis / 100, millis / 10 % 10, millis % 10].map(|digit| char::from(b'0' + digit as u8));
        self.text.truncate(end);
        self.text.extend(digits);
        self.text.push('Z');
        &self.text
    }
}

impl<I: Io> Worker<I> {
    /// Writes lines for the exchanges that are over.
    pub(super) fn log_accesses(&mut self, slot: EditionSlot) {
        let Self { editions, log, accesses, now, .. } = self;
        for access in accesses.iter().filter(|access| !access.line.is_empty()) {
            let edition = editions.get(slot);
            if log.batch.lines == 0 {
                log.due = *now + LOG_BATCH_TIME;
                log.batch.bytes.reserve(LOG_BATCH_BYTES + LOG_BATCH_BYTES / 8);
            }
            let write = match edition.config.log.format {
                Format::Json => write::<true>,
                Format::Text => write::<false>,
            };
            write(access, &edition.config, &edition.meters, log.time.text(*now), &mut log.batch.bytes);
            log.batch.lines += 1;
        }
        if self.log.batch.bytes.len() >= LOG_BATCH_BYTES {
            self.hand_log_over(true);
        }
    }

    /// Hands lines over that are old, or all.
    pub(super) fn hand_log_over(&mut self, all: bool) {
        if self.log.batch.lines == 0 || !(all || self.log.due <= self.now) {
            return;
        }
        self.log.due = Moment::NEVER;
        let batch = std::mem::take(&mut self.log.batch);
        let lines = batch.lines;
        if !self.shared.log.leave(batch) {
            self.counters().add(Count::LogDropped, lines);
        }
    }
}

/// One line.
fn write<const JSON: bool>(access: &Access, config: &Config, meters: &Meters, time: &str, out: &mut Vec<u8>) {
    let mut line = Line::<JSON>::new(out);
    line.begin(time);
    let (kind, block) = match access.block {
        Block::Http(id) => ("http", &config.http[id.index()].name),
        Block::Tcp(id) => ("tcp", &config.tcp[id.index()].name),
        Block::Sql(id) => ("sql", &config.sql[id.index()].name),
    };
    line.word(name!("kind"), kind);
    line.text(name!("block"), block.as_bytes());
    line.part(&access.line);
    match access.status {
        0 => line.none(name!("status")),
        status => line.number(name!("status"), status.into()),
    }
    line.word(name!("end"), access.close.word());
    line.number(name!("bytes_in"), access.bytes_in);
    line.number(name!("bytes_out"), access.bytes_out);
    let Steps { begun, asked, picked, connected, answered, ended } = access.steps;
    let waited = if asked.is_set() { asked } else { begun };
    line.micros(name!("head_us"), Steps::between(begun, asked));
    line.micros(name!("queue_us"), Steps::between(waited, picked));
    line.micros(name!("connect_us"), Steps::between(picked, connected));
    line.micros(name!("first_byte_us"), Steps::between(connected, answered));
    line.micros(name!("total_us"), Steps::between(begun, ended));
    line.maybe(name!("route"), meters.route_name(access).map(str::as_bytes));
    let pool = access.pool.and_then(|id| config.pools.get(id.index()));
    line.maybe(name!("pool"), pool.map(|pool| pool.name.as_bytes()));
    let server = access.server.and_then(|id| config.servers.get(id.index()));
    line.maybe(name!("server"), server.map(|server| server.name.as_bytes()));
    line.number(name!("retries"), access.retries.into());
    line.flag(name!("reused"), access.reused);
    match access.tls {
        Tls::None => line.none(name!("tls")),
        Tls::Tls12 => line.word(name!("tls"), "1.2"),
        Tls::Tls13 => line.word(name!("tls"), "1.3"),
    }
    line.end();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_has_milliseconds() {
        let mut time = Time {
            read: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_998),
            at: Moment(5),
            until: Moment::NEVER,
            ..Time::default()
        };
        let mut at = |millis| time.text(Moment(5) + Duration::from_millis(millis)).to_owned();
        assert_eq!(at(0), "2023-11-14T22:13:20.998Z");
        assert_eq!(at(1), "2023-11-14T22:13:20.999Z");
        assert_eq!(at(2), "2023-11-14T22:13:21.000Z");
        assert_eq!(at(3602), "2023-11-14T22:13:24.600Z");
    }
}
