//! Clients that compress.

use std::process::{Command, Stdio};

use crate::common::mariadb::PASSWORD;
use crate::common::{Authority, Engine, program};
use crate::door::{Door, mariadb};

#[test]
fn what_is_compressed_is_what_it_was() {
    let all = Door::servers();
    all.primary.sql("CREATE TABLE shop.rows_in (a INT, b VARCHAR(40))");
    all.wait();
    let door = Door::to(Engine::IoUring, all, "");
    door.loads_rows("compress.py");
}

#[test]
fn a_big_result_is_compressed_in_little_memory_with_and_without_tls() {
    let authority = Authority::new();
    let issued = authority.issue("door", &["db.example.org"]);
    let lines = format!("certificates = [\"{}\"]", issued.both.display());
    let door = Door::start(Engine::IoUring, &lines);
    let before = door.gate.running.memory_kib("VmRSS");
    for tls in ["--skip-ssl", "--ssl"] {
        let options = ["--compress", tls, "--quick", "shop"];
        let told = mariadb(door.at, "app", PASSWORD, &options, "SHOW STATUS LIKE 'Compression'; SELECT 1");
        assert_eq!(told, Ok("Compression\tOFF\n1".into()));
        // Of what compresses well, and of what does not.
        for (column, count) in [("REPEAT(seq, 200)", 100_000), ("MD5(seq)", 1_000_000)] {
            let mut client = Command::new(program("mariadb", "mariadb-client"));
            client
                .args(["--no-defaults", "--batch", "--skip-column-names", "--user=app"])
                .args([format!("--host={}", door.at.ip()), format!("--port={}", door.at.port())])
                .args([format!("--password={PASSWORD}"), format!("-eSELECT {column} FROM seq_1_to_{count}")])
                .args(options);
            let client = client.stdout(Stdio::piped()).spawn().unwrap();
            let output = client.wait_with_output().unwrap();
            let lines = output.stdout.iter().filter(|byte| **byte == b'\n').count();
            assert_eq!(lines, count, "{tls} {column}");
        }
    }
    let grown = door.gate.running.memory_kib("VmHWM").saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB");
}

#[test]
fn compression_is_not_offered_where_it_is_off() {
    let door = Door::start(Engine::IoUring, "compression = false");
    let mut client = std::net::TcpStream::connect(door.at).unwrap();
    let mut greeting = [0; 128];
    let bytes = std::io::Read::read(&mut client, &mut greeting).unwrap();
    let version = greeting[5..bytes].iter().position(|byte| *byte == 0).unwrap();
    // Behind the version: id 4, scramble 8, NUL 1, the lower half of the capabilities.
    let lower = greeting[5 + version + 14];
    assert_eq!(lower & 0x20, 0, "{lower:x}");
    let told = mariadb(door.at, "app", PASSWORD, &["--compress", "shop"], "SELECT 1");
    assert_eq!(told, Ok("1".into()));
}
