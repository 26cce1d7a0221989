//! SET: variables of all kinds, NAMES, TRANSACTION, ROLE, PASSWORD, STATEMENT.
//!
//! What goes in: a [`Judge`] behind SET. What comes out: target, rule and effects. It owns nothing. Always true: each assignment of the list is
//! looked at; the one that ties the session closest to the primary decides.

use super::Judge;
use super::first::{Place, primary};
use super::signs::is_scope;
use crate::mysql::lexer::Kind;
use crate::mysql::verdict::{Effects, Rule, Target};
use crate::mysql::words::Word;

/// Variables that `SET STATEMENT` may set for a statement on a replica.
const HARMLESS: &[&str] = &[
    "max_statement_time",
    "max_execution_time",
    "sort_buffer_size",
    "join_buffer_size",
    "join_cache_level",
    "read_buffer_size",
    "read_rnd_buffer_size",
    "tmp_table_size",
    "max_heap_table_size",
    "tmp_memory_table_size",
    "group_concat_max_len",
    "optimizer_switch",
    "optimizer_use_condition_selectivity",
    "optimizer_search_depth",
    "optimizer_prune_level",
    "optimizer_trace",
    "eq_range_index_dive_limit",
    "use_stat_tables",
    "lock_wait_timeout",
    "innodb_lock_wait_timeout",
    "long_query_time",
    "slow_query_log",
    "sql_select_limit",
    "max_join_size",
    "big_tables",
    "in_predicate_conversion_threshold",
    "rowid_merge_buff_size",
    "mrr_buffer_size",
];

/// What a list of assignments was about.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    session: bool,
    global: bool,
    next: bool,
    log: bool,
    user: bool,
    account: bool,
    role: bool,
}

