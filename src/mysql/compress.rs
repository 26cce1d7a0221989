//! The compressed protocol: packets within packets of another kind, each with a header of seven bytes.
//!
//! An [`Inflater`] takes the bytes of a connection, cut anywhere, and gives the stream of ordinary packets within; a
//! [`Deflater`] makes compressed packets of such a stream. The first owns zlib's window (about 50 KiB) while it needs it, the
//! second zlib's tables (about 300 KiB) and is shared by connections. Always true: what comes out is as long as the header
//! said, or the packet is bad; no more is decompressed at a time than there is room for.

#[cfg(test)]
mod tests;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::packet::PAYLOAD_MAX;
use super::wire::put_u24;
use crate::limits::SQL_INFLATE_BYTES;

/// Bytes of a compressed packet's header: length 3, sequence id 1, length before compression 3.
pub const HEADER_BYTES: usize = 7;
/// Payloads that are shorter are not compressed, as the servers do it.
pub const COMPRESS_BYTES_MIN: usize = 50;

/// How a compressed packet is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadCompressed {
    /// Its payload is no zlib stream.
    Zlib,
    /// Its payload becomes longer or shorter than its header says, or its stream ends early or late.
    Length,
}

/// Takes compressed packets apart.
#[derive(Debug)]
pub struct Inflater {
    header: [u8; HEADER_BYTES],
    /// Bytes of `header` that are known; all within a packet.
    known: usize,
    /// Bytes of the packet's payload still to come.
    left: usize,
    /// Bytes that are still to come out of it.
    owed: usize,
    /// Its payload is compressed.
    packed: bool,
    /// There is one from the first compressed packet on.
    zlib: Option<Decompress>,
    sequence: u8,
}

impl Default for Inflater {
    fn default() -> Self {
        Self::new()
    }
}

impl Inflater {
    /// At the start of a stream.
    pub fn new() -> Self {
        Self { header: [0; HEADER_BYTES], known: 0, left: 0, owed: 0, packed: false, zlib: None, sequence: 0 }
    }

    /// The sequence id of the last packet; they count apart from those within.
    pub const fn sequence(&self) -> u8 {
        self.sequence
    }

    /// Whether everything so far is whole packets.
    pub const fn is_between(&self) -> bool {
        self.known == 0
    }

    /// Whether the header of a packet is known whose payload is not over.
    pub const fn is_within(&self) -> bool {
        self.known == HEADER_BYTES
    }

    /// Nothing is to come for a while: gives the memory back that is of no use between packets.
    pub fn rest(&mut self) {
        if self.is_between() {
            self.zlib = None;
        }
    }

    /// Takes bytes from the start of `input` and appends at most [`SQL_INFLATE_BYTES`] to `out`; how many were taken. When
    /// so many came out there may be more, even without further input. Otherwise all of the input was taken, or a packet
    /// ends behind what was.
    pub fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, BadCompressed> {
        let end = out.len() + SQL_INFLATE_BYTES;
        let mut used = 0;
        while out.len() < end {
            let rest = input.get(used..).unwrap_or_default();
            if self.known < HEADER_BYTES {
                let taken = self.take_header(rest);
                used += taken;
                if taken == 0 || self.is_between() {
                    break;
                }
                continue;
            }
            let before = out.len();
            let rest = rest.get(..self.left).unwrap_or(rest);
            let taken = if self.packed { self.inflate(rest, out, end)? } else { self.copy(rest, out, end) };
            used += taken;
            self.left -= taken;
            if self.left == 0 && self.owed == 0 && !self.packed {
                self.known = 0;
                break;
            }
            if taken == 0 && out.len() == before {
                break;
            }
        }
        Ok(used)
    }

    fn take_header(&mut self, rest: &[u8]) -> usize {
        let mut taken = 0;
        for (place, byte) in self.header.iter_mut().skip(self.known).zip(rest) {
            *place = *byte;
            taken += 1;
        }
        self.known += taken;
        if self.known == HEADER_BYTES {
            let [a, b, c, sequence, d, e, f] = self.header;
            self.left = u32::from_le_bytes([a, b, c, 0]) as usize;
            self.owed = u32::from_le_bytes([d, e, f, 0]) as usize;
            self.sequence = sequence;
            self.packed = self.owed > 0;
            if self.packed {
                self.zlib.get_or_insert_with(|| Decompress::new(true)).reset(true);
            } else {
                self.owed = self.left;
            }
            if self.left == 0 && !self.packed {
                self.known = 0;
            }
        }
        taken
    }

