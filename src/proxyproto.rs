//! The PROXY protocol, versions 1 and 2: who a connection is from, said before its first byte.
//!
//! [`parse`] takes the first bytes of an accepted connection; [`write()`] makes the header for a connection to a server.
//! Owns nothing. Always true: v1 is one line of at most 107 bytes with single blanks; a v2 header is no longer than
//! [`V2_BYTES_MAX`]; whatever is not exactly the format is refused, because the next byte would be read as the protocol
//! behind it. Source: haproxy.org/download/1.8/doc/proxy-protocol.txt, sections 2.1 and 2.2.

#[cfg(test)]
mod tests;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use arrayvec::ArrayVec;

/// Which version is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// The text line.
    V1,
    /// The binary header.
    V2,
}

/// Bytes of a v1 line with its CRLF at most (2.1).
pub const V1_BYTES_MAX: usize = 107;
/// Bytes of a v2 header with its addresses and TLVs that we take.
pub const V2_BYTES_MAX: usize = 16 + 4096;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Where the connection comes from; `None` when that is not said or is no IP address.
    pub source: Option<SocketAddr>,
    /// Where it went to.
    pub destination: Option<SocketAddr>,
    /// The proxy speaks for itself (a health check): the connection's own addresses hold.
    pub local: bool,
}

/// How a header broke the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHeader {
    /// Neither signature.
    NoSignature,
    /// A v1 line that does not end in time.
    LineTooLong,
    /// A v1 line without CR before LF, or with CR elsewhere.
    LineEnd,
    /// A v1 line with other words, or other blanks, than the format has.
    Words,
    /// The protocol of a v1 line is none of TCP4, TCP6, UNKNOWN.
    Protocol,
    /// An address that is not of the family, or not in its usual form.
    Address,
    /// A port that is not 0 to 65535 in plain digits.
    Port,
    /// A v2 header of another version.
    Version,
    /// A v2 command other than LOCAL and PROXY.
    Command,
    /// A v2 address family or transport that does not exist.
    Family,
    /// A v2 header too short for its addresses.
    TooShort,
    /// A v2 header longer than [`V2_BYTES_MAX`].
    TooLong,
}

/// What [`parse`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parse {
    /// The header, and how many bytes it took.
    Done(Header, usize),
    /// A good beginning.
    NeedMore,
    /// A violation, and the offset of the byte that shows it.
    Bad(BadHeader, usize),
}

const V1_SIGNATURE: &[u8] = b"PROXY ";
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const UNKNOWN: Header = Header { source: None, destination: None, local: false };

/// Reads a header from the start of `bytes`.
pub fn parse(bytes: &[u8]) -> Parse {
    let found = match bytes.first() {
        None => return Parse::NeedMore,
        Some(b'P') => parse_v1(bytes),
        Some(_) => parse_v2(bytes),
    };
    match found {
        Ok(Some((header, used))) => Parse::Done(header, used),
        Ok(None) => Parse::NeedMore,
        Err((bad, at)) => Parse::Bad(bad, at),
    }
}

type Found = Result<Option<(Header, usize)>, (BadHeader, usize)>;

/// The first offset at which `bytes` is not `signature`, as far as both go.
fn mismatch(bytes: &[u8], signature: &[u8]) -> Option<usize> {
    bytes.iter().zip(signature).position(|(byte, wanted)| byte != wanted)
}

fn parse_v1(bytes: &[u8]) -> Found {
    if let Some(at) = mismatch(bytes, V1_SIGNATURE) {
        return Err((BadHeader::NoSignature, at));
    }
    let window = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    let Some(end) = window.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        // The longest line has its CR one byte before its end.
        return if window.len() >= V1_BYTES_MAX - 1 {
            Err((BadHeader::LineTooLong, window.len() - 1))
        } else {
            Ok(None)
        };
    };
    match (window[end], bytes.get(end + 1)) {
        (b'\r', Some(b'\n')) if end + 2 <= V1_BYTES_MAX => {}
        (b'\r', Some(b'\n')) => return Err((BadHeader::LineTooLong, end)),
        (b'\r', None) => return Ok(None),
        _ => return Err((BadHeader::LineEnd, end)),
    }
    if end < V1_SIGNATURE.len() {
        return Err((BadHeader::Words, end));
    }
    let from = V1_SIGNATURE.len();
    let Ok(line) = std::str::from_utf8(&window[from..end]) else { return Err((BadHeader::Words, from)) };
    words(line).map(|header| Some((header, end + 2))).map_err(|bad| (bad, from))
}

/// `TCP4 source destination port port`, single blanks between.
fn words(line: &str) -> Result<Header, BadHeader> {
    let mut words = line.split(' ');
    let v6 = match words.next() {
        // "the receiver must ignore anything presented before the CRLF is found".
        Some("UNKNOWN") => return Ok(UNKNOWN),
        Some("TCP4") => false,
        Some("TCP6") => true,
        _ => return Err(BadHeader::Protocol),
    };
    let (Some(source), Some(destination), Some(source_port), Some(destination_port), None) =
        (words.next(), words.next(), words.next(), words.next(), words.next())
    else {
        return Err(BadHeader::Words);
    };
    Ok(Header {
        source: Some(SocketAddr::new(address(source, v6)?, port(source_port)?)),
        destination: Some(SocketAddr::new(address(destination, v6)?, port(destination_port)?)),
        local: false,
    })
}

fn address(text: &str, v6: bool) -> Result<IpAddr, BadHeader> {
    let parsed = if v6 {
        text.parse::<Ipv6Addr>().map(IpAddr::from)
    } else {
        text.parse::<Ipv4Addr>().map(IpAddr::from)
    };
    parsed.map_err(|_| BadHeader::Address)
}

