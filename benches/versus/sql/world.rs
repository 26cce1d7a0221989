//! What SQL is measured with: a MariaDB primary with one replica, sysbench, and a client of our own.
//!
//! In: a folder, a core, an address. Out: servers that follow each other, and numbers of a load. Owns the servers.
//! Always true: they listen on loopback only, keep their data in the temporary folder, and end with their guard.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use ringgate::mysql::auth::native;
use ringgate::mysql::command::Kind;
use ringgate::mysql::facts::Capabilities;
use ringgate::mysql::handshake::{First, Response};
use ringgate::mysql::packet::{Header, put};

use crate::programs::{self, Outcome, Program};

/// The password of all users here.
const PASSWORD: &str = "versus";
/// Rows of sysbench's table.
const TABLE_ROWS: u32 = 10_000;
/// Rows of the large result, of 1 MiB each.
pub const LARGE_ROWS: usize = 100;
/// Client threads of sysbench.
const THREADS: u32 = 8;
/// How long a replica may take to follow.
const FOLLOW_TIME: Duration = Duration::from_secs(60);

/// The programs.
#[derive(Debug)]
pub struct Paths {
    server: PathBuf,
    install: PathBuf,
    client: PathBuf,
    sysbench: PathBuf,
}

impl Paths {
    /// From the search path.
    pub fn find() -> Outcome<Self> {
        let find = |name: &str| {
            programs::find_in_path(name)
                .map_err(|_| format!("{name} is missing: apt-get install -y mariadb-server sysbench haproxy"))
        };
        Ok(Self {
            server: find("mariadbd")?,
            install: find("mariadb-install-db")?,
            client: find("mariadb")?,
            sysbench: find("sysbench")?,
        })
    }

