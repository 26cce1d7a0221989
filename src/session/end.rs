//! How an HTTP connection ends: the answer to a failure, what is queued still leaves, lingering, the reason.
//!
//! What goes in: reasons of `close.rs`. What comes out: the last answer, operations that end the client's leg. It owns
//! nothing. Always true: every end goes through `HttpSession::{fail, end, close}` and has one reason.

use crate::close::Close;
use crate::limits::{LAST_REQUEST_TIME, LINGER_BYTES_MAX};

use super::answers::Own;
use super::http::{HttpSession, Phase};
use super::timers::{Deadlines, Timer};
use super::{Cx, Leg, Op};

impl HttpSession {
    /// The client asks nothing more: what is queued for it still leaves.
    pub(super) fn leave(&mut self, cx: &mut Cx<'_>) -> bool {
        let close = if self.head_begun { Close::ClientGone } else { Close::ClientClosed };
        if self.front.is_flushed() {
            self.end(close, cx);
            return false;
        }
        cx.counters.close(close);
        self.note_cut(close, cx);
        self.flush(false);
        true
    }

    pub(super) fn drop_exchange(&mut self, close: Close, cx: &mut Cx<'_>) {
        self.note_exchange(close, None, cx);
        if let Some(mut exchange) = self.exchange.take() {
            exchange.abandon(cx);
        }
        self.deadlines.clear(Timer::Server);
    }

    /// Every failure of a request comes here: picks the answer, marks the connection, records the reason.
    pub(super) fn fail(&mut self, close: Close, cx: &mut Cx<'_>) {
        if self.phase == Phase::Tunnel {
            // A broken side is shown to the other as broken.
            cx.counters.close(close);
            self.drop_exchange(close, cx);
            return self.leave_with(Op::Reset(Leg::Front), cx);
        }
        let started = self.exchange.as_ref().is_some_and(|exchange| exchange.started);
        let status = if started || self.front.is_deaf() { None } else { close.status() };
        let Some(status) = status else {
            let at_once = self.until_close || self.phase == Phase::Tunnel;
            if at_once || self.front.is_deaf() || self.front.is_flushed() {
                return self.end(close, cx);
            }
            // What is queued still leaves: it may be of an earlier, complete answer. The cut shows in the framing.
            cx.counters.close(close);
            self.drop_exchange(close, cx);
            return self.flush(self.owing);
        };
        self.decide(cx);
        match self.exchange {
            Some(_) => self.note_exchange(close, Some(status), cx),
            None => self.note_own(close, status, None, (0, 0), cx),
        }
        self.head_begun = false;
        self.drop_exchange(close, cx);
        let page = self.site(cx).error_pages.get(&status);
        let own = page.map_or(Own::Status(status), Own::Page);
        match self.answer(&own, cx) {
            Ok((_, bytes)) => {
                Self::note_answered(bytes, cx);
                cx.counters.close(close);
            }
            Err(()) => self.end(Close::NoMemory, cx),
        }
    }

    /// Lets what is queued leave, then ends; with `linger` what the client still sends is read and dropped for a while.
    pub(super) fn flush(&mut self, linger: bool) {
        self.phase = Phase::Flush;
        self.client_ends = !linger;
        self.deadlines.clear(Timer::Client);
        self.deadlines.clear(Timer::Progress);
        if linger {
            self.front.shut_when_flushed();
        } else {
            self.front.say_goodbye();
        }
    }

    pub(super) fn run_flush(&mut self, cx: &mut Cx<'_>) -> bool {
        self.lingered += self.front.inbox.len() as u64;
        self.front.inbox.clear(cx.pool);
        if self.front.is_deaf() || (self.client_ends && self.front.is_finished()) {
            self.close(cx);
        }
        false
    }

    pub(super) fn run_linger(&mut self, cx: &mut Cx<'_>) -> bool {
        self.lingered += self.front.inbox.len() as u64;
        self.front.inbox.clear(cx.pool);
        if self.front.is_eof() || self.lingered > LINGER_BYTES_MAX {
            self.close(cx);
        }
        false
    }

    /// Ends at once, without an answer.
    pub(super) fn end(&mut self, close: Close, cx: &mut Cx<'_>) {
        if self.phase == Phase::Closed {
            return;
        }
        cx.counters.close(close);
        self.note_cut(close, cx);
        // A broken side of a tunnel is shown to the other as broken.
        let cut = self.until_close && (self.exchange.is_some() || !self.front.is_flushed())
            || self.phase == Phase::Tunnel && close == Close::ServerTruncated;
        if let (Phase::Tunnel, Close::ClientReset, Some(exchange)) = (self.phase, close, &mut self.exchange) {
            exchange.dial.cut(cx);
        }
        self.drop_exchange(close, cx);
        self.leave_with(if cut { Op::Reset(Leg::Front) } else { Op::Close(Leg::Front) }, cx);
    }

    pub(super) fn close(&mut self, cx: &mut Cx<'_>) {
        self.leave_with(Op::Close(Leg::Front), cx);
    }

    pub(super) fn leave_with(&mut self, op: Op, cx: &mut Cx<'_>) {
        self.front.clear(cx.pool);
        self.phase = Phase::Closed;
        self.deadlines = Deadlines::default();
        cx.ops.push(op);
    }

    pub(super) fn client_lost(&mut self, cx: &mut Cx<'_>) {
        let close = match self.phase {
            Phase::Head if !self.head_begun && self.front.inbox.is_empty() => Close::ClientClosed,
            Phase::Flush | Phase::Linger => Close::Done,
            _ => Close::ClientReset,
        };
        if self.phase == Phase::Tunnel
            && let Some(exchange) = &mut self.exchange
        {
            exchange.dial.cut(cx);
        }
        self.end(close, cx);
    }

    /// The next answer is the last one. A connection that is unused waits a little: a request may be on its way, and a
    /// client cannot know whether it may send a request again that no answer came for.
    pub(super) fn on_drain(&mut self, cx: &Cx<'_>) {
        if self.phase == Phase::Head && !self.head_begun && self.front.inbox.is_empty() {
            self.deadlines.set_sooner(Timer::Client, cx.now + LAST_REQUEST_TIME);
        }
    }
}
