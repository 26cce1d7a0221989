//! A block whose servers are asked: what they said, put together.
//!
//! What goes in: answers of single servers, or that there was none. What comes out: the cluster that workers look at, lines
//! of the log for each change, numbers for people. It owns the memory of the block: who was primary, what it had and when.
//! Always true: whoever is not the primary any more is told so before another one is; a new primary has a new epoch.

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::accounts;
use super::judge::{self, Decision, Look, Verdict};
use super::lag::{History, Replica};
use super::server::Watched;
use super::status::{Seen, Thread};
use super::tables::Table;
use crate::clock::{self, Moment};
use crate::cluster::{Cluster, Gtid, Member, Role};
use crate::limits::{SQL_ACCOUNTS_TIME, SQL_ACCOUNTS_WISH_TIME, SQL_SETTLE_TIME};

/// A block.
pub(super) struct Block {
    /// Its name in the file.
    pub(super) name: String,
    /// What workers look at; of the current edition.
    pub(super) cluster: RefCell<Arc<Cluster>>,
    /// In the order of the block.
    pub(super) servers: RefCell<Vec<Rc<Watched>>>,
    /// Wakes those who wait for the primary to have been asked.
    pub(super) turn: Notify,
    /// When its servers were asked first.
    since: Moment,
    /// Who was primary last, also while it is lost.
    known: RefCell<Option<Rc<Watched>>>,
    history: RefCell<History>,
    /// The primaries that followed another one.
    pub(super) changes: Cell<u64>,
    /// Two servers take writes.
    pub(super) is_double: Cell<bool>,
    /// The primary gives its writes no GTIDs, which was said.
    without_gtids: Cell<bool>,
    /// The last line about writable servers.
    said: RefCell<String>,
    /// When the accounts are to be read, and when they may be if somebody wishes.
    accounts_due: Cell<(Moment, Moment)>,
    /// By which the rows that are in use are known again.
    rows: Cell<Option<u64>>,
}

impl Block {
    pub(super) fn new(name: &str, cluster: Arc<Cluster>) -> Self {
        cluster.make_key();
        Self {
            name: name.to_owned(),
            cluster: RefCell::new(cluster),
            servers: RefCell::default(),
            turn: Notify::new(),
            since: clock::now(),
            known: RefCell::default(),
            history: RefCell::default(),
            changes: Cell::new(0),
            is_double: Cell::new(false),
            without_gtids: Cell::new(false),
            said: RefCell::default(),
            accounts_due: Cell::default(),
            rows: Cell::new(None),
        }
    }

    /// Lets go of the servers.
    pub(super) fn forget(&self) {
        self.servers.take();
        self.known.take();
    }

    /// Writes a line of the log.
    pub(super) fn say(&self, text: &str) {
        eprintln!("sql {}: {text}", self.name);
    }

    /// The accounts are to be read as soon as there is a primary, and used whatever was read before.
    pub(super) fn hurry_accounts(&self) {
        self.accounts_due.set(<(Moment, Moment)>::default());
        self.rows.set(None);
    }

    /// Whether this server is the primary and its accounts are to be read now.
    pub(super) fn wants_accounts(&self, server: &Rc<Watched>) -> bool {
        let (due, allowed) = self.accounts_due.get();
        let now = clock::now();
        let wants = server.role.get() == Role::Primary
            && now >= allowed
            && (self.cluster.borrow().take_wish() || now >= due);
        if wants {
            self.accounts_due.set((now + SQL_ACCOUNTS_TIME, now + SQL_ACCOUNTS_WISH_TIME));
        }
        wants
    }

    /// The primary's accounts were read.
    pub(super) fn use_accounts(&self, table: &Table) {
        let mut hasher = DefaultHasher::new();
        table.hash(&mut hasher);
        if self.rows.replace(Some(hasher.finish())) != Some(hasher.finish()) {
            self.cluster.borrow().use_accounts(Arc::new(accounts::read(table)));
        }
    }

