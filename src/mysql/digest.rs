//! The shape of a statement: what stays when literals, blanks and comments are taken away.
//!
//! What goes in: the tokens of a statement, one by one. What comes out: a number that is the same for statements of the
//! same shape ([`Shape`]), or the shape as text ([`write`]). It owns nothing but a few pending tokens.
//!
//! Always true:
//! - A literal is `?`, with its sign; a list of literals is one `?`; rows that hold nothing else are one row. Nothing of a literal
//!   remains.
//! - Blanks, comments, the case of keywords and a trailing `;` make no difference.
//! - Memory does not depend on the statement's length.

use super::lexer::{Dialect, Kind, Lexer};
use super::words::{Word, exact_hash, look_up, mix};

#[cfg(test)]
mod tests;

/// A token as the shape sees it.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// What it is.
    pub kind: Kind,
    /// Which word, for [`Kind::Word`].
    pub word: Word,
    /// Its folded hash, for [`Kind::Word`].
    pub folded: u64,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// Takes the tokens of a shape.
trait Sink {
    fn put(&mut self, seen: &Seen<'_>);
}

/// What was put last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    /// Nothing, a keyword, an operator: a sign belongs to what follows.
    Other,
    Open,
    /// A name or a closing parenthesis.
    Operand,
    Literal,
    /// A literal directly behind a parenthesis.
    OpenLiteral,
    /// `(?)`
    Row,
}

/// What is not put yet because it may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Nothing,
    /// `,` behind a literal.
    Comma,
    /// `,` behind a row.
    RowComma,
    RowOpen,
    RowLiteral,
    RowLiteralComma,
}

/// Leaves out what does not belong to the shape.
#[derive(Clone, Debug)]
struct Normal<S> {
    sink: S,
    last: Last,
    held: Held,
    sign: Option<u8>,
    semicolon: bool,
}

const LITERAL: Seen<'static> = Seen { kind: Kind::Parameter, word: Word::Name, folded: 0, bytes: b"?" };

