//! What goes wrong, and how often: one struct, derived from the seed.
//!
//! What goes in: a [`Random`]. What comes out: probabilities (per mille of the operations concerned) and ranges.
//! Swarm testing: each seed switches on a random subset, so that rare combinations meet. Always true: the faults of
//! [`Faults::harmless`] change sizes and times only; with them every exchange must still succeed.

use std::time::Duration;

use super::random::Random;

/// Probabilities (per mille) and ranges of a simulated network and kernel.
#[derive(Clone, Debug)]
pub struct Faults {
    /// A receive gives 1 to 8 bytes.
    pub tiny_reads: u32,
    /// A receive gives a random part of what is there.
    pub partial_reads: u32,
    /// A send takes a random part of what could go out.
    pub short_sends: u32,
    /// A completion comes late, by up to `late_max`.
    pub late: u32,
    /// See `late`.
    pub late_max: Duration,
    /// The ring receives the next piece before it is asked for.
    pub read_ahead: u32,
    /// The worker was held up for up to 20 ms before a turn.
    pub slow_turns: u32,
    /// A turn returns before anything happened.
    pub spurious_turns: u32,
    /// Socket buffers of each direction of a connection, in bytes.
    pub buffer_bytes: (usize, usize),
    /// Time that bytes travel.
    pub latency: (Duration, Duration),

    /// Harmful faults hit connections from clients.
    pub hurts_clients: bool,
    /// Harmful faults hit connections to servers.
    pub hurts_servers: bool,
    /// A connection is reset by the network when an operation on it completes.
    pub resets: u32,
    /// A send fails although the connection looked well.
    pub send_fails: u32,
    /// Nothing arrives any more on a connection, in either direction, and nobody is told.
    pub silences: u32,
    /// A reset is told once, as Linux does it: after a send reported it, a receive finds what had arrived and then the
    /// end of the stream, not a failure.
    pub told_once: u32,
    /// What had arrived and was not read yet is lost when a reset comes.
    pub lost_by_reset: u32,
    /// An accept fails (EMFILE).
    pub accept_fails: u32,
    /// A connection that waits in the accept queue is reset when its listener closes.
    pub lost_on_unlisten: u32,
    /// `connect` returns EMFILE.
    pub connect_no_descriptors: u32,
    /// A connect is refused.
    pub connect_refused: u32,
    /// A connect gets no answer at all.
    pub connect_silent: u32,
    /// A connect fails with EHOSTUNREACH or ETIMEDOUT.
    pub connect_unreachable: u32,
    /// A connect takes up to two seconds.
    pub connect_slow: u32,
}

impl Faults {
    /// A perfect world: everything goes out and comes in whole, after a short while.
    pub const fn none() -> Self {
        Self {
            tiny_reads: 0,
            partial_reads: 0,
            short_sends: 0,
            late: 0,
            late_max: Duration::ZERO,
            read_ahead: 0,
            slow_turns: 0,
            spurious_turns: 0,
            buffer_bytes: (256 * 1024, 256 * 1024),
            latency: (Duration::from_micros(50), Duration::from_micros(50)),
            hurts_clients: false,
            hurts_servers: false,
            resets: 0,
            send_fails: 0,
            silences: 0,
            told_once: 1000,
            lost_by_reset: 0,
            accept_fails: 0,
            lost_on_unlisten: 0,
            connect_no_descriptors: 0,
            connect_refused: 0,
            connect_silent: 0,
            connect_unreachable: 0,
            connect_slow: 0,
        }
    }

    /// Awkward sizes and times, but nothing fails and nothing is lost.
    pub fn harmless(random: &mut Random) -> Self {
        let mut some = |rates: &[u32]| if random.coin() { random.pick(rates) } else { 0 };
        let tiny_reads = some(&[5, 50, 200]);
        let partial_reads = some(&[50, 300, 900]);
        let short_sends = some(&[50, 300, 900]);
        let late = some(&[20, 200, 800]);
        let read_ahead = some(&[100, 900]);
        let slow_turns = some(&[2, 20]);
        let spurious_turns = some(&[10, 200]);
        let buffer_low = random.pick(&[2 * 1024, 8 * 1024, 64 * 1024, 256 * 1024]);
        let latency_low = random.pick(&[0, 20, 500]);
        let latency_high = latency_low + random.pick(&[0, 100, 5_000, 50_000]);
        Self {
            tiny_reads,
            partial_reads,
            short_sends,
            late,
            late_max: Duration::from_micros(random.pick(&[50, 1_000, 20_000])),
            read_ahead,
            slow_turns,
            spurious_turns,
            buffer_bytes: (buffer_low, buffer_low * random.pick(&[1, 2, 8])),
            latency: (Duration::from_micros(latency_low), Duration::from_micros(latency_high)),
            ..Self::none()
        }
    }

    /// Awkward sizes and times, and a random subset of everything that can fail.
    pub fn swarm(random: &mut Random) -> Self {
        let harmless = Self::harmless(random);
        let mut some = |rates: &[u32]| if random.below(3) == 0 { random.pick(rates) } else { 0 };
        let faults = Self {
            resets: some(&[1, 5, 30]),
            send_fails: some(&[2, 10, 50]),
            silences: some(&[1, 3, 10]),
            told_once: 1000 * some(&[0, 1]),
            lost_by_reset: some(&[200, 1000]),
            accept_fails: some(&[10, 100, 300]),
            lost_on_unlisten: some(&[200, 1000]),
            connect_no_descriptors: some(&[10, 100, 500]),
            connect_refused: some(&[10, 100, 500]),
            connect_silent: some(&[10, 100, 300]),
            connect_unreachable: some(&[10, 100, 300]),
            connect_slow: some(&[50, 500]),
            ..harmless
        };
        let victims = random.pick(&[(true, true), (true, false), (false, true), (true, true)]);
        Self { hurts_clients: victims.0, hurts_servers: victims.1, ..faults }
    }
}

/// How often harmful faults struck so far: what an oracle may blame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Injected {
    /// Connections from clients that were reset, silenced, or failed at a send.
    pub clients_hurt: u64,
    /// Connections to servers that were reset, silenced, or failed at a send.
    pub servers_hurt: u64,
    /// Connections that never got an answer any more (part of the two above).
    pub silenced: u64,
    /// Accepts that failed.
    pub accepts_failed: u64,
    /// Connections that were lost with their listener.
    pub lost_on_unlisten: u64,
    /// Connects that failed for want of descriptors.
    pub no_descriptors: u64,
    /// Connects that were refused or failed by the network.
    pub connects_failed: u64,
    /// Connects that got no answer, or a very late one.
    pub connects_slow: u64,
}

impl Injected {
    /// True when anything happened that can keep a server from answering.
    pub const fn at_servers(&self) -> bool {
        self.servers_hurt + self.no_descriptors + self.connects_failed + self.connects_slow > 0
    }
}