    /// A server answered, or not.
    pub(super) fn take(&self, server: &Rc<Watched>, outcome: Result<Seen, String>) {
        if let Ok(seen) = &outcome {
            server.server_id.set(Some(seen.server_id));
        }
        server.tried.set(true);
        server.note(outcome.as_ref().map_err(String::as_str));
        server.seen.replace(outcome.as_ref().ok().cloned());
        let before = server.role.get();
        if let Err(why) = &outcome {
            self.tell_lost(server, why);
        }
        let servers = self.servers.borrow().clone();
        self.decide(&servers);
        if let Ok(seen) = &outcome {
            self.publish_position(server, seen);
            server.tell_found(self, before);
        }
        self.publish(&servers);
        if before != server.role.get() || server.role.get() == Role::Primary {
            self.turn.notify_waiters();
        }
    }

    fn decide(&self, servers: &[Rc<Watched>]) {
        let seen: Vec<_> = servers.iter().map(|one| one.seen.borrow()).collect();
        let looks = looks(servers, &seen);
        let known = self.known.borrow().clone();
        let at = known.as_ref().and_then(|known| servers.iter().position(|one| Rc::ptr_eq(one, known)));
        let all_tried = servers.iter().all(|one| one.tried.get());
        let settled = all_tried || clock::now().since(self.since) >= SQL_SETTLE_TIME;
        let decision = judge::decide(&looks, at, settled);
        for (at, (server, verdict)) in servers.iter().zip(&decision.members).enumerate() {
            let Verdict { role, replicates, contested } = *verdict;
            server.contested.set(contested);
            server.replicates.set(replicates);
            server.role.set(role);
            let behind = judge::matter(&looks, at).into_iter().map(|source| source.behind);
            let behind = behind.reduce(|one, other| Some(one?.max(other?))).flatten();
            server.behind.set(behind.map(Duration::from_secs));
        }
        self.tell_writable(servers, &decision, settled);
        if let Some(primary) = decision.primary.and_then(|at| servers.get(at)) {
            self.follow(primary, known.as_ref());
        }
    }

    /// Somebody is or was the primary.
    pub(super) fn has_known_a_primary(&self) -> bool {
        self.known.borrow().is_some()
    }

    /// Remembers who is primary, and what it has.
    fn follow(&self, primary: &Rc<Watched>, known: Option<&Rc<Watched>>) {
        if !known.is_some_and(|known| Rc::ptr_eq(known, primary)) {
            self.history.borrow_mut().clear();
            self.hurry_accounts();
            self.known.replace(Some(primary.clone()));
            match known {
                None => self.say(&format!("{} is the primary", primary.title)),
                Some(before) => {
                    self.changes.set(self.changes.get() + 1);
                    self.demote_all_but(primary);
                    self.cluster.borrow().next_epoch();
                    self.say(&format!(
                        "{} is the primary now; it was {} until now",
                        primary.title, before.title
                    ));
                }
            }
        }
        if let Some(seen) = &*primary.seen.borrow() {
            if !seen.has_gtids && !self.without_gtids.replace(true) {
                self.say(&format!(
                    "{} gives its writes no GTIDs (log_bin, at MySQL gtid_mode=ON): nobody knows which replica has them, so reads \
                     stay on the primary unless consistency is \"eventual\"",
                    primary.title
                ));
            }
            self.without_gtids.set(!seen.has_gtids);
            self.history.borrow_mut().note(&seen.executed, seen.asked);
        }
    }

    /// Before there is a new primary, nobody else is.
    fn demote_all_but(&self, primary: &Rc<Watched>) {
        let cluster = self.cluster.borrow();
        let others = self.servers.borrow();
        let others = others.iter().filter(|other| !Rc::ptr_eq(other, primary));
        for member in others.filter_map(|other| cluster.member(other.server.get())) {
            if member.role() == Role::Primary {
                member.lost();
            }
        }
    }

    /// Tells workers.
    fn publish(&self, servers: &[Rc<Watched>]) {
        let cluster = self.cluster.borrow();
        let primary_is_reached = servers.iter().any(|one| one.role.get() == Role::Primary);
        // Whoever is less than before comes first.
        let mut order: Vec<&Rc<Watched>> = servers.iter().collect();
        order.sort_by_key(|one| one.role.get() == Role::Primary);
        for server in order {
            let Some(member) = cluster.member(server.server.get()) else { continue };
            let seen = server.seen.borrow();
            let Some(seen) = &*seen else {
                // Not asked yet is not lost.
                if server.tried.get() {
                    member.lost();
                }
                continue;
            };
            let role = server.role.get();
            let lag = match role {
                Role::Primary => Some(Duration::ZERO),
                Role::Replica => {
                    let behind = server.behind.get();
                    let replica = Replica { has: &seen.applied, answered: seen.answered, behind };
                    self.history.borrow().lag(replica, primary_is_reached)
                }
                Role::Unknown => None,
            };
            member.found_init(seen.has_init);
            member.found_gtids(seen.has_gtids);
            member.found(role, seen.version, server.replicates.get(), lag);
        }
    }

