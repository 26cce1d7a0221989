//! Session tickets: sealed state that the client brings back, so that no worker has to remember it.
//!
//! What goes in: the state of a session, from rustls. What comes out: a ticket, and the state again when the ticket is
//! one of ours and not too old. It owns the keys of one [`ServerTls`](super::ServerTls), which no other one can open.
//! Always true: a key seals for [`PERIOD`] and opens for one period more, then it is overwritten; reading the keys takes
//! no lock (a sequence lock over atomics), so workers do not wait for each other.
//!
//! A ticket is the key's name (8 bytes), a random nonce (12), the sealed state, and a tag (16); AES-256-GCM, with the
//! name as additional data.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand;
use rustls::server::ProducesTickets;

use crate::clock::{self, Moment};

/// How long one key seals tickets.
const PERIOD: Duration = Duration::from_secs(6 * 3600);
/// How long a client may use a ticket: as long as its key is surely known.
const LIFETIME_SECONDS: u32 = 6 * 3600;
const NAME_BYTES: usize = 8;
const TAG_BYTES: usize = 16;
/// A key and its name, in words.
const WORDS: usize = 5;

type Words = [u64; WORDS];

/// The ticket keys of one [`ServerTls`](super::ServerTls).
pub(super) struct Tickets {
    /// Odd while the keys are being changed.
    version: AtomicU64,
    current: [AtomicU64; WORDS],
    previous: [AtomicU64; WORDS],
    /// When the next key is due, as a [`Moment`].
    turn_at: AtomicU64,
    turning: Mutex<()>,
}

impl std::fmt::Debug for Tickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tickets")
    }
}

impl Tickets {
    /// New random keys; `None` when the system has no randomness.
    pub(super) fn new(now: Moment) -> Option<Self> {
        Some(Self {
            version: AtomicU64::new(0),
            current: random_words()?.map(AtomicU64::new),
            previous: random_words()?.map(AtomicU64::new),
            turn_at: AtomicU64::new((now + PERIOD).0),
            turning: Mutex::new(()),
        })
    }

    /// Seals a session's state.
    pub(super) fn seal(&self, state: &[u8], now: Moment) -> Option<Vec<u8>> {
        self.turn_if_due(now);
        let (current, _) = self.keys();
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let name = current[0].to_be_bytes();
        let mut ticket = Vec::with_capacity(NAME_BYTES + NONCE_LEN + state.len() + TAG_BYTES);
        ticket.extend_from_slice(&name);
        ticket.extend_from_slice(&nonce);
        ticket.extend_from_slice(state);
        let sealed = &mut ticket[NAME_BYTES + NONCE_LEN..];
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = key(&current)?.seal_in_place_separate_tag(nonce, Aad::from(name), sealed).ok()?;
        ticket.extend_from_slice(tag.as_ref());
        Some(ticket)
    }

    /// Opens a ticket; `None` when it is not ours, too old or damaged: the client then makes a full handshake.
    pub(super) fn open(&self, ticket: &[u8], now: Moment) -> Option<Vec<u8>> {
        self.turn_if_due(now);
        let (name, rest) = ticket.split_first_chunk::<NAME_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let (current, previous) = self.keys();
        let words = [current, previous].into_iter().find(|words| words[0].to_be_bytes() == *name)?;
        let mut state = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let len = key(&words)?.open_in_place(nonce, Aad::from(*name), &mut state).ok()?.len();
        state.truncate(len);
        Some(state)
    }

    /// Both keys as one change left them.
    fn keys(&self) -> (Words, Words) {
        loop {
            let before = self.version.load(Ordering::Acquire);
            let keys = (load(&self.current), load(&self.previous));
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == before {
                return keys;
            }
            std::hint::spin_loop();
        }
    }

