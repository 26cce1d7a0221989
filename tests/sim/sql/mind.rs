//! What a client knows of its session, and so which answers can be right.

use ringgate::config::model::Consistency;
use ringgate::mysql::facts::Status;

use super::caller::Floors;
use super::plot::{KEYS_EACH, owner_of};
use super::serving::ERRORS_DEFAULT;
use super::statement::{Statement, pad};
use super::truth::{Fate, Ground, Login, Truth};
use super::wire::{Heard, number};

/// A transaction as its client knows it.
#[derive(Debug)]
struct Open {
    read_only: bool,
    /// Begun by autocommit being off.
    implicit: bool,
    writes: Vec<(usize, usize)>,
}

/// What a client knows.
#[derive(Debug)]
pub struct Mind {
    client: usize,
    consistency: Consistency,
    /// It is told at the end of rows what they changed.
    deprecates_eof: bool,
    pub database: &'static str,
    errors: usize,
    /// Which session of the client it is.
    session: u64,
    login: Login,
    /// What it logged in with; none after a reset of its own.
    collation: Option<u8>,
    variable: Option<usize>,
    insert_id: usize,
    locks: usize,
    open: Option<Open>,
    /// The position of its last write of each key.
    written: Floors,
    /// What the next read must have seen at least.
    floor: u64,
    /// Promotions when the session began.
    promotions: Option<u64>,
}

impl Mind {
    pub fn new(client: usize, consistency: Consistency, deprecates_eof: bool) -> Self {
        Self {
            client,
            consistency,
            deprecates_eof,
            database: "shop",
            errors: ERRORS_DEFAULT,
            session: 0,
            login: Login::default(),
            collation: None,
            variable: None,
            insert_id: 0,
            locks: 0,
            open: None,
            written: Floors::new(),
            floor: 0,
            promotions: None,
        }
    }

    /// A new session.
    pub fn forget(&mut self) {
        let new = Self::new(self.client, self.consistency, self.deprecates_eof);
        *self = Self { session: self.session + 1, ..new };
    }

    /// It logs in.
    pub const fn log_in(&mut self, login: Login, collation: u8) {
        (self.login, self.collation) = (login, Some(collation));
    }

    /// COM_RESET_CONNECTION.
    pub fn reset(&mut self) {
        let (written, database) = (std::mem::take(&mut self.written), self.database);
        let (session, login) = (self.session + 1, self.login);
        let new = Self::new(self.client, self.consistency, self.deprecates_eof);
        *self = Self { written, database, session, login, ..new };
    }

    pub const fn is_in_transaction(&self) -> bool {
        self.open.is_some()
    }

    /// A statement is about to be sent.
    pub fn ask(&mut self, id: usize, truth: &mut Truth) {
        truth.records[id].ground = Some(Ground {
            login: self.login,
            session: self.session,
            errors: self.errors,
            database: self.database,
            collation: self.collation,
        });
        self.promotions.get_or_insert(truth.tally.promotions);
        // Within a transaction nothing newer than its beginning is asked for.
        let Statement::Read { key, .. } = truth.records[id].statement else { return };
        let written = self.written.get(&key).copied().unwrap_or(0);
        self.floor = match self.consistency {
            Consistency::Eventual => 0,
            Consistency::Global if self.open.is_none() => truth.acknowledged(key).max(written),
            _ => written,
        };
    }

    /// An answer came. True: it is an error, and that is right. Errors: what cannot be.
    pub fn judge(&mut self, id: usize, heard: &Heard, truth: &mut Truth) -> Result<bool, String> {
        let statement = truth.records[id].statement;
        let locks = matches!(statement, Statement::Read { locks: true, .. });
        let must_not =
            (statement.writes().is_some() || locks) && self.open.as_ref().is_some_and(|open| open.read_only);
        match heard {
            Heard::Err(code, text) => {
                truth.records[id].fate = Fate::Failed(*code, text.clone());
                self.failed(statement, *code, truth);
                return Ok(must_not && *code == 1792);
            }
            _ if must_not => return Err(format!("a write within a read only transaction: {heard:?}")),
            Heard::Ok { status, insert_id } => {
                self.done(statement, *insert_id, truth)?;
                self.check_status(*status)?;
            }
            Heard::Row { status, row } => {
                self.row(statement, row, truth)?;
                self.done(statement, 0, truth)?;
                // Only the primary knows insert ids, and answers of its own session.
                let is_id = matches!(statement, Statement::InsertId { .. });
                if !(is_id && self.open.as_ref().is_some_and(|open| open.read_only)) {
                    self.check_status(*status)?;
                }
            }
            Heard::Prepared(_) => return Err("answered as if it had been prepared".to_owned()),
        }
        truth.tally.survived += u64::from(self.promotions != Some(truth.tally.promotions));
        Ok(false)
    }

    fn failed(&mut self, statement: Statement, code: u16, truth: &mut Truth) {
        let ends = matches!(
            statement,
            Statement::Commit { .. } | Statement::Rollback { .. } | Statement::Autocommit { on: true, .. }
        );
        if !ends {
            return;
        }
        let open = self.open.take();
        if code == 1290 {
            // The server has rolled it back.
            for (_, id) in open.into_iter().flat_map(|open| open.writes) {
                truth.records[id].fate = Fate::Undone;
            }
        }
    }

