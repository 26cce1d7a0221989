//! What comes too late: the deadlines of a client's connection.
//!
//! What goes in: a tick. What comes out: an answer that says so, or the end of the connection. It owns nothing. Always
//! true: in every phase but a tunnel, a client that owes bytes or has bytes to read is watched; nobody is judged for the
//! time before it owed something.

use crate::close::Close;
use crate::http::message::Method;
use crate::limits::PROGRESS_BYTES_MIN;

use super::Cx;
use super::exchange::Exchange;
use super::http::{HttpSession, Phase};
use super::timers::Timer;

impl HttpSession {
    /// A deadline may have passed.
    pub(super) fn on_tick(&mut self, cx: &mut Cx<'_>) {
        // First: an answer that another deadline brings about has all its time to be read.
        if self.deadlines.take_due(Timer::Progress, cx.now) {
            self.judge_progress(cx);
        }
        if self.deadlines.take_due(Timer::Client, cx.now) {
            match self.phase {
                Phase::Proxy | Phase::Handshake => self.end(Close::TlsTimeout, cx),
                Phase::Head if self.head_begun || (self.requests == 0 && !self.front.inbox.is_empty()) => {
                    // The rest of the head may still come: it must not be taken for a request.
                    (self.owing, self.method) = (true, Method::Get);
                    self.fail(Close::HeadTimeout, cx);
                }
                // It is not unused while its last answer leaves.
                Phase::Head if !self.front.is_flushed() => {
                    self.deadlines.set(Timer::Client, cx.now + self.idle_time(cx));
                }
                Phase::Head if cx.draining => {
                    cx.counters.close(Close::Drained);
                    self.flush(false);
                }
                Phase::Head => self.end(Close::IdleTimeout, cx),
                Phase::Tunnel => self.end(Close::TunnelTimeout, cx),
                Phase::Linger => self.close(cx),
                Phase::Exchange | Phase::Flush | Phase::Closed => {}
            }
        }
        if self.deadlines.take_due(Timer::Server, cx.now) {
            self.with_exchange(cx, Exchange::on_server_late);
        }
    }

    /// Watches the client's progress while it owes a body or has an answer to read.
    pub(super) fn watch_progress(&mut self, cx: &Cx<'_>) {
        let owing = self.exchange.as_ref().is_some_and(|exchange| !exchange.body.is_done());
        if (!owing && self.front.is_flushed()) || matches!(self.phase, Phase::Tunnel | Phase::Closed) {
            self.deadlines.clear(Timer::Progress);
        } else if !self.deadlines.is_set(Timer::Progress) {
            self.judged = self.moved;
            self.deadlines.set(Timer::Progress, cx.now + self.site(cx).times.progress);
        }
    }

    /// A client must move some bytes within each span while it owes a body or has an answer to read.
    fn judge_progress(&mut self, cx: &mut Cx<'_>) {
        let progressed = self.moved - self.judged >= PROGRESS_BYTES_MIN;
        let owes_body = self.exchange.as_ref().is_some_and(|exchange| exchange.waits_for_client(&self.front));
        let owes_reading = !self.front.is_flushed();
        if progressed || !(owes_body || owes_reading) {
            return;
        }
        if owes_reading {
            self.end(Close::SlowReader, cx);
        } else {
            self.fail(Close::BodyTimeout, cx);
        }
    }
}
