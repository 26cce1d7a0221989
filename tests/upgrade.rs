//! A new version takes over while requests come in: `kill -USR2`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{Ringgate, Running, Server, Wire, address, curl_text, eventually, is_listening, program};
use tempfile::TempDir;

/// A ringgate that changes its process, told about by `NOTIFY_SOCKET`.
struct Site {
    folder: TempDir,
    first: Running,
    notified: UnixDatagram,
    /// The versions that no drop guard ends.
    later: RefCell<Vec<u32>>,
}

impl Site {
    fn start(at: SocketAddr, config: &str, more: &str) -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let socket = folder.path().join("notify");
        let notified = UnixDatagram::bind(&socket).unwrap();
        notified.set_read_timeout(Some(common::PATIENCE)).unwrap();
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o777)).unwrap();
        let file = folder.path().join("ringgate.toml");
        std::fs::write(&file, config).unwrap();
        let line = format!("NOTIFY_SOCKET={} exec \"$1\" run \"$2\" {more}", socket.display());
        let words = ["-c", &line, "sh", Ringgate::program().to_str().unwrap(), file.to_str().unwrap()];
        let mut first = Running::start("ringgate", Path::new("/bin/sh"), &words, folder.path());
        first.wait_until("it listens", || is_listening(at));
        let site = Self { folder, first, notified, later: RefCell::default() };
        site.told("READY=1");
        site
    }

    /// The next message with this line.
    #[track_caller]
    fn told(&self, wanted: &str) -> String {
        let mut bytes = [0; 1024];
        loop {
            let count = self.notified.recv(&mut bytes).unwrap_or_else(|error| panic!("{wanted}: {error}"));
            let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
            if text.lines().any(|line| line.starts_with(wanted)) {
                return text;
            }
        }
    }

    /// The process that serves now.
    fn pid(&self) -> u32 {
        self.later.borrow().last().copied().unwrap_or(self.first.pid())
    }

    /// Has a new version take over; the one before ends.
    #[track_caller]
    fn upgrade(&self) {
        let old = self.pid();
        signal(old, "USR2");
        let text = self.told("MAINPID=");
        let new = text.lines().find_map(|line| line.strip_prefix("MAINPID=")).unwrap().parse().unwrap();
        assert_ne!(new, old);
        self.later.borrow_mut().push(new);
    }

    fn gone(&self, pid: u32) {
        eventually("the old version ends", || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // A process that has ended and whose parent is this test.
            (stat.is_empty() || stat.rsplit_once(") ").unwrap().1.starts_with('Z')).then_some(())
        });
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.later.borrow().iter().for_each(|pid| signal(*pid, "KILL"));
    }
}

fn signal(pid: u32, name: &str) {
    let kill = format!("kill -{name} {pid} 2>&1");
    let _ = Command::new("sh").args(["-c", &kill]).stdout(Stdio::null()).status().unwrap();
}

fn answering(at: SocketAddr, text: &str, more: &str) -> String {
    format!(
        "[http.main]\nlisten = [\"{at}\"]\nroutes = [ {{ answer = {{ status = 200, text = \"{text}\" }} }} ]\n{more}\n\
         [workers]\ncount = 2\n"
    )
}

