//! Packets of the simulated ends: answers as servers write them, and as clients read them.

use ringgate::mysql::command::Kind;
use ringgate::mysql::facts::{Capabilities, Status};
use ringgate::mysql::generic::{EOF, ERR, EofPacket, ErrPacket, OK, OkPacket};
use ringgate::mysql::packet::{Parse, parse, put};
use ringgate::mysql::prepared::PrepareOk;
use ringgate::mysql::track::{Change, changes};
use ringgate::mysql::wire::{Reader, put_lenenc, put_lenenc_bytes, put_u16, put_u32, put_u64};

/// Bytes of a packet at most.
const PACKET_BYTES_MAX: usize = 1 << 20;

/// Takes the next packet from `bytes`, whose sequence id must be `sequence`. Errors: what is wrong with it.
pub fn take(bytes: &mut Vec<u8>, sequence: &mut u8) -> Result<Option<Vec<u8>>, String> {
    match parse(bytes, PACKET_BYTES_MAX) {
        Parse::NeedMore => Ok(None),
        Parse::Bad(bad) => Err(format!("a packet that is none: {bad:?}")),
        Parse::Done(packet, used) => {
            if packet.sequence != *sequence {
                return Err(format!("sequence id {} instead of {sequence}", packet.sequence));
            }
            *sequence = sequence.wrapping_add(1);
            let payload = packet.payload.to_vec();
            bytes.drain(..used);
            Ok(Some(payload))
        }
    }
}

/// A command.
pub fn command(kind: Kind, rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, &mut 0, |out| {
        out.push(kind as u8);
        out.extend_from_slice(rest);
    });
    out
}

/// COM_STMT_EXECUTE with numbers as parameters; `typed`: their types are told.
pub fn execute(statement: u32, parameters: &[usize], typed: bool) -> Vec<u8> {
    let mut rest = Vec::new();
    put_u32(&mut rest, statement);
    rest.push(0);
    put_u32(&mut rest, 1);
    if !parameters.is_empty() {
        rest.extend(vec![0; parameters.len().div_ceil(8)]);
        rest.push(u8::from(typed));
        if typed {
            parameters.iter().for_each(|_| rest.extend_from_slice(&[8, 0]));
        }
        parameters.iter().for_each(|number| put_u64(&mut rest, *number as u64));
    }
    command(Kind::StmtExecute, &rest)
}

/// How a server answers.
pub struct Answer {
    pub bytes: Vec<u8>,
    pub sequence: u8,
    pub capabilities: Capabilities,
    pub status: Status,
    /// Session state information.
    pub state: Vec<u8>,
}

impl Answer {
    fn put(&mut self, fill: impl FnOnce(&mut Vec<u8>)) {
        put(&mut self.bytes, &mut self.sequence, fill);
    }

    fn ok_packet(&mut self, header: u8, insert_id: usize) {
        let (status, state) = (self.status, std::mem::take(&mut self.state));
        let capabilities = self.capabilities;
        let ok = OkPacket {
            header,
            affected_rows: u64::from(header == OK),
            last_insert_id: insert_id as u64,
            status,
            warnings: 0,
            info: b"",
            state: &state,
        };
        self.put(|out| ok.write(out, capabilities));
    }

    pub fn ok(mut self, insert_id: usize) -> Vec<u8> {
        self.ok_packet(OK, insert_id);
        self.bytes
    }

    pub fn err(mut self, code: u16, sqlstate: &[u8; 5], text: &str) -> Vec<u8> {
        let err = ErrPacket { code, sqlstate: Some(*sqlstate), message: text.as_bytes() };
        self.put(|out| err.write(out));
        self.bytes
    }

    /// The end of rows. Without DEPRECATE_EOF what changed is not told, only that something did.
    fn end(&mut self, is_last: bool) {
        if self.capabilities.has(Capabilities::DEPRECATE_EOF) {
            if is_last {
                self.ok_packet(EOF, 0);
            }
            return;
        }
        let changed = is_last && !self.state.is_empty();
        let status = if changed { self.status.with(Status::SESSION_STATE_CHANGED) } else { self.status };
        self.put(|out| EofPacket { warnings: 0, status }.write(out));
    }

