//! Changing the program while it serves: the new version is started with the listening sockets of this one.
//!
//! What goes in: listening sockets. What comes out: in the old process a [`Starting`], then the number of the new process;
//! in the new one the same sockets ([`inherited`]). It owns the new process until that one says that it is ready. Always
//! true: until then the old process serves and nothing has changed; a new version that fails, or says nothing in time, is
//! ended. Between the two no connection waits in a queue that nobody empties: both hold the same sockets.
//!
//! The new process gets copies of the sockets, the writing end of a pipe, the reading end of another one with what was set
//! while running, and one variable that numbers them. It is started
//! from inside the sandbox, which therefore binds it too: what the old version gave up, the new one does not get.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::clock;
use crate::limits::{HANDED_MAX, SETTINGS_BYTES_MAX, UPGRADE_LOOK_TIME};
use crate::ring::{Listening, inherit, inherit_listening, inheritable};
use crate::sandbox;

/// The variable by which a process finds what it inherits: `sandbox=on ready=9 listen=5,6,7 settings=8`, the last one only
/// when there are settings.
const VARIABLE: &str = "RINGGATE_INHERITS";

/// What the new process writes into the pipe.
const READY: &[u8] = b"ready\n";

/// Why there is no new version at work. The old one serves on.
#[derive(Debug)]
pub enum UpgradeError {
    /// The program's file was not found.
    NoProgram,
    /// More listening sockets than are handed over at once.
    TooMany(usize),
    /// The kernel refused.
    Kernel(PathBuf, io::Error),
    /// It ended before it was ready, and wrote to standard error why.
    Ended(PathBuf, std::process::ExitStatus),
    /// It was not ready in time and was ended.
    Slow(PathBuf, Duration),
}

impl fmt::Display for UpgradeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the new version is not at work, the old one serves on: ")?;
        match self {
            Self::NoProgram => f.write_str("the program's file was not found; start it by its full path"),
            Self::TooMany(count) => {
                write!(f, "{count} listening sockets cannot be handed over, {HANDED_MAX} at most; restart it")
            }
            Self::Kernel(path, error) => {
                write!(f, "{} cannot be started: {error}", path.display())?;
                match (error.kind(), sandbox::in_force()) {
                    (io::ErrorKind::PermissionDenied, true) => {
                        f.write_str("; the sandbox allows the program's own folder only")
                    }
                    _ => Ok(()),
                }
            }
            Self::Ended(path, status) => {
                write!(f, "{} has ended ({status}); it wrote to standard error why", path.display())
            }
            Self::Slow(path, time) => {
                write!(f, "{} was not ready within {} s and was ended", path.display(), time.as_secs())
            }
        }
    }
}

impl std::error::Error for UpgradeError {}

/// A new version that was started and is not ready yet. Dropped, it is ended.
#[derive(Debug)]
pub struct Starting {
    path: PathBuf,
    /// `None` once it is on its own.
    child: Option<Child>,
    pipe: PipeReader,
    /// What came through the pipe.
    said: Vec<u8>,
    /// What was set while running, as far as the new process has not got it, and how it gets it.
    settings: Option<(PipeWriter, VecDeque<u8>)>,
}

/// Starts the program's present file, with the arguments of this process and copies of these listening sockets, and
/// leaves it a text. The sockets may be closed here once it is ready. To be called on the control thread, which starts no other programs.
pub fn start<'s>(
    sockets: impl IntoIterator<Item = BorrowedFd<'s>>,
    settings: Vec<u8>,
) -> Result<Starting, UpgradeError> {
    let path = sandbox::program().ok_or(UpgradeError::NoProgram)?;
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    launch(&path, &arguments, sockets, settings)
}

