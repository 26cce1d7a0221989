//! A session at a simulated server: what each command does to it and to the truth, and what is answered.

use std::collections::BTreeMap;
use std::time::Duration;

use ringgate::clock::Moment;
use ringgate::cluster::Gtid;
use ringgate::mysql::command::Command;
use ringgate::mysql::facts::{Capabilities, Status};
use ringgate::mysql::prepared::Execute;
use ringgate::mysql::track::Change;

use super::statement::{Statement, bind, columns, pad};
use super::truth::{Ground, Login, Truth};
use super::wire::Answer;

/// What a command comes to.
#[derive(Debug)]
pub enum Does {
    Answers(Vec<u8>),
    /// It waits for a position, for so long at most.
    Waits(u64, Duration),
    /// There is no answer.
    Nothing,
    Quits,
}

/// Where and when.
pub struct At<'a> {
    pub truth: &'a mut Truth,
    pub now: Moment,
    pub server: usize,
    pub conn: u32,
}

#[derive(Debug)]
struct Transaction {
    read_only: bool,
    /// What it sees of the others.
    snapshot: Option<u64>,
    writes: Vec<(usize, usize)>,
}

#[derive(Debug)]
struct Prepared {
    text: String,
    /// What the session was like.
    errors: usize,
    database: String,
    /// Whose statement was the last before: who prepared it, if several share the connection.
    by: Option<Guest>,
    typed: bool,
}

/// A session of a client: which client, and which of its sessions.
type Guest = (usize, u64);

/// A session.
#[derive(Debug)]
pub struct Session {
    login: Login,
    /// Whose statement ran last.
    guest: Option<Guest>,
    /// As the login had it, or the server itself.
    collation: u8,
    pub capabilities: Capabilities,
    pub database: String,
    /// `tx_read_only`.
    fenced: bool,
    autocommit: bool,
    variable: Option<usize>,
    errors: usize,
    insert_id: usize,
    locks: Vec<usize>,
    transaction: Option<Transaction>,
    prepared: BTreeMap<u32, Prepared>,
    last_prepared: u32,
    /// It tells all variables and transactions.
    tracks: bool,
    told: &'static [u8],
    state: Vec<u8>,
}

/// The collation of who did not choose one.
const COLLATION_DEFAULT: u8 = 8;
/// What `max_error_count` is unless somebody sets it.
pub const ERRORS_DEFAULT: usize = 64;

type Refusal = (u16, &'static [u8; 5], &'static str);
const FENCED: Refusal = (1792, b"25006", "Cannot execute statement in a READ ONLY transaction");
const READ_ONLY: Refusal = (1290, b"HY000", "The MariaDB server is running with the --read-only option");

impl Session {
    pub fn new(login: Login, collation: u8, capabilities: Capabilities, database: String) -> Self {
        Self {
            login,
            guest: None,
            collation,
            capabilities,
            database,
            fenced: false,
            autocommit: true,
            variable: None,
            errors: ERRORS_DEFAULT,
            insert_id: 0,
            locks: Vec::new(),
            transaction: None,
            prepared: BTreeMap::new(),
            last_prepared: 0,
            tracks: false,
            told: b"________",
            state: Vec::new(),
        }
    }

    fn status(&self) -> Status {
        let mut status = if self.autocommit { Status::AUTOCOMMIT } else { Status::default() };
        if let Some(transaction) = &self.transaction {
            status = status.with(Status::IN_TRANS);
            if transaction.read_only {
                status = status.with(Status::IN_TRANS_READONLY);
            }
        }
        status
    }

    fn answer(&mut self) -> Answer {
        Answer {
            bytes: Vec::new(),
            sequence: 1,
            capabilities: self.capabilities,
            status: self.status(),
            state: std::mem::take(&mut self.state),
        }
    }

    pub fn ok(&mut self) -> Vec<u8> {
        self.answer().ok(0)
    }

