//! Character sets, as far as they decide where a text or a name ends.
//!
//! What goes in: the name of a character set, or bytes. What comes out: a [`Charset`], or the length of a character. It
//! owns nothing. Always true: a byte from 0x80 on is never counted as part of a character without looking at what
//! follows.

/// The kinds of `character_set_client` that differ in how text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Charset {
    /// utf8mb3, utf8mb4.
    Utf8,
    /// latin1 (cp1252).
    Latin1,
    /// Any other whose second bytes are neither `\` nor a backtick: outside of quotes, bytes from 0x80 on are doubtful.
    Other,
    /// gbk: a second byte may be `\` or a backtick.
    Gbk,
    /// big5: as gbk.
    Big5,
    /// sjis and cp932: as gbk.
    Sjis,
    /// gb18030 (MySQL): as gbk, with characters of four bytes.
    Gb18030,
}

impl Charset {
    /// By the server's name for it; `None` for those that a client cannot use, and unknown ones.
    pub fn by_name(name: &[u8]) -> Option<Self> {
        const OTHERS: &[&[u8]] = &[
            b"binary",
            b"ascii",
            b"latin2",
            b"latin5",
            b"latin7",
            b"cp1250",
            b"cp1251",
            b"cp1256",
            b"cp1257",
            b"cp850",
            b"cp852",
            b"cp866",
            b"dec8",
            b"hp8",
            b"swe7",
            b"koi8r",
            b"koi8u",
            b"greek",
            b"hebrew",
            b"tis620",
            b"armscii8",
            b"geostd8",
            b"keybcs2",
            b"macce",
            b"macroman",
            b"euckr",
            b"gb2312",
            b"ujis",
            b"eucjpms",
        ];
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        Some(match () {
            () if is(b"utf8") || is(b"utf8mb3") || is(b"utf8mb4") => Self::Utf8,
            () if is(b"latin1") => Self::Latin1,
            () if is(b"gbk") => Self::Gbk,
            () if is(b"big5") => Self::Big5,
            () if is(b"sjis") || is(b"cp932") => Self::Sjis,
            () if is(b"gb18030") => Self::Gb18030,
            () if OTHERS.iter().any(|known| is(known)) => Self::Other,
            () => return None,
        })
    }

    /// Whether a byte below 0x80 can be part of a longer character.
    pub fn hides_ascii(self) -> bool {
        matches!(self, Self::Gbk | Self::Big5 | Self::Sjis | Self::Gb18030)
    }

    /// Bytes of the character of more than one byte at the beginning; zero when there is none.
    pub fn long_char(self, bytes: &[u8]) -> usize {
        let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
        let (first, second) = (byte(0), byte(1));
        let pair = match self {
            Self::Gbk | Self::Gb18030 => {
                matches!(first, 0x81..=0xfe) && matches!(second, 0x40..=0x7e | 0x80..=0xfe)
            }
            Self::Big5 => matches!(first, 0xa1..=0xf9) && matches!(second, 0x40..=0x7e | 0xa1..=0xfe),
            Self::Sjis => {
                matches!(first, 0x81..=0x9f | 0xe0..=0xfc) && matches!(second, 0x40..=0x7e | 0x80..=0xfc)
            }
            Self::Utf8 => return utf8_char(bytes),
            Self::Latin1 | Self::Other => false,
        };
        if pair {
            return 2;
        }
        let four = [first, byte(2)].iter().all(|lead| matches!(lead, 0x81..=0xfe))
            && [second, byte(3)].iter().all(u8::is_ascii_digit);
        if self == Self::Gb18030 && four { 4 } else { 0 }
    }

    /// Bytes of the character from 0x80 on that may stand in a name here; zero when there is none, or it is doubtful.
    pub fn name_char(self, bytes: &[u8]) -> usize {
        match (self, bytes.first()) {
            (Self::Latin1, Some(0xc0..=0xd6 | 0xd8..=0xf6 | 0xf8..)) => 1,
            _ => self.long_char(bytes),
        }
    }
}

/// Bytes of a well-formed character of two to four bytes.
fn utf8_char(bytes: &[u8]) -> usize {
    let count = match bytes.first() {
        Some(0xc2..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..=0xf4) => 4,
        _ => return 0,
    };
    bytes.get(..count).and_then(|char| std::str::from_utf8(char).ok()).map_or(0, str::len)
}
