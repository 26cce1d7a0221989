//! A server's answer to a command, in pieces cut anywhere: which bytes simply pass, which packets are to be judged, and
//! where it ends.
//!
//! [`Reply::begin`] says which command was sent; [`Reply::feed`] takes bytes of the server and says what they are. Owns the
//! beginning of a packet that is not complete, at most [`SQL_JUDGED_BYTES_MAX`] bytes of it, and nothing else. Always true:
//! of rows and definitions only headers and first bytes are looked at; after an error nothing more is understood; what a
//! server says when nothing was asked is an error of its own.
//!
//! An answer is (Text Protocol, Binary Protocol and Generic Response Packets in the documentation):
//!
//! ```text
//! QUERY, EXECUTE...   OK | ERR | LOCAL INFILE, upload, then anew | count, definitions, [EOF], rows, end | cursor
//! after an OK or end with MORE_RESULTS_EXISTS: anew.   end: OK with 0xfe under DEPRECATE_EOF, else EOF
//! cursor              count, definitions, then an end with CURSOR_EXISTS and no rows
//! PREPARE             PREPARE_OK, definitions of parameters, [EOF], definitions of columns, [EOF] | ERR
//! FETCH               rows, end | ERR
//! FIELD_LIST          definitions, end | ERR
//! STATISTICS          a text | ERR
//! CHANGE_USER, login  (switch | more)*, OK | ERR
//! others              OK | EOF | ERR
//! ```

#[cfg(test)]
mod tests;

use super::command::Kind;
use super::facts::{Capabilities, Status};
use super::generic::{EOF, ERR, EofPacket, OK, OkPacket};
use super::packet::{Framer, HEADER_BYTES, Header, PAYLOAD_MAX, Part};
use super::prepared::PrepareOk;
use super::wire::{BadPacket, Reader};
use crate::limits::SQL_JUDGED_BYTES_MAX;

/// A packet that is judged before it is passed on, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// OK without rows, or of a login.
    Ok,
    /// ERR; the answer is over.
    Err,
    /// The end of rows or definitions, or the only packet of an answer: EOF, or OK with the header 0xfe.
    End,
    /// The server wants the file named behind 0xfb. What the client sends is an [`Upload`]; then the answer goes on.
    LocalInfile,
    /// A statement was prepared.
    PrepareOk,
    /// AuthSwitchRequest, old or new.
    AuthSwitch,
    /// AuthMoreData.
    AuthMore,
}

/// What stands at the start of the bytes that [`Reply::feed`] was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What<'a> {
    /// These bytes of the input pass as they are.
    Pass,
    /// These bytes pass. They were kept from before, together with those of the input.
    PassHeld(&'a [u8]),
    /// These bytes of the input were kept; more must come.
    Hold,
    /// A whole packet with its header, from the input or kept.
    Packet(Judged, &'a [u8]),
}

/// An answer of [`Reply::feed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step<'a> {
    /// Bytes of the input that it is about.
    pub used: usize,
    /// What they are.
    pub what: What<'a>,
}

/// How a server breaks the protocol. Its connection is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadReply {
    /// Bytes when nothing was asked, or behind the end of an answer.
    Unasked,
    /// A packet to be judged of more than [`SQL_JUDGED_BYTES_MAX`] bytes.
    TooLong,
    /// A packet that cannot stand where it stands.
    Unexpected,
    /// A packet that cannot be read.
    Packet(BadPacket),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Over,
    /// The first packet of a result.
    First,
    /// So many definitions of columns to come, one at least.
    Columns(u64),
    /// The EOF behind them.
    ColumnsEnd,
    Rows,
    /// OK, EOF or ERR.
    Single,
    Statistics,
    Login,
    Prepare,
    /// So many definitions to come, one at least, and then so many others.
    Definitions(u16, u16),
    /// The EOF behind them.
    DefinitionsEnd(u16),
    Fields,
}

/// What a packet is needed for as a whole.
#[derive(Clone, Copy)]
enum Task {
    Judge(Judged),
    ColumnCount,
    ColumnsEnd,
    DefinitionsEnd,
}

/// What a packet's header and first byte say.
enum Look {
    More,
    Pass(Header),
    Whole(Task, Header),
}

