//! Server connections that serve one client after another.

use crate::common::{Engine, eventually};
use crate::door::{Door, mariadb};
use crate::drivers::sysbench;

/// The server's count of connections that were opened by clients of the door.
fn opened(door: &Door) -> u32 {
    // The monitor keeps one; each question here is one itself.
    let count = door.all.primary.sql("SHOW GLOBAL STATUS LIKE 'Connections'");
    count.split_whitespace().last().unwrap().parse().unwrap()
}

#[test]
fn clients_share_few_connections_and_nothing_else() {
    let all = Door::servers();
    all.primary.sql("CREATE DATABASE other");
    all.primary.sql("GRANT ALL ON other.* TO app@'%'");
    all.wait();
    let lines = "pooling = \"transaction\"\nconsistency = \"global\"\nqueue = { timeout = \"30s\" }";
    let door = Door::limited(Engine::IoUring, all, lines, Some(4));
    let server = door.all.primary.address.port().to_string();
    assert_eq!(
        door.python("pooling.py", &[&server, "24", "150", "8"]),
        "done",
        "{}",
        door.gate.running.text()
    );
    door.same_everywhere("shop.pooled");
}

#[test]
fn prepared_statements_go_from_connection_to_connection() {
    let lines = "pooling = \"transaction\"\n[workers]\ncount = 1";
    let door = Door::limited(Engine::IoUring, Door::servers(), lines, Some(3));
    sysbench(&door, "oltp_read_write", &[], "prepare");
    door.wait();
    let count = |name: &str| -> u64 {
        let ask = format!(
            "SELECT VARIABLE_VALUE FROM information_schema.global_status WHERE VARIABLE_NAME = '{name}'"
        );
        door.all.primary.sql(&ask).parse().unwrap()
    };
    for test in ["oltp_read_write", "oltp_point_select"] {
        // More clients than places, each with statements that it prepared once.
        let told = sysbench(&door, test, &["--threads=16"], "run");
        assert!(told.contains("reconnects:                          0 "), "{told}");
    }
    let (prepared, executed) = (count("Com_stmt_prepare"), count("Com_stmt_execute"));
    assert!(executed > prepared * 4, "{prepared} prepared, {executed} executed");
    for table in ["shop.sbtest1", "shop.sbtest2"] {
        door.same_everywhere(table);
    }
}

#[test]
fn the_next_client_finds_nothing_of_the_one_before() {
    let door = Door::start(Engine::IoUring, "[workers]\ncount = 1");
    door.all.primary.sql("CREATE USER other IDENTIFIED BY 'word'");
    door.all.wait();
    let leave = "SET @mine = 1, SESSION sql_mode = 'ANSI_QUOTES', autocommit = 0; SELECT GET_LOCK('mine', 0);
                 CREATE TEMPORARY TABLE mine (a INT); INSERT INTO mine VALUES (1); SELECT LAST_INSERT_ID(7);
                 SET NAMES latin1; BEGIN";
    let look = "SELECT @mine IS NULL, @@sql_mode = @@GLOBAL.sql_mode, @@autocommit, IS_FREE_LOCK('mine'),
                LAST_INSERT_ID(), @@character_set_client, @@character_set_results, @@collation_connection";
    let fresh = mariadb(door.all.primary.address, "app", "secret", &["shop"], look).unwrap();
    assert!(fresh.starts_with("1\t1\t1\t1\t0\t"), "{fresh}");
    door.sql("SELECT 1");
    let before = opened(&door);
    for _ in 0..10 {
        door.sql(leave);
        assert_eq!(door.sql(look), fresh);
        assert!(door.ask("SELECT * FROM mine").unwrap_err().contains("1146"), "a temporary table");
    }
    let after = opened(&door);
    // The question itself is one, and one connection more may have been needed while another was still reset.
    assert!(after - before <= 4, "{} connections for 30 clients", after - before);
    // Somebody else gets another connection.
    let who =
        |user, word| mariadb(door.at, user, word, &[], "SELECT CURRENT_USER(); DO 1; SELECT DATABASE()");
    let other = eventually("the new account is known", || who("other", "word").ok());
    assert_eq!(other, "other@%\nNULL");
    assert_eq!(who("app", "secret").unwrap(), "app@%\nNULL");
    assert!(who("app", "word").unwrap_err().contains("1045"));
}

