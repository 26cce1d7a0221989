//! MariaDB servers: one alone, or a primary with replicas.
//!
//! The data folder is made once for all tests, in the target folder, and copied. Every server logs in row format with
//! GTIDs, whoever it is, so that any may become the primary.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::{Running, address, eventually, is_listening, made_once, program};

/// The password of all users that are made here.
pub const PASSWORD: &str = "secret";

/// What keeps a server small and its start quick; nothing of what it has needs to outlive a crash of the
/// machine; a server that is killed loses nothing.
const SMALL: &[&str] = &[
    "--innodb-buffer-pool-size=8M",
    "--innodb-log-file-size=4M",
    "--innodb-log-buffer-size=2M",
    "--innodb-flush-log-at-trx-commit=2",
    "--innodb-doublewrite=0",
    "--sync-binlog=0",
    "--key-buffer-size=1M",
    "--aria-pagecache-buffer-size=1M",
    "--performance-schema=0",
    "--skip-name-resolve",
];

/// A data folder with nothing but the server's own tables.
fn template() -> PathBuf {
    let install = program("mariadb-install-db", "mariadb-server");
    let server = program("mariadbd", "mariadb-server");
    let version = Command::new(server).args(["--no-defaults", "--version"]).output().unwrap();
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let version =
        version.split_whitespace().find(|word| word.starts_with(|letter: char| letter.is_ascii_digit()));
    made_once(&format!("mariadb-{}", version.unwrap()), |data| {
        let installed = Command::new(install)
            .args([
                "--no-defaults",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                "--user=root",
            ])
            .arg(format!("--datadir={}", data.display()))
            .args(SMALL)
            .output()
            .unwrap();
        assert!(installed.status.success(), "{installed:?}");
    })
}

/// A running server. It is killed when this is dropped.
#[derive(Debug)]
pub struct MariaDb {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its `server_id`.
    pub id: u32,
    running: Option<Running>,
    options: Vec<String>,
    folder: TempDir,
}

impl MariaDb {
    /// One alone.
    #[track_caller]
    pub fn start() -> Self {
        Self::with(1, &[])
    }

    /// One with this `server_id` and further options.
    #[track_caller]
    pub fn with(id: u32, options: &[&str]) -> Self {
        let at = address();
        let folder = TempDir::new().unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let mut copy = Command::new("cp");
        copy.args(["-a", "--reflink=auto"]).arg(template()).arg(folder.path().join("data"));
        assert!(copy.status().unwrap().success());
        let here = folder.path().display();
        let mut all: Vec<String> = [
            "--no-defaults".to_owned(),
            format!("--datadir={here}/data"),
            format!("--socket={here}/sock"),
            format!("--pid-file={here}/pid"),
            format!("--bind-address={}", at.ip()),
            format!("--port={}", at.port()),
            format!("--server-id={id}"),
        ]
        .into();
        let shared = [
            "--user=root",
            "--log-bin=bin",
            "--log-slave-updates",
            "--relay-log=relay",
            "--relay-log-recovery=1",
            "--binlog-format=ROW",
            "--gtid-strict-mode=1",
            "--local-infile=1",
            "--max-allowed-packet=64M",
            "--plugin-maturity=alpha",
        ];
        all.extend(shared.iter().chain(SMALL).chain(options).map(|option| (*option).to_owned()));
        let mut server = Self { address: at, id, running: None, options: all, folder };
        server.start_again();
        server
    }

    /// Kills it: its connections end at once.
    pub fn stop(&mut self) {
        self.running = None;
    }

    /// Starts it again on the same address and data.
    #[track_caller]
    pub fn start_again(&mut self) {
        let path = program("mariadbd", "mariadb-server");
        let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        let mut running = Running::start("mariadbd", &path, &options, self.folder.path());
        // The socket comes after the address.
        let (at, socket) = (self.address, self.socket());
        running.wait_until("it listens", || is_listening(at) && UnixStream::connect(&socket).is_ok());
        self.running = Some(running);
    }

    /// Its process.
    pub fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    /// Its folder; the data are in `data`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its Unix socket, through which `root` needs no password.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("sock")
    }

    /// Runs statements as `root` with the `mariadb` client: rows as lines, columns between tabs; or the error.
    pub fn ask(&self, sql: &str) -> Result<String, String> {
        let client = program("mariadb", "mariadb-client");
        let socket = format!("--socket={}", self.socket().display());
        let told = Command::new(client)
            .args(["--no-defaults", &socket, "--user=root", "--batch", "--skip-column-names", "-e", sql])
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if told.status.success() { Ok(text(&told.stdout)) } else { Err(text(&told.stderr)) }
    }

    /// The same for statements that must do.
    #[track_caller]
    pub fn sql(&self, sql: &str) -> String {
        self.ask(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Makes a user who may do everything, with [`PASSWORD`].
    #[track_caller]
    pub fn user(&self, name: &str) {
        self.sql(&format!(
            "CREATE USER {name}@'%' IDENTIFIED BY '{PASSWORD}'; GRANT ALL ON *.* TO {name}@'%' WITH GRANT OPTION"
        ));
    }
}

/// A primary and its replicas, which are `read_only`. The primary has the `server_id` 1, the replicas 2 and further.
#[derive(Debug)]
pub struct Replication {
    /// Who takes writes.
    pub primary: MariaDb,
    /// Who follows.
    pub replicas: Vec<MariaDb>,
}

impl Replication {
    /// Starts a primary with so many replicas. There is a user `app`, who may do everything but write to a replica, and a
    /// database `shop`.
    #[track_caller]
    pub fn start(replicas: u32) -> Self {
        Self::with(replicas, &[])
    }

    /// The same with further options for all.
    #[track_caller]
    pub fn with(replicas: u32, options: &[&str]) -> Self {
        let primary = MariaDb::with(1, options);
        primary.sql(&format!(
            "CREATE USER repl@'%' IDENTIFIED BY '{PASSWORD}'; GRANT REPLICATION SLAVE ON *.* TO repl@'%';
             CREATE USER app@'%' IDENTIFIED BY '{PASSWORD}'; GRANT ALL ON *.* TO app@'%';
             REVOKE SUPER, READ_ONLY ADMIN ON *.* FROM app@'%';
             CREATE DATABASE shop"
        ));
        let options = [options, &["--read-only=1"]].concat();
        let replicas = (0..replicas).map(|index| MariaDb::with(2 + index, &options)).collect();
        let all = Self { primary, replicas };
        for replica in &all.replicas {
            all.follow(replica);
        }
        all.wait();
        all
    }

    /// Makes a server follow the primary.
    #[track_caller]
    pub fn follow(&self, replica: &MariaDb) {
        let at = self.primary.address;
        replica.sql(&format!(
            "CHANGE MASTER TO MASTER_HOST='{}', MASTER_PORT={}, MASTER_USER='repl', MASTER_PASSWORD='{PASSWORD}',
             MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1; START SLAVE",
            at.ip(),
            at.port()
        ));
    }

    /// Waits until every replica has what the primary has now.
    #[track_caller]
    pub fn wait(&self) {
        let position = self.primary.sql("SELECT @@gtid_binlog_pos");
        for replica in &self.replicas {
            let what = format!("replica {} has {position}", replica.id);
            let ask = format!("SELECT MASTER_GTID_WAIT('{position}', 0.5)");
            eventually(&what, || (replica.sql(&ask) == "0").then_some(()));
        }
    }
}