/// Follows a server's answers on one connection.
#[derive(Clone, Debug)]
pub struct Reply {
    phase: Phase,
    deprecate_eof: bool,
    /// The result comes in pieces by COM_STMT_FETCH: its end says nothing about further results.
    fetching: bool,
    /// Bytes of a payload that pass.
    left: usize,
    /// The next packet continues that payload.
    continued: bool,
    held: Vec<u8>,
    /// `held` was handed out and is to be forgotten.
    spent: bool,
    sequence: u8,
}

impl Reply {
    /// For a connection with these capabilities, none of which is of [`Capabilities::NOT_SPOKEN`].
    pub const fn new(capabilities: Capabilities) -> Self {
        Self {
            phase: Phase::Over,
            deprecate_eof: capabilities.has(Capabilities::DEPRECATE_EOF),
            fetching: false,
            left: 0,
            continued: false,
            held: Vec::new(),
            spent: false,
            sequence: 0,
        }
    }

    /// A command was sent. The answer before is over.
    pub fn begin(&mut self, command: Kind) {
        debug_assert!(self.is_over());
        self.fetching = command == Kind::StmtFetch;
        self.phase = match command {
            _ if !command.is_answered() => Phase::Over,
            Kind::Query | Kind::StmtExecute | Kind::StmtBulkExecute | Kind::ProcessInfo => Phase::First,
            Kind::StmtFetch => Phase::Rows,
            Kind::StmtPrepare => Phase::Prepare,
            Kind::FieldList => Phase::Fields,
            Kind::Statistics => Phase::Statistics,
            Kind::ChangeUser => Phase::Login,
            _ => Phase::Single,
        };
    }

    /// A login was sent: as after COM_CHANGE_USER.
    pub fn begin_login(&mut self) {
        self.begin(Kind::ChangeUser);
    }

