//! Session state information: what an OK packet says about changes of the session, and OK packets written anew with less
//! of it.
//!
//! The `state` of an [`OkPacket`] goes in, [`Change`]s come out; [`rewrite`] and [`rewrite_packet`] make the packet for a
//! client that sees only some of them, or none. Owns nothing. Always true: nothing but trackers, the flag that says there
//! are any, and the form of the text is changed; a packet never becomes longer by it.

#[cfg(test)]
mod tests;

use super::facts::Capabilities;
use super::generic::OkPacket;
use super::packet::{HEADER_BYTES, Header, put};
use super::wire::{Bad, BadPacket, Read, Reader, lenenc_len, put_lenenc, put_lenenc_bytes};

/// A change of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// A variable was set. MariaDB tells the GTID of what was written as `last_gtid`.
    SystemVariable {
        /// Its name.
        name: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
    /// The default database; empty for none.
    Schema(&'a [u8]),
    /// Something of the session changed (`1`), such as a temporary table.
    StateChange(&'a [u8]),
    /// MySQL: GTIDs of what was written.
    Gtids(&'a [u8]),
    /// The statements that open such a transaction again.
    TransactionCharacteristics(&'a [u8]),
    /// What the transaction has done so far, as eight letters.
    TransactionState(&'a [u8]),
    /// A tracker that is not known, with its data.
    Other(u8, &'a [u8]),
}

const SYSTEM_VARIABLES: u8 = 0;
const SCHEMA: u8 = 1;
const STATE_CHANGE: u8 = 2;
const GTIDS: u8 = 3;
const TRANSACTION_CHARACTERISTICS: u8 = 4;
const TRANSACTION_STATE: u8 = 5;
/// The only encoding of GTIDs that exists: their text.
const GTIDS_AS_TEXT: u8 = 0;

impl Change<'_> {
    /// Bytes of its data.
    fn data_len(&self) -> usize {
        let string = |bytes: &[u8]| lenenc_len(bytes.len() as u64) + bytes.len();
        match self {
            Self::SystemVariable { name, value } => string(name) + string(value),
            Self::Gtids(text) => 1 + string(text),
            Self::StateChange(data) | Self::Other(_, data) => data.len(),
            Self::Schema(text) | Self::TransactionCharacteristics(text) | Self::TransactionState(text) => {
                string(text)
            }
        }
    }

    /// Bytes that [`Change::write`] appends.
    pub fn len(&self) -> usize {
        let data = self.data_len();
        1 + lenenc_len(data as u64) + data
    }

    /// Never.
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Appends it as it stands in session state information.
    pub fn write(&self, out: &mut Vec<u8>) {
        let (kind, text) = match *self {
            Self::SystemVariable { name, .. } => (SYSTEM_VARIABLES, name),
            Self::Schema(text) => (SCHEMA, text),
            Self::Gtids(text) => (GTIDS, text),
            Self::TransactionCharacteristics(text) => (TRANSACTION_CHARACTERISTICS, text),
            Self::TransactionState(text) => (TRANSACTION_STATE, text),
            // The one without a length of its own within.
            Self::StateChange(data) => {
                out.push(STATE_CHANGE);
                return put_lenenc_bytes(out, data);
            }
            Self::Other(kind, data) => {
                out.push(kind);
                return put_lenenc_bytes(out, data);
            }
        };
        out.push(kind);
        put_lenenc(out, self.data_len() as u64);
        if kind == GTIDS {
            out.push(GTIDS_AS_TEXT);
        }
        put_lenenc_bytes(out, text);
        if let Self::SystemVariable { value, .. } = self {
            put_lenenc_bytes(out, value);
        }
    }
}

/// Goes over session state information. After a violation it ends.
#[derive(Clone, Debug)]
pub struct Changes<'a> {
    reader: Reader<'a>,
    /// Further variables of one tracker.
    variables: Reader<'a>,
}

/// The changes in the `state` of an OK packet.
pub const fn changes(state: &[u8]) -> Changes<'_> {
    Changes { reader: Reader::new(state), variables: Reader::new(b"") }
}

impl<'a> Changes<'a> {
    fn read(&mut self) -> Read<Change<'a>> {
        if self.variables.is_empty() {
            let kind = self.reader.u8()?;
            let data = self.reader.lenenc_bytes()?;
            let mut fields = Reader::new(data);
            let change = match kind {
                SYSTEM_VARIABLES => {
                    self.variables = fields;
                    return self.variable();
                }
                SCHEMA => Change::Schema(fields.lenenc_bytes()?),
                STATE_CHANGE => Change::StateChange(fields.eof()),
                GTIDS if fields.peek() == Some(GTIDS_AS_TEXT) => {
                    fields.u8()?;
                    Change::Gtids(fields.lenenc_bytes()?)
                }
                TRANSACTION_CHARACTERISTICS => Change::TransactionCharacteristics(fields.lenenc_bytes()?),
                TRANSACTION_STATE => Change::TransactionState(fields.lenenc_bytes()?),
                _ => Change::Other(kind, fields.eof()),
            };
            if !fields.is_empty() {
                return Err(self.reader.bad(BadPacket::Trailing));
            }
            return Ok(change);
        }
        self.variable()
    }

    fn variable(&mut self) -> Read<Change<'a>> {
        let (name, value) = (self.variables.lenenc_bytes()?, self.variables.lenenc_bytes()?);
        Ok(Change::SystemVariable { name, value })
    }
}

impl<'a> Iterator for Changes<'a> {
    type Item = Read<Change<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() && self.variables.is_empty() {
            return None;
        }
        let change = self.read();
        if change.is_err() {
            *self = changes(b"");
        }
        Some(change)
    }
}

/// Appends the payload of an OK packet for a connection with these capabilities, with those changes that are kept.
/// `keep` is asked twice about each.
pub fn rewrite(
    out: &mut Vec<u8>,
    ok: &OkPacket,
    capabilities: Capabilities,
    keep: impl Fn(&Change) -> bool,
) -> Read<()> {
    let mut length = 0;
    if capabilities.has(Capabilities::SESSION_TRACK) {
        for change in changes(ok.state) {
            let change = change?;
            length += if keep(&change) { change.len() } else { 0 };
        }
    }
    let kept = changes(ok.state).filter_map(|change| change.ok().filter(|change| keep(change)));
    ok.write_with(out, capabilities, length, |out| kept.for_each(|change| change.write(out)));
    Ok(())
}

/// The same for a whole packet with its header, from a connection with the capabilities `from` to one with `to`.
pub fn rewrite_packet(
    out: &mut Vec<u8>,
    packet: &[u8],
    from: Capabilities,
    to: Capabilities,
    keep: impl Fn(&Change) -> bool,
) -> Read<()> {
    let short = Bad::new(BadPacket::Short, 0);
    let (header, payload) = packet.split_first_chunk::<HEADER_BYTES>().ok_or(short)?;
    let ok = OkPacket::parse(payload, from)?;
    let mut sequence = Header::from_bytes(*header).sequence;
    let (before, mut done) = (out.len(), Ok(()));
    put(out, &mut sequence, |out| done = rewrite(out, &ok, to, keep));
    if done.is_err() {
        out.truncate(before);
    }
    done
}
