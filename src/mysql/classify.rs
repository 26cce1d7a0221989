//! A statement judged by its words: where it belongs, why, and what it leaves behind.
//!
//! What goes in: the bytes of a statement and the [`Dialect`] of the session. What comes out: a [`Verdict`]. It owns nothing.
//!
//! Always true:
//! - One pass over the tokens, no tree, no allocation, memory that does not depend on the text.
//! - What is not understood belongs to the primary.
//! - A read only replica is the fence: it refuses whatever would write. What it does not refuse (named locks, user
//!   variables, files, locking reads, `FLUSH`, ...) is found here, wherever in a statement it stands.

mod first;
mod locks;
mod set;
mod show;
mod signs;
mod transactions;

#[cfg(test)]
mod tests;

use arrayvec::ArrayVec;

use super::digest::{Seen, Shape};
use super::lexer::{Dialect, Kind, Lexer, Token};
use super::verdict::{Effects, Judged, Kill, Name, Rule, Span, Target, Verdict};
use super::words::{Word, look_up};
use crate::limits::SQL_NAMES_MAX;

/// A token that a parser sees, and which word it is.
#[derive(Clone, Copy, Debug)]
struct Piece {
    kind: Kind,
    word: Word,
    start: u32,
    end: u32,
}

/// Stands for no token: no parser sees blanks.
const NOTHING: Piece = Piece { kind: Kind::Blank, word: Word::Name, start: 0, end: 0 };

impl Piece {
    /// A token of a text that is not longer than [`TEXT_BYTES_MAX`].
    #[inline]
    fn new(token: Token, word: Word) -> Self {
        Self { kind: token.kind, word, start: token.start as u32, end: token.end as u32 }
    }
}

/// Bytes of a text that is judged: no server takes more than a quarter of it.
const TEXT_BYTES_MAX: usize = u32::MAX as usize;

/// What the words of one statement showed.
#[derive(Clone, Copy, Debug, Default)]
struct Signs {
    /// A token that no server reads, or parentheses that do not match.
    bad: bool,
    /// FOR UPDATE, FOR SHARE, LOCK IN SHARE MODE.
    locking: bool,
    /// INTO OUTFILE, INTO DUMPFILE, or INTO with something unknown.
    into_file: bool,
    /// INTO was met: user variables behind it are written.
    into: bool,
    load_file: bool,
    named_lock: bool,
    insert_id: bool,
    position: bool,
    one_server: bool,
    /// FROM was met: a function may run any number of times.
    from: bool,
    /// In the list of WITH: names before parentheses are no functions.
    with_list: bool,
}

/// The judgement in progress.
struct Judge<'a> {
    text: &'a [u8],
    dialect: Dialect,
    lexer: Lexer<'a>,
    shape: Shape,
    /// The token that comes next, or [`NOTHING`].
    ahead: Piece,
    /// The one that was taken last, and the one before it.
    last: Piece,
    before: Piece,
    /// Tokens of the statement that were taken.
    taken: usize,
    depth: i32,
    signs: Signs,
    effects: Effects,
    names: ArrayVec<Name, SQL_NAMES_MAX>,
    prepared: Option<Span>,
    inner: Option<Judged>,
    kill: Option<Kill>,
    /// PREPARE within PREPARE is not looked into.
    within: bool,
}

/// Judges a text.
pub fn classify(text: &[u8], dialect: Dialect) -> Verdict {
    if text.len() > TEXT_BYTES_MAX {
        // Cut within a text in quotes, it is not understood.
        return Judge::new(b"'", dialect, false).judge();
    }
    Judge::new(text, dialect, false).judge()
}

