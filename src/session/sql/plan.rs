//! Which server a command of an SQL client is for.
//!
//! What goes in: a command, the session's state, what is known of the servers. What comes out: a side and the reason, or an
//! error for the client. It owns nothing. Always true: what is not understood is for the primary; a read is given to a
//! replica only if that has what the read must see, or says so within a short wait.

use arrayvec::ArrayVec;

use crate::access::Wait;
use crate::cluster::{Gtid, Member};
use crate::config::model::{self, Consistency, Pooling};
use crate::ids::ServerId;
use crate::limits::{SQL_GTID_SOURCES_MAX, SQL_NO_WAIT_TIME, SQL_WAIT_THERE_TIME, SQL_WAIT_TIME};
use crate::meters::reason;
use crate::mysql::classify::classify;
use crate::mysql::command::{Command, Kind, Query};
use crate::mysql::errors::{Code, read_only_transaction};
use crate::mysql::long;
use crate::mysql::verdict::{Effects, Rule, Target, Verdict};
use crate::route::split::{Pin, Place, Reads, Transaction, decide};
use crate::session::Cx;

use super::SqlSession;
use super::back::{Fault, Side};
use super::job::Job;
use super::kill::Aim;
use super::pooling::takes_reads;

/// What is said when user variables are on a replica that does not have what the session wrote since.
const NOT_SEEN_THERE: &str =
    "ringgate: the replica that has this session's user variables has not seen its last write yet; try again";
/// What is said to who asks for an insert id that nobody knows any more.
pub(super) const INSERT_ID_LOST: &str = "ringgate: the connection that knew the last insert id is gone";

/// Which side a command is for.
pub(super) enum Plan {
    /// It is to be done there.
    At(Side, Rule, Option<Box<Verdict>>),
    /// The same of a KILL.
    Kill(Side, Rule, Box<Aim>, Option<Box<Verdict>>),
    /// The client closes a prepared statement.
    Close(u32),
    /// It is of no consequence.
    Nothing,
    /// It is answered by an error of ours.
    Refuse(Code, String),
    /// Somebody else logs in on this connection.
    ChangeUser,
    /// The client leaves.
    Leave,
}

impl SqlSession {
    /// Decides about a command. Of a long one only the beginning is there.
    pub(super) fn plan(&mut self, payload: &[u8], is_long: bool, cx: &mut Cx<'_>) -> Plan {
        let command = match Command::parse(payload, self.state.capabilities) {
            Ok(command) => command,
            Err(_) if payload.first().is_some_and(|byte| Kind::of_byte(*byte).is_none()) => {
                return Plan::Refuse(Code::UNKNOWN_COMMAND, "Unknown command".into());
            }
            Err(_) => return Plan::Refuse(Code::MALFORMED, "Malformed communication packet".into()),
        };
        if let Some(plan) = self.plan_without_server(&command, payload) {
            return plan;
        }
        match command {
            Command::Quit => Plan::Leave,
            Command::Query(query) if !is_long => {
                let verdict = classify(query.text, self.texts.dialect());
                match self.plan_kill(&verdict, query.text, cx) {
                    Some(plan) => plan,
                    None => self.plan_verdict(verdict, cx),
                }
            }
            Command::StmtPrepare(text) if !is_long => {
                let verdict = classify(text, self.texts.dialect());
                Plan::At(Side::Primary, Rule::Prepare, Some(Box::new(verdict)))
            }
            Command::StmtExecute(number) if !is_long => self.plan_execute(number, payload, cx),
            Command::StmtSendLongData { statement, .. } => {
                if let Some(known) = self.statements.get_mut(statement) {
                    known.has_pieces = true;
                    self.statements.note_use(statement);
                }
                Plan::At(Side::Primary, Rule::Command, None)
            }
            Command::ProcessKill(id) => {
                let plan = self.plan_kill_of(id.into(), None, None, cx);
                plan.unwrap_or(Plan::At(Side::Primary, Rule::Command, None))
            }
            Command::ChangeUser if !is_long => Plan::ChangeUser,
            Command::ChangeUser => Plan::Refuse(Code::MALFORMED, "Malformed communication packet".into()),
            Command::Refused(kind) => {
                Plan::Refuse(Code::UNKNOWN_COMMAND, format!("{} is not spoken by ringgate", kind.name()))
            }
            Command::Query(Query { text, .. }) | Command::StmtPrepare(text) => {
                // A read only transaction on a replica is there, whatever runs within it.
                let in_own = self.is_reading_there() && matches!(command, Command::Query(_));
                let side = if in_own { Side::Replica } else { Side::Primary };
                let verdict = long::verdict(text, self.texts.dialect());
                Plan::At(side, Rule::Long, Some(Box::new(verdict)))
            }
            Command::StmtExecute(number) => self.plan_long_execute(number, payload),
            Command::StmtBulkExecute(number) => self.plan_unread(number, Rule::Prepare),
            _ => Plan::At(Side::Primary, Rule::Command, None),
        }
    }