fn launch<'s>(
    path: &Path,
    arguments: &[OsString],
    sockets: impl IntoIterator<Item = BorrowedFd<'s>>,
    settings: Vec<u8>,
) -> Result<Starting, UpgradeError> {
    let refused = |error: io::Error| UpgradeError::Kernel(path.to_owned(), error);
    // Copies that a started program inherits live until the end of this function: no other program is started meanwhile.
    let copies: io::Result<Vec<OwnedFd>> = sockets.into_iter().map(|socket| inheritable(&socket)).collect();
    let copies = copies.map_err(refused)?;
    if copies.len() > HANDED_MAX {
        return Err(UpgradeError::TooMany(copies.len()));
    }
    let (pipe, write) = io::pipe().map_err(refused)?;
    fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|errno| refused(errno.into()))?;
    let write_copy = inheritable(&write).map_err(refused)?;
    let left = (!settings.is_empty()).then(|| leave(settings)).transpose().map_err(refused)?;
    let left_number = left.as_ref().map(|(_, read)| read.as_raw_fd());
    let numbers: Vec<RawFd> = copies.iter().map(AsRawFd::as_raw_fd).collect();
    let mut command = Command::new(path);
    if let Some(name) = std::env::args_os().next() {
        std::os::unix::process::CommandExt::arg0(&mut command, name);
    }
    command
        .args(arguments)
        .env(VARIABLE, describe(sandbox::in_force(), write_copy.as_raw_fd(), &numbers, left_number))
        // Meant for this process: the watchdog's limit itself stays.
        .env_remove("WATCHDOG_PID")
        .env_remove("LISTEN_PID")
        .env_remove("LISTEN_FDS")
        .env_remove("LISTEN_FDNAMES");
    let child = command.spawn().map_err(refused)?;
    let settings = left.map(|(left, _)| left);
    Ok(Starting { path: path.to_owned(), child: Some(child), pipe, said: Vec::new(), settings })
}

type Left = ((PipeWriter, VecDeque<u8>), OwnedFd);

