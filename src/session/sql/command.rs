//! Commands of an SQL client: which server gets one, and what follows when a server fails.
//!
//! What goes in: whole packets of the client, or the beginning of a long one. What comes out: the same packets at one
//! server. It owns nothing. Always true: what may have run is not given to a server
//! again, unless it is a read of which nothing was passed on, or a write that the fence held back.

use crate::access::Split;
use crate::clock::Moment;
use crate::close::Close;
use crate::counters::Count;
use crate::limits::{OUTBOX_BYTES_MAX, OUTBOX_PAGES_MAX, SQL_COMMAND_BYTES_MAX, SQL_DIAGNOSTICS_TIME};
use crate::meters::reason;
use crate::mysql::command::Kind;
use crate::mysql::errors::Code;
use crate::mysql::long::Scan;
use crate::mysql::packet::{Framer, HEADER_BYTES, Header, Numbers, patch};
use crate::mysql::verdict::{Effects, Rule, Target, Verdict};
use crate::route::split::{Place, Transaction};
use crate::session::Cx;
use crate::session::timers::Timer;

use super::back::{Fault, Side, Stage};
use super::job::Job;
use super::plan::{INSERT_ID_LOST, Plan};
use super::prepared::statement_of;
use super::reply::Passed;
use super::statements::Statements;
use super::{Phase, SqlSession};

impl SqlSession {
    pub(super) fn run_ready(&mut self, cx: &mut Cx<'_>) {
        while self.phase == Phase::Ready {
            let goes_on = if self.job.is_none() { self.next_command(cx) } else { self.run_job(cx) };
            if !goes_on {
                return;
            }
        }
    }

    /// Takes the next command; false when none is there.
    fn next_command(&mut self, cx: &mut Cx<'_>) -> bool {
        let is_free = !self.is_in_transaction();
        if self.is_doomed {
            self.leave(Close::SqlStateLost, cx);
            return false;
        }
        if !self.fill(HEADER_BYTES, true, cx) {
            return false;
        }
        if cx.draining && is_free && self.front.inbox.is_empty() {
            self.leave(Close::Drained, cx);
            return false;
        }
        // What we answer ourselves waits for the client as a server's answers do.
        let is_full = self.front.pending() >= cx.window() || self.front.pending_pages() >= OUTBOX_PAGES_MAX;
        if is_full && !self.front.inbox.is_empty() {
            return false;
        }
        let Some((packet, whole)) = self.peek_command(is_free, cx) else { return false };
        let is_long = whole > packet.len();
        let plan = self.plan(packet.get(HEADER_BYTES..).unwrap_or_default(), is_long, cx);
        let kind = Kind::of_byte(packet.get(HEADER_BYTES).copied().unwrap_or(0));
        match (plan, kind) {
            (Plan::At(side, why, verdict), Some(kind)) => {
                self.begin_job((kind, packet, is_long), (side, why), verdict, cx);
            }
            (Plan::Kill(side, why, aim, verdict), Some(kind)) => {
                self.begin_job((kind, packet, is_long), (side, why), verdict, cx);
                if let Some(job) = &mut self.job {
                    job.aim = Some(aim);
                }
            }
            (Plan::Leave, _) => {
                self.leave(Close::ClientClosed, cx);
                return false;
            }
            (Plan::Close(number), _) => {
                self.front.inbox.consume(whole, cx.pool);
                self.close_statement(number, cx);
            }
            (Plan::Nothing, _) if !is_long => self.front.inbox.consume(whole, cx.pool),
            (Plan::ChangeUser, _) => {
                self.front.inbox.consume(whole, cx.pool);
                self.change_user(packet.get(HEADER_BYTES..).unwrap_or_default(), cx);
                return false;
            }
            (Plan::Refuse(..) | Plan::Nothing, _) if is_long => {
                self.sequence = 1;
                self.refuse(
                    Code::PACKET_TOO_LARGE,
                    "Got a packet bigger than allowed",
                    Close::BadRequest,
                    cx,
                );
                return false;
            }
            (Plan::Refuse(code, text), _) => {
                self.front.inbox.consume(whole, cx.pool);
                self.sequence = 1;
                self.say(cx, |out| code.packet(text.as_bytes()).write(out));
            }
            (_, None) | (Plan::Nothing, _) => return false,
        }
        true
    }

