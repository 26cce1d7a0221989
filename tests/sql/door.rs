//! A primary, two replicas, and a ringgate in front of them; and the clients that speak with them.

use std::fmt::Write;
use std::net::SocketAddr;
use std::process::{Command, Output};

use crate::common::mariadb::PASSWORD;
use crate::common::{Engine, Replication, Ringgate, address, eventually, program};

/// Servers and the door to them.
#[derive(Debug)]
pub struct Door {
    /// The door.
    pub gate: Ringgate,
    /// Where it listens.
    pub at: SocketAddr,
    /// What is behind it.
    pub all: Replication,
}

impl Door {
    /// Starts everything; `lines` are further lines of the block.
    #[track_caller]
    pub fn start(engine: Engine, lines: &str) -> Self {
        let all = Self::servers();
        Self::to(engine, all, lines)
    }

    /// Servers alone, with the account of the service.
    #[track_caller]
    pub fn servers() -> Replication {
        Self::servers_with(&[])
    }

    /// The same with further options for them.
    #[track_caller]
    pub fn servers_with(options: &[&str]) -> Replication {
        let all = Replication::with(2, options);
        all.primary.user("ringgate");
        all.wait();
        all
    }

    /// A door to these servers, which knows who is who.
    #[track_caller]
    pub fn to(engine: Engine, all: Replication, lines: &str) -> Self {
        Self::limited(engine, all, lines, None)
    }

    /// The same with so many connections at most to each server.
    #[track_caller]
    pub fn limited(engine: Engine, all: Replication, lines: &str, connections: Option<u32>) -> Self {
        let at = address();
        let mut block = Self::block(at, &all, lines);
        if let Some(most) = connections {
            for server in all.replicas.iter().chain([&all.primary]) {
                let plain = format!("\"{}\"", server.address);
                block = block.replace(&plain, &format!("{{ address = {plain}, connections = {most} }}"));
            }
        }
        let door = Self { gate: Ringgate::start(engine, &block), at, all };
        eventually("a replica answers", || (door.ask("SELECT @@server_id").ok()? != "1").then_some(()));
        door
    }

    /// A door that may know nobody yet.
    #[track_caller]
    pub fn bare(engine: Engine, all: Replication, lines: &str) -> Self {
        let at = address();
        Self { gate: Ringgate::start(engine, &Self::block(at, &all, lines)), at, all }
    }

    /// The block of a configuration.
    pub fn block(at: SocketAddr, all: &Replication, lines: &str) -> String {
        let secret = all.primary.folder().join("ringgate.secret");
        std::fs::write(&secret, PASSWORD).unwrap();
        let mut servers = format!("\"{}\"", all.primary.address);
        for replica in &all.replicas {
            write!(servers, ", \"{}\"", replica.address).unwrap();
        }
        format!(
            "[sql.main]\nlisten = [\"{at}\"]\nservers = [{servers}]\n\
             account = {{ user = \"ringgate\", password_file = \"{}\" }}\n{lines}\n",
            secret.display()
        )
    }

    /// Runs statements through the door as `app` in one session: rows as lines, columns between tabs; or the error.
    pub fn ask(&self, sql: &str) -> Result<String, String> {
        mariadb(self.at, "app", PASSWORD, &["shop"], sql)
    }

    /// The same for statements that must do.
    #[track_caller]
    pub fn sql(&self, sql: &str) -> String {
        self.ask(sql).unwrap_or_else(|error| panic!("{sql}: {error}\n{}", self.gate.running.text()))
    }

    /// Waits until the replicas have everything, and until the door knows that.
    #[track_caller]
    pub fn wait(&self) {
        self.all.wait();
        std::thread::sleep(std::time::Duration::from_millis(700));
    }

    /// Waits until the replicas have everything, and compares this table of all three.
    #[track_caller]
    pub fn same_everywhere(&self, table: &str) {
        self.all.wait();
        let sum = format!("CHECKSUM TABLE {table}");
        let expected = self.all.primary.sql(&sum);
        assert!(!expected.ends_with("NULL"), "{expected}");
        for replica in &self.all.replicas {
            assert_eq!(replica.sql(&sum), expected, "replica {}", replica.id);
        }
    }

    /// Runs a script with a file of 100,000 rows, which it loads into `rows_in`.
    #[track_caller]
    pub fn loads_rows(&self, script: &str) {
        let mut rows = String::new();
        for number in 0..100_000 {
            writeln!(rows, "{number}\tthe row with number {number}").unwrap();
        }
        let file = self.gate.folder().join("rows.tsv");
        std::fs::write(&file, rows).unwrap();
        let told = self.python(script, &[file.to_str().unwrap()]);
        assert_eq!(told, "done", "{}", self.gate.running.text());
        self.same_everywhere("shop.rows_in");
    }

    /// Runs a script of `tests/sql` against the door as `app`; its output.
    #[track_caller]
    pub fn python(&self, script: &str, words: &[&str]) -> String {
        said(&python(self.at, script, words).output().unwrap())
            .unwrap_or_else(|error| panic!("{script}: {error}\n{}", self.gate.running.text()))
    }
}

/// A client: rows as lines, columns between tabs; or the error.
pub fn mariadb(
    at: SocketAddr,
    user: &str,
    password: &str,
    options: &[&str],
    sql: &str,
) -> Result<String, String> {
    let output = Command::new(program("mariadb", "mariadb-client"))
        .args(["--no-defaults", "--batch", "--skip-column-names", "--local-infile=1"])
        .arg("--max-allowed-packet=256M")
        .args([format!("--host={}", at.ip()), format!("--port={}", at.port())])
        .args([format!("--user={user}"), format!("--password={password}")])
        .args(["-e", sql])
        .args(options)
        .output()
        .unwrap();
    said(&output)
}

/// A script of `tests/sql`, which is told where to go and what else.
pub fn python(at: SocketAddr, script: &str, words: &[&str]) -> Command {
    let path = format!("{}/tests/sql/{script}", env!("CARGO_MANIFEST_DIR"));
    // Debian's modules are for Debian's own Python.
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-B", &path, &at.ip().to_string(), &at.port().to_string()]).args(words);
    command
}

/// What a program said, or its complaint.
pub fn said(output: &Output) -> Result<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&[&output.stdout[..], &output.stderr[..]].concat()))
    }
}
