//! Sessions read what they have written; who lags reads nothing; what a replica must not do it does not do.

use crate::both_engines;
use crate::common::{Engine, Replication, Ringgate, address, eventually};
use crate::door::Door;

both_engines! {
    fn a_session_reads_what_it_wrote(engine) {
        let all = Door::servers();
        all.primary.sql("CREATE TABLE shop.w (a INT PRIMARY KEY, b VARCHAR(20))");
        all.wait();
        let door = Door::to(engine, all, "");
        let told = door.python("readback.py", &["200"]);
        assert_eq!(told, "200 written, 0 missing", "{}", door.gate.running.text());
        door.same_everywhere("shop.w");

        // Replicas that do not follow get nothing that they would not know.
        let lagging = Door::to(engine, door.all, "lag_max = \"1s\"");
        let [two, three] = &lagging.all.replicas[..] else { panic!("two replicas") };
        two.sql("STOP SLAVE SQL_THREAD");
        lagging.sql("INSERT INTO w VALUES (-1, 'x')");
        let seen = || lagging.sql("SELECT @@server_id, COUNT(*) FROM w WHERE a = -1");
        eventually("the other one is asked alone", || {
            (0..12).all(|_| seen() == "3\t1").then_some(())
        });
        three.sql("STOP SLAVE SQL_THREAD");
        lagging.sql("INSERT INTO w VALUES (-2, 'x')");
        eventually("the primary is asked", || (0..6).all(|_| seen() == "1\t1").then_some(()));
        two.sql("START SLAVE SQL_THREAD");
        eventually("a replica is asked again", || (seen() == "2\t1").then_some(()));
    }
}

#[test]
fn a_read_only_transaction_sees_what_the_session_wrote() {
    let all = Door::servers();
    all.primary.sql("CREATE TABLE shop.w (a INT PRIMARY KEY)");
    all.wait();
    let door = Door::to(Engine::IoUring, all, "");
    door.all.replicas.iter().for_each(|replica| drop(replica.sql("STOP SLAVE SQL_THREAD")));
    for (number, begin) in
        ["START TRANSACTION READ ONLY", "SET SESSION TRANSACTION READ ONLY; BEGIN"].iter().enumerate()
    {
        let told = door.sql(&format!(
            "INSERT INTO w VALUES ({number}); {begin}; SELECT COUNT(*), @@server_id FROM w; COMMIT"
        ));
        assert_eq!(told, format!("{}\t1", number + 1), "{begin}");
    }
    // User variables that a transaction left at a replica are nowhere else: what is written there must be there.
    door.all.replicas.iter().for_each(|replica| drop(replica.sql("START SLAVE SQL_THREAD")));
    door.wait();
    let there = "START TRANSACTION READ ONLY; SELECT COUNT(*), @@server_id FROM w INTO @count, @at; COMMIT";
    let told =
        door.sql(&format!("{there}; INSERT INTO w VALUES (7); SELECT COUNT(*), @at FROM w WHERE @count = 2"));
    assert!(["3\t2", "3\t3"].contains(&&*told), "{told}");
    door.all.replicas.iter().for_each(|replica| drop(replica.sql("STOP SLAVE SQL_THREAD")));
    let told =
        door.ask(&format!("{there}; INSERT INTO w VALUES (8); SELECT COUNT(*), @at FROM w WHERE @count = 3"));
    assert!(told.as_ref().is_err_and(|told| told.contains("has not seen its last write")), "{told:?}");
}

