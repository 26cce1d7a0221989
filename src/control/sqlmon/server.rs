//! A server of a block, asked again and again.
//!
//! What goes in: a plan, which a new edition may replace. What comes out: answers for the block. It owns the task and its
//! connection. Always true: there is one connection at most; between two questions is a pause; the replicas are asked right
//! after the primary, so that what they have can be compared with what it had.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::super::checks::CheckView;
use super::accounts;
use super::block::{Block, stopped};
use super::client::{Client, Plan, Trouble, printable};
use super::status::{self, Seen};
use crate::clock;
use crate::cluster::Role;
use crate::config::model::SqlUsers;
use crate::ids::ServerId;
use crate::limits::{SQL_ACCOUNTS_BYTES_MAX, SQL_ASK_BYTES_MAX, SQL_ASK_TIME, SQL_RETRY_TIME_MAX};
use crate::mysql::facts::Vendor;
use crate::worker::shared::Shared;

/// A server that is watched.
pub(super) struct Watched {
    /// For people.
    pub(super) title: String,
    /// Its address as its replicas may have it.
    pub(super) hosts: [String; 2],
    pub(super) port: u16,
    /// Its id in the current edition.
    pub(super) server: Cell<ServerId>,
    pub(super) plan: RefCell<Rc<Plan>>,
    pub(super) users: RefCell<SqlUsers>,
    /// Interrupts a pause: the plan is another one.
    pub(super) hurry: Notify,
    pub(super) task: RefCell<Option<AbortHandle>>,
    /// What it said last; `None` while it is not reached.
    pub(super) seen: RefCell<Option<Seen>>,
    /// It was asked at least once, whatever came of it.
    pub(super) tried: Cell<bool>,
    /// What came of the last question, for people.
    pub(super) view: RefCell<CheckView>,
    pub(super) server_id: Cell<Option<u64>>,
    pub(super) contested: Cell<bool>,
    pub(super) role: Cell<Role>,
    pub(super) replicates: Cell<bool>,
    pub(super) behind: Cell<Option<Duration>>,
    /// Why it is not reached.
    pub(super) trouble: RefCell<Option<String>>,
    /// Why it does not replicate, as it was said last.
    pub(super) stopped: RefCell<Option<String>>,
    /// Why its accounts cannot be read, as it was said last.
    pub(super) unread: RefCell<Option<String>>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Watched {
    /// Ends its task.
    pub(super) fn stop(&self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }

    /// What came of the last question, for people.
    pub(super) fn view(&self) -> CheckView {
        self.view.borrow().clone()
    }

    /// Notes what came of a question.
    pub(super) fn note(&self, outcome: Result<&Seen, &str>) {
        let mut view = self.view.borrow_mut();
        view.ok = Some(outcome.is_ok());
        view.at = Some(clock::wall());
        view.failures = if outcome.is_ok() { 0 } else { view.failures.saturating_add(1) };
        view.text = match outcome {
            Err(why) => why.to_owned(),
            Ok(seen) => {
                let whose = if seen.version.vendor == Vendor::MariaDb { "MariaDB" } else { "MySQL" };
                let number = seen.version.number;
                let (major, minor, patch) = (number / 10_000, number / 100 % 100, number % 100);
                let took = seen.answered.since(seen.asked).as_secs_f64() * 1000.0;
                format!("{whose} {major}.{minor}.{patch} in {took:.1} ms")
            }
        };
    }

    /// Says what changed since it was asked before.
    pub(super) fn tell_found(&self, block: &Block, before: Role) {
        let seen = self.seen.borrow();
        let Some(seen) = &*seen else { return };
        let role = self.role.get();
        if self.trouble.take().is_some() {
            block.say(&format!("{} is reached again: {}", self.title, role.word()));
        } else if role != before && role == Role::Replica {
            block.say(&format!("{} is a replica", self.title));
        }
        let threads = stopped(seen);
        // Whom it should follow is not known at the beginning.
        let is_stopped = role == Role::Replica
            && !self.replicates.get()
            && (threads.is_some() || block.has_known_a_primary());
        let (threads, error) = threads.unwrap_or(("it follows another server".into(), ""));
        // The error alone is no news: it may count the attempts.
        let why = is_stopped.then_some(threads);
        if *self.stopped.borrow() == why {
            return;
        }
        match &why {
            Some(why) => {
                let error = if error.is_empty() { String::new() } else { format!(": {}", printable(error)) };
                block.say(&format!("{} does not replicate: {why}{error}", self.title));
            }
            None if role == Role::Replica => block.say(&format!("{} replicates again", self.title)),
            None => {}
        }
        self.stopped.replace(why);
    }
}

/// The questions to one server, one after the other.
pub(super) struct Round {
    pub(super) block: Weak<Block>,
    pub(super) watched: Weak<Watched>,
    pub(super) shared: Arc<Shared>,
}

impl Round {
    /// Asks until the server is not watched any more.
    pub(super) async fn run(self) {
        let mut open: Option<(Rc<Plan>, Client)> = None;
        let mut pause = SQL_ASK_TIME;
        while let (Some(block), Some(watched)) = (self.block.upgrade(), self.watched.upgrade()) {
            let plan = watched.plan.borrow().clone();
            if let Some((_, client)) = open.take_if(|(old, _)| !old.is_like(&plan)) {
                client.quit().await;
            }
            let outcome = ask(&plan, &mut open).await;
            let is_reached = outcome.is_ok();
            self.tell_balancer(&watched, is_reached);
            block.take(&watched, outcome);
            if block.wants_accounts(&watched)
                && let Some((_, client)) = &mut open
                && read_accounts(&block, &watched, client).await.is_err()
            {
                open = None;
            }
            let is_primary = watched.role.get() == Role::Primary;
            pause = match (is_reached, is_primary) {
                (true, true) => SQL_ASK_TIME,
                // They are woken by the primary's turn, which is a little earlier.
                (true, false) => SQL_ASK_TIME * 5 / 4,
                (false, _) => (pause * 2).min(SQL_RETRY_TIME_MAX),
            };
            let client = open.as_mut().map(|(_, client)| client);
            let sleep = pause_for(pause, is_primary, client, &block, &watched);
            if sleep.await {
                open = None;
                // Not at once: a server may take every login and then close.
                tokio::time::sleep(SQL_ASK_TIME / 5).await;
            }
        }
    }

