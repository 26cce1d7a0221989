//! What a session remembers: its transaction, its settings, and what keeps it on a server.
//!
//! What goes in: how each statement went ([`SessionState::after`]), and what servers tell (`told_*`), which wins. What comes out: what
//! [`super::decide`] asks for, and the [`Pin`]s that keep a connection from being given away. It owns all of it, in a
//! bounded space. Always true: a name that there was no room for leaves its pin in place until the session is reset.

use arrayvec::ArrayVec;

use super::Place;
use crate::limits::SQL_SESSION_NAMES_MAX;
use crate::mysql::lexer::{Charset, Dialect};
use crate::mysql::verdict::{Effects, Judged, Name, Rule, Verdict};
use crate::mysql::words::exact_hash;

/// The session's transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transaction {
    /// None is open.
    None,
    /// One that may write, on the primary.
    ReadWrite,
    /// One that only reads, there.
    ReadOnly(Place),
}

/// What keeps a session on its server connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pin {
    /// An open transaction.
    Transaction,
    /// A distributed transaction.
    Xa,
    /// SET TRANSACTION waits for its transaction.
    Next,
    /// Temporary tables.
    Temporary,
    /// LOCK TABLES.
    TableLocks,
    /// FLUSH TABLES WITH READ LOCK.
    ReadLock,
    /// BACKUP STAGE, BACKUP LOCK, LOCK INSTANCE.
    BackupLock,
    /// GET_LOCK.
    NamedLocks,
    /// HANDLER OPEN.
    Handlers,
    /// User variables.
    Variables,
    /// Statements prepared by text.
    Prepared,
    /// SQL_CALC_FOUND_ROWS, until the next statement.
    FoundRows,
    /// A procedure or an unknown statement may have left anything.
    Opaque,
}

impl Pin {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 13] = [
        Self::Transaction,
        Self::Xa,
        Self::Next,
        Self::Temporary,
        Self::TableLocks,
        Self::ReadLock,
        Self::BackupLock,
        Self::NamedLocks,
        Self::Handlers,
        Self::Variables,
        Self::Prepared,
        Self::FoundRows,
        Self::Opaque,
    ];

    /// A short, stable word for metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Transaction => "transaction",
            Self::Xa => "xa",
            Self::Next => "next-transaction",
            Self::Temporary => "temporary-tables",
            Self::TableLocks => "table-locks",
            Self::ReadLock => "read-lock",
            Self::BackupLock => "backup-lock",
            Self::NamedLocks => "named-locks",
            Self::Handlers => "handlers",
            Self::Variables => "user-variables",
            Self::Prepared => "text-prepared",
            Self::FoundRows => "found-rows",
            Self::Opaque => "opaque",
        }
    }
}

/// Status bits of OK packets (SERVER_STATUS_*).
const IN_TRANSACTION: u16 = 0x1;
const AUTOCOMMIT: u16 = 0x2;
const NO_BACKSLASH_ESCAPES: u16 = 0x200;
const IN_READ_ONLY: u16 = 0x2000;

/// Named things, with a count, in a bounded space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Names {
    known: ArrayVec<(u64, u32), SQL_SESSION_NAMES_MAX>,
    /// There are some whose names are not known.
    others: bool,
}

impl Names {
    fn is_empty(&self) -> bool {
        self.known.is_empty() && !self.others
    }

    fn add(&mut self, key: u64, counted: bool) {
        match self.known.iter_mut().find(|(known, _)| *known == key) {
            Some((_, count)) => *count = if counted { count.saturating_add(1) } else { 1 },
            None => self.others |= self.known.try_push((key, 1)).is_err(),
        }
    }

    fn remove(&mut self, key: u64) {
        if let Some((_, count)) = self.known.iter_mut().find(|(known, _)| *known == key) {
            *count -= 1;
        }
        self.known.retain(|(_, count)| *count > 0);
    }
}

/// What a session remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionState {
    dialect: Dialect,
    transaction: Transaction,
    xa: bool,
    autocommit: bool,
    /// `SET SESSION TRANSACTION READ ONLY` of the client's own.
    read_only: bool,
    serializable: bool,
    log_off: bool,
    /// SET TRANSACTION was said; whether READ ONLY.
    next: Option<bool>,
    last: Place,
    /// A hash of the default schema's name.
    schema: u64,
    variables: Option<Place>,
    locks: Names,
    temporary: Names,
    prepared: ArrayVec<(u64, Judged), SQL_SESSION_NAMES_MAX>,
    prepared_others: bool,
    table_locks: bool,
    read_lock: bool,
    backup_lock: bool,
    handlers: u32,
    found_rows: bool,
    opaque: bool,
}

