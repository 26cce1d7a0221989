//! Under systemd, or something that behaves like it; and started by a version before.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use common::{Ringgate, Running, address, curl_text, eventually, program};
use tempfile::TempDir;

/// A configuration that answers with this text.
fn answering(at: SocketAddr, text: &str, more: &str) -> String {
    format!(
        "[http.main]\nlisten = [\"{at}\"]\nroutes = [ {{ answer = {{ status = 200, text = \"{text}\" }} }} ]\n\
         [workers]\ncount = 2\n{more}"
    )
}

/// Runs a shell line in which `$1` is the program and `$2` the configuration file.
fn shell(folder: &Path, config: &str, line: &str) -> Running {
    let file = folder.join("ringgate.toml");
    std::fs::write(&file, config).unwrap();
    let program = Ringgate::program().to_str().unwrap();
    Running::start(
        "ringgate",
        Path::new("/bin/sh"),
        &["-c", line, "sh", program, file.to_str().unwrap()],
        folder,
    )
}

#[test]
fn systemd_is_told_what_happens() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(common::PATIENCE)).unwrap();
    let told = |wanted: &str| {
        let mut bytes = [0; 1024];
        loop {
            let count = socket.recv(&mut bytes).unwrap_or_else(|error| panic!("{wanted}: {error}"));
            let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
            if text.lines().any(|line| line == wanted) {
                return text;
            }
        }
    };
    let at = address();
    let line = format!("NOTIFY_SOCKET={} WATCHDOG_USEC=200000 exec \"$1\" run \"$2\"", path.display());
    let gate = shell(folder.path(), &answering(at, "one", ""), &line);
    assert!(told("READY=1").contains("STATUS=serving with 2 workers"));
    assert_eq!(curl_text(&[&format!("http://{at}/")]), "one");
    told("WATCHDOG=1");
    told("WATCHDOG=1");

    std::fs::write(folder.path().join("ringgate.toml"), answering(at, "two", "")).unwrap();
    gate.signal("HUP");
    assert!(told("RELOADING=1").contains("MONOTONIC_USEC="));
    told("READY=1");
    assert_eq!(curl_text(&[&format!("http://{at}/")]), "two");
    // A reload that is refused ends too.
    std::fs::write(folder.path().join("ringgate.toml"), "nonsense").unwrap();
    gate.signal("HUP");
    told("RELOADING=1");
    assert!(told("READY=1").contains("as before"));
    gate.signal("TERM");
    told("STOPPING=1");
}

#[test]
fn sockets_of_a_socket_unit_are_used() {
    let folder = TempDir::new().unwrap();
    let at = address();
    let activate = program("systemd-socket-activate", "systemd");
    let line = format!("exec {} -l {at} \"$1\" run \"$2\"", activate.display());
    // The kernel would refuse a second socket: the one of systemd has no SO_REUSEPORT.
    let _gate = shell(folder.path(), &answering(at, "activated", "[process]\nuser = \"nobody\"\n"), &line);
    eventually("it listens", || common::is_listening(at).then_some(()));
    for _ in 0..5 {
        assert_eq!(curl_text(&[&format!("http://{at}/")]), "activated");
    }
}

/// The side of the new version: it takes the socket, says that it is ready, and answers what waited in the queue.
#[test]
fn sockets_of_the_version_before_are_used() {
    let folder = TempDir::new().unwrap();
    let socket = TcpListener::bind(address()).unwrap();
    let at = socket.local_addr().unwrap();
    let waiting = TcpStream::connect(at).unwrap();
    let (read, write) = std::io::pipe().unwrap();
    let (passed, ready) = (ringgate::ring::inheritable(&socket), ringgate::ring::inheritable(&write));
    let (passed, ready) = (passed.unwrap(), ready.unwrap());
    let line = format!(
        "RINGGATE_INHERITS='sandbox=off ready={} listen={}' exec \"$1\" run \"$2\"",
        ready.as_raw_fd(),
        passed.as_raw_fd()
    );
    let _gate = shell(folder.path(), &answering(at, "new", ""), &line);
    drop((socket, passed, ready, write));
    let said = std::io::read_to_string(read).unwrap();
    assert_eq!(said, "ready\n");
    let answer = common::Wire::new(waiting).ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(answer.text(), "new");
    assert_eq!(curl_text(&[&format!("http://{at}/")]), "new");
}
