//! The generic answers of a server: OK, ERR and EOF packets, read and written.
//!
//! A payload goes in, a borrowed view comes out, and the other way round. Owns nothing. Always true: an OK packet says
//! what it says under the connection's capabilities; a text of an ERR packet is bytes of unknown character set. What is in
//! an OK packet's session state information stands in [`super::track`].

#[cfg(test)]
mod tests;

use super::facts::{Capabilities, Status};
use super::wire::{Bad, BadPacket, Read, Reader, put_lenenc, put_lenenc_bytes, put_u16};

/// First byte of an OK packet.
pub const OK: u8 = 0x00;
/// First byte of an EOF packet, and of the OK packet that stands for one under DEPRECATE_EOF.
pub const EOF: u8 = 0xfe;
/// First byte of an ERR packet.
pub const ERR: u8 = 0xff;

/// An OK packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OkPacket<'a> {
    /// [`OK`], or [`EOF`] at the end of a result.
    pub header: u8,
    /// Rows affected.
    pub affected_rows: u64,
    /// The id generated last.
    pub last_insert_id: u64,
    /// The session's state.
    pub status: Status,
    /// How many warnings there are.
    pub warnings: u16,
    /// A text for people. The documentation says that its length is told under SESSION_TRACK only; both vendors' servers
    /// always tell it. It is written as they do and read in both forms.
    pub info: &'a [u8],
    /// Session state information; empty unless SESSION_STATE_CHANGED is set.
    pub state: &'a [u8],
}

impl<'a> OkPacket<'a> {
    /// Reads a payload that begins with [`OK`] or [`EOF`].
    pub fn parse(payload: &'a [u8], capabilities: Capabilities) -> Read<Self> {
        let mut reader = Reader::new(payload);
        let header = reader.u8()?;
        if header != OK && header != EOF {
            return Err(Bad::new(BadPacket::Kind, 0));
        }
        let (affected_rows, last_insert_id) = (reader.lenenc()?, reader.lenenc()?);
        let (status, warnings) = (Status(reader.u16()?), reader.u16()?);
        let (mut info, mut state): (&[u8], &[u8]) = (b"", b"");
        if !capabilities.has(Capabilities::SESSION_TRACK) {
            let rest = reader.eof();
            let mut text = Reader::new(rest);
            info = text.lenenc_bytes().ok().filter(|_| text.is_empty()).unwrap_or(rest);
        } else if !reader.is_empty() {
            info = reader.lenenc_bytes()?;
            if status.has(Status::SESSION_STATE_CHANGED) {
                state = reader.lenenc_bytes()?;
            }
            if !reader.is_empty() {
                return Err(reader.bad(BadPacket::Trailing));
            }
        }
        Ok(Self { header, affected_rows, last_insert_id, status, warnings, info, state })
    }

    /// The status alone, which needs no capabilities.
    pub fn status(payload: &[u8]) -> Read<Status> {
        let mut reader = Reader::new(payload);
        reader.u8()?;
        reader.lenenc()?;
        reader.lenenc()?;
        reader.u16().map(Status)
    }

    /// Appends the payload.
    pub fn write(&self, out: &mut Vec<u8>, capabilities: Capabilities) {
        self.write_with(out, capabilities, self.state.len(), |out| out.extend_from_slice(self.state));
    }

    /// The same with other session state information, of `length` bytes.
    pub(super) fn write_with(
        &self,
        out: &mut Vec<u8>,
        capabilities: Capabilities,
        length: usize,
        write_state: impl FnOnce(&mut Vec<u8>),
    ) {
        let changed = capabilities.has(Capabilities::SESSION_TRACK) && length > 0;
        let unchanged = self.status.without(Status::SESSION_STATE_CHANGED);
        let status = if changed { self.status.with(Status::SESSION_STATE_CHANGED) } else { unchanged };
        out.push(self.header);
        put_lenenc(out, self.affected_rows);
        put_lenenc(out, self.last_insert_id);
        put_u16(out, status.0);
        put_u16(out, self.warnings);
        if changed || !self.info.is_empty() {
            put_lenenc_bytes(out, self.info);
        }
        if changed {
            put_lenenc(out, length as u64);
            write_state(out);
        }
    }
}

/// An ERR packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrPacket<'a> {
    /// The error's number.
    pub code: u16,
    /// The SQLSTATE; absent in errors before the handshake.
    pub sqlstate: Option<[u8; 5]>,
    /// A text for people.
    pub message: &'a [u8],
}

impl<'a> ErrPacket<'a> {
    /// Reads a payload that begins with [`ERR`].
    pub fn parse(payload: &'a [u8]) -> Read<Self> {
        let mut reader = Reader::new(payload);
        if reader.u8()? != ERR {
            return Err(Bad::new(BadPacket::Kind, 0));
        }
        let code = reader.u16()?;
        let mut sqlstate = None;
        if reader.peek() == Some(b'#') {
            reader.u8()?;
            sqlstate = Some(reader.array()?);
        }
        Ok(Self { code, sqlstate, message: reader.eof() })
    }

    /// Appends the payload.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(ERR);
        put_u16(out, self.code);
        if let Some(sqlstate) = self.sqlstate {
            out.push(b'#');
            out.extend_from_slice(&sqlstate);
        }
        out.extend_from_slice(self.message);
    }
}

/// An EOF packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EofPacket {
    /// How many warnings there are.
    pub warnings: u16,
    /// The session's state.
    pub status: Status,
}

impl EofPacket {
    /// Reads a payload that begins with [`EOF`].
    pub fn parse(payload: &[u8]) -> Read<Self> {
        let mut reader = Reader::new(payload);
        if reader.u8()? != EOF {
            return Err(Bad::new(BadPacket::Kind, 0));
        }
        let (warnings, status) = (reader.u16()?, Status(reader.u16()?));
        if !reader.is_empty() {
            return Err(reader.bad(BadPacket::Trailing));
        }
        Ok(Self { warnings, status })
    }

    /// Appends the payload.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(EOF);
        put_u16(out, self.warnings);
        put_u16(out, self.status.0);
    }
}
