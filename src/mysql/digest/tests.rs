//! Shapes of statements.

use super::*;
use crate::mysql::classify::classify;

fn shape(text: &str) -> String {
    let mut out = Vec::new();
    write(text.as_bytes(), Dialect::mariadb(101_119), &mut out, 1000);
    String::from_utf8(out).unwrap()
}

fn number(text: &str) -> u64 {
    classify(text.as_bytes(), Dialect::mariadb(101_119)).digest
}

#[test]
fn shapes_hold_no_literals() {
    for (text, expected) in [
        ("select * from t where id = 1", "SELECT * FROM t WHERE id = ?"),
        ("SELECT * FROM `t` WHERE id='a''b' ;", "SELECT * FROM t WHERE id = ?"),
        ("select a from t where b in (1, 2, -3)", "SELECT a FROM t WHERE b IN (?)"),
        ("select a from t where b in (?, ?)", "SELECT a FROM t WHERE b IN (?)"),
        ("insert into t (a,b) values (1,'x'),(2,null),(3, -1.5e3)", "INSERT INTO t(a, b) VALUES (?)"),
        ("insert into t values (1, now()), (2, now())", "INSERT INTO t VALUES (?, now()), (?, now())"),
        ("select -1, a - 1, (-1)", "SELECT ?, a - ?, (?)"),
        ("select a, -b from t", "SELECT a, - b FROM t"),
        ("select 1, a, 2", "SELECT ?, a, ?"),
        ("select count(*), COUNT(a) from t", "SELECT count(*), count(a) FROM t"),
        ("select a.b, `from` from db.t as a", "SELECT a.b, `from` FROM db.t AS a"),
        (
            "select a from t where b >= 1 and c <> 2 or d || e",
            "SELECT a FROM t WHERE b >= ? AND c <> ? OR d || e",
        ),
        ("set @a := 5, @@session.x = 'y'", "SET @a := ?, @@session.x = ?"),
        ("create user u identified by 'secret'", "CREATE user u identified BY ?"),
        ("select 1; select 'x'; ", "SELECT ?; ..."),
        ("set sql_mode = 'NO_BACKSLASH_ESCAPES'; select 'a\\', 'secret'", "SET sql_mode = ?; ..."),
        (
            "create user 'u'@'10.0.0.1' identified via ed25519 using password('secret')",
            "CREATE user ? @? identified via ed25519 USING password(?)",
        ),
        (
            "alter user u identified with caching_sha2_password as 0x24412430303524",
            "ALTER user u identified WITH caching_sha2_password AS ?",
        ),
        ("set password for u = password('secret')", "SET password FOR u = password(?)"),
        (
            "grant all on *.* to u@`%` identified by password '*6BB4837EB'",
            "GRANT ALL ON *.* TO u @`%` identified BY password ?",
        ),
        (
            "change master to master_user='repl', master_password='secret'",
            "CHANGE master TO master_user = ?, master_password = ?",
        ),
        ("prepare p from 'select \"secret\"'", "PREPARE p FROM ?"),
        (
            "create function f() returns int language js as $x$ return 'secret' $x$",
            "CREATE FUNCTION f() returns INT language js AS ...",
        ),
        ("select a \x01 'x' secret", "SELECT a ..."),
        ("select _utf8'a' 'b', x'41', true", "SELECT _utf8 ?"),
        ("select 'abc", "SELECT ..."),
        ("", ""),
    ] {
        assert_eq!(shape(text), expected, "{text}");
    }
}

#[test]
fn same_shapes_have_the_same_number() {
    for group in [
        &[
            "select * from t where id = 1",
            "SELECT *\nFROM t WHERE id=/* x */'abc'",
            "select * from `t` where id=-5 ;",
        ][..],
        &[
            "select 1 from t where a in (1)",
            "select 1 from t where a in (1,2,3)",
            "select ? from t where a in (?)",
        ],
        &[
            "insert into t values (1)",
            "insert into t values (1,2),(3,4)",
            "insert into t values (?,?), (?,?),(null,-1)",
        ],
    ] {
        assert!(group.iter().all(|text| number(text) == number(group[0])), "{group:?}");
    }
    let different = [
        "select a from t",
        "select b from t",
        "select A from t",
        "select a from t where a = 1",
        "select a from t where a = 1 and b = 1",
        "select a - 1 from t",
        "select a + 1 from t",
        "insert into t values (1, a)",
        "insert into t values (1), (a)",
        "select 1; select 1",
    ];
    for (at, text) in different.iter().enumerate() {
        assert!(different[..at].iter().all(|other| number(other) != number(text)), "{text}");
    }
}

#[test]
fn long_shapes_end_in_dots() {
    let text = format!("select {}", "abc, ".repeat(1000));
    for bytes_max in [10, 100, 1000] {
        let mut out = Vec::new();
        write(text.as_bytes(), Dialect::mysql(90_704), &mut out, bytes_max);
        assert!(out.len() == bytes_max && out.ends_with(b"..."), "{}", out.len());
    }
}