    /// The next command's packet, or the beginning of a long one, and how long it is; `None` while it is not there.
    fn peek_command(&mut self, is_free: bool, cx: &mut Cx<'_>) -> Option<(Vec<u8>, usize)> {
        let Some(header) = self.front.inbox.first().map(Header::from_bytes) else {
            if self.front.is_eof() {
                let is_between = self.front.inbox.is_empty();
                self.leave(if is_between { Close::ClientClosed } else { Close::ClientGone }, cx);
            }
            return None;
        };
        if cx.behind && is_free {
            // It is told again once it has gone over to the new configuration.
            return None;
        }
        let is_counted = !self.front.is_compressed();
        if (is_counted && header.sequence != 0) || header.length == 0 {
            self.sequence = header.sequence.wrapping_add(1);
            self.refuse(Code::OUT_OF_ORDER, "Got packets out of order", Close::BadRequest, cx);
            return None;
        }
        let whole = HEADER_BYTES + header.length;
        let wanted = whole.min(SQL_COMMAND_BYTES_MAX);
        if !self.fill(wanted, true, cx) {
            return None;
        }
        if self.front.inbox.len() < wanted {
            if self.front.is_eof() {
                self.leave(Close::ClientGone, cx);
            }
            return None;
        }
        let mut packet = Vec::with_capacity(wanted);
        self.front.inbox.peek(wanted, &mut packet);
        patch(&mut packet, 0, Header { sequence: 0, ..header });
        Some((packet, whole))
    }

    fn begin_job(
        &mut self,
        (kind, packet, is_long): (Kind, Vec<u8>, bool),
        (side, why): (Side, Rule),
        verdict: Option<Box<Verdict>>,
        cx: &mut Cx<'_>,
    ) {
        self.commands += 1;
        cx.counters.add(Count::Requests, 1);
        self.deadlines.clear(Timer::Client);
        self.deadlines.clear(Timer::Server);
        let bytes_in = packet.len() as u64;
        if !is_long {
            self.front.inbox.consume(packet.len(), cx.pool);
        }
        let is_read = verdict.as_ref().is_some_and(|verdict| verdict.target == Target::Replica);
        if verdict.as_ref().is_some_and(|verdict| verdict.rule != Rule::Diagnostics) {
            self.diagnostics_until = None;
        }
        let packet = self.with_own_id(packet, verdict.as_deref());
        let payload = packet.get(HEADER_BYTES..).unwrap_or_default();
        let statement = statement_of(kind, payload);
        self.job = Some(Box::new(Job {
            kind,
            packet: if is_long { Vec::new() } else { packet },
            long: is_long.then(Framer::new),
            side,
            sent: false,
            answered: false,
            failed: false,
            warned: false,
            is_understood: true,
            dialect: self.texts.dialect(),
            is_read: is_read && self.texts.transaction() == Transaction::None,
            route: reason(side == Side::Replica, why),
            verdict,
            upload: None,
            statement,
            scan: (is_long && matches!(kind, Kind::Query | Kind::StmtPrepare)).then(Scan::new),
            aim: None,
            numbers: self.front.is_compressed().then(|| Numbers::new(0)),
            moves: 0,
            split: Split { pins: self.texts.pin_bits(), ..Split::default() },
            begun: cx.now,
            sent_at: Moment::NEVER,
            answered_at: Moment::NEVER,
            bytes_in,
            bytes_out: 0,
        }));
    }

