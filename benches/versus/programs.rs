//! Starting and ending other programs: the origin, the proxies, wrk, perf.
//!
//! In: a command line and a core. Out: a `Program` that ends when it is dropped. Owns the list of everything that
//! runs. Always true: each program started here is ended on every way out: when its guard is dropped (also by a
//! panic), by the signal thread on Ctrl-C and SIGTERM, and by the kernel if this process is killed (parent-death
//! signal). Only process ids that were started here get a signal.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::measure;

/// A result whose error is a sentence for the person at the terminal.
pub type Outcome<T> = Result<T, String>;

/// Process ids that run, and the temporary folder to remove.
static RUNNING: Mutex<Vec<u32>> = Mutex::new(Vec::new());
static FOLDER: Mutex<Option<PathBuf>> = Mutex::new(None);
/// What the session's scheduling group had as its nice value before `Preferred` changed it.
static GROUP_NICE: Mutex<Option<String>> = Mutex::new(None);

/// How long a program may take to get ready.
const READY_TIME: Duration = Duration::from_secs(10);
/// How long a program may take to end after SIGTERM.
const END_TIME: Duration = Duration::from_secs(5);

/// A running program.
pub struct Program {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts a program on one core; what it prints goes to `log`.
    pub fn start(name: &str, core: usize, words: &[&OsStr], log: &Path) -> Outcome<Self> {
        let open = || File::create(log).map_err(|error| format!("cannot write {}: {error}", log.display()));
        let out = open()?;
        let err = out.try_clone().map_err(|error| error.to_string())?;
        let child = pinned(core, words)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .map_err(|error| format!("cannot start {name}: {error}"))?;
        register(child.id());
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// The process id: that of the program itself, which the starting commands were replaced by.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until all the ports accept.
    pub fn wait_ready(&mut self, ports: &[u16]) -> Outcome<()> {
        let deadline = Instant::now() + READY_TIME;
        for &port in ports {
            while TcpStream::connect(("127.0.0.1", port)).is_err() {
                self.check_alive()?;
                if Instant::now() > deadline {
                    return Err(format!(
                        "{} does not accept on port {port}:\n{}",
                        self.name,
                        self.log_tail()
                    ));
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
        self.check_alive()
    }

    /// An error with the end of its log when the program has ended.
    pub fn check_alive(&mut self) -> Outcome<()> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => {
                Err(format!("{} ended by itself ({status}):\n{}", self.name, self.log_tail()))
            }
            Err(error) => Err(format!("cannot ask for {}: {error}", self.name)),
        }
    }

    fn log_tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// Waits for the program's own end.
    pub fn wait(&mut self, at_most: Duration) -> Outcome<()> {
        let deadline = Instant::now() + at_most;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                return Err(format!("{} does not end", self.name));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let family = measure::family(self.child.id());
            signal("TERM", &[self.child.id()]);
            if self.wait(END_TIME).is_err() {
                signal("KILL", &family);
            }
        }
        // Reaped either way, so that its id cannot be given to another process while it is on the list.
        let _ = self.child.wait();
        forget(self.child.id());
    }
}

/// A command that runs on one core and gets SIGTERM when this process dies. Both helpers replace themselves by the
/// next command, so the process id stays.
fn pinned(core: usize, words: &[&OsStr]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "taskset", "-c", &core.to_string()]).args(words);
    command
}