    pub fn row(&mut self, row: &[Option<Vec<u8>>], is_binary: bool) -> Vec<u8> {
        self.answer().row(row, is_binary)
    }

    fn refuse(&mut self, (code, sqlstate, text): Refusal) -> Vec<u8> {
        self.answer().err(code, sqlstate, text)
    }

    /// Tells a change, if trackers are set for it.
    fn tell(&mut self, change: &Change<'_>) {
        let always = matches!(change, Change::Schema(_) | Change::SystemVariable { name: b"autocommit", .. });
        if always || self.tracks {
            change.write(&mut self.state);
        }
    }

    fn tell_transaction(&mut self, letters: &'static [u8]) {
        if self.told != letters {
            self.told = letters;
            self.tell(&Change::TransactionState(letters));
        }
    }

    /// A command.
    pub fn command(&mut self, payload: &[u8], at: &mut At<'_>) -> Does {
        let command = match Command::parse(payload, self.capabilities) {
            Ok(command) => command,
            Err(bad) => {
                at.truth.fail(format!("server {}: a bad command: {bad:?}", at.server));
                return Does::Quits;
            }
        };
        match command {
            Command::Quit => return Does::Quits,
            Command::Query(query) => {
                let text = String::from_utf8_lossy(query.text).into_owned();
                return self.query(&text, false, at);
            }
            Command::InitDb(name) => {
                self.database = String::from_utf8_lossy(name).into_owned();
                self.tell(&Change::Schema(name));
            }
            Command::Ping => at.truth.tally.pings += 1,
            Command::ResetConnection => {
                at.truth.tally.resets += 1;
                let (database, guest) = (std::mem::take(&mut self.database), self.guest);
                let clean = Self::new(self.login, COLLATION_DEFAULT, self.capabilities, database);
                *self = Self { guest, last_prepared: self.last_prepared, ..clean };
            }
            Command::StmtPrepare(text) => return self.prepare(&String::from_utf8_lossy(text), at),
            Command::StmtExecute(number) => return self.execute(number, payload, at),
            Command::StmtClose(number) => {
                if self.prepared.remove(&number).is_none() {
                    at.truth.fail(format!("server {}: closes statement {number}, which is none", at.server));
                }
                return Does::Nothing;
            }
            other => {
                let what = format!("server {}: {other:?} was not said by anybody", at.server);
                at.truth.fail(what);
            }
        }
        Does::Answers(self.ok())
    }

    fn prepare(&mut self, text: &str, at: &mut At<'_>) -> Does {
        let parameters = text.matches('?').count();
        if Statement::parse(&bind(text, &vec![1; parameters])).is_none() {
            at.truth.fail(format!("server {}: nobody said {text:?}", at.server));
        }
        self.last_prepared += 1 + at.conn % 3;
        self.prepared.insert(
            self.last_prepared,
            Prepared {
                text: text.to_owned(),
                errors: self.errors,
                database: self.database.clone(),
                by: self.guest,
                typed: false,
            },
        );
        Does::Answers(self.answer().prepared(self.last_prepared, parameters, columns(text)))
    }

