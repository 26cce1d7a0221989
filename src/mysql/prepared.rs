//! Prepared statements: the answer that names them, and their execution, as far as a statement's number must be translated
//! and its types be put back.
//!
//! Payloads, or their beginnings, go in; borrowed views come out, and payloads with another number or with types. Owns
//! nothing. Always true: values of parameters are not looked at, only those of query attributes are gone over.

#[cfg(test)]
mod tests;

use std::ops::Range;

use super::facts::Capabilities;
use super::wire::{Bad, BadPacket, Read, Reader, put_u16, put_u32};

/// The number that means the statement prepared last (MariaDB).
pub const LAST_PREPARED: u32 = u32::MAX;
/// Offset of the number in all commands with one, and in PREPARE_OK.
const STATEMENT_AT: usize = 1;

/// Writes another number into a command that begins COM_STMT_, or into a PREPARE_OK.
pub fn patch_statement(payload: &mut [u8], statement: u32) -> Read<()> {
    let place = payload.get_mut(STATEMENT_AT..).and_then(|rest| rest.first_chunk_mut());
    *place.ok_or(Bad::new(BadPacket::Short, STATEMENT_AT))? = statement.to_le_bytes();
    Ok(())
}

/// COM_STMT_PREPARE_OK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrepareOk {
    /// The number of the statement on this connection.
    pub statement: u32,
    /// Columns of its result.
    pub columns: u16,
    /// Its parameters.
    pub parameters: u16,
    /// How many warnings there are.
    pub warnings: u16,
}

impl PrepareOk {
    /// Reads a payload that begins with 0.
    pub fn parse(payload: &[u8]) -> Read<Self> {
        let mut reader = Reader::new(payload);
        if reader.u8()? != 0 {
            return Err(Bad::new(BadPacket::Kind, 0));
        }
        let (statement, columns, parameters) = (reader.u32()?, reader.u16()?, reader.u16()?);
        reader.u8()?;
        Ok(Self { statement, columns, parameters, warnings: reader.u16()? })
    }

    /// Appends the payload.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(0);
        put_u32(out, self.statement);
        put_u16(out, self.columns);
        put_u16(out, self.parameters);
        out.push(0);
        put_u16(out, self.warnings);
    }
}

/// Flags of an execution.
pub mod flags {
    /// A cursor for reading: rows come by COM_STMT_FETCH.
    pub const CURSOR_READ_ONLY: u8 = 1;
    /// A cursor for writing; no server has it.
    pub const CURSOR_FOR_UPDATE: u8 = 2;
    /// A cursor that moves both ways; no server has it.
    pub const CURSOR_SCROLLABLE: u8 = 4;
    /// Under QUERY_ATTRIBUTES: the number of parameters is told.
    pub const PARAMETER_COUNT_AVAILABLE: u8 = 8;
}

/// COM_STMT_EXECUTE up to its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execute {
    /// The statement.
    pub statement: u32,
    /// See [`flags`].
    pub flags: u8,
    /// Always 1.
    pub iterations: u32,
    /// Parameters that it has, with query attributes.
    pub parameters: usize,
    /// Where the null bitmap stands.
    pub nulls: Range<usize>,
    /// Where the flag new_params_bound stands: types follow. `None` without parameters.
    pub bound_at: Option<usize>,
    /// Where the types stand, if they do.
    pub types: Option<Range<usize>>,
}

impl Execute {
    /// Reads a payload, or its beginning, for a statement with so many parameters.
    pub fn parse(payload: &[u8], parameters: u16, capabilities: Capabilities) -> Read<Self> {
        let mut reader = Reader::new(payload);
        reader.u8()?;
        let (statement, flags, iterations) = (reader.u32()?, reader.u8()?, reader.u32()?);
        let attributes = capabilities.has(Capabilities::QUERY_ATTRIBUTES);
        let counted = attributes && flags & flags::PARAMETER_COUNT_AVAILABLE != 0;
        let mut parameters = usize::from(parameters);
        if (parameters > 0 || counted) && attributes {
            let at = reader.at();
            let told = reader.lenenc()?;
            // No more than a statement can have, so that nothing is reserved for a lie.
            parameters = usize::from(u16::try_from(told).map_err(|_| Bad::new(BadPacket::Value, at))?);
        }
        let nulls_at = reader.at();
        if parameters == 0 {
            let nulls = nulls_at..nulls_at;
            return Ok(Self { statement, flags, iterations, parameters, nulls, bound_at: None, types: None });
        }
        reader.bytes(parameters.div_ceil(8))?;
        let bound_at = reader.at();
        let mut types = None;
        if reader.u8()? != 0 {
            skip_types(&mut reader, parameters, attributes)?;
            types = Some(bound_at + 1..reader.at());
        }
        let nulls = nulls_at..bound_at;
        Ok(Self { statement, flags, iterations, parameters, nulls, bound_at: Some(bound_at), types })
    }

