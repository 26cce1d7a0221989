//! The request target and the authority (RFC 9112, 3.2; RFC 3986, 3.2).
//!
//! Text in, a checked view of it out. Owns nothing. Always true: an authority is a host with an optional port and
//! nothing else, so that it can stand in a field, in quotes and in a log.

use std::net::Ipv6Addr;

use super::BadHead;
use crate::http::message::{Method, Target, TargetForm};

/// The target of a request line. `text` is not empty and visible ASCII without `#`.
pub(super) fn parse_target(text: &str, method: Method) -> Result<Target<'_>, BadHead> {
    if text.starts_with('/') {
        return Ok(Target { form: TargetForm::Origin, path_and_query: text, authority: None });
    }
    if text == "*" {
        return match method {
            Method::Options => {
                Ok(Target { form: TargetForm::Asterisk, path_and_query: "*", authority: None })
            }
            _ => Err(BadHead::AsteriskWithoutOptions),
        };
    }
    absolute(text, method)
}

/// 3.2.2, absolute-form: `http://authority/path?query`.
fn absolute(text: &str, method: Method) -> Result<Target<'_>, BadHead> {
    let Some((scheme, rest)) = text.split_once("://") else { return Err(BadHead::TargetInvalid) };
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(BadHead::TargetInvalid);
    }
    let (authority, path_and_query) = match rest.find(['/', '?']) {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let Some(authority) = parse_host(authority.as_bytes()) else { return Err(BadHead::HostInvalid) };
    // 3.2.4: "If a proxy receives an OPTIONS request with an absolute-form of request-target in which the URI has an
    // empty path and no query component, then the last proxy on the request chain MUST send a request-target of "*"".
    if method == Method::Options && path_and_query.is_empty() {
        return Ok(Target { form: TargetForm::Absolute, path_and_query: "*", authority: Some(authority) });
    }
    Ok(Target { form: TargetForm::Absolute, path_and_query, authority: Some(authority) })
}

/// `bytes` as an authority: see [`is_host`].
pub(super) fn parse_host(bytes: &[u8]) -> Option<&str> {
    if is_authority(bytes) { std::str::from_utf8(bytes).ok() } else { None }
}

/// True for a host with an optional port: a name of letters, digits, `-`, `.`, `_` and `~` that is not empty, or an
/// IPv6 address in brackets. Percent-encoding, `,` and other characters that RFC 3986 would allow but no DNS name has
/// are refused: they are read differently by different servers. So is userinfo.
pub fn is_host(text: &str) -> bool {
    is_authority(text.as_bytes())
}

fn is_authority(bytes: &[u8]) -> bool {
    let name_bytes = bytes.iter().position(|byte| !NAME[usize::from(*byte)]).unwrap_or(bytes.len());
    let (name, rest) = bytes.split_at(name_bytes);
    match rest {
        [] => !name.is_empty(),
        [b':', port @ ..] => !name.is_empty() && is_port(port),
        [b'[', rest @ ..] => name.is_empty() && is_address_in_brackets(rest),
        _ => false,
    }
}

/// What follows `[`.
fn is_address_in_brackets(rest: &[u8]) -> bool {
    let Some((address, port)) = std::str::from_utf8(rest).ok().and_then(|rest| rest.split_once(']')) else {
        return false;
    };
    let port_fits = match port.as_bytes() {
        [] => true,
        [b':', port @ ..] => is_port(port),
        _ => false,
    };
    port_fits && address.parse::<Ipv6Addr>().is_ok()
}

/// `*DIGIT` (RFC 3986, 3.2.3), and a number that a port can have.
fn is_port(digits: &[u8]) -> bool {
    let mut port = 0;
    for digit in digits {
        port = port * 10 + u32::from(digit.wrapping_sub(b'0'));
        if !digit.is_ascii_digit() || port > 65_535 {
            return false;
        }
    }
    digits.len() <= 5
}

/// Bytes of a host name.
static NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let it = byte as u8;
        table[byte] = it.is_ascii_alphanumeric() || matches!(it, b'-' | b'.' | b'_' | b'~');
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_with_an_optional_port() {
        for good in [
            "a",
            "a.example",
            "A.EXAMPLE.",
            "a_b.example:80",
            "127.0.0.1:8080",
            "a:",
            "a:65535",
            "[::1]",
            "[2001:db8::1]:443",
            "[::ffff:1.2.3.4]:",
            "xn--bcher-kva.example",
            "~a",
        ] {
            assert!(is_host(good), "{good}");
        }
        for bad in [
            "",
            ":80",
            "a b",
            "a,b",
            "a@b",
            "user:pw@b",
            "a:b",
            "a:+80",
            "a:65536",
            "a:000080",
            "a:80:80",
            "a/b",
            "a?b",
            "a#b",
            "a%20b",
            "[::1",
            "[::1]x",
            "[::1]:x",
            "[]",
            "[1.2.3.4]",
            "[v1.x]",
            "[fe80::1%25eth0]",
            "::1",
            "a\"b",
            "a\\b",
            "a'b",
            "b\u{fc}cher",
            "a;b",
            "[::1]]",
        ] {
            assert!(!is_host(bad), "{bad}");
        }
    }
}
