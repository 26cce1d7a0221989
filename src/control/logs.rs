//! The log's thread: it writes what the workers leave on the desk.
//!
//! What goes in: batches of lines; orders to use another destination, to open the file again, to end. What comes out: a
//! file that is rotated, the standard output, or datagrams for syslog. It owns the destination. Always true: only whole
//! lines are written, unless the destination breaks off within one; what cannot be written is dropped and counted, said
//! once a minute, and serving goes on.
//!
//! A thread of its own, because writing a file can wait for the disk, and neither the workers nor the control thread may.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::clock::{self, Moment};
use crate::config::model::{Log, LogTo};
use crate::limits::{LOG_DATAGRAM_BYTES_MAX, LOG_END_TIME, LOG_SAY_TIME, LOG_WRITE_BYTES, LOG_WRITE_TIME};
use crate::worker::log::Batch;
use crate::worker::shared::Shared;
use crate::worker::spawn::StartError;

/// What the thread is told besides lines.
enum Order {
    Use(Option<Sink>),
    Reopen,
    End(Sender<()>),
}

/// Directs the log's thread.
#[derive(Clone)]
pub struct Logs {
    orders: Arc<Mutex<Vec<Order>>>,
    shared: Arc<Shared>,
}

impl Logs {
    /// Starts the thread.
    pub fn start(sink: Option<Sink>, shared: Arc<Shared>) -> Result<Self, StartError> {
        let logs = Self { orders: Arc::default(), shared };
        let Some(batches) = logs.shared.log.receiver() else { return Ok(logs) };
        let mut writer = Writer { sink, logs: logs.clone(), said: None };
        let thread = thread::Builder::new().name("log".into()).spawn(move || writer.run(&batches));
        thread.map_err(|error| StartError::new(format!("a thread could not be started: {error}")))?;
        Ok(logs)
    }

    /// Has what follows go elsewhere.
    pub fn use_sink(&self, sink: Option<Sink>) {
        self.order(Order::Use(sink));
    }

    /// Has the file opened again: it was renamed.
    pub fn reopen(&self) {
        self.order(Order::Reopen);
    }

    /// Waits until everything was written, for a while.
    pub fn end(&self) {
        let (tell, told) = channel();
        self.order(Order::End(tell));
        let _ = told.recv_timeout(LOG_END_TIME);
    }

    fn order(&self, order: Order) {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        // While the disk takes its time, opening the file again once is as good as many times.
        if !matches!((orders.last(), &order), (Some(Order::Reopen), Order::Reopen)) {
            orders.push(order);
        }
        drop(orders);
        // When there is no place the thread has something to do and looks for orders after it.
        self.shared.log.leave(Batch::default());
    }

