//! Answers of servers on their way to the client.
//!
//! What goes in: a server's bytes. What comes out: the client's, with OK packets as its own capabilities have them. It owns
//! nothing. Always true: rows are moved by the page; an answer waits at the server while the client does not read.

use crate::buf::{Chunk, Queue};
use crate::close::Close;
use crate::limits::{BODY_COPY_BYTES_MAX, OUTBOX_PAGES_MAX};
use crate::mysql::command::{Command, Kind};
use crate::mysql::errors::{Code, read_only_transaction};
use crate::mysql::facts::{Capabilities, Status};
use crate::mysql::generic::{EofPacket, ErrPacket, OkPacket};
use crate::mysql::packet::{HEADER_BYTES, Header, put};
use crate::mysql::prepared::{PrepareOk, patch_statement};
use crate::mysql::reply::{Judged, What};
use crate::mysql::track::{Change, changes, rewrite_packet};
use crate::mysql::verdict::Effects;
use crate::route::split::Place;
use crate::session::Cx;
use crate::session::conn::push_or_copy;
use crate::session::timers::Timer;

use super::SqlSession;
use super::back::{Fault, Side};
use super::state::{CHARACTER_SET, is_told};

/// How far an answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passed {
    /// More must come, or the client must read.
    Part,
    /// It is over.
    All,
    /// The fence kept a write from a replica: the command is to be given to the primary.
    Fenced,
}

impl SqlSession {
    /// Passes on what has come of the answer.
    pub(super) fn pass_on(&mut self, cx: &mut Cx<'_>) -> Result<Passed, Fault> {
        loop {
            let window = cx.window();
            if self.front.pending() >= window || self.front.pending_pages() >= OUTBOX_PAGES_MAX {
                if self.job.as_ref().is_some_and(|job| job.answered_at.is_set()) {
                    self.deadlines.clear(Timer::Server);
                }
                return Ok(Passed::Part);
            }
            let Some(job) = &mut self.job else { return Ok(Passed::All) };
            let Some(back) = &mut self.backs[job.side as usize] else { return Ok(Passed::Part) };
            // A file and a piece of a long parameter have been heard before anything follows; the latter has no answer.
            let goes_on = job.upload.is_some() || (job.long.is_some() && job.kind == Kind::StmtSendLongData);
            if goes_on && back.conn.inbox.is_empty() && !back.conn.is_eof() {
                return Ok(Passed::Part);
            }
            if back.reply.is_over() {
                return Ok(Passed::All);
            }
            let Some(chunk) = back.conn.inbox.front() else {
                if back.conn.is_eof() {
                    return Err(Close::ServerTruncated.into());
                }
                if job.answered_at.is_set() {
                    // To go on it may take as long as to begin.
                    let time = self.site(cx).times.first_byte;
                    self.deadlines.set_once(Timer::Server, cx.now + time);
                }
                return Ok(Passed::Part);
            };
            self.deadlines.clear(Timer::Server);
            if !job.answered_at.is_set() {
                job.answered_at = cx.now;
            }
            let whole = chunk.len();
            let step = back.reply.feed(chunk.bytes()).map_err(|_| Fault::Close(Close::ServerBadAnswer))?;
            let used = step.used;
            let fits = match step.what {
                What::Hold => {
                    back.conn.inbox.consume(used, cx.pool);
                    true
                }
                What::PassHeld(held) => {
                    job.passed(held.len());
                    let fits = self.front.outbox.append(held, cx.pool);
                    back.conn.inbox.consume(used, cx.pool);
                    fits
                }
                What::Pass if used == whole => {
                    job.passed(used);
                    if let Some(chunk) = back.conn.inbox.pop() {
                        push_or_copy(&mut self.front.outbox, chunk, cx.pool);
                    }
                    true
                }
                What::Pass => {
                    job.passed(used);
                    part(&mut back.conn.inbox, used, &mut self.front.outbox, cx)
                }
                What::Packet(judged, packet) => {
                    let packet = packet.to_vec();
                    back.conn.inbox.consume(used, cx.pool);
                    if self.judged(judged, &packet, cx)? {
                        return Ok(Passed::Fenced);
                    }
                    true
                }
            };
            if !fits {
                return Err(Close::NoMemory.into());
            }
        }
    }

