//! What kind of statement it is, by its first words.
//!
//! What goes in: a [`Judge`] at the beginning of a statement. What comes out: target and rule; the rest of the tokens
//! is left to the caller, who notes what they show. It owns nothing. Always true: a first word that is not listed means primary.

use super::{Judge, Piece};
use crate::mysql::lexer::{Kind, Vendor};
use crate::mysql::verdict::{Effects, Judged, Rule, Span, Target};
use crate::mysql::words::Word;

/// What most statements come to.
pub(super) type Place = (Target, Rule);

pub(super) const fn primary(rule: Rule) -> Place {
    (Target::Primary, rule)
}

impl Judge<'_> {
    /// Where the statement belongs, as far as its words tell.
    pub(super) fn by_first_word(&mut self) -> Place {
        if self.peek_kind() == Some(Kind::Open) {
            return self.parenthesis();
        }
        let Some(first) = self.step() else {
            // `;` at the beginning is a mistake; nothing at all is not.
            self.signs.bad |= self.next().is_some();
            return primary(Rule::Empty);
        };
        if first.kind != Kind::Word {
            return self.unknown();
        }
        match first.word {
            Word::Select | Word::Values | Word::Do => self.read(),
            Word::Table if self.dialect.vendor == Vendor::MySql => self.read(),
            Word::With => self.with(),
            Word::Insert | Word::Replace | Word::Update | Word::Delete => primary(Rule::Write),
            Word::Set => self.set(),
            Word::Begin | Word::Start | Word::Commit | Word::Rollback | Word::Savepoint | Word::Release => {
                self.transaction(first.word)
            }
            Word::Show => self.show(),
            Word::Use => {
                self.effects |= Effects::SETS_SCHEMA;
                (Target::All, Rule::Schemata)
            }
            Word::Explain | Word::Describe | Word::Desc => self.explain(),
            Word::Analyze => self.analyze(),
            Word::Load => self.load(),
            Word::Call => {
                self.finish_with_variables();
                self.effects |= Effects::CALLS | Effects::OPAQUE;
                primary(Rule::Call)
            }
            Word::Create => self.create(),
            Word::Drop => self.drop(),
            Word::Truncate | Word::Alter | Word::Rename | Word::Grant | Word::Revoke | Word::Import => {
                self.commits(Rule::Schema)
            }
            _ => self.by_rare_word(first),
        }
    }

    fn by_rare_word(&mut self, first: Piece) -> Place {
        match first.word {
            Word::Handler => self.handler(),
            Word::Lock => self.lock(),
            Word::Unlock => self.unlock(),
            Word::Flush => self.flush(),
            Word::Backup => self.backup(),
            Word::Xa => self.xa(),
            Word::Kill => self.kill(),
            Word::Prepare | Word::Execute | Word::Deallocate => self.by_text(first.word),
            Word::Get => {
                self.finish_with_variables();
                self.effects |= Effects::READS_DIAGNOSTICS | Effects::READS_LAST;
                (Target::Same, Rule::Diagnostics)
            }
            Word::Help => self.read(),
            Word::Optimize
            | Word::Repair
            | Word::Check
            | Word::Checksum
            | Word::Cache
            | Word::Install
            | Word::Uninstall => self.commits(Rule::Maintenance),
            Word::Reset => self.reset(),
            Word::Purge | Word::Binlog => primary(Rule::Maintenance),
            Word::Change if self.is_next("MASTER") || self.is_next("REPLICATION") => administer(),
            Word::Stop | Word::Shutdown | Word::Restart | Word::Clone => administer(),
            Word::Signal | Word::Resignal => primary(Rule::Diagnostics),
            Word::If | Word::Case | Word::Loop | Word::Repeat | Word::While | Word::For | Word::Declare => {
                self.block()
            }
            _ => self.unknown(),
        }
    }

    pub(super) fn unknown(&mut self) -> Place {
        self.effects |= Effects::OPAQUE;
        primary(Rule::Unknown)
    }

    /// A statement that commits first.
    pub(super) fn commits(&mut self, rule: Rule) -> Place {
        self.effects |= Effects::COMMITS;
        primary(rule)
    }

    /// A block: a semicolon in it ends no statement of ours.
    pub(super) fn block(&mut self) -> Place {
        self.finish_body();
        self.effects |= Effects::OPAQUE;
        primary(Rule::Block)
    }

    /// Takes all that is left of the text.
    pub(super) fn finish_body(&mut self) {
        loop {
            while self.step().is_some() {}
            if self.next().is_none() {
                return;
            }
            self.fetch();
        }
    }

    /// The rest; user variables in it may be written.
    pub(super) fn finish_with_variables(&mut self) {
        while self.step().is_some() {}
        if self.effects.has(Effects::READS_VARIABLES) {
            self.effects |= Effects::WRITES_VARIABLES;
        }
    }

    /// `(SELECT ...)`, `((SELECT ...) UNION ...)`.
    fn parenthesis(&mut self) -> Place {
        while self.peek_kind() == Some(Kind::Open) {
            self.step();
        }
        match self.peek() {
            Word::Select | Word::Values | Word::With => self.read(),
            Word::Table if self.dialect.vendor == Vendor::MySql => self.read(),
            _ => self.unknown(),
        }
    }

    /// `WITH ... SELECT`, `WITH ... UPDATE`: the verb stands outside of all parentheses.
    fn with(&mut self) -> Place {
        self.signs.with_list = true;
        let place = self.with_verb();
        self.signs.with_list = false;
        place
    }

    fn with_verb(&mut self) -> Place {
        loop {
            let behind_list = self.last.kind == Kind::Close && self.depth == 0;
            let Some(piece) = self.step() else { return self.unknown() };
            match piece.word {
                _ if self.depth != 0 && !(self.depth == 1 && piece.kind == Kind::Open && behind_list) => {}
                Word::Select | Word::Values => return self.read_behind_with(),
                Word::Table if self.dialect.vendor == Vendor::MySql => {
                    return self.read_behind_with();
                }
                Word::Insert | Word::Replace | Word::Update | Word::Delete => return primary(Rule::Write),
                _ if piece.kind == Kind::Open && behind_list => return self.with_parenthesis(),
                _ => {}
            }
        }
    }

    fn read_behind_with(&mut self) -> Place {
        self.signs.with_list = false;
        self.read()
    }

    /// `WITH a AS (...) (SELECT ...)`.
    fn with_parenthesis(&mut self) -> Place {
        self.signs.with_list = false;
        let place = self.parenthesis();
        if place.1 == Rule::Unknown { self.unknown() } else { place }
    }

    /// EXPLAIN and its synonyms: of a statement, of a table, of a connection.
    fn explain(&mut self) -> Place {
        loop {
            let word = self.peek();
            if self.is_next("EXTENDED") || self.is_next("PARTITIONS") {
                self.step();
            } else if self.is_next("FORMAT") {
                self.step();
                if self.peek_kind() != Some(Kind::Equals) {
                    return self.read();
                }
                self.step();
                self.step();
            } else if word == Word::Analyze {
                // It runs what it explains.
                self.step();
            } else if word == Word::Into {
                self.step();
                self.step();
                self.effects |= Effects::WRITES_VARIABLES;
            } else if word == Word::For {
                self.step();
                if self.is_next("CONNECTION") {
                    return primary(Rule::OneServer);
                }
                self.step();
                self.step();
            } else {
                return self.explained();
            }
        }
    }

    fn explained(&mut self) -> Place {
        match self.peek() {
            Word::Select | Word::Values | Word::With | Word::Table => self.by_first_word(),
            Word::Insert | Word::Replace | Word::Update | Word::Delete => primary(Rule::ExplainWrite),
            _ if self.peek_kind() == Some(Kind::Open) => self.parenthesis(),
            // `EXPLAIN table [column]`.
            _ if self.name().is_some() => self.read(),
            _ => self.unknown(),
        }
    }

    /// MariaDB's ANALYZE of a statement runs it; ANALYZE TABLE writes statistics.
    fn analyze(&mut self) -> Place {
        if self.is_next("FORMAT") {
            self.step();
            self.step();
            self.step();
        }
        match self.peek() {
            Word::Select | Word::Values | Word::With => self.by_first_word(),
            Word::Insert | Word::Replace | Word::Update | Word::Delete => primary(Rule::Write),
            _ if self.peek_kind() == Some(Kind::Open) => self.parenthesis(),
            _ => self.commits(Rule::Maintenance),
        }
    }

    fn load(&mut self) -> Place {
        self.step();
        while self.is_next("LOW_PRIORITY") || self.is_next("CONCURRENT") {
            self.step();
        }
        if self.take(Word::Local) {
            self.effects |= Effects::LOADS_LOCAL;
        }
        self.finish_with_variables();
        primary(Rule::Load)
    }

    /// CREATE: of a temporary table, of a routine, of anything else.
    fn create(&mut self) -> Place {
        if self.take(Word::Or) {
            self.take(Word::Replace);
        }
        if self.take(Word::Temporary) {
            let is_table = self.take(Word::Table);
            if self.take(Word::If) {
                self.take(Word::Not);
                self.take(Word::Exists);
            }
            let name = self.name();
            self.effects |= Effects::CREATES_TEMPORARY;
            if !is_table || name.is_none() {
                self.effects |= Effects::OPAQUE;
            }
            self.keep(name);
            return primary(Rule::Temporary);
        }
        self.effects |= Effects::COMMITS;
        while !self.is_over() {
            match self.peek() {
                Word::Procedure | Word::FunctionWord | Word::Trigger | Word::Event | Word::Package => {
                    return self.routine();
                }
                Word::Table | Word::Select | Word::As | Word::With => break,
                _ => _ = self.step(),
            }
            if matches!(self.last.kind, Kind::Open | Kind::Dot) {
                break;
            }
        }
        primary(Rule::Schema)
    }

    /// What a routine's body does is not done now. But if something follows the body, that is not told from it.
    fn routine(&mut self) -> Place {
        let effects = self.effects;
        while self.step().is_some() {}
        let is_simple = self.next().is_none();
        self.finish_body();
        self.effects = if is_simple { effects } else { effects | Effects::OPAQUE };
        self.names.clear();
        primary(Rule::Schema)
    }

    fn drop(&mut self) -> Place {
        let temporary = self.take(Word::Temporary);
        if self.take(Word::Table) || self.take_text("TABLES") {
            if self.take(Word::If) {
                self.take(Word::Exists);
            }
            self.effects |= Effects::DROPS_TABLES;
            loop {
                let name = self.name();
                self.keep(name);
                if name.is_none() || self.peek_kind() != Some(Kind::Comma) {
                    break;
                }
                self.step();
            }
            if temporary {
                return primary(Rule::Temporary);
            }
        } else if self.take(Word::Prepare) {
            self.effects |= Effects::DEALLOCATES;
            let name = self.name();
            self.keep(name);
            return primary(Rule::Prepare);
        }
        self.commits(Rule::Schema)
    }

    fn reset(&mut self) -> Place {
        let own = ["MASTER", "SLAVE", "REPLICA", "BINARY"];
        if own.iter().any(|word| self.is_next(word)) { administer() } else { primary(Rule::Maintenance) }
    }

    /// PREPARE, EXECUTE, DEALLOCATE by text.
    fn by_text(&mut self, word: Word) -> Place {
        if word == Word::Execute && self.is_next("IMMEDIATE") {
            self.step();
            self.inner();
            self.finish_with_variables();
            let Some(inner) = self.inner.take() else {
                self.effects |= Effects::OPAQUE;
                return primary(Rule::Execute);
            };
            self.effects |= inner.effects;
            return (inner.target, inner.rule);
        }
        if word == Word::Deallocate {
            self.take(Word::Prepare);
        }
        let name = self.name();
        self.keep(name);
        match word {
            Word::Prepare => {
                self.effects |= Effects::PREPARES;
                self.take(Word::From);
                self.inner();
                primary(Rule::Prepare)
            }
            Word::Execute => {
                self.finish_with_variables();
                self.effects |= Effects::EXECUTES;
                primary(Rule::Execute)
            }
            _ => {
                self.effects |= Effects::DEALLOCATES;
                primary(Rule::Prepare)
            }
        }
    }

    /// Judges the text in quotes that comes next, if it stands there as the server will read it, and nothing but it.
    fn inner(&mut self) {
        let Some(piece) = self.next().filter(|piece| piece.kind == Kind::Text) else { return };
        self.step();
        let bytes = self.bytes(piece);
        let Some((quote @ (b'\'' | b'"'), inside)) = bytes.split_first() else { return };
        let inside = inside.get(..inside.len().saturating_sub(1)).unwrap_or_default();
        let is_plain = !inside.contains(quote) && !inside.contains(&b'\\');
        if !is_plain || !(self.is_over() || self.peek() == Word::Using) {
            return;
        }
        self.prepared = Some(Span { start: piece.start as usize + 1, end: piece.end as usize - 1 });
        if !self.within {
            let judged = Judge::new(inside, self.dialect, true).judge();
            let nested = Effects::PREPARES | Effects::EXECUTES | Effects::DEALLOCATES;
            // Names in there are not kept.
            let named = Effects::TAKES_LOCK | Effects::RELEASES_LOCK | Effects::DROPS_TABLES;
            let mut effects = judged.effects.without(named | nested);
            if judged.effects.has(Effects::TAKES_LOCK) {
                effects |= Effects::TAKES_LOCKS;
            }
            if judged.effects.has(nested | Effects::CREATES_TEMPORARY) {
                effects |= Effects::OPAQUE;
            }
            self.inner = Some(Judged { target: judged.target, rule: judged.rule, effects });
        }
    }
}

fn administer() -> Place {
    (Target::Refuse, Rule::Administer)
}