    fn take(&self) -> Vec<Order> {
        std::mem::take(&mut *self.orders.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Writer {
    sink: Option<Sink>,
    logs: Logs,
    said: Option<Moment>,
}

impl Writer {
    fn run(&mut self, batches: &Receiver<Batch>) {
        while let Ok(batch) = batches.recv() {
            self.write(&batch);
            for order in self.logs.take() {
                match order {
                    Order::Use(sink) => {
                        // What was left before goes where it was to go.
                        batches.try_iter().for_each(|batch| self.write(&batch));
                        self.sink = sink;
                    }
                    Order::Reopen => {
                        if let Some(Err(error)) = self.sink.as_mut().map(Sink::reopen) {
                            self.say(&format!(
                                "it cannot be opened again, the file that was open is used: {error}"
                            ));
                        }
                    }
                    Order::End(tell) => {
                        batches.try_iter().for_each(|batch| self.write(&batch));
                        let _ = tell.send(());
                        return;
                    }
                }
            }
        }
    }

    fn write(&mut self, batch: &Batch) {
        if batch.lines == 0 {
            return;
        }
        let Some(sink) = &mut self.sink else { return self.logs.shared.log.lose(batch.lines) };
        let (lost, error) = sink.write(batch);
        self.logs.shared.log.lose(lost);
        if let Some(error) = error {
            let follows = match lost {
                0 => String::new(),
                _ => format!(": {lost} lines are lost, and those that follow until it works again"),
            };
            self.say(&format!("{error}{follows}"));
        }
    }

    fn say(&mut self, what: &str) {
        let now = clock::now();
        if self.said.is_none_or(|said| now.since(said) > LOG_SAY_TIME) {
            self.said = Some(now);
            eprintln!("access log: {what}");
        }
    }
}

/// A destination that is open.
pub enum Sink {
    /// A file.
    File(LogFile),
    /// The standard output.
    Stdout,
    /// Syslog on this host.
    Unix(UnixDatagram, PathBuf),
    /// Syslog elsewhere.
    Udp(UdpSocket),
}

/// A file of a log.
pub struct LogFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    rotate_size: u64,
    keep: u32,
    /// The last write ended within a line.
    torn: bool,
}

impl Sink {
    /// Opens the destination of a log. Errors: what and why, with advice.
    pub fn open(log: &Log) -> Result<Option<Self>, String> {
        let Some(to) = &log.access else { return Ok(None) };
        let sink = match to {
            LogTo::Stdout => Ok(Self::Stdout),
            LogTo::File(path) => LogFile::open(path, log).map(Self::File),
            LogTo::SyslogUnix(path) => UnixDatagram::unbound().and_then(|socket| {
                socket.set_nonblocking(true)?;
                socket.connect(path)?;
                Ok(Self::Unix(socket, path.clone()))
            }),
            LogTo::SyslogUdp(address) => {
                let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                UdpSocket::bind(any).and_then(|socket| {
                    socket.set_nonblocking(true)?;
                    socket.connect(address)?;
                    Ok(Self::Udp(socket))
                })
            }
        };
        sink.map(Some).map_err(|error| {
            let (what, advice) = match to {
                LogTo::File(path) => (
                    path.display().to_string(),
                    "the folder must exist, and the user that ringgate runs as must be able to write there",
                ),
                LogTo::SyslogUnix(path) => (path.display().to_string(), "is a syslog daemon running?"),
                LogTo::SyslogUdp(address) => (address.to_string(), "check the address"),
                LogTo::Stdout => ("the standard output".into(), ""),
            };
            format!("the access log {what} cannot be opened: {error}; {advice}")
        })
    }

    fn reopen(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.reopen(),
            Self::Unix(socket, path) => socket.connect(path),
            Self::Stdout | Self::Udp(_) => Ok(()),
        }
    }

    /// Writes a batch; says how many lines were lost, and why.
    fn write(&mut self, batch: &Batch) -> (u64, Option<io::Error>) {
        match self {
            Self::File(file) => file.write(batch),
            Self::Stdout => {
                // Not through the library's buffer: it would wait.
                let out = io::stdout();
                match out.as_fd().try_clone_to_owned() {
                    Ok(fd) => write_politely(&mut File::from(fd), &batch.bytes).lost(batch),
                    Err(error) => (batch.lines, Some(error)),
                }
            }
            Self::Unix(socket, path) => datagrams(batch, |datagram| {
                wait(&*socket)?;
                let sent = socket.send(datagram);
                // The daemon was started anew.
                if sent.is_err() && socket.connect(&*path).is_ok() { socket.send(datagram) } else { sent }
            }),
            Self::Udp(socket) => datagrams(batch, |datagram| socket.send(datagram)),
        }
    }
}

/// How a write ended: bytes that were written before an error.
struct Written(usize, Option<io::Error>);

impl Written {
    fn lost(self, batch: &Batch) -> (u64, Option<io::Error>) {
        match self.1 {
            None => (0, None),
            Some(error) => {
                let rest = &batch.bytes[self.0..];
                (rest.iter().filter(|byte| **byte == b'\n').count() as u64, Some(error))
            }
        }
    }
}

/// Waits until a descriptor takes something.
fn wait(fd: impl AsFd) -> io::Result<()> {
    let time = PollTimeout::try_from(LOG_WRITE_TIME).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLOUT)], time)? {
        0 => Err(io::Error::new(io::ErrorKind::TimedOut, "it takes nothing")),
        _ => Ok(()),
    }
}

