//! Times of an SQL session: who is waited for, and what follows when that is over.
//!
//! What goes in: the clock, and how far things are. What comes out: deadlines, and the end of what took too long. It owns
//! nothing. Always true: while anybody is waited for, there is a deadline for it.

use crate::close::Close;
use crate::mysql::errors::Code;
use crate::session::Cx;
use crate::session::timers::Timer;

use super::back::{Back, Fault, Side, Stage};
use super::{Phase, SqlSession};

impl SqlSession {
    /// While a server prepares, or a client is to read or to send further, its progress is looked at from time to time.
    pub(super) fn watch_progress(&mut self, cx: &Cx<'_>) {
        let is_unready = |back: &Back| !matches!(back.stage, Stage::Ready | Stage::Busy);
        if self.backs.iter().flatten().any(|back| is_unready(back)) && !self.deadlines.is_set(Timer::Server) {
            // It is asked something of our own, which takes no longer than a connect.
            let time = cx.config.pools[self.site(cx).pool.index()].times.connect;
            self.deadlines.set(Timer::Server, cx.now + time);
        }
        let Some(job) = &self.job else { return };
        let owes = self.front.pending() > 0 || job.long.is_some() || job.upload.is_some();
        if job.sent && owes && !self.deadlines.is_set(Timer::Progress) {
            self.moved_before = self.moved;
            let time = self.site(cx).times.progress;
            self.deadlines.set(Timer::Progress, cx.now + time);
        }
    }

    /// The time that was for both connections was over for the other one: that of the command goes on.
    fn watch_answer(&mut self, cx: &Cx<'_>) {
        if let Some(job) = self.job.as_ref().filter(|job| job.sent && !job.answered_at.is_set()) {
            let until = job.sent_at + self.site(cx).times.first_byte;
            self.deadlines.set(Timer::Server, until.max(cx.now));
        }
    }

    /// The server does not take what it was given.
    fn is_stuck(&self, side: Side) -> bool {
        let back = self.backs[side as usize].as_ref();
        back.is_some_and(|back| back.is_ready() && !back.conn.is_flushed())
    }

    /// The time for progress, or for a primary to be found, is over.
    fn on_progress_due(&mut self, cx: &mut Cx<'_>) {
        let sent = self.job.as_ref().is_some_and(|job| job.sent);
        match self.phase {
            Phase::Ready if sent && self.moved == self.moved_before && self.front.pending() > 0 => {
                self.end(Close::SlowReader, cx);
            }
            Phase::Ready if sent => {
                let owes = self.job.as_ref().is_some_and(|job| job.long.is_some() || job.upload.is_some());
                if owes && self.moved == self.moved_before {
                    self.end(Close::BodyTimeout, cx);
                }
            }
            // There is one; when its place comes is up to the queue.
            Phase::Entering | Phase::Ready if self.queued.is_some() => {}
            // There is still no primary.
            Phase::Entering => self.deny(&Fault::Close(Close::NoServer), cx),
            Phase::Ready => self.lost_in_command(Side::Primary, &Fault::Close(Close::NoServer), cx),
            _ => {}
        }
    }

    pub(super) fn on_tick(&mut self, cx: &mut Cx<'_>) {
        if self.deadlines.take_due(Timer::Client, cx.now) {
            match self.phase {
                Phase::Ready if self.job.is_none() => self.end(Close::IdleTimeout, cx),
                Phase::Leaving => self.close(cx),
                Phase::Ready => {}
                Phase::Handshake | Phase::Proxy => self.end(Close::TlsTimeout, cx),
                Phase::Waiting => {
                    let text = "ringgate: no server has been reached yet";
                    self.refuse(Code::TOO_MANY_CONNECTIONS, text, Close::NoServer, cx);
                }
                _ => self.end(Close::HeadTimeout, cx),
            }
        }
        if self.deadlines.take_due(Timer::Progress, cx.now) {
            self.on_progress_due(cx);
        }
        if self.deadlines.take_due(Timer::Server, cx.now) {
            let unready = |back: &&Back| !matches!(back.stage, Stage::Ready | Stage::Busy);
            // The one that the command waits for goes first.
            let own =
                self.job.as_ref().and_then(|job| self.backs[job.side as usize].as_deref()).filter(unready);
            let any = || self.backs.iter().flatten().map(|back| &**back).find(unready);
            let side = own.or_else(any).map(|back| back.side);
            match (side, &self.job) {
                (Some(side), _) => {
                    self.lost(side, Fault::Close(Close::ServerConnectTimeout), cx);
                    self.watch_answer(cx);
                }
                (None, Some(job)) if job.sent || self.is_stuck(job.side) => {
                    self.lost(job.side, Fault::Close(Close::ServerTimeout), cx);
                }
                _ => {}
            }
        }
    }
}
