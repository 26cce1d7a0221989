//! A program that runs while a test does.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::{PATIENCE, eventually, now, program};

/// A started program. It is killed, by its process id, when this is dropped or the test's thread ends.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Running {
    /// Starts `path` with `arguments` in `folder`; what it prints goes to files there.
    pub fn start(name: &str, path: &Path, arguments: &[&str], folder: &Path) -> Self {
        let stdout = folder.join(format!("{name}.out"));
        let stderr = folder.join(format!("{name}.err"));
        // setpriv becomes the program; the program dies with the test even if the test is killed.
        let child = Command::new(program("setpriv", "util-linux"))
            .args(["--pdeathsig", "KILL", "--"])
            .arg(path)
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(File::create(&stdout).unwrap())
            .stderr(OpenOptions::new().create(true).append(true).open(&stderr).unwrap())
            .spawn()
            .unwrap();
        Self { name: name.into(), child, stdout, stderr }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it printed to its standard output so far.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.stdout).unwrap()).into_owned()
    }

    /// What it printed to its standard error so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.stderr).unwrap()).into_owned()
    }

    /// Everything that it printed so far.
    pub fn text(&self) -> String {
        self.stdout() + &self.stderr()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let what = format!("{} ends", self.name);
        eventually(&what, || self.ended())
    }

    /// Sends it a signal by name: `TERM`, `KILL`, `STOP`, `CONT` ...
    pub fn signal(&self, signal: &str) {
        let kill = format!("kill -{signal} {}", self.pid());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success(), "{kill}");
    }

    /// Kills it and waits for its end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Open descriptors.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// A value of `/proc/PID/status` in KiB: `VmRSS`, `VmHWM` ...
    pub fn memory_kib(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:"))).unwrap();
        line.trim().trim_end_matches("kB").trim().parse().unwrap()
    }

    /// Processor time used so far by the threads whose names begin with `name`, user and system, exact to the
    /// nanosecond (`schedstat`) where the ticks of `/proc/PID/stat` are samples.
    pub fn processor_time(&self, name: &str) -> Duration {
        let (mut nanoseconds, mut threads) = (0, 0);
        for task in std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap() {
            let task = task.unwrap().path();
            // It may have ended meanwhile.
            let Ok(comm) = std::fs::read_to_string(task.join("comm")) else { continue };
            let Ok(stat) = std::fs::read_to_string(task.join("schedstat")) else { continue };
            if comm.starts_with(name) {
                threads += 1;
                nanoseconds += stat.split(' ').next().unwrap().parse::<u64>().unwrap();
            }
        }
        assert!(threads > 0, "no thread is called {name}");
        Duration::from_nanos(nanoseconds)
    }

    /// Waits until `ready`, and fails with what the program said when it ends before or takes too long.
    #[track_caller]
    pub fn wait_until(&mut self, what: &str, ready: impl Fn() -> bool) {
        let start = now();
        while !ready() {
            if let Some(status) = self.ended() {
                panic!("{} ended ({status}) before {what}:\n{}", self.name, self.text());
            }
            assert!(
                start.elapsed() < PATIENCE,
                "{}: waited in vain until {what}:\n{}",
                self.name,
                self.text()
            );
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let text = self.text();
            let lines: Vec<&str> = text.lines().collect();
            let tail = &lines[lines.len().saturating_sub(30)..];
            if !tail.is_empty() {
                eprintln!("--- {} printed:\n{}\n---", self.name, tail.join("\n"));
            }
        }
    }
}