/// Writes everything, with waits of a bounded time: at most `step(at)` bytes at a time from byte `at` on.
fn write_all(file: &mut File, bytes: &[u8], step: impl Fn(usize) -> usize) -> (usize, Written) {
    let mut at = 0;
    while at < bytes.len() {
        let end = bytes.len().min(at + step(at));
        let why = match file.write(&bytes[at..end]) {
            Ok(0) => io::ErrorKind::WriteZero.into(),
            Ok(count) => {
                at += count;
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => match wait(&*file) {
                Ok(()) => continue,
                Err(error) => error,
            },
            Err(error) => error,
        };
        return (at, Written(at, Some(why)));
    }
    (at, Written(at, None))
}

/// Writes everything to a descriptor that may wait itself when it is given more than a pipe surely takes.
fn write_politely(file: &mut File, bytes: &[u8]) -> Written {
    for (at, piece) in (0..).step_by(libc::PIPE_BUF).zip(bytes.chunks(libc::PIPE_BUF)) {
        let written = wait(&*file)
            .map_or_else(|error| (0, Written(0, Some(error))), |()| write_all(file, piece, |_| piece.len()));
        if let (count, Written(_, Some(error))) = written {
            return Written(at + count, Some(error));
        }
    }
    Written(bytes.len(), None)
}

/// Sends each line as a message of RFC 3164 without a time, which the receiver adds: facility local0, severity info.
fn datagrams(batch: &Batch, mut send: impl FnMut(&[u8]) -> io::Result<usize>) -> (u64, Option<io::Error>) {
    let (mut lost, mut why) = (0, None);
    let head = format!("<134>ringgate[{}]: ", std::process::id());
    let mut datagram = Vec::new();
    for line in batch.bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        datagram.clear();
        datagram.extend_from_slice(head.as_bytes());
        datagram.extend_from_slice(line);
        let sent = match why {
            // One wait is enough for a batch.
            Some(_) => Ok(0),
            None if datagram.len() > LOG_DATAGRAM_BYTES_MAX => Ok(0),
            None => send(&datagram),
        };
        match sent {
            Ok(0) => lost += 1,
            Ok(_) => {}
            Err(error) => {
                lost += 1;
                why = Some(error);
            }
        }
    }
    (lost, why)
}

impl LogFile {
    fn open(path: &Path, log: &Log) -> io::Result<Self> {
        let (file, bytes) = open_file(path)?;
        let (rotate_size, keep) = (log.rotate_size, log.rotate_keep);
        Ok(Self { path: path.to_owned(), file, bytes, rotate_size, keep, torn: false })
    }

    fn reopen(&mut self) -> io::Result<()> {
        (self.file, self.bytes) = open_file(&self.path)?;
        self.torn = false;
        Ok(())
    }

    fn write(&mut self, batch: &Batch) -> (u64, Option<io::Error>) {
        let about_to = self.bytes + batch.bytes.len() as u64;
        let mut why = None;
        if self.rotate_size > 0 && self.bytes > 0 && about_to > self.rotate_size {
            let about =
                |error: io::Error| io::Error::new(error.kind(), format!("it cannot be rotated: {error}"));
            why = self.rotate().err().map(about);
        }
        if self.torn {
            let (written, Written(_, error)) = write_all(&mut self.file, b"\n", |_| 1);
            if error.is_some() {
                return (batch.lines, error);
            }
            self.bytes += written as u64;
            self.torn = false;
        }
        // Whole blocks of the page cache: measured with ext4, half of what unaligned writes of half the size cost, and a
        // tenth of writes twice as large.
        let begin = self.bytes as usize;
        let step = |at| LOG_WRITE_BYTES - (begin + at) % LOG_WRITE_BYTES;
        let (written, result) = write_all(&mut self.file, &batch.bytes, step);
        self.bytes += written as u64;
        self.torn = result.1.is_some() && written > 0 && batch.bytes[written - 1] != b'\n';
        // A line of which only the end is missing gets that later.
        let whole = self.torn && batch.bytes.get(written) == Some(&b'\n');
        let (lost, error) = result.lost(batch);
        (lost - u64::from(whole), error.or(why))
    }

