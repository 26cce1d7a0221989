//! Oracle MySQL 9 servers: a primary with replicas.
//!
//! `tests/mysql9` unpacks the packages into the target folder; the programs run with the loader and the libraries that
//! came with them. Where they are not, [`MySql::is_there`] says so, and the test has nothing to show. The data folder is
//! made once for all tests and copied.

use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use super::{PASSWORD, Running, address, eventually, is_listening, made_once};

/// What keeps a server small and its start quick.
const SMALL: &[&str] = &[
    "--innodb-buffer-pool-size=8M",
    "--innodb-redo-log-capacity=8M",
    "--innodb-log-buffer-size=2M",
    "--innodb-flush-log-at-trx-commit=2",
    "--innodb-doublewrite=0",
    "--innodb-use-native-aio=0",
    "--sync-binlog=0",
    "--key-buffer-size=1M",
    "--performance-schema=0",
    "--mysqlx=0",
    "--skip-name-resolve",
];

/// The folder into which the packages were unpacked.
fn root() -> Option<PathBuf> {
    let folder = match std::env::var_os("RINGGATE_MYSQL") {
        Some(folder) => PathBuf::from(folder),
        // The folder of temporary files of tests is in the target folder.
        None => Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?.join("mysql9"),
    };
    let root = folder.join("root");
    root.join("usr/sbin/mysqld").is_file().then_some(root)
}

/// How a program of the packages is started.
fn command(root: &Path, program: &str) -> (PathBuf, Vec<String>) {
    let libraries = root.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH));
    let mut files = std::fs::read_dir(&libraries).unwrap().map(|entry| entry.unwrap().path());
    let is_loader = |file: &PathBuf| file.file_name().unwrap().to_string_lossy().starts_with("ld-linux-");
    let loader = files.find(is_loader).unwrap();
    let path = root.join("usr").join(program);
    let words = ["--library-path", libraries.to_str().unwrap(), path.to_str().unwrap(), "--no-defaults"];
    (loader, words.map(str::to_owned).into())
}

/// A data folder with nothing but the server's own tables.
fn template(root: &Path) -> PathBuf {
    let (loader, words) = command(root, "sbin/mysqld");
    let version = Command::new(&loader).args(&words).arg("--version").output().unwrap();
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let version = version.split_whitespace().skip_while(|word| *word != "Ver").nth(1).unwrap().to_owned();
    made_once(&format!("mysql-{version}"), |data| {
        let installed = Command::new(&loader)
            .args(&words)
            .args(["--initialize-insecure", "--user=root"])
            .args([format!("--datadir={}", data.display()), format!("--basedir={}/usr", root.display())])
            .args(SMALL)
            .output()
            .unwrap();
        assert!(installed.status.success(), "{installed:?}");
        // What tells servers apart is made at the first start.
        std::fs::remove_file(data.join("auto.cnf")).unwrap();
    })
}

/// A running server. It is killed when this is dropped.
#[derive(Debug)]
pub struct MySql {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its `server_id`.
    pub id: u32,
    root: PathBuf,
    running: Option<Running>,
    options: Vec<String>,
    folder: TempDir,
}

impl MySql {
    /// Whether there is a MySQL to test with; says so if not.
    pub fn is_there() -> bool {
        let is_there = root().is_some();
        if !is_there {
            eprintln!(
                "SKIPPED: there is no MySQL 9 (tests/mysql9 fetches it, or RINGGATE_MYSQL names its folder)"
            );
        }
        is_there
    }

    /// Begins to start one with this `server_id` and further options.
    #[track_caller]
    fn with(id: u32, options: &[&str]) -> Self {
        let root = root().unwrap();
        let at = address();
        let folder = TempDir::new().unwrap();
        let mut copy = Command::new("cp");
        copy.args(["-a", "--reflink=auto"]).arg(template(&root)).arg(folder.path().join("data"));
        assert!(copy.status().unwrap().success());
        let here = folder.path().display();
        let (_, mut all) = command(&root, "sbin/mysqld");
        all.extend([
            format!("--basedir={}/usr", root.display()),
            format!("--plugin-dir={}/usr/lib/mysql/plugin", root.display()),
            format!("--datadir={here}/data"),
            format!("--socket={here}/sock"),
            format!("--pid-file={here}/pid"),
            format!("--bind-address={}", at.ip()),
            format!("--port={}", at.port()),
            format!("--server-id={id}"),
        ]);
        let shared = [
            "--user=root",
            "--log-bin=bin",
            "--relay-log=relay",
            "--gtid-mode=ON",
            "--enforce-gtid-consistency=ON",
            "--local-infile=1",
            "--max-allowed-packet=64M",
            "--log-bin-trust-function-creators=1",
            "--general-log-file=general.log",
            "--secure-file-priv=",
        ];
        all.extend(shared.iter().chain(SMALL).chain(options).map(|option| (*option).to_owned()));
        let mut server = Self { address: at, id, root, running: None, options: all, folder };
        server.launch();
        server
    }