    /// Goes on with the command; false when something must happen first.
    fn run_job(&mut self, cx: &mut Cx<'_>) -> bool {
        let Some(job) = &self.job else { return true };
        let side = job.side;
        if self.front.is_eof() && !job.answered && job.upload.is_none() && job.long.is_none() && job.sent {
            // Nobody waits for the answer any more, and what runs is the server's to finish or to roll back.
            self.end(Close::ClientGone, cx);
            return false;
        }
        if !job.sent && !self.send(side, cx) {
            return false;
        }
        if self.job.as_ref().is_some_and(|job| !job.sent) {
            // It goes to the other side.
            return true;
        }
        let forwarded = self.forward(cx);
        if self.phase != Phase::Ready {
            return false;
        }
        match self.pass_on(cx) {
            Ok(Passed::Part) => false,
            Ok(Passed::All) if !forwarded => {
                // It answered before it had heard everything, and will take no more: the packet is too long for it.
                self.leave(Close::ServerClosedEarly, cx);
                false
            }
            Ok(Passed::All) => {
                self.finish(cx);
                true
            }
            Ok(Passed::Fenced) => {
                self.move_to_primary(cx);
                true
            }
            Err(Fault::Close(Close::NoMemory)) => {
                self.end(Close::NoMemory, cx);
                false
            }
            Err(fault) => {
                self.lost(side, fault, cx);
                true
            }
        }
    }

    /// Leaves a primary that is none any more, if the session has nothing there; false when it has, which is its end.
    fn follow_primary(&mut self, cx: &mut Cx<'_>) -> bool {
        if self.is_doomed {
            // What the command needs was lost while it was on its way to a replica.
            self.fail(&Fault::Close(Close::ServerTruncated), true, cx);
            return false;
        }
        let primary = self.cluster(cx).primary();
        let own = self.backs[Side::Primary as usize].as_ref().map(|back| back.server);
        if own.is_none() || primary.is_none() || own == primary {
            return true;
        }
        if self.texts.transaction() != Transaction::None {
            // Its server will say what becomes of it.
            return true;
        }
        if self.texts.pins().next().is_some() || self.needs_its_primary() {
            if self.job.take().is_some_and(|job| !job.kind.is_answered()) {
                // An error would be taken for the answer of the next command.
                self.leave(Close::ServerTruncated, cx);
                return false;
            }
            self.sequence = 1;
            let text =
                "ringgate: another server is the primary now, and this session has something on the old one";
            self.refuse(Code::KILLED, text, Close::SqlStateLost, cx);
            return false;
        }
        self.drop_back(Side::Primary, None, cx);
        self.state.lost_insert_id |= self.state.has_insert_id;
        true
    }

    /// It has something at its primary that another connection would not have: statements, settings that are not brought
    /// along.
    pub(super) fn needs_its_primary(&self) -> bool {
        let settings = !self.texts.is_autocommit() || self.texts.begins_read_only() || self.is_spoilt;
        self.statements.are_held() || settings || self.state.is_beyond || self.state.is_personal
    }

    /// Hands the command to its server, once that is ready; false when it is not.
    fn send(&mut self, side: Side, cx: &mut Cx<'_>) -> bool {
        if side == Side::Primary && !self.follow_primary(cx) {
            return false;
        }
        match self.prepare(side, cx) {
            Ok(true) => {}
            Ok(false) => return false,
            Err(fault) => {
                self.lost_in_command(side, &fault, cx);
                return self.phase == Phase::Ready;
            }
        }
        if side == Side::Primary {
            if self.is_insert_id_lost() {
                let mut payload = Vec::new();
                Code::SERVER_LOST.packet(INSERT_ID_LOST.as_bytes()).write(&mut payload);
                self.fail_job(&payload, cx);
                return self.phase == Phase::Ready;
            }
            match self.knows_insert_id(cx) {
                Ok(true) => {}
                Ok(false) => return false,
                Err(fault) => {
                    self.lost(side, fault, cx);
                    return self.phase == Phase::Ready;
                }
            }
        }
        if self.backs[side as usize].as_ref().is_some_and(|back| back.conn.pending() >= OUTBOX_BYTES_MAX) {
            // Pieces of parameters, which are not answered, wait for the server.
            let time = self.site(cx).times.first_byte;
            self.deadlines.set_once(Timer::Server, cx.now + time);
            return false;
        }
        let sees = self.sees_enough(side, cx);
        let translated = match sees.and_then(|sees| if sees { self.translate(side, cx) } else { Ok(None) }) {
            Ok(Some(packet)) => packet,
            Ok(None) => return self.job.as_ref().is_some_and(|job| job.side != side),
            Err(Fault::Refused(payload)) => {
                self.fail_job(&payload, cx);
                return self.phase == Phase::Ready;
            }
            Err(fault) => {
                self.lost(side, fault, cx);
                return self.phase == Phase::Ready;
            }
        };
        let (Some(job), Some(back)) = (&mut self.job, &mut self.backs[side as usize]) else { return false };
        let packet = if translated.is_empty() { &job.packet } else { &translated };
        if !back.conn.outbox.append(packet, cx.pool) {
            cx.starved = true;
            return false;
        }
        back.reply.begin(job.kind);
        back.stage = Stage::Busy;
        (job.sent, job.sent_at) = (true, cx.now);
        self.seat.iter().for_each(|seat| seat.is_busy_at(Some(side as usize)));
        self.deadlines.clear(Timer::Progress);
        if job.long.is_some() {
            // Its own progress is looked at until it is there.
            self.deadlines.clear(Timer::Server);
        } else {
            let time = self.site(cx).times.first_byte;
            self.deadlines.set(Timer::Server, cx.now + time);
        }
        true
    }

