//! Server connections that fail under a command of an SQL client, or between commands.
//!
//! What goes in: a connection's end, or the reason why none could be had. What comes out: the command at another server, an error
//! for the client, or the session's end. It owns nothing. Always true: what may have run is not given to a server again,
//! unless it is a read of which nothing was passed on; what only the lost connection knew is not made up.

use crate::close::Close;
use crate::counters::Count;
use crate::limits::ATTEMPTS_DEFAULT;
use crate::meters::reason;
use crate::mysql::errors::Code;
use crate::mysql::verdict::Rule;
use crate::route::split::{Pin, Place, Transaction};
use crate::session::Cx;

use super::back::{Fault, Side};
use super::{Phase, SqlSession};

impl SqlSession {
    /// A server connection failed, or could not be had, in or between commands.
    pub(super) fn lost_in_command(&mut self, side: Side, fault: &Fault, cx: &mut Cx<'_>) {
        let reads_there = self.texts.transaction() == Transaction::ReadOnly(Place::Replica);
        let variables_there = self.texts.variables() == Some(Place::Replica);
        let is_there = |pin: Pin| match pin {
            Pin::Transaction => reads_there,
            Pin::Variables => variables_there,
            _ => false,
        };
        let holds = match side {
            Side::Primary => self.texts.pins().any(|pin| !is_there(pin)) || self.needs_its_primary(),
            Side::Replica => reads_there || variables_there,
        };
        let place = if side == Side::Primary { Place::Primary } else { Place::Replica };
        self.texts.lost(place);
        self.state.lost_insert_id |= side == Side::Primary && self.state.has_insert_id;
        let Some(job) = &mut self.job else {
            // What only this connection knew is gone.
            if holds {
                self.leave(Close::SqlStateLost, cx);
            }
            return;
        };
        if job.side != side {
            self.is_doomed |= holds;
            return;
        }
        let is_broken = matches!(fault, Fault::Close(close) if !matches!(close, Close::NoServer | Close::QueueFull | Close::QueueTimeout));
        if side == Side::Primary && !job.sent && !holds && is_broken && job.moves < ATTEMPTS_DEFAULT {
            // Nothing was there, and nothing has run: another connection will do.
            job.moves += 1;
            return;
        }
        // A read that ran on the primary may have called what writes; on a replica the fence was set.
        let may_move =
            side == Side::Replica && job.aim.is_none() && (!job.sent || (job.is_read && !job.answered));
        if may_move && !(holds && side == Side::Replica) && job.long.is_none() && job.moves < ATTEMPTS_DEFAULT
        {
            job.moves += 1;
            job.sent = false;
            cx.counters.add(Count::Retries, 1);
            // Whatever is wrong with replicas, the primary is there for everything.
            (job.side, job.route) = (Side::Primary, reason(false, Rule::NoReplica));
            return;
        }
        self.fail(fault, holds, cx);
    }

    /// Tells the client that its command failed.
    pub(super) fn fail(&mut self, fault: &Fault, holds: bool, cx: &mut Cx<'_>) {
        let turn = std::mem::take(&mut self.is_turn);
        self.unqueue(turn, cx);
        let Some(job) = self.job.take() else { return };
        let close = match fault {
            Fault::Close(close) => *close,
            Fault::Refused(_) => Close::ServerRefused,
        };
        self.note(Some(&job), close, cx);
        cx.counters.close(close);
        if !job.kind.is_answered() {
            // An error would be taken for the answer of the next command.
            return self.leave(close, cx);
        }
        if job.answered {
            // The client is in the middle of a packet: nothing that it would understand can follow.
            return self.end(close, cx);
        }
        if job.long.is_some() {
            self.sequence = 1;
            return self.refuse(Code::SERVER_LOST, close.about(), close, cx);
        }
        self.sequence = 1;
        match fault {
            Fault::Refused(payload) => self.say(cx, |out| out.extend_from_slice(payload)),
            Fault::Close(_) => {
                let (code, text) = match job.sent {
                    true => (Code::SERVER_LOST, "the statement may or may not have run"),
                    false => (Code::SERVER_LOST, "the statement did not run"),
                };
                let text = format!("Lost connection to server: {}; {text}", close.about());
                self.say(cx, |out| code.packet(text.as_bytes()).write(out));
            }
        }
        if job.sent || holds {
            self.leave(if holds { Close::SqlStateLost } else { close }, cx);
        } else if self.phase == Phase::Ready {
            self.rest(cx);
        }
    }
}
