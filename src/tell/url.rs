//! The URL of `ringgate explain`.
//!
//! What goes in: a text. What comes out: scheme, host, port and target, or what is wrong in words. It owns its parts.
//! Always true: the host is one that a client can send; the target begins with `/`.

use crate::route::{HostMatch, HostMistake};

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// True for `https`.
    pub is_tls: bool,
    /// Name or address, in lower case; IPv6 in brackets.
    pub host: String,
    /// The port, the scheme's own where none was written.
    pub port: u16,
    /// Path and query.
    pub target: String,
}

impl Url {
    /// Reads an absolute URL. Errors: what is wrong, for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (is_tls, rest) = match text.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some((scheme, _)) => return Err(format!("the scheme is http or https, not {scheme}")),
            None => return Err("write it like https://www.example.org/path".into()),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let target = target.split('#').next().unwrap_or_default();
        let colon = authority.rfind(':').filter(|colon| !authority[*colon..].contains(']'));
        let (host, port) = match colon {
            Some(colon) => {
                (&authority[..colon], authority[colon + 1..].parse().ok().filter(|port| *port > 0))
            }
            None => (authority, Some(if is_tls { 443 } else { 80 })),
        };
        let port = port.ok_or("the port is a number from 1 to 65535")?;
        let host = match HostMatch::parse(host) {
            Ok(HostMatch::Exact(host)) => host,
            Err(HostMistake::NotAscii) => return Err("write the host in its encoded form (xn--...)".into()),
            _ => return Err(format!("\"{host}\" is not a host")),
        };
        if !target.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("a URL holds no blanks, control or non-ASCII characters: percent-encode them".into());
        }
        let slash = if target.starts_with('/') { "" } else { "/" };
        Ok(Self { is_tls, host, port, target: format!("{slash}{target}") })
    }

    /// The word before `://`.
    pub const fn scheme(&self) -> &'static str {
        if self.is_tls { "https" } else { "http" }
    }

    /// The Host field that a client sends.
    pub fn authority(&self) -> String {
        match (self.is_tls, self.port) {
            (true, 443) | (false, 80) => self.host.clone(),
            _ => format!("{}:{}", self.host, self.port),
        }
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.authority(), self.target)
    }
}