    fn definitions(&mut self, count: usize) {
        for at in 0..count {
            self.put(|out| {
                for text in ["def", "", "", "", &format!("column{at}"), ""] {
                    put_lenenc_bytes(out, text.as_bytes());
                }
                out.push(12);
                put_u16(out, 45);
                put_u32(out, 1024);
                out.extend_from_slice(&[253, 0, 0, 0, 0, 0]);
            });
        }
    }

    pub fn row(mut self, row: &[Option<Vec<u8>>], is_binary: bool) -> Vec<u8> {
        self.put(|out| put_lenenc(out, row.len() as u64));
        self.definitions(row.len());
        self.end(false);
        self.put(|out| {
            if is_binary {
                let mut nulls = vec![0u8; (row.len() + 9) / 8];
                for (at, _) in row.iter().enumerate().filter(|(_, value)| value.is_none()) {
                    nulls[(at + 2) / 8] |= 1 << ((at + 2) % 8);
                }
                out.push(0);
                out.extend_from_slice(&nulls);
            }
            for value in row {
                match value {
                    Some(bytes) => put_lenenc_bytes(out, bytes),
                    None if is_binary => {}
                    None => out.push(0xfb),
                }
            }
        });
        self.end(true);
        self.bytes
    }

    pub fn prepared(mut self, statement: u32, parameters: usize, columns: usize) -> Vec<u8> {
        let (parameters_told, columns_told) = (parameters as u16, columns as u16);
        let ok = PrepareOk { statement, columns: columns_told, parameters: parameters_told, warnings: 0 };
        self.put(|out| ok.write(out));
        for count in [parameters, columns] {
            if count > 0 {
                self.definitions(count);
                self.end(false);
            }
        }
        self.bytes
    }
}

/// A whole answer, as a client reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    Ok { status: Status, insert_id: usize },
    Err(u16, String),
    Row { status: Status, row: Vec<Option<Vec<u8>>> },
    Prepared(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    First,
    Columns(u64),
    ColumnsEnd,
    Rows,
    Definitions(u16, u16),
    DefinitionsEnd(u16),
}

/// Reads one answer, packet by packet.
pub struct Hearing {
    expect: Expect,
    kind: Kind,
    capabilities: Capabilities,
    row: Option<Vec<Option<Vec<u8>>>>,
    columns: usize,
    statement: u32,
}

/// Variables that a client may be told of.
const TOLD: [&[u8]; 1] = [b"autocommit"];

impl Hearing {
    pub fn new(kind: Kind, capabilities: Capabilities) -> Self {
        Self { expect: Expect::First, kind, capabilities, row: None, columns: 0, statement: 0 }
    }

