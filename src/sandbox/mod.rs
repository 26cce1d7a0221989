//! The sandbox: after its start the process gives up, for good, whatever it does not need to serve.
//!
//! What goes in: a configuration. What comes out: a process that is another user ([`drop_privileges`]), and that can
//! make few system calls and see few files ([`enter`]); [`Note`]s about what this kernel cannot do. It owns nothing.
//! Always true: both are called while the process has one thread, so that every later one is bound by them too; what is
//! given up does not come back, not even in a program that this one starts.
//!
//! | what | how | where the kernel cannot |
//! |---|---|---|
//! | root | user, group, supplementary groups; verified | an error |
//! | capabilities | all but binding low ports, bounding and ambient sets too | an error |
//! | system calls | seccomp: a list of those that serve; see `calls.rs` | a note, or an error with `sandbox = "on"` |
//! | files | Landlock: the folders that the configuration names; see `files.rs` | the same |
//! | io_uring | each worker's ring refuses other operations; see [`crate::ring::uring`] | a note |

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::config::model::{Config, Engine, Sandbox};
use crate::ring;

mod calls;
mod files;
mod program;
mod user;

pub use files::{Access, Right, paths};
pub use program::program;

/// Something that whoever runs the process should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note(pub String);

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why the process must not start. The text says what was tried, why it failed, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(String);

impl Error {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

/// Whether [`enter`] succeeded, here or in the process that started this one.
static IN_FORCE: AtomicBool = AtomicBool::new(false);

/// Whether the process is in the sandbox.
pub fn in_force() -> bool {
    IN_FORCE.load(Ordering::Relaxed)
}

/// What to say where a file cannot be opened (EACCES) in a process that is in the sandbox; `None` outside of it.
pub fn advice() -> Option<&'static str> {
    in_force().then_some(
        "the sandbox shows this process the folders that its configuration named when it was started, and no others: use \
         one of them, or restart it",
    )
}

/// Becomes `[process] user` when started as root, and gives up every capability but that of binding ports below 1024.
/// To be called when all sockets listen, before there is a second thread. Files that a later reload could not read any
/// more are noted. Errors: an unknown user, another user than the one it was started as, or the kernel refuses.
pub fn drop_privileges(config: &Config) -> Result<Vec<Note>, Error> {
    single_thread()?;
    user::drop_privileges(config)
}

/// Enters the sandbox: few system calls, few files. `config_file` is what a reload will read. `inherited` is true for a
/// program that was started by its predecessor from inside the sandbox: then it is in force already, for this process too,
/// and must not be stacked once more (the kernel allows 16 layers). To be called after [`drop_privileges`], before there
/// is a second thread. Errors: with `sandbox = "on"`, what is a note otherwise: the kernel cannot do it.
pub fn enter(config: &Config, config_file: Option<&Path>, inherited: bool) -> Result<Vec<Note>, Error> {
    if config.process.sandbox == Sandbox::Off {
        return Ok(Vec::new());
    }
    if inherited {
        IN_FORCE.store(true, Ordering::Relaxed);
        return Ok(Vec::new());
    }
    single_thread()?;
    let mut notes = Vec::new();
    // Asked before system calls are filtered, as a new worker would be.
    if config.workers.engine != Engine::Epoll && ring::probe().is_ok() && !ring::restricts() {
        notes.push(Note("this kernel does not restrict io_uring to the operations in use".into()));
    }
    // The next version may be reached by another path than this one was: `ringgate` a link that is pointed elsewhere.
    let programs: Vec<_> = [program(), std::env::current_exe().ok()].into_iter().flatten().collect();
    let list = files::paths(config, config_file, &programs);
    let mut parts = [files::confine(&list), calls::filter()].into_iter();
    parts.try_for_each(|part| judge(config.process.sandbox, part, &mut notes))?;
    IN_FORCE.store(true, Ordering::Relaxed);
    Ok(notes)
}

/// What came of asking the kernel for a part of the sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// It is in force.
    Whole,
    /// It is in force as far as this kernel knows it.
    Partly(&'static str),
    /// It is not in force.
    Missing(String),
}

/// A part that is missing is a note, or the end.
fn judge(wanted: Sandbox, outcome: Outcome, notes: &mut Vec<Note>) -> Result<(), Error> {
    match outcome {
        Outcome::Whole => {}
        Outcome::Partly(what) => notes.push(Note(what.into())),
        Outcome::Missing(why) if wanted == Sandbox::On => {
            return Err(Error::new(format!("{why}; [process] sandbox = \"auto\" would go on without it")));
        }
        Outcome::Missing(why) => notes.push(Note(format!("the sandbox is incomplete: {why}"))),
    }
    Ok(())
}

/// Capabilities and Landlock bind the calling thread and those that it starts, not those that exist already.
fn single_thread() -> Result<(), Error> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads > 1 {
        return Err(Error::new(format!(
            "privileges cannot be dropped for {threads} threads: it must happen before the first is started"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_part_is_a_note_or_the_end() {
        let missing = || Outcome::Missing("no seccomp here".into());
        let cases = [
            (Sandbox::Auto, Outcome::Whole, Ok(vec![])),
            (Sandbox::On, Outcome::Whole, Ok(vec![])),
            (Sandbox::Auto, Outcome::Partly("old"), Ok(vec!["old"])),
            (Sandbox::On, Outcome::Partly("old"), Ok(vec!["old"])),
            (Sandbox::Auto, missing(), Ok(vec!["the sandbox is incomplete: no seccomp here"])),
            (
                Sandbox::On,
                missing(),
                Err("no seccomp here; [process] sandbox = \"auto\" would go on without it"),
            ),
        ];
        for (wanted, outcome, expected) in cases {
            let mut notes = Vec::new();
            let result = judge(wanted, outcome.clone(), &mut notes).map(|()| notes);
            let expected = match expected {
                Ok(texts) => Ok(texts.into_iter().map(|text| Note(text.into())).collect()),
                Err(text) => Err(Error::new(text)),
            };
            assert_eq!(result, expected, "{wanted:?} {outcome:?}");
        }
    }

    #[test]
    fn refuses_to_bind_some_threads_only() {
        // The tests of a binary run on threads of their own.
        let error = drop_privileges(&Config::default()).unwrap_err();
        assert!(error.to_string().contains("before the first is started"), "{error}");
    }

    #[test]
    fn off_is_off() {
        let mut config = Config::default();
        config.process.sandbox = Sandbox::Off;
        assert_eq!(enter(&config, None, false), Ok(vec![]));
        assert!(!in_force() && advice().is_none());
    }
}
