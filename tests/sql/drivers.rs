//! Drivers and the binary protocol.

use std::process::Command;

use crate::common::mariadb::PASSWORD;
use crate::common::{Engine, program};
use crate::door::{Door, said};

/// Runs sysbench through the door.
#[track_caller]
pub fn sysbench(door: &Door, test: &str, options: &[&str], what: &str) -> String {
    let output = Command::new(program("sysbench", "sysbench"))
        .arg(test)
        .args([format!("--mysql-host={}", door.at.ip()), format!("--mysql-port={}", door.at.port())])
        .args(["--mysql-user=app", &format!("--mysql-password={PASSWORD}"), "--mysql-db=shop"])
        .args(["--tables=2", "--table-size=5000", "--threads=4", "--time=2"])
        .args(options)
        .arg(what)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    said(&output)
        .unwrap_or_else(|error| panic!("{test} {what}: {error}\n{told}\n{}", door.gate.running.text()))
}

#[test]
fn sysbench_finds_no_fault() {
    let door = Door::start(Engine::IoUring, "");
    sysbench(&door, "oltp_read_write", &[], "prepare");
    door.wait();
    let selects = || -> u64 {
        let ask = "SELECT VARIABLE_VALUE FROM information_schema.global_status WHERE VARIABLE_NAME IN ('COM_SELECT', 'COM_STMT_EXECUTE')";
        let of = |text: String| text.lines().map(|line| line.parse::<u64>().unwrap()).sum::<u64>();
        door.all.replicas.iter().map(|one| of(one.sql(ask))).sum()
    };
    for (test, options) in [
        ("oltp_read_write", &[][..]),
        ("oltp_read_write", &["--db-ps-mode=disable"]),
        ("oltp_read_only", &["--skip-trx=on"]),
        ("oltp_point_select", &[]),
        ("oltp_point_select", &["--db-ps-mode=disable"]),
    ] {
        let before = selects();
        let told = sysbench(&door, test, options, "run");
        assert!(told.contains("reconnects:                          0 "), "{told}");
        if test != "oltp_read_write" {
            assert!(selects() - before > 1000, "replicas answer: {}\n{told}", selects() - before);
        }
    }
    for table in ["shop.sbtest1", "shop.sbtest2"] {
        door.same_everywhere(table);
    }
}

#[test]
fn drivers_work_as_before() {
    let all = Door::servers();
    all.primary.sql(
        "CREATE DATABASE other; CREATE TABLE shop.things (a INT AUTO_INCREMENT PRIMARY KEY,
         s VARCHAR(200) CHARACTER SET utf8mb4, y LONGBLOB, c DECIMAL(12,2), t DATETIME(6), d DATE, h TIME, i BIGINT,
         u BIGINT UNSIGNED, f DOUBLE, n INT)",
    );
    all.wait();
    let door = Door::to(Engine::IoUring, all, "");
    assert_eq!(door.python("drivers.py", &[]), "done");
    assert_eq!(door.sql("SELECT 1"), "1", "who left in the middle of an answer took nothing with him");
    door.same_everywhere("shop.things");
}

#[test]
fn what_the_primary_says_is_not_the_replicas_state() {
    let all = Door::servers();
    for server in all.replicas.iter().chain([&all.primary]) {
        server.sql("SET GLOBAL log_bin_trust_function_creators=1");
    }
    all.primary.sql(
        "USE shop; CREATE TABLE kept (a INT);
         DELIMITER //
         CREATE FUNCTION note(x INT) RETURNS INT MODIFIES SQL DATA
         BEGIN INSERT INTO kept VALUES (x); RETURN x; END//
         CREATE PROCEDURE fill()
         BEGIN CREATE TEMPORARY TABLE hidden (a INT); INSERT INTO hidden VALUES (1); END//
         DELIMITER ;",
    );
    all.wait();
    let door = Door::to(Engine::IoUring, all, "");
    assert_eq!(door.python("review.py", &[]), "done");
    door.same_everywhere("shop.kept");
}

#[test]
fn each_command_is_answered_byte_for_byte() {
    let all = Door::servers();
    for server in all.replicas.iter().chain([&all.primary]) {
        server.sql("SET GLOBAL log_bin_trust_function_creators=1");
    }
    all.primary.sql(
        "CREATE DATABASE other; USE shop; CREATE TABLE t (a INT PRIMARY KEY, b VARCHAR(20));
         INSERT INTO t VALUES (1, 'one'), (2, 'two'); CREATE TABLE log (a INT);
         DELIMITER //
         CREATE FUNCTION note(x INT) RETURNS INT BEGIN INSERT INTO log VALUES (x); RETURN x; END//
         CREATE PROCEDURE two() BEGIN SELECT 1; SELECT 2, 3; END//",
    );
    all.wait();
    let door = Door::to(Engine::IoUring, all, "");
    let direct = door.all.primary.address;
    let told = door.python("raw.py", &[&direct.ip().to_string(), &direct.port().to_string()]);
    assert_eq!(told, "done", "{told}");
}