    /// Kills it: its connections end at once.
    pub fn stop(&mut self) {
        self.running = None;
    }

    fn launch(&mut self) {
        let (loader, _) = command(&self.root, "sbin/mysqld");
        let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        self.running = Some(Running::start("mysqld", &loader, &options, self.folder.path()));
    }

    #[track_caller]
    fn wait(&mut self) {
        let (at, socket) = (self.address, self.folder.path().join("sock"));
        let listens = || is_listening(at) && UnixStream::connect(&socket).is_ok();
        self.running.as_mut().unwrap().wait_until("it listens", listens);
    }

    /// Starts it again on the same address and data.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.launch();
        self.wait();
    }

    /// Its folder; the data are in `data`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs statements with the `mysql` client: rows as lines, columns between tabs; or the error.
    pub fn client(options: &[&str], sql: &str) -> Result<String, String> {
        let (loader, words) = command(&root().unwrap(), "bin/mysql");
        let plugins = root().unwrap().join("usr/lib/mysql/plugin");
        let Output { status, stdout, stderr } = Command::new(loader)
            .args(words)
            .args([
                "--batch",
                "--skip-column-names",
                "--get-server-public-key",
                "--local-infile=1",
                "--max-allowed-packet=256M",
            ])
            .arg(format!("--plugin-dir={}", plugins.display()))
            .args(options)
            .args(["-e", sql])
            .env("TERM", "dumb")
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        let errors = text(&stderr);
        let errors =
            errors.lines().filter(|line| !line.contains("[Warning] Using a password on the command"));
        let told = text(&stdout);
        if status.success() { Ok(told) } else { Err(told + &errors.collect::<Vec<_>>().join("\n")) }
    }

    /// Runs statements as `root`, who needs no password.
    pub fn ask(&self, sql: &str) -> Result<String, String> {
        let socket = format!("--socket={}/sock", self.folder.path().display());
        Self::client(&[&socket, "--user=root"], sql)
    }

    /// The same for statements that must do.
    #[track_caller]
    pub fn sql(&self, sql: &str) -> String {
        self.ask(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }
}

/// A primary and its replicas, which are `super_read_only`. The primary has the `server_id` 1, the replicas 2 and further.
#[derive(Debug)]
pub struct MySqlReplication {
    /// Who takes writes.
    pub primary: MySql,
    /// Who follows.
    pub replicas: Vec<MySql>,
}

impl MySqlReplication {
    /// Starts a primary with so many replicas. There is a user `app`, who may do everything but write to a replica, and a
    /// database `shop`.
    #[track_caller]
    pub fn with(replicas: u32, options: &[&str]) -> Self {
        let mut primary = MySql::with(1, options);
        let replica_options = [options, &["--super-read-only=1"]].concat();
        let mut followers: Vec<_> =
            (0..replicas).map(|index| MySql::with(2 + index, &replica_options)).collect();
        primary.wait();
        followers.iter_mut().for_each(MySql::wait);
        primary.sql(&format!(
            "CREATE USER repl@'%' IDENTIFIED BY '{PASSWORD}'; GRANT REPLICATION SLAVE ON *.* TO repl@'%';
             CREATE USER app@'%' IDENTIFIED BY '{PASSWORD}'; GRANT ALL ON *.* TO app@'%';
             REVOKE SUPER, CONNECTION_ADMIN ON *.* FROM app@'%';
             CREATE DATABASE shop"
        ));
        let all = Self { primary, replicas: followers };
        for replica in &all.replicas {
            Self::follow(replica, &all.primary);
        }
        all.wait();
        all
    }

    /// All of them.
    pub fn servers(&self) -> impl Iterator<Item = &MySql> {
        [&self.primary].into_iter().chain(&self.replicas)
    }

    /// Makes a server follow another.
    #[track_caller]
    pub fn follow(replica: &MySql, source: &MySql) {
        let at = source.address;
        replica.sql(&format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST='{}', SOURCE_PORT={}, SOURCE_USER='repl',
             SOURCE_PASSWORD='{PASSWORD}', SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1, SOURCE_CONNECT_RETRY=1;
             START REPLICA",
            at.ip(),
            at.port()
        ));
    }

    /// Waits until every replica has what the primary has now.
    #[track_caller]
    pub fn wait(&self) {
        let position = self.primary.sql("SELECT @@global.gtid_executed").replace("\\n", "");
        for replica in &self.replicas {
            let what = format!("replica {} has {position}", replica.id);
            let ask = format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{position}', 0.5)");
            eventually(&what, || (replica.sql(&ask) == "0").then_some(()));
        }
    }
}
