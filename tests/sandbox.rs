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

/// Lets every user into the folder of the configuration, and writes a new one there.
fn rewrite(gate: &Ringgate, config: &str) {
    std::fs::set_permissions(gate.folder(), std::fs::Permissions::from_mode(0o755)).unwrap();
    // Written beside it and moved: another file by the same name.
    std::fs::write(gate.folder().join("new"), format!("{config}\n[workers]\ncount = 2\n")).unwrap();
    std::fs::rename(gate.folder().join("new"), gate.folder().join("ringgate.toml")).unwrap();
}

/// Waits until it says this on standard error.
#[track_caller]
fn says(gate: &Ringgate, text: &str) -> String {
    common::eventually(text, || Some(gate.running.stderr()).filter(|said| said.contains(text)))
}

/// Every thread has these values.
#[track_caller]
fn all_have(gate: &Ringgate, expected: &[(&str, &str)]) {
    let threads = common::eventually("main, signals, control and two workers", || {
        Some(threads(gate)).filter(|threads| threads.len() >= 5)
    });
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
        says(&gate, "note: it runs as root");
        assert_eq!(curl(&[&format!("http://{at}/")]).status, 200);
    }

    /// As another user, in the sandbox: a replaced file is read, a low port is bound, a certificate is changed.
    fn reload_works(engine) {
        let (origin, at) = (Server::ok(), address());
        let process = "[process]\nuser = \"nobody\"\n";
        let gate = Ringgate::start(engine, &format!("{}\n{process}", site(at, "", "", &[origin.address])));
        let low = (700..1000).map(|port| std::net::SocketAddr::new(at.ip(), port));
        let low = low.into_iter().find(|at| std::net::TcpListener::bind(at).is_ok()).unwrap();
        std::fs::write(gate.folder().join("page.html"), "another page").unwrap();
        rewrite(&gate, &format!(
            "[http.main]\nlisten = [\"{at}\", \"{low}\"]
             routes = [ {{ answer = {{ status = 200, file = \"page.html\" }} }} ]\n{process}"
        ));
        gate.running.signal("HUP");
        says(&gate, "reloaded (edition 2)");
        for at in [at, low] {
            assert_eq!(curl_text(&[&format!("http://{at}/")]), "another page");
        }
        // A file in a folder that the sandbox does not show.
        rewrite(&gate, &format!(
            "[http.main]\nlisten = [\"{at}\"]
             routes = [ {{ answer = {{ status = 200, file = \"/etc/profile\" }} }} ]\n{process}"
        ));
        gate.running.signal("HUP");
        let said = says(&gate, "not reloaded");
        assert!(said.contains("/etc/profile cannot be read: Permission denied"), "{said}");
        assert!(said.contains("the sandbox shows this process"), "{said}");
        assert_eq!(curl_text(&[&format!("http://{low}/")]), "another page");
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
    let said = says(&gate, "cannot be read by the user nobody: a reload will fail");
    assert!(said.contains(cert.both.to_str().unwrap()), "{said}");
}
