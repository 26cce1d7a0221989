//! Where statements go, and that each sees what it must.

use crate::both_engines;
use crate::common::mariadb::PASSWORD;
use crate::common::{Ringgate, address};
use crate::door::{Door, mariadb};

/// Sessions: statements, and what they answer altogether. `~` is any replica.
const SESSIONS: &[(&str, &str)] = &[
    // Reads and writes.
    ("SELECT @@server_id", "~"),
    ("INSERT INTO o VALUES (1, @@server_id); SELECT w FROM o WHERE a = 1", "1"),
    ("DELETE FROM o WHERE a = 1", ""),
    // Transactions.
    ("BEGIN; SELECT @@server_id; COMMIT; SELECT @@server_id", "1 ~"),
    ("START TRANSACTION READ ONLY; SELECT @@server_id; SELECT @@server_id; COMMIT", "~ ~"),
    ("START TRANSACTION READ ONLY; SELECT @@server_id; ROLLBACK; BEGIN; SELECT @@server_id; ROLLBACK", "~ 1"),
    ("SET autocommit=0; SELECT @@server_id; COMMIT; SET autocommit=1; SELECT @@server_id", "1 ~"),
    ("SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE; SELECT @@server_id", "1"),
    // What is held on one server, and let go.
    (
        "CREATE TEMPORARY TABLE tt (a INT); INSERT INTO tt VALUES (7); SELECT a, @@server_id FROM tt; SELECT @@server_id; \
         DROP TEMPORARY TABLE tt; SELECT @@server_id",
        "7\t1 1 ~",
    ),
    (
        "SELECT GET_LOCK('l', 1), @@server_id; SELECT @@server_id; SELECT RELEASE_LOCK('l'); SELECT @@server_id",
        "1\t1 1 1 ~",
    ),
    (
        "SELECT `get_lock`  ('m', 1); SELECT @@server_id; SELECT RELEASE_ALL_LOCKS(); SELECT @@server_id",
        "1 1 1 ~",
    ),
    ("DO GET_LOCK('n', 1); SELECT @@server_id", "1"),
    (
        "LOCK TABLES t READ; SELECT COUNT(*), @@server_id FROM t; SELECT @@server_id; UNLOCK TABLES; SELECT @@server_id",
        "2\t1 1 ~",
    ),
    ("HANDLER t OPEN; HANDLER t READ FIRST; HANDLER t CLOSE; SELECT @@server_id", "1\tone ~"),
    // Variables of the user are where they were set.
    ("SET @v = 5; SELECT @v; SELECT @v + 1, @@server_id = @@server_id", "5 6\t1"),
    ("SELECT @w := 3; SELECT @w, @@server_id = @@server_id", "3 3\t1"),
    ("SELECT a INTO @x FROM t WHERE b = 'two'; SELECT @x", "2"),
    (
        "SET @y = 1; INSERT INTO o VALUES (@y, 9); SELECT w FROM o WHERE a = @y; DELETE FROM o WHERE a = @y",
        "9",
    ),
    // What is set is set everywhere.
    (
        "SET NAMES latin1; SELECT @@character_set_client, @@server_id; SELECT HEX(CONVERT(_utf8mb4 X'c3a4' USING latin1))",
        "latin1\t~ E4",
    ),
    ("SET NAMES utf8mb4 COLLATE utf8mb4_bin; SELECT @@collation_connection, @@server_id", "utf8mb4_bin\t~"),
    (
        "SET NAMES utf8mb4 COLLATE 'utf8mb4_bin'; SELECT @@server_id; SET NAMES utf8mb4; SELECT @@collation_connection, @@server_id",
        "~ utf8mb4_general_ci\t~",
    ),
    (
        "SET collation_connection=latin1_bin; SET NAMES utf8mb4; SELECT @@collation_connection, @@server_id",
        "utf8mb4_general_ci\t~",
    ),
    ("USE other; SELECT DATABASE(), a, @@server_id FROM u", "other\t11\t~"),
    ("USE other; USE shop; SELECT DATABASE(), @@server_id; SELECT b FROM t WHERE a = 1", "shop\t~ one"),
    (
        "SET sql_mode='ANSI_QUOTES,PIPES_AS_CONCAT'; SELECT \"b\" || '!', @@server_id FROM t WHERE \"a\" = 1",
        "one!\t~",
    ),
    ("SET sql_mode='NO_BACKSLASH_ESCAPES'; SELECT 'a\\\\', LENGTH('a\\\\'), @@server_id", "a\\\\\\\\\t3\t~"),
    (
        "SET time_zone='+05:00', max_error_count=7; SELECT @@time_zone, @@max_error_count, @@server_id",
        "+05:00\t7\t~",
    ),
    ("SET SESSION group_concat_max_len=5; SELECT LENGTH(GROUP_CONCAT(b, b, b)), @@server_id FROM t", "5\t~"),
    (
        "SELECT @@server_id; SET lc_time_names='de_DE'; SELECT DAYNAME('2026-11-23'), @@server_id",
        "~ Montag\t~",
    ),
    ("SET STATEMENT max_statement_time=9 FOR SELECT @@server_id", "~"),
    // Locking reads.
    ("SELECT @@server_id FROM t WHERE a = 1 FOR UPDATE", "1"),
    ("(SELECT @@server_id FROM t WHERE a = 1 LOCK IN SHARE MODE)", "1"),
    ("SELECT x FROM (SELECT @@server_id x FROM t WHERE a = 1 FOR UPDATE) q", "1"),
    ("WITH q AS (SELECT @@server_id x) SELECT x FROM q", "~"),
    // What asks about the statement before.
    (
        "INSERT INTO n (b) VALUES ('x'); SELECT LAST_INSERT_ID() > 0; SELECT @@identity = LAST_INSERT_ID(); SELECT ROW_COUNT()",
        "1 1 -1",
    ),
    ("SELECT SQL_CALC_FOUND_ROWS b FROM t ORDER BY a LIMIT 1; SELECT FOUND_ROWS()", "one 2"),
    ("SELECT b FROM t; SELECT FOUND_ROWS()", "one two 2"),
    (
        "SELECT CAST('x' AS INT); SHOW WARNINGS; SELECT @@warning_count",
        "0 Warning\t1292\tTruncated incorrect INTEGER value: 'x' 1",
    ),
    ("SELECT 1/0; SHOW COUNT(*) WARNINGS", "NULL 1"),
    ("UPDATE t SET b = 'one' WHERE a = 1; SELECT ROW_COUNT()", "0"),
    // One connection, one id.
    ("SELECT CONNECTION_ID() = @@pseudo_thread_id", "1"),
    ("SHOW VARIABLES LIKE 'server_id'", "server_id\t1"),
    (
        "PREPARE p FROM 'SELECT a FROM t WHERE b = ?'; SET @b = 'two'; EXECUTE p USING @b; DEALLOCATE PREPARE p",
        "2",
    ),
    ("EXECUTE IMMEDIATE 'SELECT 4'", "4"),
    ("SELECT NEXTVAL(s) > 0; SELECT LASTVAL(s) > 0", "1 1"),
];

