//! Finding where a name, a value or a target ends, eight bytes at a time.
//!
//! Bytes and a position go in; the position of the first byte that does not belong comes out, or `None` when the bytes
//! run out. Owns nothing. Always true: what is found does not depend on where the words of eight begin (tested over
//! every byte and place).

use crate::http::message::{is_token_byte, is_value_byte};

/// The first byte from `from` on that no field name has.
#[inline]
pub(super) fn name_end(bytes: &[u8], from: usize) -> Option<usize> {
    // Letters and `-` are passed quickly; the other token characters are looked up.
    let mut at = from;
    loop {
        at = find(bytes, at, other_than_letter_dash, |byte| !is_token_byte(byte))?;
        match bytes.get(at) {
            Some(byte) if is_token_byte(*byte) => at += 1,
            _ => return Some(at),
        }
    }
}

/// The first byte from `from` on that no field value or reason phrase has: a control byte other than HTAB.
#[inline]
pub(super) fn value_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at = find(bytes, at, control, |byte| !is_value_byte(byte))?;
        match bytes.get(at) {
            Some(b'\t') => at += 1,
            _ => return Some(at),
        }
    }
}

/// The first byte from `from` on that no request target has: anything but visible ASCII, and `#`.
#[inline]
pub(super) fn target_end(bytes: &[u8], from: usize) -> Option<usize> {
    find(bytes, from, other_than_target, |byte| !is_target_byte(byte))
}

/// True for a byte of a request target: visible ASCII without `#`.
pub(super) const fn is_target_byte(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7e) && byte != b'#'
}

/// The first byte that ends it. `words` says of eight bytes which do: the lowest bit 7 of a byte that it sets is right.
#[inline]
fn find(bytes: &[u8], from: usize, words: fn(u64) -> u64, ends: fn(u8) -> bool) -> Option<usize> {
    let mut rest = bytes.get(from..)?;
    while let Some((word, after)) = rest.split_first_chunk::<8>() {
        let found = words(u64::from_le_bytes(*word));
        if found != 0 {
            return Some(bytes.len() - rest.len() + found.trailing_zeros() as usize / 8);
        }
        rest = after;
    }
    let at = rest.iter().position(|byte| ends(*byte))?;
    Some(bytes.len() - rest.len() + at)
}

/// A word of eight times this byte.
const fn all(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

const HIGH: u64 = all(0x80);

/// Marks bytes below `limit`, at most 0x80. Where a byte is marked, those above it may be marked wrongly (the borrow).
#[inline]
const fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(all(limit)) & !word & HIGH
}

/// Marks bytes that are `byte`, as [`below`] does.
#[inline]
const fn equal(word: u64, byte: u8) -> u64 {
    below(word ^ all(byte), 1)
}

#[inline]
const fn control(word: u64) -> u64 {
    below(word, 0x20) | equal(word, 0x7f)
}

#[inline]
const fn other_than_target(word: u64) -> u64 {
    below(word, 0x21) | equal(word, 0x7f) | equal(word, b'#') | word & HIGH
}

#[inline]
const fn other_than_letter_dash(word: u64) -> u64 {
    // Seven bits and a sum that does not leave its byte: bit 7 says "at least".
    let low = word & !HIGH;
    let lower = low | all(0x20);
    let from_a = lower + all(0x80 - b'a');
    let beyond_z = lower + all(0x7f - b'z');
    let not_dash = (low ^ all(b'-')) + all(0x7f);
    (!(from_a & !beyond_z) & not_dash | word) & HIGH
}

#[cfg(test)]
mod tests {
    use super::*;

    type Find = fn(&[u8], usize) -> Option<usize>;

    #[test]
    fn every_byte_at_every_place_is_found_or_passed() {
        let cases: [(Find, fn(u8) -> bool); 3] =
            [(name_end, is_token_byte), (value_end, is_value_byte), (target_end, is_target_byte)];
        for (find, belongs) in cases {
            for length in [1, 7, 15, 16, 17, 31, 32, 33, 50] {
                for at in 0..length {
                    for byte in 0..=255 {
                        let mut bytes = vec![b'x'; length];
                        bytes[at] = byte;
                        let expected = if belongs(byte) { None } else { Some(at) };
                        assert_eq!(find(&bytes, 0), expected, "{byte:#x} at {at} of {length}");
                        assert_eq!(find(&bytes, at), expected);
                        assert_eq!(find(&bytes, at + 1), None);
                    }
                }
            }
            assert_eq!(find(b"", 0), None);
            assert_eq!(find(b"x", 2), None);
        }
    }

    #[test]
    fn the_first_of_several_is_found() {
        assert_eq!(name_end(b"Content_Type!x: y: z\r\n", 0), Some(14));
        assert_eq!(value_end(b"a\tb\tc and so on, and on\t\r\n\r\n", 0), Some(24));
        assert_eq!(target_end(b"/a/b/c/d/e/f/g/h/i?j HTTP/1.1\r\n", 0), Some(20));
    }
}