/// A pipe for a text, and the end of it that a started program inherits.
fn leave(text: Vec<u8>) -> io::Result<Left> {
    let (read, write) = io::pipe()?;
    fcntl(&write, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let mut left = (write, text.into());
    // A short one fits at once.
    let _ = push(&mut left);
    Ok((left, inheritable(&read)?))
}

/// Writes what the pipe takes. True when that was all, or nobody reads.
fn push((pipe, text): &mut (PipeWriter, VecDeque<u8>)) -> bool {
    while !text.is_empty() {
        match pipe.write(text.as_slices().0) {
            Ok(count) => drop(text.drain(..count)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
        }
    }
    true
}

impl Starting {
    /// Its process.
    pub fn process(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Waits until the new process is ready, and returns it: from then on it serves, and this process can drain. When it
    /// ends, it is to be waited for. Errors: it ended before, or was not ready in time.
    pub async fn wait(mut self, time: Duration) -> Result<Child, UpgradeError> {
        let until = clock::now() + time;
        loop {
            if let Some(answer) = self.look()? {
                return Ok(answer);
            }
            if clock::now() >= until {
                // Dropping ends it.
                return Err(UpgradeError::Slow(self.path.clone(), time));
            }
            tokio::time::sleep(UPGRADE_LOOK_TIME).await;
        }
    }

    /// The new process if it is ready.
    fn look(&mut self) -> Result<Option<Child>, UpgradeError> {
        // Its end is the end of the text.
        if self.settings.as_mut().is_some_and(push) {
            self.settings = None;
        }
        let mut bytes = [0; 64];
        if let Ok(count) = self.pipe.read(&mut bytes)
            && self.said.len() < bytes.len()
        {
            self.said.extend_from_slice(&bytes[..count]);
        }
        let Some(child) = &mut self.child else { return Ok(None) };
        if self.said.starts_with(READY) {
            return Ok(self.child.take());
        }
        match child.try_wait() {
            Ok(None) => Ok(None),
            Ok(Some(status)) => {
                self.child = None;
                Err(UpgradeError::Ended(self.path.clone(), status))
            }
            Err(error) => Err(UpgradeError::Kernel(self.path.clone(), error)),
        }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What a process got from the version before it.
#[derive(Debug)]
pub struct Inherited {
    /// Listening sockets; an address comes as often as the old process had sockets for it. All of them must be accepted
    /// from: connections wait in each.
    pub listening: Vec<Listening>,
    /// The old process was in the sandbox, and so is this one: see [`sandbox::enter`].
    pub sandboxed: bool,
    /// What was set while the old process was running; empty when nothing was.
    pub settings: Vec<u8>,
    pipe: PipeWriter,
}

impl Inherited {
    /// Tells the old process that this one serves: it drains now.
    pub fn ready(mut self) -> io::Result<()> {
        self.pipe.write_all(READY)
    }
}

/// What the version before handed over; `None` for a process that was started otherwise. To be called once, early.
/// Errors: the variable or a descriptor is not what a ringgate hands over.
pub fn inherited() -> io::Result<Option<Inherited>> {
    let Some(text) = std::env::var_os(VARIABLE) else { return Ok(None) };
    take(&text).map(Some).map_err(|error| {
        let text = format!(
            "{VARIABLE} is set, but not by a ringgate that hands over its sockets: {error}; unset it"
        );
        io::Error::new(error.kind(), text)
    })
}

fn take(text: &OsStr) -> io::Result<Inherited> {
    let parsed = text.to_str().and_then(parse).ok_or(io::ErrorKind::InvalidInput)?;
    let (sandboxed, pipe, numbers, settings) = parsed;
    let listening: io::Result<Vec<Listening>> = numbers.into_iter().map(inherit_listening).collect();
    let mut text = Vec::new();
    if let Some(number) = settings {
        // A bound for what no ringgate leaves; it is an error to whoever reads it.
        File::from(inherit(number)?).take(SETTINGS_BYTES_MAX as u64).read_to_end(&mut text)?;
    }
    Ok(Inherited { listening: listening?, sandboxed, settings: text, pipe: inherit(pipe)?.into() })
}

/// The variable's text.
fn describe(sandboxed: bool, pipe: RawFd, sockets: &[RawFd], settings: Option<RawFd>) -> String {
    let list: Vec<String> = sockets.iter().map(RawFd::to_string).collect();
    let settings = settings.map(|number| format!(" settings={number}")).unwrap_or_default();
    let sandbox = if sandboxed { "on" } else { "off" };
    format!("sandbox={sandbox} ready={pipe} listen={}{settings}", list.join(","))
}

/// Back from the variable's text.
fn parse(text: &str) -> Option<(bool, RawFd, Vec<RawFd>, Option<RawFd>)> {
    let mut words: VecDeque<&str> = text.split(' ').collect();
    let sandboxed = match words.pop_front()?.strip_prefix("sandbox=")? {
        "on" => true,
        "off" => false,
        _ => return None,
    };
    let pipe = words.pop_front()?.strip_prefix("ready=")?.parse().ok()?;
    let list = words.pop_front()?.strip_prefix("listen=")?;
    let numbers = list.split(',').filter(|number| !number.is_empty()).map(|number| number.parse().ok());
    let numbers: Option<Vec<RawFd>> = numbers.collect();
    let settings = match words.pop_front() {
        Some(word) => Some(word.strip_prefix("settings=")?.parse().ok()?),
        None => None,
    };
    numbers
        .filter(|numbers| numbers.len() <= HANDED_MAX && words.is_empty())
        .map(|list| (sandboxed, pipe, list, settings))
}

/// The descriptors of sockets, for [`start`].
pub fn borrowed<A, F: AsFd>(sockets: &[(A, F)]) -> impl Iterator<Item = BorrowedFd<'_>> {
    sockets.iter().map(|(_, fd)| fd.as_fd())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// A new version that is a shell script.
    fn script(text: &str, sockets: &[(u16, TcpListener)]) -> Starting {
        let arguments = ["-c".into(), text.into()];
        launch(Path::new("/bin/sh"), &arguments, borrowed(sockets), Vec::new()).unwrap()
    }

    fn wait(starting: Starting, time: Duration) -> Result<Child, UpgradeError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(starting.wait(time))
    }

    /// Sets `$ready` and `$listen` to the numbers.
    const NUMBERS: &str = "set -- $RINGGATE_INHERITS; ready=${2#ready=}; listen=${3#listen=};";
    const LONG: Duration = Duration::from_secs(10);

    #[test]
    fn the_variable_goes_there_and_back() {
        for (sandboxed, pipe, list, settings) in
            [(true, 9, vec![5, 6], None), (false, 3, vec![], Some(8)), (true, 77, vec![1000], Some(3))]
        {
            let text = describe(sandboxed, pipe, &list, settings);
            assert_eq!(parse(&text), Some((sandboxed, pipe, list, settings)));
        }
        for text in [
            "",
            "x",
            "sandbox=on",
            "sandbox=on ready= listen=",
            "sandbox=on ready=3 listen=a",
            "sandbox=on ready=3 listen=4 5",
            "sandbox=on ready=3 listen=4 settings=",
            "sandbox=on ready=3 listen=4 settings=5 more=6",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_new_version_gets_the_sockets_and_says_that_it_is_ready() {
        let sockets = [(0, TcpListener::bind("127.0.0.1:0").unwrap())];
        // It has the socket, by the number it was told, and no other.
        let text = format!(
            "{NUMBERS} readlink /proc/$$/fd/$listen | grep -q ^socket: || exit 3
             [ $(ls -l /proc/$$/fd | grep -c socket:) = 1 ] || exit 4
             eval \"echo ready >&$ready\"; sleep 0.1"
        );
        let starting = script(&text, &sockets);
        let process = starting.process();
        let mut child = wait(starting, LONG).unwrap();
        assert_eq!(Some(child.id()), process);
        assert!(child.wait().unwrap().success());
    }

    #[test]
    fn a_new_version_gets_a_text_that_no_pipe_holds() {
        let text = format!(
            "{NUMBERS} [ $(cat <&${{4#settings=}} | wc -c) = 1000000 ] || exit 3; eval \"echo ready >&$ready\""
        );
        let arguments = ["-c".into(), text.into()];
        let starting = launch(Path::new("/bin/sh"), &arguments, [], vec![b'x'; 1_000_000]).unwrap();
        assert!(wait(starting, LONG).unwrap().wait().unwrap().success());
    }

    #[test]
    fn a_new_version_that_fails_is_an_error_and_nothing_changes() {
        let sockets = [(0, TcpListener::bind("127.0.0.1:0").unwrap())];
        let error = wait(script("exit 3", &sockets), LONG).unwrap_err().to_string();
        assert!(error.contains("the old one serves on") && error.contains("exit status: 3"), "{error}");
        let error = wait(script("exec sleep 60", &sockets), Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error, UpgradeError::Slow(..)), "{error}");
        let error = launch(Path::new("/nowhere/ringgate"), &[], borrowed(&sockets), Vec::new()).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("/nowhere/ringgate cannot be started: No such file"), "{error}");
        // The copies are closed again.
        let address = sockets[0].1.local_addr().unwrap();
        drop(sockets);
        TcpListener::bind(address).unwrap();
    }

    #[test]
    fn the_new_process_takes_what_it_was_given() {
        use std::os::fd::IntoRawFd;
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut read, write) = io::pipe().unwrap();
        let number = |fd: OwnedFd| fd.into_raw_fd();
        let left = leave(b"weights".to_vec()).unwrap().1;
        let socket_number = number(inheritable(&socket).unwrap());
        let text = describe(true, number(inheritable(&write).unwrap()), &[socket_number], Some(number(left)));
        drop(write);
        let inherited = take(OsStr::new(&text)).unwrap();
        assert!(inherited.sandboxed);
        assert_eq!(inherited.settings, b"weights");
        let address = crate::net::Address::Tcp(socket.local_addr().unwrap());
        assert_eq!(inherited.listening[0].address, address);
        inherited.ready().unwrap();
        let mut said = String::new();
        read.read_to_string(&mut said).unwrap();
        assert_eq!(said, "ready\n");
        // Taken once, they are ours.
        assert!(take(OsStr::new(&text)).is_err());
    }
}