    /// Renames the file to `.1`, `.1` to `.2`, and so on; the last one goes. Another process that writes to the same file
    /// may have done it already.
    fn rotate(&mut self) -> io::Result<()> {
        let about = self.file.metadata()?;
        if !about.is_file() {
            self.rotate_size = 0;
            return Ok(());
        }
        let same = std::fs::metadata(&self.path)
            .is_ok_and(|now| (now.dev(), now.ino()) == (about.dev(), about.ino()));
        if same {
            let name = |number: u32| {
                let mut name = self.path.clone().into_os_string();
                name.push(format!(".{number}"));
                PathBuf::from(name)
            };
            for number in (1..self.keep).rev() {
                match std::fs::rename(name(number), name(number + 1)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            std::fs::rename(&self.path, name(1))?;
        }
        self.reopen()
    }
}

/// Opens a file to append to it. A FIFO or a device does not make anybody wait.
fn open_file(path: &Path) -> io::Result<(File, u64)> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o640).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    let file = options.open(path)?;
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    use std::io::Read;

    /// A log into a pipe that takes 8192 bytes, which stands for a full disk that is not full later.
    fn narrow() -> (LogFile, io::PipeReader) {
        let (read, write) = io::pipe().unwrap();
        for pipe in [read.as_fd(), write.as_fd()] {
            fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        }
        fcntl(&write, FcntlArg::F_SETPIPE_SZ(8192)).unwrap();
        let file = File::from(std::os::fd::OwnedFd::from(write));
        (LogFile { path: PathBuf::new(), file, bytes: 0, rotate_size: 0, keep: 1, torn: false }, read)
    }

    fn batch(text: &str) -> Batch {
        Batch { bytes: text.as_bytes().to_vec(), lines: text.matches('\n').count() as u64 }
    }

    #[test]
    fn what_is_lost_is_counted_exactly() {
        // So long a first line leaves this of the second: a part, all but its end, all.
        for (first, lost) in [(8096, [1, 2]), (8186, [1, 2]), (8182, [1, 2]), (8181, [0, 2]), (8180, [0, 2])]
        {
            let (mut log, mut pipe) = narrow();
            let text = "x".repeat(first) + "\n" + &"y".repeat(10) + "\n";
            let text = if first == 8096 { text.replace(&"y".repeat(10), &"y".repeat(200)) } else { text };
            assert_eq!(log.write(&batch(&text)).0, lost[0], "{first}");
            assert_eq!(log.write(&batch("no\nplace\n")).0, lost[1], "{first}");
            let mut bytes = vec![0; 16384];
            let count = pipe.read(&mut bytes).unwrap();
            assert_eq!(log.write(&batch("again\n")).0, 0, "{first}");
            let more = pipe.read(&mut bytes[count..]).unwrap();
            let text = String::from_utf8_lossy(&bytes[..count + more]).into_owned();
            let whole = |line: &&str| {
                line.len() == first || line.len() == 10 && !line.contains('x') || *line == "again"
            };
            let written = text.lines().filter(whole).count() as u64;
            assert_eq!(written + lost[0] + lost[1], 5, "{first}: {text}");
            assert!(text.ends_with("\nagain\n"), "a line of its own: {text}");
        }
    }
}
