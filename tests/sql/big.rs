//! Results, statements and files that are far bigger than what the door keeps of them.

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
    door.loads_rows("big.py");
    door.same_everywhere("shop.blobs");
}
