//! A line of the access log: names and values, as JSON or as text.
//!
//! What goes in: names that the program chose, values that anybody chose. What comes out: one line. It owns nothing.
//! Always true: whatever a value holds, it neither ends the line nor its quotes, and moves no terminal's cursor.

use std::time::Duration;

/// How a line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line.
    #[default]
    Json,
    /// `name=value`, texts in quotes.
    Text,
}

/// A name as it stands in a line, with what comes before and after it. Made by [`name!`](crate::access::line::name).
#[derive(Clone, Copy, Debug)]
pub struct Name {
    /// In JSON.
    pub json: &'static str,
    /// In text.
    pub text: &'static str,
}

/// A [`Name`]: one constant to be copied instead of three.
#[macro_export]
#[doc(hidden)]
macro_rules! line_name {
    ($name:literal) => {
        $crate::access::line::Name { json: concat!(",\"", $name, "\":"), text: concat!(" ", $name, "=") }
    };
}
pub use line_name as name;

/// Writes names and values behind what is in a buffer. The format is a type, so that each name is a constant of known
/// length where it is written.
#[derive(Debug)]
pub struct Line<'o, const JSON: bool> {
    out: &'o mut Vec<u8>,
}

impl<'o, const JSON: bool> Line<'o, JSON> {
    /// Goes on behind what `out` holds.
    pub const fn new(out: &'o mut Vec<u8>) -> Self {
        Self { out }
    }

    #[inline(always)]
    fn name(&mut self, name: Name) {
        self.out.extend_from_slice(if JSON { name.json.as_bytes() } else { name.text.as_bytes() });
    }

    /// Begins the line with its time, RFC 3339.
    pub fn begin(&mut self, time: &str) {
        self.out.extend_from_slice(if JSON { b"{\"time\":\"" } else { b"time=" });
        self.out.extend_from_slice(time.as_bytes());
        if JSON {
            self.out.push(b'"');
        }
    }

    /// Ends it.
    pub fn end(&mut self) {
        self.out.extend_from_slice(if JSON { b"}\n" } else { b"\n" });
    }

    /// What was written in this format before.
    pub fn part(&mut self, part: &[u8]) {
        self.out.extend_from_slice(part);
    }

    /// Nothing is known.
    #[inline(always)]
    pub fn none(&mut self, name: Name) {
        self.name(name);
        self.out.extend_from_slice(if JSON { b"null" } else { b"-" });
    }

    /// A number.
    #[inline(always)]
    pub fn number(&mut self, name: Name, number: u64) {
        self.name(name);
        if number < 10 {
            self.out.push(b'0' + number as u8);
        } else {
            self.out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        }
    }