#[test]
fn what_servers_begin_sessions_with_is_known() {
    for pooling in ["session", "transaction"] {
        let all = Door::servers();
        all.primary.sql("CREATE TABLE shop.w (a INT PRIMARY KEY)");
        all.wait();
        let everywhere = |all: &Replication, sql: &str| {
            all.replicas.iter().chain([&all.primary]).for_each(|server| drop(server.sql(sql)));
        };
        everywhere(&all, "SET GLOBAL autocommit=0");
        let lines = format!("pooling = \"{pooling}\"\n[workers]\ncount = 1");
        let door = Door::bare(Engine::IoUring, all, &lines);
        let knows = || door.gate.running.text().matches("is a replica").count() == 2;
        eventually("it knows the servers", || (knows() && door.ask("DO 1").is_ok()).then_some(()));
        for number in 0..3 {
            // The first read begins a transaction, to which the write belongs.
            let write = format!("SELECT COUNT(*) FROM w; INSERT INTO w VALUES ({number})");
            assert_eq!(
                door.sql(&format!("{write}; SELECT COUNT(*) FROM w; ROLLBACK")),
                format!("{number}\n{}", number + 1)
            );
            assert_eq!(
                door.sql(&format!("{write}; COMMIT; SELECT @@autocommit")),
                format!("{number}\n0"),
                "{pooling}"
            );
        }
        everywhere(&door.all, "SET GLOBAL sql_mode='NO_BACKSLASH_ESCAPES'");
        door.all.primary.sql("KILL USER app");
        assert_eq!(door.python("status.py", &["3"]), ["False True"; 3].join("\n"), "{pooling}");
        everywhere(&door.all, "SET GLOBAL autocommit=1, tx_isolation='SERIALIZABLE', sql_mode=''");
        door.all.primary.sql("KILL USER app");
        for _ in 0..6 {
            assert_eq!(
                door.sql("SELECT @@server_id, @@autocommit, @@tx_isolation"),
                "1\t1\tSERIALIZABLE",
                "{pooling}"
            );
        }
    }
}

#[test]
fn replicas_begin_no_transactions_of_their_own() {
    let all = Door::servers();
    all.primary.sql("CREATE TABLE shop.w (a INT PRIMARY KEY)");
    all.wait();
    all.replicas.iter().for_each(|replica| drop(replica.sql("SET GLOBAL autocommit=0")));
    let door = Door::to(Engine::IoUring, all, "");
    for number in 0..3 {
        let told = door
            .sql(&format!("SELECT COUNT(*) FROM w; INSERT INTO w VALUES ({number}); SELECT COUNT(*) FROM w"));
        assert_eq!(told, format!("{number}\n{}", number + 1));
    }
}

#[test]
fn a_primary_without_gtids_is_named() {
    let all = Replication::with(0, &["--skip-log-bin"]);
    all.primary.user("ringgate");
    let door = Door::bare(Engine::IoUring, all, "");
    let what = "gives its writes no GTIDs (log_bin, at MySQL gtid_mode=ON)";
    eventually("it is said", || door.gate.running.text().contains(what).then_some(()));
    eventually("writes are done", || door.ask("CREATE TABLE w (a INT); INSERT INTO w VALUES (1)").ok());
    assert_eq!(door.sql("SELECT @@server_id, COUNT(*) FROM w"), "1\t1");
}

#[test]
fn without_weight_a_server_gets_no_reads() {
    let all = Door::servers();
    all.primary.sql("CREATE TABLE shop.w (a INT PRIMARY KEY)");
    all.wait();
    let (one, two) = (all.primary.address, all.replicas[0].address);
    let at = address();
    let weightless = |block: String, server| {
        let plain = format!("\"{server}\"");
        block.replace(&plain, &format!("{{ address = {plain}, weight = 0 }}"))
    };
    let block = weightless(weightless(Door::block(at, &all, "lag_max = \"1s\""), one), two);
    let door = Door { gate: Ringgate::start(Engine::IoUring, &block), at, all };
    eventually("the replica is known", || (door.ask("SELECT @@server_id").ok()? == "3").then_some(()));
    for number in 0..6 {
        let told = door.sql(&format!("INSERT INTO w VALUES ({number}); DO 1; SELECT 2; SELECT @@server_id"));
        assert!(told.ends_with("\n3") || told.ends_with("\n1"), "{told}");
    }
    door.wait();
    assert_eq!((0..6).map(|_| door.sql("SELECT @@server_id")).collect::<Vec<_>>(), vec!["3"; 6]);
    // Nobody is left for reads.
    door.all.replicas[1].sql("STOP SLAVE");
    eventually("the primary reads", || (0..6).all(|_| door.sql("SELECT @@server_id") == "1").then_some(()));
}