const fn mark(kind: Kind, bytes: &'static [u8]) -> Seen<'static> {
    Seen { kind, word: Word::Name, folded: 0, bytes }
}

impl<S: Sink> Normal<S> {
    fn new(sink: S) -> Self {
        Self { sink, last: Last::Other, held: Held::Nothing, sign: None, semicolon: false }
    }

    #[inline]
    fn see(&mut self, seen: &Seen<'_>) {
        let is_constant = matches!(seen.word, Word::Null | Word::True | Word::False);
        match seen.kind {
            Kind::Text | Kind::Number | Kind::Parameter => self.literal(),
            Kind::Word if is_constant => self.literal(),
            Kind::Semicolon => {
                self.flush();
                self.semicolon = true;
            }
            Kind::Comma => self.comma(),
            Kind::Open if self.held == Held::RowComma && self.sign.is_none() => self.held = Held::RowOpen,
            Kind::Open => self.put(seen, Last::Open),
            Kind::Close if self.held == Held::RowLiteral => self.held = Held::Nothing,
            Kind::Close => {
                self.flush();
                let last = if self.last == Last::OpenLiteral { Last::Row } else { Last::Operand };
                self.put(seen, last);
            }
            Kind::Operator if matches!(seen.bytes, b"-" | b"+") && self.is_sign() => {
                self.flush_sign();
                self.sign = seen.bytes.first().copied();
            }
            Kind::Word if seen.word != Word::Name && seen.word != Word::Function => {
                self.put(seen, Last::Other)
            }
            Kind::Word | Kind::Name | Kind::Quoted | Kind::UserVariable | Kind::SystemVariable => {
                self.put(seen, Last::Operand)
            }
            _ => self.put(seen, Last::Other),
        }
    }

    fn is_sign(&self) -> bool {
        self.held != Held::Nothing || matches!(self.last, Last::Other | Last::Open)
    }

    fn literal(&mut self) {
        self.sign = None;
        match (self.held, self.last) {
            (Held::RowOpen | Held::RowLiteralComma | Held::RowLiteral, _) => self.held = Held::RowLiteral,
            (Held::Comma, _) => self.held = Held::Nothing,
            (Held::Nothing, Last::Literal | Last::OpenLiteral) => {}
            _ => {
                self.flush();
                let last = if self.last == Last::Open { Last::OpenLiteral } else { Last::Literal };
                self.put(&LITERAL, last);
            }
        }
    }

    fn comma(&mut self) {
        self.held = match (self.held, self.last) {
            _ if self.sign.is_some() => return self.put(&mark(Kind::Comma, b","), Last::Other),
            (Held::Nothing, Last::Literal | Last::OpenLiteral) => Held::Comma,
            (Held::Nothing, Last::Row) => Held::RowComma,
            (Held::RowLiteral, _) => Held::RowLiteralComma,
            _ => return self.put(&mark(Kind::Comma, b","), Last::Other),
        }
    }

    fn put(&mut self, seen: &Seen<'_>, last: Last) {
        if self.held != Held::Nothing || self.sign.is_some() {
            self.flush();
        }
        if std::mem::take(&mut self.semicolon) {
            self.sink.put(&mark(Kind::Semicolon, b";"));
        }
        self.sink.put(seen);
        self.last = last;
    }

    /// Puts what was held: it belongs to the shape after all.
    fn flush(&mut self) {
        let held = std::mem::replace(&mut self.held, Held::Nothing);
        if held != Held::Nothing {
            self.sink.put(&mark(Kind::Comma, b","));
            self.last = Last::Other;
        }
        if matches!(held, Held::RowOpen | Held::RowLiteral | Held::RowLiteralComma) {
            self.sink.put(&mark(Kind::Open, b"("));
            self.last = Last::Open;
        }
        if matches!(held, Held::RowLiteral | Held::RowLiteralComma) {
            self.sink.put(&LITERAL);
            self.last = Last::OpenLiteral;
        }
        if held == Held::RowLiteralComma {
            self.sink.put(&mark(Kind::Comma, b","));
            self.last = Last::Other;
        }
        self.flush_sign();
    }

    fn flush_sign(&mut self) {
        let Some(sign) = self.sign.take() else { return };
        self.sink.put(&mark(Kind::Operator, if sign == b'-' { b"-" } else { b"+" }));
        self.last = Last::Other;
    }
}

/// The shape of a statement as a number, while its tokens go by.
#[derive(Clone, Debug)]
pub struct Shape(Normal<Hash>);

#[derive(Clone, Debug)]
struct Hash(u64);

impl Sink for Hash {
    #[inline]
    fn put(&mut self, seen: &Seen<'_>) {
        let value = match seen.kind {
            Kind::Word if seen.word != Word::Name => seen.folded,
            Kind::Word | Kind::Name | Kind::UserVariable | Kind::SystemVariable => exact_hash(seen.bytes),
            Kind::Quoted => exact_hash(bare(seen.bytes).unwrap_or(seen.bytes)),
            Kind::Bad => 0,
            _ => u64::from(seen.bytes.first().copied().unwrap_or(0)),
        };
        self.0 = mix(self.0, value);
    }
}

impl Default for Shape {
    fn default() -> Self {
        Self(Normal::new(Hash(0)))
    }
}

impl Shape {
    /// Takes the next token that is neither blank nor comment.
    #[inline]
    pub fn see(&mut self, seen: &Seen<'_>) {
        self.0.see(seen);
    }

    /// The number.
    pub fn digest(mut self) -> u64 {
        self.0.flush();
        self.0.sink.0
    }
}

/// The inside of a quoted name that could stand without its quotes.
fn bare(quoted: &[u8]) -> Option<&[u8]> {
    let inside = quoted.get(1..quoted.len().checked_sub(1)?)?;
    let is_plain = inside.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$'));
    let is_name = !inside.first()?.is_ascii_digit() && look_up(inside).0 == Word::Name;
    (is_plain && is_name).then_some(inside)
}

struct Text<'a> {
    out: &'a mut Vec<u8>,
    bytes_max: usize,
    before: Kind,
    last_byte: u8,
    /// What follows may be read otherwise by the server: it is not written.
    is_over: bool,
}

