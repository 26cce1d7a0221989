//! Facts of the protocol: capabilities, status flags, character sets whose second bytes are dangerous, server versions.
//!
//! Numbers go in, names come out. Owns nothing. Always true: MySQL's 32 capabilities are the lower half of
//! [`Capabilities`], MariaDB's extended ones the upper half. Commands stand in [`super::command`], errors in
//! [`super::errors`].

#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::{BitAnd, BitOr};

/// What one side of a connection can do, or both.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities(pub u64);

macro_rules! capabilities {
    ($($(#[$about:meta])* $name:ident = $bit:literal;)*) => {
        impl Capabilities {
            $($(#[$about])* pub const $name: Self = Self(1 << $bit);)*

            const NAMES: &'static [(Self, &'static str)] = &[$((Self::$name, stringify!($name))),*];
        }
    };
}

capabilities! {
    /// CLIENT_LONG_PASSWORD of MySQL. MariaDB calls it CLIENT_MYSQL: a server or client that does not set it speaks
    /// MariaDB's extended capabilities.
    MYSQL = 0;
    /// Affected rows are found rows, not changed rows.
    FOUND_ROWS = 1;
    /// More flags of columns.
    LONG_FLAG = 2;
    /// The login names a database.
    CONNECT_WITH_DB = 3;
    /// `db.table.column` is not allowed.
    NO_SCHEMA = 4;
    /// The compressed protocol with zlib.
    COMPRESS = 5;
    /// ODBC; without effect.
    ODBC = 6;
    /// LOAD DATA LOCAL.
    LOCAL_FILES = 7;
    /// Blanks before `(` of functions.
    IGNORE_SPACE = 8;
    /// The protocol since 4.1.
    PROTOCOL_41 = 9;
    /// `interactive_timeout` instead of `wait_timeout`.
    INTERACTIVE = 10;
    /// TLS.
    SSL = 11;
    /// No SIGPIPE; of clients only.
    IGNORE_SIGPIPE = 12;
    /// Status flags in OK packets.
    TRANSACTIONS = 13;
    /// Formerly the 4.1 protocol.
    RESERVED = 14;
    /// 20 byte scrambles (CLIENT_RESERVED2, formerly CLIENT_SECURE_CONNECTION).
    SECURE_CONNECTION = 15;
    /// Several statements in one COM_QUERY.
    MULTI_STATEMENTS = 16;
    /// Several results of one COM_QUERY.
    MULTI_RESULTS = 17;
    /// Several results of one COM_STMT_EXECUTE.
    PS_MULTI_RESULTS = 18;
    /// Authentication plugins by name.
    PLUGIN_AUTH = 19;
    /// Connection attributes.
    CONNECT_ATTRS = 20;
    /// The answer of a login has a length-encoded length.
    PLUGIN_AUTH_LENENC = 21;
    /// The client can live with an expired password.
    CAN_HANDLE_EXPIRED_PASSWORDS = 22;
    /// Session state in OK packets.
    SESSION_TRACK = 23;
    /// No EOF packets; results end with an OK packet.
    DEPRECATE_EOF = 24;
    /// MySQL: results without metadata.
    OPTIONAL_RESULTSET_METADATA = 25;
    /// The compressed protocol with zstd.
    ZSTD = 26;
    /// MySQL: attributes of queries.
    QUERY_ATTRIBUTES = 27;
    /// MySQL: several factors of authentication.
    MULTI_FACTOR_AUTHENTICATION = 28;
    /// Progress reports, before they moved to MariaDB's half.
    PROGRESS_OLD = 29;
    /// The client verifies the server's certificate; of clients only.
    SSL_VERIFY_SERVER_CERT = 30;
    /// The client remembers options; of clients only.
    REMEMBER_OPTIONS = 31;
    /// MariaDB: progress reports within ERR packets.
    MARIADB_PROGRESS = 32;
    /// MariaDB: COM_MULTI, which no version has any more.
    MARIADB_COM_MULTI = 33;
    /// MariaDB: COM_STMT_BULK_EXECUTE.
    MARIADB_BULK = 34;
    /// MariaDB: extended types in column definitions.
    MARIADB_EXTENDED_METADATA = 35;
    /// MariaDB: results of prepared statements without metadata.
    MARIADB_CACHE_METADATA = 36;
    /// MariaDB: a result set with ids and counts for a bulk execution.
    MARIADB_BULK_UNIT_RESULTS = 37;
}

impl Capabilities {
    /// None.
    pub const NONE: Self = Self(0);
    /// Those that change the form of answers in a way that [`super::reply::Reply`] does not follow. They are neither
    /// announced to clients nor asked of servers.
    pub const NOT_SPOKEN: Self = Self(
        Self::OPTIONAL_RESULTSET_METADATA.0
            | Self::PROGRESS_OLD.0
            | Self::MULTI_FACTOR_AUTHENTICATION.0
            | Self::MARIADB_PROGRESS.0
            | Self::MARIADB_COM_MULTI.0
            | Self::MARIADB_CACHE_METADATA.0,
    );

    /// Those that change the form of packets both ways, so that a client's commands and a server's answers can be passed on
    /// only where both have them.
    pub const FORMS: Self = Self(
        Self::QUERY_ATTRIBUTES.0
            | Self::MARIADB_BULK.0
            | Self::MARIADB_EXTENDED_METADATA.0
            | Self::MARIADB_BULK_UNIT_RESULTS.0,
    );

    /// Which of [`Capabilities::FORMS`] servers of this version have.
    pub fn forms_of(version: Version) -> Self {
        let since = |number: u32, form: Self| if version.number >= number { form.0 } else { 0 };
        match version.vendor {
            Vendor::MySql => Self(since(80_023, Self::QUERY_ATTRIBUTES)),
            Vendor::MariaDb => Self(
                since(100_200, Self::MARIADB_BULK)
                    | since(100_502, Self::MARIADB_EXTENDED_METADATA)
                    | since(110_501, Self::MARIADB_BULK_UNIT_RESULTS),
            ),
        }
    }

    /// Whether all of `other` are among them.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These without others.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// MySQL's half.
    pub const fn mysql(self) -> u32 {
        self.0 as u32
    }

    /// MariaDB's half.
    pub const fn mariadb(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl BitOr for Capabilities {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for Capabilities {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_set()
            .entries(Self::NAMES.iter().filter(|(flag, _)| self.has(*flag)).map(|(_, name)| name))
            .finish()
    }
}

/// The state of a session as OK and EOF packets and the greeting tell it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status(pub u16);

impl Status {
    /// A transaction is open.
    pub const IN_TRANS: Self = Self(1);
    /// autocommit is on.
    pub const AUTOCOMMIT: Self = Self(1 << 1);
    /// A further result follows.
    pub const MORE_RESULTS_EXISTS: Self = Self(1 << 3);
    /// No good index was used.
    pub const NO_GOOD_INDEX_USED: Self = Self(1 << 4);
    /// No index was used.
    pub const NO_INDEX_USED: Self = Self(1 << 5);
    /// A cursor was opened: rows come by COM_STMT_FETCH.
    pub const CURSOR_EXISTS: Self = Self(1 << 6);
    /// The last row of a cursor was sent.
    pub const LAST_ROW_SENT: Self = Self(1 << 7);
    /// A database was dropped.
    pub const DB_DROPPED: Self = Self(1 << 8);
    /// `\` is no escape in strings.
    pub const NO_BACKSLASH_ESCAPES: Self = Self(1 << 9);
    /// The metadata of a prepared statement changed.
    pub const METADATA_CHANGED: Self = Self(1 << 10);
    /// The statement was slow.
    pub const QUERY_WAS_SLOW: Self = Self(1 << 11);
    /// The result holds OUT parameters.
    pub const PS_OUT_PARAMS: Self = Self(1 << 12);
    /// The open transaction is read-only.
    pub const IN_TRANS_READONLY: Self = Self(1 << 13);
    /// The OK packet has session state information.
    pub const SESSION_STATE_CHANGED: Self = Self(1 << 14);
    /// MariaDB: `"` quotes identifiers.
    pub const ANSI_QUOTES: Self = Self(1 << 15);

    /// Whether all of `other` are set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The same with this flag, or without it.
    pub const fn set(self, flag: Self, is_set: bool) -> Self {
        if is_set { self.with(flag) } else { self.without(flag) }
    }

    /// These without others.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// These and others.
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Character sets of clients in which the second byte of a character may be `\`, a backtick or a letter, so that a lexer
/// has to know characters from bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Multibyte {
    /// Traditional Chinese.
    Big5,
    /// Simplified Chinese.
    Gbk,
    /// Japanese.
    Sjis,
    /// Japanese, as Windows has it.
    Cp932,
    /// Simplified Chinese with characters of four bytes; MySQL only.
    Gb18030,
}

impl Multibyte {
    /// Of a collation's id, as a handshake and COM_CHANGE_USER say it. MariaDB's NOPAD collations have the id of the
    /// padding one and 1024.
    pub const fn of_collation(id: u16) -> Option<Self> {
        match id {
            1 | 84 | 1025 | 1108 => Some(Self::Big5),
            28 | 87 | 1052 | 1111 => Some(Self::Gbk),
            13 | 88 | 1037 | 1112 => Some(Self::Sjis),
            95 | 96 | 1119 | 1120 => Some(Self::Cp932),
            248..=250 => Some(Self::Gb18030),
            _ => None,
        }
    }

    /// Of a character set's name, as `character_set_client` has it.
    pub fn of_name(name: &[u8]) -> Option<Self> {
        const NAMES: [(&[u8], Multibyte); 5] = [
            (b"big5", Multibyte::Big5),
            (b"gbk", Multibyte::Gbk),
            (b"sjis", Multibyte::Sjis),
            (b"cp932", Multibyte::Cp932),
            (b"gb18030", Multibyte::Gb18030),
        ];
        NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, set)| *set)
    }
}

/// Whose server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// MySQL and what is made of it (Percona Server).
    MySql,
    /// MariaDB.
    MariaDb,
}

/// A server's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Whose.
    pub vendor: Vendor,
    /// As in executable comments: 10.11.19 is 101119, 9.7.4 is 90704.
    pub number: u32,
}

impl Version {
    /// From a greeting or `@@version`: `5.5.5-10.11.19-MariaDB-log`, `9.7.4`, `8.0.36-28`. The prefix `5.5.5-` is what
    /// MariaDB before 11 puts before its version in greetings, for replicas that knew no 10.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let told = text.strip_prefix(b"5.5.5-").unwrap_or(text);
        let mariadb =
            told.len() < text.len() || told.windows(7).any(|word| word.eq_ignore_ascii_case(b"mariadb"));
        let vendor = if mariadb { Vendor::MariaDb } else { Vendor::MySql };
        let mut number = 0;
        let mut parts = told.split(|byte| !byte.is_ascii_digit());
        for index in 0..3 {
            let digits = parts.next().filter(|digits| (1..=3).contains(&digits.len()))?;
            let part = digits.iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
            if index > 0 && part > 99 {
                return None;
            }
            number = number * 100 + part;
        }
        Some(Self { vendor, number })
    }
}