    /// A prepared statement is executed by a packet that is passed on as it is.
    fn plan_long_execute(&mut self, number: u32, beginning: &[u8]) -> Plan {
        let capabilities = self.state.capabilities;
        // A transaction stays where it began.
        let side = if self.is_reading_there() { Side::Replica } else { Side::Primary };
        let there = self.backs[side as usize].as_ref().map(|back| back.leg);
        let is_there = there.is_some_and(|leg| self.statements.number_at(number, side, leg).is_some());
        match self.statements.get_mut(number) {
            None if side == Side::Replica => {
                let text =
                    "ringgate: this statement can only be executed outside of the read only transaction";
                Plan::Refuse(Code::NOT_SUPPORTED, text.into())
            }
            None => self.plan_unread(number, Rule::Long),
            Some(statement) => {
                let verdict = statement.verdict.clone();
                let uses_variables =
                    verdict.effects.has(Effects::READS_VARIABLES | Effects::WRITES_VARIABLES);
                if side == Side::Primary && uses_variables && self.texts.variables() == Some(Place::Replica) {
                    return refused(Rule::VariablesElsewhere);
                }
                let is_executed = statement.is_executed_by(beginning, capabilities, (side, is_there));
                self.statements.note_use(number);
                if is_executed {
                    return Plan::At(side, Rule::Long, Some(Box::new(verdict)));
                }
                let text = "ringgate: the types of this statement's parameters are not known on its connection; bind them again";
                Plan::Refuse(Code::NOT_SUPPORTED, text.into())
            }
        }
    }

    /// A prepared statement that only the primary is given.
    fn plan_unread(&mut self, number: u32, why: Rule) -> Plan {
        let known = self.statements.get(number).map(|statement| statement.verdict.clone());
        let is_known = known.is_some();
        let verdict = known.unwrap_or_else(|| long::of(self.statements.unseen(), self.texts.dialect()));
        let uses_variables = verdict.effects.has(Effects::READS_VARIABLES | Effects::WRITES_VARIABLES);
        if uses_variables && self.texts.variables() == Some(Place::Replica) {
            return refused(Rule::VariablesElsewhere);
        }
        if is_known && self.is_reading_there() && verdict.target != Target::Replica {
            let text = String::from_utf8_lossy(read_only_transaction(self.dialect.vendor));
            return Plan::Refuse(Code::READ_ONLY_TRANSACTION, text.into());
        }
        Plan::At(Side::Primary, why, Some(Box::new(verdict)))
    }

    /// A read only transaction is open on the replica.
    fn is_reading_there(&self) -> bool {
        self.texts.transaction() == Transaction::ReadOnly(Place::Replica)
    }

    fn plan_execute(&mut self, number: u32, payload: &[u8], cx: &mut Cx<'_>) -> Plan {
        let capabilities = self.state.capabilities;
        let Some(statement) = self.statements.get_mut(number) else {
            return self.plan_unread(number, Rule::Unknown);
        };
        // Even if this comes to nothing: they are not told again.
        let may_leave = statement.learn_types(payload, capabilities);
        let verdict = statement.verdict.clone();
        let writes = verdict.target != Target::Replica;
        match self.plan_verdict(verdict, cx) {
            Plan::At(Side::Replica, ..) if !may_leave && writes && self.is_reading_there() => {
                let text = String::from_utf8_lossy(read_only_transaction(self.dialect.vendor));
                Plan::Refuse(Code::READ_ONLY_TRANSACTION, text.into())
            }
            Plan::At(Side::Replica, _, verdict) if !may_leave => {
                Plan::At(Side::Primary, Rule::Prepare, verdict)
            }
            plan => plan,
        }
    }

