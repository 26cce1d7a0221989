//! What a session holds on one server: table locks, the read lock, backup locks, handlers. And KILL.
//!
//! What goes in: a [`Judge`] behind the first word. What comes out: target, rule and effects. It owns nothing. Always true: all of it is
//! the primary's.

use super::Judge;
use super::first::{Place, primary};
use crate::mysql::lexer::Kind;
use crate::mysql::verdict::{Effects, Kill, Rule, Span, Whom};
use crate::mysql::words::Word;

impl Judge<'_> {
    /// LOCK TABLES, LOCK INSTANCE FOR BACKUP.
    pub(super) fn lock(&mut self) -> Place {
        if self.is_next("INSTANCE") || self.is_next("BINLOG") {
            self.effects |= Effects::BACKUP_LOCK;
            return primary(Rule::BackupLock);
        }
        self.effects |= Effects::LOCKS_TABLES | Effects::COMMITS;
        primary(Rule::TableLocks)
    }

    pub(super) fn unlock(&mut self) -> Place {
        if self.is_next("INSTANCE") || self.is_next("BINLOG") {
            self.effects |= Effects::BACKUP_UNLOCK;
            return primary(Rule::BackupLock);
        }
        self.effects |= Effects::UNLOCKS_TABLES | Effects::COMMITS;
        primary(Rule::TableLocks)
    }

    /// `FLUSH TABLES [t, ...] WITH READ LOCK`, `FLUSH TABLES t FOR EXPORT`, and those that lock nothing.
    pub(super) fn flush(&mut self) -> Place {
        let mut of_tables = false;
        let mut count = 0;
        while let Some(piece) = self.step() {
            let is = |text: &str| self.bytes(piece).eq_ignore_ascii_case(text.as_bytes());
            if is("TABLES") || piece.word == Word::Table {
                of_tables = true;
            } else if of_tables && piece.word == Word::With && self.is_next("READ") {
                let some = if count == 0 { Effects::READ_LOCK } else { Effects::LOCKS_TABLES };
                self.effects |= some | Effects::COMMITS;
                return primary(Rule::ReadLock);
            } else if of_tables && piece.word == Word::For && self.is_next("EXPORT") {
                self.effects |= Effects::LOCKS_TABLES | Effects::COMMITS;
                return primary(Rule::ReadLock);
            } else if of_tables {
                count += 1;
            }
        }
        self.commits(Rule::Maintenance)
    }

    /// MariaDB: `BACKUP STAGE x`, `BACKUP LOCK t`, `BACKUP UNLOCK`.
    pub(super) fn backup(&mut self) -> Place {
        let ends = if self.take_text("STAGE") { self.is_next("END") } else { self.is_next("UNLOCK") };
        self.effects |= if ends { Effects::BACKUP_UNLOCK } else { Effects::BACKUP_LOCK };
        primary(Rule::BackupLock)
    }

    /// `HANDLER t OPEN [AS a]`, `HANDLER a CLOSE`, `HANDLER a READ ...`.
    pub(super) fn handler(&mut self) -> Place {
        let name = self.name();
        if self.take_text("OPEN") {
            self.effects |= Effects::OPENS_HANDLER;
        } else if self.take_text("CLOSE") {
            self.effects |= Effects::CLOSES_HANDLER;
        }
        if name.is_none() {
            self.effects |= Effects::OPAQUE;
        }
        primary(Rule::Handler)
    }

    /// `KILL [HARD | SOFT] [CONNECTION | QUERY [ID]] n`, `KILL [...] USER u`.
    pub(super) fn kill(&mut self) -> Place {
        self.take_text("HARD");
        let soft = self.take_text("SOFT");
        self.take_text("CONNECTION");
        let query = self.take_text("QUERY");
        let id = query && self.is_next("ID");
        if id {
            self.step();
        }
        let user = self.take_text("USER");
        let first = self.next().filter(|piece| piece.kind != Kind::Semicolon);
        while self.step().is_some() {}
        let rest = Span {
            start: first.map_or(self.text.len(), |piece| piece.start as usize),
            end: self.last.end as usize,
        };
        let digits = rest.of(self.text);
        let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
        let number =
            std::str::from_utf8(digits).ok().filter(|_| is_number).and_then(|text| text.parse().ok());
        let whom = match number {
            _ if user => Whom::User(rest),
            Some(number) if id => Whom::Statement(number),
            Some(number) => Whom::Connection(number),
            None => Whom::Other(rest),
        };
        self.kill = Some(Kill { query, soft, whom });
        self.effects |= Effects::KILLS;
        primary(Rule::Kill)
    }
}
