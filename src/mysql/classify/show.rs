//! SHOW: most of it is the same everywhere, some of it is about one server, some about the statement before.
//!
//! What goes in: a [`Judge`] behind SHOW. What comes out: target and rule. It owns nothing. Always true: what is not listed reads the
//! same on every server.

use super::Judge;
use super::first::{Place, primary};
use crate::mysql::lexer::Kind;
use crate::mysql::verdict::{Effects, Rule, Target};
use crate::mysql::words::Word;

impl Judge<'_> {
    pub(super) fn show(&mut self) -> Place {
        for word in ["FULL", "GLOBAL", "SESSION", "LOCAL", "EXTENDED", "ALL", "STORAGE"] {
            self.take_text(word);
        }
        let Some(piece) = self.step() else { return self.unknown() };
        let bytes = self.bytes(piece);
        let is = |words: &[&str]| words.iter().any(|word| bytes.eq_ignore_ascii_case(word.as_bytes()));
        let second = |judge: &Self, words: &[&str]| words.iter().any(|word| judge.is_next(word));
        let is_count = is(&["COUNT"]) && self.peek_kind() == Some(Kind::Open);
        match () {
            () if is(&["WARNINGS", "ERRORS"]) || is_count => {
                self.effects |= Effects::READS_DIAGNOSTICS;
                (Target::Same, Rule::Diagnostics)
            }
            () if is(&["SLAVE", "REPLICA"]) && second(self, &["STATUS"]) => {
                (Target::Replica, Rule::ReplicaStatus)
            }
            () if is(&["SLAVES", "REPLICAS"]) && second(self, &["STATUS"]) => {
                (Target::Replica, Rule::ReplicaStatus)
            }
            () if is(&["RELAYLOG"]) => (Target::Replica, Rule::ReplicaStatus),
            () if is(&["MASTER", "BINARY", "BINLOG", "SLAVE", "REPLICA", "REPLICAS"]) => {
                primary(Rule::Position)
            }
            () if is(&["PROCESSLIST", "STATUS", "VARIABLES", "PROFILE", "PROFILES", "OPEN", "MUTEX"])
                || is(&["EXPLAIN", "ANALYZE", "GRANTS", "PLUGINS", "LOCALES", "CLIENT_STATISTICS"])
                || is(&["USER_STATISTICS", "INDEX_STATISTICS", "TABLE_STATISTICS", "WSREP"]) =>
            {
                primary(Rule::OneServer)
            }
            // SHOW ENGINE x STATUS; SHOW ENGINES says the same everywhere.
            () if is(&["ENGINE"]) => primary(Rule::OneServer),
            () if piece.kind == Kind::Word || piece.word == Word::Create => self.read(),
            () => self.unknown(),
        }
    }
}