    /// Decides about a statement.
    fn plan_verdict(&mut self, verdict: Verdict, cx: &mut Cx<'_>) -> Plan {
        let site = self.site(cx);
        let cluster = self.cluster(cx);
        let is_blind = self.state.is_blind && site.consistency != Consistency::Eventual;
        let off = site.reads == model::Reads::Primary || self.state.is_beyond || is_blind;
        let reads = if off { Reads::Primary } else { Reads::Replicas };
        if self.state.lost_insert_id && verdict.effects.has(Effects::READS_INSERT_ID) {
            return Plan::Refuse(Code::SERVER_LOST, INSERT_ID_LOST.into());
        }
        let asks = Effects::READS_LAST | Effects::READS_DIAGNOSTICS;
        let asks = if self.diagnostics_until.is_some() { asks } else { Effects::READS_LAST };
        if verdict.effects.has(asks) && !self.has_last() {
            let text = if site.pooling == Pooling::Transaction {
                "ringgate: the connection that knew this was given back (pooling = \"transaction\"); ask within a transaction"
            } else {
                "ringgate: the connection that knew this is gone"
            };
            return Plan::Refuse(Code::NOT_SUPPORTED, text.into());
        }
        let decision = decide(&verdict, &self.texts, reads);
        if decision.end_on_replica && self.texts.variables() == Some(Place::Replica) {
            return refused(Rule::VariablesElsewhere);
        }
        if decision.end_on_replica {
            // Its transaction ends with it.
            self.drop_back(Side::Replica, None, cx);
            self.texts.lost(Place::Replica);
        }
        let Some(place) = decision.place(self.texts.last_place()) else {
            return refused(decision.why);
        };
        let there = self.backs[Side::Replica as usize].is_some();
        let (side, why) = match place {
            Place::Primary => (Side::Primary, decision.why),
            Place::Replica if decision.stay && there => (Side::Replica, decision.why),
            Place::Replica if cluster.is_write(verdict.digest) => (Side::Primary, Rule::Fenced),
            Place::Replica if self.has_replica(&verdict, cx) => (Side::Replica, decision.why),
            Place::Replica => (Side::Primary, Rule::NoReplica),
        };
        Plan::At(side, why, Some(Box::new(verdict)))
    }

    /// The connection that ran the last statement is still there, or there was none.
    fn has_last(&self) -> bool {
        self.last_leg.is_none_or(|leg| self.backs.iter().flatten().any(|back| back.leg == leg))
    }

    /// Whether a replica may be given a read now, perhaps after a short wait. A connection to one that may not any more is
    /// given up for another.
    fn has_replica(&mut self, verdict: &Verdict, cx: &mut Cx<'_>) -> bool {
        let (lag_max, cluster) = (self.site(cx).lag_max, self.cluster(cx));
        let primary = cluster.primary().and_then(|server| cluster.member(server));
        // Without GTIDs nobody knows which replica has what was written.
        let is_eventual = self.site(cx).consistency == Consistency::Eventual;
        if !is_eventual && primary.is_some_and(|member| !member.has_gtids()) {
            return false;
        }
        let primary = primary.and_then(Member::version);
        let patient = self.impatient_until <= cx.now;
        let fits = |server: ServerId, member: &Member| {
            // A numbered comment is for servers of some versions only.
            let same = !verdict.effects.has(Effects::VERSIONED) || member.version() == primary;
            let speaks = member.version().is_none_or(|version| self.state.is_spoken_by(version));
            let may = takes_reads(server, cx) && same && speaks && member.may_read(lag_max);
            may && (patient || self.is_seen_by(member, cx))
        };
        let own = self.backs[Side::Replica as usize].as_ref().map(|back| back.server);
        if let Some(own) = own {
            if cluster.member(own).is_some_and(|member| fits(own, member)) {
                return true;
            }
            let is_free = !self.texts.pins().any(|pin| pin == Pin::Variables)
                && self.texts.transaction() == Transaction::None;
            if !is_free {
                return false;
            }
        }
        let other = cluster.members().any(|(server, member)| Some(server) != own && fits(server, member));
        if other && own.is_some() {
            self.drop_back(Side::Replica, None, cx);
        }
        other
    }