impl<'a> Judge<'a> {
    fn new(text: &'a [u8], dialect: Dialect, within: bool) -> Self {
        let mut judge = Self {
            text,
            dialect,
            lexer: Lexer::new(text, dialect),
            shape: Shape::default(),
            ahead: NOTHING,
            last: NOTHING,
            before: NOTHING,
            taken: 0,
            depth: 0,
            signs: Signs::default(),
            effects: Effects::NONE,
            names: ArrayVec::new(),
            prepared: None,
            inner: None,
            kill: None,
            within,
        };
        judge.fetch();
        judge
    }

    fn judge(mut self) -> Verdict {
        let mut judged = self.statement();
        while self.next().is_some_and(|piece| piece.kind == Kind::Semicolon) {
            self.fetch();
            if !matches!(self.next(), None | Some(Piece { kind: Kind::Semicolon, .. })) {
                let other = self.statement();
                judged = Judged {
                    target: if other.target == Target::Refuse { other.target } else { Target::Primary },
                    rule: if other.target == Target::Refuse { other.rule } else { Rule::Many },
                    effects: in_sequence(judged.effects, other.effects) | Effects::MANY,
                };
            }
        }
        if self.lexer.saw_version() {
            judged.effects |= Effects::VERSIONED;
        }
        Verdict {
            target: judged.target,
            rule: judged.rule,
            effects: judged.effects,
            digest: self.shape.digest(),
            names: self.names,
            prepared: self.prepared,
            inner: self.inner,
            kill: self.kill,
        }
    }

    /// One statement, up to its semicolon or the end.
    fn statement(&mut self) -> Judged {
        self.signs = Signs::default();
        self.effects = Effects::NONE;
        (self.last, self.before) = (NOTHING, NOTHING);
        (self.taken, self.depth) = (0, 0);
        let (target, rule) = self.by_first_word();
        while self.step().is_some() {}
        self.signs.bad |= self.depth != 0;
        if self.signs.from && self.effects.has(Effects::TAKES_LOCK) {
            // Once for each row.
            self.effects = self.effects.without(Effects::TAKES_LOCK) | Effects::TAKES_LOCKS;
        }
        if self.signs.bad {
            self.effects |= Effects::OPAQUE;
            return Judged { target: Target::Primary, rule: Rule::Unknown, effects: self.effects };
        }
        Judged { target, rule, effects: self.effects }
    }

    /// Reads ahead.
    #[inline]
    fn fetch(&mut self) {
        let Some(token) = self.lexer.next_solid() else {
            self.ahead = NOTHING;
            return;
        };
        let bytes = token.of(self.text);
        let (word, folded) = if token.kind == Kind::Word { look_up(bytes) } else { (Word::Name, 0) };
        self.shape.see(&Seen { kind: token.kind, word, folded, bytes });
        self.ahead = Piece::new(token, word);
    }

    /// The token that comes next.
    #[inline]
    fn next(&self) -> Option<Piece> {
        (self.ahead.kind != Kind::Blank).then_some(self.ahead)
    }

    /// Takes a token of the statement and notes what it shows.
    #[inline]
    fn step(&mut self) -> Option<Piece> {
        let piece = self.ahead;
        if matches!(piece.kind, Kind::Blank | Kind::Semicolon) {
            return None;
        }
        self.fetch();
        self.note(piece);
        self.before = self.last;
        self.last = piece;
        self.taken += 1;
        Some(piece)
    }

    /// Takes the next token if it is this word.
    fn take(&mut self, word: Word) -> bool {
        let is = self.peek() == word;
        if is {
            self.step();
        }
        is
    }

    /// Takes the next token if it is a word with this text.
    fn take_text(&mut self, text: &str) -> bool {
        let is = self.is_next(text);
        if is {
            self.step();
        }
        is
    }

    /// Which word comes next; [`Word::Name`] for anything else.
    fn peek(&self) -> Word {
        self.ahead.word
    }

    fn peek_kind(&self) -> Option<Kind> {
        let kind = self.ahead.kind;
        (!matches!(kind, Kind::Blank | Kind::Semicolon)).then_some(kind)
    }

