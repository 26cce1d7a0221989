//! What a statement's text says about where it belongs and what it leaves behind.
//!
//! What goes in: nothing; [`super::classify`] makes these. What comes out: [`Verdict`] and its parts. It owns nothing.
//! Always true: a verdict is a plain value of fixed size; names in it are positions in the text and hashes.

use arrayvec::ArrayVec;

use super::words::exact_hash;
use crate::limits::SQL_NAMES_MAX;

/// Where a statement belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// The server that takes writes.
    Primary,
    /// Any replica.
    Replica,
    /// The server that ran the statement before.
    Same,
    /// Session state: the primary runs it, and every other server gets it before its next statement.
    All,
    /// No server: it would not do what it says through a door.
    Refuse,
}

impl Target {
    /// Its name for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
            Self::Same => "same",
            Self::All => "all",
            Self::Refuse => "refuse",
        }
    }
}

macro_rules! rules {
    ($($(#[doc = $about:literal])* $name:ident $word:literal $text:literal,)*) => {
        /// What decided where a statement goes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Rule {
            $(#[doc = $text] $name,)*
        }

        impl Rule {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// A short, stable word for metrics and tests.
            pub fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// A sentence for people.
            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

rules! {
    // Of the text.
    Read "read" "it only reads",
    Function "function" "it calls a stored function: if that writes, the read only replica stops it",
    Write "write" "it changes data",
    Schema "schema" "it changes schemas, users or privileges",
    Maintenance "maintenance" "it maintains tables, logs or caches, and may be replicated",
    Unknown "unknown" "it is not understood, so it may write",
    Empty "empty" "there is no statement in it",
    Many "many" "it is several statements in one",
    Call "call" "a procedure may do anything",
    Block "block" "a block of statements may do anything",
    Locking "locking" "it locks the rows that it reads, which is of use on the primary alone",
    IntoFile "into-file" "it writes a file on the server",
    File "file" "it reads a file of the server",
    Sequence "sequence" "it moves or reads a sequence",
    NamedLock "named-lock" "named locks live on the primary",
    UserVariable "user-variable" "user variables live on one server",
    InsertId "insert-id" "the last insert id is known where the insert ran",
    Diagnostics "diagnostics" "it asks about the statement before, where that ran",
    ConnectionId "connection-id" "the connection's id is the primary's",
    Position "position" "it asks for, or waits for, a replication position",
    OneServer "one-server" "each server has its own answer, and the primary's is expected",
    ReplicaStatus "replica-status" "it asks how a replica is doing",
    Begin "begin" "it begins a transaction that may write",
    BeginReadOnly "begin-read-only" "it begins a transaction that only reads",
    End "end" "it ends a transaction where that is",
    Savepoint "savepoint" "it concerns the transaction that is open",
    Xa "xa" "distributed transactions are the primary's",
    SetSession "set-session" "it sets session state",
    SetNext "set-next" "it sets how the next transaction is",
    SetGlobal "set-global" "it sets the primary's own settings",
    SetLog "set-log" "it sets how writes are logged, which concerns the primary alone",
    SetAccount "set-account" "it changes an account",
    SetRole "set-role" "it sets the session's role",
    SetFor "set-for" "it sets variables for a statement that the read only replica may depend on",
    Schemata "use" "it chooses the default schema",
    TableLocks "table-locks" "table locks are the primary's",
    ReadLock "read-lock" "the global read lock is the primary's",
    BackupLock "backup-lock" "backup locks are the primary's",
    Handler "handler" "open handlers are the primary's",
    Temporary "temporary" "temporary tables live on the primary",
    Prepare "prepare" "statements prepared by text live on the primary",
    Execute "execute" "what was prepared by text is not known to only read",
    Load "load" "it loads data",
    Kill "kill" "it ends a connection or a statement",
    Administer "administer" "it is meant for one server: ask that server itself",
    ExplainWrite "explain-write" "it explains a write, which a read only replica refuses",
    // Of the session.
    InTransaction "in-transaction" "a transaction is open on the primary",
    InReadOnly "in-read-only" "a read only transaction is open on a replica",
    AutocommitOff "autocommit-off" "autocommit is off: any statement begins a transaction",
    ReadOnlySession "read-only-session" "the session's transactions only read",
    Serializable "serializable" "at isolation SERIALIZABLE every read locks",
    HoldsTemporary "holds-temporary" "the session has temporary tables",
    HoldsTableLocks "holds-table-locks" "the session holds table locks or the read lock",
    HoldsNamedLock "holds-named-lock" "the session holds a named lock, and reads under it must see the newest",
    HoldsNext "holds-next" "SET TRANSACTION waits for the next transaction",
    InXa "in-xa" "a distributed transaction is open",
    LogOff "log-off" "sql_log_bin is off: what is written does not reach the replicas",
    VariablesThere "variables-there" "the user variables that it uses are on the server that set them",
    VariablesElsewhere "variables-elsewhere" "the user variables that it uses were set on another server than it needs",
    PreparedRead "prepared-read" "what was prepared by text only reads",
    ReadsOff "reads-off" "reads = \"primary\"",
    // Of what happened.
    NoReplica "no-replica" "no replica can be used, or none has what the session wrote",
    NotSeen "not-seen" "the replica did not have in time what the session wrote",
    Command "command" "a command that is no statement goes to the primary",
    Long "long" "a statement that is too long to be looked at may write",
    Fenced "fenced" "a replica refused it: it writes, whatever its text seems to say",
}

macro_rules! effects {
    ($($name:ident $bit:literal $text:literal,)*) => {
        /// What a statement does to its session: a set.
        #[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
        pub struct Effects(u64);

        impl Effects {
            $(#[doc = $text] pub const $name: Self = Self(1 << $bit);)*
            const NAMES: &[(&'static str, Self)] = &[$((stringify!($name), Self::$name),)*];
        }
    };
}

effects! {
    BEGINS 0 "Begins a transaction at once.",
    READ_ONLY 1 "READ ONLY, said of the transaction that begins, of the next one, or of all of the session.",
    READ_WRITE 2 "READ WRITE, said of the same.",
    SNAPSHOT 3 "WITH CONSISTENT SNAPSHOT.",
    ENDS 4 "Commits or rolls back.",
    CHAINS 5 "AND CHAIN: another transaction of the same kind begins.",
    RELEASES 6 "RELEASE: the connection ends.",
    COMMITS 7 "Commits what is open before it runs (DDL and others).",
    AUTOCOMMIT_ON 8 "Sets autocommit to 1.",
    AUTOCOMMIT_OFF 9 "Sets autocommit to 0, or to what the text does not say.",
    SETS_SESSION 10 "Sets session variables, character sets, or the role.",
    SETS_SCHEMA 11 "Chooses the default schema.",
    SETS_NEXT 12 "SET TRANSACTION: the next transaction alone.",
    SETS_TRANSACTIONS 13 "SET SESSION TRANSACTION, or the variables of the same meaning.",
    SERIALIZABLE 14 "Isolation SERIALIZABLE, said of the next transaction or of all of the session.",
    ISOLATION 15 "Any other isolation level, said of the same.",
    SETS_GLOBAL 16 "Sets global or persistent variables.",
    LOG_OFF 17 "Sets sql_log_bin to 0, or to what the text does not say.",
    LOG_ON 18 "Sets sql_log_bin to 1.",
    WRITES_VARIABLES 19 "Sets user variables.",
    READS_VARIABLES 20 "Reads user variables.",
    TAKES_LOCK 21 "Takes the named lock whose name is in `names`.",
    TAKES_LOCKS 22 "Takes named locks whose names or number the text does not say.",
    RELEASES_LOCK 23 "Releases, once and surely, the named lock whose name is in `names`.",
    RELEASES_LOCKS 24 "Releases all named locks.",
    LOCKS_TABLES 25 "LOCK TABLES, or FLUSH TABLES of some tables WITH READ LOCK or FOR EXPORT.",
    UNLOCKS_TABLES 26 "UNLOCK TABLES.",
    READ_LOCK 27 "FLUSH TABLES WITH READ LOCK.",
    BACKUP_LOCK 28 "BACKUP STAGE, BACKUP LOCK, LOCK INSTANCE FOR BACKUP.",
    BACKUP_UNLOCK 29 "BACKUP STAGE END, BACKUP UNLOCK, UNLOCK INSTANCE.",
    OPENS_HANDLER 30 "HANDLER OPEN.",
    CLOSES_HANDLER 31 "HANDLER CLOSE.",
    CREATES_TEMPORARY 32 "Creates the temporary table in `names`.",
    DROPS_TABLES 33 "Drops the tables in `names`.",
    PREPARES 34 "PREPARE by text of the statement in `names`.",
    EXECUTES 35 "EXECUTE by text of the statement in `names`.",
    DEALLOCATES 36 "DEALLOCATE of the statement in `names`.",
    FOUND_ROWS 37 "SQL_CALC_FOUND_ROWS: the next statement may ask for the count.",
    READS_INSERT_ID 38 "LAST_INSERT_ID(), @@identity and the like.",
    WRITES_INSERT_ID 39 "LAST_INSERT_ID(n), SET last_insert_id, SET insert_id.",
    READS_DIAGNOSTICS 40 "ROW_COUNT(), FOUND_ROWS(), SHOW WARNINGS, GET DIAGNOSTICS and the like.",
    CONNECTION_ID 41 "CONNECTION_ID(), @@pseudo_thread_id.",
    XA_BEGINS 42 "XA START.",
    XA_ENDS 43 "XA COMMIT, XA ROLLBACK.",
    XA_GOES_ON 44 "XA END, XA PREPARE.",
    KILLS 45 "KILL: `kill` says whom.",
    LOADS_LOCAL 46 "LOAD DATA LOCAL: the client is asked for a file.",
    MANY 47 "More than one statement.",
    CALLS 48 "CALL of a procedure.",
    OPAQUE 49 "May leave anything behind that no tracker reports.",
    SET_STATEMENT 50 "SET STATEMENT ... FOR.",
    WAITS 51 "Asks for or waits for a replication position.",
    CALLS_UNKNOWN 52 "Calls a function that is not the server's own.",
    SEQUENCES 53 "Uses a sequence.",
    VERSIONED 54 "Has a numbered executable comment: servers of other versions may read it in another way.",
    SETS_TRACKERS 55 "Sets session_track_ variables.",
    SETS_READING 56 "Sets sql_mode or a character set: the session's next text may have to be read in another way.",
    SETS_ROLE 58 "Sets the session's role.",
    READS_LAST 57 "ROW_COUNT(), FOUND_ROWS(), GET DIAGNOSTICS, @@last_gtid: only the connection of the statement before knows it.",
}

impl Effects {
    /// None.
    pub const NONE: Self = Self(0);

    /// Both.
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether any of these is in it.
    pub const fn has(self, any: Self) -> bool {
        self.0 & any.0 != 0
    }

    /// Without these.
    pub const fn without(self, these: Self) -> Self {
        Self(self.0 & !these.0)
    }

    /// With these.
    pub const fn with(self, these: Self) -> Self {
        Self(self.0 | these.0)
    }
}

impl std::ops::BitOr for Effects {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.with(other)
    }
}

impl std::ops::BitOrAssign for Effects {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl std::fmt::Debug for Effects {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_set()
            .entries(Self::NAMES.iter().filter(|(_, bit)| self.has(*bit)).map(|(name, _)| name))
            .finish()
    }
}

/// Bytes of the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The first.
    pub start: usize,
    /// Behind the last.
    pub end: usize,
}

impl Span {
    /// The bytes.
    pub fn of<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        text.get(self.start..self.end).unwrap_or_default()
    }
}

/// A name in the text, without its quotes, and the schema before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// The name.
    pub span: Span,
    /// A hash of its bytes.
    pub hash: u64,
    /// A hash of the schema's name; zero when none is said.
    pub schema: u64,
}

impl Name {
    /// The name that stands in these bytes, which may be quoted.
    pub fn new(text: &[u8], start: usize, end: usize) -> Self {
        let is_quoted = matches!(text.get(start), Some(b'`' | b'"' | b'\'')) && end > start + 1;
        let span = if is_quoted { Span { start: start + 1, end: end - 1 } } else { Span { start, end } };
        Self { span, hash: exact_hash(span.of(text)), schema: 0 }
    }
}

/// Whom a KILL means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kill {
    /// The statement alone, not the connection.
    pub query: bool,
    /// MariaDB: `HARD` (the default) or `SOFT`.
    pub soft: bool,
    /// What the rest of the text names.
    pub whom: Whom,
}

/// How a KILL names whom it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// A connection, by the number in the text.
    Connection(u64),
    /// A statement, by its number (MariaDB's `QUERY ID`).
    Statement(u64),
    /// All connections of a user (MariaDB): the rest of the text is the account.
    User(Span),
    /// An expression.
    Other(Span),
}

/// A verdict without its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Where it belongs.
    pub target: Target,
    /// Why.
    pub rule: Rule,
    /// What it does to its session.
    pub effects: Effects,
}

/// What a text says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Where the statement belongs.
    pub target: Target,
    /// Why.
    pub rule: Rule,
    /// What it does to its session.
    pub effects: Effects,
    /// Its shape as a number.
    pub digest: u64,
    /// The names that the effects speak of; if more are in the text, only some of them.
    pub names: ArrayVec<Name, SQL_NAMES_MAX>,
    /// The text between the quotes of PREPARE and EXECUTE IMMEDIATE, if it can be read as it stands.
    pub prepared: Option<Span>,
    /// What PREPARE's text says, if it can be read.
    pub inner: Option<Judged>,
    /// Whom a KILL means.
    pub kill: Option<Kill>,
}

impl Verdict {
    /// Without its parts.
    pub fn judged(&self) -> Judged {
        Judged { target: self.target, rule: self.rule, effects: self.effects }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_have_words_of_their_own() {
        for (at, rule) in Rule::ALL.iter().enumerate() {
            let is_word = rule.word().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
            assert!(is_word && !rule.text().ends_with('.'), "{rule:?}");
            assert!(Rule::ALL[..at].iter().all(|other| other.word() != rule.word()), "{rule:?}");
        }
    }

    #[test]
    fn effects_are_one_bit_each() {
        let all = Effects::NAMES.iter().fold(0, |all, (name, bit)| {
            assert!(all & bit.0 == 0, "{name}");
            all | bit.0
        });
        assert_eq!(all.count_ones() as usize, Effects::NAMES.len());
        let some = Effects::BEGINS | Effects::READ_ONLY;
        assert!(some.has(Effects::READ_ONLY) && !some.without(Effects::BEGINS).has(Effects::BEGINS));
        assert_eq!(format!("{some:?}"), "{\"BEGINS\", \"READ_ONLY\"}");
    }
}
