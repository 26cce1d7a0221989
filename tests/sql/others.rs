//! Drivers that tell what they do and hear, line by line: through the door it must be what it is at the server itself.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{Engine, Replication, program};
use crate::door::{Door, said};

/// The folder of a driver that `tests/drivers` fetched; says so if it is not there.
pub fn folder(name: &str) -> Option<PathBuf> {
    let all = match std::env::var_os("RINGGATE_DRIVERS") {
        Some(folder) => PathBuf::from(folder),
        // The folder of temporary files of tests is in the target folder.
        None => Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?.join("drivers"),
    };
    let folder = all.join(name);
    let is_there = folder.join("version").is_file();
    if !is_there {
        eprintln!(
            "SKIPPED: there is no {name} (tests/drivers fetches it, or RINGGATE_DRIVERS names the folder)"
        );
    }
    is_there.then_some(folder)
}

/// What the drivers need in a schema of theirs.
pub fn schema(name: &str) -> String {
    format!(
        "CREATE DATABASE IF NOT EXISTS {name}; USE {name};
         CREATE TABLE things (a INT AUTO_INCREMENT PRIMARY KEY, s VARCHAR(200) CHARACTER SET utf8mb4, y LONGBLOB, i BIGINT);
         CREATE TABLE many (i INT PRIMARY KEY);
         INSERT INTO many WITH RECURSIVE q AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM q WHERE x < 100) SELECT x FROM q;
         DELIMITER //
         CREATE PROCEDURE two() BEGIN SELECT 1; SELECT 2, 3; END//
         CREATE PROCEDURE adds(IN a INT, IN b INT, OUT c INT) BEGIN SET c = a + b; END//
         CREATE PROCEDURE fails() BEGIN SELECT 1; SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'as told'; END//
         DELIMITER ;"
    )
}

/// Compares what a driver tells of `shop` through the door and of `twin` at the primary.
#[track_caller]
pub fn compare(door: SocketAddr, direct: SocketAddr, run: impl Fn(SocketAddr, &str) -> String) {
    let there = run(direct, "twin");
    let here = run(door, "shop");
    let (there, at) = there.rsplit_once('\n').unwrap();
    assert_eq!(at, "1");
    let (here, at) = here.rsplit_once('\n').unwrap();
    for (number, (here, there)) in here.lines().zip(there.lines()).enumerate() {
        assert_eq!(here, there, "step {number}");
    }
    assert_eq!(here.lines().count(), there.lines().count());
    assert!(["2", "3"].contains(&at), "a replica answers: {at}");
}

/// Compares the drivers that are there.
#[track_caller]
pub fn compare_all(door: SocketAddr, direct: SocketAddr) {
    if let Some(folder) = folder("connector") {
        let folder = folder.to_str().unwrap();
        for kind in ["pure", "native"] {
            compare(door, direct, |at, schema| {
                let words = [at.ip().to_string(), at.port().to_string()];
                let mut script = python_at("connector.py");
                script.arg(folder).args(words).args([schema, kind]);
                said(&script.output().unwrap()).unwrap_or_else(|error| panic!("{kind}: {error}"))
            });
        }
    }
    if let Some(folder) = folder("mysql2") {
        compare(door, direct, |at, schema| {
            let mut script = Command::new(program("node", "nodejs"));
            script.arg(format!("{}/tests/sql/mysql2.js", env!("CARGO_MANIFEST_DIR"))).arg(&folder);
            script.args([at.ip().to_string(), at.port().to_string()]).arg(schema);
            said(&script.output().unwrap()).unwrap_or_else(|error| panic!("mysql2: {error}"))
        });
    }
}

fn python_at(script: &str) -> Command {
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-B", &format!("{}/tests/sql/{script}", env!("CARGO_MANIFEST_DIR"))]);
    command
}

#[test]
fn other_drivers_hear_what_they_hear_at_mariadb() {
    let all: Replication = Door::servers();
    all.primary.sql("CREATE DATABASE other");
    for name in ["shop", "twin"] {
        all.primary.sql(&schema(name));
    }
    all.wait();
    let door = Door::to(Engine::IoUring, all, "");
    compare_all(door.at, door.all.primary.address);
    door.same_everywhere("shop.things");
}
