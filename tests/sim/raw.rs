//! A client of a TCP relay: its bytes must come back through the echoing server behind it.

use std::net::SocketAddr;
use std::time::Duration;

use ringgate::net::Address;
use ringgate::ring::sim::{Actor, ActorIo, ConnId, Happening, Pace};

use crate::ledger::Shared;
use crate::pattern::{self, Use};
use crate::proxy;

/// What such a client does.
#[derive(Clone, Debug)]
pub struct RawScript {
    pub to: Address,
    pub from: SocketAddr,
    pub proxied: Option<(SocketAddr, bool)>,
    pub len: usize,
    /// Ends its stream before everything is back.
    pub ends_first: bool,
    pub reads: Pace,
    pub writes: Pace,
    /// Resets in the middle.
    pub breaks_off: bool,
}

/// A client of a TCP relay.
pub struct Raw {
    id: u64,
    script: RawScript,
    ledger: Shared,
    got: usize,
    shut: bool,
    over: bool,
}

impl Raw {
    pub fn new(number: usize, script: RawScript, ledger: Shared) -> Self {
        Self { id: 1_000_000 + number as u64, script, ledger, got: 0, shut: false, over: false }
    }

    fn fail(&self, what: &str) {
        self.ledger.borrow_mut().fail(format!("raw client {}: {what}", self.id));
    }

    fn data(&mut self, conn: ConnId, bytes: &[u8], io: &mut ActorIo<'_>) {
        if !pattern::matches(self.id, Use::Tunnel, self.got, bytes) {
            self.fail(&format!("wrong bytes at {}", self.got));
        }
        self.got += bytes.len();
        if self.got > self.script.len {
            self.fail("more came back than was sent");
        }
        if self.script.breaks_off && self.got > self.script.len / 2 {
            self.over = true;
            io.reset(conn);
            io.finish();
        } else if self.got == self.script.len && !self.shut {
            self.shut = true;
            io.shut(conn);
        }
    }

    fn ended(&mut self, conn: ConnId, orderly: bool, io: &mut ActorIo<'_>) {
        self.over = true;
        let whole = self.got == self.script.len && orderly;
        let ledger = self.ledger.borrow();
        let (tight, draining) = (ledger.tight, ledger.draining);
        let restarts = ledger.restarts > 0;
        let cut_off = !ledger.calm && (ledger.unlistened.contains(&self.script.to) || ledger.uprooted[2]);
        let changed = cut_off || ledger.starved[2];
        drop(ledger);
        let excused = io.hurt(conn)
            || io.injected().at_servers()
            || draining
            || changed
            || restarts
            || tight.memory
            || tight.times
            || tight.connections
            || tight.queue;
        if !whole && !excused {
            self.fail(&format!("{} of {} bytes came back (orderly {orderly})", self.got, self.script.len));
        }
        io.close(conn);
        io.finish();
    }
}

impl Actor for Raw {
    fn on(&mut self, io: &mut ActorIo<'_>, what: Happening<'_>) {
        match what {
            Happening::Start => {
                let conn = io.connect(&self.script.to, Some(self.script.from));
                io.pace(conn, self.script.reads, self.script.writes);
                io.timer(Duration::from_secs(5000), 1);
            }
            _ if self.over => {}
            Happening::Connected(conn) => {
                if let Some((source, v2)) = self.script.proxied {
                    io.send(conn, &proxy::write(source, v2));
                }
                io.send(conn, &pattern::bytes(self.id, Use::Tunnel, 0, self.script.len));
                if self.script.ends_first || self.script.len == 0 {
                    self.shut = true;
                    io.shut(conn);
                }
            }
            Happening::Data(conn, bytes) => self.data(conn, bytes, io),
            Happening::Eof(conn) => self.ended(conn, true, io),
            Happening::Reset(conn, _) => self.ended(conn, false, io),
            Happening::Refused(..) => {
                let ledger = self.ledger.borrow();
                let excused = ledger.draining || ledger.unlistened.contains(&self.script.to);
                drop(ledger);
                if !excused {
                    self.fail("the connection was refused");
                }
                self.over = true;
                io.finish();
            }
            Happening::Timer(_) => {
                if io.injected().silenced == 0 {
                    self.fail(&format!("stuck with {} of {} bytes", self.got, self.script.len));
                }
                self.over = true;
                io.finish();
            }
            Happening::Accepted { .. } | Happening::Flushed(_) => {}
        }
    }
}
