//! Programs that people use: `openssl s_client` and `curl` against a pipe on a real socket.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};

use super::*;

/// Answers one connection: a page whose body says what was agreed on, and `body_len` more bytes.
fn serve(socket: &mut TcpStream, tls: &ServerTls, body_len: usize) -> Option<()> {
    let mut pool = Pool::new(4096);
    let mut side = Side::new(Pipe::accept(tls).ok()?);
    let mut request = Vec::new();
    let mut room = [0; 16 * 1024];
    while !request.ends_with(b"\r\n\r\n") {
        let count = socket.read(&mut room).ok().filter(|&count| count > 0)?;
        side.receive(&room[..count], usize::MAX, &mut pool);
        let out = side.sent(&mut pool);
        socket.write_all(&out).ok()?;
        request.extend(side.read(&mut pool));
        if side.error.is_some() {
            return None;
        }
    }
    let pipe = &side.pipe;
    let body = format!(
        "{} {} resumed={} name={} subject={}\n{}",
        pipe.version(),
        pipe.cipher(),
        pipe.resumed(),
        pipe.server_name().unwrap_or("-"),
        pipe.subject().unwrap_or("-"),
        "x".repeat(body_len)
    );
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    side.write(format!("{head}{body}").as_bytes(), 16 * 1024, &mut pool);
    side.pipe.close_notify(&mut side.out, &mut pool).ok()?;
    socket.write_all(&side.sent(&mut pool)).ok()?;
    // Until the other side closes, so that nothing is reset.
    while socket.read(&mut room).is_ok_and(|count| count > 0) {}
    Some(())
}

/// Runs a program while connections are answered.
fn run(tls: &ServerTls, body_len: usize, program: impl Fn(u16) -> Command) -> Output {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    listener.set_nonblocking(true).unwrap();
    let done = &std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let Ok((mut socket, _)) = listener.accept() else {
                    std::thread::sleep(std::time::Duration::from_millis(2));
                    continue;
                };
                socket.set_nonblocking(false).unwrap();
                serve(&mut socket, tls, body_len);
            }
        });
        let output = program(port).stdin(Stdio::null()).output();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        output.expect("install curl and openssl: apt-get install curl openssl")
    })
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn curl(authority: &Authority, port: u16, more: &[&str]) -> Command {
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "20", "--noproxy", "*", "--cacert"]).arg(authority.file());
    command.args(more).arg(format!("https://localhost:{port}/"));
    command
}

#[test]
fn curl_gets_pages_of_every_size() {
    let authority = Authority::new("curl");
    let tls = ServerTls::new(authority.store(&["localhost"]), &ServerOptions::default()).unwrap();
    for (more, expected) in [
        (&[][..], "TLSv1.3 TLS13_AES_128_GCM_SHA256"),
        (&["--tls-max", "1.2"], "TLSv1.2 TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
        (&["--tls13-ciphers", "TLS_AES_256_GCM_SHA384"], "TLSv1.3 TLS13_AES_256_GCM_SHA384"),
        (&["--tls13-ciphers", "TLS_CHACHA20_POLY1305_SHA256"], "TLSv1.3 TLS13_CHACHA20_POLY1305_SHA256"),
    ] {
        for len in [0, 100, 16_384, 1_000_000] {
            let output = run(&tls, len, |port| curl(&authority, port, more));
            let text = text(&output);
            assert!(output.status.success(), "{more:?}: {text}");
            assert!(text.starts_with(&format!("{expected} resumed=false name=localhost")), "{text}");
            assert!(text.len() > len, "{more:?} {len}");
        }
    }
}

#[test]
fn curl_shows_its_certificate() {
    let (authority, people) = (Authority::new("curl"), Authority::new("people"));
    let options = ServerOptions {
        client_ca: Some(people.file()),
        client_certificate: ClientCertificate::Required,
        ..ServerOptions::default()
    };
    let tls = ServerTls::new(authority.store(&["localhost"]), &options).unwrap();
    let file = people.leaf_file("alice.pem", &["alice"], &rcgen::PKCS_ECDSA_P256_SHA256);
    let shown = run(&tls, 0, |port| curl(&authority, port, &["--cert", file.to_str().unwrap()]));
    assert!(text(&shown).contains("subject=CN=alice"), "{}", text(&shown));
    let hidden = run(&tls, 0, |port| curl(&authority, port, &[]));
    assert!(!hidden.status.success());
}

#[test]
fn openssl_resumes_its_session() {
    let authority = Authority::new("openssl");
    let folder = tempfile::tempdir().unwrap();
    let session = folder.path().join("session");
    for version in ["-tls1_2", "-tls1_3"] {
        let tls = ServerTls::new(authority.store(&["localhost"]), &ServerOptions::default()).unwrap();
        for (option, resumed) in [("-sess_out", "resumed=false"), ("-sess_in", "resumed=true")] {
            let output = run(&tls, 50_000, |port| {
                let mut command = Command::new("sh");
                let request = "(printf 'GET / HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n'; sleep 1)";
                command.arg("-c").arg(format!(
                    "{request} | openssl s_client -connect 127.0.0.1:{port} -servername localhost {version} \
                     -CAfile {} {option} {} -verify_return_error -quiet -no_ign_eof",
                    authority.file().display(),
                    session.display()
                ));
                command
            });
            assert!(text(&output).contains(resumed), "{version} {option}: {}", text(&output));
        }
    }
}
