//! Listening sockets: a TCP address is bound by each worker, a Unix path once per process, for all its workers.
//!
//! What goes in: an address. What comes out: a [`Door`]. It owns: the descriptors, the list of Unix paths that are bound
//! now, and their socket files, which are removed when the last worker lets go. Always true: a path is bound at most
//! once; a socket file that nobody listens on any more is replaced, anything else at that path is left alone.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use socket2::{Domain, SockAddr, Socket};

use super::{ListenOptions, sys};
use crate::clock::{self, Moment};
use crate::limits::TAKEN_AGAIN_TIME;
use crate::net::{Address, Ends};

/// A listening socket, before a ring accepts from it and while it does.
#[derive(Debug)]
pub struct Door {
    kind: Kind,
    /// Its address when it is a single one.
    known: Option<SocketAddr>,
}

#[derive(Debug)]
enum Kind {
    /// A TCP socket of this worker.
    Own(OwnedFd),
    /// A Unix socket that all workers share.
    Shared(Arc<Shared>),
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.kind {
            Kind::Own(fd) => fd.as_fd(),
            Kind::Shared(shared) => shared.as_fd(),
        }
    }
}

impl Door {
    /// Opens a listening socket. Errors: as [`super::Io::listen`].
    pub fn open(address: &Address, options: &ListenOptions) -> io::Result<Self> {
        match address {
            Address::Tcp(tcp) => Self::of_tcp(*tcp, sys::listen_tcp(*tcp, options, true)?),
            Address::Unix(path) => {
                let shared = Shared::listen(path, options.backlog, true)?;
                Ok(Self { kind: Kind::Shared(shared), known: None })
            }
        }
    }

    /// A socket that listens already: handed over by another process or by the service manager.
    pub fn adopt(address: &Address, fd: OwnedFd) -> io::Result<Self> {
        match address {
            Address::Tcp(tcp) => Self::of_tcp(*tcp, fd),
            Address::Unix(path) => Ok(Self { kind: Kind::Shared(Shared::adopt(path, fd)?), known: None }),
        }
    }

    fn of_tcp(address: SocketAddr, fd: OwnedFd) -> io::Result<Self> {
        let known = if address.ip().is_unspecified() { None } else { sys::local_address(fd.as_fd())? };
        Ok(Self { kind: Kind::Own(fd), known })
    }

    /// A second descriptor of the same socket, for a process that takes over.
    pub fn copy(&self) -> io::Result<OwnedFd> {
        self.as_fd().try_clone_to_owned()
    }

    /// Lets go of it without an end of the socket: another process accepts from it, and its file stays.
    pub fn leave(self) {
        if let Kind::Shared(shared) = self.kind {
            shared.left.store(true, Ordering::Relaxed);
            drop(Shared::release(shared));
        }
    }

    /// True for a Unix socket.
    pub(super) const fn is_unix(&self) -> bool {
        matches!(self.kind, Kind::Shared(_))
    }

    /// Its address when it is a single one.
    pub(super) const fn known(&self) -> Option<SocketAddr> {
        self.known
    }

    /// Closes it and accepts what waits in its queue before; a shared one only when this worker was its last.
    pub(super) fn close(self, what: sys::Accepting, mut each: impl FnMut(OwnedFd, Ends)) {
        let door: Box<dyn AsFd> = match self.kind {
            Kind::Own(fd) => Box::new(fd),
            Kind::Shared(shared) => match Shared::release(shared) {
                Some(last) => Box::new(last),
                None => return,
            },
        };
        if sys::unblock(door.as_fd()).is_err() {
            return;
        }
        loop {
            match sys::accept(door.as_fd(), what) {
                Ok((fd, ends)) => each(fd, ends),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if sys::accept_goes_on(sys::errno(&error)) => {}
                Err(_) => return,
            }
        }
    }
}

/// Checks that nobody listens on a TCP address yet: a second process that does would silently get a share of the first
/// one's connections (SO_REUSEPORT). To be called before the first worker listens. A killed process lets go of its
/// sockets a little after its end, so a taken address is tried again until `until`. Errors: as [`super::Io::listen`].
pub fn check_free(address: &Address, v6only: bool, until: Moment) -> io::Result<()> {
    let Address::Tcp(tcp) = address else { return Ok(()) };
    loop {
        match sys::try_bind(*tcp, v6only) {
            Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) && clock::now() < until => {
                std::thread::sleep(TAKEN_AGAIN_TIME);
            }
            result => return result.map_err(|error| sys::advise_listen(address, &error)),
        }
    }
}