#[test]
fn kept_connections_that_are_gone_are_not_used() {
    let door = Door::start(Engine::IoUring, "[workers]\ncount = 1");
    for _ in 0..3 {
        door.sql("DO 1; SELECT 1");
        for server in door.all.replicas.iter().chain([&door.all.primary]) {
            server.sql("KILL USER app");
        }
        door.sql("DO 1; SELECT 1");
        std::thread::sleep(std::time::Duration::from_millis(1200));
        assert_eq!(door.sql("DO 1; SELECT 1"), "1");
    }
}

#[test]
fn what_a_server_does_for_each_connection_is_done() {
    for pooling in ["session", "transaction"] {
        let all = Door::servers_with(&["--init-connect=SET @made=1"]);
        // It is for those without further privileges alone.
        all.primary.sql("CREATE USER plain IDENTIFIED BY 'word'");
        all.wait();
        let lines = format!("pooling = \"{pooling}\"\n[workers]\ncount = 1");
        let door = Door::to(Engine::IoUring, all, &lines);
        for before in ["DO 1", "SET sql_mode = 'ANSI_QUOTES'", "DO 1"] {
            // The pause is long enough for a connection to be given back; the next one wants other variables.
            let said = |text: &str| mariadb(door.at, "plain", "word", &[], text).unwrap();
            said(&format!("{before};\n\\! sleep 0.1\nDO 1"));
            assert_eq!(said("DO 1; SELECT @made"), "1", "{pooling} after {before}");
        }
    }
}

#[test]
fn who_finds_no_place_waits_and_is_told() {
    let lines = "pooling = \"transaction\"\nqueue = { max = 1, timeout = \"1s\" }";
    let door = Door::limited(Engine::IoUring, Door::servers(), lines, Some(1));
    door.sql("CREATE TABLE shop.t (a INT PRIMARY KEY)");
    std::thread::scope(|scope| {
        let first = scope.spawn(|| door.sql("BEGIN; INSERT INTO shop.t VALUES (1); DO SLEEP(3); COMMIT"));
        eventually("the first is at work", || {
            (door.all.primary.sql("SHOW PROCESSLIST").contains("SLEEP")).then_some(())
        });
        let second = scope.spawn(|| door.ask("DO 1").unwrap_err());
        let second = second.join().unwrap();
        assert!(second.contains("1040") && second.contains("no server had a place in time"), "{second}");
        first.join().unwrap();
    });
    assert_eq!(door.sql("INSERT INTO shop.t VALUES (2); SELECT COUNT(*) FROM shop.t"), "2");
}

#[test]
fn what_only_the_connection_before_knew_is_refused() {
    let lines = "pooling = \"transaction\"\n[workers]\ncount = 1";
    let door = Door::start(Engine::IoUring, lines);
    door.sql("CREATE TABLE shop.t (a INT PRIMARY KEY)");
    let pause = "\\! sleep 0.2\n";
    let refused =
        door.ask(&format!("INSERT INTO shop.t VALUES (1);\n{pause}SELECT ROW_COUNT()")).unwrap_err();
    assert!(refused.contains("was given back"), "{refused}");
    let within = format!("BEGIN; INSERT INTO shop.t VALUES (2), (3);\n{pause}SELECT ROW_COUNT(); COMMIT");
    assert_eq!(door.sql(&within), "2");
    let warned = format!("SELECT CAST('x' AS SIGNED);\n{pause}SHOW WARNINGS");
    assert!(door.sql(&warned).contains("1292"));
}

#[test]
fn what_clients_leave_is_not_for_the_next_one() {
    for pooling in ["session", "transaction"] {
        let all = Door::servers_with(&["--log-bin-trust-function-creators=1"]);
        all.primary.sql("GRANT ALL ON *.* TO app@'%' WITH GRANT OPTION");
        all.wait();
        let lines = format!("pooling = \"{pooling}\"\n[workers]\ncount = 1");
        let most = (pooling == "transaction").then_some(1);
        let door = Door::limited(Engine::IoUring, all, &lines, most);
        let servers = [&door.all.primary, &door.all.replicas[0], &door.all.replicas[1]];
        let ports = servers.map(|server| server.address.port().to_string());
        let told = door.python("left.py", &[&ports[0], &ports[1], &ports[2], pooling]);
        assert_eq!(told, "done", "{}", door.gate.running.text());
    }
}
