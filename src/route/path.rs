//! The form in which paths are compared.
//!
//! What goes in: a request target as it came, or the path of a rule. What comes out: its path in canonical form. It owns
//! nothing. Always true: a canonical path is its own canonical form unless a `%` is left in it (only one layer of
//! encoding is removed, as servers do); nothing is allocated for a path that needs no change.

use std::borrow::Cow;

/// The path of a target in the form in which rules see it: without the query, percent-encoded bytes decoded once, runs of
/// slashes joined, `.` and `..` segments resolved. An encoded slash counts as a slash, since common servers read it so.
///
/// The target that goes to the server is not changed: this form serves the choice alone.
pub fn canonical(target: &str) -> Cow<'_, [u8]> {
    let target = target.as_bytes();
    let mut last = 0;
    for (at, &byte) in target.iter().enumerate() {
        match byte {
            b'?' | b'#' => return Cow::Borrowed(&target[..at]),
            b'%' => return Cow::Owned(rewrite(target)),
            b'/' if last == b'/' => return Cow::Owned(rewrite(target)),
            b'.' if last == b'/' && is_dot_segment(&target[at..]) => return Cow::Owned(rewrite(target)),
            _ => last = byte,
        }
    }
    Cow::Borrowed(target)
}

/// True when what follows a slash begins with the segment `.` or `..`. The segment may be cut by an encoded slash.
fn is_dot_segment(rest: &[u8]) -> bool {
    let dots = rest.iter().take(3).take_while(|byte| **byte == b'.').count();
    dots <= 2 && matches!(rest.get(dots), None | Some(b'/' | b'?' | b'#' | b'%'))
}

fn rewrite(target: &[u8]) -> Vec<u8> {
    let end = target.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(target.len());
    let decoded = decode(&target[..end]);
    if decoded.first() != Some(&b'/') {
        return decoded;
    }
    let mut path = Vec::with_capacity(decoded.len());
    let mut segments = decoded[1..].split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            b"" | b"." => {}
            b".." => path.truncate(path.iter().rposition(|byte| *byte == b'/').unwrap_or(0)),
            _ => {
                path.push(b'/');
                path.extend_from_slice(segment);
                continue;
            }
        }
        if is_last {
            path.push(b'/');
        }
    }
    path
}

/// Decodes `%XX` once; a `%` without two hexadecimal digits stays.
fn decode(bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        match rest {
            [b'%', high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                decoded.push(digit(*high) << 4 | digit(*low));
                rest = after;
            }
            _ => {
                decoded.push(*first);
                rest = tail;
            }
        }
    }
    decoded
}

/// The value of a hexadecimal digit.
fn digit(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        _ => byte.wrapping_sub(b'A') + 10,
    }
}