    /// The command comes to nothing; the server's connection is as it was, and with it the client's transaction.
    fn fail_job(&mut self, payload: &[u8], cx: &mut Cx<'_>) {
        let Some(job) = &mut self.job else { return };
        if job.long.is_some() || !job.kind.is_answered() {
            // What of it has not come yet would be taken for commands; an error for the answer of the next one.
            return self.fail(&Fault::Refused(payload.to_vec()), false, cx);
        }
        job.failed = true;
        self.sequence = 1;
        self.say(cx, |out| out.extend_from_slice(payload));
        self.finish(cx);
    }

    /// The packet as this server is to get it; empty for as it is. `None`: something must happen first.
    fn translate(&mut self, side: Side, cx: &mut Cx<'_>) -> Result<Option<Vec<u8>>, Fault> {
        let (Some(job), Some(back)) = (&mut self.job, &mut self.backs[side as usize]) else {
            return Ok(None);
        };
        if let Some(aim) = &mut job.aim {
            if !aim.is_there(back.server) {
                let mut payload = Vec::new();
                Code::NO_SUCH_THREAD.packet(b"Unknown thread id").write(&mut payload);
                return Err(Fault::Refused(payload));
            }
            aim.begin();
            let payload = job.packet.get(HEADER_BYTES..).unwrap_or_default();
            return Ok(Some(aim.packet(payload, self.state.capabilities)));
        }
        if job.statement.is_some() {
            let Some(there) = self.number_there(side, cx)? else { return Ok(None) };
            self.put_number(there, cx);
        }
        if let (Some(packet), Some(job)) = (self.with_types(side), &mut self.job) {
            job.packet = packet;
        }
        Ok(Some(Vec::new()))
    }

    /// The packet that executes a prepared statement, with types that were told elsewhere. `None`: as it is.
    fn with_types(&mut self, side: Side) -> Option<Vec<u8>> {
        let job = self.job.as_ref().filter(|job| job.long.is_none())?;
        let number = job.statement?;
        let statement = self.statements.get_mut(number)?;
        match job.kind {
            Kind::StmtBulkExecute => statement.bulk_packet_for(&job.packet),
            Kind::StmtExecute => {
                statement.has_pieces = false;
                let packet = statement.packet_for(side, &job.packet, self.state.capabilities);
                self.statements.note_use(number);
                packet
            }
            _ => None,
        }
    }

    /// The answer is complete.
    fn finish(&mut self, cx: &mut Cx<'_>) {
        let Some(job) = self.job.take() else { return };
        self.seat.iter().for_each(|seat| seat.is_busy_at(None));
        // What the other side said last says nothing of this one.
        let mut status = self.status;
        let mut unasked = false;
        if let Some(back) = &mut self.backs[job.side as usize] {
            back.stage = Stage::Ready;
            status = back.status;
            unasked = back.conn.is_eof() || !back.conn.inbox.is_empty();
            let asks = job.verdict.as_ref().is_some_and(|verdict| verdict.rule == Rule::Diagnostics);
            if !asks {
                self.last_leg = Some(back.leg);
                let warns = job.failed || job.warned;
                // Others would be shown its messages.
                back.is_dirty |= warns;
                self.diagnostics_until = warns.then(|| cx.now + SQL_DIAGNOSTICS_TIME);
            }
        }
        let place = if job.side == Side::Primary { Place::Primary } else { Place::Replica };
        match &job.verdict {
            Some(verdict) if job.kind != Kind::StmtPrepare => {
                // Only when it had passed was it seen that it sets what is elsewhere: no server knows both.
                self.is_doomed |= verdict.rule == Rule::Long
                    && verdict.effects.has(Effects::WRITES_VARIABLES)
                    && self.texts.variables().is_some_and(|there| there != place);
                self.texts.after(verdict, place, !job.failed, Some(status.0));
                self.note_effects(verdict.effects, verdict.rule, &job);
            }
            _ => self.texts.told_status(place, status.0),
        }
        if !job.failed {
            self.after(&job, cx);
        }
        self.note(Some(&job), Close::Done, cx);
        self.rest(cx);
        if unasked || std::mem::take(&mut self.is_unfenced) {
            // It says that it ends, or it is a replica that would take writes now.
            self.lost(job.side, Fault::Close(Close::ServerTruncated), cx);
        }
    }