    /// Whether the answer is complete, or none is expected.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over && self.left == 0 && !self.continued && (self.held.is_empty() || self.spent)
    }

    /// Whether the server stands at the start of a packet: nothing of one has been passed on. An ERR of our own may
    /// follow with the sequence id behind [`Reply::sequence`].
    pub const fn is_between_packets(&self) -> bool {
        self.left == 0 && !self.continued
    }

    /// The sequence id of the last packet that was looked at.
    pub const fn sequence(&self) -> u8 {
        self.sequence
    }

    /// Bytes that are kept of a packet.
    pub const fn held_bytes(&self) -> usize {
        self.held.len()
    }

    /// Says what stands at the start of `input`. Behind the end of the answer nothing is used.
    pub fn feed<'a>(&'a mut self, input: &'a [u8]) -> Result<Step<'a>, BadReply> {
        if self.spent {
            self.held.clear();
            self.spent = false;
        }
        if !self.held.is_empty() {
            return self.feed_held(input);
        }
        let pass = |used| Ok(Step { used, what: What::Pass });
        let mut at = 0;
        loop {
            let rest = input.get(at..).unwrap_or_default();
            if rest.is_empty() {
                return pass(at);
            }
            if self.left > 0 {
                let used = self.left.min(rest.len());
                self.left -= used;
                at += used;
                continue;
            }
            let rows = self.rows(rest);
            if rows > 0 {
                at += rows;
                continue;
            }
            match self.look(rest) {
                // What comes before is told first; the same is found again then.
                Ok(Look::More | Look::Whole(..)) | Err(_) if at > 0 => return pass(at),
                Err(bad) => return Err(bad),
                Ok(Look::Pass(header)) => {
                    self.pass(header);
                    at += HEADER_BYTES;
                }
                Ok(Look::Whole(task, header)) if rest.len() >= HEADER_BYTES + header.length => {
                    let packet = rest.get(..HEADER_BYTES + header.length).unwrap_or_default();
                    self.sequence = header.sequence;
                    match self.settle(task, packet)? {
                        Some(judged) => {
                            return Ok(Step { used: packet.len(), what: What::Packet(judged, packet) });
                        }
                        None => at += packet.len(),
                    }
                }
                Ok(Look::More | Look::Whole(..)) => {
                    self.held.extend_from_slice(rest);
                    return Ok(Step { used: rest.len(), what: What::Hold });
                }
            }
        }
    }

    /// Passes over rows, which are most of what servers say; what may be something else stays. How many bytes those are.
    fn rows(&mut self, input: &[u8]) -> usize {
        if self.phase != Phase::Rows || self.continued {
            return 0;
        }
        let mut at = 0;
        while let Some([a, b, c, sequence, first]) = input.get(at..).and_then(<[u8]>::first_chunk) {
            let header = Header::from_bytes([*a, *b, *c, *sequence]);
            if *first >= EOF || header.length == 0 || header.is_continued() {
                break;
            }
            self.sequence = header.sequence;
            at += HEADER_BYTES + header.length;
        }
        self.left = at.saturating_sub(input.len());
        at - self.left
    }

    /// The same while the beginning of a packet is kept.
    fn feed_held<'a>(&'a mut self, input: &'a [u8]) -> Result<Step<'a>, BadReply> {
        let mut used = 0;
        loop {
            let (wanted, whole) = match self.look(&self.held)? {
                Look::More => (self.held.len() + 1, None),
                Look::Whole(task, header) => (HEADER_BYTES + header.length, Some((task, header))),
                Look::Pass(header) => {
                    self.pass(header);
                    self.left -= (self.held.len() - HEADER_BYTES).min(self.left);
                    self.spent = true;
                    return Ok(Step { used, what: What::PassHeld(&self.held) });
                }
            };
            if let Some((task, header)) = whole
                && self.held.len() == wanted
            {
                self.sequence = header.sequence;
                let held = std::mem::take(&mut self.held);
                let settled = self.settle(task, &held);
                self.held = held;
                let what = match settled? {
                    Some(judged) => What::Packet(judged, &self.held),
                    None => What::PassHeld(&self.held),
                };
                self.spent = true;
                return Ok(Step { used, what });
            }
            let missing = wanted - self.held.len();
            let rest = input.get(used..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(Step { used, what: What::Hold });
            }
            let piece = rest.get(..missing).unwrap_or(rest);
            self.held.extend_from_slice(piece);
            used += piece.len();
        }
    }

    /// A packet passes, whose header was just seen.
    const fn pass(&mut self, header: Header) {
        let more = header.is_continued();
        if !self.continued {
            self.phase = match self.phase {
                Phase::Columns(1) if self.deprecate_eof => Phase::Rows,
                Phase::Columns(1) => Phase::ColumnsEnd,
                Phase::Columns(count) => Phase::Columns(count - 1),
                Phase::Definitions(1, further) if self.deprecate_eof => definitions(further, 0),
                Phase::Definitions(1, further) => Phase::DefinitionsEnd(further),
                Phase::Definitions(count, further) => Phase::Definitions(count - 1, further),
                Phase::Statistics => Phase::Over,
                phase => phase,
            };
        }
        self.left = header.length;
        self.continued = more;
        self.sequence = header.sequence;
    }

    /// What the packet at the start of `bytes` is.
    fn look(&self, bytes: &[u8]) -> Result<Look, BadReply> {
        if self.phase == Phase::Over && !self.continued {
            return Err(BadReply::Unasked);
        }
        let Some((header, payload)) = bytes.split_first_chunk() else { return Ok(Look::More) };
        let header = Header::from_bytes(*header);
        if self.continued {
            return Ok(Look::Pass(header));
        }
        if header.length == 0 {
            // An empty row is none that a server sends, but it does no harm.
            let passes = matches!(self.phase, Phase::Rows | Phase::Statistics);
            return if passes { Ok(Look::Pass(header)) } else { Err(BadReply::Unexpected) };
        }
        let Some(&first) = payload.first() else { return Ok(Look::More) };
        let Some(task) = self.task(first, header.length)? else { return Ok(Look::Pass(header)) };
        if header.length > SQL_JUDGED_BYTES_MAX {
            return Err(BadReply::TooLong);
        }
        Ok(Look::Whole(task, header))
    }

    /// What a packet with this first byte and length is needed for; `None`: it passes.
    fn task(&self, first: u8, length: usize) -> Result<Option<Task>, BadReply> {
        // No row begins with 0xff: a text row's first length cannot, a binary row begins with 0.
        if first == ERR {
            return Ok(Some(Task::Judge(Judged::Err)));
        }
        let eof = first == EOF && length < 9;
        // "If the first byte of a packet is a length-encoded integer and its byte value is 0xfe, you must check the
        // length of the packet": a row whose first value has 16 MiB or more fills its packet.
        let end = if self.deprecate_eof { first == EOF && length < PAYLOAD_MAX } else { eof };
        let judge = |judged| Ok(Some(Task::Judge(judged)));
        match (self.phase, first) {
            (Phase::First, OK) => judge(Judged::Ok),
            (Phase::First, 0xfb) => judge(Judged::LocalInfile),
            (Phase::First, _) => Ok(Some(Task::ColumnCount)),
            (Phase::ColumnsEnd, _) if eof => Ok(Some(Task::ColumnsEnd)),
            (Phase::Rows | Phase::Fields, _) if end => judge(Judged::End),
            (Phase::Single, OK) | (Phase::Login, OK) => judge(Judged::Ok),
            (Phase::Single, EOF) if end || eof => judge(Judged::End),
            (Phase::Login, EOF) => judge(Judged::AuthSwitch),
            (Phase::Login, 0x01) => judge(Judged::AuthMore),
            (Phase::Prepare, OK) => judge(Judged::PrepareOk),
            (Phase::DefinitionsEnd(_), _) if eof => Ok(Some(Task::DefinitionsEnd)),
            (Phase::Columns(_) | Phase::Definitions(..), _) if !eof => Ok(None),
            (Phase::Rows | Phase::Fields | Phase::Statistics, _) => Ok(None),
            _ => Err(BadReply::Unexpected),
        }
    }

    /// A whole packet is there: where the answer stands behind it, and whether it is to be judged.
    fn settle(&mut self, task: Task, packet: &[u8]) -> Result<Option<Judged>, BadReply> {
        let payload = packet.get(HEADER_BYTES..).unwrap_or_default();
        let bad = |bad: super::wire::Bad| BadReply::Packet(bad.reason);
        let judged = match task {
            Task::ColumnCount => {
                let mut reader = Reader::new(payload);
                let count = reader.lenenc().map_err(bad)?;
                if count == 0 || !reader.is_empty() {
                    return Err(BadReply::Unexpected);
                }
                self.phase = Phase::Columns(count);
                return Ok(None);
            }
            Task::DefinitionsEnd => {
                EofPacket::parse(payload).map_err(bad)?;
                let Phase::DefinitionsEnd(further) = self.phase else { return Err(BadReply::Unexpected) };
                self.phase = definitions(further, 0);
                return Ok(None);
            }
            Task::ColumnsEnd if !end_status(payload)?.has(Status::CURSOR_EXISTS) => {
                self.phase = Phase::Rows;
                return Ok(None);
            }
            Task::ColumnsEnd => Judged::End,
            Task::Judge(judged) => judged,
        };
        self.phase = match judged {
            Judged::Err => Phase::Over,
            Judged::PrepareOk => {
                let prepared = PrepareOk::parse(payload).map_err(bad)?;
                definitions(prepared.parameters, prepared.columns)
            }
            Judged::LocalInfile => Phase::First,
            Judged::AuthSwitch | Judged::AuthMore => Phase::Login,
            Judged::Ok | Judged::End => {
                let status = if judged == Judged::Ok {
                    OkPacket::status(payload).map_err(bad)?
                } else {
                    end_status(payload)?
                };
                let goes_on = matches!(self.phase, Phase::First | Phase::ColumnsEnd | Phase::Rows);
                let more = status.has(Status::MORE_RESULTS_EXISTS) && !self.fetching;
                if goes_on && more { Phase::First } else { Phase::Over }
            }
        };
        Ok(Some(judged))
    }
}

