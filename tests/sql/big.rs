//! Results, statements and files that are far bigger than what the door keeps of them.

use std::fmt::Write;

use crate::common::Engine;
use crate::door::Door;

#[test]
fn big_results_statements_and_files_pass() {
    let all = Door::servers();
    for server in all.replicas.iter().chain([&all.primary]) {
        server.sql("SET GLOBAL log_bin_trust_function_creators=1");
    }
    all.primary.sql(
        "USE shop; CREATE TABLE blobs (a INT PRIMARY KEY, b LONGBLOB); CREATE TABLE rows_in (a INT, b VARCHAR(40));
         DELIMITER //
         CREATE PROCEDURE several() BEGIN SELECT 1; SELECT 2 UNION ALL SELECT 3; SELECT COUNT(*) FROM seq_1_to_300; END//
         CREATE FUNCTION fails_at(x INT) RETURNS INT DETERMINISTIC
         BEGIN IF x = 50000 THEN SIGNAL SQLSTATE '45000'; END IF; RETURN x; END//",
    );
    all.wait();
    let door = Door::to(Engine::IoUring, all, "");
    let mut rows = String::new();
    for number in 0..100_000 {
        writeln!(rows, "{number}\tthe row with number {number}").unwrap();
    }
    let file = door.gate.folder().join("rows.tsv");
    std::fs::write(&file, rows).unwrap();
    assert_eq!(door.python("big.py", &[file.to_str().unwrap()]), "done", "{}", door.gate.running.text());
    door.same_everywhere("shop.blobs");
    door.same_everywhere("shop.rows_in");
}
