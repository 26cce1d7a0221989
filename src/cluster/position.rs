//! Positions in the primary's binary log: GTIDs, and sets of them as far as a splitter needs them.
//!
//! What goes in: texts that servers send. What comes out: whether everything up to a GTID is there. It owns a few atomics.
//! Always true: for each source only the end of the part without a hole is kept, so that `has` errs towards no.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

use super::tagged;
use crate::limits::SQL_GTID_SOURCES_MAX;

/// A transaction by its number within a source: MariaDB's replication domain, or the UUID of a MySQL server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gtid {
    /// The domain or UUID.
    pub source: u128,
    /// The number.
    pub number: u64,
}

impl Gtid {
    /// Reads a list: MariaDB's `0-1-7,1-2-9` (domain-server-number), or a MySQL set `uuid:1-7:9:tag:1-3,uuid:3` of which the
    /// first interval of each source counts if it begins with 1 (`single`: the end of each interval, as for the GTIDs of a
    /// statement). What is neither is left out, and so is what is tagged when there are too many tags.
    pub fn parse_list(text: &[u8], single: bool) -> impl Iterator<Item = Self> + '_ {
        let parts = text.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        parts.flat_map(move |part| Self::mariadb(part).into_iter().chain(Self::mysql(part, single)))
    }

    /// Its text as one server's functions take it; MariaDB's compare domain and number alone.
    pub fn text(&self, is_mariadb: bool) -> String {
        let Self { source, number } = self;
        if is_mariadb {
            return format!("{source}-1-{number}");
        }
        let (uuid, tag) = tagged::name(*source).unwrap_or((*source, ""));
        let hex = format!("{uuid:032x}");
        let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default().to_owned();
        let parts = [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)];
        let colon = if tag.is_empty() { "" } else { ":" };
        // All before it too: other sessions may rely on the answer.
        format!("{}{colon}{tag}:1-{number}", parts.join("-"))
    }

    fn mariadb(text: &[u8]) -> Option<Self> {
        let mut parts = text.split(|byte| *byte == b'-').map(number);
        let (domain, server, number) = (parts.next()??, parts.next()??, parts.next()??);
        let fits = parts.next().is_none() && server <= u64::from(u32::MAX);
        fits.then_some(Self { source: domain.into(), number })
    }

    fn mysql(text: &[u8], single: bool) -> impl Iterator<Item = Self> + '_ {
        let mut parts = text.split(|byte| *byte == b':').map(<[u8]>::trim_ascii);
        let server = parts.next().and_then(uuid);
        let mut source = server;
        std::iter::from_fn(move || {
            let uuid = server?;
            loop {
                let part = parts.next()?;
                match (interval(part), source) {
                    // Those behind a tag are counted on their own.
                    (None, _) => source = tagged::source(uuid, part),
                    (Some((first, last)), Some(source)) if single || first == 1 => {
                        return Some(Self { source, number: last });
                    }
                    _ => {}
                }
            }
        })
    }
}

/// `7` or `1-7`.
fn interval(text: &[u8]) -> Option<(u64, u64)> {
    let mut ends = text.split(|byte| *byte == b'-').map(number);
    let first = ends.next()??;
    let last = ends.next().map_or(Some(first), |last| last)?;
    ends.next().is_none().then_some((first, last))
}