/// Runs a program on one core to its end and returns what it printed.
pub fn run(core: usize, words: &[&OsStr]) -> Outcome<Output> {
    let child = pinned(core, words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start {}: {error}", words[0].display()))?;
    let pid = child.id();
    register(pid);
    let output = child.wait_with_output().map_err(|error| error.to_string());
    forget(pid);
    output
}

fn register(pid: u32) {
    if let Ok(mut running) = RUNNING.lock() {
        running.push(pid);
    }
}

fn forget(pid: u32) {
    if let Ok(mut running) = RUNNING.lock() {
        running.retain(|other| *other != pid);
    }
}

fn signal(name: &str, pids: &[u32]) {
    let words = pids.iter().map(u32::to_string);
    let _ = Command::new("kill").arg("-s").arg(name).args(words).stderr(Stdio::null()).status();
}

/// From now on Ctrl-C, SIGTERM and SIGHUP end everything that was started, remove `folder` and exit.
pub fn end_all_on_signals(folder: &Path) -> Outcome<()> {
    if let Ok(mut slot) = FOLDER.lock() {
        *slot = Some(folder.to_owned());
    }
    let mut signals =
        Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(|error| format!("cannot watch signals: {error}"))?;
    thread::spawn(move || {
        if let Some(number) = signals.forever().next() {
            end_all();
            std::process::exit(128 + number);
        }
    });
    Ok(())
}

/// While it lives, the kernel prefers this terminal session's programs to all others. Linux schedules sessions as
/// groups (sched(7), autogroup): the nice value of a process counts only within its own session.
pub struct Preferred;

const GROUP: &str = "/proc/self/autogroup";

impl Preferred {
    /// Asks for it. Needs root.
    pub fn start() -> Outcome<Self> {
        // Such as "/autogroup-11 nice 0"; hosts without the feature go by the processes' own nice values.
        let before = fs::read_to_string(GROUP).unwrap_or_default();
        if let Some(nice) = before.split_ascii_whitespace().next_back() {
            fs::write(GROUP, "-15").map_err(|error| format!("cannot raise the priority: {error}"))?;
            if let Ok(mut slot) = GROUP_NICE.lock() {
                *slot = Some(nice.to_owned());
            }
        }
        Ok(Self)
    }
}

impl Drop for Preferred {
    fn drop(&mut self) {
        restore_group();
    }
}

fn restore_group() {
    if let Ok(Some(nice)) = GROUP_NICE.lock().map(|mut slot| slot.take()) {
        let _ = fs::write(GROUP, nice);
    }
}

/// The list stays locked: nothing is started or taken off it any more, the process exits next.
fn end_all() {
    let Ok(running) = RUNNING.lock() else { return };
    restore_group();
    let families: Vec<u32> = running.iter().flat_map(|pid| measure::family(*pid)).collect();
    signal("TERM", &running);
    thread::sleep(Duration::from_millis(500));
    let left: Vec<u32> =
        families.into_iter().filter(|pid| Path::new(&format!("/proc/{pid}")).exists()).collect();
    if !left.is_empty() {
        signal("KILL", &left);
    }
    if let Ok(Some(folder)) = FOLDER.lock().as_deref() {
        let _ = fs::remove_dir_all(folder);
    }
    std::mem::forget(running);
}

/// Loopback ports that are free now. They are chosen together, so they differ.
pub fn free_ports<const N: usize>() -> Outcome<[u16; N]> {
    let mut held = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| format!("no free port: {error}"))?;
        *port = listener.local_addr().map_err(|error| error.to_string())?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// The program that `variable` names, or else `default` from the search path (system folders included).
pub fn find(variable: &str, default: &str) -> Outcome<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        let path = PathBuf::from(path);
        return if path.is_file() {
            Ok(path)
        } else {
            Err(format!("{variable}={} is not a file", path.display()))
        };
    }
    find_in_path(default)
}

/// A program from the search path (system folders included).
pub fn find_in_path(name: &str) -> Outcome<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    folders
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .ok_or_else(|| format!("{name} is missing: apt-get install -y nginx-light haproxy wrk"))
}

/// The first line that a program prints for `argument`, on either stream, that contains `word`.
pub fn line_of(program: &Path, argument: &str, word: &str) -> String {
    let Ok(output) = Command::new(program).arg(argument).stdin(Stdio::null()).output() else {
        return String::new();
    };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    text.lines().find(|line| line.contains(word)).unwrap_or_default().trim().to_owned()
}