fn wrk(at: SocketAddr, seconds: u32, header: &str) -> Child {
    Command::new(program("wrk", "wrk"))
        .args(["-t1", "-c8", &format!("-d{seconds}s"), "-H", header, &format!("http://{at}/")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

both_engines! {
    fn load_does_not_notice_upgrades(engine) {
        let at = address();
        let more = "[http.local]\nlisten = [\"unix:site.sock\"]\nroutes = [ { answer = { status = 200, text = \"local\" } } ]\n\
             [admin]\nlisten = [\"unix:admin.sock\"]\n[process]\nuser = \"nobody\"\n";
        let flag = format!("--engine {}", engine.flag());
        let mut site = Site::start(at, &answering(at, "v0", more), &flag);
        let load = wrk(at, 5, "Connection: close");
        for turn in 1..=3 {
            let old = site.pid();
            let text = format!("v{turn}");
            std::fs::write(site.folder.path().join("ringgate.toml"), answering(at, &text, more)).unwrap();
            std::thread::sleep(Duration::from_millis(500));
            site.upgrade();
            site.gone(old);
            if turn == 1 {
                assert!(site.first.wait().success());
            }
            assert_eq!(curl_text(&[&format!("http://{at}/")]), text);
            for (socket, path) in [("site.sock", "/"), ("admin.sock", "/v1/status")] {
                let socket = site.folder.path().join(socket);
                UnixStream::connect(&socket).unwrap();
                let said = curl_text(&["--unix-socket", socket.to_str().unwrap(), &format!("http://localhost{path}")]);
                assert!(said == "local" || said.contains(&format!("\"pid\":{}", site.pid())), "{said}");
            }
        }
        let output = load.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains(" requests in"), "{text}");
        assert!(!text.contains("Socket errors") && !text.contains("Non-2xx"), "{text}");
    }

    fn a_version_that_fails_leaves_the_old_one_serving(engine) {
        let at = address();
        let flag = format!("--engine {}", engine.flag());
        let site = Site::start(at, &answering(at, "old", ""), &flag);
        std::fs::write(site.folder.path().join("ringgate.toml"), "nonsense").unwrap();
        site.first.signal("USR2");
        eventually("it says so", || site.first.stderr().contains("the old one serves on").then_some(()));
        assert!(site.first.stderr().contains("ringgate.toml:1:"));
        assert_eq!(curl_text(&[&format!("http://{at}/")]), "old");
        let children = format!("/proc/{0}/task/{0}/children", site.first.pid());
        assert_eq!(std::fs::read_to_string(children).unwrap_or_default().trim(), "");
        std::fs::write(site.folder.path().join("ringgate.toml"), answering(at, "new", "")).unwrap();
        site.upgrade();
        site.gone(site.first.pid());
        assert_eq!(curl_text(&[&format!("http://{at}/")]), "new");
    }
}

/// What stands at the program's path is another program, or none at all.
#[test]
fn a_file_that_is_no_new_version_leaves_the_old_one_serving() {
    let (at, folder) = (address(), TempDir::new().unwrap());
    let (program, file) = (folder.path().join("ringgate"), folder.path().join("ringgate.toml"));
    std::fs::copy(Ringgate::program(), &program).unwrap();
    std::fs::write(&file, answering(at, "old", "")).unwrap();
    let words = ["run", file.to_str().unwrap()];
    let mut gate = Running::start("gate", &program, &words, folder.path());
    gate.wait_until("it listens", || is_listening(at));
    let replace = |with: &dyn Fn(&Path)| {
        let new = folder.path().join("new");
        with(&new);
        std::fs::rename(new, &program).unwrap();
        gate.signal("USR2");
    };
    let says = |what: &str| {
        eventually(what, || gate.stderr().contains(what).then_some(()));
        assert!(gate.stderr().lines().last().unwrap().contains("the old one serves on"), "{}", gate.stderr());
        assert_eq!(curl_text(&[&format!("http://{at}/")]), "old");
    };
    replace(&|new| _ = std::fs::copy("/bin/false", new).unwrap());
    says("has ended (exit status: 1)");
    replace(&|new| std::fs::write(new, "not a program").unwrap());
    says("cannot be started");
}

/// One request to the admin interface, answered with its status and JSON.
fn admin(at: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String) {
    let length = body.len();
    let answer = Wire::connect(at).ask(&format!(
        "{method} {path} HTTP/1.1\r\nHost: {at}\r\nX-Ringgate: 1\r\nContent-Length: {length}\r\n\r\n{body}"
    ));
    (answer.status(), answer.text())
}

#[test]
fn a_new_version_that_ends_early_is_no_zombie() {
    let server = Server::start(|wire| {
        let Ok(Some(_)) = wire.request() else { return };
        std::thread::sleep(Duration::from_secs(4));
        let _ = wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    });
    let at = address();
    let config = format!(
        "[http.main]\nlisten = [\"{at}\"]\npool = \"main\"\n[pool.main]\nservers = [\"{}\"]\n[workers]\ncount = 2\n",
        server.address
    );
    let site = Site::start(at, &config, "");
    let mut client = Wire::connect(at);
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    eventually("the request is on its way", || (server.connections() == 1).then_some(()));
    site.upgrade();
    let new = site.pid();
    signal(new, "KILL");
    eventually("it is gone", || (!Path::new(&format!("/proc/{new}")).exists()).then_some(()));
    assert!(!site.first.stderr().contains("panicked"), "{}", site.first.stderr());
    eventually("it is told", || site.first.stderr().contains("has ended (signal: 9").then_some(()));
    assert_eq!(client.answer().unwrap().text(), "ok", "the old version finishes what it began");
}

#[test]
fn nothing_changes_while_a_new_version_is_started() {
    let (at, door, server) = (address(), address(), Server::ok());
    let resolver = std::net::UdpSocket::bind((common::host(), 0)).unwrap();
    resolver.set_read_timeout(Some(common::PATIENCE)).unwrap();
    let config = |more: &str| {
        format!(
            "[http.main]\nlisten = [\"{at}\"]\npool = \"main\"\n[pool.main]\nservers = [\"{}\"{more}]\n\
             [dns]\nservers = [\"{}\"]\ntimeout = \"3s\"\n[admin]\nlisten = [\"{door}\"]\n",
            server.address,
            resolver.local_addr().unwrap()
        )
    };
    let site = Site::start(at, &config(""), "");
    let file = site.folder.path().join("ringgate.toml");
    std::fs::write(&file, config(", \"nowhere.internal:80\"")).unwrap();
    signal(site.pid(), "USR2");
    // The new version has read the file and asks for the name.
    resolver.recv(&mut [0; 512]).unwrap();
    std::fs::write(&file, config("")).unwrap();
    let (status, said) = admin(door, "POST", "/v1/reload", "");
    assert!(
        status == 422 && said.contains("a new version of the program is being started"),
        "{status} {said}"
    );
    let path = format!("/v1/pools/main/servers/{}", server.address);
    for body in ["{\"weight\":5}", "{\"state\":\"drain\"}"] {
        let (status, said) = admin(door, "PATCH", &path, body);
        assert!(status == 409 && said.contains("is being started"), "{status} {said}");
    }
    signal(site.pid(), "USR2");
    eventually("it is told", || site.first.stderr().contains("another upgrade is under way").then_some(()));
    let text = site.told("MAINPID=");
    let new = text.lines().find_map(|line| line.strip_prefix("MAINPID=")).unwrap().parse().unwrap();
    site.later.borrow_mut().push(new);
    site.gone(site.first.pid());
    let (status, said) = admin(door, "PATCH", &path, "{\"state\":\"drain\"}");
    assert_eq!(status, 200, "{said}");
}

#[test]
fn what_was_set_while_running_outlives_upgrades() {
    let (at, door) = (address(), address());
    let says = |name: &str| Server::answering(&format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{name}"));
    let (a, b, c) = (says("A"), says("B"), says("C"));
    let config = |weight: u32| {
        format!(
            "[http.main]\nlisten = [\"{at}\"]\npool = \"main\"\n[pool.main]\nservers = [\n\
             {{ name = \"a\", address = \"{}\" }}, {{ name = \"b\", address = \"{}\", weight = {weight} }},\n\
             {{ name = \"d\", address = \"127.0.0.1:9\" }} ]\n[admin]\nlisten = [\"{door}\"]\n",
            a.address, b.address
        )
    };
    let site = Site::start(at, &config(2), "");
    let servers = || -> String {
        let json: serde_json::Value = serde_json::from_str(&admin(door, "GET", "/v1/servers", "").1).unwrap();
        let list = json["pools"][0]["servers"].as_array().unwrap();
        let text = |one: &serde_json::Value| format!("{} {} {}; ", one["name"], one["weight"], one["admin"]);
        list.iter().map(text).collect::<String>().replace('"', "")
    };
    let path = "/v1/pools/main/servers";
    for (method, path, body) in [
        ("PATCH", format!("{path}/a"), "{\"state\":\"drain\"}".to_owned()),
        ("PATCH", format!("{path}/b"), "{\"weight\":7}".to_owned()),
        ("POST", path.to_owned(), format!("{{\"name\":\"c\",\"weight\":3,\"address\":\"{}\"}}", c.address)),
        ("DELETE", format!("{path}/d"), String::new()),
    ] {
        let (status, said) = admin(door, method, &path, &body);
        assert_eq!(status, 200, "{said}");
    }
    for _ in 0..2 {
        let old = site.pid();
        site.upgrade();
        site.gone(old);
        assert_eq!(servers(), "a 1 drain; b 7 ready; c 3 ready; ");
    }
    let said: String = (0..10).map(|_| curl_text(&[&format!("http://{at}/")])).collect();
    assert_eq!((said.matches('B').count(), said.matches('C').count()), (7, 3), "{said}");
    // A new file decides.
    std::fs::write(site.folder.path().join("ringgate.toml"), config(4)).unwrap();
    let old = site.pid();
    site.upgrade();
    site.gone(old);
    assert_eq!(servers(), "a 1 drain; b 4 ready; c 3 ready; ");
}