    fn execute(&mut self, number: u32, payload: &[u8], at: &mut At<'_>) -> Does {
        let Some(prepared) = self.prepared.get_mut(&number) else {
            at.truth.fail(format!("server {}: executes statement {number}, which is none", at.server));
            return Does::Answers(self.refuse((1243, b"HY000", "Unknown prepared statement handler")));
        };
        let count = prepared.text.matches('?').count();
        let mut parameters = Vec::new();
        if let Ok(execute) = Execute::parse(payload, count as u16, self.capabilities) {
            prepared.typed |= execute.types.is_some();
            let from =
                execute.types.map_or_else(|| execute.bound_at.map(|at| at + 1), |types| Some(types.end));
            let values = from.map_or(&[][..], |from| &payload[from..]);
            let number = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes) as usize;
            parameters.extend(values.chunks(8).map(number));
        }
        if parameters.len() != count || (count > 0 && !prepared.typed) {
            let what = format!("server {}: executes {:?} with {parameters:?}", at.server, prepared.text);
            at.truth.fail(what);
        }
        let text = bind(&prepared.text, &parameters);
        let ground = (prepared.errors, &prepared.database);
        if ground != (self.errors, &self.database) {
            let now = (self.errors, &self.database);
            at.truth
                .fail(format!("server {}: {text:?} was prepared with {ground:?}, not {now:?}", at.server));
        }
        let by = prepared.by;
        let does = self.query(&text, true, at);
        at.truth.tally.borrowed +=
            u64::from(by.is_some() && by.map(|by| by.0) != self.guest.map(|guest| guest.0));
        does
    }

    fn query(&mut self, text: &str, is_binary: bool, at: &mut At<'_>) -> Does {
        if let Some(list) = text.strip_prefix("SET session_track_schema=1,") {
            self.tracks = true;
            self.fenced |= list.contains(",tx_read_only=1");
            if let Some((_, list)) = list.split_once(",character_set_client=") {
                let all: Vec<&str> = list.split(',').collect();
                let id = all[0];
                if all[1..] != [format!("character_set_results={id}"), format!("collation_connection={id}")] {
                    at.truth.fail(format!("server {}: nobody says {text:?}", at.server));
                }
                self.collation = id.parse().unwrap_or(0);
            }
            return Does::Answers(self.ok());
        }
        if let Some(value) = text.strip_prefix("SET @@session.`max_error_count`=") {
            self.errors = value.parse().unwrap_or(0);
            return Does::Answers(self.ok());
        }
        if text == "SELECT LAST_INSERT_ID(),LAST_INSERT_ID(0)" {
            let id = std::mem::take(&mut self.insert_id).to_string().into_bytes();
            return Does::Answers(self.row(&[Some(id), Some(b"0".to_vec())], false));
        }
        if let Some(id) = text.strip_prefix("SET last_insert_id=") {
            self.insert_id = id.parse().unwrap_or(0);
            at.truth.tally.brought += 1;
            self.tell(&Change::SystemVariable { name: b"last_insert_id", value: id.as_bytes() });
            return Does::Answers(self.ok());
        }
        if let Some(rest) = text.strip_prefix("SELECT MASTER_GTID_WAIT('") {
            let (gtid, rest) = rest.split_once("',").unwrap_or_default();
            let number = Gtid::parse_list(gtid.as_bytes(), false).next().map_or(0, |gtid| gtid.number);
            let seconds = rest.trim_end_matches(')').parse().unwrap_or(0.0);
            at.truth.tally.waits += 1;
            return Does::Waits(number, Duration::from_secs_f64(seconds));
        }
        let Some(statement) = Statement::parse(text) else {
            at.truth.fail(format!("server {}: nobody says {text:?}", at.server));
            return Does::Answers(self.refuse((1064, b"42000", "You have an error in your SQL syntax")));
        };
        let id = statement.id();
        let said = at.truth.records.get(id).map(|record| (record.client, record.statement, record.ground));
        let Some((client, _, Some(ground))) = said.filter(|said| said.1 == statement) else {
            at.truth.fail(format!("server {}: {:?} says {text:?} of {said:?}", at.server, self.login));
            return Does::Answers(self.refuse((1064, b"42000", "You have an error in your SQL syntax")));
        };
        self.comes((client, ground.session), &ground, at);
        let bytes = self.run(statement, is_binary, at);
        let refused = if bytes.get(4) == Some(&0xff) { ", refused" } else { "" };
        let (server, conn) = (at.server, at.conn);
        let text: String = text.chars().take(120).collect();
        at.truth.note(at.now, format!("server {server}, connection {conn}: {text}{refused}"));
        Does::Answers(bytes)
    }

    /// Somebody has a statement run: nothing of anybody else is to be seen, and everything of its own.
    fn comes(&mut self, guest: Guest, ground: &Ground, at: &mut At<'_>) {
        let own = |id: usize| {
            let record = &at.truth.records[id];
            id == 0 || (record.client, record.ground.map(|ground| ground.session)) == (guest.0, Some(guest.1))
        };
        let strange =
            [self.insert_id, self.variable.unwrap_or(0)].iter().chain(&self.locks).any(|id| !own(*id));
        let is_new = self.guest != Some(guest);
        let open = self.transaction.is_some() || !self.autocommit || !self.locks.is_empty();
        let wrong = if self.login != ground.login {
            Some("another one logged in")
        } else if strange {
            Some("something of another client is there")
        } else if is_new && open {
            Some("something of another client is open")
        } else if (self.errors, &*self.database) != (ground.errors, ground.database) {
            Some("another state")
        } else if ground.collation.is_some_and(|collation| collation != self.collation) {
            Some("another character set")
        } else if at.server > 0 && !self.tracks {
            Some("nothing is tracked")
        } else {
            None
        };
        at.truth.tally.shared += u64::from(is_new && self.guest.is_some());
        if let Some(wrong) = wrong {
            let what = format!(
                "server {}, connection {}: {wrong}: {self:?}; {guest:?}, {ground:?}",
                at.server, at.conn
            );
            at.truth.fail(what);
        }
        self.guest = Some(guest);
    }

    pub const fn is_in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    fn run(&mut self, statement: Statement, is_binary: bool, at: &mut At<'_>) -> Vec<u8> {
        let id = statement.id();
        if let Some(key) = statement.writes() {
            return self.write(statement, key, is_binary, at);
        }
        if let Statement::Read { locks: true, .. } = statement
            && self.is_fenced()
        {
            return self.refuse(FENCED);
        }
        at.truth.runs(id, at.server, at.conn);
        if let Some((first, more)) = self.about_itself(statement, at) {
            let all =
                [first.map(|number| number.to_string().into_bytes()), Some(id.to_string().into_bytes())];
            return self.row(&all[..=usize::from(more)], is_binary);
        }
        let text = |number: usize| Some(number.to_string().into_bytes());
        match statement {
            Statement::Begin { read_only, .. } => {
                if self.transaction.is_some() {
                    at.truth.fail(format!("statement {id} begins a transaction within another one"));
                }
                let read_only = read_only || self.fenced;
                self.transaction = Some(Transaction { read_only, snapshot: None, writes: Vec::new() });
                self.tell(&Change::TransactionCharacteristics(b"START TRANSACTION;"));
                self.tell_transaction(b"T_______");
            }
            Statement::Commit { .. } | Statement::Autocommit { on: true, .. } => {
                if let Statement::Autocommit { on, .. } = statement {
                    self.autocommit = on;
                    self.tell(&Change::SystemVariable { name: b"autocommit", value: b"ON" });
                }
                if let Some(refused) = self.commit(at) {
                    return refused;
                }
            }
            Statement::Rollback { .. } => {
                self.transaction = None;
                self.tell_transaction(b"________");
            }
            Statement::Read { key, client, pad: count, locks, .. } => {
                let value = self.read(key, locks, at);
                let row = [
                    text(key),
                    text(value),
                    text(id),
                    text(self.errors),
                    Some(self.database.clone().into_bytes()),
                    Some(pad(client, count).into_bytes()),
                ];
                return self.row(&row, is_binary);
            }
            Statement::SetVariable { .. } => self.variable = Some(id),
            Statement::SetSession { value, .. } => {
                self.errors = value;
                let value = value.to_string();
                self.tell(&Change::SystemVariable { name: b"max_error_count", value: value.as_bytes() });
            }
            Statement::Autocommit { on: false, .. } => {
                self.autocommit = false;
                self.tell(&Change::SystemVariable { name: b"autocommit", value: b"OFF" });
            }
            _ => {}
        }
        self.ok()
    }

    /// What is about the session alone: a value, and whether the id of the statement follows.
    fn about_itself(&mut self, statement: Statement, at: &mut At<'_>) -> Option<(Option<usize>, bool)> {
        match statement {
            Statement::InsertId { .. } => Some((Some(self.insert_id), true)),
            Statement::ReadVariable { .. } => Some((self.variable, true)),
            Statement::SetInsertId { id } => {
                self.insert_id = id;
                Some((Some(id), false))
            }
            Statement::Lock { id } => {
                at.truth.tally.locks += 1;
                self.locks.push(id);
                Some((Some(1), true))
            }
            Statement::Unlock { .. } => Some((Some(std::mem::take(&mut self.locks).len()), true)),
            _ => None,
        }
    }

    fn is_fenced(&self) -> bool {
        self.transaction.as_ref().map_or(self.fenced, |transaction| transaction.read_only)
    }

    /// Without autocommit the first use of a table begins a transaction.
    fn begin_implicitly(&mut self) {
        if !self.autocommit && self.transaction.is_none() {
            let read_only = self.fenced;
            self.transaction = Some(Transaction { read_only, snapshot: None, writes: Vec::new() });
            self.tell_transaction(b"I_R__s__");
        }
    }

    fn read(&mut self, key: usize, locks: bool, at: &At<'_>) -> usize {
        self.begin_implicitly();
        let now = at.truth.position(at.server, at.now);
        let Some(transaction) = &mut self.transaction else { return at.truth.value(key, now) };
        let snapshot = *transaction.snapshot.get_or_insert(now);
        let own = transaction.writes.iter().rev().find(|(own, _)| *own == key);
        own.map_or_else(|| at.truth.value(key, if locks { now } else { snapshot }), |(_, id)| *id)
    }

    fn write(&mut self, statement: Statement, key: usize, is_binary: bool, at: &mut At<'_>) -> Vec<u8> {
        let id = statement.id();
        if !at.truth.places[at.server].writable || self.is_fenced() {
            at.truth.tally.fenced += 1;
            let strict = !at.truth.places[at.server].writable;
            return self.refuse(if strict { READ_ONLY } else { FENCED });
        }
        at.truth.runs(id, at.server, at.conn);
        self.begin_implicitly();
        match &mut self.transaction {
            Some(transaction) => {
                transaction.writes.push((key, id));
                self.tell_transaction(b"T___W_S_");
            }
            None => self.log(&[(key, id)], at),
        }
        let text = |number: usize| Some(number.to_string().into_bytes());
        match statement {
            Statement::Function { .. } => self.row(&[text(id)], is_binary),
            Statement::View { key, .. } => self.row(&[text(key), text(id)], is_binary),
            Statement::Insert { .. } => {
                self.insert_id = id;
                self.answer().ok(id)
            }
            _ => self.ok(),
        }
    }

    fn log(&mut self, writes: &[(usize, usize)], at: &mut At<'_>) {
        let position = at.truth.commit(at.now, at.server, writes);
        let gtid = format!("0-{}-{position}", at.server + 1);
        self.tell(&Change::SystemVariable { name: b"last_gtid", value: gtid.as_bytes() });
    }

    /// Ends the transaction; an answer if that is refused.
    fn commit(&mut self, at: &mut At<'_>) -> Option<Vec<u8>> {
        let transaction = self.transaction.take();
        self.tell_transaction(b"________");
        let writes = transaction.map(|transaction| transaction.writes).unwrap_or_default();
        if writes.is_empty() {
            return None;
        }
        if !at.truth.places[at.server].writable {
            return Some(self.refuse(READ_ONLY));
        }
        self.log(&writes, at);
        at.truth.tally.committed += 1;
        None
    }
}