    /// A packet that says something of the session; true when the fence held it back.
    fn judged(&mut self, judged: Judged, packet: &[u8], cx: &mut Cx<'_>) -> Result<bool, Fault> {
        let (Some(job), payload) = (&mut self.job, packet.get(HEADER_BYTES..).unwrap_or_default()) else {
            return Ok(false);
        };
        let (side, is_compressed) = (job.side, self.front.is_compressed());
        let from = self.backs[side as usize].as_ref().map_or(Capabilities::NONE, |back| back.capabilities);
        let bad = |_| Fault::Close(Close::ServerBadAnswer);
        // What is told to the client is no longer than what the server says.
        let mut out = Vec::with_capacity(packet.len());
        match judged {
            Judged::Err => {
                let code = ErrPacket::parse(payload).map_err(bad)?.code;
                let fence = [Code::READ_ONLY_TRANSACTION.number, Code::READ_ONLY.number].contains(&code);
                let back = self.backs[side as usize].as_ref();
                let in_own = back.is_some_and(|back| back.status.has(Status::IN_TRANS));
                let variables = Effects::READS_VARIABLES | Effects::WRITES_VARIABLES;
                let needs = job.verdict.as_ref().is_some_and(|verdict| verdict.effects.has(variables))
                    && self.texts.variables() == Some(Place::Replica);
                if side == Side::Replica && fence && job.may_move() && !in_own && !needs {
                    return Ok(true);
                }
                job.failed = true;
                job.is_understood =
                    ![Code::PARSE_ERROR, Code::UNKNOWN_COLUMN].iter().any(|other| other.number == code);
                if job.kind == Kind::StmtPrepare {
                    self.statements.failed();
                }
                if side == Side::Replica && in_own && code == Code::READ_ONLY.number {
                    // That the server takes no writes at all is not what keeps the client's own transaction from writing.
                    let mut sequence = sequence_of(packet);
                    let text = read_only_transaction(self.dialect.vendor);
                    put(&mut out, &mut sequence, |out| Code::READ_ONLY_TRANSACTION.packet(text).write(out));
                } else if let Some(aim) = &mut job.aim {
                    aim.refused(packet, &mut out);
                } else {
                    out.extend_from_slice(packet);
                }
            }
            Judged::Ok | Judged::End if payload.len() != 5 || from.has(Capabilities::DEPRECATE_EOF) => {
                let ok = OkPacket::parse(payload, from).map_err(bad)?;
                job.aim.iter_mut().for_each(|aim| aim.done());
                rewrite_packet(&mut out, packet, from, self.state.capabilities, is_told).map_err(bad)?;
                job.warned = ok.warnings > 0;
                if side == Side::Primary && ok.last_insert_id != 0 {
                    self.told_insert_id();
                }
                self.told(side, ok.status, ok.state, cx);
            }
            Judged::End => {
                let eof = EofPacket::parse(payload).map_err(bad)?;
                job.warned = eof.warnings > 0;
                out.extend_from_slice(packet);
                // Without DEPRECATE_EOF what such an answer wrote is not told; a transaction's COMMIT tells it.
                let autocommitted = side == Side::Primary && !eof.status.has(Status::IN_TRANS);
                self.state.is_blind |= autocommitted && eof.status.has(Status::SESSION_STATE_CHANGED);
                self.told(side, eof.status, b"", cx);
            }
            Judged::LocalInfile => {
                job.begin_upload(sequence_of(packet), is_compressed);
                out.extend_from_slice(packet);
            }
            Judged::PrepareOk => {
                out.extend_from_slice(packet);
                let own = self.note_prepared(PrepareOk::parse(payload).map_err(bad)?, cx);
                let payload = out.get_mut(HEADER_BYTES..).unwrap_or_default();
                patch_statement(payload, own).map_err(bad)?;
            }
            _ => out.extend_from_slice(packet),
        }
        if let Some(job) = &mut self.job {
            job.passed(out.len());
        }
        if self.front.outbox.append(&out, cx.pool) { Ok(false) } else { Err(Close::NoMemory.into()) }
    }

    /// The primary's connection knows the id of an insert.
    pub(super) fn told_insert_id(&mut self) {
        (self.state.has_insert_id, self.state.lost_insert_id) = (true, false);
        if let Some(back) = &mut self.backs[Side::Primary as usize] {
            back.may_have_id = true;
        }
    }