/// `$$` or `$tag$`: the beginning of a text in MySQL 9, which no session of ours reads as one.
fn is_dollar_quote(seen: &Seen<'_>) -> bool {
    let rest = seen.bytes.strip_prefix(b"$").filter(|_| seen.kind == Kind::Word);
    rest.is_some_and(|rest| rest.contains(&b'$'))
}

impl Sink for Text<'_> {
    fn put(&mut self, seen: &Seen<'_>) {
        if self.is_over {
            return;
        }
        self.is_over = matches!(seen.kind, Kind::Bad | Kind::Semicolon) || is_dollar_quote(seen);
        let first = seen.bytes.first().copied().unwrap_or(0);
        let is_close =
            matches!(seen.kind, Kind::Close | Kind::Comma | Kind::Dot | Kind::Semicolon | Kind::Name);
        let is_call = seen.kind == Kind::Open && matches!(self.before, Kind::Name | Kind::Quoted);
        let is_double = matches!(
            (self.last_byte, first),
            (b'<' | b'>' | b'!' | b':', b'=') | (b'<' | b'-' | b'=', b'>') | (b'<', b'<') | (b'>', b'>')
        ) || matches!((self.last_byte, first), (b'|', b'|') | (b'&', b'&'));
        let glued = is_close || is_call || is_double || matches!(self.before, Kind::Open | Kind::Dot);
        if !self.out.is_empty() && !glued {
            self.out.push(b' ');
        }
        let upper = seen.kind == Kind::Word && !matches!(seen.word, Word::Name | Word::Function);
        let bytes =
            if seen.kind == Kind::Quoted { bare(seen.bytes).unwrap_or(seen.bytes) } else { seen.bytes };
        let room = bytes.get(..self.bytes_max.saturating_sub(self.out.len())).unwrap_or(bytes);
        match (seen.word, seen.kind) {
            (_, Kind::Semicolon) => self.out.extend_from_slice(b"; ..."),
            _ if self.is_over => self.out.extend_from_slice(b"..."),
            // It may be the host of an account.
            (_, Kind::UserVariable) if matches!(bytes, [_, b'\'' | b'"', ..]) => {
                self.out.extend_from_slice(b"@?");
            }
            (Word::Function, Kind::Word) => self.out.extend(room.iter().map(u8::to_ascii_lowercase)),
            _ if upper => self.out.extend(room.iter().map(u8::to_ascii_uppercase)),
            _ => self.out.extend_from_slice(room),
        }
        // A name in front of a parenthesis is called.
        let is_name = seen.kind == Kind::Word && matches!(seen.word, Word::Name | Word::Function);
        self.before = if is_name { Kind::Name } else { seen.kind };
        self.last_byte = seen.bytes.last().copied().unwrap_or(0);
    }
}

/// Writes the shape of a statement behind what is there, at most `bytes_max` bytes in all. `...` stands for the rest of a longer
/// one, for what cannot be read, and for further statements: the first one may have changed how a server reads them.
pub fn write(text: &[u8], dialect: Dialect, out: &mut Vec<u8>, bytes_max: usize) {
    let sink = Text { out, bytes_max, before: Kind::Open, last_byte: 0, is_over: false };
    let mut normal = Normal::new(sink);
    let mut lexer = Lexer::new(text, dialect);
    while let Some(token) = lexer.next_solid()
        && normal.sink.out.len() < bytes_max
        && !normal.sink.is_over
    {
        let bytes = token.of(text);
        let (word, folded) = if token.kind == Kind::Word { look_up(bytes) } else { (Word::Name, 0) };
        normal.see(&Seen { kind: token.kind, word, folded, bytes });
    }
    normal.flush();
    if out.len() >= bytes_max {
        out.truncate(bytes_max.saturating_sub(3));
        out.extend_from_slice(b"...");
    }
}
