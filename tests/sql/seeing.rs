//! What operators see of the SQL door: certificates, counters, shapes of statements.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::both_engines;
use crate::common::{Authority, address, curl_text, eventually, program};
use crate::door::{Door, mariadb};

/// What the admin interface of a door says.
fn json(admin: SocketAddr, path: &str) -> Value {
    serde_json::from_str(&curl_text(&[&format!("http://{admin}{path}")])).unwrap()
}

/// What `openssl s_client` prints while a login over TLS comes to nothing.
fn s_client(at: SocketAddr, more: &[&str]) -> String {
    let mut child = Command::new(program("openssl", "openssl"))
        .args(["s_client", "-starttls", "mysql", "-connect", &at.to_string(), "-ign_eof"])
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"\x01\x00\x00\x02x").unwrap();
    String::from_utf8_lossy(&child.wait_with_output().unwrap().stdout).into_owned()
}

both_engines! {
    fn certificates_are_shown_and_tickets_outlive_a_reload(engine) {
        let authority = Authority::new();
        let cert = authority.issue("db", &["db.test"]);
        let admin = address();
        let lines = format!(
            "certificates = [\"{}\"]\n[admin]\nlisten = [\"{admin}\"]", cert.both.display()
        );
        let door = Door::to(engine, Door::servers(), &lines);
        let certs = json(admin, "/v1/certs");
        assert_eq!((&certs[0]["block"], &certs[0]["names"][0]), (&"main".into(), &"db.test".into()));
        let metrics = curl_text(&[&format!("http://{admin}/metrics")]);
        assert!(metrics.contains("ringgate_certificate_expires_timestamp_seconds{block=\"main\""), "{metrics}");
        let listeners = json(admin, "/v1/listeners");
        assert_eq!((&listeners[0]["kind"], &listeners[0]["tls"]), (&"sql".into(), &true.into()));

        let file = door.gate.folder().join("ringgate.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        for version in ["-tls1_2", "-tls1_3"] {
            let session = door.gate.folder().join(format!("session{version}"));
            let session = session.to_str().unwrap();
            let first = s_client(door.at, &[version, "-sess_out", session]);
            assert!(first.contains("\nNew, TLSv1."), "{first}");
            let edition = json(admin, "/v1/status")["edition"].as_u64().unwrap();
            let more = format!("\n[tcp.more{version}]\nlisten = [\"{}\"]\npool = \"more\"\n[pool.more]\nservers = [\"127.0.0.1:1\"]\n", address());
            std::fs::write(&file, format!("{text}{more}")).unwrap();
            door.gate.running.signal("HUP");
            eventually("the file is at work", || {
                (json(admin, "/v1/status")["edition"].as_u64()? > edition).then_some(())
            });
            let again = s_client(door.at, &[version, "-sess_in", session]);
            assert!(again.contains("\nReused, TLSv1."), "{version}: {again}");
        }
    }
}

/// The value of a series; 0 when there is none.
fn metric(admin: SocketAddr, series: &str) -> f64 {
    let text = curl_text(&[&format!("http://{admin}/metrics")]);
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().unwrap())
}

both_engines! {
    fn what_splitting_does_is_counted(engine) {
        let all = Door::servers();
        for server in all.replicas.iter().chain([&all.primary]) {
            server.sql("SET GLOBAL log_bin_trust_function_creators=1");
        }
        all.primary.sql(
            "USE shop; CREATE TABLE t (a INT);
             DELIMITER //
             CREATE FUNCTION note(x INT) RETURNS INT MODIFIES SQL DATA BEGIN INSERT INTO t VALUES (x); RETURN x; END//",
        );
        all.wait();
        let admin = address();
        let door = Door::to(engine, all, &format!("[admin]\nlisten = [\"{admin}\"]"));
        let sum = |name: &str, labels: &str| metric(admin, &format!("ringgate_sql_{name}{{block=\"main\"{labels}}}"));

        door.sql("SELECT note(1); SELECT note(2)");
        assert_eq!(sum("fenced_total", ""), 1.0, "the second one goes to the primary at once");
        let told = mariadb(door.at, "app", "wrong", &["shop"], "SELECT 1");
        assert!(told.is_err() && sum("denied_total", "") == 1.0, "{told:?}");
        door.sql("BEGIN; SELECT 1; SELECT @v := 2; COMMIT; SELECT @v");
        assert_eq!(sum("pinned_total", ",cause=\"transaction\""), 3.0);
        assert_eq!(sum("pinned_total", ",cause=\"user-variables\""), 2.0);
        assert_eq!(sum("pinned_total", ",cause=\"opaque\""), 0.0);

        let waits = |result: &str| sum("waits_total", &format!(",result=\"{result}\""));
        eventually("a replica has it soon", || {
            door.sql("INSERT INTO t VALUES (3); SELECT COUNT(*) FROM t");
            (waits("reached") > 0.0).then_some(())
        });
        for replica in &door.all.replicas {
            replica.sql("STOP SLAVE; CHANGE MASTER TO MASTER_DELAY=1; START SLAVE");
        }
        let before = waits("timed_out");
        eventually("replicas are late", || {
            door.sql("INSERT INTO t VALUES (3); SELECT COUNT(*) FROM t");
            (waits("timed_out") > before).then_some(())
        });

        std::thread::scope(|scope| {
            let session = scope.spawn(|| door.ask("CREATE TEMPORARY TABLE own (a INT); SELECT SLEEP(60)"));
            let find = "SELECT id FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP(60)%'";
            let id = eventually("it sleeps", || Some(door.all.primary.sql(find)).filter(|id| !id.is_empty()));
            door.all.primary.sql(&format!("KILL CONNECTION {id}"));
            session.join().unwrap().unwrap_err();
        });
        assert_eq!(sum("state_lost_total", ""), 1.0);
        assert_eq!(metric(admin, "ringgate_closes_total{reason=\"sql_state_lost\",blame=\"server\"}"), 1.0);
    }
}
