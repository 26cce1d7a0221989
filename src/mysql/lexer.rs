//! SQL text as tokens, the way a server of this vendor and version reads it.
//!
//! What goes in: the bytes of a statement and the [`Dialect`] of the session. What comes out: one [`Token`] after the
//! other, blanks and comments among them. It owns nothing: tokens are positions in the text.
//!
//! Always true:
//! - The tokens cover the text without gap or overlap; only an end that came too early is an empty [`Kind::Bad`].
//! - Each byte is looked at a bounded number of times, and nothing is allocated.
//! - What a server would not read, or might read in another way than we do, is [`Kind::Bad`]: whoever sees one knows nothing about the
//!   statement.

mod charset;
mod scan;

#[cfg(test)]
mod tests;

pub use charset::Charset;

/// Whose server reads the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Vendor {
    /// MariaDB.
    MariaDb,
    /// MySQL and what is built from it.
    MySql,
}

/// What decides how a text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dialect {
    /// Whose server it is.
    pub vendor: Vendor,
    /// Its version as executable comments name it: 101119 is 10.11.19, 90704 is 9.7.4.
    pub version: u32,
    /// sql_mode ANSI_QUOTES: `"a"` is a name.
    pub ansi_quotes: bool,
    /// sql_mode NO_BACKSLASH_ESCAPES: `'\'` is a whole text.
    pub no_backslash_escapes: bool,
    /// sql_mode ORACLE (MariaDB): other statements, `BEGIN` begins a block.
    pub oracle: bool,
    /// The session's `character_set_client`.
    pub charset: Charset,
}

impl Dialect {
    /// MariaDB of this version with everything else as it is by default.
    pub const fn mariadb(version: u32) -> Self {
        Self {
            vendor: Vendor::MariaDb,
            version,
            ansi_quotes: false,
            no_backslash_escapes: false,
            oracle: false,
            charset: Charset::Utf8,
        }
    }

    /// MySQL of this version with everything else as it is by default.
    pub const fn mysql(version: u32) -> Self {
        Self { vendor: Vendor::MySql, ..Self::mariadb(version) }
    }

    /// Takes over what a value of `sql_mode` says about reading text.
    pub fn set_sql_mode(&mut self, modes: &[u8]) {
        (self.ansi_quotes, self.no_backslash_escapes, self.oracle) = (false, false, false);
        for mode in modes.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            let is = |name: &[u8]| mode.eq_ignore_ascii_case(name);
            self.no_backslash_escapes |= is(b"NO_BACKSLASH_ESCAPES");
            self.oracle |= is(b"ORACLE") && self.vendor == Vendor::MariaDb;
            let with_quotes: [&[u8]; 7] =
                [b"ANSI", b"ANSI_QUOTES", b"ORACLE", b"DB2", b"MSSQL", b"MAXDB", b"POSTGRESQL"];
            self.ansi_quotes |= with_quotes.into_iter().any(is);
        }
    }

    fn is_mariadb(self) -> bool {
        self.vendor == Vendor::MariaDb
    }
}

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// White space.
    Blank,
    /// A comment, or an executable comment that this server skips.
    Comment,
    /// The beginning `/*!50000` or the end `*/` of an executable comment that this server runs.
    Marker,
    /// An unquoted name that may be a keyword.
    Word,
    /// An unquoted name directly behind a dot: never a keyword.
    Name,
    /// A name in backticks, or in double quotes under ANSI_QUOTES.
    Quoted,
    /// A text: `'a'`, `"a"`, `n'a'`, `x'41'`, `b'1'`. A character set before it is a word of its own.
    Text,
    /// A number: `1`, `1.5e3`, `0x41`, `0b1`; MariaDB's `\N`.
    Number,
    /// A user variable (or the host of an account): `@a`, `@'a'`, `` @`a b` ``.
    UserVariable,
    /// The beginning of a system variable: `@@a`; in `@@global.a` it is `@@global`.
    SystemVariable,
    /// `(`
    Open,
    /// `)`
    Close,
    /// `,`
    Comma,
    /// `.`
    Dot,
    /// `;`
    Semicolon,
    /// `:=`
    Assign,
    /// `=`
    Equals,
    /// `?`
    Parameter,
    /// One byte of an operator, or any other punctuation.
    Operator,
    /// What no server reads, what is not finished, or what is doubtful.
    Bad,
}

impl Kind {
    /// Whether a parser does not see it.
    pub fn is_trivia(self) -> bool {
        matches!(self, Self::Blank | Self::Comment | Self::Marker)
    }
}

/// A piece of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Where it begins.
    pub start: usize,
    /// Where the next one begins.
    pub end: usize,
}

impl Token {
    /// Its bytes, quotes included.
    pub fn of<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        text.get(self.start..self.end).unwrap_or_default()
    }
}

/// Reads a text token by token.
#[derive(Clone, Debug)]
pub struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    dialect: Dialect,
    /// Between the markers of an executable comment.
    in_executable: bool,
    /// A numbered executable comment was met: another version may read the text in another way.
    saw_version: bool,
    /// The token before is an unquoted name that ends here.
    behind_word: bool,
    /// The token before is a dot that ends here: a name is no keyword.
    behind_dot: bool,
}

impl<'a> Lexer<'a> {
    /// At the beginning of a text.
    pub fn new(text: &'a [u8], dialect: Dialect) -> Self {
        Self {
            text,
            at: 0,
            dialect,
            in_executable: false,
            saw_version: false,
            behind_word: false,
            behind_dot: false,
        }
    }

    /// Whether an executable comment with a version was met so far.
    pub fn saw_version(&self) -> bool {
        self.saw_version
    }

    /// The byte at a place; zero behind the end.
    fn byte(&self, at: usize) -> u8 {
        self.text.get(at).copied().unwrap_or(0)
    }

    /// The next token that a parser sees.
    #[inline]
    pub fn next_solid(&mut self) -> Option<Token> {
        loop {
            // One blank is the most frequent of all tokens.
            if self.byte(self.at) == b' ' {
                self.at += 1;
                (self.behind_word, self.behind_dot) = (false, false);
            }
            let token = self.next()?;
            if !token.kind.is_trivia() {
                return Some(token);
            }
        }
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    #[inline]
    fn next(&mut self) -> Option<Token> {
        let start = self.at;
        let Some(first) = self.text.get(start).copied() else {
            // An executable comment that nobody closed.
            return std::mem::take(&mut self.in_executable).then_some(Token {
                kind: Kind::Bad,
                start,
                end: start,
            });
        };
        let (kind, end) = self.scan(start, first);
        self.behind_word = matches!(kind, Kind::Word | Kind::Name | Kind::SystemVariable);
        self.behind_dot = kind == Kind::Dot;
        self.at = end;
        Some(Token { kind, start, end })
    }
}
