//! The access log: what its lines say, where they go, and what becomes of them when nobody takes them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::{Authority, Ringgate, Server, address, curl, curl_text, eventually, program, site};
use serde_json::Value;

/// A site with a log.
fn logged(site: &str, log: &str) -> String {
    format!("{site}\n[log]\n{log}\n")
}

/// The lines of a file, once there are so many.
#[track_caller]
fn lines(path: &Path, count: usize) -> Vec<Value> {
    eventually(&format!("{count} lines are logged"), || {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        (text.lines().count() >= count)
            .then(|| text.lines().map(|line| serde_json::from_str(line).expect(line)).collect())
    })
}

/// Lines of the file and of those that it was renamed to.
fn count(folder: &Path) -> usize {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let logs = files.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("access.log"));
    logs.map(|path| std::fs::read_to_string(path).unwrap().lines().count()).sum()
}

both_engines! {
    fn a_line_says_what_happened(engine) {
        let server = Server::ok();
        let at = address();
        let text = logged(&site(at, "", "attempts = 1", &[server.address]), "access = \"file:access.log\"");
        let gate = Ringgate::start(engine, &text);
        curl(&["-A", "me \"x\"", "-e", "http://from/", "-H", "Authorization: secret", "-d", "12345", &format!("http://{at}/a?q=%20\"'")]);
        let mut raw = TcpStream::connect(at).unwrap();
        raw.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: a\xff\x9b\tb\r\n\r\nGET /\x01 HTTP/1.1\r\n\r\n").unwrap();
        raw.read_to_end(&mut Vec::new()).unwrap();
        let path = gate.folder().join("access.log");
        let all = lines(&path, 3);
        let first = &all[0];
        for (name, value) in [("kind", "http"), ("method", "POST"), ("target", "/a?q=%20\"'"), ("version", "HTTP/1.1"),
            ("user_agent", "me \"x\""), ("referer", "http://from/"), ("end", "done"), ("pool", "main")] {
            assert_eq!(first[name], value, "{first}");
        }
        assert_eq!(first["host"], at.to_string());
        assert_eq!(first["status"], 200);
        assert!(first["tls"].is_null() && first["sni"].is_null());
        assert!(first["bytes_in"].as_u64().unwrap() > 100 && first["bytes_out"].as_u64().unwrap() > 20, "{first}");
        let times: Vec<u64> = ["head_us", "queue_us", "connect_us", "first_byte_us", "total_us"].iter().map(|name| first[*name].as_u64().unwrap()).collect();
        assert!(times[..4].iter().sum::<u64>() <= times[4] + 5 && times[4] < 5_000_000, "{first}");
        assert!(first["client"].as_str().unwrap().starts_with("127."), "{first}");
        let time: jiff::Timestamp = first["time"].as_str().unwrap().parse().unwrap();
        assert!(time.duration_until(jiff::Timestamp::now()).as_secs() < 60);
        assert_eq!(all[1]["user_agent"], "a\u{fffd}\u{fffd}\tb");
        assert_eq!((&all[2]["status"], &all[2]["end"]), (&400.into(), &"bad_request".into()));
        assert!(all[2]["bytes_out"].as_u64().unwrap() > 100 && all[2]["route"].is_null(), "answers of our own have bytes: {}", all[2]);
        assert_eq!(first["route"], "any host, any path");
        assert!(!std::fs::read_to_string(&path).unwrap().contains("secret"));
        let at = address();
        let text = logged(&site(at, "", "attempts = 1", &[address()]), "access = \"file:access.log\"");
        let gate = Ringgate::start(engine, &text);
        curl(&[&format!("http://{at}/")]);
        let last = lines(&gate.folder().join("access.log"), 1).pop().unwrap();
        assert_eq!(last["status"], 502, "{last}");
        assert!(last["bytes_out"].as_u64().unwrap() > 100, "{last}");
        assert!(last["end"].as_str().unwrap().starts_with("server_") && last["first_byte_us"].is_null(), "{last}");
    }

    fn no_line_is_lost_when_the_file_is_rotated(engine) {
        let server = Server::ok();
        let at = address();
        let log = "access = \"file:access.log\"\nrotate_size = \"300KB\"\nrotate_keep = 1000";
        let mut gate = Ringgate::start(engine, &logged(&site(at, "", "", &[server.address]), log));
        let mut wrk = Command::new(program("wrk", "wrk")).args(["-t1", "-c8", "-d2", &format!("http://{at}/")])
            .stdout(std::process::Stdio::null()).spawn().unwrap();
        for turn in 0..4 {
            std::thread::sleep(Duration::from_millis(400));
            // As logrotate does.
            let _ = std::fs::rename(gate.folder().join("access.log"), gate.folder().join(format!("access.log-{turn}")));
            gate.running.signal("USR1");
        }
        wrk.wait().unwrap();
        gate.running.signal("TERM");
        gate.running.wait();
        let text = gate.running.text();
        let requests = text.lines().find_map(|line| line.strip_suffix(" requests")?.rsplit(' ').next()?.parse().ok());
        let extra = text.lines().filter(|line| line.contains("head_timeout")).count();
        assert_eq!(Some(count(gate.folder()) - extra), requests, "{text}");
        assert!(requests.unwrap() > 100 && gate.folder().join("access.log.1").exists());
    }

    fn a_full_destination_does_not_hinder(engine) {
        let at = address();
        let block = format!("[http.a]\nlisten = [\"{at}\"]\nroutes = [ {{ answer = {{ status = 200, text = \"hi\" }} }} ]\n[process]\nsandbox = \"off\"\n[admin]\nlisten = [\"unix:admin.sock\"]");
        let gate = Ringgate::start(engine, &logged(&block, "access = \"file:/dev/full\""));
        for _ in 0..5 {
            assert_eq!(curl_text(&[&format!("http://{at}/")]), "hi");
        }
        eventually("it is said", || gate.running.text().contains("access log: No space left").then_some(()));
    }

    fn a_pipe_that_nobody_empties_does_not_hinder(engine) {
        let server = Server::ok();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let options = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let at = address();
        let block = format!("[tcp.a]\nlisten = [\"{at}\"]\npool = \"main\"\n[pool.main]\nservers = [\"{}\"]\n", server.address);
        let mut gate = Ringgate::start(engine, &logged(&block, &format!("access = \"file:{}\"", path.display())));
        for _ in 0..350 {
            let mut client = TcpStream::connect(at).unwrap();
            client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            assert!(client.read(&mut [0; 512]).unwrap() > 0);
        }
        eventually("it is said", || gate.running.text().contains("access log: it takes nothing").then_some(()));
        gate.running.signal("TERM");
        gate.running.wait();
        drop(options);
    }

    fn tcp_connections_have_lines(engine) {
        let server = Server::ok();
        let at = address();
        let block = format!("[tcp.a]\nlisten = [\"{at}\"]\npool = \"main\"\n[pool.main]\nservers = [\"{}\"]\n", server.address);
        let gate = Ringgate::start(engine, &logged(&block, "access = \"file:access.log\""));
        curl(&["-H", "Connection: close", &format!("http://{at}/")]);
        let all = lines(&gate.folder().join("access.log"), 1);
        let has = |line: &&Value| line["kind"] == "tcp" && line["status"].is_null() && line["bytes_out"].as_u64() > Some(20);
        assert!(all.iter().find(has).is_some_and(|line| line["server"] == server.address.to_string()), "{all:?}");
    }

    fn the_standard_output_gets_lines_of_the_blocks_that_log(engine) {
        let (one, other) = (address(), address());
        let block = |name: &str, at, more: &str| format!("[http.{name}]\nlisten = [\"{at}\"]\n{more}\nroutes = [ {{ answer = {{ status = 200, text = \"hi\" }} }} ]\n");
        let blocks = block("loud", one, "") + &block("silent", other, "log = false");
        let mut gate = Ringgate::start(engine, &logged(&blocks, "access = \"stdout\""));
        for at in [other, one] {
            assert_eq!(curl_text(&[&format!("http://{at}/{}", at.port())]), "hi");
        }
        gate.running.signal("TERM");
        gate.running.wait();
        let text = gate.running.stdout();
        let all: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        assert_eq!((all.len(), &all[0]["block"]), (1, &"loud".into()), "{text}");
    }

    fn the_sandbox_lets_the_log_be_written_rotated_and_opened_again(engine) {
        let (server, at) = (Server::ok(), address());
        let site = site(at, "", "", &[server.address]);
        let log = "access = \"file:access.log\"\nrotate_size = \"5KB\"\nrotate_keep = 1000";
        let gate = Ringgate::start(engine, &(logged(&site, log) + "[process]\nsandbox = \"on\"\n"));
        let url = format!("http://{at}/");
        for turn in 1..=4 {
            curl_text(&[url.as_str(); 15]);
            eventually("all lines are written", || (count(gate.folder()) >= turn * 15).then_some(()));
            if turn == 2 {
                std::fs::rename(gate.folder().join("access.log"), gate.folder().join("access.log-moved")).unwrap();
                gate.running.signal("USR1");
                eventually("it is opened again", || gate.folder().join("access.log").exists().then_some(()));
            }
        }
        assert_eq!(count(gate.folder()), 60);
        assert!(gate.folder().join("access.log.1").exists(), "{}", gate.running.text());
        assert!(!gate.running.text().contains("access log"), "{}", gate.running.text());
    }

    fn syslog_gets_datagrams(engine) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.sock");
        let local = UnixDatagram::bind(&path).unwrap();
        for to in [format!("udp:{}", socket.local_addr().unwrap()), format!("unix:{}", path.display())] {
            let at = address();
            let block = format!("[http.a]\nlisten = [\"{at}\"]\nroutes = [ {{ answer = {{ status = 200, text = \"hi\" }} }} ]");
            let gate = Ringgate::start(engine, &logged(&block, &format!("access = \"syslog:{to}\"\nformat = \"text\"")));
            curl(&[&format!("http://{at}/x")]);
            let mut bytes = [0; 4096];
            let count = if to.starts_with("udp") { socket.recv(&mut bytes) } else { local.recv(&mut bytes) }.unwrap();
            let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
            assert!(text.starts_with(&format!("<134>ringgate[{}]: time=", gate.running.pid())), "{text}");
            assert!(text.contains(" target=\"/x\" ") && text.contains(" status=200 "), "{text}");
        }
    }

    fn a_reload_moves_the_log_and_the_end_leaves_nothing_behind(engine) {
        let authority = Authority::new();
        authority.issue("site", &["localhost"]);
        let at = address();
        let block = format!("[http.a]\nlisten = [\"{at}\"]\ncertificates = [\"{}\"]\nroutes = [ {{ answer = {{ status = 200, text = \"hi\" }} }} ]", authority.folder().display());
        let text = logged(&block, "access = \"file:one.log\"") + "[workers]\ncount = 1\n";
        let mut gate = Ringgate::start(engine, &text);
        let url = format!("https://localhost:{}/", at.port());
        let to = format!("localhost:{}:{}", at.port(), at.ip());
        curl(&["-k", "--resolve", &to, &url]);
        lines(&gate.folder().join("one.log"), 1);
        std::fs::write(gate.folder().join("ringgate.toml"), text.replace("one.log", "two.log")).unwrap();
        gate.running.signal("HUP");
        eventually("it is reloaded", || gate.running.text().contains("reloaded").then_some(()));
        curl(&["-k", "--resolve", &to, &url]);
        gate.running.signal("TERM");
        gate.running.wait();
        let last = lines(&gate.folder().join("two.log"), 1).pop().unwrap();
        assert_eq!((&last["sni"], &last["tls"]), (&"localhost".into(), &"1.3".into()), "{last}");
    }
}

#[test]
fn a_log_that_cannot_be_opened_is_a_clear_error() {
    let text = "[http.a]\nlisten = [\"127.0.0.1:1\"]\nroutes = [ { answer = { status = 200, text = \"hi\" } } ]\n[log]\naccess = \"file:/nowhere/a.log\"\n";
    let once = Ringgate::once(Some(text), &["check", "{file}"]);
    assert!(once.text().contains("there is no folder /nowhere"), "{}", once.text());
}
