//! Profiles: `perf record` beside the load, and the 40 hottest functions as text.
//!
//! In: the proxy's process id. Out: `NAME.data` and `NAME.txt` in the output folder. Owns the running perf. Always
//! true: perf runs on the load's core; numbers taken beside it are a little high.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::measure;
use crate::programs::{self, Outcome, Program};

/// Samples per second.
const FREQUENCY: &str = "997";
/// Lines of the report that are kept.
const LINES: usize = 40;

/// A running `perf record`.
pub struct Recording {
    perf: PathBuf,
    program: Program,
    core: usize,
    seconds: u32,
    data: PathBuf,
    text: PathBuf,
}

impl Recording {
    /// Records the process and its children for `seconds`.
    pub fn start(folder: &Path, name: &str, pid: u32, core: usize, seconds: u32) -> Outcome<Self> {
        let perf = programs::find("PERF", "perf")
            .map_err(|_| "perf is missing: apt-get install -y linux-perf".to_owned())?;
        let (data, text) = (folder.join(format!("{name}.data")), folder.join(format!("{name}.txt")));
        let pids: Vec<String> = measure::family(pid).iter().map(u32::to_string).collect();
        let (pids, seconds_word) = (pids.join(","), seconds.to_string());
        let mut words: Vec<&OsStr> = vec![perf.as_ref()];
        words.extend(
            ["record", "-q", "-e", "cpu-clock", "-F", FREQUENCY, "-g", "-p", &pids, "-o"].map(OsStr::new),
        );
        words.push(data.as_ref());
        words.extend(["--", "sleep", &seconds_word].map(OsStr::new));
        let program = Program::start("perf", core, &words, &folder.join(format!("{name}.log")))?;
        Ok(Self { program, core, seconds, data, text, perf })
    }

    /// Waits for its end and writes the report.
    pub fn finish(mut self) -> Outcome<()> {
        self.program.wait(Duration::from_secs(u64::from(self.seconds) + 20))?;
        let mut words: Vec<&OsStr> = vec![self.perf.as_ref()];
        words.extend(["report", "--stdio", "--no-children", "-g", "none", "-i"].map(OsStr::new));
        words.push(self.data.as_ref());
        let output = programs::run(self.core, &words)?;
        let text = String::from_utf8_lossy(&output.stdout);
        fs::write(&self.text, hottest(&text))
            .map_err(|error| format!("cannot write {}: {error}", self.text.display()))
    }
}

/// The first lines of a report that are neither empty nor comments, after the last line that names the columns.
fn hottest(report: &str) -> String {
    let columns = report.lines().filter(|line| line.starts_with("# Overhead"));
    let rows = report.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()).take(LINES);
    columns.chain(rows).map(|line| format!("{}\n", line.trim_end())).collect()
}

#[cfg(test)]
#[allow(unused, reason = "only tests.rs has a harness")]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_columns_and_the_first_rows() {
        let rows: String = (0..100).map(|n| format!("  {n}.00%  nginx  [k] f{n}   \n\n")).collect();
        let text = hottest(&format!("# To display\n#\n# Overhead  Command\n# ........\n\n{rows}"));
        assert_eq!(text.lines().count(), 1 + LINES);
        assert!(text.starts_with("# Overhead  Command\n  0.00%  nginx  [k] f0\n"));
    }
}