    /// Whether the next token is a word with this text.
    fn is_next(&self, text: &str) -> bool {
        self.next().is_some_and(|piece| {
            piece.kind == Kind::Word && self.bytes(piece).eq_ignore_ascii_case(text.as_bytes())
        })
    }

    fn bytes(&self, piece: Piece) -> &'a [u8] {
        self.text.get(piece.start as usize..piece.end as usize).unwrap_or_default()
    }

    /// The bytes of a name or variable without `@` and quotes.
    fn bare(&self, piece: Piece) -> &'a [u8] {
        let bytes = self.bytes(piece);
        let bytes = if matches!(piece.kind, Kind::UserVariable | Kind::SystemVariable) {
            bytes.trim_prefix_of(b'@')
        } else {
            bytes
        };
        match bytes {
            [b'`' | b'"' | b'\'', inside @ .., b'`' | b'"' | b'\''] => inside,
            other => other,
        }
    }

    /// The statement is over.
    fn is_over(&self) -> bool {
        self.peek_kind().is_none()
    }

    /// `[schema .] name`, if that comes next.
    fn name(&mut self) -> Option<Name> {
        let is_name = |kind| matches!(kind, Kind::Word | Kind::Name | Kind::Quoted);
        self.peek_kind().filter(|kind| is_name(*kind))?;
        let first = self.step()?;
        let mut name = self.name_of(first);
        if self.peek_kind() == Some(Kind::Dot) {
            self.step();
            self.peek_kind().filter(|kind| is_name(*kind))?;
            let second = self.step()?;
            name = Name { schema: name.hash, ..self.name_of(second) };
        }
        Some(name)
    }

    fn name_of(&self, piece: Piece) -> Name {
        Name::new(self.text, piece.start as usize, piece.end as usize)
    }

    /// Keeps a name for the verdict, while there is room.
    fn keep(&mut self, name: Option<Name>) {
        if let Some(name) = name {
            _ = self.names.try_push(name);
        }
    }
}

/// What two statements do, one after the other: the later one decides where they contradict each other.
fn in_sequence(first: Effects, then: Effects) -> Effects {
    let either_or = [
        Effects::BEGINS | Effects::ENDS | Effects::CHAINS | Effects::COMMITS,
        Effects::AUTOCOMMIT_ON | Effects::AUTOCOMMIT_OFF,
        Effects::LOG_ON | Effects::LOG_OFF,
        Effects::SERIALIZABLE | Effects::ISOLATION,
        Effects::READ_ONLY | Effects::READ_WRITE,
    ];
    // What ends a pin may have come before what begins it: in one text, only the beginning counts.
    let endings = Effects::RELEASES_LOCK
        | Effects::RELEASES_LOCKS
        | Effects::UNLOCKS_TABLES
        | Effects::BACKUP_UNLOCK
        | Effects::CLOSES_HANDLER
        | Effects::DROPS_TABLES
        | Effects::DEALLOCATES
        | Effects::XA_ENDS;
    let mut kept = first;
    for group in either_or {
        if then.has(group) {
            kept = kept.without(group);
        }
    }
    // Names of several statements lie in one list: what was taken cannot be told from what was released.
    let named = Effects::TAKES_LOCK | Effects::CREATES_TEMPORARY | Effects::PREPARES;
    let is_opaque = (first | then).has(named) || first.has(Effects::SETS_READING);
    let opaque = if is_opaque { Effects::OPAQUE } else { Effects::NONE };
    (kept | then | opaque).without(endings)
}

/// Takes a byte away from the beginning as often as it stands there.
trait TrimPrefix {
    fn trim_prefix_of(&self, byte: u8) -> &Self;
}

impl TrimPrefix for [u8] {
    fn trim_prefix_of(&self, byte: u8) -> &Self {
        let count = self.iter().take_while(|found| **found == byte).count();
        self.get(count..).unwrap_or_default()
    }
}
