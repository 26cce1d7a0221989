//! What operators see of the SQL door: certificates, counters, shapes of statements.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::both_engines;
use crate::common::{Authority, address, curl_text, eventually, program};
use crate::door::Door;

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
