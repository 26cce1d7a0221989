//! Commands of a client: what kind they are, and a borrowed view over what they say.
//!
//! The payload of a command goes in, or its beginning if it is long; a [`Command`] comes out. Owns nothing. Always true: a
//! command that is not spoken has a name all the same, so that it can be refused by it. The rest of COM_STMT_EXECUTE is
//! read by [`super::prepared`], of COM_CHANGE_USER by [`super::handshake`].

#[cfg(test)]
mod tests;

use super::facts::Capabilities;
use super::prepared;
use super::wire::{Bad, BadPacket, Read, Reader};

macro_rules! kinds {
    ($($(#[$about:meta])* $variant:ident = $byte:literal $name:literal,)*) => {
        /// The first byte of a command.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Kind {
            $($(#[$about])* $variant = $byte,)*
        }

        impl Kind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// By its byte.
            pub const fn of_byte(byte: u8) -> Option<Self> {
                match byte {
                    $($byte => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Its name in the documentation.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

kinds! {
    /// Of the server itself.
    Sleep = 0x00 "COM_SLEEP",
    /// The client leaves.
    Quit = 0x01 "COM_QUIT",
    /// USE.
    InitDb = 0x02 "COM_INIT_DB",
    /// A text.
    Query = 0x03 "COM_QUERY",
    /// Columns of a table.
    FieldList = 0x04 "COM_FIELD_LIST",
    /// Of before 4.0.
    CreateDb = 0x05 "COM_CREATE_DB",
    /// Of before 4.0.
    DropDb = 0x06 "COM_DROP_DB",
    /// FLUSH.
    Refresh = 0x07 "COM_REFRESH",
    /// SHUTDOWN.
    Shutdown = 0x08 "COM_SHUTDOWN",
    /// A line of statistics.
    Statistics = 0x09 "COM_STATISTICS",
    /// SHOW PROCESSLIST.
    ProcessInfo = 0x0a "COM_PROCESS_INFO",
    /// Of the server itself.
    Connect = 0x0b "COM_CONNECT",
    /// KILL.
    ProcessKill = 0x0c "COM_PROCESS_KILL",
    /// The server writes to its log.
    Debug = 0x0d "COM_DEBUG",
    /// Nothing.
    Ping = 0x0e "COM_PING",
    /// Of the server itself.
    Time = 0x0f "COM_TIME",
    /// Of the server itself.
    DelayedInsert = 0x10 "COM_DELAYED_INSERT",
    /// A new login.
    ChangeUser = 0x11 "COM_CHANGE_USER",
    /// Replication.
    BinlogDump = 0x12 "COM_BINLOG_DUMP",
    /// Replication, of before 4.0.
    TableDump = 0x13 "COM_TABLE_DUMP",
    /// Of the server itself.
    ConnectOut = 0x14 "COM_CONNECT_OUT",
    /// Replication.
    RegisterReplica = 0x15 "COM_REGISTER_SLAVE",
    /// Prepares a statement.
    StmtPrepare = 0x16 "COM_STMT_PREPARE",
    /// Runs a prepared statement.
    StmtExecute = 0x17 "COM_STMT_EXECUTE",
    /// A piece of a parameter.
    StmtSendLongData = 0x18 "COM_STMT_SEND_LONG_DATA",
    /// Forgets a prepared statement.
    StmtClose = 0x19 "COM_STMT_CLOSE",
    /// Forgets pieces of parameters and closes a cursor.
    StmtReset = 0x1a "COM_STMT_RESET",
    /// Several statements in one text, or not.
    SetOption = 0x1b "COM_SET_OPTION",
    /// Rows of a cursor.
    StmtFetch = 0x1c "COM_STMT_FETCH",
    /// Of the server itself.
    Daemon = 0x1d "COM_DAEMON",
    /// Replication.
    BinlogDumpGtid = 0x1e "COM_BINLOG_DUMP_GTID",
    /// The session as it was after the login.
    ResetConnection = 0x1f "COM_RESET_CONNECTION",
    /// MySQL: a copy of the server.
    Clone = 0x20 "COM_CLONE",
    /// MySQL: group replication.
    SubscribeGroup = 0x21 "COM_SUBSCRIBE_GROUP_REPLICATION_STREAM",
    /// MariaDB: runs a prepared statement for many sets of parameters.
    StmtBulkExecute = 0xfa "COM_STMT_BULK_EXECUTE",
    /// MariaDB: of the server itself.
    ReplicaWorker = 0xfb "COM_SLAVE_WORKER",
    /// MariaDB: of the server itself.
    ReplicaIo = 0xfc "COM_SLAVE_IO",
    /// MariaDB: of the server itself.
    ReplicaSql = 0xfd "COM_SLAVE_SQL",
    /// MariaDB 10.2 and 10.3: several commands.
    Multi = 0xfe "COM_MULTI",
}

impl Kind {
    /// Whether a server answers it. COM_QUIT is answered by closing, the others not at all.
    pub const fn is_answered(self) -> bool {
        !matches!(self, Self::Quit | Self::StmtSendLongData | Self::StmtClose)
    }
}

/// What a command says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// The client leaves.
    Quit,
    /// USE.
    InitDb(&'a [u8]),
    /// A text.
    Query(Query<'a>),
    /// Columns of a table whose names match.
    FieldList {
        /// The table.
        table: &'a [u8],
        /// As for LIKE; empty for all.
        wildcard: &'a [u8],
    },
    /// A line of statistics.
    Statistics,
    /// SHOW PROCESSLIST.
    ProcessInfo,
    /// KILL of this connection.
    ProcessKill(u32),
    /// The server writes to its log.
    Debug,
    /// Nothing.
    Ping,
    /// A new login: [`super::handshake::ChangeUser`] reads it.
    ChangeUser,
    /// The text of a statement; it begins at offset 1.
    StmtPrepare(&'a [u8]),
    /// Runs a prepared statement: [`super::prepared::Execute`] reads the rest.
    StmtExecute(u32),
    /// Runs a prepared statement many times: [`super::prepared::BulkExecute`] reads the rest.
    StmtBulkExecute(u32),
    /// A piece of a parameter.
    StmtSendLongData {
        /// The statement.
        statement: u32,
        /// Which parameter.
        parameter: u16,
        /// The piece.
        data: &'a [u8],
    },
    /// Forgets a prepared statement.
    StmtClose(u32),
    /// Forgets pieces of parameters and closes a cursor.
    StmtReset(u32),
    /// Rows of a cursor.
    StmtFetch {
        /// The statement.
        statement: u32,
        /// How many.
        rows: u32,
    },
    /// Several statements in one text (0), or not (1).
    SetOption(u16),
    /// The session as it was after the login.
    ResetConnection,
    /// One that is not spoken.
    Refused(Kind),
}

/// A COM_QUERY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query<'a> {
    /// The text, as far as the payload was given.
    pub text: &'a [u8],
    /// Its offset in the payload: behind the command's byte and query attributes.
    pub text_at: usize,
    /// How many query attributes there are.
    pub attributes: usize,
}

impl<'a> Command<'a> {
    /// Reads a payload, or as much of it as there is: what it is, and all but texts and data, stand at its beginning. A byte
    /// that is no command is [`BadPacket::Kind`].
    pub fn parse(payload: &'a [u8], capabilities: Capabilities) -> Read<Self> {
        let mut reader = Reader::new(payload);
        let kind = Kind::of_byte(reader.u8()?).ok_or(Bad::new(BadPacket::Kind, 0))?;
        Ok(match kind {
            Kind::Quit => Self::Quit,
            Kind::InitDb => Self::InitDb(reader.eof()),
            Kind::Query => Self::Query(query(&mut reader, capabilities)?),
            Kind::FieldList => Self::FieldList { table: reader.nul()?, wildcard: reader.nul_or_eof() },
            Kind::Statistics => Self::Statistics,
            Kind::ProcessInfo => Self::ProcessInfo,
            Kind::ProcessKill => Self::ProcessKill(reader.u32()?),
            Kind::Debug => Self::Debug,
            Kind::Ping => Self::Ping,
            Kind::ChangeUser => Self::ChangeUser,
            Kind::StmtPrepare => Self::StmtPrepare(reader.eof()),
            Kind::StmtExecute => Self::StmtExecute(reader.u32()?),
            Kind::StmtBulkExecute => Self::StmtBulkExecute(reader.u32()?),
            Kind::StmtSendLongData => Self::StmtSendLongData {
                statement: reader.u32()?,
                parameter: reader.u16()?,
                data: reader.eof(),
            },
            Kind::StmtClose => Self::StmtClose(reader.u32()?),
            Kind::StmtReset => Self::StmtReset(reader.u32()?),
            Kind::StmtFetch => Self::StmtFetch { statement: reader.u32()?, rows: reader.u32()? },
            Kind::SetOption => Self::SetOption(reader.u16()?),
            Kind::ResetConnection => Self::ResetConnection,
            other => Self::Refused(other),
        })
    }
}

/// The text behind the attributes, if the connection has them: a count, the number of sets, which is 1, and the
/// parameters as in COM_STMT_EXECUTE, with names and values.
fn query<'a>(reader: &mut Reader<'a>, capabilities: Capabilities) -> Read<Query<'a>> {
    let mut attributes = 0;
    if capabilities.has(Capabilities::QUERY_ATTRIBUTES) {
        let at = reader.at();
        attributes = usize::try_from(reader.lenenc()?).map_err(|_| Bad::new(BadPacket::Value, at))?;
        let sets_at = reader.at();
        if reader.lenenc()? != 1 {
            return Err(Bad::new(BadPacket::Value, sets_at));
        }
        if attributes > 0 {
            prepared::skip_attributes(reader, attributes)?;
        }
    }
    let text_at = reader.at();
    Ok(Query { text: reader.eof(), text_at, attributes })
}