    /// A read of this session would see there what it must.
    fn is_seen_by(&self, member: &Member, cx: &Cx<'_>) -> bool {
        match self.site(cx).consistency {
            Consistency::Eventual => true,
            Consistency::ReadYourWrites => self.state.is_seen_by(&member.has),
            Consistency::Global => self.cluster(cx).acknowledged().iter().all(|gtid| member.has.has(gtid)),
        }
    }

    /// The positions that a read of this session must have seen.
    fn must_see(&self, cx: &Cx<'_>) -> ArrayVec<Gtid, SQL_GTID_SOURCES_MAX> {
        match self.site(cx).consistency {
            Consistency::Eventual => ArrayVec::new(),
            Consistency::ReadYourWrites => self.state.written().iter().copied().collect(),
            Consistency::Global => self.cluster(cx).acknowledged().iter().collect(),
        }
    }

    /// Whether the command would see what it must; false while it waits for that, or goes to the other side.
    pub(super) fn sees_enough(&mut self, side: Side, cx: &mut Cx<'_>) -> Result<bool, Fault> {
        // Nothing is read there yet; what asks about the statement before, or ends another one, reads nothing.
        let is_between = self.texts.transaction() == Transaction::None;
        let asks_back = |verdict: &Verdict| verdict.target == Target::Same;
        let reads = |job: &Job| job.aim.is_none() && !job.verdict.as_deref().is_some_and(asks_back);
        let must_see = side == Side::Replica && is_between && self.job.as_deref().is_some_and(reads);
        if !must_see {
            return Ok(true);
        }
        let Some(has_seen) = self.has_seen(cx)? else { return Ok(false) };
        match &mut self.job {
            Some(job) if !has_seen && job.may_go_to_primary() => {
                (job.side, job.route) = (Side::Primary, reason(false, Rule::NotSeen));
            }
            Some(_) if !has_seen => {
                let mut payload = Vec::new();
                Code::NOT_SUPPORTED.packet(NOT_SEEN_THERE.as_bytes()).write(&mut payload);
                return Err(Fault::Refused(payload));
            }
            _ => {}
        }
        Ok(has_seen)
    }

    /// Whether the replica has what the read must see: after a wait at the replica if that is not known. `None`: it waits.
    fn has_seen(&mut self, cx: &mut Cx<'_>) -> Result<Option<bool>, Fault> {
        let (cluster, back) = (self.cluster(cx), &mut self.backs[Side::Replica as usize]);
        let Some(back) = back else { return Ok(Some(false)) };
        let Some(member) = cluster.member(back.server) else { return Ok(Some(false)) };
        if back.prepared.is_some()
            && self.job.as_ref().is_some_and(|job| job.statement == Some(back.prepared_for))
        {
            // That was looked at when the command came; then it was prepared here.
            return Ok(Some(true));
        }
        if let Some(reached) = back.waited.take() {
            let wait = if reached { Wait::Reached } else { Wait::TimedOut };
            self.job.iter_mut().for_each(|job| job.split.wait = Some(wait));
            if reached {
                // Those that it was asked for: others may have been acknowledged meanwhile.
                for gtid in &back.positions {
                    let _ = member.has.raise(*gtid);
                }
            } else {
                self.impatient_until = cx.now + SQL_NO_WAIT_TIME;
            }
            return Ok(Some(reached && self.is_seen_by(member, cx)));
        }
        if self.is_seen_by(member, cx) {
            return Ok(Some(true));
        }
        let must_see = self.must_see(cx);
        let may_leave = self.job.as_ref().is_none_or(|job| job.may_go_to_primary());
        let time = if may_leave { SQL_WAIT_TIME } else { SQL_WAIT_THERE_TIME };
        if let Some(back) = &mut self.backs[Side::Replica as usize] {
            back.wait_for(&must_see, time, cx)?;
        }
        self.job.iter_mut().for_each(|job| job.split.wait = Some(Wait::Lost));
        Ok(None)
    }
}

/// A statement that no server may be given.
fn refused(why: Rule) -> Plan {
    Plan::Refuse(Code::NOT_SUPPORTED, format!("ringgate does not pass this on: {}", why.text()))
}
