//! What is counted: one array per worker, written by its owner, summed on demand.
//!
//! What goes in: `add` from the owning worker. What comes out: `get`, from any thread. Always true: a counter only
//! grows, except those that [`Count::is_gauge`] names.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::close::Close;

macro_rules! counts {
    ($($name:ident, $word:literal, $gauge:literal, $about:literal;)*) => {
        /// A counter of a worker.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Count { $(#[doc = $about] $name,)* }

        impl Count {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Count] = &[$(Count::$name,)*];

            /// The word for metrics.
            pub const fn word(self) -> &'static str { match self { $(Count::$name => $word,)* } }

            /// One sentence for people.
            pub const fn about(self) -> &'static str { match self { $(Count::$name => $about,)* } }

            /// True when the value can go down.
            pub const fn is_gauge(self) -> bool { match self { $(Count::$name => $gauge,)* } }
        }
    };
}

counts! {
    Accepted,         "connections_accepted_total",      false, "client connections accepted";
    Open,             "connections_open",                true,  "client connections open now";
    AcceptPaused,     "accept_paused_total",             false, "times that accepting stopped because connections_max or the file limit was reached";
    AcceptFailed,     "accept_failed_total",             false, "accepts that the kernel failed";
    Requests,         "requests_total",                  false, "requests whose head was understood";
    Answers1xx,       "answers_1xx_total",               false, "interim answers relayed";
    Answers2xx,       "answers_2xx_total",               false, "answers with a 2xx status";
    Answers3xx,       "answers_3xx_total",               false, "answers with a 3xx status";
    Answers4xx,       "answers_4xx_total",               false, "answers with a 4xx status";
    Answers5xx,       "answers_5xx_total",               false, "answers with a 5xx status";
    Upgrades,         "upgrades_total",                  false, "connections that became tunnels";
    TlsHandshakes,    "tls_handshakes_total",            false, "TLS handshakes completed with clients";
    TlsHandshakes12,  "tls12_handshakes_total",          false, "TLS handshakes completed with clients, of version 1.2";
    TlsResumed,       "tls_resumed_total",               false, "TLS handshakes with clients that resumed a session";
    ServerConnects,   "server_connects_total",           false, "connections opened to servers";
    ServerReused,     "server_reused_total",             false, "requests sent on a server connection that was kept";
    ServerStale,      "server_stale_total",              false, "kept server connections that turned out to be closed when used";
    ServerEjected,    "server_ejected_total",            false, "times that a server was left alone for a while";
    Retries,          "retries_total",                   false, "requests sent again to the same or another server";
    RetriesRefused,   "retries_refused_total",           false, "retries that the budget did not allow";
    Queued,           "queued_total",                    false, "requests that waited for a place at a server";
    PagesStarved,     "pages_starved_total",             false, "times that work waited because all pages of memory_max were in use";
    ReceiveStarved,   "receive_starved_total",           false, "receives that found no page (ENOBUFS) and waited";
    BytesIn,          "client_bytes_received_total",     false, "bytes received from clients, TLS included";
    BytesOut,         "client_bytes_sent_total",         false, "bytes sent to clients, TLS included";
    LogDropped,       "log_dropped_total",               false, "lines of the access log that were dropped because its destination was too slow or failed";
    Turns,            "turns_total",                     false, "turns of the worker's loop";
    Pages,            "pages",                           true,  "pages made so far";
    PagesFree,        "pages_free",                      true,  "pages that nobody uses";
    PagesLent,        "pages_lent",                      true,  "pages that the kernel may write to";
}

/// The counters of one worker.
#[derive(Debug)]
#[repr(align(128))]
pub struct Counters {
    counts: [AtomicU64; Count::ALL.len()],
    closes: [AtomicU64; Close::COUNT],
}

impl Default for Counters {
    fn default() -> Self {
        Self { counts: [const { AtomicU64::new(0) }; _], closes: [const { AtomicU64::new(0) }; _] }
    }
}

/// Only the owning worker writes, so a load and a store are enough and no bus lock is taken.
fn bump(cell: &AtomicU64, by: u64) {
    cell.store(cell.load(Relaxed).wrapping_add(by), Relaxed);
}

impl Counters {
    /// Counts `by` more. To be called by the owning worker only.
    pub fn add(&self, count: Count, by: u64) {
        bump(&self.counts[count as usize], by);
    }

    /// Counts `by` less of a gauge. To be called by the owning worker only.
    pub fn sub(&self, count: Count, by: u64) {
        debug_assert!(count.is_gauge());
        bump(&self.counts[count as usize], by.wrapping_neg());
    }

    /// Sets a gauge. To be called by the owning worker only.
    pub fn set(&self, count: Count, value: u64) {
        debug_assert!(count.is_gauge());
        self.counts[count as usize].store(value, Relaxed);
    }

    /// Counts an end. To be called by the owning worker only.
    pub fn close(&self, close: Close) {
        bump(&self.closes[close.index()], 1);
    }

    /// The value of a counter.
    pub fn get(&self, count: Count) -> u64 {
        self.counts[count as usize].load(Relaxed)
    }

    /// How often sessions or exchanges ended this way.
    pub fn closed(&self, close: Close) -> u64 {
        self.closes[close.index()].load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_goes_down() {
        let counters = Counters::default();
        counters.add(Count::Open, 2);
        counters.sub(Count::Open, 1);
        counters.close(Close::Bug);
        assert_eq!((counters.get(Count::Open), counters.closed(Close::Bug)), (1, 1));
    }
}
