//! What a server answers to a query of the monitor: tables of texts.
//!
//! Payloads of packets go in, one after the other; tables come out once the last has come. It owns what it read so far.
//! Always true: no more than [`Reading::new`] allows is kept; a table has a value or NULL for each column in each row. The
//! connection has neither DEPRECATE_EOF nor SESSION_TRACK, so that results have the form of old.

use crate::mysql::facts::{Capabilities, Status};
use crate::mysql::generic::{EOF, ERR, EofPacket, ErrPacket, OK, OkPacket};
use crate::mysql::wire::{Bad, BadPacket, Read, Reader};

/// First byte of a wish for a local file, which nobody here asks for.
const LOCAL_INFILE: u8 = 0xfb;
/// An EOF packet is shorter; a row may begin with the same byte.
const EOF_BYTES_MAX: usize = 8;

/// A result set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Table {
    columns: Vec<Vec<u8>>,
    rows: Vec<Vec<Option<Vec<u8>>>>,
}

/// A row of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    table: &'a Table,
    values: &'a [Option<Vec<u8>>],
}

impl Table {
    /// Its rows.
    pub(super) fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.rows.iter().map(|values| Row { table: self, values })
    }

    /// The first row.
    pub(super) fn first(&self) -> Option<Row<'_>> {
        self.rows().next()
    }

    /// One of texts, for tests.
    #[cfg(test)]
    pub(super) fn of(columns: &[&str], rows: &[&[Option<&str>]]) -> Self {
        let value = |value: &Option<&str>| value.map(|text| text.as_bytes().to_vec());
        Self {
            columns: columns.iter().map(|name| name.as_bytes().to_vec()).collect(),
            rows: rows.iter().map(|row| row.iter().map(value).collect()).collect(),
        }
    }
}

impl<'a> Row<'a> {
    /// The value of the first column that has one of these names, whatever their case. `None`: there is none, or it is NULL.
    pub(super) fn get(&self, names: &[&str]) -> Option<&'a [u8]> {
        let named = |name: &&str| {
            let is = |column: &Vec<u8>| column.eq_ignore_ascii_case(name.as_bytes());
            self.table.columns.iter().position(is)
        };
        let at = names.iter().find_map(named)?;
        self.values.get(at)?.as_deref()
    }

    /// The same as text; empty for what is not there or no text.
    pub(super) fn text(&self, names: &[&str]) -> &'a str {
        self.get(names).and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default()
    }

    /// The same as a number.
    pub(super) fn number(&self, names: &[&str]) -> Option<u64> {
        self.text(names).parse().ok()
    }
}

/// How far the answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Begin,
    /// So many columns are still to come.
    Columns(u64),
    ColumnsEnd,
    Rows,
}

/// What a further payload leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// There is more to come.
    More,
    /// That was all of it.
    Done,
    /// The server refuses, with its number and text.
    Refused(u16, Vec<u8>),
}

/// An answer that is being read.
#[derive(Debug)]
pub(super) struct Reading {
    stage: Stage,
    /// Bytes that may still be kept.
    room: usize,
    tables: Vec<Table>,
}

impl Reading {
    /// Of at most so many bytes.
    pub(super) const fn new(bytes_max: usize) -> Self {
        Self { stage: Stage::Begin, room: bytes_max, tables: Vec::new() }
    }

    /// What was read.
    pub(super) fn into_tables(self) -> Vec<Table> {
        self.tables
    }

    /// Takes the next payload.
    pub(super) fn take(&mut self, payload: &[u8]) -> Read<Step> {
        let room = self.room.checked_sub(payload.len()).ok_or(Bad::new(BadPacket::TooLong, 0))?;
        self.room = room;
        let first = payload.first().copied().ok_or(Bad::new(BadPacket::Short, 0))?;
        if first == ERR {
            let error = ErrPacket::parse(payload)?;
            return Ok(Step::Refused(error.code, error.message.to_vec()));
        }
        match self.stage {
            Stage::Begin if first == OK => {
                self.tables.push(Table::default());
                Ok(self.end(OkPacket::parse(payload, Capabilities::NONE)?.status))
            }
            Stage::Begin if first == LOCAL_INFILE => Err(Bad::new(BadPacket::Kind, 0)),
            Stage::Begin => {
                let columns = Reader::new(payload).lenenc()?;
                self.tables.push(Table::default());
                self.stage = Stage::Columns(columns);
                Ok(Step::More)
            }
            Stage::Columns(left) => {
                let name = column_name(payload)?;
                self.table()?.columns.push(name.to_vec());
                self.stage = if left > 1 { Stage::Columns(left - 1) } else { Stage::ColumnsEnd };
                Ok(Step::More)
            }
            Stage::ColumnsEnd => {
                EofPacket::parse(payload)?;
                self.stage = Stage::Rows;
                Ok(Step::More)
            }
            Stage::Rows if first == EOF && payload.len() <= EOF_BYTES_MAX => {
                Ok(self.end(EofPacket::parse(payload)?.status))
            }
            Stage::Rows => {
                let table = self.table()?;
                let mut reader = Reader::new(payload);
                let mut row = Vec::with_capacity(table.columns.len());
                for _ in &table.columns {
                    row.push(value(&mut reader)?.map(<[u8]>::to_vec));
                }
                if !reader.is_empty() {
                    return Err(reader.bad(BadPacket::Trailing));
                }
                table.rows.push(row);
                Ok(Step::More)
            }
        }
    }