    /// Who is not reached gets nothing.
    fn tell_balancer(&self, watched: &Watched, is_up: bool) {
        let was_up = !watched.tried.get() || watched.seen.borrow().is_some();
        if watched.tried.get() && was_up == is_up {
            return;
        }
        let edition = self.shared.edition();
        let server = watched.server.get();
        if edition.balancer.set_checked(server, is_up, clock::now()) {
            self.shared.wake_vacant(edition.config.servers[server.index()].pool);
        }
    }
}

/// Waits until it is time to ask again. True when the connection ended meanwhile.
async fn pause_for(
    pause: Duration,
    is_primary: bool,
    client: Option<&mut Client>,
    block: &Block,
    watched: &Watched,
) -> bool {
    let is_open = client.is_some();
    let ended = async {
        match client {
            Some(client) => client.ended().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = tokio::time::sleep(pause) => false,
        () = watched.hurry.notified() => false,
        () = block.turn.notified(), if is_open && !is_primary => false,
        () = ended => true,
    }
}

/// Asks a server what it is, over the connection that is open or a new one.
async fn ask(plan: &Rc<Plan>, open: &mut Option<(Rc<Plan>, Client)>) -> Result<Seen, String> {
    if let Some((_, client)) = open {
        match question(plan, client).await {
            // It was kept for long enough for a new one to be worth a try.
            Err(Trouble::Broken(text)) => {
                *open = None;
                if text.starts_with("no answer") {
                    return Err(text);
                }
            }
            Ok(seen) => return Ok(seen),
            // What an account may do is looked up at the login.
            Err(refused) => {
                *open = None;
                return Err(refused.text());
            }
        }
    }
    let mut client = Client::open(plan).await.map_err(|trouble| trouble.text())?;
    let outcome = question(plan, &mut client).await;
    if outcome.is_ok() {
        *open = Some((plan.clone(), client));
    }
    outcome.map_err(|trouble| trouble.text())
}

async fn question(plan: &Plan, client: &mut Client) -> Result<Seen, Trouble> {
    let asked = clock::now();
    let version = client.version;
    let tables = match client.query(status::question(version), SQL_ASK_BYTES_MAX).await {
        Err(Trouble::Refused(code, text)) if status::is_missing_privilege(code) => {
            let grant = status::grant(version, &account(plan, client).await);
            let text = format!("the account may not see how it replicates: {grant}; it says: {text}");
            return Err(Trouble::Refused(code, text));
        }
        other => other?,
    };
    status::read(&tables, (asked, clock::now()))
        .ok_or_else(|| Trouble::Broken("what it says about itself cannot be read".into()))
}

/// The account that the server took us for, for a statement.
async fn account(plan: &Plan, client: &mut Client) -> String {
    let tables = client.query("SELECT CURRENT_USER() AS account", SQL_ASK_BYTES_MAX).await;
    let tables = tables.unwrap_or_default();
    let told = tables.first().and_then(|table| table.first()).map(|row| row.text(&["account"]));
    status::quoted(told.filter(|text| !text.is_empty()).unwrap_or(&plan.account.user))
}

/// Reads the accounts of the primary. Errors: the connection is of no use any more.
async fn read_accounts(block: &Block, watched: &Watched, client: &mut Client) -> Result<(), ()> {
    if matches!(*watched.users.borrow(), SqlUsers::Listed(_)) {
        return Ok(());
    }
    let mut first = None;
    for question in accounts::questions(client.version) {
        match client.query(question, SQL_ACCOUNTS_BYTES_MAX).await {
            Ok(tables) => {
                if watched.unread.take().is_some() {
                    block.say(&format!("the accounts of {} are read again", watched.title));
                }
                tables.first().iter().for_each(|table| block.use_accounts(table));
                return Ok(());
            }
            Err(trouble) => {
                let is_broken = matches!(trouble, Trouble::Broken(_));
                let trouble = first.get_or_insert(trouble);
                if is_broken {
                    tell_unread(block, watched, &trouble.text());
                    return Err(());
                }
            }
        }
    }
    if let Some(trouble) = first {
        let mut why = trouble.text();
        if matches!(trouble, Trouble::Refused(code, _) if status::is_missing_privilege(code)) {
            let plan = watched.plan.borrow().clone();
            let account = account(&plan, client).await;
            why += &format!("; GRANT SELECT ON {} TO {account}", accounts::table(client.version));
        }
        tell_unread(block, watched, &why);
    }
    Ok(())
}

/// Says why the accounts cannot be read, once.
fn tell_unread(block: &Block, watched: &Watched, why: &str) {
    if watched.unread.borrow().as_deref() != Some(why) {
        block.say(&format!("the accounts of {} cannot be read: {why}", watched.title));
        watched.unread.replace(Some(why.to_owned()));
    }
}
