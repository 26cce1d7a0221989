//! The errors with which we answer ourselves, under the numbers and SQLSTATEs of the servers, so that drivers treat them
//! as they treat a server's.
//!
//! Owns nothing. Always true: a client that would retry, reconnect or give up on a server's error does the same on ours.
//! Source: mysqld_error.h and errmsg-utf8.txt of MySQL 9 and MariaDB 10.11.

use super::generic::ErrPacket;
use super::lexer::Vendor;

/// Number and SQLSTATE of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// The number.
    pub number: u16,
    /// The SQLSTATE.
    pub sqlstate: [u8; 5],
}

macro_rules! codes {
    ($($(#[$about:meta])* $name:ident = $number:literal $sqlstate:literal;)*) => {
        impl Code {
            $($(#[$about])* pub const $name: Self = Self { number: $number, sqlstate: *$sqlstate };)*

            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
        }
    };
}

codes! {
    /// ER_CON_COUNT_ERROR: too many connections. Also when no server can be reached before the handshake.
    TOO_MANY_CONNECTIONS = 1040 b"08004";
    /// ER_HANDSHAKE_ERROR: what a client sent as its login cannot be read.
    BAD_HANDSHAKE = 1043 b"08S01";
    /// ER_DBACCESS_DENIED_ERROR: no access to the database.
    DATABASE_DENIED = 1044 b"42000";
    /// ER_ACCESS_DENIED_ERROR: wrong user or password.
    ACCESS_DENIED = 1045 b"28000";
    /// ER_BAD_FIELD_ERROR: a column that does not exist, or a text without its quotes.
    UNKNOWN_COLUMN = 1054 b"42S22";
    /// ER_PARSE_ERROR: a statement that is none.
    PARSE_ERROR = 1064 b"42000";
    /// ER_UNKNOWN_COM_ERROR: a command that is not spoken.
    UNKNOWN_COMMAND = 1047 b"08S01";
    /// ER_BAD_DB_ERROR: no such database.
    UNKNOWN_DATABASE = 1049 b"42000";
    /// ER_SERVER_SHUTDOWN: we are ending.
    SHUTDOWN = 1053 b"08S01";
    /// ER_NO_SUCH_THREAD: KILL of what does not exist.
    NO_SUCH_THREAD = 1094 b"HY000";
    /// ER_KILL_DENIED_ERROR: KILL of what belongs to somebody else.
    NOT_OWNER = 1095 b"HY000";
    /// ER_UNKNOWN_ERROR: anything else; the text says what.
    UNKNOWN = 1105 b"HY000";
    /// ER_HOST_NOT_PRIVILEGED: this address is not let in.
    HOST_DENIED = 1130 b"HY000";
    /// ER_NET_PACKET_TOO_LARGE: a packet over the bound.
    PACKET_TOO_LARGE = 1153 b"08S01";
    /// ER_NET_PACKETS_OUT_OF_ORDER: a wrong sequence id.
    OUT_OF_ORDER = 1156 b"08S01";
    /// ER_NET_UNCOMPRESS_ERROR: a compressed packet that is none.
    UNCOMPRESS = 1157 b"08S01";
    /// ER_NET_READ_INTERRUPTED: the client was too slow.
    READ_INTERRUPTED = 1159 b"08S01";
    /// ER_NEW_ABORTING_CONNECTION: the connection ends for a reason of ours.
    ABORTING = 1184 b"08S01";
    /// ER_TOO_MANY_USER_CONNECTIONS: too many of one user.
    TOO_MANY_OF_USER = 1203 b"42000";
    /// ER_NOT_SUPPORTED_YET: a statement that cannot be had through us.
    NOT_SUPPORTED = 1235 b"42000";
    /// ER_UNKNOWN_STMT_HANDLER: a prepared statement that does not exist.
    UNKNOWN_STATEMENT = 1243 b"HY000";
    /// ER_NOT_SUPPORTED_AUTH_MODE: a way of login that is not spoken.
    AUTH_MODE = 1251 b"08004";
    /// ER_OPTION_PREVENTS_STATEMENT: a server is read-only.
    READ_ONLY = 1290 b"HY000";
    /// ER_MAX_PREPARED_STMT_COUNT_REACHED.
    TOO_MANY_STATEMENTS = 1461 b"42000";
    /// ER_QUERY_INTERRUPTED: KILL QUERY.
    INTERRUPTED = 1317 b"70100";
    /// ER_MALFORMED_PACKET: a command that cannot be read.
    MALFORMED = 1835 b"HY000";
    /// ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION: what the fence answers.
    READ_ONLY_TRANSACTION = 1792 b"25006";
    /// ER_CONNECTION_KILLED of MariaDB: the connection was ended by somebody else.
    KILLED = 1927 b"70100";
    /// ER_ACCOUNT_HAS_BEEN_LOCKED of MySQL.
    ACCOUNT_LOCKED = 3118 b"HY000";
    /// ER_ACCOUNT_HAS_BEEN_LOCKED of MariaDB.
    ACCOUNT_LOCKED_MARIADB = 4151 b"HY000";
    /// CR_SERVER_LOST: the server of this session was lost; a statement may or may not have run. A number of the client
    /// library, on which drivers give the connection up.
    SERVER_LOST = 2013 b"HY000";
    /// ER_SECURE_TRANSPORT_REQUIRED: TLS is asked for.
    TLS_REQUIRED = 3159 b"HY000";
    /// ER_CLIENT_INTERACTION_TIMEOUT: idle for too long.
    IDLE = 4031 b"HY000";
}

/// What a server says with [`Code::READ_ONLY_TRANSACTION`].
pub const fn read_only_transaction(vendor: Vendor) -> &'static [u8] {
    match vendor {
        Vendor::MariaDb => b"Cannot execute statement in a READ ONLY transaction",
        Vendor::MySql => b"Cannot execute statement in a READ ONLY transaction.",
    }
}

impl Code {
    /// The packet with this text.
    pub const fn packet(self, message: &[u8]) -> ErrPacket<'_> {
        ErrPacket { code: self.number, sqlstate: Some(self.sqlstate), message }
    }

    /// The packet in the place of a greeting: without a SQLSTATE, because nothing is known of the client yet.
    pub const fn packet_before_handshake(self, message: &[u8]) -> ErrPacket<'_> {
        ErrPacket { code: self.number, sqlstate: None, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_once_and_states_are_states() {
        let mut numbers: Vec<u16> = Code::ALL.iter().map(|code| code.number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), Code::ALL.len());
        for code in Code::ALL {
            assert!(code.sqlstate.iter().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase()));
        }
    }

    #[test]
    fn the_first_packet_has_no_state() {
        let mut out = Vec::new();
        Code::TOO_MANY_CONNECTIONS.packet_before_handshake(b"Too many connections").write(&mut out);
        assert_eq!(out, b"\xff\x10\x04Too many connections");
        out.clear();
        Code::ACCESS_DENIED.packet(b"no").write(&mut out);
        assert_eq!(out, b"\xff\x15\x04#28000no");
    }
}
