//! Finding where a name, a value or a target ends, eight bytes at a time.
//!
//! Bytes go in; the place and value of the first byte that does not belong come out, or `None` when the bytes run out.
//! Owns nothing. Always true: what is found does not depend on where the words of eight begin (tested over every byte
//! and place).

use crate::http::message::{is_token_byte, is_value_byte};

/// The first byte that no field name has.
#[inline]
pub(super) fn name_end(bytes: &[u8]) -> Option<(usize, u8)> {
    // Letters and `-` are passed quickly; the other token characters are looked up.
    find(bytes, other_than_letter_dash, is_token_byte)
}

/// The first byte that no field value or reason phrase has: a control byte other than HTAB.
#[inline]
pub(super) fn value_end(bytes: &[u8]) -> Option<(usize, u8)> {
    find(bytes, control, is_value_byte)
}

/// The first byte that no request target has: anything but visible ASCII, and `#`.
#[inline]
pub(super) fn target_end(bytes: &[u8]) -> Option<(usize, u8)> {
    find(bytes, other_than_target, is_target_byte)
}

/// True for a byte of a request target: visible ASCII without `#`.
pub(super) const fn is_target_byte(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7e) && byte != b'#'
}

/// The first byte that does not belong. `words` marks, with bit 7, which of eight bytes may be one: nothing below the
/// lowest mark is, and whether that is one is asked of `belongs`.
#[inline]
fn find(bytes: &[u8], words: fn(u64) -> u64, belongs: fn(u8) -> bool) -> Option<(usize, u8)> {
    let mut at = 0;
    while let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let marks = words(u64::from_le_bytes(*word));
        if marks == 0 {
            at += 8;
            continue;
        }
        let here = marks.trailing_zeros() as usize / 8;
        // The same as `word[here]`, without a check: the marked byte moves to the bottom.
        let byte = (u64::from_le_bytes(*word) >> (here * 8)) as u8;
        if !belongs(byte) {
            return Some((at + here, byte));
        }
        at += here + 1;
    }
    let rest = bytes.get(at..)?;
    let here = rest.iter().position(|byte| !belongs(*byte))?;
    Some((at + here, rest[here]))
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
    // Below 0x20 the first term borrows; 0x7f and one more reach bit 7, and so, wrongly, may 0x7e behind 0xff.
    (word.wrapping_sub(all(0x20)) | word.wrapping_add(all(1))) & !word & HIGH
}

#[inline]
const fn other_than_target(word: u64) -> u64 {
    below(word, 0x21) | equal(word, 0x7f) | equal(word, b'#') | word & HIGH
}

#[inline]
const fn other_than_letter_dash(word: u64) -> u64 {
    // Sums of seven bits say with bit 7: "at least". Bytes from 0x80 on carry into those above, but are marked themselves.
    let lower = word | all(0x20);
    let from_a = lower.wrapping_add(all(0x80 - b'a'));
    let beyond_z = lower.wrapping_add(all(0x7f - b'z'));
    let not_dash = (word ^ all(b'-')).wrapping_add(all(0x7f));
    ((!from_a | beyond_z) & not_dash | word) & HIGH
}

#[cfg(test)]
mod tests {
    use super::*;

    type Find = fn(&[u8]) -> Option<(usize, u8)>;

    type Belongs = fn(u8) -> bool;

    const CASES: [(Find, Belongs); 3] =
        [(name_end, is_token_byte), (value_end, is_value_byte), (target_end, is_target_byte)];

    #[test]
    fn every_byte_at_every_place_is_found_or_passed() {
        for (find, belongs) in CASES {
            for length in [1, 7, 8, 9, 15, 16, 17, 25] {
                for at in 0..length {
                    for byte in 0..=255 {
                        let mut bytes = vec![b'x'; length];
                        bytes[at] = byte;
                        let expected = if belongs(byte) { None } else { Some((at, byte)) };
                        assert_eq!(find(&bytes), expected, "{byte:#x} at {at} of {length}");
                    }
                }
            }
            assert_eq!(find(b""), None);
        }
    }

    #[test]
    fn every_pair_of_bytes_is_read_as_one_by_one() {
        for (find, belongs) in CASES {
            for (first, second) in (0..=255).flat_map(|first| (0..=255).map(move |second| (first, second))) {
                let bytes = [b'a', first, second, b'z', first, second, second, first, b'b'];
                let expected = bytes.iter().position(|byte| !belongs(*byte)).map(|at| (at, bytes[at]));
                assert_eq!(find(&bytes), expected, "{bytes:?}");
            }
        }
    }

    #[test]
    fn the_first_of_several_is_found() {
        assert_eq!(name_end(b"Content_Type!x: y: z\r\n"), Some((14, b':')));
        assert_eq!(value_end(b"a\tb\tc and so on, and on\t\r\n\r\n"), Some((24, b'\r')));
        assert_eq!(target_end(b"/a/b/c/d/e/f/g/h/i?j HTTP/1.1\r\n"), Some((20, b' ')));
    }
}
