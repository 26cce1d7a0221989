//! A slow, careful reader of heads: names the first violation and its place.
//!
//! A head goes in, complete or not; the first thing that is wrong with its form comes out. Runs only for heads that are
//! incomplete or refused, and in the fuzzer as the oracle of the fast path. Owns nothing. Always true: when it finds
//! nothing wrong, the fast path may accept (as far as the form goes); when it finds something, the fast path must not.

use super::scan::is_target_byte;
use super::{BadHead, HeadLimits};
use crate::http::message::{Kind, is_token_byte, is_value_byte};
use crate::limits::FIELDS_MAX;

/// What a head begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// A request line.
    Request,
    /// A status line.
    Response,
}

/// Why reading stopped.
enum Stop {
    /// The bytes are used up.
    NeedMore,
    /// Here is a violation.
    Bad(BadHead),
}

/// The first violation of form in `head` with its offset, or whether `head` is complete. Meaning (targets, hosts,
/// lengths) is not looked at, except that Host, Content-Length and Transfer-Encoding may come once.
pub fn diagnose(head: &[u8], start: Start, limits: &HeadLimits) -> Result<bool, (BadHead, usize)> {
    let mut reader = Reader { bytes: head, at: 0 };
    let stop = match start {
        Start::Request => reader.request_line(limits),
        Start::Response => reader.status_line(),
    };
    match stop.and_then(|()| reader.fields(limits)) {
        Ok(()) => Ok(true),
        Err(Stop::NeedMore) => Ok(false),
        Err(Stop::Bad(bad)) => Err((bad, reader.at)),
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Result<u8, Stop> {
        self.bytes.get(self.at).copied().ok_or(Stop::NeedMore)
    }

    fn bad<T>(&self, bad: BadHead) -> Result<T, Stop> {
        Err(Stop::Bad(bad))
    }

    /// Skips the bytes for which `belongs` holds; returns how many.
    fn skip(&mut self, belongs: impl Fn(u8) -> bool) -> usize {
        let from = self.at;
        while self.bytes.get(self.at).is_some_and(|byte| belongs(*byte)) {
            self.at += 1;
        }
        self.at - from
    }

    /// `byte`, or `otherwise`.
    fn expect(&mut self, byte: u8, otherwise: BadHead) -> Result<(), Stop> {
        if self.peek()? != byte {
            return self.bad(otherwise);
        }
        self.at += 1;
        Ok(())
    }

    /// CR LF, or `otherwise` when neither CR nor LF is next.
    fn line_end(&mut self, otherwise: BadHead) -> Result<(), Stop> {
        match self.peek()? {
            b'\n' => self.bad(BadHead::BareLf),
            b'\r' => match self.bytes.get(self.at + 1) {
                None => Err(Stop::NeedMore),
                Some(b'\n') => {
                    self.at += 2;
                    Ok(())
                }
                Some(_) => self.bad(BadHead::BareCr),
            },
            _ => self.bad(otherwise),
        }
    }

    fn request_line(&mut self, limits: &HeadLimits) -> Result<(), Stop> {
        match self.peek()? {
            b'\r' | b'\n' => return self.bad(BadHead::EmptyLines),
            // The record type of a handshake; the next byte is its version, 3.
            0x16 => return self.bad(BadHead::Tls),
            _ => {}
        }
        let method = self.skip(is_token_byte);
        if self.peek()? != b' ' || method == 0 {
            return self.bad(BadHead::MethodInvalid);
        }
        self.at += 1;
        let from = self.at;
        let visible = self.skip(is_target_byte);
        if visible > limits.target_bytes_max {
            self.at = from + limits.target_bytes_max;
            return self.bad(BadHead::TargetTooLong);
        }
        match self.peek()? {
            b' ' if visible > 0 => self.at += 1,
            // HTTP/0.9, or a line that broke off.
            b'\r' | b'\n' if visible > 0 => {
                self.line_end(BadHead::VersionInvalid)?;
                return self.bad(BadHead::VersionInvalid);
            }
            _ => return self.bad(BadHead::TargetInvalid),
        }
        self.version()?;
        self.line_end(BadHead::VersionInvalid)
    }

    fn status_line(&mut self) -> Result<(), Stop> {
        if matches!(self.peek()?, b'\r' | b'\n') {
            return self.bad(BadHead::EmptyLines);
        }
        self.version()?;
        self.expect(b' ', BadHead::VersionInvalid)?;
        if self.peek()? == b'0' {
            return self.bad(BadHead::StatusInvalid);
        }
        for _ in 0..3 {
            if !self.peek()?.is_ascii_digit() {
                return self.bad(BadHead::StatusInvalid);
            }
            self.at += 1;
        }
        if self.peek()? == b' ' {
            self.skip(is_value_byte);
            return self.line_end(BadHead::ReasonInvalid);
        }
        self.line_end(BadHead::StatusInvalid)
    }

    /// `HTTP/1.0` or `HTTP/1.1`.
    fn version(&mut self) -> Result<(), Stop> {
        for byte in b"HTTP/" {
            self.expect(*byte, BadHead::VersionInvalid)?;
        }
        // Digit, dot, digit: only 1.0 and 1.1 are known. Another major version is refused at its first digit.
        match self.peek()? {
            b'1' => self.at += 1,
            b'0' | b'2'..=b'9' => return self.bad(BadHead::VersionUnknown),
            _ => return self.bad(BadHead::VersionInvalid),
        }
        self.expect(b'.', BadHead::VersionInvalid)?;
        match self.peek()? {
            b'0' | b'1' => self.at += 1,
            b'2'..=b'9' => return self.bad(BadHead::VersionUnknown),
            _ => return self.bad(BadHead::VersionInvalid),
        }
        Ok(())
    }

    fn fields(&mut self, limits: &HeadLimits) -> Result<(), Stop> {
        let fields_max = limits.fields_max.min(FIELDS_MAX);
        let mut once = [(Kind::Host, false), (Kind::ContentLength, false), (Kind::TransferEncoding, false)];
        let mut count = 0;
        while !matches!(self.peek()?, b'\r' | b'\n') {
            let from = self.at;
            if count == fields_max {
                return self.bad(BadHead::TooManyFields);
            }
            count += 1;
            let kind = self.name()?;
            self.skip(is_value_byte);
            self.line_end(BadHead::FieldValueInvalid)?;
            for (single, seen) in &mut once {
                if *single == kind && std::mem::replace(seen, true) {
                    self.at = from;
                    return self.bad(match kind {
                        Kind::Host => BadHead::HostTwice,
                        Kind::ContentLength => BadHead::ContentLengthTwice,
                        _ => BadHead::TransferEncodingTwice,
                    });
                }
            }
        }
        self.line_end(BadHead::FieldNameInvalid)
    }

    /// A field name and its colon.
    fn name(&mut self) -> Result<Kind, Stop> {
        let from = self.at;
        match self.peek()? {
            b' ' | b'\t' => return self.bad(BadHead::ObsFold),
            b':' => return self.bad(BadHead::FieldNameEmpty),
            _ => {}
        }
        self.skip(is_token_byte);
        match self.peek()? {
            b':' => {}
            b' ' | b'\t' => return self.bad(BadHead::BlankBeforeColon),
            b'\r' | b'\n' => {
                self.line_end(BadHead::FieldWithoutColon)?;
                return self.bad(BadHead::FieldWithoutColon);
            }
            _ => return self.bad(BadHead::FieldNameInvalid),
        }
        let kind = Kind::of(&self.bytes[from..self.at]);
        self.at += 1;
        Ok(kind)
    }
}