/// A door whose servers have functions and views that write.
fn with_functions(engine: Engine, lines: &str) -> Door {
    let all = Door::servers();
    for server in all.replicas.iter().chain([&all.primary]) {
        server.sql("SET GLOBAL log_bin_trust_function_creators=1");
    }
    all.primary.sql(
        "USE shop; CREATE TABLE log (a INT AUTO_INCREMENT PRIMARY KEY, b INT, s INT); CREATE TABLE t (a INT);
         INSERT INTO t VALUES (1), (2), (3); CREATE FUNCTION pure(x INT) RETURNS INT DETERMINISTIC RETURN x + 1;
         DELIMITER //
         CREATE FUNCTION note(x INT) RETURNS INT MODIFIES SQL DATA
         BEGIN INSERT INTO log (b, s) VALUES (x, @@server_id); RETURN x; END//
         CREATE FUNCTION marks(x INT) RETURNS INT MODIFIES SQL DATA
         BEGIN SET @mark = x; INSERT INTO log (b, s) VALUES (x, @@server_id); RETURN x; END//
         DELIMITER ;
         CREATE VIEW noted AS SELECT note(a) AS a FROM t; CREATE SEQUENCE s",
    );
    all.wait();
    Door::to(engine, all, lines)
}

#[test]
fn a_read_that_writes_runs_once_and_on_the_primary() {
    let door = with_functions(Engine::IoUring, "");
    let logged = |expected: &str| {
        assert_eq!(
            door.all.primary.sql("SELECT b, s FROM shop.log ORDER BY a; DELETE FROM shop.log"),
            expected
        );
        door.wait();
    };
    assert_eq!(door.sql("SELECT note(7), @@server_id"), "7\t1");
    logged("7\t1");
    assert_eq!(door.sql("SELECT note(8), @@server_id"), "8\t1", "the second one goes there at once");
    logged("8\t1");

    assert_eq!(door.sql("SELECT MAX(a) FROM noted"), "3");
    logged("1\t1\n2\t1\n3\t1");
    assert_eq!(door.sql("SELECT a FROM noted LIMIT 1"), "1", "through a view");
    logged("1\t1");
    assert_eq!(door.sql("SELECT note(1) UNION SELECT note(1)"), "1");
    logged("1\t1\n1\t1");
    assert_eq!(door.sql("SELECT marks(5); SELECT COUNT(*) FROM log"), "5\n1");
    logged("5\t1");
    assert_eq!(door.sql("SELECT pure(1), @@server_id > 1"), "2\t1", "what does not write may stay there");
    // A server sees that before the first row, wherever the call is.
    let late = "SELECT seq, IF(seq = 90000, note(seq), 0) FROM seq_1_to_100000";
    assert_eq!(door.sql(late).lines().count(), 100_000);
    logged("90000\t1");
    // A client that does not speak of DEPRECATE_EOF hears no GTID after rows.
    door.all.primary.sql("DELETE FROM shop.log");
    assert_eq!(door.python("returning.py", &["200"]), "0 missing");
    door.all.primary.sql("DELETE FROM shop.log");
    door.wait();
    // In the client's own read only transaction the error is the client's.
    let told = door.ask("START TRANSACTION READ ONLY; SELECT note(9)").unwrap_err();
    assert!(told.contains("ERROR 1792 (25006)"), "{told}");
    let told = door.ask("START TRANSACTION READ ONLY; INSERT INTO t VALUES (9)").unwrap_err();
    assert!(told.contains("ERROR 1792 (25006)"), "{told}");
    logged("");
    for table in ["shop.log", "shop.t"] {
        door.same_everywhere(table);
    }
}