impl Judge<'_> {
    pub(super) fn set(&mut self) -> Place {
        if self.is_next("STATEMENT") {
            self.step();
            return self.set_statement();
        }
        let mut found = Found::default();
        loop {
            self.assignment(&mut found);
            // The value, up to the next comma outside of parentheses.
            while !(self.is_over() || (self.depth == 0 && self.peek_kind() == Some(Kind::Comma))) {
                self.step();
            }
            if self.step().is_none() {
                break;
            }
        }
        self.set_place(found)
    }

    fn set_place(&mut self, found: Found) -> Place {
        if found.user {
            self.effects |= Effects::WRITES_VARIABLES;
        }
        if found.session || found.role {
            self.effects |= Effects::SETS_SESSION;
        }
        if found.role {
            self.effects |= Effects::SETS_ROLE;
        }
        let uses_variables = self.effects.has(Effects::WRITES_VARIABLES | Effects::READS_VARIABLES);
        match () {
            () if found.account => self.commits(Rule::SetAccount),
            () if found.global => primary(Rule::SetGlobal),
            () if found.log => primary(Rule::SetLog),
            () if self.signs.named_lock => primary(Rule::NamedLock),
            () if found.next => primary(Rule::SetNext),
            () if self.effects.has(Effects::WRITES_INSERT_ID | Effects::READS_INSERT_ID) => {
                primary(Rule::InsertId)
            }
            () if self.effects.has(Effects::READS_DIAGNOSTICS) => (Target::Same, Rule::Diagnostics),
            () if uses_variables => primary(Rule::UserVariable),
            () if found.role => (Target::All, Rule::SetRole),
            () if found.session => (Target::All, Rule::SetSession),
            () => self.unknown(),
        }
    }

    /// One `name = value`, up to the value.
    fn assignment(&mut self, found: &mut Found) {
        match self.peek_kind() {
            Some(Kind::UserVariable) => {
                self.step();
                found.user = true;
            }
            Some(Kind::SystemVariable) => {
                let Some(piece) = self.next() else { return };
                let name = self.bare(piece);
                self.step();
                let (name, scope) = if is_scope(name) { (None, name) } else { (Some(name), &b""[..]) };
                self.variable(name, scope, found);
            }
            Some(Kind::Word | Kind::Quoted) => self.named_assignment(found),
            _ => self.signs.bad = true,
        }
    }

    fn named_assignment(&mut self, found: &mut Found) {
        let Some(piece) = self.step() else { return };
        let name = self.bare(piece);
        let is = |words: &[&str]| words.iter().any(|word| name.eq_ignore_ascii_case(word.as_bytes()));
        let assigns = matches!(self.peek_kind(), Some(Kind::Equals | Kind::Assign | Kind::Dot));
        match () {
            () if piece.kind == Kind::Word && is_scope(name) && !assigns => {
                if self.take(Word::Transaction) {
                    self.set_transaction(name, found);
                } else {
                    self.variable(None, name, found);
                }
            }
            () if assigns && !is(&["PASSWORD"]) => self.variable(Some(name), b"", found),
            () if is(&["NAMES", "CHARSET", "CHARACTER", "CHAR"]) => {
                found.session = true;
                self.effects |= Effects::SETS_READING;
            }
            () if is(&["PASSWORD"]) => found.account = true,
            () if is(&["DEFAULT"]) && self.is_next("ROLE") => found.account = true,
            () if is(&["ROLE"]) => found.role = true,
            () if is(&["TRANSACTION"]) => {
                self.effects |= Effects::SETS_NEXT;
                self.transaction_characteristics();
                found.next = true;
            }
            // RESOURCE GROUP concerns the server's threads.
            () if is(&["RESOURCE"]) => found.global = true,
            () => self.signs.bad = true,
        }
    }

    fn set_transaction(&mut self, scope: &[u8], found: &mut Found) {
        let (before, is_global) = (self.effects, is_global(scope));
        self.transaction_characteristics();
        if is_global {
            self.effects = before | Effects::SETS_GLOBAL;
            found.global = true;
        } else {
            self.effects |= Effects::SETS_TRANSACTIONS;
            found.session = true;
        }
    }

    /// `[scope] [schema .] name`, up to and with the `=`. What was read already is passed.
    fn variable(&mut self, name: Option<&[u8]>, scope: &[u8], found: &mut Found) {
        let mut name = name;
        while !self.is_over() && !matches!(self.peek_kind(), Some(Kind::Equals | Kind::Assign)) {
            let Some(piece) = self.step() else { return };
            if piece.kind != Kind::Dot {
                name = Some(self.bare(piece));
            }
        }
        self.step();
        let name = name.unwrap_or_default();
        if is_global(scope) {
            self.effects |= Effects::SETS_GLOBAL;
            found.global = true;
            return;
        }
        self.known_variable(name, !scope.is_empty(), found);
    }

    /// A session variable, at its value.
    fn known_variable(&mut self, name: &[u8], has_scope: bool, found: &mut Found) {
        let is = |words: &[&str]| words.iter().any(|word| name.eq_ignore_ascii_case(word.as_bytes()));
        let value = self.next().map(|piece| self.bare(piece)).unwrap_or_default();
        let behind = self.lexer.clone().next_solid().map(|token| token.kind);
        let is_whole = matches!(behind, None | Some(Kind::Comma | Kind::Semicolon));
        let says =
            |words: &[&str]| is_whole && words.iter().any(|word| value.eq_ignore_ascii_case(word.as_bytes()));
        let is_on = says(&["1", "ON", "TRUE"]);
        found.session = true;
        match () {
            () if is(&["autocommit"]) => {
                self.effects |= if is_on { Effects::AUTOCOMMIT_ON } else { Effects::AUTOCOMMIT_OFF };
            }
            () if is(&["sql_log_bin"]) => {
                self.effects |= if is_on { Effects::LOG_ON } else { Effects::LOG_OFF };
                found.log = true;
            }
            () if is(&["tx_read_only", "transaction_read_only"]) => {
                let mode = if is_on { Effects::READ_ONLY } else { Effects::READ_WRITE };
                self.effects |= mode | Effects::SETS_TRANSACTIONS;
            }
            () if is(&["tx_isolation", "transaction_isolation"]) => {
                let others = ["READ-COMMITTED", "READ-UNCOMMITTED", "REPEATABLE-READ"];
                let level = if says(&others) { Effects::ISOLATION } else { Effects::SERIALIZABLE };
                self.effects |= level | Effects::SETS_TRANSACTIONS;
            }
            () if is(&["insert_id", "last_insert_id", "identity"]) => {
                self.effects |= Effects::WRITES_INSERT_ID;
            }
            () if is(&["gtid_next", "gtid_seq_no", "gtid_domain_id", "server_id", "pseudo_slave_mode"])
                || is(&["binlog_format", "binlog_row_image", "sql_log_off", "sql_log_update"])
                || is(&["skip_replication", "pseudo_thread_id", "binlog_rows_query_log_events"]) =>
            {
                found.log = true;
            }
            () if is(&["sql_mode", "character_set_client"]) => self.effects |= Effects::SETS_READING,
            () if name.get(..14).is_some_and(|start| start.eq_ignore_ascii_case(b"session_track_")) => {
                self.effects |= Effects::SETS_TRACKERS;
            }
            () => {}
        }
        // `SET @@transaction_read_only = 1` without a scope is of the next transaction alone.
        let is_next = self.effects.has(Effects::SETS_TRANSACTIONS) && !has_scope && self.is_one_shot();
        if is_next && is(&["tx_read_only", "transaction_read_only", "tx_isolation", "transaction_isolation"])
        {
            self.effects = self.effects.without(Effects::SETS_TRANSACTIONS) | Effects::SETS_NEXT;
            found.next = true;
        }
    }

    /// Whether the variable being set was written with `@@` and without a scope.
    fn is_one_shot(&self) -> bool {
        self.before.kind == Kind::SystemVariable
    }

    /// `SET STATEMENT a = 1, b = 2 FOR statement`.
    fn set_statement(&mut self) -> Place {
        let mut harmless = true;
        let mut at_name = true;
        while let Some(piece) = self.step() {
            if piece.word == Word::For && self.depth == 0 {
                break;
            }
            let name = self.bare(piece);
            if at_name {
                harmless &= HARMLESS.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()));
            }
            at_name = piece.kind == Kind::Comma && self.depth == 0;
        }
        // The statement begins anew: what counts from its first word on counts from here.
        self.taken = 0;
        let place = self.by_first_word();
        self.effects |= Effects::SET_STATEMENT;
        let (target, _) = place;
        if !harmless && matches!(target, Target::Replica) { primary(Rule::SetFor) } else { place }
    }
}

fn is_global(scope: &[u8]) -> bool {
    ["global", "persist", "persist_only"].iter().any(|word| scope.eq_ignore_ascii_case(word.as_bytes()))
}