    /// The versions, for the report.
    pub fn facts(&self) -> [(&'static str, String); 2] {
        [
            ("Server", programs::line_of(&self.server, "--version", "Ver")),
            ("Load", programs::line_of(&self.sysbench, "--version", "sysbench")),
        ]
    }
}

/// A primary and its replica.
pub struct World {
    paths: Paths,
    core: usize,
    folder: PathBuf,
    /// The port of the primary.
    pub primary: u16,
    /// The port of the replica.
    pub replica: u16,
    servers: Vec<Program>,
}

impl World {
    /// Starts both on a core, with sysbench's table and the large one.
    pub fn start(paths: Paths, core: usize, folder: &Path) -> Outcome<Self> {
        let folder = folder.join("sql");
        fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        let [primary, replica] = programs::free_ports()?;
        let mut world = Self { paths, core, folder, primary, replica, servers: Vec::new() };
        let data = format!("--datadir={}", world.path("1").display());
        let words = [
            "--no-defaults",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--user=root",
            &data,
        ];
        run(&world.paths.install, &words)?;
        run(Path::new("cp"), &[OsStr::new("-a"), world.path("1").as_ref(), world.path("2").as_ref()])?;
        for (id, port, options) in [("1", primary, &[][..]), ("2", replica, &["--read-only=1"])] {
            let server = world.serve(id, port, options)?;
            world.servers.push(server);
        }
        world.fill()?;
        Ok(world)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn serve(&self, id: &str, port: u16, options: &[&str]) -> Outcome<Program> {
        let here = self.path(id).display().to_string();
        let own = [
            format!("--datadir={here}"),
            format!("--socket={here}.sock"),
            format!("--pid-file={here}.pid"),
            format!("--port={port}"),
            format!("--server-id={id}"),
        ];
        let shared = [
            "--no-defaults",
            "--user=root",
            "--bind-address=127.0.0.1",
            "--log-bin=bin",
            "--log-slave-updates",
            "--relay-log=relay",
            "--binlog-format=ROW",
            "--gtid-strict-mode=1",
            "--max-connections=4000",
            "--max-allowed-packet=64M",
            "--innodb-buffer-pool-size=256M",
            "--innodb-flush-log-at-trx-commit=2",
            "--innodb-doublewrite=0",
            "--sync-binlog=0",
            "--skip-name-resolve",
        ];
        let mut words: Vec<&OsStr> = vec![self.paths.server.as_ref()];
        words.extend(shared.map(OsStr::new));
        words.extend(own.iter().map(OsStr::new));
        words.extend(options.iter().map(OsStr::new));
        let log = self.path(&format!("{id}.log"));
        let mut server = Program::start("mariadbd", self.core, &words, &log)?;
        server.wait_ready(&[port])?;
        Ok(server)
    }

    /// Runs statements as `root`.
    fn sql(&self, id: &str, sql: &str) -> Outcome<String> {
        let socket = format!("--socket={}.sock", self.path(id).display());
        let words = ["--no-defaults", &socket, "--user=root", "--batch", "--skip-column-names", "-e", sql];
        run(&self.paths.client, &words)
    }

    fn fill(&self) -> Outcome<()> {
        let port = self.primary;
        let users = ["app", "ringgate", "repl"].map(|user| {
            format!("CREATE USER {user}@'%' IDENTIFIED BY '{PASSWORD}'; GRANT ALL ON *.* TO {user}@'%';")
        });
        self.sql("1", &format!("{} CREATE DATABASE sbtest", users.concat()))?;
        let follow = format!(
            "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={port}, MASTER_USER='repl', MASTER_PASSWORD='{PASSWORD}',
             MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1; START SLAVE"
        );
        self.sql("2", &follow)?;
        self.sysbench(port, "oltp_point_select", &[], "prepare", 1)?;
        self.sql(
            "1",
            &format!(
                "USE sbtest; CREATE TABLE large (a INT PRIMARY KEY, b MEDIUMTEXT);
                 INSERT INTO large SELECT seq, REPEAT('x', 1048576) FROM seq_1_to_{LARGE_ROWS}"
            ),
        )?;
        let position = self.sql("1", "SELECT @@gtid_binlog_pos")?;
        let wait = format!("SELECT MASTER_GTID_WAIT('{position}', {})", FOLLOW_TIME.as_secs());
        if self.sql("2", &wait)? == "0" { Ok(()) } else { Err("the replica does not follow".to_owned()) }
    }

    /// The file with the password of ringgate's account.
    pub fn secret(&self) -> Outcome<PathBuf> {
        let path = self.path("secret");
        fs::write(&path, PASSWORD).map_err(|error| error.to_string())?;
        Ok(path)
    }

    /// The log folder of the proxies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs one of sysbench's tests against a port.
    pub fn sysbench(
        &self,
        port: u16,
        test: &str,
        options: &[&str],
        what: &str,
        seconds: u32,
    ) -> Outcome<String> {
        let own = [
            "--mysql-host=127.0.0.1".to_owned(),
            format!("--mysql-port={port}"),
            "--mysql-user=app".to_owned(),
            format!("--mysql-password={PASSWORD}"),
            format!("--table-size={TABLE_ROWS}"),
            format!("--threads={THREADS}"),
            format!("--time={seconds}"),
        ];
        let mut words: Vec<&OsStr> = vec![self.paths.sysbench.as_ref(), test.as_ref()];
        words.extend(own.iter().map(OsStr::new));
        words.extend(options.iter().map(OsStr::new));
        words.push(what.as_ref());
        let output = programs::run(self.core, &words)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() { Ok(text) } else { Err(format!("sysbench {test} {what}: {text}")) }
    }
}

/// Runs a program to its end; what it printed.
fn run<S: AsRef<OsStr>>(program: &Path, words: &[S]) -> Outcome<String> {
    let output = Command::new(program).args(words).output();
    let output = output.map_err(|error| format!("cannot run {}: {error}", program.display()))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(format!("{}: {}{}", program.display(), text(&output.stdout), text(&output.stderr))),
    }
}

/// A client that has logged in.
pub struct Client {
    socket: BufReader<TcpStream>,
    payload: Vec<u8>,
}

impl Client {
    /// Logs in as `app`.
    pub fn connect(port: u16) -> Outcome<Self> {
        let socket = TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())?;
        socket.set_read_timeout(Some(FOLLOW_TIME)).map_err(|error| error.to_string())?;
        let mut client = Self { socket: BufReader::with_capacity(1 << 16, socket), payload: Vec::new() };
        client.read(true)?;
        let Ok(First::Greeting(greeting)) = First::parse(&client.payload) else {
            return Err("the server does not greet".to_owned());
        };
        let answer = native::answer(&native::secret_of(PASSWORD.as_bytes()), &greeting.scramble);
        let response = Response {
            capabilities: Capabilities::PROTOCOL_41
                | Capabilities::SECURE_CONNECTION
                | Capabilities::PLUGIN_AUTH
                | Capabilities::TRANSACTIONS
                | Capabilities::CONNECT_WITH_DB,
            packet_bytes_max: 1 << 24,
            collation: 45,
            user: b"app",
            answer: &answer,
            database: b"sbtest",
            plugin: b"mysql_native_password",
            attributes: b"",
            zstd_level: 0,
        };
        client.send(1, |out| response.write(out))?;
        client.read(true)?;
        if client.payload.first() == Some(&0) { Ok(client) } else { Err(client.complaint("the login")) }
    }