fn number(text: &[u8]) -> Option<u64> {
    let digits = text.trim_ascii();
    if digits.is_empty() || digits.len() > 20 {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

fn uuid(text: &[u8]) -> Option<u128> {
    let mut digits = 0;
    let mut uuid = 0u128;
    for byte in text.iter().filter(|byte| **byte != b'-') {
        uuid = uuid << 4 | u128::from(char::from(*byte).to_digit(16)?);
        digits += 1;
    }
    (digits == 32 && text.len() == 36).then_some(uuid)
}

#[derive(Debug, Default)]
struct Source {
    high: AtomicU64,
    low: AtomicU64,
    number: AtomicU64,
}

/// The last number of each source.
#[derive(Debug, Default)]
pub struct Positions {
    sources: [Source; SQL_GTID_SOURCES_MAX],
    /// Sources in use. They are never given back.
    used: AtomicUsize,
    /// Held while a source is added.
    adding: std::sync::Mutex<()>,
}

impl Positions {
    fn find(&self, source: u128) -> Option<&Source> {
        let (high, low) = ((source >> 64) as u64, source as u64);
        let used = self.used.load(Acquire);
        let is = |one: &&Source| one.high.load(Relaxed) == high && one.low.load(Relaxed) == low;
        self.sources.iter().take(used).find(is)
    }

    /// Whether everything up to this is there.
    pub fn has(&self, gtid: Gtid) -> bool {
        self.find(gtid.source).is_some_and(|source| source.number.load(Acquire) >= gtid.number)
    }

    /// Everything up to this is there. False when there are too many sources to remember this one.
    pub fn raise(&self, gtid: Gtid) -> bool {
        self.change(gtid, |number| number.fetch_max(gtid.number, Release))
    }

    /// This is what is there, be it less than before (a server that was set up anew).
    pub fn set(&self, gtid: Gtid) -> bool {
        self.change(gtid, |number| number.swap(gtid.number, Release))
    }

    fn change(&self, gtid: Gtid, how: impl Fn(&AtomicU64) -> u64) -> bool {
        if let Some(source) = self.find(gtid.source) {
            how(&source.number);
            return true;
        }
        let _adding = self.adding.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(source) = self.find(gtid.source) {
            how(&source.number);
            return true;
        }
        let used = self.used.load(Relaxed);
        let Some(source) = self.sources.get(used) else { return false };
        source.high.store((gtid.source >> 64) as u64, Relaxed);
        source.low.store(gtid.source as u64, Relaxed);
        source.number.store(gtid.number, Relaxed);
        self.used.store(used + 1, Release);
        true
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = Gtid> + '_ {
        self.sources.iter().take(self.used.load(Acquire)).map(|source| Gtid {
            source: u128::from(source.high.load(Relaxed)) << 64 | u128::from(source.low.load(Relaxed)),
            number: source.number.load(Acquire),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn list(text: &str, single: bool) -> Vec<(u128, u64)> {
        Gtid::parse_list(text.as_bytes(), single).map(|gtid| (gtid.source, gtid.number)).collect()
    }

    #[test]
    fn lists_are_read() {
        let id = 0x3e11_fa47_71ca_11e1_9e33_c80a_a942_9562;
        assert_eq!(list("0-1-7", false), [(0, 7)]);
        assert_eq!(list("0-1-7,1-2-9, 2-3-18446744073709551615", false), [(0, 7), (1, 9), (2, u64::MAX)]);
        assert_eq!(
            list(&format!("{UUID}:1-5:9"), false),
            [(id, 5)],
            "what comes after a hole does not count"
        );
        assert_eq!(list(&format!("{UUID}:3-5"), false), [], "a hole at the beginning");
        assert_eq!(list(&format!("{UUID}:23"), true), [(id, 23)]);
        assert_eq!(list(&format!("{UUID}:1"), false), [(id, 1)]);
        assert_eq!(list(&format!("{UUID}:5-6:9"), true), [(id, 6), (id, 9)], "of several transactions");
        let gtid = Gtid { source: id, number: 7 };
        assert_eq!(gtid.text(false), format!("{UUID}:1-7"));
        assert_eq!(Gtid { source: 3, number: 7 }.text(true), "3-1-7");
        for text in ["", "0-1", "0-1-", "0-1-2:3", "0-1-18446744073709551616", "0-1-7-8", "x:1-2", "0-1-7x"] {
            assert_eq!(list(text, false), [], "{text}");
        }
    }

    #[test]
    fn tags_are_sources_of_their_own() {
        let one = |text: &str| list(&format!("{UUID}:{text}"), true);
        let [(plain, 7)] = one("7")[..] else { panic!("no GTID") };
        let [(blue, 3)] = one("blue:3")[..] else { panic!("no tagged GTID") };
        let [(red, 3)] = one("red:3")[..] else { panic!("no tagged GTID") };
        assert!(plain != blue && blue != red);
        let set = list(&format!("{UUID}:1-9:blue:1-3:5:red:2-4,\n{UUID}:red:1"), false);
        assert_eq!(set, [(plain, 9), (blue, 3), (red, 1)]);
        assert_eq!(Gtid { source: blue, number: 3 }.text(false), format!("{UUID}:blue:1-3"));
        assert_eq!(list(&format!("{UUID}:not-a-tag:1-3"), false), []);
    }

    #[test]
    fn what_is_there_is_known() {
        let positions = Positions::default();
        let gtid = |source, number| Gtid { source, number };
        assert!(!positions.has(gtid(0, 1)));
        assert!(
            positions.raise(gtid(0, 7)) && positions.raise(gtid(0, 5)) && positions.raise(gtid(1 << 70, 3))
        );
        assert!(positions.has(gtid(0, 7)) && !positions.has(gtid(0, 8)) && positions.has(gtid(1 << 70, 2)));
        assert!(positions.set(gtid(0, 2)) && !positions.has(gtid(0, 3)));
        for source in 2..SQL_GTID_SOURCES_MAX as u128 {
            assert!(positions.raise(gtid(source, 1)));
        }
        assert!(!positions.raise(gtid(999, 1)) && !positions.has(gtid(999, 1)), "full");
        assert_eq!(positions.iter().count(), SQL_GTID_SOURCES_MAX);
    }
}