/// Before so many definitions and then so many others, the first of which may be none.
const fn definitions(count: u16, further: u16) -> Phase {
    match (count, further) {
        (0, 0) => Phase::Over,
        (0, further) => Phase::Definitions(further, 0),
        (count, further) => Phase::Definitions(count, further),
    }
}

/// The status in an EOF packet, or in an OK packet that stands for one.
fn end_status(payload: &[u8]) -> Result<Status, BadReply> {
    let status = if payload.len() == 5 {
        EofPacket::parse(payload).map(|eof| eof.status)
    } else {
        OkPacket::status(payload)
    };
    status.map_err(|bad| BadReply::Packet(bad.reason))
}

/// What a client sends after [`Judged::LocalInfile`]: packets until an empty one.
#[derive(Clone, Debug, Default)]
pub struct Upload {
    framer: Framer,
    over: bool,
}

impl Upload {
    /// Before its first byte.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many bytes at the start of `input` belong to it.
    pub fn feed(&mut self, input: &[u8]) -> usize {
        let mut at = 0;
        while let (false, Some((part, used))) =
            (self.over, self.framer.next(input.get(at..).unwrap_or_default()))
        {
            at += used;
            self.over = matches!(part, Part::Start { begins: true, ends: true, .. });
        }
        at
    }

    /// Whether its empty packet has come.
    pub const fn is_over(&self) -> bool {
        self.over
    }
}
