//! What the words of a statement show, wherever they stand.
//!
//! What goes in: each token once, with its neighbours. What comes out: signs and effects in the [`Judge`]. It owns
//! nothing. Always true: a sign too many costs speed alone; none is missed because of parentheses, quotes or comments.

use super::{Judge, Piece};
use crate::mysql::lexer::Kind;
use crate::mysql::verdict::{Effects, Name, Rule, Target};
use crate::mysql::words::{Word, look_up};

impl Judge<'_> {
    /// Notes what a token shows. The next one is known, and the two before.
    #[inline]
    pub(super) fn note(&mut self, piece: Piece) {
        match piece.kind {
            Kind::Word => {
                if piece.word != Word::Name {
                    self.keyword(piece.word);
                }
                self.name_like(piece);
            }
            Kind::Name | Kind::Quoted => self.name_like(piece),
            Kind::Open => self.depth += 1,
            Kind::Close => {
                self.depth -= 1;
                self.signs.bad |= self.depth < 0;
            }
            Kind::UserVariable => self.user_variable(),
            Kind::SystemVariable => self.system_variable(piece),
            Kind::Bad => self.signs.bad = true,
            _ => {}
        }
    }

    #[inline]
    fn keyword(&mut self, word: Word) {
        match word {
            Word::For => self.signs.locking |= matches!(self.peek(), Word::Update | Word::Share),
            Word::Lock => self.signs.locking |= self.peek() == Word::In,
            Word::Into => self.into(),
            Word::From => self.signs.from = true,
            Word::SqlCalcFoundRows => self.effects |= Effects::FOUND_ROWS,
            Word::Value if matches!(self.last.word, Word::Next | Word::Previous) => {
                self.effects |= Effects::SEQUENCES;
            }
            _ => {}
        }
    }

    fn into(&mut self) {
        self.signs.into = true;
        let is_variable = self.peek_kind() == Some(Kind::UserVariable);
        self.signs.into_file |= !is_variable;
    }

    /// A name: of a function, if a parenthesis follows.
    #[inline]
    fn name_like(&mut self, piece: Piece) {
        if self.peek_kind() == Some(Kind::Open) {
            self.call(piece);
        } else if piece.kind != Kind::Word || self.last.kind == Kind::Dot {
            self.part(piece);
        } else if matches!(piece.word, Word::InformationSchema | Word::PerformanceSchema) {
            self.schema(piece.word);
        }
    }

    /// A name behind a dot, or in quotes.
    fn part(&mut self, piece: Piece) {
        let word = look_up(self.bare(piece)).0;
        if self.last.kind == Kind::Dot {
            // In sql_mode ORACLE this is how sequences are used.
            if matches!(word, Word::NextVal | Word::CurrVal) && self.peek_kind() != Some(Kind::Dot) {
                self.effects |= Effects::SEQUENCES;
            }
            if look_up(self.bare(self.before)).0 == Word::InformationSchema {
                self.signs.one_server |= is_about_one_server(self.bare(piece));
            }
        } else {
            self.schema(word);
        }
    }

    fn schema(&mut self, word: Word) {
        self.signs.one_server |= word == Word::PerformanceSchema && self.peek_kind() == Some(Kind::Dot);
    }

    /// A call of what this names.
    #[inline]
    fn call(&mut self, piece: Piece) {
        if self.last.kind == Kind::Dot {
            self.effects |= Effects::CALLS_UNKNOWN;
            return;
        }
        let word = if piece.kind == Kind::Quoted { look_up(self.bare(piece)).0 } else { piece.word };
        match word {
            Word::Name => self.unknown_function(piece),
            Word::GetLock => self.get_lock(),
            Word::ReleaseLock | Word::ReleaseAllLocks => self.release_lock(word),
            Word::IsFreeLock | Word::IsUsedLock => self.signs.named_lock = true,
            Word::LastInsertId => self.last_insert_id(),
            Word::FoundRows | Word::RowCount => {
                self.effects |= Effects::READS_DIAGNOSTICS | Effects::READS_LAST;
            }
            Word::ConnectionId => self.effects |= Effects::CONNECTION_ID,
            Word::NextVal | Word::SetVal | Word::LastVal => self.effects |= Effects::SEQUENCES,
            Word::LoadFile => self.signs.load_file = true,
            Word::MasterGtidWait
            | Word::MasterPosWait
            | Word::SourcePosWait
            | Word::WaitForExecutedGtidSet
            | Word::WaitUntilGtids
            | Word::BinlogGtidPos
            | Word::WsrepSyncWait
            | Word::WsrepLastWritten => {
                self.signs.position = true;
                self.effects |= Effects::WAITS;
            }
            _ => {}
        }
    }

    /// The name of a function that is not the server's own, or of something else before a parenthesis.
    fn unknown_function(&mut self, piece: Piece) {
        // A name with a parenthesis in the list of WITH is none, nor the table of an INSERT.
        let in_list = self.signs.with_list && self.depth == 0;
        if in_list || matches!(self.last.word, Word::Into | Word::Table | Word::As | Word::Call) {
            return;
        }
        self.effects |= Effects::CALLS_UNKNOWN;
        // Loadable functions that lock or change something outside of tables, which the fence does not see.
        const DOING: [&str; 11] = [
            "service_",
            "group_replication_",
            "asynchronous_",
            "keyring_",
            "audit_",
            "sys_",
            "spider_",
            "mysql_",
            "version_tokens_",
            "lib_mysqludf_",
            "flush_",
        ];
        let name = self.bare(piece);
        let begins = |start: &&&str| {
            name.get(..start.len()).is_some_and(|found| found.eq_ignore_ascii_case(start.as_bytes()))
        };
        if let Some(start) = DOING.iter().find(begins) {
            if *start == "service_" {
                self.effects |= Effects::TAKES_LOCKS;
            }
            self.signs.named_lock = true;
        }
    }

    fn last_insert_id(&mut self) {
        self.signs.insert_id = true;
        let behind = self.lexer.clone().next_solid();
        let is_bare = behind.is_some_and(|token| token.kind == Kind::Close);
        self.effects |= if is_bare { Effects::READS_INSERT_ID } else { Effects::WRITES_INSERT_ID };
    }

    /// GET_LOCK: its name can be remembered if it surely is the only one of the statement.
    fn get_lock(&mut self) {
        self.signs.named_lock = true;
        let is_first = self.taken == 1 && matches!(self.last.word, Word::Select | Word::Do);
        let has_other = self.effects.has(Effects::TAKES_LOCK | Effects::TAKES_LOCKS);
        // The name stands behind the parenthesis that comes next.
        let name = if is_first && !has_other { self.text_argument() } else { None };
        match name {
            Some(name) => {
                self.names.clear();
                self.keep(Some(name));
                self.effects |= Effects::TAKES_LOCK;
            }
            None => self.effects = self.effects.without(Effects::TAKES_LOCK) | Effects::TAKES_LOCKS,
        }
    }

    /// RELEASE_LOCK and RELEASE_ALL_LOCKS: they count if they surely run, and once.
    fn release_lock(&mut self, word: Word) {
        self.signs.named_lock = true;
        let is_first = self.taken == 1 && matches!(self.last.word, Word::Select | Word::Do);
        if !is_first || !self.names.is_empty() {
            return;
        }
        let mut ahead = self.lexer.clone();
        let open = self.next().map(|piece| piece.kind);
        if open != Some(Kind::Open) {
            return;
        }
        let argument = if word == Word::ReleaseLock { ahead.next_solid() } else { None };
        let close = ahead.next_solid();
        let is_text = argument.is_none_or(|token| token.kind == Kind::Text);
        // `AS name` may follow, nothing else: WHERE or FROM could keep it from running.
        let is_end = |kind: Option<Kind>| matches!(kind, None | Some(Kind::Semicolon));
        let mut behind = ahead.next_solid();
        if behind.is_some_and(|token| look_up(token.of(self.text)).0 == Word::As) {
            ahead.next_solid();
            behind = ahead.next_solid();
        }
        if !is_text
            || close.map(|token| token.kind) != Some(Kind::Close)
            || !is_end(behind.map(|token| token.kind))
        {
            return;
        }
        match argument {
            None => self.effects |= Effects::RELEASES_LOCKS,
            Some(token) => {
                self.keep(Some(Name::new(self.text, token.start, token.end)));
                self.effects |= Effects::RELEASES_LOCK;
            }
        }
    }

    /// The text right behind the parenthesis that comes next, if a comma or the other parenthesis follows it.
    fn text_argument(&self) -> Option<Name> {
        let mut ahead = self.lexer.clone();
        let token = ahead.next_solid().filter(|token| token.kind == Kind::Text)?;
        let behind = ahead.next_solid()?;
        matches!(behind.kind, Kind::Comma | Kind::Close).then(|| Name::new(self.text, token.start, token.end))
    }

    #[inline]
    fn user_variable(&mut self) {
        // `'user'@'host'` is none, but does no harm.
        if self.peek_kind() == Some(Kind::Assign) {
            self.effects |= Effects::WRITES_VARIABLES;
        } else if self.signs.into && matches!(self.last.kind, Kind::Comma | Kind::Word) {
            self.effects |= Effects::WRITES_VARIABLES | Effects::READS_VARIABLES;
        } else {
            self.effects |= Effects::READS_VARIABLES;
        }
    }

    /// `@@a`, `@@session.a`: a few of them are not the same everywhere.
    fn system_variable(&mut self, piece: Piece) {
        let mut name = self.bare(piece);
        let mut ahead = self.lexer.clone();
        if is_scope(name)
            && self.peek_kind() == Some(Kind::Dot)
            && let Some(token) = ahead.next_solid()
        {
            name = self.bare(Piece::new(token, Word::Name));
        }
        let is = |known: &[&str]| known.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()));
        if is(&["identity", "last_insert_id", "insert_id"]) {
            self.signs.insert_id = true;
            self.effects |= Effects::READS_INSERT_ID;
        } else if is(&["warning_count", "error_count"]) {
            self.effects |= Effects::READS_DIAGNOSTICS;
        } else if is(&["pseudo_thread_id"]) {
            self.effects |= Effects::CONNECTION_ID;
        } else if is(&["last_gtid", "gtid_executed", "gtid_purged", "gtid_next", "gtid_seq_no"])
            || is(&["gtid_binlog_pos", "gtid_binlog_state", "gtid_current_pos", "gtid_slave_pos"])
        {
            self.signs.position = true;
            self.effects |= Effects::WAITS;
            if is(&["last_gtid"]) {
                self.effects |= Effects::READS_LAST;
            }
        } else if is(&["read_only", "super_read_only", "innodb_read_only", "in_transaction"])
            || is(&["tx_read_only", "transaction_read_only"])
        {
            // On replicas the fence is set.
            self.signs.one_server = true;
        }
    }

    /// Where a statement belongs that only reads as far as its first words say.
    pub(super) fn read(&mut self) -> (Target, Rule) {
        while self.step().is_some() {}
        let signs = self.signs;
        let has = |effects| self.effects.has(effects);
        let rule = match () {
            () if signs.into_file => Rule::IntoFile,
            () if signs.locking => Rule::Locking,
            () if signs.named_lock => Rule::NamedLock,
            () if has(Effects::SEQUENCES) => Rule::Sequence,
            () if signs.insert_id => Rule::InsertId,
            () if has(Effects::READS_DIAGNOSTICS) => return (Target::Same, Rule::Diagnostics),
            () if has(Effects::WRITES_VARIABLES | Effects::READS_VARIABLES) => Rule::UserVariable,
            () if has(Effects::CONNECTION_ID) => Rule::ConnectionId,
            () if signs.position => Rule::Position,
            () if signs.one_server => Rule::OneServer,
            () if signs.load_file => Rule::File,
            () if has(Effects::CALLS_UNKNOWN) => return (Target::Replica, Rule::Function),
            () => return (Target::Replica, Rule::Read),
        };
        (Target::Primary, rule)
    }
}

/// Whether this stands before the name of a system variable.
pub(super) fn is_scope(name: &[u8]) -> bool {
    ["global", "session", "local", "persist", "persist_only"]
        .iter()
        .any(|scope| name.eq_ignore_ascii_case(scope.as_bytes()))
}

/// Tables of information_schema that tell about the server, not about data.
fn is_about_one_server(table: &[u8]) -> bool {
    let lower = table.to_ascii_lowercase_in();
    let name = lower.as_slice();
    name == b"processlist"
        || name.ends_with(b"_status")
        || name.ends_with(b"_variables")
        || name.starts_with(b"innodb_")
        || name.ends_with(b"_statistics")
        || name == b"metadata_lock_info"
}

/// A short name in lower case, without allocation.
trait Lower {
    fn to_ascii_lowercase_in(&self) -> arrayvec::ArrayVec<u8, 32>;
}

impl Lower for [u8] {
    fn to_ascii_lowercase_in(&self) -> arrayvec::ArrayVec<u8, 32> {
        self.iter().take(32).map(u8::to_ascii_lowercase).collect()
    }
}