    fn publish_position(&self, server: &Rc<Watched>, seen: &Seen) {
        let cluster = self.cluster.borrow();
        let Some(member) = cluster.member(server.server.get()) else { return };
        let has = if server.role.get() == Role::Replica { &seen.applied } else { &seen.executed };
        set_positions(member, has);
    }

    fn tell_lost(&self, server: &Rc<Watched>, why: &str) {
        if server.trouble.borrow().as_deref() == Some(why) {
            return;
        }
        server.trouble.replace(Some(why.to_owned()));
        if server.role.get() == Role::Primary {
            let line = format!("the primary {} is lost: {why}; writes wait until there is one", server.title);
            self.say(&line);
        } else {
            self.say(&format!("{} is not reached: {why}", server.title));
        }
    }

    /// Says who takes writes when that is not one server.
    fn tell_writable(&self, servers: &[Rc<Watched>], decision: &Decision, settled: bool) {
        let name = |at: &usize| servers.get(*at).map_or("", |one| one.title.as_str());
        let contested = decision.members.iter().any(|verdict| verdict.contested);
        self.is_double.set(settled && (decision.writable.len() > 1 || contested));
        let all = decision.writable.iter().map(name).collect::<Vec<_>>().join(" and ");
        let line = match (decision.primary, decision.writable.len()) {
            (Some(_), 0 | 1) => String::new(),
            (Some(primary), _) => format!(
                "ALARM: {all} take writes at the same time; {} stays the primary; set read_only=1 on the other",
                name(&primary)
            ),
            (None, 0) if servers.iter().any(|one| one.seen.borrow().is_some()) => {
                "there is no primary: none of its servers takes writes".into()
            }
            (None, 0) => "there is no primary: none of its servers is reached".into(),
            (None, 1) => format!(
                "ALARM: {all} took writes beside the primary that is lost, and is not followed; if it is to be the primary, \
                 set read_only=1 on it for a second"
            ),
            (None, _) => format!(
                "ALARM: {all} take writes at the same time, and none of them is known to be the primary; set read_only=1 on \
                 all but one"
            ),
        };
        if !settled || *self.said.borrow() == line {
            return;
        }
        match (line.is_empty(), decision.primary) {
            (false, _) => self.say(&line),
            (true, Some(primary)) if self.said.borrow().starts_with("ALARM") => {
                self.say(&format!("only {} takes writes again", name(&primary)));
            }
            (true, _) => {}
        }
        self.said.replace(line);
    }
}

/// The threads of a server that replicates in part or not at all, and what it says about it.
pub(super) fn stopped(seen: &Seen) -> Option<(String, &str)> {
    let source = seen.sources.iter().find(|one| one.io != Thread::Yes || one.sql != Thread::Yes)?;
    Some((format!("IO thread {}, SQL thread {}", source.io.word(), source.sql.word()), &source.error))
}

fn looks<'a>(servers: &'a [Rc<Watched>], seen: &'a [std::cell::Ref<'a, Option<Seen>>]) -> Vec<Look<'a>> {
    let look = |(server, seen): (&'a Rc<Watched>, &'a std::cell::Ref<'a, Option<Seen>>)| Look {
        seen: seen.as_ref(),
        server_id: server.server_id.get(),
        hosts: [&server.hosts[0], &server.hosts[1]],
        port: server.port,
        contested: server.contested.get(),
    };
    servers.iter().zip(seen).map(look).collect()
}

/// What a server has, and nothing else.
fn set_positions(member: &Member, has: &[Gtid]) {
    let gone: Vec<Gtid> =
        member.has.iter().filter(|old| !has.iter().any(|one| one.source == old.source)).collect();
    for gtid in gone {
        member.has.set(Gtid { number: 0, ..gtid });
    }
    for gtid in has {
        // A source too many: nobody is told that this server has anything of it.
        member.has.set(*gtid);
    }
}
