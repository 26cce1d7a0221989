//! Packets: a header of four bytes and a payload of at most 16 MiB - 1, longer payloads in several of them.
//!
//! [`parse`] takes a whole small packet from the start of a buffer; a [`Framer`] goes over a stream cut at any place and
//! says where packets begin and end, without looking at payloads; [`write()`] and [`patch`] make packets. Owns nothing but
//! the framer's few bytes of state. Always true: a payload of several packets is one payload, and ends with the first
//! packet that is shorter than [`PAYLOAD_MAX`], be it empty.

#[cfg(test)]
mod tests;

use super::wire::BadPacket;

/// Bytes of a packet's header.
pub const HEADER_BYTES: usize = 4;
/// Bytes of one packet's payload at most; a packet so long is continued by the next.
pub const PAYLOAD_MAX: usize = 0xff_ffff;

/// The header of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the payload.
    pub length: usize,
    /// The sequence id: counts the packets of an exchange in both directions, modulo 256.
    pub sequence: u8,
}

impl Header {
    /// From its bytes.
    pub const fn from_bytes([a, b, c, sequence]: [u8; HEADER_BYTES]) -> Self {
        Self { length: u32::from_le_bytes([a, b, c, 0]) as usize, sequence }
    }

    /// Its bytes. The length is at most [`PAYLOAD_MAX`].
    pub const fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let [a, b, c, _] = (self.length as u32).to_le_bytes();
        [a, b, c, self.sequence]
    }

    /// Whether the next packet continues the payload.
    pub const fn is_continued(self) -> bool {
        self.length >= PAYLOAD_MAX
    }
}

/// A packet that lies whole in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Its sequence id.
    pub sequence: u8,
    /// What it carries.
    pub payload: &'a [u8],
}

/// What [`parse`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parse<'a> {
    /// The packet, and how many bytes it took.
    Done(Packet<'a>, usize),
    /// A good beginning.
    NeedMore,
    /// The payload is longer than allowed. (Nothing else can be wrong with a header.)
    Bad(BadPacket),
}

/// Takes a packet from the start of `bytes`; its payload has `payload_max` bytes at most, which is below [`PAYLOAD_MAX`].
pub fn parse(bytes: &[u8], payload_max: usize) -> Parse<'_> {
    let Some((header, rest)) = bytes.split_first_chunk() else { return Parse::NeedMore };
    let header = Header::from_bytes(*header);
    if header.length > payload_max || header.is_continued() {
        return Parse::Bad(BadPacket::TooLong);
    }
    match rest.get(..header.length) {
        None => Parse::NeedMore,
        Some(payload) => {
            Parse::Done(Packet { sequence: header.sequence, payload }, HEADER_BYTES + header.length)
        }
    }
}

/// What stands at the start of the bytes that a [`Framer`] was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Bytes of a header of which more must come.
    Header,
    /// The end of a header. `begins`: a new payload begins with it; otherwise it continues one. `ends`: the payload ends
    /// here (this packet is empty).
    Start {
        /// The header.
        header: Header,
        /// Whether a new payload begins.
        begins: bool,
        /// Whether the payload is over.
        ends: bool,
    },
    /// Bytes of a payload. `ends`: the payload is over behind them.
    Payload {
        /// Whether the payload is over.
        ends: bool,
    },
}

/// Follows the packets of a stream.
#[derive(Clone, Debug, Default)]
pub struct Framer {
    header: [u8; HEADER_BYTES],
    /// Bytes of `header` that are known; 0 within a payload.
    known: usize,
    /// Bytes of the packet's payload still to come.
    left: usize,
    /// The next packet continues the payload.
    continued: bool,
}

impl Framer {
    /// At the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether everything so far is whole packets and whole payloads.
    pub const fn is_between(&self) -> bool {
        self.known == 0 && self.left == 0 && !self.continued
    }

    /// What `bytes` begin with, and how many of them that is. `None` without bytes.
    pub fn next(&mut self, bytes: &[u8]) -> Option<(Part, usize)> {
        if bytes.is_empty() {
            return None;
        }
        if self.left > 0 {
            let used = self.left.min(bytes.len());
            self.left -= used;
            return Some((Part::Payload { ends: self.left == 0 && !self.continued }, used));
        }
        let mut used = 0;
        for (place, byte) in self.header.iter_mut().skip(self.known).zip(bytes) {
            *place = *byte;
            used += 1;
        }
        self.known += used;
        if self.known < HEADER_BYTES {
            return Some((Part::Header, used));
        }
        let header = Header::from_bytes(self.header);
        let begins = !self.continued;
        self.known = 0;
        self.left = header.length;
        self.continued = header.is_continued();
        Some((Part::Start { header, begins, ends: header.length == 0 }, used))
    }
}

/// Numbers the packets of a stream anew. Clients that compress count those within as they like, and their servers do not look.
#[derive(Clone, Debug)]
pub struct Numbers {
    framer: Framer,
    next: u8,
}

impl Numbers {
    /// At the start of a stream whose first packet gets this sequence id.
    pub fn new(first: u8) -> Self {
        Self { framer: Framer::new(), next: first }
    }

    /// Writes sequence ids over those of the packets whose headers end in `bytes`.
    pub fn number(&mut self, bytes: &mut [u8]) {
        let mut at = 0;
        while let Some((part, used)) = self.framer.next(bytes.get(at..).unwrap_or_default()) {
            at += used;
            if let Part::Start { .. } = part {
                if let Some(place) = bytes.get_mut(at - 1) {
                    *place = self.next;
                }
                self.next = self.next.wrapping_add(1);
            }
        }
    }
}

/// Appends a payload as packets, counting `sequence` on.
pub fn write(out: &mut Vec<u8>, sequence: &mut u8, payload: &[u8]) {
    let mut rest = payload;
    loop {
        let (packet, further) = rest.split_at(rest.len().min(PAYLOAD_MAX));
        out.extend_from_slice(&Header { length: packet.len(), sequence: *sequence }.to_bytes());
        out.extend_from_slice(packet);
        *sequence = sequence.wrapping_add(1);
        if packet.len() < PAYLOAD_MAX {
            return;
        }
        rest = further;
    }
}

/// Appends one packet whose payload `fill` writes in place. The payload is shorter than [`PAYLOAD_MAX`].
pub fn put(out: &mut Vec<u8>, sequence: &mut u8, fill: impl FnOnce(&mut Vec<u8>)) {
    let from = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    fill(out);
    let length = out.len() - from - HEADER_BYTES;
    assert!(length < PAYLOAD_MAX, "a packet made in place is a small one");
    patch(out, from, Header { length, sequence: *sequence });
    *sequence = sequence.wrapping_add(1);
}

/// Writes a header over the four bytes at `at`.
pub fn patch(out: &mut [u8], at: usize, header: Header) {
    if let Some(place) = out.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        *place = header.to_bytes();
    }
}