/// The paths that this process listens on.
static BOUND: Mutex<Option<HashMap<PathBuf, Weak<Shared>>>> = Mutex::new(None);

/// A listening Unix socket that several rings accept from.
#[derive(Debug)]
pub(super) struct Shared {
    fd: OwnedFd,
    path: PathBuf,
    file: (u64, u64),
    /// Another process accepts from it: the file is not ours to remove.
    left: AtomicBool,
}

fn bound() -> MutexGuard<'static, Option<HashMap<PathBuf, Weak<Shared>>>> {
    BOUND.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// The socket of this path: that of another worker, or a new one.
    pub(super) fn listen(path: &Path, backlog: i32, blocking: bool) -> io::Result<Arc<Self>> {
        let mut bound = bound();
        let bound = bound.get_or_insert_with(HashMap::new);
        if let Some(shared) = bound.get(path).and_then(Weak::upgrade) {
            return Ok(shared);
        }
        let shared = Arc::new(Self::open(path, backlog, blocking)?);
        bound.insert(path.to_owned(), Arc::downgrade(&shared));
        Ok(shared)
    }

    /// A socket that another process made at this path.
    fn adopt(path: &Path, fd: OwnedFd) -> io::Result<Arc<Self>> {
        let mut bound = bound();
        let bound = bound.get_or_insert_with(HashMap::new);
        if let Some(shared) = bound.get(path).and_then(Weak::upgrade) {
            return Ok(shared);
        }
        let about = std::fs::symlink_metadata(path)?;
        let shared = Arc::new(Self {
            fd,
            path: path.to_owned(),
            file: (about.dev(), about.ino()),
            left: AtomicBool::new(false),
        });
        bound.insert(path.to_owned(), Arc::downgrade(&shared));
        Ok(shared)
    }

    /// Lets go of the socket. The last owner gets it back, to accept what still waits in its queue.
    pub(super) fn release(this: Arc<Self>) -> Option<Self> {
        let mut bound = bound();
        let path = this.path.clone();
        let last = Arc::into_inner(this)?;
        if let Some(bound) = bound.as_mut() {
            bound.remove(&path);
        }
        Some(last)
    }

    fn open(path: &Path, backlog: i32, blocking: bool) -> io::Result<Self> {
        let advise = |error: io::Error| sys::advise_listen(&Address::Unix(path.to_owned()), &error);
        let address = SockAddr::unix(path).map_err(advise)?;
        let socket = Socket::new(Domain::UNIX, sys::stream(blocking), None).map_err(advise)?;
        match socket.bind(&address) {
            Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => {
                remove_stale(path)?;
                socket.bind(&address).map_err(advise)?;
            }
            result => result.map_err(advise)?,
        }
        socket.listen(backlog).map_err(advise)?;
        let about = std::fs::symlink_metadata(path).map_err(advise)?;
        Ok(Self {
            fd: socket.into(),
            path: path.to_owned(),
            file: (about.dev(), about.ino()),
            left: AtomicBool::new(false),
        })
    }
}

impl AsFd for Shared {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.left.load(Ordering::Relaxed) {
            return;
        }
        // Somebody else may have replaced the file meanwhile: then it is not ours to remove.
        if let Ok(about) = std::fs::symlink_metadata(&self.path)
            && (about.dev(), about.ino()) == self.file
        {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Removes the socket file of a process that ended without removing it.
fn remove_stale(path: &Path) -> io::Result<()> {
    let refuse = |why: &str| {
        let text = format!("cannot listen on unix:{}: {why}", path.display());
        Err(io::Error::new(io::ErrorKind::AddrInUse, text))
    };
    if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
        return refuse("the path exists and is not a socket; remove it or choose another path");
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Ok(_) => refuse("another process listens there; `ss -lxp` shows which"),
        Err(error) => refuse(&format!("it is in use and cannot be probed: {error}")),
    }
}
