//! Transactions: BEGIN, START, COMMIT, ROLLBACK, SAVEPOINT, XA.
//!
//! What goes in: a [`Judge`] behind the first word. What comes out: target, rule and effects. It owns nothing. Always
//! true: where the words contradict each other, the transaction may write.

use super::Judge;
use super::first::{Place, primary};
use crate::mysql::lexer::Kind;
use crate::mysql::verdict::{Effects, Rule, Target};
use crate::mysql::words::Word;

impl Judge<'_> {
    pub(super) fn transaction(&mut self, first: Word) -> Place {
        match first {
            Word::Begin => self.begin(),
            Word::Start => self.start(),
            Word::Commit => self.end(),
            Word::Rollback => {
                self.take_text("WORK");
                if self.take(Word::To) {
                    return (Target::Same, Rule::Savepoint);
                }
                self.end()
            }
            _ => (Target::Same, Rule::Savepoint),
        }
    }

    fn begin(&mut self) -> Place {
        self.take_text("WORK");
        // `BEGIN NOT ATOMIC`, and in sql_mode ORACLE any BEGIN with something behind it.
        let is_over = self.is_over() && (!self.dialect.oracle || self.next().is_none());
        if !is_over {
            return self.block();
        }
        self.effects |= Effects::BEGINS | Effects::COMMITS;
        primary(Rule::Begin)
    }

    fn start(&mut self) -> Place {
        if !self.take(Word::Transaction) {
            return (Target::Refuse, Rule::Administer);
        }
        self.effects |= Effects::BEGINS | Effects::COMMITS;
        while !self.is_over() {
            self.access_mode();
            if self.is_next("SNAPSHOT") {
                self.effects |= Effects::SNAPSHOT;
            }
            self.step();
        }
        let only_reads = self.effects.has(Effects::READ_ONLY) && !self.effects.has(Effects::READ_WRITE);
        if only_reads { (Target::Replica, Rule::BeginReadOnly) } else { primary(Rule::Begin) }
    }

    /// READ ONLY, READ WRITE, if that comes next.
    pub(super) fn access_mode(&mut self) {
        if self.take_text("READ") {
            if self.is_next("ONLY") {
                self.effects |= Effects::READ_ONLY;
            } else if self.is_next("WRITE") {
                self.effects |= Effects::READ_WRITE;
            }
        }
    }

    /// `COMMIT [WORK] [AND [NO] CHAIN] [[NO] RELEASE]`.
    fn end(&mut self) -> Place {
        self.effects |= Effects::ENDS;
        let mut no = false;
        while let Some(piece) = self.step() {
            let is = |text: &str| self.bytes(piece).eq_ignore_ascii_case(text.as_bytes());
            if is("CHAIN") && !no {
                self.effects |= Effects::CHAINS;
            } else if piece.word == Word::Release && !no {
                self.effects |= Effects::RELEASES;
            }
            no = self.bytes(piece).eq_ignore_ascii_case(b"NO");
        }
        (Target::Same, Rule::End)
    }

    pub(super) fn xa(&mut self) -> Place {
        if let Some(piece) = self.step() {
            let is = |text: &str| self.bytes(piece).eq_ignore_ascii_case(text.as_bytes());
            self.effects |= match piece.word {
                Word::Start | Word::Begin => Effects::XA_BEGINS | Effects::BEGINS,
                Word::Commit | Word::Rollback => Effects::XA_ENDS | Effects::ENDS,
                Word::End | Word::Prepare => Effects::XA_GOES_ON,
                _ if is("RECOVER") => Effects::NONE,
                _ => Effects::OPAQUE,
            };
        }
        primary(Rule::Xa)
    }

    /// `SET TRANSACTION ...`, behind TRANSACTION.
    pub(super) fn transaction_characteristics(&mut self) {
        while !self.is_over() {
            self.access_mode();
            if self.is_next("SERIALIZABLE") {
                self.effects |= Effects::SERIALIZABLE;
            } else if self.is_next("COMMITTED") || self.is_next("UNCOMMITTED") || self.is_next("REPEATABLE") {
                self.effects |= Effects::ISOLATION;
            }
            if self.peek_kind() == Some(Kind::Bad) {
                return;
            }
            self.step();
        }
    }
}