impl SessionState {
    /// A new session, or one that was reset.
    pub fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            transaction: Transaction::None,
            xa: false,
            autocommit: true,
            read_only: false,
            serializable: false,
            log_off: false,
            next: None,
            last: Place::Primary,
            schema: 0,
            variables: None,
            locks: Names::default(),
            temporary: Names::default(),
            prepared: ArrayVec::new(),
            prepared_others: false,
            table_locks: false,
            read_lock: false,
            backup_lock: false,
            handlers: 0,
            found_rows: false,
            opaque: false,
        }
    }

    /// How the session's next text is read.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The transaction that is open.
    pub fn transaction(&self) -> Transaction {
        self.transaction
    }

    /// A distributed transaction is open.
    pub fn in_xa(&self) -> bool {
        self.xa
    }

    /// Each statement is a transaction of its own.
    pub fn is_autocommit(&self) -> bool {
        self.autocommit
    }

    /// Every read locks.
    pub fn is_serializable(&self) -> bool {
        self.serializable
    }

    /// sql_log_bin is off.
    pub fn is_log_off(&self) -> bool {
        self.log_off
    }

    /// A transaction that does not say so only reads.
    pub fn begins_read_only(&self) -> bool {
        self.next.unwrap_or(self.read_only)
    }

    /// Where the statement ran that was no question about the one before.
    pub fn last_place(&self) -> Place {
        self.last
    }

    /// Where the user variables are.
    pub fn variables(&self) -> Option<Place> {
        self.variables
    }

    /// What was prepared under a name by text, if that is known.
    pub fn prepared(&self, name: &Name) -> Option<Judged> {
        self.prepared.iter().find(|(known, _)| *known == name.hash).map(|(_, judged)| *judged)
    }

    /// What keeps the session on its server connections.
    pub fn pins(&self) -> impl Iterator<Item = Pin> {
        [
            (Pin::Transaction, self.transaction != Transaction::None),
            (Pin::Xa, self.xa),
            (Pin::Next, self.next.is_some()),
            (Pin::Temporary, !self.temporary.is_empty()),
            (Pin::TableLocks, self.table_locks),
            (Pin::ReadLock, self.read_lock),
            (Pin::BackupLock, self.backup_lock),
            (Pin::NamedLocks, !self.locks.is_empty()),
            (Pin::Handlers, self.handlers > 0),
            (Pin::Variables, self.variables.is_some()),
            (Pin::Prepared, !self.prepared.is_empty() || self.prepared_others),
            (Pin::FoundRows, self.found_rows),
            (Pin::Opaque, self.opaque),
        ]
        .into_iter()
        .filter_map(|(pin, is)| is.then_some(pin))
    }

    /// The same as bits: that of a pin is its number in [`Pin::ALL`].
    pub fn pin_bits(&self) -> u16 {
        self.pins().fold(0, |bits, pin| bits | 1 << pin as u16)
    }

    /// A statement ran there. `ok`: it did not end in an error. `status`: the flags of the OK packet that ended it, if
    /// there were any, which win over the text.
    pub fn after(&mut self, verdict: &Verdict, ran_on: Place, ok: bool, status: Option<u16>) {
        let effects = verdict.effects | self.executed(verdict);
        let asks = effects.has(Effects::READS_DIAGNOSTICS) && verdict.rule == Rule::Diagnostics;
        if !asks {
            self.last = ran_on;
        }
        self.found_rows = ok && effects.has(Effects::FOUND_ROWS);
        self.begin_pins(verdict, effects, ran_on);
        // Of several, those before the one that failed have run.
        self.opaque |= !ok && effects.has(Effects::MANY);
        if ok {
            self.end_pins(verdict, effects);
            self.settings(effects);
            self.after_transaction(verdict, effects, ran_on);
        }
        if let Some(status) = status {
            self.told_status(ran_on, status);
        }
    }

    /// What an EXECUTE did that was prepared by text.
    fn executed(&self, verdict: &Verdict) -> Effects {
        if !verdict.effects.has(Effects::EXECUTES) {
            return Effects::NONE;
        }
        let known = verdict.names.first().and_then(|name| self.prepared(name));
        known.map_or(Effects::OPAQUE, |judged| judged.effects)
    }

    /// What begins even if the statement failed half-way.
    fn begin_pins(&mut self, verdict: &Verdict, effects: Effects, ran_on: Place) {
        if effects.has(Effects::WRITES_VARIABLES) {
            self.variables.get_or_insert(ran_on);
        }
        if effects.has(Effects::TAKES_LOCK) {
            match verdict.names.first() {
                Some(name) => self.locks.add(name.hash, true),
                None => self.locks.others = true,
            }
        }
        self.locks.others |= effects.has(Effects::TAKES_LOCKS);
        self.opaque |= effects.has(Effects::OPAQUE);
        if effects.has(Effects::CREATES_TEMPORARY) {
            match verdict.names.first().filter(|_| !effects.has(Effects::MANY)) {
                Some(name) => self.temporary.add(self.table_key(name), false),
                None => self.temporary.others = true,
            }
        }
        self.table_locks |= effects.has(Effects::LOCKS_TABLES);
        self.read_lock |= effects.has(Effects::READ_LOCK);
        self.backup_lock |= effects.has(Effects::BACKUP_LOCK);
    }

    fn end_pins(&mut self, verdict: &Verdict, effects: Effects) {
        if effects.has(Effects::OPENS_HANDLER) {
            self.handlers = self.handlers.saturating_add(1);
        }
        if effects.has(Effects::CLOSES_HANDLER) {
            self.handlers = self.handlers.saturating_sub(1);
        }
        if effects.has(Effects::UNLOCKS_TABLES) {
            (self.table_locks, self.read_lock) = (false, false);
        }
        if effects.has(Effects::BACKUP_UNLOCK) {
            self.backup_lock = false;
        }
        if effects.has(Effects::RELEASES_LOCKS) {
            self.locks = Names::default();
        }
        for name in &verdict.names {
            if effects.has(Effects::RELEASES_LOCK) {
                self.locks.remove(name.hash);
            }
            if effects.has(Effects::DROPS_TABLES) {
                let key = self.table_key(name);
                self.temporary.remove(key);
            }
            if effects.has(Effects::PREPARES | Effects::DEALLOCATES) {
                self.prepared.retain(|(known, _)| *known != name.hash);
            }
            if effects.has(Effects::PREPARES) {
                let unknown = verdict.inner.is_none() || effects.has(Effects::MANY);
                let entry = verdict.inner.filter(|_| !unknown).map(|inner| (name.hash, inner));
                let kept = entry.is_some_and(|entry| self.prepared.try_push(entry).is_ok());
                self.prepared_others |= !kept;
            }
        }
    }

    fn table_key(&self, name: &Name) -> u64 {
        let schema = if name.schema == 0 { self.schema } else { name.schema };
        schema.rotate_left(32) ^ name.hash
    }

    fn settings(&mut self, effects: Effects) {
        if effects.has(Effects::AUTOCOMMIT_ON | Effects::AUTOCOMMIT_OFF) {
            let on = effects.has(Effects::AUTOCOMMIT_ON);
            if on && !self.autocommit {
                self.transaction = Transaction::None;
            }
            self.autocommit = on;
        }
        if effects.has(Effects::LOG_ON | Effects::LOG_OFF) {
            self.log_off = effects.has(Effects::LOG_OFF);
        }
        if effects.has(Effects::SETS_TRANSACTIONS) {
            if effects.has(Effects::READ_ONLY | Effects::READ_WRITE) {
                self.read_only = !effects.has(Effects::READ_WRITE);
            }
            if effects.has(Effects::SERIALIZABLE | Effects::ISOLATION) {
                self.serializable = effects.has(Effects::SERIALIZABLE);
            }
        }
        if effects.has(Effects::SETS_NEXT) {
            let said = effects.has(Effects::READ_ONLY) && !effects.has(Effects::READ_WRITE);
            self.next = Some(said || (self.next == Some(true) && !effects.has(Effects::READ_WRITE)));
        }
    }

    /// What the text says about the transaction.
    fn after_transaction(&mut self, verdict: &Verdict, effects: Effects, ran_on: Place) {
        let was = self.transaction;
        if effects.has(Effects::COMMITS | Effects::ENDS) {
            self.transaction = Transaction::None;
        }
        if effects.has(Effects::XA_ENDS) {
            self.xa = false;
        }
        self.xa |= effects.has(Effects::XA_BEGINS);
        if effects.has(Effects::CHAINS) {
            self.transaction = match was {
                Transaction::None => Transaction::ReadWrite,
                open => open,
            };
        } else if effects.has(Effects::BEGINS) {
            let says = effects.has(Effects::READ_ONLY | Effects::READ_WRITE);
            let reads = if says { !effects.has(Effects::READ_WRITE) } else { self.begins_read_only() };
            let reads = reads && !self.xa;
            self.transaction = if reads { Transaction::ReadOnly(ran_on) } else { Transaction::ReadWrite };
            self.table_locks = false;
        } else if self.is_data(verdict, effects) && !self.autocommit && was == Transaction::None {
            let reads = ran_on == Place::Replica || self.begins_read_only();
            self.transaction = if reads { Transaction::ReadOnly(ran_on) } else { Transaction::ReadWrite };
        }
        let used =
            effects.has(Effects::BEGINS | Effects::ENDS | Effects::COMMITS) || self.is_data(verdict, effects);
        if used && !effects.has(Effects::SETS_NEXT) {
            self.next = None;
        }
    }

    /// Whether a statement may use tables, and so begin a transaction of its own.
    fn is_data(&self, verdict: &Verdict, effects: Effects) -> bool {
        let states = Effects::SETS_SESSION
            | Effects::SETS_SCHEMA
            | Effects::SETS_NEXT
            | Effects::SETS_GLOBAL
            | Effects::COMMITS
            | Effects::ENDS;
        !effects.has(states)
            && !matches!(verdict.rule, Rule::Diagnostics | Rule::Savepoint | Rule::Kill | Rule::Empty)
    }

    /// The flags of an OK packet from there.
    pub fn told_status(&mut self, place: Place, status: u16) {
        let open = status & IN_TRANSACTION != 0;
        if open && status & IN_READ_ONLY != 0 {
            self.transaction = Transaction::ReadOnly(place);
        } else if open {
            // On a replica nothing can write: the fence is set.
            self.transaction = match place {
                Place::Primary => Transaction::ReadWrite,
                Place::Replica => Transaction::ReadOnly(place),
            };
        } else if self.transaction != Transaction::None && self.is_of(place) {
            self.transaction = Transaction::None;
            self.xa = false;
        }
        if place == Place::Primary {
            self.autocommit = status & AUTOCOMMIT != 0;
            self.dialect.no_backslash_escapes = status & NO_BACKSLASH_ESCAPES != 0;
        }
    }

    /// Whether the open transaction is there.
    fn is_of(&self, place: Place) -> bool {
        match self.transaction {
            Transaction::None => false,
            Transaction::ReadWrite => place == Place::Primary,
            Transaction::ReadOnly(open) => open == place,
        }
    }

    /// The transaction tracker from there: `T_R_WsS_`, `________`, `_______L`.
    pub fn told_transaction_state(&mut self, place: Place, state: &[u8]) {
        match state.first() {
            Some(b'_') if self.is_of(place) => {
                self.transaction = Transaction::None;
                self.xa = false;
            }
            Some(b'T' | b'I') if !self.is_of(place) => {
                self.transaction = match place {
                    Place::Primary => Transaction::ReadWrite,
                    Place::Replica => Transaction::ReadOnly(place),
                };
            }
            _ => {}
        }
        if place == Place::Primary
            && let Some(lock) = state.get(7)
        {
            self.table_locks = *lock == b'L';
        }
    }

    /// A variable's value, as the primary tells it.
    pub fn told_variable(&mut self, name: &[u8], value: &[u8]) {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        let is_on = [&b"1"[..], b"ON"].iter().any(|on| value.eq_ignore_ascii_case(on));
        match () {
            () if is("autocommit") => self.autocommit = is_on,
            () if is("sql_mode") => self.dialect.set_sql_mode(value),
            () if is("character_set_client") => {
                self.dialect.charset = Charset::by_name(value).unwrap_or(Charset::Other);
            }
            () if is("tx_isolation") || is("transaction_isolation") => {
                self.serializable = value.eq_ignore_ascii_case(b"SERIALIZABLE");
            }
            () if is("tx_read_only") || is("transaction_read_only") => self.read_only = is_on,
            () if is("sql_log_bin") => self.log_off = !is_on,
            () => {}
        }
    }

    /// The primary tells a change of state after a statement whose text does not say which: it may have been a temporary
    /// table.
    pub fn told_hidden(&mut self) {
        self.temporary.others = true;
    }

    /// The default schema's name, as the primary tells it.
    pub fn told_schema(&mut self, name: &[u8]) {
        self.schema = exact_hash(name);
    }

    /// A server connection was lost, and what lived on it.
    pub fn lost(&mut self, place: Place) {
        if self.is_of(place) {
            (self.transaction, self.xa) = (Transaction::None, false);
        }
        if self.variables == Some(place) {
            self.variables = None;
        }
        if place == Place::Primary {
            let kept =
                Self { transaction: self.transaction, variables: self.variables, ..Self::new(self.dialect) };
            *self = Self {
                autocommit: self.autocommit,
                read_only: self.read_only,
                serializable: self.serializable,
                schema: self.schema,
                ..kept
            };
        }
    }
}