/// Digits without sign or leading zero.
fn port(text: &str) -> Result<u16, BadHeader> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if !plain {
        return Err(BadHeader::Port);
    }
    text.parse().map_err(|_| BadHeader::Port)
}

fn parse_v2(bytes: &[u8]) -> Found {
    if let Some(at) = mismatch(bytes, V2_SIGNATURE) {
        return Err((BadHeader::NoSignature, at));
    }
    let Some(&version_command) = bytes.get(12) else { return Ok(None) };
    if version_command >> 4 != 2 {
        return Err((BadHeader::Version, 12));
    }
    let local = match version_command & 15 {
        0 => true,
        1 => false,
        _ => return Err((BadHeader::Command, 12)),
    };
    let Some(&family) = bytes.get(13) else { return Ok(None) };
    // 2.2: family AF_UNSPEC, AF_INET, AF_INET6, AF_UNIX; transport UNSPEC, STREAM, DGRAM.
    // "When the LOCAL command is used, the receiver must [...] discard the protocol block including the family".
    let address_bytes = match (family >> 4, family & 15) {
        _ if local => 0,
        (0, 0..=2) => 0,
        (1, 0..=2) => 12,
        (2, 0..=2) => 36,
        (3, 0..=2) => 216,
        _ => return Err((BadHeader::Family, 13)),
    };
    let Some(&[high, low]) = bytes.get(14..16).and_then(|length| length.first_chunk()) else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if 16 + length > V2_BYTES_MAX {
        return Err((BadHeader::TooLong, 14));
    }
    if length < address_bytes {
        return Err((BadHeader::TooShort, 14));
    }
    let Some(block) = bytes.get(16..16 + length) else { return Ok(None) };
    let header = if local { Header { local, ..UNKNOWN } } else { addresses(family, block) };
    Ok(Some((header, 16 + length)))
}

/// The addresses of a v2 header for TCP; of any other family or transport they are not known.
fn addresses(family: u8, block: &[u8]) -> Header {
    let port = |at: usize| {
        block.get(at..at + 2).and_then(|two| two.first_chunk()).map(|two| u16::from_be_bytes(*two))
    };
    let v4 = |at: usize, port: Option<u16>| {
        let octets = block.get(at..at + 4)?.first_chunk::<4>()?;
        Some(SocketAddr::from((*octets, port?)))
    };
    let v6 = |at: usize, port: Option<u16>| {
        let octets = block.get(at..at + 16)?.first_chunk::<16>()?;
        Some(SocketAddr::from((*octets, port?)))
    };
    match family {
        0x11 => Header { source: v4(0, port(8)), destination: v4(4, port(10)), local: false },
        0x21 => Header { source: v6(0, port(32)), destination: v6(16, port(34)), local: false },
        _ => UNKNOWN,
    }
}

/// The header for a connection from `source` to `destination`. Addresses of two families are written as IPv6, the
/// IPv4 one mapped (RFC 4291, 2.5.5.2). Without both it says that nothing is known: UNKNOWN, or LOCAL.
pub fn write(
    version: Version,
    source: Option<SocketAddr>,
    destination: Option<SocketAddr>,
) -> ArrayVec<u8, 128> {
    let mut out = ArrayVec::new();
    let ends = source.zip(destination).map(|(source, destination)| {
        match (source.ip().to_canonical(), destination.ip().to_canonical()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => Ends::V4(from, to, source.port(), destination.port()),
            (from, to) => Ends::V6(mapped(from), mapped(to), source.port(), destination.port()),
        }
    });
    // Nothing written here is longer than the list: 107 bytes of text, 52 of binary.
    let written = match version {
        Version::V1 => write_v1(&mut out, ends),
        Version::V2 => write_v2(&mut out, ends),
    };
    debug_assert!(written.is_ok(), "a header fits");
    out
}

#[derive(Clone, Copy)]
enum Ends {
    V4(Ipv4Addr, Ipv4Addr, u16, u16),
    V6(Ipv6Addr, Ipv6Addr, u16, u16),
}

const fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

fn write_v1(out: &mut ArrayVec<u8, 128>, ends: Option<Ends>) -> std::io::Result<()> {
    match ends {
        None => write!(out, "PROXY UNKNOWN\r\n"),
        Some(Ends::V4(from, to, from_port, to_port)) => {
            write!(out, "PROXY TCP4 {from} {to} {from_port} {to_port}\r\n")
        }
        Some(Ends::V6(from, to, from_port, to_port)) => {
            write!(out, "PROXY TCP6 {from} {to} {from_port} {to_port}\r\n")
        }
    }
}

fn write_v2(out: &mut ArrayVec<u8, 128>, ends: Option<Ends>) -> std::io::Result<()> {
    out.write_all(V2_SIGNATURE)?;
    match ends {
        None => out.write_all(&[0x20, 0x00, 0, 0]),
        Some(Ends::V4(from, to, from_port, to_port)) => {
            out.write_all(&[0x21, 0x11, 0, 12])?;
            out.write_all(&from.octets())?;
            out.write_all(&to.octets())?;
            out.write_all(&from_port.to_be_bytes())?;
            out.write_all(&to_port.to_be_bytes())
        }
        Some(Ends::V6(from, to, from_port, to_port)) => {
            out.write_all(&[0x21, 0x21, 0, 36])?;
            out.write_all(&from.octets())?;
            out.write_all(&to.octets())?;
            out.write_all(&from_port.to_be_bytes())?;
            out.write_all(&to_port.to_be_bytes())
        }
    }
}
