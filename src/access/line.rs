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

/// Writes names and values behind what is in a buffer.
#[derive(Debug)]
pub struct Line<'o> {
    out: &'o mut Vec<u8>,
    format: Format,
}

impl<'o> Line<'o> {
    /// Goes on behind what `out` holds.
    pub const fn new(out: &'o mut Vec<u8>, format: Format) -> Self {
        Self { out, format }
    }

    fn name(&mut self, name: &str) {
        let (before, after): (&[u8], &[u8]) = match self.format {
            Format::Json => (b",\"", b"\":"),
            Format::Text => (b" ", b"="),
        };
        self.out.extend_from_slice(before);
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(after);
    }

    /// Begins the line with its time, RFC 3339.
    pub fn begin(&mut self, time: &str) {
        let before: &[u8] = if self.format == Format::Json { b"{\"time\":\"" } else { b"time=" };
        self.out.extend_from_slice(before);
        self.out.extend_from_slice(time.as_bytes());
        if self.format == Format::Json {
            self.out.push(b'"');
        }
    }

    /// Ends it.
    pub fn end(&mut self) {
        let end: &[u8] = if self.format == Format::Json { b"}\n" } else { b"\n" };
        self.out.extend_from_slice(end);
    }

    /// What was written in this format before.
    pub fn part(&mut self, part: &[u8]) {
        self.out.extend_from_slice(part);
    }

    /// Nothing is known.
    pub fn none(&mut self, name: &str) {
        self.name(name);
        let none: &[u8] = if self.format == Format::Json { b"null" } else { b"-" };
        self.out.extend_from_slice(none);
    }

    /// A number.
    pub fn number(&mut self, name: &str, number: u64) {
        self.name(name);
        self.out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    }

    /// Microseconds.
    pub fn micros(&mut self, name: &str, time: Option<Duration>) {
        match time {
            Some(time) => self.number(name, u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
            None => self.none(name),
        }
    }

    /// True or false.
    pub fn flag(&mut self, name: &str, flag: bool) {
        self.name(name);
        self.out.extend_from_slice(if flag { b"true" } else { b"false" });
    }

    /// A text of whoever.
    pub fn text(&mut self, name: &str, text: &[u8]) {
        self.name(name);
        self.out.push(b'"');
        let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
        if text.iter().all(is_plain) {
            self.out.extend_from_slice(text);
        } else if self.format == Format::Json {
            json(text, self.out);
        } else {
            for byte in text {
                if is_plain(byte) {
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
    pub fn maybe(&mut self, name: &str, text: Option<&[u8]>) {
        match text {
            Some(text) => self.text(name, text),
            None => self.none(name),
        }
    }
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
        let mut out = Vec::new();
        let mut line = Line::new(&mut out, format);
        line.begin("now");
        line.text("t", text);
        line.number("n", 7);
        line.micros("late", None);
        line.flag("f", true);
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
            let expected =
                format!("{{\"time\":\"now\",\"t\":\"{json}\",\"n\":7,\"late\":null,\"f\":true}}\n");
            assert_eq!(line(Format::Json, text), expected);
            assert_eq!(line(Format::Text, text), format!("time=now t=\"{plain}\" n=7 late=- f=true\n"));
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
