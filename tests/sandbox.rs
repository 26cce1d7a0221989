//! What the running program gave up, read from /proc while it serves.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use common::{Authority, Nginx, Ringgate, Server, address, curl, curl_text, site};

/// CAP_NET_BIND_SERVICE.
const BIND: &str = "0000000000000400";
/// With CAP_DAC_OVERRIDE.
const BIND_AND_FILES: &str = "0000000000000402";
/// The user `nobody` of Debian.
const NOBODY: &str = "65534";

/// `/proc/PID/task/*/status`, by thread.
fn threads(gate: &Ringgate) -> Vec<HashMap<String, String>> {
    let folder = format!("/proc/{}/task", gate.running.pid());
    let read = |path: &Path| {
        let text = std::fs::read_to_string(path.join("status")).unwrap();
        let pairs = text.lines().filter_map(|line| line.split_once(':'));
        pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
    };
    std::fs::read_dir(folder).unwrap().map(|entry| read(&entry.unwrap().path())).collect()
}

/// Every thread has these values.
#[track_caller]
fn all_have(gate: &Ringgate, expected: &[(&str, &str)]) {
    let threads = threads(gate);
    assert!(threads.len() > 2, "the main thread and two workers: {}", threads.len());
    for thread in threads {
        for (name, value) in expected {
            let words: Vec<&str> = thread[*name].split_whitespace().collect();
            assert!(
                words.iter().all(|word| word == value),
                "{name} of thread {}: {}",
                thread["Name"],
                thread[*name]
            );
        }
    }
}

const CAPABILITIES: [&str; 5] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];

both_engines! {
    /// Started as root, with a user to become.
    fn root_is_gone_and_requests_are_served(engine) {
        let authority = Authority::new();
        let cert = authority.issue("a", &["a.test"]);
        let (origin, at) = (Nginx::start("A"), address());
        let tls = format!("certificates = [ \"{}\" ]", cert.both.display());
        let config = site(at, &tls, "", &[origin.address]);
        let gate = Ringgate::start(engine, &format!("{config}\n[process]\nuser = \"nobody\"\n"));
        all_have(&gate, &[("Uid", NOBODY), ("Gid", NOBODY), ("Groups", NOBODY), ("NoNewPrivs", "1"), ("Seccomp", "2")]);
        all_have(&gate, &CAPABILITIES.map(|set| (set, BIND)));

        let (ca, resolve) = (authority.ca(), format!("a.test:{}:{}", at.port(), at.ip()));
        let url = format!("https://a.test:{}/whoami", at.port());
        for _ in 0..5 {
            let reply = curl(&["--cacert", ca.to_str().unwrap(), "--resolve", &resolve, &url]);
            assert_eq!((reply.status, reply.text().trim()), (200, "A"));
        }
        assert!(!gate.running.text().contains("incomplete"), "{}", gate.running.text());
    }

    /// Started as root and staying root: what that user may is taken away all the same.
    fn root_without_a_user_keeps_files_and_low_ports(engine) {
        let (origin, at) = (Server::ok(), address());
        let gate = Ringgate::start(engine, &site(at, "", "", &[origin.address]));
        all_have(&gate, &[("Uid", "0"), ("NoNewPrivs", "1"), ("Seccomp", "2")]);
        all_have(&gate, &CAPABILITIES.map(|set| (set, BIND_AND_FILES)));
        common::eventually("the note", || gate.running.stderr().contains("note: it runs as root").then_some(()));
        assert_eq!(curl(&[&format!("http://{at}/")]).status, 200);
    }

    fn the_sandbox_can_be_off(engine) {
        let (origin, at) = (Server::ok(), address());
        let config = format!("{}\n[process]\nsandbox = \"off\"\n", site(at, "", "", &[origin.address]));
        let gate = Ringgate::start(engine, &config);
        all_have(&gate, &[("Uid", "0"), ("NoNewPrivs", "0"), ("Seccomp", "0")]);
        assert_eq!(curl(&[&format!("http://{at}/")]).status, 200);
    }

    fn the_sandbox_can_be_demanded(engine) {
        let (origin, at) = (Server::ok(), address());
        let config = format!("{}\n[process]\nsandbox = \"on\"\n", site(at, "", "", &[origin.address]));
        let gate = Ringgate::start(engine, &config);
        all_have(&gate, &[("Seccomp", "2")]);
        assert_eq!(curl_text(&[&format!("http://{at}/")]), "ok");
    }
}

#[test]
fn an_unknown_user_is_an_error_with_advice() {
    let config =
        format!("{}\n[process]\nuser = \"ringgate-nobody\"\n", site(address(), "", "", &[address()]));
    let once = Ringgate::once(Some(&config), &["run", "{file}"]);
    assert_eq!(once.code, Some(1));
    assert!(
        once.stderr.contains("there is no user \"ringgate-nobody\"; make it with `useradd"),
        "{}",
        once.stderr
    );
}

#[test]
fn a_key_that_a_reload_could_not_read_is_noted() {
    let authority = Authority::new();
    let cert = authority.issue("a", &["a.test"]);
    std::fs::set_permissions(&cert.both, std::fs::Permissions::from_mode(0o600)).unwrap();
    let at = address();
    let tls = format!("certificates = [ \"{}\" ]", cert.both.display());
    let config = format!("{}\n[process]\nuser = \"nobody\"\n", site(at, &tls, "", &[address()]));
    let gate = Ringgate::start(common::Engine::Epoll, &config);
    let said = common::eventually("the note", || {
        let text = gate.running.stderr();
        text.contains("cannot be read by the user nobody: a reload will fail").then_some(text)
    });
    assert!(said.contains(cert.both.to_str().unwrap()), "{said}");
}
