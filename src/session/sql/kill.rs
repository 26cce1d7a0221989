//! KILL of a client's session: by the id that it was greeted with, or by the id of its connection to the primary.
//!
//! What goes in: a KILL of a client. What comes out: the same of a connection of the other session, at the server that has
//! it. It owns nothing. Always true: the server says whether this user may kill that one; of what it says only the id is
//! replaced. A session that is killed, not only its statement, ends with the connection that was.

use std::sync::Arc;

use crate::close::Close;
use crate::cluster::{FIRST_ID, Seat, Thread};
use crate::ids::ServerId;
use crate::mysql::command::{Command, Kind};
use crate::mysql::errors::Code;
use crate::mysql::facts::Capabilities;
use crate::mysql::generic::ErrPacket;
use crate::mysql::ownid::with_id;
use crate::mysql::packet::{HEADER_BYTES, Header, put};
use crate::mysql::verdict::{Effects, Kill, Rule, Verdict, Whom};
use crate::route::split::{Pin, Place, Transaction};
use crate::session::Cx;

use super::SqlSession;
use super::back::{Fault, Side};
use super::plan::Plan;

/// What a KILL is to hit.
#[derive(Debug)]
pub(super) struct Aim {
    /// Whose it is.
    seat: Arc<Seat>,
    thread: Thread,
    /// The server that has it.
    pub(super) server: ServerId,
    /// The id that the client said.
    said: u64,
    /// A COM_QUERY says KILL; `None` for COM_PROCESS_KILL.
    kill: Option<Kill>,
    /// The seat was told.
    is_told: bool,
}

impl Drop for Aim {
    fn drop(&mut self) {
        // The server did not say that it has done it.
        if self.is_told {
            self.seat.spare();
        }
        self.seat.aim_no_more();
    }
}

impl Aim {
    /// The packet for the server. `payload` is the client's.
    pub(super) fn packet(&self, payload: &[u8], capabilities: Capabilities) -> Vec<u8> {
        let (mut out, mut sequence) = (Vec::new(), 0);
        let id = self.thread.id;
        let Some(kill) = &self.kill else {
            put(&mut out, &mut sequence, |out| {
                out.push(Kind::ProcessKill as u8);
                out.extend_from_slice(&id.to_le_bytes());
            });
            return out;
        };
        let head = match Command::parse(payload, capabilities) {
            Ok(Command::Query(query)) => payload.get(..query.text_at),
            _ => None,
        };
        let soft = if kill.soft { "SOFT " } else { "" };
        let what = if kill.query { "QUERY" } else { "CONNECTION" };
        put(&mut out, &mut sequence, |out| {
            out.extend_from_slice(head.unwrap_or(&[Kind::Query as u8]));
            out.extend_from_slice(format!("KILL {soft}{what} {id}").as_bytes());
        });
        out
    }

    /// What is to be hit is still there, as far as this server is concerned.
    pub(super) fn is_there(&self, server: ServerId) -> bool {
        self.server == server && self.seat.still_has(&self.thread)
    }

    /// It is about to be done.
    pub(super) fn begin(&mut self) {
        if self.kill.is_none_or(|kill| !kill.query) && !std::mem::replace(&mut self.is_told, true) {
            self.seat.kill();
        }
    }

    /// The server has done it.
    pub(super) const fn done(&mut self) {
        self.is_told = false;
    }

    /// The server refused it, with this packet; `out` gets the client's, with the id that it knows.
    pub(super) fn refused(&mut self, packet: &[u8], out: &mut Vec<u8>) {
        let Some((header, payload)) = packet.split_first_chunk::<HEADER_BYTES>() else { return };
        let Ok(refused) = ErrPacket::parse(payload) else { return out.extend_from_slice(packet) };
        if [Code::INTERRUPTED.number, Code::KILLED.number].contains(&refused.code) {
            // So hears who kills himself.
            self.done();
        }
        let said = self.said.to_string();
        let text = refused.message.strip_suffix(self.thread.id.to_string().as_bytes());
        let message = text.map_or(refused.message.to_vec(), |text| [text, said.as_bytes()].concat());
        let mut sequence = Header::from_bytes(*header).sequence;
        put(out, &mut sequence, |out| ErrPacket { message: &message, ..refused }.write(out));
    }
}

impl SqlSession {
    /// Decides about a statement if it is a KILL of what we know.
    pub(super) fn plan_kill(&mut self, verdict: &Verdict, text: &[u8], cx: &mut Cx<'_>) -> Option<Plan> {
        let kill = verdict.kill.filter(|_| !verdict.effects.has(Effects::MANY))?;
        let id = match kill.whom {
            Whom::Connection(id) => id,
            Whom::Other(span) if span.of(text).eq_ignore_ascii_case(b"CONNECTION_ID()") => {
                u64::from(self.seat.as_ref()?.id())
            }
            _ => return None,
        };
        self.plan_kill_of(id, Some(kill), Some(verdict), cx)
    }