    /// A stored payload.
    fn copy(&mut self, rest: &[u8], out: &mut Vec<u8>, end: usize) -> usize {
        let taken = rest.len().min(end - out.len());
        out.extend_from_slice(rest.get(..taken).unwrap_or_default());
        self.owed -= taken;
        taken
    }

    /// Some of a compressed payload, up to `end` bytes of output. At its end `packed` is unset.
    fn inflate(&mut self, rest: &[u8], out: &mut Vec<u8>, end: usize) -> Result<usize, BadCompressed> {
        let Some(zlib) = &mut self.zlib else { return Err(BadCompressed::Zlib) };
        let from = out.len();
        // One byte more than is owed, to see when more would come; and no more than a little input is likely to fill.
        let room = (end - from).min(self.owed + 1).min(256 + 16 * rest.len());
        out.resize(from + room, 0);
        let (in_before, out_before) = (zlib.total_in(), zlib.total_out());
        let place = out.get_mut(from..).unwrap_or_default();
        let status = zlib.decompress(rest, place, FlushDecompress::None);
        let taken = (zlib.total_in() - in_before) as usize;
        let made = (zlib.total_out() - out_before) as usize;
        out.truncate(from + made.min(self.owed));
        let status = status.map_err(|_| BadCompressed::Zlib)?;
        if made > self.owed {
            return Err(BadCompressed::Length);
        }
        self.owed -= made;
        let all_taken = taken == self.left;
        match status {
            Status::StreamEnd if all_taken && self.owed == 0 => self.packed = false,
            Status::StreamEnd => return Err(BadCompressed::Length),
            // Everything is there, there is room, and the stream does not go on: it does not end.
            _ if all_taken && made < room => return Err(BadCompressed::Length),
            _ => {}
        }
        Ok(taken)
    }
}

/// Makes compressed packets.
#[derive(Debug)]
pub struct Deflater {
    zlib: Compress,
}

impl Default for Deflater {
    fn default() -> Self {
        Self::new()
    }
}

impl Deflater {
    /// With zlib's fastest level: ringgate is near one end of the connection, and its time is the other's.
    pub fn new() -> Self {
        Self { zlib: Compress::new(Compression::fast(), true) }
    }

    /// Appends compressed packets with these bytes of a stream of ordinary packets, counting `sequence` on.
    pub fn write(&mut self, out: &mut Vec<u8>, sequence: &mut u8, bytes: &[u8]) {
        for payload in bytes.chunks(PAYLOAD_MAX) {
            let from = out.len();
            out.extend_from_slice(&[0; HEADER_BYTES]);
            let packed = payload.len() >= COMPRESS_BYTES_MIN && self.deflate(out, payload);
            if !packed {
                out.truncate(from + HEADER_BYTES);
                out.extend_from_slice(payload);
            }
            let length = out.len() - from - HEADER_BYTES;
            let mut header = Vec::with_capacity(HEADER_BYTES);
            put_u24(&mut header, length as u32);
            header.push(*sequence);
            put_u24(&mut header, if packed { payload.len() as u32 } else { 0 });
            for (place, byte) in out.iter_mut().skip(from).zip(&header) {
                *place = *byte;
            }
            *sequence = sequence.wrapping_add(1);
        }
    }

    /// Appends the compressed payload; false when it is not shorter.
    fn deflate(&mut self, out: &mut Vec<u8>, payload: &[u8]) -> bool {
        self.zlib.reset();
        let from = out.len();
        out.resize(from + payload.len() - 1, 0);
        let place = out.get_mut(from..).unwrap_or_default();
        let status = self.zlib.compress(payload, place, FlushCompress::Finish);
        out.truncate(from + self.zlib.total_out() as usize);
        matches!(status, Ok(Status::StreamEnd))
    }
}