    /// What a statement did that no tracker tells.
    fn note_effects(&mut self, effects: Effects, rule: Rule, job: &Job) {
        let changes = Effects::WRITES_INSERT_ID | Effects::CALLS | Effects::OPAQUE | Effects::MANY;
        if let Some(back) = &mut self.backs[job.side as usize] {
            back.may_have_id |= effects.has(changes);
            back.is_dirty |= effects.has(Effects::CALLS_UNKNOWN);
        }
        // Of several statements those before the one that failed have run.
        if job.failed && !effects.has(Effects::MANY) {
            return;
        }
        if effects.has(Effects::WRITES_INSERT_ID) && rule != Rule::Long {
            // The answer to LAST_INSERT_ID(n) does not tell it. Of a long text nobody knows whether it has one.
            self.told_insert_id();
        }
        // Roles are brought nowhere; a text of many may hold one.
        let inner = job.verdict.as_ref().and_then(|verdict| verdict.inner);
        let role = effects.has(Effects::SETS_ROLE)
            || inner
                .is_some_and(|inner| inner.effects.has(Effects::SETS_ROLE) || inner.rule == Rule::SetRole);
        // A reset leaves a role as it is.
        self.is_spoilt |= role || rule == Rule::SetRole;
        self.state.is_beyond |= role || rule == Rule::SetRole;
        // What was set beside the trackers may not have been told.
        self.state.is_personal |= effects.has(Effects::SETS_TRACKERS);
        self.state.trackers_changed |= effects.has(Effects::SETS_TRACKERS);
        self.state.is_blind |= effects.has(Effects::SETS_TRACKERS) && effects.has(Effects::MANY);
    }

    /// What a command that worked leaves behind.
    fn after(&mut self, job: &Job, cx: &mut Cx<'_>) {
        match job.kind {
            Kind::ResetConnection => {
                self.state.reset();
                if let Some(back) = &mut self.backs[Side::Primary as usize] {
                    (back.is_dirty, back.insert_id, back.may_have_id) = (true, 0, false);
                    back.cache.clear();
                }
                self.statements = Statements::default();
                self.begin_texts();
                self.drop_back(Side::Replica, None, cx);
            }
            Kind::SetOption => self.is_spoilt = true,
            Kind::StmtReset => {
                let statement = job.statement.and_then(|number| self.statements.get_mut(number));
                if let Some(statement) = statement {
                    (statement.has_pieces, statement.has_cursor) = (false, false);
                }
            }
            _ => {}
        }
    }

    fn move_to_primary(&mut self, cx: &mut Cx<'_>) {
        let Some(job) = &mut self.job else { return };
        if let Some(back) = &mut self.backs[job.side as usize] {
            // What ran until the fence held it back may have left something.
            (back.stage, back.is_dirty) = (Stage::Ready, true);
        }
        (job.side, job.answered_at) = (Side::Primary, Moment::NEVER);
        job.sent = false;
        job.is_read = false;
        job.moves += 1;
        job.split.fenced = true;
        job.route = reason(false, Rule::Fenced);
        let digest = job.verdict.as_ref().map(|verdict| verdict.digest);
        cx.counters.add(Count::Retries, 1);
        if let Some(digest) = digest {
            self.cluster(cx).writes(digest);
        }
    }
}
