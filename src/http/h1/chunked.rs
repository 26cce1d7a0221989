//! The chunked transfer coding (RFC 9112, section 7.1): decoding in place, and what we write.
//!
//! Received bytes go in, the data among them comes out as one range of the same bytes; a [`Chunked`] holds where in the
//! coding it stands between two calls. Owns nothing but the trailers, when there are any. Always true: every byte of
//! the coding was checked, CRLF ends each line, chunk extensions are dropped, and trailers are written anew.

#[cfg(test)]
mod tests;

use std::ops::Range;

use arrayvec::ArrayVec;

use crate::http::message::{Kind, is_alias, is_token, is_value_byte, trim};
use crate::limits::{CHUNK_EXTENSION_BYTES_MAX, TRAILER_BYTES_MAX};

/// How a chunked body broke the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadChunk {
    /// Where a chunk size begins there is no hexadecimal digit.
    SizeMissing,
    /// A byte in a chunk size that is neither a digit nor ends it.
    SizeInvalid,
    /// More than 16 digits.
    SizeTooLong,
    /// A control byte in a chunk extension.
    ExtensionInvalid,
    /// A chunk extension that is too long, or more bytes of extensions than of data.
    ExtensionTooLong,
    /// LF without CR, or CR without LF.
    LineEnd,
    /// No CRLF after the data of a chunk: the size was wrong.
    DataEnd,
    /// A trailer field that is none.
    TrailerInvalid,
    /// More bytes of trailers than allowed.
    TrailersTooLong,
}

/// What one call found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Where the data is in the slice that was given: bytes of one chunk stay where they are, those of further chunks
    /// were moved up behind them.
    pub data: Range<usize>,
    /// How many bytes of the slice were consumed. What follows belongs to the next message, if `done`.
    pub used: usize,
    /// The body is complete, trailers too.
    pub done: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// The first digit of a size.
    Size,
    /// Further digits.
    Digits,
    /// An extension.
    Extension,
    /// The LF that ends a size line.
    SizeLf,
    /// `left` bytes of data.
    Data,
    /// The CR after the data.
    DataCr,
    /// The LF after it.
    DataLf,
    /// The first byte after the last chunk: of a trailer, or of the empty line that ends the body.
    Ending,
    /// The LF of that empty line when no trailer came.
    EndLf,
    /// The trailer section.
    Trailers,
    /// Everything was read.
    Done,
}

/// Where in a chunked body a connection stands.
#[derive(Debug)]
pub struct Chunked {
    at: At,
    digits: u8,
    extension: u16,
    /// Bytes of extensions that no data has made up for.
    excess: u16,
    /// Of the size while it is read; then bytes of the chunk still to come.
    left: u64,
    /// Made for the first byte of a trailer.
    trailers: Option<Box<Trailers>>,
}

#[derive(Debug, Default)]
struct Trailers {
    /// The line that is being read, without its end.
    line: Vec<u8>,
    /// Bytes read of the section.
    read: usize,
    /// What may be forwarded, written by us.
    kept: Vec<u8>,
}

impl Default for Chunked {
    fn default() -> Self {
        Self::new()
    }
}

impl Chunked {
    /// The start of a body.
    pub const fn new() -> Self {
        Self { at: At::Size, digits: 0, extension: 0, excess: 0, left: 0, trailers: None }
    }

    /// Decodes from the start of `bytes`, moving data together where more than one chunk is in it.
    pub fn decode(&mut self, bytes: &mut [u8]) -> Result<Decoded, BadChunk> {
        let mut data = 0..0;
        let mut used = 0;
        while self.at != At::Done && used < bytes.len() {
            if self.at == At::Data {
                let here = (bytes.len() - used).min(usize::try_from(self.left).unwrap_or(usize::MAX));
                if data.is_empty() {
                    data = used..used;
                } else if data.end != used {
                    bytes.copy_within(used..used + here, data.end);
                }
                data.end += here;
                used += here;
                self.left -= here as u64;
                if self.left == 0 {
                    self.at = At::DataCr;
                }
            } else {
                self.step(bytes[used])?;
                used += 1;
            }
        }
        Ok(Decoded { data, used, done: self.at == At::Done })
    }

    /// Whether the body is complete.
    pub fn is_done(&self) -> bool {
        self.at == At::Done
    }

    /// The trailers that may be forwarded, as `name: value CRLF` lines; empty when there are none, or not yet.
    pub fn trailers(&self) -> &[u8] {
        self.trailers.as_ref().map_or(&[], |trailers| &trailers.kept)
    }

    /// One byte outside of data.
    fn step(&mut self, byte: u8) -> Result<(), BadChunk> {
        match self.at {
            At::Size | At::Digits => return self.size(byte),
            At::Extension => return self.extension(byte),
            At::SizeLf => {
                expect(byte, b'\n', BadChunk::LineEnd)?;
                self.at = if self.left == 0 { At::Ending } else { At::Data };
            }
            At::DataCr => {
                expect(byte, b'\r', BadChunk::DataEnd)?;
                self.at = At::DataLf;
            }
            At::DataLf => {
                expect(byte, b'\n', BadChunk::DataEnd)?;
                (self.at, self.left, self.digits) = (At::Size, 0, 0);
            }
            At::Ending if byte == b'\r' => self.at = At::EndLf,
            At::EndLf => {
                expect(byte, b'\n', BadChunk::LineEnd)?;
                self.at = At::Done;
            }
            At::Ending | At::Trailers => {
                self.at = At::Trailers;
                if self.trailers.get_or_insert_default().take(byte)? {
                    self.at = At::Done;
                }
            }
            At::Data | At::Done => {}
        }
        Ok(())
    }