    fn done(&mut self, statement: Statement, insert_id: usize, truth: &mut Truth) -> Result<(), String> {
        let id = statement.id();
        truth.records[id].fate = Fate::Done;
        let open = |read_only, implicit| Some(Open { read_only, implicit, writes: Vec::new() });
        match statement {
            Statement::Begin { read_only, .. } => self.open = open(read_only, false),
            Statement::Autocommit { on: false, .. } => self.open = open(false, true),
            Statement::Commit { .. } | Statement::Autocommit { on: true, .. } => {
                for (key, id) in self.open.take().into_iter().flat_map(|open| open.writes) {
                    self.acknowledge(key, id, true, truth);
                }
            }
            Statement::Rollback { .. } => {
                for (_, id) in self.open.take().into_iter().flat_map(|open| open.writes) {
                    truth.records[id].fate = Fate::Undone;
                }
            }
            Statement::SetVariable { .. } => self.variable = Some(id),
            Statement::SetSession { value, .. } => self.errors = value,
            Statement::Insert { .. } if insert_id != id => {
                return Err(format!("the insert id is {insert_id}"));
            }
            Statement::Insert { .. } | Statement::SetInsertId { .. } => self.insert_id = id,
            Statement::Lock { .. } => self.locks += 1,
            Statement::Unlock { .. } => self.locks = 0,
            _ => {}
        }
        if let Some(key) = statement.writes() {
            match &mut self.open {
                Some(open) => {
                    truth.records[id].fate = Fate::Open;
                    open.writes.push((key, id));
                }
                None => {
                    let has_rows = matches!(statement, Statement::Function { .. } | Statement::View { .. });
                    self.acknowledge(key, id, self.deprecates_eof || !has_rows, truth);
                }
            }
        }
        Ok(())
    }

    /// `tells`: the answer says which position it is, so that others can wait for it.
    fn acknowledge(&mut self, key: usize, id: usize, tells: bool, truth: &mut Truth) {
        truth.acknowledge(id, tells);
        if let Some(position) = truth.records[id].applied.first() {
            let known = self.written.entry(key).or_default();
            *known = (*known).max(*position);
        }
    }

    fn check_status(&self, status: Status) -> Result<(), String> {
        let is_in = status.has(Status::IN_TRANS);
        match &self.open {
            Some(open) if open.implicit => Ok(()),
            Some(_) if !is_in => Err("the transaction is not open any more".to_owned()),
            None if is_in => Err("a transaction is open".to_owned()),
            _ => Ok(()),
        }
    }

    fn row(&self, statement: Statement, row: &[Option<Vec<u8>>], truth: &Truth) -> Result<(), String> {
        let at = |at: usize| number(row.get(at));
        let wrong = |what: &str| Err(format!("{what} in {row:?}"));
        match statement {
            Statement::Read { id, key, client, pad: count, .. } => {
                let filled = pad(client, count).into_bytes();
                if at(0) != Some(key) || at(2) != Some(id) || row.get(5) != Some(&Some(filled)) {
                    return wrong("a row of somebody else");
                }
                if at(3) != Some(self.errors) || row.get(4) != Some(&Some(self.database.into())) {
                    return Err(format!(
                        "read with max_error_count {:?} instead of {} and database {:?} instead of {}",
                        at(3),
                        self.errors,
                        row.get(4),
                        self.database
                    ));
                }
                self.value(key, at(1), truth)
            }
            Statement::Function { id, .. } if at(0) == Some(id) => Ok(()),
            Statement::View { id, key, .. } if (at(0), at(1)) == (Some(key), Some(id)) => Ok(()),
            Statement::InsertId { id } if at(1) == Some(id) && at(0) == Some(self.insert_id) => Ok(()),
            Statement::SetInsertId { id } if at(0) == Some(id) => Ok(()),
            Statement::Lock { id } if (at(0), at(1)) == (Some(1), Some(id)) => Ok(()),
            Statement::Unlock { id } if (at(0), at(1)) == (Some(self.locks), Some(id)) => Ok(()),
            Statement::Lock { .. } | Statement::Unlock { .. } => wrong("not its locks"),
            Statement::InsertId { .. } => wrong("not the last insert id"),
            Statement::ReadVariable { id } if at(1) == Some(id) && at(0) == self.variable => Ok(()),
            Statement::ReadVariable { .. } => wrong("not the variable"),
            _ => wrong("a wrong row"),
        }
    }

    /// The value of a key, which is the id of the statement that wrote it.
    fn value(&self, key: usize, value: Option<usize>, truth: &Truth) -> Result<(), String> {
        let value = value.ok_or("no value")?;
        let own = self.open.iter().flat_map(|open| &open.writes).rev().find(|(own, _)| *own == key);
        if let Some((_, id)) = own {
            let right = value == *id;
            return if right { Ok(()) } else { Err(format!("{value} instead of {id}, its own write")) };
        }
        let mut position = 0;
        if value != 0 {
            let record = truth.records.get(value).ok_or("a value that nobody wrote")?;
            if record.statement.writes() != Some(key) {
                return Err(format!("key {key} has what was written to another: {record:?}"));
            }
            if owner_of(key).is_some_and(|owner| owner != record.client || owner != self.client) {
                return Err(format!("key {key} is not of {record:?}"));
            }
            position = *record.applied.first().ok_or("a value that is not in the log")?;
        }
        if position < self.floor {
            return Err(format!(
                "key {key} is {value} of position {position}, and {} was there before ({:?}); keys of a client: {KEYS_EACH}",
                self.floor, self.consistency
            ));
        }
        Ok(())
    }
}
