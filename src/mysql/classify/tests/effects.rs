//! What statements leave behind.

use super::*;
use crate::mysql::verdict::Whom;

fn of(text: &str) -> Verdict {
    classify(text.as_bytes(), Dialect::mariadb(101_119))
}

const EFFECTS: &[(&str, &str)] = &[
    ("select 1", "{}"),
    ("begin", "{\"BEGINS\", \"COMMITS\"}"),
    ("start transaction read only", "{\"BEGINS\", \"READ_ONLY\", \"COMMITS\"}"),
    (
        "start transaction with consistent snapshot, read write",
        "{\"BEGINS\", \"READ_WRITE\", \"SNAPSHOT\", \"COMMITS\"}",
    ),
    ("commit and chain", "{\"ENDS\", \"CHAINS\"}"),
    ("rollback and no chain release", "{\"ENDS\", \"RELEASES\"}"),
    ("commit no release", "{\"ENDS\"}"),
    ("rollback to a", "{}"),
    ("set autocommit=0", "{\"AUTOCOMMIT_OFF\", \"SETS_SESSION\"}"),
    ("set autocommit=on", "{\"AUTOCOMMIT_ON\", \"SETS_SESSION\"}"),
    ("set autocommit=1+0", "{\"AUTOCOMMIT_OFF\", \"SETS_SESSION\"}"),
    ("set autocommit=@x", "{\"AUTOCOMMIT_OFF\", \"SETS_SESSION\", \"READS_VARIABLES\"}"),
    ("set names utf8, autocommit=0", "{\"AUTOCOMMIT_OFF\", \"SETS_SESSION\", \"SETS_READING\"}"),
    (
        "set session transaction isolation level serializable",
        "{\"SETS_SESSION\", \"SETS_TRANSACTIONS\", \"SERIALIZABLE\"}",
    ),
    (
        "set transaction isolation level read committed, read only",
        "{\"READ_ONLY\", \"SETS_NEXT\", \"ISOLATION\"}",
    ),
    ("set tx_isolation='SERIALIZABLE'", "{\"SETS_SESSION\", \"SETS_TRANSACTIONS\", \"SERIALIZABLE\"}"),
    ("set @@tx_isolation='REPEATABLE-READ'", "{\"SETS_SESSION\", \"SETS_NEXT\", \"ISOLATION\"}"),
    ("set session_track_schema=1", "{\"SETS_SESSION\", \"SETS_TRACKERS\"}"),
    ("set sql_log_bin=0", "{\"SETS_SESSION\", \"LOG_OFF\"}"),
    ("set global x=1", "{\"SETS_GLOBAL\"}"),
    ("use db", "{\"SETS_SCHEMA\"}"),
    ("select @a", "{\"READS_VARIABLES\"}"),
    ("select @a:=1", "{\"WRITES_VARIABLES\"}"),
    ("select 1 into @a", "{\"WRITES_VARIABLES\", \"READS_VARIABLES\"}"),
    ("call p(@a)", "{\"WRITES_VARIABLES\", \"READS_VARIABLES\", \"CALLS\", \"OPAQUE\"}"),
    ("select get_lock('a',1)", "{\"TAKES_LOCK\"}"),
    ("select get_lock(concat('a'),1)", "{\"TAKES_LOCKS\"}"),
    ("select get_lock('a',1), get_lock('b',1)", "{\"TAKES_LOCKS\"}"),
    ("select get_lock('a',1) from t", "{\"TAKES_LOCKS\"}"),
    ("set @x=get_lock('a',1)", "{\"WRITES_VARIABLES\", \"READS_VARIABLES\", \"TAKES_LOCKS\"}"),
    ("select release_lock('a')", "{\"RELEASES_LOCK\"}"),
    ("do release_lock('a')", "{\"RELEASES_LOCK\"}"),
    ("select release_lock('a') as x", "{\"RELEASES_LOCK\"}"),
    ("select release_lock('a') where 0", "{}"),
    ("select if(0, release_lock('a'), 1)", "{}"),
    ("select release_lock(@a)", "{\"READS_VARIABLES\"}"),
    ("select release_all_locks()", "{\"RELEASES_LOCKS\"}"),
    ("select release_all_locks() from t", "{}"),
    ("lock tables t read", "{\"COMMITS\", \"LOCKS_TABLES\"}"),
    ("unlock tables", "{\"COMMITS\", \"UNLOCKS_TABLES\"}"),
    ("flush tables with read lock", "{\"COMMITS\", \"READ_LOCK\"}"),
    ("flush tables t with read lock", "{\"COMMITS\", \"LOCKS_TABLES\"}"),
    ("backup stage start", "{\"BACKUP_LOCK\"}"),
    ("backup stage end", "{\"BACKUP_UNLOCK\"}"),
    ("backup unlock", "{\"BACKUP_UNLOCK\"}"),
    ("handler t open", "{\"OPENS_HANDLER\"}"),
    ("handler t close", "{\"CLOSES_HANDLER\"}"),
    ("create temporary table t (a int)", "{\"CREATES_TEMPORARY\"}"),
    ("drop temporary table t", "{\"DROPS_TABLES\"}"),
    ("drop table t", "{\"COMMITS\", \"DROPS_TABLES\"}"),
    ("deallocate prepare s", "{\"DEALLOCATES\"}"),
    ("select sql_calc_found_rows 1", "{\"FOUND_ROWS\"}"),
    ("select last_insert_id()", "{\"READS_INSERT_ID\"}"),
    ("select last_insert_id(5)", "{\"WRITES_INSERT_ID\"}"),
    ("update t set a=last_insert_id(a+1)", "{\"WRITES_INSERT_ID\"}"),
    (
        "get diagnostics @a = number",
        "{\"WRITES_VARIABLES\", \"READS_VARIABLES\", \"READS_DIAGNOSTICS\", \"READS_LAST\"}",
    ),
    ("select row_count()", "{\"READS_DIAGNOSTICS\", \"READS_LAST\"}"),
    ("select found_rows()", "{\"READS_DIAGNOSTICS\", \"READS_LAST\"}"),
    ("select @@last_gtid", "{\"WAITS\", \"READS_LAST\"}"),
    ("show warnings", "{\"READS_DIAGNOSTICS\"}"),
    ("xa start 'a'", "{\"BEGINS\", \"XA_BEGINS\"}"),
    ("xa end 'a'", "{\"XA_GOES_ON\"}"),
    ("xa commit 'a'", "{\"ENDS\", \"XA_ENDS\"}"),
    ("load data local infile 'x' into table t", "{\"LOADS_LOCAL\"}"),
    ("select f()", "{\"CALLS_UNKNOWN\"}"),
    ("select /*!50000 1 */", "{\"VERSIONED\"}"),
    ("begin; select 1; commit", "{\"ENDS\", \"MANY\"}"),
    ("commit; begin", "{\"BEGINS\", \"COMMITS\", \"MANY\"}"),
    ("lock tables t read; unlock tables", "{\"COMMITS\", \"LOCKS_TABLES\", \"MANY\"}"),
    ("create procedure p() begin select get_lock('a',1); end", "{\"COMMITS\", \"OPAQUE\"}"),
    ("create procedure p() select get_lock('a',1)", "{\"COMMITS\"}"),
    ("begin not atomic set autocommit=0; end", "{\"OPAQUE\"}"),
    ("foo", "{\"OPAQUE\"}"),
    ("execute immediate 'set autocommit=0'", "{\"AUTOCOMMIT_OFF\", \"SETS_SESSION\"}"),
];

