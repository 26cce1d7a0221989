//! Texts that are too long to be read whole: what the beginning says, and what their bytes give away as they pass.
//!
//! What goes in: the beginning of a text, and then all of it in pieces cut anywhere. What comes out: the verdict that it is the
//! primary's, and effects that no tracker of a server tells. It owns a few bytes of state. Always true: what may be there is
//! said to be there, also if it stands in a literal or in a comment; that costs speed alone.

use super::classify::classify;
use super::lexer::{Dialect, Lexer};
use super::verdict::{Effects, Rule, Target, Verdict};

/// What the beginning of a text says: the primary runs it. What a server's trackers tell is not asked of it.
pub fn verdict(beginning: &[u8], dialect: Dialect) -> Verdict {
    let first = Lexer::new(beginning, dialect).next_solid();
    let word = first.map_or(&b""[..], |token| token.of(beginning));
    let is_data = ["INSERT", "REPLACE", "UPDATE", "DELETE", "SELECT", "WITH", "VALUES", "TABLE", "(", "LOAD"];
    let is_data = is_data.iter().any(|known| word.eq_ignore_ascii_case(known.as_bytes()));
    let sets = word.eq_ignore_ascii_case(b"SET");
    let mut effects = if is_data { Effects::NONE } else { Effects::OPAQUE };
    if sets {
        effects |= Effects::WRITES_VARIABLES | Effects::SETS_SESSION;
    }
    // Nothing of it is known but that it is no read.
    of(effects, dialect)
}

/// What is the primary's because it was not looked at, with these effects.
pub fn of(effects: Effects, dialect: Dialect) -> Verdict {
    let effects = effects | Effects::READS_INSERT_ID | Effects::WRITES_INSERT_ID;
    Verdict { target: Target::Primary, rule: Rule::Long, effects, digest: 0, ..classify(b"", dialect) }
}

/// Bytes of the longest word that is looked for.
const WORD_BYTES: u32 = 8;

/// Looks at a text as it passes.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// The last eight bytes of the word that is being read or was read last, in lower case.
    word: u64,
    /// Its bytes.
    length: u32,
    /// It goes on.
    within: bool,
    /// The byte before.
    before: u8,
    found: Effects,
}

const fn word(text: &[u8; 8]) -> u64 {
    u64::from_be_bytes(*text)
}

impl Scan {
    /// At the beginning of a text.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let is_word = byte.is_ascii_alphanumeric() || *byte == b'_' || *byte >= 0x80;
            if is_word {
                if !self.within {
                    (self.word, self.length) = (0, 0);
                }
                self.word = self.word << 8 | u64::from(byte.to_ascii_lowercase());
                self.length = self.length.saturating_add(1);
            } else {
                self.punctuation(*byte);
            }
            (self.within, self.before) = (is_word, *byte);
        }
    }

    fn punctuation(&mut self, byte: u8) {
        if self.within {
            self.word_ends();
        }
        let into = self.length == 4 && self.word == word(b"\0\0\0\0into");
        match byte {
            b'=' if self.before == b':' => self.found |= Effects::WRITES_VARIABLES,
            b'@' if into => self.found |= Effects::WRITES_VARIABLES,
            b';' => self.found |= Effects::MANY,
            _ => {}
        }
    }

    fn word_ends(&mut self) {
        if self.length == WORD_BYTES && self.word == word(b"get_lock") {
            self.found |= Effects::TAKES_LOCKS;
        }
    }

    /// What was found. `many`: the text may hold several statements, of which nothing is known.
    pub fn effects(&self, many: bool) -> Effects {
        let opaque = many && self.found.has(Effects::MANY);
        self.found.without(Effects::MANY).with(if opaque { Effects::OPAQUE } else { Effects::NONE })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_there_is_found_at_any_split() {
        let (none, lock) = (Effects::NONE, Effects::TAKES_LOCKS);
        let (variables, opaque) = (Effects::WRITES_VARIABLES, Effects::OPAQUE);
        let cases = [
            ("INSERT INTO t VALUES (1, 'a@b.c', ':)', @v)", none),
            ("INSERT INTO t VALUES (@v:=1)", variables),
            ("INSERT INTO t VALUES (@v := 1, ':=')", variables),
            ("SELECT 1 INTO @v", variables),
            ("select 1 into\n\t@v, @w", variables),
            ("select pinto @v", none),
            ("INSERT INTO t SELECT GET_LOCK('a', 1)", lock),
            ("INSERT INTO t SELECT `get_lock` ('a', 1)", lock),
            ("INSERT INTO t SELECT my_get_lock(1), get_locks(1)", none),
            ("INSERT INTO t VALUES (1); SET ROLE a", opaque),
            ("get_lock(@a:=1);", lock | variables | opaque),
        ];
        for (text, expected) in cases {
            for size in 1..text.len() {
                let mut scan = Scan::new();
                text.as_bytes().chunks(size).for_each(|piece| scan.feed(piece));
                assert_eq!(scan.effects(true), expected, "{text} {size}");
                assert_eq!(scan.effects(false), expected.without(opaque), "{text} {size}");
            }
        }
    }

    #[test]
    fn the_beginning_says_what_may_be_left() {
        let of = |text: &str| {
            let verdict = verdict(text.as_bytes(), Dialect::mariadb(101_119));
            assert_eq!((verdict.target, verdict.rule), (Target::Primary, Rule::Long));
            assert!(verdict.effects.has(Effects::READS_INSERT_ID));
            verdict.effects.without(Effects::READS_INSERT_ID | Effects::WRITES_INSERT_ID)
        };
        for text in
            ["INSERT INTO t VALUES ('a", " /* a */ replace t", "(SELECT 1", "with a as (", "LOAD DATA"]
        {
            assert_eq!(of(text), Effects::NONE, "{text}");
        }
        assert!(of("SET @a='").has(Effects::WRITES_VARIABLES) && of("SET @a='").has(Effects::OPAQUE));
        for text in ["", "CREATE TEMPORARY TABLE t", "CALL p('", "'", "HANDLER t OPEN", "PREPARE s FROM '"] {
            assert_eq!(of(text), Effects::OPAQUE, "{text}");
        }
    }
}