    /// Microseconds.
    #[inline(always)]
    pub fn micros(&mut self, name: Name, time: Option<Duration>) {
        match time {
            Some(time) => self.number(name, u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
            None => self.none(name),
        }
    }

    /// True or false.
    #[inline(always)]
    pub fn flag(&mut self, name: Name, flag: bool) {
        self.name(name);
        self.out.extend_from_slice(if flag { b"true" } else { b"false" });
    }

    /// A text of the program's own, which needs no escapes.
    #[inline(always)]
    pub fn word(&mut self, name: Name, word: &str) {
        debug_assert!(is_plain(word.as_bytes()));
        self.name(name);
        self.quoted(word.as_bytes());
    }

    fn quoted(&mut self, text: &[u8]) {
        self.out.push(b'"');
        self.out.extend_from_slice(text);
        self.out.push(b'"');
    }

    /// A text of whoever.
    #[inline(always)]
    pub fn text(&mut self, name: Name, text: &[u8]) {
        self.name(name);
        if is_plain(text) { self.quoted(text) } else { self.escaped(text) }
    }

    #[cold]
    fn escaped(&mut self, text: &[u8]) {
        self.out.push(b'"');
        if JSON {
            json(text, self.out);
        } else {
            for byte in text {
                if is_plain(&[*byte]) {
                    self.out.push(*byte);
                } else {
                    self.out.extend_from_slice(b"\\x");
                    hex(*byte, self.out);
                }
            }
        }
        self.out.push(b'"');
    }

    /// A text that may be missing.
    #[inline(always)]
    pub fn maybe(&mut self, name: Name, text: Option<&[u8]>) {
        match text {
            Some(text) => self.text(name, text),
            None => self.none(name),
        }
    }
}

/// True for what needs no escapes in any format. Without an early end, so that it is done many bytes at a time.
fn is_plain(text: &[u8]) -> bool {
    let odd = |byte: u8| !matches!(byte, b' '..=b'~') | (byte == b'"') | (byte == b'\\');
    !text.iter().fold(false, |any, byte| any | odd(*byte))
}

/// Escapes for JSON; what is not UTF-8 becomes U+FFFD.
fn json(text: &[u8], out: &mut Vec<u8>) {
    for chunk in text.utf8_chunks() {
        for char in chunk.valid().chars() {
            match char {
                '"' | '\\' => out.extend_from_slice(&[b'\\', char as u8]),
                // Also U+0080 to U+009F, which terminals obey.
                _ if char.is_control() => {
                    out.extend_from_slice(b"\\u00");
                    hex(char as u32 as u8, out);
                }
                _ => out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

fn hex(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(format: Format, text: &[u8]) -> String {
        match format {
            Format::Json => line_as::<true>(text),
            Format::Text => line_as::<false>(text),
        }
    }

    fn line_as<const JSON: bool>(text: &[u8]) -> String {
        let mut out = Vec::new();
        let mut line = Line::<JSON>::new(&mut out);
        line.begin("now");
        line.text(name!("t"), text);
        line.number(name!("n"), 7);
        line.number(name!("m"), 70);
        line.word(name!("w"), "word");
        line.micros(name!("late"), None);
        line.flag(name!("f"), true);
        line.end();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn texts_are_escaped() {
        let cases: [(&[u8], &str, &str); 6] = [
            (b"/a b", "/a b", "/a b"),
            (b"a\"b\\c", r#"a\"b\\c"#, r"a\x22b\x5cc"),
            (b"a\nb\r\x1b[2J\x7f", r"a\u000ab\u000d\u001b[2J\u007f", r"a\x0ab\x0d\x1b[2J\x7f"),
            ("\u{e9}\u{2028}".as_bytes(), "\u{e9}\u{2028}", r"\xc3\xa9\xe2\x80\xa8"),
            (b"\xc2\x9b1m", r"\u009b1m", r"\xc2\x9b1m"),
            (b"a\xff\xc3", "a\u{fffd}\u{fffd}", r"a\xff\xc3"),
        ];
        for (text, json, plain) in cases {
            let expected = format!(
                "{{\"time\":\"now\",\"t\":\"{json}\",\"n\":7,\"m\":70,\"w\":\"word\",\"late\":null,\"f\":true}}\n"
            );
            assert_eq!(line(Format::Json, text), expected);
            assert_eq!(
                line(Format::Text, text),
                format!("time=now t=\"{plain}\" n=7 m=70 w=\"word\" late=- f=true\n")
            );
        }
    }

    #[test]
    fn any_bytes_stay_within_their_value() {
        let mut chance = 7u64;
        for _ in 0..20_000 {
            let text: Vec<u8> = (0..12)
                .map(|_| {
                    chance = chance.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                    (chance >> 56) as u8
                })
                .collect();
            let json = line(Format::Json, &text);
            let value: serde_json::Value = serde_json::from_str(&json).unwrap();
            assert_eq!(value["t"].as_str().unwrap(), String::from_utf8_lossy(&text));
            for line in [json, line(Format::Text, &text)] {
                assert!(!line.trim_end_matches('\n').chars().any(char::is_control), "{line:?}");
            }
        }
    }
}
