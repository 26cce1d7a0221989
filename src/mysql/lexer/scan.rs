//! One token: where it ends, and what it is.
//!
//! What goes in: a [`Lexer`] and the place where a token begins. What comes out: its kind and its end. It owns nothing.
//! Always true: the end lies behind the beginning and not behind the text.

use memchr::{memchr, memchr2};

use super::{Kind, Lexer};

/// What a byte can begin or continue.
const NAME: u8 = 1;
const DIGIT: u8 = 2;
const BLANK: u8 = 4;
const HEX: u8 = 8;

static BYTES: [u8; 256] = {
    let mut bytes = [0; 256];
    let mut at = 0;
    while at < 128 {
        let byte = at as u8;
        if byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' {
            bytes[at] |= NAME;
        }
        if byte.is_ascii_digit() {
            bytes[at] |= DIGIT;
        }
        if byte.is_ascii_hexdigit() {
            bytes[at] |= HEX;
        }
        if matches!(byte, b'\t'..=b'\r' | b' ') {
            bytes[at] |= BLANK;
        }
        at += 1;
    }
    bytes
};

fn is(byte: u8, class: u8) -> bool {
    BYTES.get(usize::from(byte)).is_some_and(|found| found & class != 0)
}

/// Whether a byte behind `--` makes it a comment: white space, control characters, and the end.
fn ends_dashes(byte: u8) -> bool {
    byte <= b' ' || byte == 0x7f
}

