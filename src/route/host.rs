//! Hosts: what a rule may name, and the form in which hosts are compared.
//!
//! What goes in: the text of a rule, and the host of a request. What comes out: a [`HostMatch`], and a lower-case name
//! without port and trailing dot. Always true: a `HostMatch` made by [`HostMatch::parse`] can be equal to the canonical
//! form of some request's host.

use std::fmt;

/// Bytes of a host name at most (RFC 1035 section 2.3.4, without the trailing dot). A longer one matches no rule that
/// names a host.
pub(super) const BYTES_MAX: usize = 253;
/// Bytes of one label at most.
const LABEL_BYTES_MAX: usize = 63;

/// Which hosts a rule takes. Names are lower case, without port and trailing dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostMatch {
    /// Every host.
    Any,
    /// This name, or this address (IPv6 in brackets).
    Exact(String),
    /// Every name below this one; the text is what stands behind `*.`.
    Wildcard(String),
}

/// Why a text is not a host that a rule can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostMistake {
    /// There is nothing.
    Empty,
    /// There is a port; rules take every port.
    Port,
    /// There is a scheme or a path.
    Url,
    /// A star stands elsewhere than in `*.` at the start.
    Star,
    /// A character is not ASCII.
    NotAscii,
    /// A character cannot stand in a host name.
    Character,
    /// The name or one of its labels is empty or too long.
    Length,
}

impl HostMatch {
    /// Reads `www.x.com`, `*.x.com`, `*` (any host), `192.0.2.1` or `[2001:db8::1]`.
    pub fn parse(text: &str) -> Result<Self, HostMistake> {
        if text == "*" {
            return Ok(Self::Any);
        }
        if text.contains('/') {
            return Err(HostMistake::Url);
        }
        if !text.is_ascii() {
            return Err(HostMistake::NotAscii);
        }
        if text.starts_with('[') {
            let address = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            return match address.map(str::parse::<std::net::Ipv6Addr>) {
                Some(Ok(_)) => Ok(Self::Exact(text.to_ascii_lowercase())),
                _ if text.contains("]:") => Err(HostMistake::Port),
                _ => Err(HostMistake::Character),
            };
        }
        if text.contains(':') {
            return Err(HostMistake::Port);
        }
        let name = text.strip_prefix("*.").unwrap_or(text);
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        check_name(&name)?;
        Ok(if text.starts_with("*.") { Self::Wildcard(name) } else { Self::Exact(name) })
    }
}

impl fmt::Display for HostMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any host"),
            Self::Exact(name) => f.write_str(name),
            Self::Wildcard(suffix) => write!(f, "*.{suffix}"),
        }
    }
}

fn check_name(name: &str) -> Result<(), HostMistake> {
    if name.is_empty() {
        return Err(HostMistake::Empty);
    }
    if name.contains('*') {
        return Err(HostMistake::Star);
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')) {
        return Err(HostMistake::Character);
    }
    let labels_fit = name.split('.').all(|label| !label.is_empty() && label.len() <= LABEL_BYTES_MAX);
    if name.len() > BYTES_MAX || !labels_fit { Err(HostMistake::Length) } else { Ok(()) }
}

/// The host without port and trailing dot, in lower case; `None` when it is longer than any name can be.
pub(super) fn canonical<'a>(host: &'a str, buffer: &'a mut [u8; BYTES_MAX]) -> Option<&'a [u8]> {
    let name = without_port(host.as_bytes());
    let name = name.strip_suffix(b".").unwrap_or(name);
    if !name.iter().any(u8::is_ascii_uppercase) {
        return (name.len() <= BYTES_MAX).then_some(name);
    }
    let lower = buffer.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    Some(lower)
}

/// Cuts `:port`; the colons of an IPv6 address stand in brackets.
fn without_port(host: &[u8]) -> &[u8] {
    let colon = host.iter().rposition(|byte| matches!(byte, b':' | b']'));
    match colon {
        Some(at) if host[at] == b':' => &host[..at],
        _ => host,
    }
}
