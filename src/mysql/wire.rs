//! The basic types of MySQL's protocol: fixed and length-encoded integers, and the four kinds of strings.
//!
//! A [`Reader`] goes over the payload of one packet and hands out numbers and borrowed strings; the `put_` functions append
//! them. Owns nothing. Always true: a read that goes over the end, or finds a length that cannot be, is a [`Bad`] with the
//! offset where it began, and the reader has not moved.

#[cfg(test)]
mod tests;

/// How a packet breaks the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPacket {
    /// It ends within a field.
    Short,
    /// A length-encoded integer that begins with 0xff, or with 0xfb (NULL) where a value must be.
    Lenenc,
    /// A NUL-terminated string without its NUL.
    NoNul,
    /// It is longer than the bound for its kind.
    TooLong,
    /// A greeting of another protocol than version 10.
    Version,
    /// A client of before MySQL 4.1.
    Protocol320,
    /// It is of another kind than what may stand here.
    Kind,
    /// A field whose value cannot be.
    Value,
    /// Bytes after the end of what it says.
    Trailing,
}

/// A violation, and the offset in the payload of the field that shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bad {
    /// What is wrong.
    pub reason: BadPacket,
    /// Where.
    pub at: usize,
}

impl Bad {
    /// A violation at this offset.
    pub const fn new(reason: BadPacket, at: usize) -> Self {
        Self { reason, at }
    }
}

/// What reading answers.
pub type Read<T> = Result<T, Bad>;

/// A checked reader over a payload.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// At the start of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The offset of the next byte.
    pub const fn at(&self) -> usize {
        self.at
    }

    /// Bytes left.
    pub const fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Whether nothing is left.
    pub const fn is_empty(&self) -> bool {
        self.left() == 0
    }

    /// A violation at the next byte.
    pub const fn bad(&self, reason: BadPacket) -> Bad {
        Bad::new(reason, self.at)
    }

    /// The next byte, which stays.
    pub fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// All bytes left, which stay.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// `string<fix>`: exactly so many bytes.
    pub fn bytes(&mut self, count: usize) -> Read<&'a [u8]> {
        let end = self.at.checked_add(count).ok_or(self.bad(BadPacket::Short))?;
        let found = self.bytes.get(self.at..end).ok_or(self.bad(BadPacket::Short))?;
        self.at = end;
        Ok(found)
    }

    /// The same as an array.
    pub fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let found = self.rest().first_chunk().ok_or(self.bad(BadPacket::Short))?;
        self.at += N;
        Ok(*found)
    }

    /// `string<EOF>`: all that is left.
    pub fn eof(&mut self) -> &'a [u8] {
        let rest = self.rest();
        self.at = self.bytes.len();
        rest
    }

    /// `string<NUL>`, without its NUL.
    pub fn nul(&mut self) -> Read<&'a [u8]> {
        let length = self.rest().iter().position(|byte| *byte == 0).ok_or(self.bad(BadPacket::NoNul))?;
        let found = self.bytes(length)?;
        self.at += 1;
        Ok(found)
    }

    /// `string<NUL>`, whose NUL may be missing at the end of the packet.
    pub fn nul_or_eof(&mut self) -> &'a [u8] {
        self.nul().unwrap_or_else(|_| self.eof())
    }

    /// `int<1>`.
    pub fn u8(&mut self) -> Read<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// `int<2>`.
    pub fn u16(&mut self) -> Read<u16> {
        self.array().map(u16::from_le_bytes)
    }

    /// `int<3>`.
    pub fn u24(&mut self) -> Read<u32> {
        self.array::<3>().map(|[a, b, c]| u32::from_le_bytes([a, b, c, 0]))
    }

    /// `int<4>`.
    pub fn u32(&mut self) -> Read<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// `int<8>`.
    pub fn u64(&mut self) -> Read<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// `int<lenenc>`.
    pub fn lenenc(&mut self) -> Read<u64> {
        let mut ahead = *self;
        let number = ahead.lenenc_or_null()?.ok_or(self.bad(BadPacket::Lenenc))?;
        *self = ahead;
        Ok(number)
    }

    /// `int<lenenc>`, or `None` for 0xfb, which says NULL in a row.
    pub fn lenenc_or_null(&mut self) -> Read<Option<u64>> {
        let mut ahead = *self;
        let number = match ahead.u8()? {
            0xfb => None,
            0xfc => Some(u64::from(ahead.u16().map_err(|_| self.bad(BadPacket::Short))?)),
            0xfd => Some(u64::from(ahead.u24().map_err(|_| self.bad(BadPacket::Short))?)),
            0xfe => Some(ahead.u64().map_err(|_| self.bad(BadPacket::Short))?),
            0xff => return Err(self.bad(BadPacket::Lenenc)),
            small => Some(u64::from(small)),
        };
        *self = ahead;
        Ok(number)
    }

    /// `string<lenenc>`.
    pub fn lenenc_bytes(&mut self) -> Read<&'a [u8]> {
        let mut ahead = *self;
        let length = usize::try_from(ahead.lenenc()?).map_err(|_| self.bad(BadPacket::Short))?;
        let found = ahead.bytes(length).map_err(|_| self.bad(BadPacket::Short))?;
        *self = ahead;
        Ok(found)
    }
}

/// `int<2>`.
pub fn put_u16(out: &mut Vec<u8>, number: u16) {
    out.extend_from_slice(&number.to_le_bytes());
}

/// `int<3>`: the lower 24 bits.
pub fn put_u24(out: &mut Vec<u8>, number: u32) {
    let [a, b, c, _] = number.to_le_bytes();
    out.extend_from_slice(&[a, b, c]);
}

/// `int<4>`.
pub fn put_u32(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(&number.to_le_bytes());
}

/// `int<8>`.
pub fn put_u64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

/// `int<lenenc>` in its shortest form.
pub fn put_lenenc(out: &mut Vec<u8>, number: u64) {
    let [a, b, c, ..] = number.to_le_bytes();
    match number {
        0..=0xfa => out.push(a),
        0xfb..=0xffff => out.extend_from_slice(&[0xfc, a, b]),
        0x1_0000..=0xff_ffff => out.extend_from_slice(&[0xfd, a, b, c]),
        _ => {
            out.push(0xfe);
            put_u64(out, number);
        }
    }
}

/// Bytes of an `int<lenenc>` in its shortest form.
pub const fn lenenc_len(number: u64) -> usize {
    match number {
        0..=0xfa => 1,
        0xfb..=0xffff => 3,
        0x1_0000..=0xff_ffff => 4,
        _ => 9,
    }
}

/// `string<lenenc>`.
pub fn put_lenenc_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_lenenc(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// `string<NUL>`. A NUL within would end it early: nothing behind one is written.
pub fn put_nul(out: &mut Vec<u8>, bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    out.extend_from_slice(bytes.get(..end).unwrap_or_default());
    out.push(0);
}
