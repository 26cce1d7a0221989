//! What operators see of the SQL door: certificates, counters, shapes of statements.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::both_engines;
use crate::common::{Authority, Browser, Ringgate, address, curl_text, eventually, program};
use crate::door::{Door, mariadb, said as said_by};
use crate::drivers::sysbench;

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

both_engines! {
    fn shapes_of_statements_are_shown_without_their_literals(engine) {
        let all = Door::servers();
        all.primary.sql("GRANT ALL ON *.* TO app@'%' WITH GRANT OPTION; USE shop; CREATE TABLE t (a INT PRIMARY KEY, b VARCHAR(20))");
        all.wait();
        let admin = address();
        let door = Door::to(engine, all, &format!("[admin]\nlisten = [\"{admin}\"]"));
        let many: Vec<String> = (0..50).map(|a| format!("INSERT INTO t VALUES ({a}, 'hunter2')")).collect();
        door.sql(&many.join(";"));
        door.wait();
        for a in 0..20 {
            door.sql(&format!("SELECT b FROM t WHERE a = {a}; SELECT  b from t where a={a} /* hunter2 */"));
        }
        door.sql("SELECT SLEEP(0.3), 'hunter2'");
        door.sql(&format!("SELECT LENGTH('hunter2{}')", "x".repeat(20_000)));
        door.sql(
            "CREATE USER 'eve'@'10.1.2.3' IDENTIFIED BY 'hunter2'; SET PASSWORD FOR 'eve'@'10.1.2.3' = PASSWORD('hunter2');
             ALTER USER 'eve'@'10.1.2.3' IDENTIFIED BY \"hunter2\"; SET sql_mode='ANSI_QUOTES';
             ALTER USER 'eve'@'10.1.2.3' IDENTIFIED BY 'hunter2'; SELECT \"a\" FROM t WHERE b = 'hunter2'; SET @p = 'hunter2'; SELECT LENGTH(@p)",
        );
        for wrong in ["ALTER USER eve IDENTIFIED BY hunter2 hunter2", "hunter2", "SELECT hunter2"] {
            door.ask(wrong).unwrap_err();
        }
        door.ask("INSERT INTO t VALUES (1, 'hunter2')").unwrap_err();
        let said = json(admin, "/v1/digests?by=count");
        let block = &said["blocks"][0];
        let shape = |text: &str| {
            let list = block["shapes"].as_array().unwrap();
            list.iter().find(|shape| shape["text"] == text).unwrap_or_else(|| panic!("no {text} in {said}")).clone()
        };
        let insert = shape("INSERT INTO t VALUES (?)");
        assert_eq!((&insert["statements"], &insert["errors"], &insert["on_replica"]), (&51.into(), &1.into(), &0.into()));
        let select = shape("SELECT b FROM t WHERE a = ?");
        assert_eq!((&select["statements"], &select["errors"]), (&40.into(), &0.into()));
        assert!(select["on_replica"].as_u64().unwrap() > 0 && select["bytes_out"].as_u64().unwrap() > 40 * 20, "{select}");
        assert_eq!(shape("CREATE user ? @? IDENTIFIED BY ?")["statements"], 1);
        assert_eq!(shape("ALTER user ? @? IDENTIFIED BY ?")["statements"], 2);
        shape("SET password FOR ? @? = password(?)");
        shape("SELECT a FROM t WHERE b = ?");
        shape("(statements over 16 KiB)");
        let text = said.to_string();
        // What servers could not read, or what names nothing of theirs, has no text.
        assert!(!text.contains("hunter2"), "{text}");
        let silent = block["shapes"].as_array().unwrap().iter().filter(|shape| shape["text"].is_null());
        assert_eq!(silent.count(), 3, "{text}");
        assert_eq!(block["gone"]["statements"], 0);
        assert!(block["split"]["replica"].as_u64().unwrap() > 0);

        let slowest = json(admin, "/v1/digests?by=max&limit=1&block=main");
        let slowest = &slowest["blocks"][0]["shapes"];
        assert_eq!((slowest.as_array().unwrap().len(), &slowest[0]["text"]), (1, &"SELECT sleep(?), ?".into()));
        assert!((300.0..3000.0).contains(&slowest[0]["max_ms"].as_f64().unwrap()), "{slowest}");
        for (question, status) in [("?by=x", "400"), ("?limit=x", "400"), ("?block=x", "404")] {
            let url = format!("http://{admin}/v1/digests{question}");
            assert!(curl_text(&["-o", "/dev/null", "-w", "%{http_code}", &url]).ends_with(status), "{question}");
        }
        let ctl = |more: &[&str]| {
            let reach = format!("http://{admin}");
            let told = Command::new(Ringgate::program()).args(["ctl", "--admin", &reach, "digests"]).args(more).output();
            said_by(&told.unwrap()).unwrap()
        };
        let table = ctl(&["--by", "max", "--limit", "2"]);
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[0].starts_with("main: ") && table.contains("pinned by: user-variables 1"), "{table}");
        let slow = lines.iter().position(|line| line.ends_with("SELECT sleep(?), ?")).unwrap();
        assert!(lines[slow - 1].starts_with("TIME ") && lines.len() == slow + 2, "{table}");
        let whole = ctl(&["--full", "--limit", "2000", "main"]);
        assert!(whole.contains("(no server has understood it)") && !whole.contains("hunter2"), "{whole}");

        let mut browser = Browser::start();
        browser.open(&format!("http://{admin}/"));
        browser.until("[...document.querySelectorAll('.shape code')].some((e) => e.textContent === 'SELECT sleep(?), ?')");
        browser.click("#by button:nth-child(2)");
        browser.until("document.querySelector('.shape code').textContent === 'INSERT INTO t VALUES (?)'");
        assert!(browser.complaints().is_empty(), "{:#?}", browser.complaints());
    }

    fn prepared_statements_are_shown_by_their_text(engine) {
        let admin = address();
        let door = Door::start(engine, &format!("[admin]\nlisten = [\"{admin}\"]"));
        sysbench(&door, "oltp_point_select", &["--time=1"], "prepare");
        sysbench(&door, "oltp_point_select", &["--time=1"], "run");
        let said = json(admin, "/v1/digests?by=count");
        let first = &said["blocks"][0]["shapes"][0];
        let is_it = |text: &str| text.starts_with("SELECT c FROM sbtest") && text.ends_with(" WHERE id = ?");
        assert!(first["text"].as_str().is_some_and(is_it), "{said}");
        assert!(first["statements"].as_u64().unwrap() > 10 && first["on_replica"].as_u64().unwrap() > 0, "{said}");
    }

    fn a_prepared_statement_is_counted_under_its_text_wherever_it_runs(engine) {
        let admin = address();
        let lines = format!("pooling = \"transaction\"\n[admin]\nlisten = [\"{admin}\"]");
        let door = Door::limited(engine, Door::servers(), &lines, Some(2));
        sysbench(&door, "oltp_read_write", &["--tables=1", "--table-size=100"], "prepare");
        door.wait();
        // Each transaction of it deletes a row, puts it back and reads ten.
        sysbench(&door, "oltp_read_write", &["--tables=1", "--table-size=100", "--mysql-ignore-errors=all"], "run");
        let said = json(admin, "/v1/digests?by=count");
        let count = |start: &str, end: &str| {
            let shapes = said["blocks"][0]["shapes"].as_array().unwrap().iter();
            let text = |shape: &Value| shape["text"].as_str().unwrap_or_default().to_owned();
            let found = shapes.filter(|shape| text(shape).starts_with(start) && text(shape).ends_with(end));
            found.map(|shape| shape["statements"].as_u64().unwrap()).sum::<u64>()
        };
        let (deleted, read) = (count("DELETE FROM sbtest", " WHERE id = ?"), count("SELECT c FROM sbtest", " WHERE id = ?"));
        assert!(deleted > 10, "{said}");
        assert!((deleted * 10..deleted * 11 + 100).contains(&read), "{deleted} deleted, {read} read: {said}");
    }
}
