//! Statements of all kinds: what each answers, and where it ran.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use crate::common::Engine;
use crate::door::{Door, python, said};

/// See its first lines.
pub const TABLE: &str = include_str!("table.txt");

/// A schema with something of everything; `more` is made in it as well.
pub fn schema(name: &str, more: &str) -> String {
    format!(
        "CREATE DATABASE IF NOT EXISTS {name}; USE {name};
         CREATE TABLE t (a INT PRIMARY KEY, b VARCHAR(20)); INSERT INTO t VALUES (1, 'one'), (2, 'two');
         CREATE TABLE n (a INT AUTO_INCREMENT PRIMARY KEY, b VARCHAR(20)); CREATE TABLE log (a INT);
         {more} CREATE FUNCTION pure(x INT) RETURNS INT DETERMINISTIC RETURN x + 1;
         DELIMITER //
         CREATE FUNCTION note(x INT) RETURNS INT BEGIN INSERT INTO log VALUES (x); RETURN x; END//
         CREATE PROCEDURE two() BEGIN SELECT 1; SELECT 2, 3; END//
         CREATE PROCEDURE writes(x INT) BEGIN INSERT INTO log VALUES (x); SELECT COUNT(*) FROM log; END//
         CREATE PROCEDURE fails() BEGIN SELECT 1; SIGNAL SQLSTATE '45000'; END//
         DELIMITER ;
         CREATE VIEW noted AS SELECT note(a) AS a FROM t"
    )
}

/// Where the statements with these marks ran, as the servers' logs say: `P`, `R`, `F`, or `X`. The first is the primary.
fn places(folders: &[&Path], count: usize) -> Vec<String> {
    // What clients asked for; what is replicated is in the logs as well.
    let log = |folder: &&Path| {
        let bytes = std::fs::read(folder.join("data/general.log")).unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let thread = |line: &str, what: &str| -> Option<u32> {
            line.split_once(what)?.0.split_whitespace().next_back()?.parse().ok()
        };
        let clients: BTreeSet<u32> = text.lines().filter_map(|line| thread(line, " Connect\tapp@")).collect();
        let asked = |line: &&str| thread(line, " Query\t").is_some_and(|thread| clients.contains(&thread));
        text.lines().filter(asked).collect::<Vec<_>>().join("\n")
    };
    let primary = log(&folders[0]);
    let replicas: Vec<String> = folders[1..].iter().map(log).collect();
    let place = |number| {
        let mark = format!("/* here{number} */");
        let on_replicas = replicas.iter().filter(|log| log.contains(&mark)).count();
        match (primary.contains(&mark), on_replicas) {
            (true, 0) => "P".into(),
            (false, 1) => "R".into(),
            (true, 1) => "F".into(),
            (false, 0) => "X".into(),
            (_, more) => format!("{more} replicas"),
        }
    };
    (0..count).map(place).collect()
}

/// Runs a table through the door and at the primary, which is the first of the servers; they have a log of all statements
/// in their folders, and the schemas `shop` and `twin`. Everything must be the same, and have run where the table says.
#[track_caller]
pub fn check_table(at: SocketAddr, servers: &[(SocketAddr, &Path)], table: &str) {
    let words = servers.iter().flat_map(|(server, _)| [server.ip().to_string(), server.port().to_string()]);
    let words: Vec<String> = words.collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut script = python(at, "table.py", &words);
    script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = script.spawn().unwrap();
    running.stdin.take().unwrap().write_all(table.as_bytes()).unwrap();
    let told = said(&running.wait_with_output().unwrap()).unwrap();

    let rows = table.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let rows: Vec<(&str, &str)> = rows.map(|line| line.split_once(' ').unwrap()).collect();
    let folders: Vec<&Path> = servers.iter().map(|(_, folder)| *folder).collect();
    let places = places(&folders, rows.len());
    let mut wrong = Vec::new();
    assert_eq!(told.lines().count(), rows.len());
    for ((line, (expected, statement)), place) in told.lines().zip(&rows).zip(&places) {
        let (_, compared) = line.split_once(' ').unwrap();
        if compared != "same" || expected.trim_end_matches(['~', '+']) != place {
            wrong.push(format!("{expected} {statement}\n    ran on {place}: {compared}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_kind_of_statement_answers_as_the_primary_does() {
    let all = Door::servers();
    for server in all.replicas.iter().chain([&all.primary]) {
        server.sql(
            "SET GLOBAL log_bin_trust_function_creators=1; SET GLOBAL general_log_file='general.log';
             SET GLOBAL general_log=1",
        );
    }
    for name in ["shop", "twin"] {
        all.primary.sql(&schema(name, "CREATE SEQUENCE s;"));
    }
    all.primary.sql("CREATE DATABASE other; CREATE TABLE other.u (a INT); INSERT INTO other.u VALUES (11)");
    all.wait();
    let door = Door::to(Engine::IoUring, all, "consistency = \"eventual\"");
    let servers = [&door.all.primary].into_iter().chain(&door.all.replicas);
    let servers: Vec<_> = servers.map(|server| (server.address, server.folder())).collect();
    check_table(door.at, &servers, TABLE);
    for table in ["t", "n", "log"] {
        door.same_everywhere(&format!("shop.{table}"));
    }
}