    fn table(&mut self) -> Read<&mut Table> {
        self.tables.last_mut().ok_or(Bad::new(BadPacket::Kind, 0))
    }

    fn end(&mut self, status: Status) -> Step {
        self.stage = Stage::Begin;
        if status.has(Status::MORE_RESULTS_EXISTS) { Step::More } else { Step::Done }
    }
}

/// The name in a column's definition: behind the catalog, the schema, the table and the table's own name.
fn column_name(payload: &[u8]) -> Read<&[u8]> {
    let mut reader = Reader::new(payload);
    for _ in 0..4 {
        reader.lenenc_bytes()?;
    }
    reader.lenenc_bytes()
}

/// A value of a row: a text or NULL.
fn value<'a>(reader: &mut Reader<'a>) -> Read<Option<&'a [u8]>> {
    const NULL: u8 = 0xfb;
    if reader.peek() == Some(NULL) {
        reader.u8()?;
        return Ok(None);
    }
    reader.lenenc_bytes().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysql::wire::put_lenenc_bytes;

    const MORE: Status = Status::MORE_RESULTS_EXISTS;

    fn column(name: &str) -> Vec<u8> {
        let mut out = Vec::new();
        for part in ["def", "", "", "", name, ""] {
            put_lenenc_bytes(&mut out, part.as_bytes());
        }
        out
    }

    fn row(values: &[Option<&str>]) -> Vec<u8> {
        let mut out = Vec::new();
        for value in values {
            match value {
                None => out.push(0xfb),
                Some(text) => put_lenenc_bytes(&mut out, text.as_bytes()),
            }
        }
        out
    }

    fn eof(status: Status) -> Vec<u8> {
        let mut out = Vec::new();
        EofPacket { warnings: 0, status }.write(&mut out);
        out
    }

    fn answer() -> Vec<Vec<u8>> {
        vec![
            vec![2],
            column("@@version"),
            column("Slave_IO_Running"),
            eof(Status::default()),
            row(&[Some("10.11"), None]),
            row(&[Some(""), Some("Yes")]),
            eof(MORE),
            vec![0, 0, 0, 2, 0, 0, 0],
        ]
    }

    #[test]
    fn several_results_are_read() {
        let mut reading = Reading::new(1000);
        let payloads = answer();
        for (at, payload) in payloads.iter().enumerate() {
            let expected = if at + 1 == payloads.len() { Step::Done } else { Step::More };
            assert_eq!(reading.take(payload), Ok(expected), "{at}");
        }
        let columns = ["@@version", "Slave_IO_Running"];
        let table = Table::of(&columns, &[&[Some("10.11"), None], &[Some(""), Some("Yes")]]);
        let tables = reading.into_tables();
        assert_eq!(tables, [table, Table::default()]);
        let rows: Vec<Row<'_>> = tables[0].rows().collect();
        assert_eq!(rows[0].text(&["none", "@@VERSION"]), "10.11");
        assert_eq!((rows[0].get(&["slave_io_running"]), rows[1].get(&["none"])), (None, None));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let bad = |payloads: &[Vec<u8>]| {
            let mut reading = Reading::new(200);
            payloads.iter().find_map(|payload| reading.take(payload).err()).map(|bad| bad.reason)
        };
        let head = [vec![1], column("a"), eof(Status::default())];
        let with = |last: Vec<u8>| [&head[..], &[last]].concat();
        assert_eq!(bad(&head), None);
        assert_eq!(bad(&[vec![]]), Some(BadPacket::Short));
        assert_eq!(bad(&[b"\xfb/etc/passwd".to_vec()]), Some(BadPacket::Kind));
        assert_eq!(bad(&with(vec![5, b'a'])), Some(BadPacket::Short));
        assert_eq!(bad(&with(vec![1, b'a', b'b'])), Some(BadPacket::Trailing));
        assert_eq!(bad(&with(row(&[Some(&"x".repeat(300))]))), Some(BadPacket::TooLong));
        for payload in answer().iter().filter(|payload| payload.len() > 1) {
            for cut in 0..payload.len() {
                let mut reading = Reading::new(1000);
                let _ = reading.take(&payload[..cut]);
            }
        }
        let mut reading = Reading::new(100);
        assert_eq!(reading.take(b"\xff\x76\x04#42000no"), Ok(Step::Refused(1142, b"no".to_vec())));
    }
}