    /// The same by its id.
    pub(super) fn plan_kill_of(
        &mut self,
        said: u64,
        kill: Option<Kill>,
        verdict: Option<&Verdict>,
        cx: &mut Cx<'_>,
    ) -> Option<Plan> {
        let id = u32::try_from(said).ok()?;
        let cluster = self.cluster(cx).clone();
        let primary = cluster.primary();
        let found = if id >= FIRST_ID {
            let seat = cluster.seats().find(id);
            seat.and_then(|seat| Some((seat.target()?, seat)))
        } else {
            // As the primary's own list of connections says it; what is not ours is the primary's to find.
            let thread = cluster.thread(primary?, id)?;
            Some((thread.clone(), cluster.seats().find_thread(&thread)?))
        };
        let found = found.and_then(|(thread, seat)| Some((cluster.server_of(&thread)?, thread, seat)));
        let Some((server, thread, seat)) = found else {
            return Some(Plan::Refuse(Code::NO_SUCH_THREAD, format!("Unknown thread id: {said}")));
        };
        let side = if primary == Some(server) { Side::Primary } else { Side::Replica };
        let elsewhere = self.backs[side as usize].as_ref().is_some_and(|back| back.server != server);
        if side == Side::Replica && elsewhere {
            let is_held = self.texts.pins().any(|pin| pin == Pin::Variables)
                || self.texts.transaction() == Transaction::ReadOnly(Place::Replica);
            if is_held {
                let text = "ringgate: what is to be killed runs on another replica than the one that this session is held on: \
                            say so in a session of its own";
                return Some(Plan::Refuse(Code::NOT_SUPPORTED, text.into()));
            }
            self.drop_back(side, None, cx);
        }
        seat.aim();
        let aim = Box::new(Aim { seat, thread, server, said, kill, is_told: false });
        Some(Plan::Kill(side, Rule::Kill, aim, verdict.cloned().map(Box::new)))
    }

    /// The packet of a statement; one that asks for the id of its connection is answered with what the client was greeted with.
    pub(super) fn with_own_id(&self, packet: Vec<u8>, verdict: Option<&Verdict>) -> Vec<u8> {
        let asks = verdict.is_some_and(|verdict| verdict.effects.has(Effects::CONNECTION_ID));
        let Some(seat) = self.seat.as_ref().filter(|_| asks) else { return packet };
        let payload = packet.get(HEADER_BYTES..).unwrap_or_default();
        let at = match Command::parse(payload, self.state.capabilities) {
            Ok(Command::Query(query)) => query.text_at,
            Ok(Command::StmtPrepare(_)) => 1,
            _ => return packet,
        };
        let (head, text) = payload.split_at_checked(at).unwrap_or((payload, b""));
        let Some(text) = with_id(text, self.texts.dialect(), seat.id()) else { return packet };
        let (mut out, mut sequence) = (Vec::new(), 0);
        put(&mut out, &mut sequence, |out| {
            out.extend_from_slice(head);
            out.extend_from_slice(&text);
        });
        out
    }

    /// Its seat knows the connection of this side from the moment at which it may be given commands.
    pub(super) fn sit_down(&mut self, side: Side, cx: &Cx<'_>) {
        let cluster = self.cluster(cx);
        let (Some(seat), Some(back)) = (&self.seat, &mut self.backs[side as usize]) else { return };
        if back.is_ready() && !std::mem::replace(&mut back.is_seated, true) {
            seat.has(side as usize, cluster.thread(back.server, back.thread));
        }
    }

    /// Somebody kills this session, and it has lost a connection.
    pub(super) fn is_killed(&self) -> bool {
        self.seat.as_ref().is_some_and(|seat| seat.is_killed())
    }

    /// It ends because of that; who waits for an answer hears why.
    pub(super) fn die(&mut self, cx: &mut Cx<'_>) {
        if self.job.is_none() {
            return self.leave(Close::ServerTruncated, cx);
        }
        // MySQL's servers only close; clients say this then.
        let packet = if self.state.offered.has(Capabilities::MYSQL) {
            Code::SERVER_LOST.packet(b"Lost connection to server during query")
        } else {
            Code::KILLED.packet(b"Connection was killed")
        };
        let mut payload = Vec::new();
        packet.write(&mut payload);
        self.fail(&Fault::Refused(payload), true, cx);
    }
}