#[test]
fn effects_are_told() {
    for (text, effects) in EFFECTS {
        assert_eq!(format!("{:?}", of(text).effects), *effects, "{text}");
    }
}
#[test]
fn names_are_found() {
    for (text, names) in [
        ("select get_lock('a b', 1)", "a b"),
        ("do release_lock(\"x\")", "x"),
        ("create temporary table if not exists `d`.`t` (a int)", "d.t"),
        ("drop table if exists a, b.c, d, e, f", "a b.c d e"),
        ("prepare s from 'select 1'", "s"),
        ("execute s using @a", "s"),
        ("drop prepare s", "s"),
    ] {
        let verdict = of(text);
        let schema_of = |name: &Name| if name.schema == 0 { "" } else { "." };
        let found: Vec<String> = verdict
            .names
            .iter()
            .map(|name| {
                let before = match schema_of(name) {
                    "." if text.contains("`d`") => "d.",
                    "." => "b.",
                    _ => "",
                };
                format!("{before}{}", String::from_utf8_lossy(name.span.of(text.as_bytes())))
            })
            .collect();
        assert_eq!(found.join(" "), names, "{text}");
    }
}

#[test]
fn what_is_prepared_is_judged() {
    let verdict = of("prepare s from 'update t set a = ?'");
    assert_eq!(verdict.inner.map(|inner| (inner.target, inner.rule)), Some((Target::Primary, Rule::Write)));
    let text = "prepare s from 'select 1'";
    let verdict = of(text);
    assert_eq!(verdict.prepared.unwrap().of(text.as_bytes()), b"select 1");
    assert_eq!(verdict.inner.unwrap().target, Target::Replica);
    assert_eq!(of("prepare s from 'select \\'a\\''").inner, None);
    assert_eq!(of("prepare s from @a").inner, None);
}

#[test]
fn kill_says_whom() {
    let whom = |text: &str| of(text).kill.unwrap();
    assert_eq!(whom("kill 5"), Kill { query: false, soft: false, whom: Whom::Connection(5) });
    assert_eq!(whom("kill soft query 5;"), Kill { query: true, soft: true, whom: Whom::Connection(5) });
    assert_eq!(whom("kill query id 7").whom, Whom::Statement(7));
    let text = "kill user 'a'@'b'";
    let Whom::User(span) = whom(text).whom else { panic!() };
    assert_eq!(span.of(text.as_bytes()), b"'a'@'b'");
    assert!(matches!(whom("kill 5 + 1").whom, Whom::Other(_)));
    assert!(matches!(whom("kill 99999999999999999999").whom, Whom::Other(_)));
}