    /// Makes a new key when it is time. Whoever notices first does it; nobody waits for it.
    fn turn_if_due(&self, now: Moment) {
        if now.0 < self.turn_at.load(Ordering::Relaxed) {
            return;
        }
        let Ok(_turning) = self.turning.try_lock() else { return };
        let due = self.turn_at.load(Ordering::Relaxed);
        if now.0 < due {
            return;
        }
        // Without randomness the old key stays in use until there is some.
        let (Some(fresh), Some(unused)) = (random_words(), random_words()) else { return };
        // After more than a whole period without a ticket the last key is too old to open anything.
        let last = if now.0 < (Moment(due) + PERIOD).0 { load(&self.current) } else { unused };
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        store(&self.previous, &last);
        store(&self.current, &fresh);
        self.version.store(version.wrapping_add(2), Ordering::Release);
        self.turn_at.store((now + PERIOD).0, Ordering::Relaxed);
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME_SECONDS
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(plain, clock::now())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.open(cipher, clock::now())
    }
}

fn load(words: &[AtomicU64; WORDS]) -> Words {
    std::array::from_fn(|at| words[at].load(Ordering::Relaxed))
}

fn store(words: &[AtomicU64; WORDS], values: &Words) {
    for (word, value) in words.iter().zip(values) {
        word.store(*value, Ordering::Relaxed);
    }
}

fn random_words() -> Option<Words> {
    let mut words = [0; WORDS];
    for word in &mut words {
        let mut bytes = [0; 8];
        rand::fill(&mut bytes).ok()?;
        *word = u64::from_ne_bytes(bytes);
    }
    Some(words)
}

fn key(words: &Words) -> Option<LessSafeKey> {
    let mut bytes = [0; 32];
    for (part, word) in bytes.chunks_exact_mut(8).zip(&words[1..]) {
        part.copy_from_slice(&word.to_ne_bytes());
    }
    UnboundKey::new(&AES_256_GCM, &bytes).ok().map(LessSafeKey::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn opens_its_own_tickets_for_two_periods_at_most() {
        let start = Moment(1);
        // (sealed after hours, opened after hours, opens)
        for (sealed, opened, opens) in [
            (0, 0, true),
            (0, 5, true),
            (0, 7, true),
            (5, 11, true),
            (5, 12, false),
            (0, 13, false),
            (7, 11, true),
        ] {
            let tickets = Tickets::new(start).unwrap();
            let ticket = tickets.seal(b"state", start + HOUR * sealed).unwrap();
            assert_eq!(tickets.open(&ticket, start + HOUR * opened).is_some(), opens, "{sealed} {opened}");
        }
    }

    #[test]
    fn a_key_is_gone_after_the_second_turn() {
        let start = Moment(1);
        let tickets = Tickets::new(start).unwrap();
        let ticket = tickets.seal(b"state", start).unwrap();
        assert_eq!(tickets.open(&ticket, start + HOUR * 7).unwrap(), b"state");
        assert!(tickets.open(&ticket, start + HOUR * 14).is_none());
    }

    #[test]
    fn refuses_damaged_foreign_and_short_tickets() {
        let now = Moment(1);
        let tickets = Tickets::new(now).unwrap();
        let ticket = tickets.seal(b"state", now).unwrap();
        for at in 0..ticket.len() {
            let mut damaged = ticket.clone();
            damaged[at] ^= 1;
            assert!(tickets.open(&damaged, now).is_none(), "byte {at}");
            assert!(tickets.open(&ticket[..at], now).is_none(), "prefix {at}");
        }
        assert!(Tickets::new(now).unwrap().open(&ticket, now).is_none());
        assert!(!format!("{tickets:?}").contains(char::is_numeric));
    }

    #[test]
    fn threads_agree_on_keys_while_they_turn() {
        let tickets = Tickets::new(Moment(1)).unwrap();
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let tickets = &tickets;
                scope.spawn(move || {
                    for turn in 0..400_u32 {
                        let now = Moment(1) + PERIOD * (turn / 4) + Duration::from_secs(worker);
                        let ticket = tickets.seal(b"state", now).unwrap();
                        // Another thread may be ahead by several periods; what opens is what was sealed.
                        if let Some(state) = tickets.open(&ticket, now) {
                            assert_eq!(state, b"state");
                        }
                    }
                });
            }
        });
        let now = Moment(1) + PERIOD * 1000;
        let ticket = tickets.seal(b"state", now).unwrap();
        assert_eq!(tickets.open(&ticket, now).unwrap(), b"state");
    }
}
