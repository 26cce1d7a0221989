//! Bodies that can be checked byte by byte: every body is a stretch of one random table, at a place that its id decides.

use std::sync::OnceLock;

use ringgate::ring::sim::Random;

/// Prime, so that no two ids of a run begin at the same place of a shifted table.
const PERIOD: usize = 65_521;
const STRETCH: usize = 32 * 1024;

fn table() -> &'static [u8] {
    static TABLE: OnceLock<Vec<u8>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut random = Random::new(0x5eed);
        let mut bytes: Vec<u8> = (0..PERIOD).map(|_| random.bits() as u8).collect();
        bytes.extend_from_within(..STRETCH);
        bytes
    })
}

/// What a body is for: the same id has different bytes in its request and in each answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    Request,
    Answer(usize),
    Tunnel,
}

fn start(id: u64, of: Use) -> usize {
    let salt = match of {
        Use::Request => 1,
        Use::Tunnel => 2,
        Use::Answer(attempt) => 3 + attempt as u64,
    };
    (Random::new(id.wrapping_mul(1000).wrapping_add(salt)).bits() % PERIOD as u64) as usize
}

/// The bytes from `from` up to `from + len` of a body.
pub fn bytes(id: u64, of: Use, from: usize, len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(len);
    let base = start(id, of);
    while out.len() < len {
        let at = (base + from + out.len()) % PERIOD;
        let part = STRETCH.min(len - out.len());
        out.extend_from_slice(&table()[at..at + part]);
    }
    out
}

/// Whether `bytes` are those from `from` on of a body.
pub fn matches(id: u64, of: Use, from: usize, bytes: &[u8]) -> bool {
    let base = start(id, of);
    let mut done = 0;
    while done < bytes.len() {
        let at = (base + from + done) % PERIOD;
        let part = STRETCH.min(bytes.len() - done);
        if table()[at..at + part] != bytes[done..done + part] {
            return false;
        }
        done += part;
    }
    true
}

#[test]
fn bodies_differ_and_match_at_every_offset() {
    let whole = bytes(7, Use::Request, 0, 200_000);
    assert!(matches(7, Use::Request, 0, &whole));
    assert!(matches(7, Use::Request, 70_000, &whole[70_000..]));
    assert!(!matches(7, Use::Request, 70_001, &whole[70_000..]));
    assert!(!matches(8, Use::Request, 0, &whole[..16]));
    assert!(!matches(7, Use::Answer(0), 0, &whole[..16]));
}
