//! Servers that go away, and primaries that change.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::common::mariadb::PASSWORD;
use crate::common::{Engine, eventually, now};
use crate::door::{Door, mariadb, python, said};

/// Begins a load that lasts so many seconds.
fn load(door: &Door, what: &str, seconds: &str) -> Child {
    let mut script = python(door.at, "load.py", &[what, seconds]);
    script.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn after(seconds: f32) {
    std::thread::sleep(Duration::from_secs_f32(seconds));
}

#[test]
fn readers_do_not_notice_that_a_replica_is_killed() {
    let mut door = Door::servers_filled();
    let readers = load(&door, "read", "4");
    after(1.0);
    door.all.replicas[0].stop();
    after(1.0);
    door.all.replicas[1].stop();
    let told = said(&readers.wait_with_output().unwrap()).unwrap();
    assert_eq!(told, "", "{}", door.gate.running.text());
    door.all.replicas[0].start_again();
    eventually("a replica is asked again", || (door.sql("SELECT @@server_id") == "2").then_some(()));
}

/// The numbers of a load that were acknowledged are there, and no other is there twice.
#[track_caller]
pub fn all_kept(acknowledged: &str, there: &str, least: usize) {
    let acknowledged: BTreeSet<u64> = acknowledged.lines().map(|line| line.parse().unwrap()).collect();
    let mut seen = BTreeSet::new();
    for line in there.lines() {
        assert!(seen.insert(line.parse::<u64>().unwrap()), "{line} is there twice");
    }
    let lost: Vec<_> = acknowledged.difference(&seen).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    assert!(acknowledged.len() >= least, "{} writes", acknowledged.len());
    // Each client has at most one write at a time whose end it does not know.
    let unknown = seen.difference(&acknowledged).count();
    assert!(unknown <= 12, "{unknown} rows of which nobody heard");
}

#[test]
fn a_primary_that_is_killed_loses_nothing_acknowledged_and_repeats_nothing() {
    let mut door = Door::servers_filled();
    let writers = load(&door, "write", "5");
    after(1.5);
    door.all.primary.stop();
    after(0.5);
    assert_eq!(door.sql("SELECT b FROM t WHERE a = 1"), "row 1", "reads go on");
    door.all.primary.start_again();
    let told = said(&writers.wait_with_output().unwrap()).unwrap();
    all_kept(&told, &door.all.primary.sql("SELECT a FROM shop.kept"), 100);
    door.sql("INSERT INTO kept (a) VALUES (1000000)");
    door.same_everywhere("shop.kept");
}

#[test]
fn writes_follow_the_primary() {
    let door = Door::servers_filled();
    let writers = load(&door, "write", "6");
    after(1.5);
    let (old, new, other) = (&door.all.primary, &door.all.replicas[0], &door.all.replicas[1]);
    old.sql("SET GLOBAL read_only=1");
    let position = old.sql("SELECT @@gtid_binlog_pos");
    for replica in [new, other] {
        assert_eq!(replica.sql(&format!("SELECT MASTER_GTID_WAIT('{position}', 5)")), "0");
    }
    new.sql("STOP SLAVE; RESET SLAVE ALL; SET GLOBAL read_only=0");
    let start = now();
    for server in [old, other] {
        server.sql(&format!(
            "STOP SLAVE; CHANGE MASTER TO MASTER_HOST='{}', MASTER_PORT={}, MASTER_USER='repl',
             MASTER_PASSWORD='{PASSWORD}', MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1",
            new.address.ip(),
            new.address.port()
        ));
    }
    old.sql(&format!("SET GLOBAL gtid_slave_pos='{position}'; START SLAVE"));
    other.sql("START SLAVE");
    let ask = "INSERT INTO kept (a) VALUES (NULL); SELECT w FROM kept WHERE a IS NULL LIMIT 1; DELETE FROM kept WHERE a IS NULL";
    eventually("writes go to the new primary", || {
        (mariadb(door.at, "app", PASSWORD, &["shop"], ask) == Ok("2".into())).then_some(())
    });
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    let told = said(&writers.wait_with_output().unwrap()).unwrap();
    let text = door.gate.running.text();
    all_kept(&told, &new.sql("SELECT a FROM shop.kept"), 100);
    let by_new = new.sql("SELECT COUNT(*) FROM shop.kept WHERE w = 2");
    assert!(by_new.parse::<u32>().unwrap() > 50, "{by_new} writes after it: {text}");
    let position = new.sql("SELECT @@gtid_binlog_pos");
    for server in [old, other] {
        assert_eq!(server.sql(&format!("SELECT MASTER_GTID_WAIT('{position}', 5)")), "0", "{text}");
        assert_eq!(server.sql("CHECKSUM TABLE shop.kept"), new.sql("CHECKSUM TABLE shop.kept"));
    }
}

/// A session that waits between two statements; `happens` meanwhile. What it tells then.
fn between(door: &mut Door, how: &str, happens: impl FnOnce(&mut Door)) -> String {
    let mut script = python(door.at, "between.py", &[how]);
    let mut child =
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    happens(door);
    writeln!(child.stdin.take().unwrap()).unwrap();
    let mut told = String::new();
    output.read_to_string(&mut told).unwrap();
    assert!(child.wait().unwrap().success());
    told.trim().to_owned()
}

#[test]
fn a_session_with_nothing_at_its_primary_outlives_it() {
    let mut door = Door::servers_filled();
    let again = |door: &mut Door| {
        door.all.primary.stop();
        door.all.primary.start_again();
        eventually("the primary is known again", || door.ask("DELETE FROM kept").ok());
    };
    assert_eq!(between(&mut door, "free", again), "1", "{}", door.gate.running.text());
    // A temporary table is gone with its connection: the client is to know.
    assert_eq!(between(&mut door, "bound", again), "error 2013", "{}", door.gate.running.text());
}

#[test]
fn a_session_goes_over_to_the_new_primary() {
    let mut door = Door::servers_filled();
    let switch = |door: &mut Door| {
        let (old, new) = (&door.all.primary, &door.all.replicas[0]);
        old.sql("SET GLOBAL read_only=1");
        let position = old.sql("SELECT @@gtid_binlog_pos");
        assert_eq!(new.sql(&format!("SELECT MASTER_GTID_WAIT('{position}', 5)")), "0");
        new.sql("STOP SLAVE; RESET SLAVE ALL; SET GLOBAL read_only=0");
        let ask = "INSERT INTO kept (a) VALUES (NULL); SELECT w FROM kept WHERE a IS NULL LIMIT 1; DELETE FROM kept WHERE a IS NULL";
        eventually("the new primary is known", || {
            (mariadb(door.at, "app", PASSWORD, &["shop"], ask) == Ok("2".into())).then_some(())
        });
    };
    assert_eq!(between(&mut door, "free", switch), "2", "{}", door.gate.running.text());
}

impl Door {
    /// A door to servers with a table to read and one to write to.
    fn servers_filled() -> Self {
        let all = Self::servers();
        all.primary.sql(
            "USE shop; CREATE TABLE t (a INT PRIMARY KEY, b VARCHAR(20));
             INSERT INTO t SELECT seq, CONCAT('row ', seq) FROM seq_0_to_99;
             CREATE TABLE kept (id INT AUTO_INCREMENT PRIMARY KEY, a INT, w INT);
             CREATE TRIGGER whose BEFORE INSERT ON kept FOR EACH ROW SET NEW.w = @@server_id",
        );
        all.wait();
        Self::to(Engine::IoUring, all, "")
    }
}