    /// A byte of `1*HEXDIG`, or the one that ends it.
    fn size(&mut self, byte: u8) -> Result<(), BadChunk> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ if self.at == At::Size => return Err(BadChunk::SizeMissing),
            b'\r' => {
                self.end_size();
                return Ok(());
            }
            b';' => {
                (self.at, self.extension) = (At::Extension, 1);
                return Ok(());
            }
            b'\n' => return Err(BadChunk::LineEnd),
            _ => return Err(BadChunk::SizeInvalid),
        };
        if self.digits == 16 {
            return Err(BadChunk::SizeTooLong);
        }
        self.digits += 1;
        self.left = self.left << 4 | u64::from(digit);
        self.at = At::Digits;
        Ok(())
    }

    /// A byte of `chunk-ext`: dropped. "A recipient MUST ignore unrecognized chunk extensions" (RFC 9112, 7.1.1), and
    /// "ought to limit the total length of chunk extensions received".
    fn extension(&mut self, byte: u8) -> Result<(), BadChunk> {
        match byte {
            b'\r' => {
                self.excess += self.extension;
                if usize::from(self.excess) > 4 * CHUNK_EXTENSION_BYTES_MAX {
                    return Err(BadChunk::ExtensionTooLong);
                }
                self.end_size();
                Ok(())
            }
            b'\n' => Err(BadChunk::LineEnd),
            _ if !is_value_byte(byte) => Err(BadChunk::ExtensionInvalid),
            _ if usize::from(self.extension) == CHUNK_EXTENSION_BYTES_MAX => Err(BadChunk::ExtensionTooLong),
            _ => {
                self.extension += 1;
                Ok(())
            }
        }
    }

    fn end_size(&mut self) {
        self.excess = self.excess.saturating_sub(u16::try_from(self.left).unwrap_or(u16::MAX));
        self.at = At::SizeLf;
    }
}

const fn expect(byte: u8, wanted: u8, otherwise: BadChunk) -> Result<(), BadChunk> {
    if byte == wanted { Ok(()) } else { Err(otherwise) }
}

impl Trailers {
    /// A byte of the trailer section; true when it was the last.
    fn take(&mut self, byte: u8) -> Result<bool, BadChunk> {
        if self.read == TRAILER_BYTES_MAX {
            return Err(BadChunk::TrailersTooLong);
        }
        self.read += 1;
        let after_cr = self.line.last() == Some(&b'\r');
        match byte {
            b'\n' if after_cr => {
                self.line.pop();
                if self.line.is_empty() {
                    return Ok(true);
                }
                self.keep()?;
                self.line.clear();
            }
            b'\n' => return Err(BadChunk::LineEnd),
            _ if after_cr => return Err(BadChunk::LineEnd),
            b'\r' => self.line.push(byte),
            _ if !is_value_byte(byte) => return Err(BadChunk::TrailerInvalid),
            _ => self.line.push(byte),
        }
        Ok(false)
    }

    /// The line is complete: a field, checked as those of a head are, kept when it may be a trailer.
    fn keep(&mut self) -> Result<(), BadChunk> {
        let Some(colon) = self.line.iter().position(|byte| *byte == b':') else {
            return Err(BadChunk::TrailerInvalid);
        };
        let (name, value) = (&self.line[..colon], trim(&self.line[colon + 1..]));
        if !is_token(name) {
            return Err(BadChunk::TrailerInvalid);
        }
        if may_be_trailer(name) {
            self.kept.extend_from_slice(name);
            self.kept.extend_from_slice(b": ");
            self.kept.extend_from_slice(value);
            self.kept.extend_from_slice(b"\r\n");
        }
        Ok(())
    }
}

/// RFC 9110, 6.5.1: a trailer must not be one of the fields "necessary for message framing, routing, request
/// modifiers, authentication, response control data, or determining how to process the content", since some recipients
/// merge trailers into the head.
const NEVER_TRAILERS: [&str; 27] = [
    "accept",
    "age",
    "authorization",
    "cache-control",
    "content-encoding",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "expires",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "location",
    "max-forwards",
    "origin",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "retry-after",
    "set-cookie",
    "vary",
    "via",
    "www-authenticate",
];

fn may_be_trailer(name: &[u8]) -> bool {
    // Names that CGI would confuse are dropped like the real ones; x-forwarded-port and the like too.
    let never = NEVER_TRAILERS.iter().any(|other| is_alias(name, other.as_bytes()));
    let forwarded = name.first_chunk::<11>().is_some_and(|start| is_alias(start, b"x-forwarded"));
    Kind::of(name) == Kind::Other && !never && !forwarded
}

/// The line before a chunk of `length` bytes. Not for 0: that is the last chunk.
pub fn size_line(length: u64) -> ArrayVec<u8, 18> {
    let mut line = ArrayVec::new();
    let mut shift = (u64::BITS - length.leading_zeros()).div_ceil(4).max(1) * 4;
    while shift > 0 {
        shift -= 4;
        line.push(b"0123456789abcdef"[(length >> shift & 15) as usize]);
    }
    line.push(b'\r');
    line.push(b'\n');
    line
}

/// What follows the data of a chunk.
pub const CHUNK_END: &[u8] = b"\r\n";

/// The end of a body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Writes the end of a body with `trailers` (whole `name: value CRLF` lines). `None` when it does not fit.
pub fn write_last_chunk(trailers: &[u8], out: &mut [u8]) -> Option<usize> {
    let length = LAST_CHUNK.len() + trailers.len();
    let out = out.get_mut(..length)?;
    out[..3].copy_from_slice(b"0\r\n");
    out[3..length - 2].copy_from_slice(trailers);
    out[length - 2..].copy_from_slice(CHUNK_END);
    Some(length)
}