/// Runs the sessions and says which of them went wrong.
#[track_caller]
fn check_sessions(door: &Door) {
    let mut wrong = Vec::new();
    for (sql, expected) in SESSIONS {
        let told = match door.ask(sql) {
            Ok(told) => told,
            Err(error) => error,
        };
        let told: Vec<&str> = told.split('\n').filter(|line| !line.is_empty()).collect();
        let told = told.join(" ");
        let fits = |replica: &str| told == expected.replace('~', replica);
        if !fits("2") && !fits("3") {
            wrong.push(format!("{sql}\n     told {told:?}\n     not  {expected:?}"));
        }
        door.all.wait();
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), door.gate.running.text());
}

both_engines! {
    fn statements_run_where_they_belong(engine) {
        let all = Door::servers();
        all.primary.sql(
            "CREATE TABLE shop.t (a INT PRIMARY KEY, b VARCHAR(20)); INSERT INTO shop.t VALUES (1,'one'),(2,'two');
             CREATE TABLE shop.o (a INT PRIMARY KEY, w INT);
             CREATE TABLE shop.n (a INT AUTO_INCREMENT PRIMARY KEY, b VARCHAR(20)); CREATE SEQUENCE shop.s;
             CREATE DATABASE other; CREATE TABLE other.u (a INT); INSERT INTO other.u VALUES (11)",
        );
        all.wait();
        let door = Door::to(engine, all, "");
        check_sessions(&door);
        let at = address();
        let _gate = Ringgate::start(engine, &Door::block(at, &door.all, "reads = \"primary\""));
        for _ in 0..4 {
            assert_eq!(mariadb(at, "app", PASSWORD, &["shop"], "SELECT @@server_id").unwrap(), "1");
        }
    }
}
