//! Sources of MySQL's tagged GTIDs (`uuid:tag:7`, since 8.3): a server counts the transactions of each tag on their own.
//!
//! A UUID and a tag go in, a number comes out that stands for both where else a UUID does, and the other way round. It
//! owns the table of them, one for the process: there are few, they come from the servers, and a name means the same
//! everywhere. Always true: a number once given stands for the same source; beyond [`SQL_TAGS_MAX`] there are none.

use std::sync::OnceLock;

use arrayvec::ArrayVec;

use crate::limits::SQL_TAGS_MAX;

/// Letters that a tag has at most.
const TAG_BYTES_MAX: usize = 32;
/// Beyond MariaDB's domains, and no UUID that a server would make: those name a version.
const FIRST: u128 = 1 << 64;

type Tag = ArrayVec<u8, TAG_BYTES_MAX>;

static TABLE: [OnceLock<(u128, Tag)>; SQL_TAGS_MAX] = [const { OnceLock::new() }; SQL_TAGS_MAX];

/// Stands for the transactions of a server with this tag. `None`: it is no tag, or there are too many.
pub(super) fn source(uuid: u128, text: &[u8]) -> Option<u128> {
    let is_letter = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'_';
    let fits = text.first().is_some_and(is_letter)
        && text.iter().all(|byte| is_letter(byte) || byte.is_ascii_digit());
    if !fits {
        return None;
    }
    let mut tag = Tag::new();
    for byte in text {
        tag.try_push(byte.to_ascii_lowercase()).ok()?;
    }
    let wanted = (uuid, tag);
    let at = TABLE.iter().position(|place| *place.get_or_init(|| wanted.clone()) == wanted)?;
    Some(FIRST + at as u128)
}

/// The UUID and the tag that a source stands for.
pub(super) fn name(source: u128) -> Option<(u128, &'static str)> {
    let at = usize::try_from(source.checked_sub(FIRST)?).ok()?;
    let (uuid, tag) = TABLE.get(at)?.get()?;
    Some((*uuid, std::str::from_utf8(tag).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_stands_for_one_server_and_tag() {
        let one = source(1 << 100, b"a_1").unwrap();
        assert_eq!(source(1 << 100, b"A_1"), Some(one), "whatever the case");
        assert_eq!(name(one), Some((1 << 100, "a_1")));
        let others = [source(1 << 100, b"b"), source(1 << 101, b"a_1")];
        assert!(others.iter().all(|other| other.is_some_and(|other| other != one)) && others[0] != others[1]);
        for no_tag in [&b""[..], b"1a", b"a-b", b"\xc3\xa4", &[b'a'; 33]] {
            assert_eq!(source(1 << 100, no_tag), None, "{no_tag:?}");
        }
        assert!(source(2, &[b'a'; 32]).is_some());
        for known in [0, 7, 1 << 100, u128::MAX, FIRST + SQL_TAGS_MAX as u128] {
            assert_eq!(name(known), None);
        }
    }
}
