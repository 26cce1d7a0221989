//! Sessions: each statement, and where it goes after those before it.

use super::*;
use crate::mysql::classify::classify;
use crate::mysql::lexer::Dialect;

const MARIADB: Dialect = Dialect::mariadb(101_119);

/// One statement of a session, which goes well.
fn run(state: &mut SessionState, text: &str, reads: Reads) -> Decision {
    let verdict = classify(text.as_bytes(), state.dialect());
    let decision = decide(&verdict, state, reads);
    if let Some(place) = decision.place(state.last_place()) {
        state.after(&verdict, place, true, None);
    }
    decision
}

/// Lines of `target rule | statement`.
#[track_caller]
fn session(script: &str) -> SessionState {
    let mut state = SessionState::new(MARIADB);
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (expected, text) = line.split_once(" | ").unwrap();
        let decision = run(&mut state, text, Reads::Replicas);
        let found = format!("{} {}", decision.target.word(), decision.why.word());
        assert_eq!(found, expected, "{text}\n{state:?}");
    }
    state
}

fn pins(state: &SessionState) -> String {
    state.pins().map(Pin::word).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_transaction_stays_on_the_primary() {
    let state = session(
        "replica read | select 1
         primary begin | begin
         primary in-transaction | select 1
         primary in-transaction | start transaction read only
         primary in-read-only | select 1
         primary in-read-only | commit
         replica read | select 1
         primary begin | start transaction
         primary in-transaction | commit and chain
         primary in-transaction | select 1
         primary in-transaction | rollback
         replica read | select 1
         primary begin | begin
         primary in-transaction | create table t (a int)
         replica read | select 1
         primary end | commit
         primary savepoint | savepoint a",
    );
    assert_eq!(pins(&state), "");
}

#[test]
fn a_read_only_transaction_stays_on_its_replica() {
    session(
        "replica begin-read-only | start transaction read only
         replica in-read-only | select 1
         replica in-read-only | insert into t values (1)
         primary named-lock | select get_lock('a', 1)
         primary insert-id | select last_insert_id()
         all use | use db
         replica in-read-only | commit and chain
         replica in-read-only | select 1
         replica in-read-only | commit
         primary holds-named-lock | select 1
         primary named-lock | select release_lock('a')
         replica read | select 1",
    );
    let mut state = session("replica begin-read-only | start transaction read only");
    let decision = run(&mut state, "begin", Reads::Replicas);
    assert!(decision.end_on_replica && decision.target == Target::Primary, "{decision:?}");
    assert_eq!(state.transaction(), Transaction::ReadWrite);
    let mut state = session("replica begin-read-only | start transaction read only");
    let decision = run(&mut state, "start transaction read only", Reads::Replicas);
    assert_eq!((decision.target, decision.stay), (Target::Replica, true));
}

#[test]
fn autocommit_off_means_the_primary() {
    session(
        "all set-session | set autocommit = 0
         primary autocommit-off | select 1
         primary in-transaction | select 1
         primary in-transaction | commit
         primary autocommit-off | select 1
         primary in-transaction | set autocommit = 1
         replica read | select 1",
    );
}

/// What Connector/J sends for a read only connection.
#[test]
fn a_read_only_session_reads_from_a_replica() {
    session(
        "all set-session | set session transaction read only
         all set-session | set autocommit = 0
         primary autocommit-off | select 1
         primary in-read-only | select 2
         primary in-read-only | commit
         all set-session | set session transaction read write
         primary autocommit-off | select 1
         primary in-transaction | commit
         all set-session | set autocommit = 1
         all set-session | set session transaction read only
         replica read-only-session | begin
         replica in-read-only | select 1
         replica in-read-only | commit
         primary begin | start transaction read write
         primary in-transaction | select 1",
    );
}

#[test]
fn set_transaction_holds_until_the_next_one() {
    session(
        "primary set-next | set transaction isolation level serializable
         primary begin | begin
         primary in-transaction | commit
         replica read | select 1
         primary set-next | set transaction read only
         primary holds-next | begin
         primary in-read-only | commit
         primary set-next | set transaction isolation level read committed
         primary holds-next | start transaction read only
         primary in-read-only | commit
         replica begin-read-only | start transaction read only
         replica in-read-only | commit
         primary begin | begin
         primary in-transaction | commit
         primary set-next | set transaction read only
         primary holds-next | select 1
         replica read | select 1",
    );
}

#[test]
fn settings_decide() {
    session(
        "all set-session | set session transaction isolation level serializable
         primary serializable | select 1
         all set-session | set tx_isolation = 'READ-COMMITTED'
         replica read | select 1
         primary set-log | set sql_log_bin = 0
         primary log-off | select 1
         primary set-log | set sql_log_bin = 1
         replica read | select 1",
    );
    let mut state = SessionState::new(MARIADB);
    assert_eq!(run(&mut state, "select 1", Reads::Primary).why, Rule::ReadsOff);
    assert_eq!(run(&mut state, "start transaction read only", Reads::Primary).why, Rule::ReadsOff);
    assert_eq!(state.transaction(), Transaction::ReadOnly(Place::Primary));
    assert_eq!(run(&mut state, "select 1", Reads::Primary).target, Target::Primary);
}

#[test]
fn pins_end_with_their_cause() {
    let state = session(
        "primary temporary | create temporary table t (a int)
         primary holds-temporary | select 1
         primary temporary | create temporary table if not exists t (a int)
         primary temporary | create temporary table d.t (a int)
         primary temporary | drop temporary table t
         primary holds-temporary | select 1
         primary schema | drop table d.t
         replica read | select 1
         primary named-lock | select get_lock('a', 1)
         primary named-lock | select get_lock('a', 1)
         primary named-lock | do release_lock('b')
         primary named-lock | do release_lock('a')
         primary holds-named-lock | select 1
         primary named-lock | do release_lock('a')
         replica read | select 1
         primary named-lock | select get_lock(concat('a'), 1)
         primary named-lock | do release_lock('a')
         primary holds-named-lock | select 1
         primary named-lock | do release_all_locks()
         replica read | select 1
         primary table-locks | lock tables t read
         primary holds-table-locks | select 1
         primary table-locks | unlock tables
         replica read | select 1
         primary table-locks | lock tables t read
         primary begin | begin
         primary in-transaction | commit
         replica read | select 1
         primary read-lock | flush tables with read lock
         primary begin | begin
         primary in-transaction | commit
         primary holds-table-locks | select 1
         primary table-locks | unlock tables
         primary handler | handler t open
         replica read | select 1
         primary handler | handler t close
         primary prepare | prepare s from 'select 1'
         primary execute | execute s
         primary prepare | deallocate prepare s
         primary backup-lock | backup stage start
         primary backup-lock | backup stage end
         replica read | select sql_calc_found_rows 1
         same diagnostics | select found_rows()",
    );
    assert_eq!(pins(&state), "");
    let state = session(
        "primary handler | handler t open
         primary backup-lock | backup lock t
         primary prepare | prepare s from 'select 1'
         primary call | call p()
         replica read | select sql_calc_found_rows 1",
    );
    assert_eq!(pins(&state), "backup-lock handlers text-prepared found-rows opaque");
}

#[test]
fn questions_go_where_the_statement_before_ran() {
    let mut state = session("replica read | select 1");
    assert_eq!(state.last_place(), Place::Replica);
    assert_eq!(run(&mut state, "show warnings", Reads::Replicas).place(Place::Replica), Some(Place::Replica));
    run(&mut state, "insert into t values (1)", Reads::Replicas);
    assert_eq!(state.last_place(), Place::Primary);
    run(&mut state, "select row_count()", Reads::Replicas);
    assert_eq!(state.last_place(), Place::Primary);
}

#[test]
fn user_variables_stay_in_one_place() {
    session(
        "primary user-variable | set @a = 1
         primary user-variable | select @a
         replica read | select 1
         primary variables-there | start transaction read only
         primary in-read-only | select @a",
    );
    // On a replica, where the transaction read them.
    session(
        "replica begin-read-only | start transaction read only
         replica in-read-only | select max(a) into @a from t
         replica in-read-only | commit
         replica variables-there | select @a
         replica variables-there | set @b = 1
         refuse variables-elsewhere | insert into t values (@a)
         primary write | insert into t values (1)",
    );
    session(
        "replica read | select 1
         same diagnostics | get diagnostics @n = number
         replica variables-there | select @n
         primary write | update t set a = 1
         refuse variables-elsewhere | get diagnostics @n = number",
    );
}

#[test]
fn distributed_transactions_stay() {
    session(
        "primary xa | xa start 'a'
         primary in-xa | select 1
         primary in-xa | xa end 'a'
         primary in-xa | xa prepare 'a'
         primary in-xa | select 1
         primary in-xa | xa commit 'a'
         replica read | select 1",
    );
}

#[test]
fn what_was_prepared_has_its_effects() {
    session(
        "primary prepare | prepare s from 'set autocommit = 0'
         primary execute | execute s
         primary autocommit-off | select 1",
    );
    let state = session(
        "primary prepare | prepare s from @a
         primary execute | execute s",
    );
    assert!(pins(&state).contains("opaque"));
}

#[test]
fn errors_begin_nothing_but_what_may_have_happened() {
    for (text, pinned) in [
        ("begin", ""),
        ("set autocommit = 0", ""),
        ("select @a := 1", "user-variables"),
        ("select get_lock('a', 1)", "named-locks"),
        ("call p()", "opaque"),
        ("handler t open", ""),
    ] {
        let mut state = SessionState::new(MARIADB);
        state.after(&classify(text.as_bytes(), MARIADB), Place::Primary, false, None);
        assert_eq!(pins(&state), pinned, "{text}");
        assert!(state.is_autocommit());
    }
}

#[test]
fn servers_know_better() {
    let verdict = |text: &str| classify(text.as_bytes(), MARIADB);
    let mut state = SessionState::new(MARIADB);
    // A procedure began a transaction; autocommit stays on.
    state.after(&verdict("call p()"), Place::Primary, true, Some(0x3));
    assert_eq!(state.transaction(), Transaction::ReadWrite);
    state.told_transaction_state(Place::Primary, b"________");
    assert_eq!(state.transaction(), Transaction::None);
    state.told_transaction_state(Place::Primary, b"T_R_WsS_");
    assert_eq!(state.transaction(), Transaction::ReadWrite);
    // What a replica tells does not end it.
    state.told_transaction_state(Place::Replica, b"________");
    state.told_status(Place::Replica, 0x2);
    assert_eq!(state.transaction(), Transaction::ReadWrite);
    state.told_status(Place::Primary, 0x0);
    assert_eq!((state.transaction(), state.is_autocommit()), (Transaction::None, false));
    state.told_variable(b"autocommit", b"ON");
    state.told_variable(b"tx_isolation", b"SERIALIZABLE");
    assert!(state.is_autocommit() && state.is_serializable());
    state.told_variable(b"sql_mode", b"ANSI_QUOTES,NO_BACKSLASH_ESCAPES");
    state.told_variable(b"character_set_client", b"gbk");
    let dialect = state.dialect();
    assert!(dialect.ansi_quotes && dialect.no_backslash_escapes);
    assert_eq!(dialect.charset, crate::mysql::lexer::Charset::Gbk);
    state.told_transaction_state(Place::Primary, b"_______L");
    assert!(pins(&state).contains("table-locks"));
    state.told_status(Place::Replica, 0x2001);
    assert_eq!(state.transaction(), Transaction::ReadOnly(Place::Replica));
}

#[test]
fn temporary_tables_belong_to_schemas() {
    let mut state = SessionState::new(MARIADB);
    state.told_schema(b"a");
    run(&mut state, "create temporary table t (x int)", Reads::Replicas);
    state.told_schema(b"b");
    run(&mut state, "drop table t", Reads::Replicas);
    assert_eq!(pins(&state), "temporary-tables");
    run(&mut state, "drop table a.t", Reads::Replicas);
    assert_eq!(pins(&state), "");
}

#[test]
fn memory_is_bounded() {
    let mut state = SessionState::new(MARIADB);
    for number in 0..1000 {
        run(&mut state, &format!("create temporary table t{number} (a int)"), Reads::Replicas);
        run(&mut state, &format!("select get_lock('l{number}', 1)"), Reads::Replicas);
        run(&mut state, &format!("prepare s{number} from 'select 1'"), Reads::Replicas);
    }
    for number in 0..1000 {
        run(&mut state, &format!("drop temporary table t{number}"), Reads::Replicas);
        run(&mut state, &format!("do release_lock('l{number}')"), Reads::Replicas);
    }
    assert_eq!(pins(&state), "temporary-tables named-locks text-prepared");
    run(&mut state, "do release_all_locks()", Reads::Replicas);
    assert_eq!(pins(&state), "temporary-tables text-prepared");
    state.lost(Place::Primary);
    assert_eq!(pins(&state), "");
    assert!(size_of::<SessionState>() <= 4096, "{}", size_of::<SessionState>());
}

#[test]
fn pins_have_numbers_and_words_of_their_own() {
    for (at, pin) in Pin::ALL.into_iter().enumerate() {
        assert_eq!(pin as usize, at, "{pin:?}");
        assert!(Pin::ALL[..at].iter().all(|other| other.word() != pin.word()), "{pin:?}");
    }
    assert!(Pin::ALL.len() <= 16, "pin_bits has 16 bits");
}