impl Lexer<'_> {
    /// The token that begins with this byte.
    #[inline]
    pub(super) fn scan(&mut self, start: usize, first: u8) -> (Kind, usize) {
        let one = |kind| (kind, start + 1);
        match first {
            b'\t'..=b'\r' | b' ' => (Kind::Blank, self.while_class(start + 1, BLANK)),
            b'x' | b'X' | b'b' | b'B' | b'n' | b'N' if !self.behind_dot && self.byte(start + 1) == b'\'' => {
                self.prefixed_text(start, first)
            }
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'$' | 0x80.. => self.word(start),
            b'0'..=b'9' if self.behind_dot => self.word(start),
            b'0'..=b'9' => self.number_or_name(start),
            b'(' => one(Kind::Open),
            b')' => one(Kind::Close),
            b',' => one(Kind::Comma),
            b'.' => self.dot(start),
            b'\'' => self.text(start, b'\''),
            b'"' if !self.dialect.ansi_quotes => self.text(start, b'"'),
            b'"' | b'`' => self.quoted(start, first),
            b'=' => one(Kind::Equals),
            b';' => one(Kind::Semicolon),
            b'?' => one(Kind::Parameter),
            b'@' => self.variable(start),
            b'/' if self.byte(start + 1) == b'*' => self.comment(start),
            b'*' if self.in_executable && self.byte(start + 1) == b'/' => {
                self.in_executable = false;
                (Kind::Marker, start + 2)
            }
            b'-' if self.byte(start + 1) == b'-' && ends_dashes(self.byte(start + 2)) => {
                self.line_comment(start + 2)
            }
            b'#' => self.line_comment(start + 1),
            b':' if self.byte(start + 1) == b'=' => (Kind::Assign, start + 2),
            b'\\' if self.dialect.is_mariadb() && self.byte(start + 1) == b'N' => (Kind::Number, start + 2),
            b'\\' | 0..=0x1f | 0x7f => one(Kind::Bad),
            _ => one(Kind::Operator),
        }
    }

    /// The end of the run of bytes of a class.
    fn while_class(&self, start: usize, class: u8) -> usize {
        let rest = self.text.get(start..).unwrap_or_default();
        start + rest.iter().position(|byte| !is(*byte, class)).unwrap_or(rest.len())
    }

    /// The end of the name that goes on here.
    fn name_end(&self, start: usize) -> usize {
        let mut at = self.while_class(start, NAME);
        while self.byte(at) >= 0x80 {
            let rest = self.text.get(at..).unwrap_or_default();
            match self.dialect.charset.name_char(rest) {
                0 => break,
                bytes => at = self.while_class(at + bytes, NAME),
            }
        }
        at
    }

    /// Whether a name can go on with what stands here.
    fn is_name_at(&self, at: usize) -> bool {
        is(self.byte(at), NAME) || self.byte(at) >= 0x80
    }

    fn word(&self, start: usize) -> (Kind, usize) {
        let end = self.name_end(start);
        if end == start {
            return (Kind::Bad, start + 1);
        }
        // MySQL's texts between dollars: what lies between them is no SQL.
        if !self.dialect.is_mariadb() && self.byte(start) == b'$' {
            let name = self.text.get(start + 1..end).unwrap_or_default();
            if memchr(b'$', name).is_some() {
                return (Kind::Bad, end);
            }
        }
        (if self.behind_dot { Kind::Name } else { Kind::Word }, end)
    }

    /// Digits: a number, or a name that begins with them.
    fn number_or_name(&self, start: usize) -> (Kind, usize) {
        let second = self.byte(start + 1);
        if self.byte(start) == b'0' && matches!(second, b'x' | b'b') {
            let class_end = if second == b'x' {
                self.while_class(start + 2, HEX)
            } else {
                let rest = self.text.get(start + 2..).unwrap_or_default();
                start + 2 + rest.iter().take_while(|byte| matches!(byte, b'0' | b'1')).count()
            };
            if class_end > start + 2 && !self.is_name_at(class_end) {
                return (Kind::Number, class_end);
            }
            return self.word(start);
        }
        let digits = self.while_class(start, DIGIT);
        match self.byte(digits) {
            b'.' => self.fraction(digits + 1),
            b'e' | b'E' => match self.exponent(digits) {
                Some(end) => (Kind::Number, end),
                None => self.word(start),
            },
            _ if self.is_name_at(digits) => self.word(start),
            _ => (Kind::Number, digits),
        }
    }

    /// Behind the point of a number.
    fn fraction(&self, start: usize) -> (Kind, usize) {
        let digits = self.while_class(start, DIGIT);
        if !matches!(self.byte(digits), b'e' | b'E') {
            return (Kind::Number, digits);
        }
        // `1.5e` without digits: servers go on in a way of their own.
        self.exponent(digits).map_or((Kind::Bad, digits + 1), |end| (Kind::Number, end))
    }

    /// The end of `e5`, `e+5`, `e-5`.
    fn exponent(&self, at: usize) -> Option<usize> {
        let sign = usize::from(matches!(self.byte(at + 1), b'+' | b'-'));
        let digits = at + 1 + sign;
        is(self.byte(digits), DIGIT).then(|| self.while_class(digits, DIGIT))
    }

    fn dot(&self, start: usize) -> (Kind, usize) {
        let behind_name = self.behind_word && self.is_name_at(start + 1);
        if !behind_name && is(self.byte(start + 1), DIGIT) {
            return self.fraction(start + 1);
        }
        (Kind::Dot, start + 1)
    }

    /// `x'41'`, `b'1'`, `n'a'`.
    fn prefixed_text(&self, start: usize, prefix: u8) -> (Kind, usize) {
        if matches!(prefix, b'n' | b'N') {
            return self.text(start + 1, b'\'');
        }
        let is_hex = matches!(prefix, b'x' | b'X');
        let rest = self.text.get(start + 2..).unwrap_or_default();
        let right = |byte: &&u8| if is_hex { is(**byte, HEX) } else { matches!(byte, b'0' | b'1') };
        let end = start + 2 + rest.iter().take_while(right).count();
        if self.byte(end) == b'\'' { (Kind::Text, end + 1) } else { (Kind::Bad, self.text.len()) }
    }

    /// A text that begins with its quote here.
    fn text(&self, start: usize, quote: u8) -> (Kind, usize) {
        let hides = self.dialect.charset.hides_ascii();
        let mut at = start + 1;
        loop {
            let rest = self.text.get(at..).unwrap_or_default();
            let found = if hides {
                rest.iter().position(|byte| *byte == quote || *byte == b'\\' || *byte >= 0x80)
            } else {
                memchr2(quote, b'\\', rest)
            };
            let Some(found) = found else { return (Kind::Bad, self.text.len()) };
            at += found;
            let byte = self.byte(at);
            if byte == quote {
                if self.byte(at + 1) != quote {
                    return (Kind::Text, at + 1);
                }
                at += 2;
            } else if byte == b'\\' {
                at += if self.dialect.no_backslash_escapes { 1 } else { 2 };
            } else {
                at += self.dialect.charset.long_char(rest.get(found..).unwrap_or_default()).max(1);
            }
        }
    }

    /// A name that begins with its quote here.
    fn quoted(&self, start: usize, quote: u8) -> (Kind, usize) {
        let hides = self.dialect.charset.hides_ascii();
        let mut at = start + 1;
        loop {
            let rest = self.text.get(at..).unwrap_or_default();
            let found = if hides {
                rest.iter().position(|byte| *byte == quote || *byte == 0 || *byte >= 0x80)
            } else {
                memchr2(quote, 0, rest)
            };
            let Some(found) = found else { return (Kind::Bad, self.text.len()) };
            at += found;
            let byte = self.byte(at);
            if byte == 0 {
                return (Kind::Bad, self.text.len());
            }
            if byte != quote {
                at += self.dialect.charset.long_char(rest.get(found..).unwrap_or_default()).max(1);
            } else if self.byte(at + 1) == quote {
                at += 2;
            } else {
                return (Kind::Quoted, at + 1);
            }
        }
    }

    /// `@a`, `@'a'`, `@@a`.
    fn variable(&self, start: usize) -> (Kind, usize) {
        let as_variable = |(kind, end), to| (if kind == Kind::Bad { kind } else { to }, end);
        match self.byte(start + 1) {
            b'@' if self.byte(start + 2) == b'`' => {
                as_variable(self.quoted(start + 2, b'`'), Kind::SystemVariable)
            }
            b'@' if self.is_name_at(start + 2) => (Kind::SystemVariable, self.name_end(start + 2)),
            b'@' => (Kind::Bad, start + 2),
            b'`' => as_variable(self.quoted(start + 1, b'`'), Kind::UserVariable),
            quote @ (b'\'' | b'"') if quote == b'\'' || !self.dialect.ansi_quotes => {
                as_variable(self.text(start + 1, quote), Kind::UserVariable)
            }
            b'"' => as_variable(self.quoted(start + 1, b'"'), Kind::UserVariable),
            _ => {
                let mut end = self.name_end(start + 1);
                while self.byte(end) == b'.' {
                    end = self.name_end(end + 1);
                }
                (Kind::UserVariable, end)
            }
        }
    }

    /// To the end of the line, which is not part of it. A zero byte ends it too, and is bad in itself.
    fn line_comment(&self, from: usize) -> (Kind, usize) {
        let rest = self.text.get(from..).unwrap_or_default();
        (Kind::Comment, memchr2(b'\n', 0, rest).map_or(self.text.len(), |found| from + found))
    }

    /// `/* */`, `/*! */`, `/*M! */`.
    fn comment(&mut self, start: usize) -> (Kind, usize) {
        let of_mariadb =
            self.dialect.is_mariadb() && self.byte(start + 2) == b'M' && self.byte(start + 3) == b'!';
        if self.byte(start + 2) != b'!' && !of_mariadb {
            return self.plain_comment(start);
        }
        let from = start + if of_mariadb { 4 } else { 3 };
        let digits = (from..from + 6).take_while(|at| is(self.byte(*at), DIGIT)).count();
        if digits < 5 {
            self.in_executable = true;
            return (Kind::Marker, from);
        }
        self.saw_version = true;
        let number = |count: usize| {
            let bytes = self.text.get(from..from + count).unwrap_or_default();
            bytes.iter().fold(0, |number, digit| number * 10 + u32::from(*digit - b'0'))
        };
        let runs = |count: usize| {
            let number = number(count);
            let of_mysql = (50_700..=99_999).contains(&number) && !of_mariadb;
            number <= self.dialect.version && !(self.dialect.is_mariadb() && of_mysql)
        };
        // Versions of MySQL differ in whether a sixth digit belongs to the number.
        if !self.dialect.is_mariadb() && digits == 6 && (runs(5) || runs(6)) {
            return (Kind::Bad, self.text.len());
        }
        if runs(digits) {
            self.in_executable = true;
            return (Kind::Marker, from + digits);
        }
        self.skipped_comment(from + digits)
    }

    /// Behind the next `*/`.
    fn comment_end(&self, from: usize) -> Option<usize> {
        let mut at = from;
        loop {
            at += memchr(b'*', self.text.get(at..)?)? + 1;
            if self.byte(at) == b'/' {
                return Some(at + 1);
            }
        }
    }

    fn plain_comment(&self, start: usize) -> (Kind, usize) {
        let Some(end) = self.comment_end(start + 2) else { return (Kind::Bad, self.text.len()) };
        let is_hint = self.byte(start + 2) == b'+';
        let body = self.text.get(start + 3..end - 2).unwrap_or_default();
        if is_hint && !quotes_are_closed(body) {
            // Hints have names in quotes, which may hold what looks like the end.
            return (Kind::Bad, self.text.len());
        }
        (Kind::Comment, end)
    }

    /// An executable comment that this server skips: comments in it are skipped as wholes.
    fn skipped_comment(&self, from: usize) -> (Kind, usize) {
        let mut at = from;
        while let Some(found) = memchr2(b'*', b'/', self.text.get(at..).unwrap_or_default()) {
            at += found;
            match (self.byte(at), self.byte(at + 1)) {
                (b'*', b'/') => return (Kind::Comment, at + 2),
                (b'/', b'*') => match self.comment_end(at + 2) {
                    Some(end) => at = end,
                    None => break,
                },
                _ => at += 1,
            }
        }
        (Kind::Bad, self.text.len())
    }
}

fn quotes_are_closed(body: &[u8]) -> bool {
    let mut open = None;
    for byte in body.iter().copied().filter(|byte| matches!(byte, b'\'' | b'"' | b'`')) {
        match open {
            None => open = Some(byte),
            Some(quote) if quote == byte => open = None,
            Some(_) => {}
        }
    }
    open.is_none()
}