    /// A server told the state of its session.
    fn told(&mut self, side: Side, status: Status, state: &[u8], cx: &mut Cx<'_>) {
        let status = status.without(Status::MORE_RESULTS_EXISTS);
        if let Some(back) = &mut self.backs[side as usize] {
            back.status = status;
        }
        self.status = status;
        let place = if side == Side::Primary { Place::Primary } else { Place::Replica };
        let verdict = self.job.as_ref().and_then(|job| job.verdict.as_ref());
        let is_opaque = verdict.is_some_and(|verdict| verdict.effects.has(Effects::OPAQUE | Effects::CALLS));
        let is_plain = verdict.is_some_and(|verdict| !verdict.effects.has(CHANGES_STATE));
        let mut is_dirty = false;
        for change in changes(state).filter_map(Result::ok) {
            match change {
                Change::StateChange(_) if side == Side::Primary && is_opaque => self.texts.told_hidden(),
                // A trigger or a function did what others must not find.
                Change::StateChange(_) => is_dirty |= is_plain,
                Change::TransactionState(state) => self.texts.told_transaction_state(place, state),
                Change::SystemVariable { name, value } if side == Side::Primary => {
                    self.texts.told_variable(name, value);
                }
                Change::SystemVariable { name: b"tx_read_only" | b"transaction_read_only", value } => {
                    self.is_unfenced |= !matches!(value, b"ON" | b"1");
                }
                Change::SystemVariable { .. } => is_dirty = true,
                Change::Schema(name) => {
                    if let Some(back) = &mut self.backs[side as usize] {
                        back.database = name.to_vec();
                    }
                    if side == Side::Primary {
                        self.texts.told_schema(name);
                    }
                }
                _ => {}
            }
        }
        if let Some(back) = &mut self.backs[side as usize] {
            back.is_dirty |= is_dirty;
        }
        if side == Side::Replica || state.is_empty() {
            return;
        }
        let cluster = self.cluster(cx);
        let stamp = self.state.stamp();
        self.state.told(state, |gtid| {
            // Without a place for its source no replica will be said to have it.
            let _ = cluster.acknowledged().raise(gtid);
        });
        let is_set = |change| matches!(change, Ok(Change::SystemVariable { name: CHARACTER_SET, .. }));
        if let Some(job) = &self.job
            && job.kind == Kind::Query
            && changes(state).any(is_set)
        {
            let payload = job.packet.get(HEADER_BYTES..).unwrap_or_default();
            let query = Command::parse(payload, self.state.capabilities);
            self.state.chose(if let Ok(Command::Query(query)) = query { query.text } else { b"" });
        }
        // The primary's connection is where the state comes from.
        if let Some(back) = &mut self.backs[Side::Primary as usize]
            && back.synced == stamp
        {
            back.synced = self.state.stamp();
        }
    }
}

/// What explains that a server tells a change of state.
const CHANGES_STATE: Effects = Effects::SETS_SESSION
    .or(Effects::SETS_SCHEMA)
    .or(Effects::SETS_NEXT)
    .or(Effects::SETS_TRANSACTIONS)
    .or(Effects::SETS_GLOBAL)
    .or(Effects::AUTOCOMMIT_ON)
    .or(Effects::AUTOCOMMIT_OFF)
    .or(Effects::WRITES_VARIABLES)
    .or(Effects::CREATES_TEMPORARY)
    .or(Effects::DROPS_TABLES)
    .or(Effects::PREPARES)
    .or(Effects::DEALLOCATES)
    .or(Effects::EXECUTES)
    .or(Effects::SET_STATEMENT)
    .or(Effects::BEGINS)
    .or(Effects::ENDS)
    .or(Effects::COMMITS)
    .or(Effects::OPAQUE)
    .or(Effects::CALLS);

/// The sequence id of a whole packet.
fn sequence_of(packet: &[u8]) -> u8 {
    packet.first_chunk().map_or(1, |bytes| Header::from_bytes(*bytes).sequence)
}

/// Moves the first `used` bytes of the first chunk: a few are copied, many leave with their page.
fn part(inbox: &mut Queue, used: usize, outbox: &mut Queue, cx: &mut Cx<'_>) -> bool {
    if used <= BODY_COPY_BYTES_MAX {
        let Some(chunk) = inbox.front() else { return true };
        let fits = outbox.append(chunk.bytes().get(..used).unwrap_or_default(), cx.pool);
        if fits {
            inbox.consume(used, cx.pool);
        }
        return fits;
    }
    let Some(page) = cx.pool.take() else { return false };
    let Some(mut first) = inbox.pop() else {
        cx.pool.give(page);
        return true;
    };
    let mut rest = Chunk::empty(page);
    rest.append(first.bytes().get(used..).unwrap_or_default());
    first.truncate(used);
    inbox.push_front(rest, cx.pool);
    push_or_copy(outbox, first, cx.pool);
    true
}
