//! The program under test.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

use super::{Engine, Running, eventually, is_listening};

/// A running ringgate.
#[derive(Debug)]
pub struct Ringgate {
    /// Its process.
    pub running: Running,
    folder: TempDir,
}

impl Ringgate {
    /// Path of the program: the one built for this test, or another build named by `RINGGATE`.
    pub fn program() -> &'static Path {
        static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
        PROGRAM.get_or_init(|| match std::env::var_os("RINGGATE") {
            Some(path) => std::fs::canonicalize(path).unwrap(),
            None => env!("CARGO_BIN_EXE_ringgate").into(),
        })
    }

    /// Whether the program was built with optimisations.
    pub fn is_released() -> bool {
        !cfg!(debug_assertions) || std::env::var_os("RINGGATE").is_some()
    }

    /// Starts it with this configuration and waits until it listens everywhere.
    ///
    /// A configuration without `[workers]` gets two, so that what is global over workers is tested everywhere.
    #[track_caller]
    pub fn start(engine: Engine, config: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("ringgate.toml");
        let mut config = config.to_owned();
        if !config.contains("[workers]") {
            config.push_str("\n[workers]\ncount = 2\n");
        }
        std::fs::write(&file, &config).unwrap();
        let arguments = ["run", file.to_str().unwrap(), "--engine", engine.flag()];
        let mut running = Running::start("ringgate", Self::program(), &arguments, folder.path());
        let listen = listen_addresses(&config);
        running.wait_until("it listens", || listen.iter().all(|address| is_listening(*address)));
        Self { running, folder }
    }

    /// Open descriptors, once their number has not changed for a while: each worker opens its own at the start.
    #[track_caller]
    pub fn settled(&self) -> usize {
        let (mut before, mut same) = (0, 0);
        eventually("the number of descriptors settles", || {
            let now = self.running.descriptors();
            same = if now == before { same + 1 } else { 0 };
            before = now;
            (same == 20).then_some(now)
        })
    }

    /// Its folder: relative paths of its configuration start here.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs it once with these arguments and returns what it said; its configuration file, if given, is `{file}`.
    pub fn once(config: Option<&str>, arguments: &[&str]) -> Once {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("ringgate.toml");
        if let Some(config) = config {
            std::fs::write(&file, config).unwrap();
        }
        let arguments: Vec<String> =
            arguments.iter().map(|word| word.replace("{file}", file.to_str().unwrap())).collect();
        let Output { status, stdout, stderr } = Command::new(Self::program())
            .args(arguments)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        Once {
            code: status.code(),
            stdout: String::from_utf8(stdout).unwrap(),
            stderr: String::from_utf8(stderr).unwrap(),
            file,
        }
    }
}

/// What a run that ended said.
#[derive(Debug)]
pub struct Once {
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// The configuration file that it was given.
    pub file: PathBuf,
}

impl Once {
    /// Both outputs.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// The configuration of one plain HTTP block `main` with one pool `main`.
///
/// `http` and `pool` are further lines of the two blocks.
pub fn site(at: SocketAddr, http: &str, pool: &str, servers: &[SocketAddr]) -> String {
    let mut list = String::new();
    for server in servers {
        write!(list, "{{ address = \"{server}\" }}, ").unwrap();
    }
    let routes = if http.contains("routes") { "" } else { "routes = [ { pool = \"main\" } ]" };
    format!(
        "[http.main]\nlisten = [\"{at}\"]\n{routes}\n{http}\n\n[pool.main]\nservers = [ {list} ]\n{pool}\n"
    )
}

/// All IPv4 addresses under `listen` of a configuration.
fn listen_addresses(config: &str) -> Vec<SocketAddr> {
    let table: toml::Table = config.parse().unwrap();
    let mut addresses = Vec::new();
    for kind in ["http", "tcp", "sql"] {
        let Some(blocks) = table.get(kind).and_then(|blocks| blocks.as_table()) else { continue };
        for block in blocks.values() {
            let listen = block.get("listen").and_then(|listen| listen.as_array()).into_iter().flatten();
            let parsed = listen.filter_map(|address| address.as_str()?.parse::<SocketAddr>().ok());
            addresses.extend(parsed.filter(SocketAddr::is_ipv4));
        }
    }
    addresses
}