    /// The next packet; the answer if it is complete with it. Errors: what is wrong.
    pub fn packet(&mut self, payload: &[u8]) -> Result<Option<Heard>, String> {
        let first = payload.first().copied().ok_or("an empty packet")?;
        let eof = first == EOF && payload.len() < 9;
        if first == ERR {
            let err = ErrPacket::parse(payload).map_err(|bad| format!("{bad:?}"))?;
            return Ok(Some(Heard::Err(err.code, String::from_utf8_lossy(err.message).into_owned())));
        }
        let deprecates = self.capabilities.has(Capabilities::DEPRECATE_EOF);
        match self.expect {
            Expect::First if self.kind == Kind::StmtPrepare => {
                let ok = PrepareOk::parse(payload).map_err(|bad| format!("{bad:?}"))?;
                self.statement = ok.statement;
                return Ok(self.definitions(ok.parameters, ok.columns));
            }
            Expect::First if first == OK || (eof && self.kind != Kind::Query) => {
                let (status, insert_id) = self.ok(payload)?;
                return Ok(Some(Heard::Ok { status, insert_id }));
            }
            Expect::First => {
                self.columns = usize::from(first);
                self.expect = Expect::Columns(u64::from(first));
            }
            Expect::Columns(_) | Expect::Definitions(..) if !payload.starts_with(b"\x03def") => {
                return Err(format!("{payload:?} is no definition"));
            }
            Expect::Columns(1) => {
                self.expect = if deprecates { Expect::Rows } else { Expect::ColumnsEnd };
            }
            Expect::Columns(count) => self.expect = Expect::Columns(count - 1),
            Expect::ColumnsEnd if eof => self.expect = Expect::Rows,
            Expect::Definitions(1, further) if deprecates => return Ok(self.definitions(further, 0)),
            Expect::Definitions(1, further) => self.expect = Expect::DefinitionsEnd(further),
            Expect::Definitions(count, further) => self.expect = Expect::Definitions(count - 1, further),
            Expect::DefinitionsEnd(further) if eof => return Ok(self.definitions(further, 0)),
            Expect::Rows if eof || (deprecates && first == EOF) => {
                let status = if deprecates {
                    self.ok(payload)?.0
                } else {
                    EofPacket::parse(payload).map_err(|bad| format!("{bad:?}"))?.status
                };
                let row = self.row.take().ok_or("a result without a row")?;
                return Ok(Some(Heard::Row { status, row }));
            }
            Expect::Rows if self.row.is_none() => self.row = Some(self.read_row(payload)?),
            _ => return Err(format!("{payload:?} while {:?}", self.expect)),
        }
        Ok(None)
    }

    const fn definitions(&mut self, count: u16, further: u16) -> Option<Heard> {
        match (count, further) {
            (0, 0) => return Some(Heard::Prepared(self.statement)),
            (0, further) => self.expect = Expect::Definitions(further, 0),
            _ => self.expect = Expect::Definitions(count, further),
        }
        None
    }

    /// An OK packet says nothing to this client that it did not ask for.
    fn ok(&self, payload: &[u8]) -> Result<(Status, usize), String> {
        let ok = OkPacket::parse(payload, self.capabilities).map_err(|bad| format!("{bad:?}"))?;
        let told = ok.status.has(Status::SESSION_STATE_CHANGED);
        if told && !self.capabilities.has(Capabilities::SESSION_TRACK) {
            return Err("a client that tracks nothing is told of changes".to_owned());
        }
        for change in changes(ok.state) {
            match change.map_err(|bad| format!("{bad:?}"))? {
                Change::Schema(_) => {}
                Change::SystemVariable { name, .. } if TOLD.contains(&name) => {}
                other => return Err(format!("the client did not ask for {other:?}")),
            }
        }
        Ok((ok.status, ok.last_insert_id as usize))
    }

    fn read_row(&self, payload: &[u8]) -> Result<Vec<Option<Vec<u8>>>, String> {
        let bad = |bad| format!("a row that cannot be read: {bad:?}");
        let mut reader = Reader::new(payload);
        let mut nulls: &[u8] = &[];
        let is_binary = self.kind == Kind::StmtExecute;
        if is_binary {
            reader.u8().map_err(bad)?;
            nulls = reader.bytes((self.columns + 9) / 8).map_err(bad)?;
        }
        let mut row = Vec::new();
        for at in 0..self.columns {
            let is_null = if is_binary {
                nulls[(at + 2) / 8] >> ((at + 2) % 8) & 1 == 1
            } else {
                let is_null = reader.peek() == Some(0xfb);
                if is_null {
                    reader.u8().map_err(bad)?;
                }
                is_null
            };
            row.push(if is_null { None } else { Some(reader.lenenc_bytes().map_err(bad)?.to_vec()) });
        }
        if reader.is_empty() { Ok(row) } else { Err("a row that is too long".to_owned()) }
    }
}

/// A value that a server wrote as text.
pub fn number(value: Option<&Option<Vec<u8>>>) -> Option<usize> {
    std::str::from_utf8(value?.as_deref()?).ok()?.parse().ok()
}