    fn complaint(&self, what: &str) -> String {
        format!("{what} failed: {}", String::from_utf8_lossy(&self.payload))
    }

    fn send(&mut self, mut sequence: u8, fill: impl FnOnce(&mut Vec<u8>)) -> Outcome<()> {
        let mut out = Vec::new();
        put(&mut out, &mut sequence, fill);
        self.socket.get_mut().write_all(&out).map_err(|error| error.to_string())
    }

    /// Reads a packet; its payload is kept if that is wanted, or if it is short. Its length.
    fn read(&mut self, keep: bool) -> Outcome<usize> {
        let mut head = [0; 4];
        self.socket.read_exact(&mut head).map_err(|error| error.to_string())?;
        let length = Header::from_bytes(head).length;
        self.payload.clear();
        let mut rest = (&mut self.socket).take(length as u64);
        let read = match keep || length < 1024 {
            true => rest.read_to_end(&mut self.payload).map(|bytes| bytes as u64),
            false => std::io::copy(&mut rest, &mut std::io::sink()),
        };
        match read {
            Ok(read) if read == length as u64 => Ok(length),
            Ok(_) => Err("the connection ended in a packet".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Runs a query whose answer is a result set; the bytes of its rows and how many there were.
    pub fn query(&mut self, sql: &str) -> Outcome<(usize, usize)> {
        self.send(0, |out| {
            out.push(Kind::Query as u8);
            out.extend_from_slice(sql.as_bytes());
        })?;
        self.read(true)?;
        if self.payload.first() == Some(&0xff) {
            return Err(self.complaint(sql));
        }
        let (mut ends, mut rows, mut bytes) = (0, 0, 0);
        while ends < 2 {
            let length = self.read(false)?;
            match self.payload.first() {
                Some(0xff) => return Err(self.complaint(sql)),
                Some(0xfe) if length < 9 => ends += 1,
                _ if ends == 1 => (rows, bytes) = (rows + 1, bytes + length),
                _ => {}
            }
        }
        Ok((rows, bytes))
    }
}

/// Waits until reads go to the replica.
pub fn wait_for_replica(port: u16) -> Outcome<()> {
    let until = Instant::now() + FOLLOW_TIME;
    loop {
        let asked = Client::connect(port).and_then(|mut client| {
            client.query("SELECT 1 FROM (SELECT @@server_id AS id) AS one WHERE id = 2").map(|(rows, _)| rows)
        });
        match asked {
            Ok(1) => return Ok(()),
            Err(why) if Instant::now() > until => return Err(why),
            Ok(_) if Instant::now() > until => return Err("the replica gets no reads".to_owned()),
            _ => thread::sleep(Duration::from_millis(100)),
        }
    }
}