    /// Appends this payload, or its beginning, with the types of an earlier execution, which it lacks.
    pub fn write_with_types(&self, out: &mut Vec<u8>, payload: &[u8], types: &[u8]) {
        let head = payload.split_at_checked(self.bound_at.unwrap_or(payload.len()));
        let (head, rest) = head.unwrap_or((payload, b""));
        out.extend_from_slice(head);
        if let Some((_, values)) = rest.split_first() {
            out.push(1);
            out.extend_from_slice(types);
            out.extend_from_slice(values);
        }
    }
}

/// COM_STMT_BULK_EXECUTE up to its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkExecute {
    /// The statement.
    pub statement: u32,
    /// As sent.
    pub flags: u16,
    /// Where the types stand, if they do.
    pub types: Option<Range<usize>>,
}

impl BulkExecute {
    /// The client wants a result set with ids and counts.
    pub const UNIT_RESULTS: u16 = 64;
    /// Types follow.
    pub const SEND_TYPES: u16 = 128;

    /// Reads a payload, or its beginning, for a statement with so many parameters.
    pub fn parse(payload: &[u8], parameters: u16) -> Read<Self> {
        let mut reader = Reader::new(payload);
        reader.u8()?;
        let (statement, flags) = (reader.u32()?, reader.u16()?);
        let from = reader.at();
        let mut types = None;
        if flags & Self::SEND_TYPES != 0 {
            skip_types(&mut reader, usize::from(parameters), false)?;
            types = Some(from..reader.at());
        }
        Ok(Self { statement, flags, types })
    }

    /// Appends this payload, or its beginning, with the types of an earlier execution, which it lacks.
    pub fn write_with_types(&self, out: &mut Vec<u8>, payload: &[u8], types: &[u8]) {
        let (head, rows) = payload.split_at_checked(7).unwrap_or((payload, b""));
        out.extend_from_slice(head.get(..5).unwrap_or(head));
        put_u16(out, self.flags | Self::SEND_TYPES);
        out.extend_from_slice(types);
        out.extend_from_slice(rows);
    }
}

/// Two bytes for each parameter, and its name where names are told.
fn skip_types(reader: &mut Reader, parameters: usize, named: bool) -> Read<()> {
    if !named {
        return reader.bytes(2 * parameters).map(|_| ());
    }
    for _ in 0..parameters {
        reader.u16()?;
        reader.lenenc_bytes()?;
    }
    Ok(())
}

/// Query attributes behind their counts: null bitmap, the flag that types follow, types with names, values.
pub(super) fn skip_attributes(reader: &mut Reader, count: usize) -> Read<()> {
    let nulls = reader.bytes(count.div_ceil(8))?;
    let bound_at = reader.at();
    if reader.u8()? != 1 {
        return Err(Bad::new(BadPacket::Value, bound_at));
    }
    let mut types = *reader;
    skip_types(reader, count, true)?;
    for index in 0..count {
        let [kind, _] = types.array()?;
        types.lenenc_bytes()?;
        let is_null = nulls.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1);
        if !is_null {
            skip_value(reader, kind)?;
        }
    }
    Ok(())
}

/// A value of the binary protocol, by its type.
fn skip_value(reader: &mut Reader, kind: u8) -> Read<()> {
    let at = reader.at();
    let short = |_| Bad::new(BadPacket::Short, at);
    match kind {
        // NULL.
        6 => return Ok(()),
        // TINY, BOOL; SHORT, YEAR; LONG, INT24, FLOAT; LONGLONG, DOUBLE.
        1 | 244 => reader.bytes(1),
        2 | 13 => reader.bytes(2),
        3 | 4 | 9 => reader.bytes(4),
        5 | 8 => reader.bytes(8),
        // TIMESTAMP, DATE, TIME, DATETIME and their later forms: a byte of length.
        7 | 10..=12 | 14 | 17..=19 => {
            let length = reader.u8()?;
            reader.bytes(usize::from(length)).map_err(short)
        }
        // Numbers as text, texts, blobs, bits, JSON, geometry, vectors.
        0 | 15 | 16 | 242 | 245..=255 => reader.lenenc_bytes(),
        _ => return Err(Bad::new(BadPacket::Value, at)),
    }
    .map(|_| ())
}
