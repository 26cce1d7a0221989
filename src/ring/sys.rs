//! System calls that the rings share, and advice for the errors that people meet at start-up.
//!
//! What goes in: addresses and descriptors. What comes out: sockets with the right options, the ends of connections,
//! errors that say what was tried, why it failed and what to do. It owns nothing. Always true: every descriptor made
//! here is close-on-exec and TCP sockets have TCP_NODELAY (accepted ones inherit it from their listener).
#![allow(unsafe_code)]

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use super::{ListenOptions, Wake};
use crate::net::{Address, Ends, Errno};

/// The error number inside an error; EIO when there is none.
pub(super) fn errno(error: &io::Error) -> Errno {
    Errno(error.raw_os_error().unwrap_or(libc::EIO))
}

/// An error number as an error.
pub(super) fn error(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno.0)
}

/// The type of a stream socket.
pub(super) const fn stream(blocking: bool) -> Type {
    if blocking { Type::STREAM } else { Type::STREAM.nonblocking() }
}

/// A TCP socket that is bound and listens. `blocking` as the ring needs it: io_uring wants blocking sockets (it waits
/// for them itself), epoll wants the others.
pub(super) fn listen_tcp(
    address: SocketAddr,
    options: &ListenOptions,
    blocking: bool,
) -> io::Result<OwnedFd> {
    let open = || -> io::Result<OwnedFd> {
        let socket = Socket::new(Domain::for_address(address), stream(blocking), Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.set_tcp_nodelay(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(options.v6only)?;
        }
        socket.bind(&SockAddr::from(address))?;
        socket.listen(options.backlog)?;
        Ok(socket.into())
    };
    open().map_err(|error| advise_listen(&Address::Tcp(address), &error))
}

/// Binds an address and lets go of it. Fails while another socket listens there, even one with SO_REUSEPORT.
pub(super) fn try_bind(address: SocketAddr, v6only: bool) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(v6only)?;
    }
    socket.bind(&SockAddr::from(address))
}

/// What to do when listening on an address failed.
pub(super) fn advise_listen(address: &Address, error: &io::Error) -> io::Error {
    let port = if let Address::Tcp(address) = address { address.port() } else { 0 };
    let advice = match error.raw_os_error() {
        Some(libc::EADDRINUSE) => format!("the port is taken; `ss -ltnp 'sport = :{port}'` shows by whom"),
        Some(libc::EACCES) if port != 0 && port < 1024 => "ports below 1024 need a privilege: start as root, grant \
            it with `setcap cap_net_bind_service=+ep` on the program, or set AmbientCapabilities=CAP_NET_BIND_SERVICE \
            in its systemd unit"
            .to_owned(),
        Some(libc::EACCES) => "permission was denied; check the rights on the directory, and SELinux or AppArmor"
            .to_owned(),
        Some(libc::EADDRNOTAVAIL) => "this host has no such address; `ip address` lists those it has".to_owned(),
        Some(libc::EAFNOSUPPORT) => "this host has no support for this kind of address (IPv6 switched off?)".to_owned(),
        Some(libc::EMFILE) => "too many files are open; raise the limit (`ulimit -n`, LimitNOFILE= in systemd)".to_owned(),
        _ => String::new(),
    };
    let dash = if advice.is_empty() { "" } else { ": " };
    io::Error::new(error.kind(), format!("cannot listen on {address}: {error}{dash}{advice}"))
}

/// A socket that can be connected to `to`, and the address in the kernel's form.
pub(super) fn outgoing(to: &Address, blocking: bool) -> io::Result<(OwnedFd, SockAddr)> {
    let (socket, address) = match to {
        Address::Tcp(address) => {
            let socket = Socket::new(Domain::for_address(*address), stream(blocking), Some(Protocol::TCP))?;
            socket.set_tcp_nodelay(true)?;
            (socket, SockAddr::from(*address))
        }
        Address::Unix(path) => (Socket::new(Domain::UNIX, stream(blocking), None)?, SockAddr::unix(path)?),
    };
    Ok((socket.into(), address))
}

/// The address a TCP socket is bound to; an IPv4 address mapped into IPv6 comes as IPv4.
pub(super) fn local_address(fd: BorrowedFd<'_>) -> io::Result<Option<SocketAddr>> {
    Ok(SockRef::from(&fd).local_addr()?.as_socket().map(canonical))
}

/// The ends of an accepted connection. Fails when the client has gone already. `known` is the listener's address
/// when it is bound to a single one: then the kernel need not be asked.
pub(super) fn ends(fd: BorrowedFd<'_>, known: Option<SocketAddr>, unix: bool) -> io::Result<Ends> {
    if unix {
        return Ok(Ends { client: None, local: None });
    }
    let client = SockRef::from(&fd).peer_addr()?.as_socket().map(canonical);
    let local = if known.is_some() { known } else { local_address(fd)? };
    Ok(Ends { client, local })
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The kind of sockets to accept.
#[derive(Clone, Copy)]
pub(super) struct Accepting {
    /// The listener's address when it is bound to a single one.
    pub(super) known: Option<SocketAddr>,
    /// True for a Unix socket: there are no addresses.
    pub(super) unix: bool,
    /// Whether accepted sockets block.
    pub(super) blocking: bool,
}

/// Accepts one connection from a listener that does not block.
pub(super) fn accept(fd: BorrowedFd<'_>, what: Accepting) -> io::Result<(OwnedFd, Ends)> {
    let flags = libc::SOCK_CLOEXEC | if what.blocking { 0 } else { libc::SOCK_NONBLOCK };
    let mut accepted = None;
    // SAFETY: the storage and its length are valid for the kernel to write an address of at most that length to.
    let ((), client) = unsafe {
        SockAddr::try_init(|storage, len| {
            let raw = libc::accept4(fd.as_raw_fd(), storage.cast(), len, flags);
            if raw < 0 {
                return Err(io::Error::last_os_error());
            }
            accepted = Some(OwnedFd::from_raw_fd(raw));
            Ok(())
        })?
    };
    let Some(accepted) = accepted else { return Err(error(Errno(libc::EIO))) };
    if what.unix {
        return Ok((accepted, Ends { client: None, local: None }));
    }
    let local = if what.known.is_some() { what.known } else { local_address(accepted.as_fd())? };
    Ok((accepted, Ends { client: client.as_socket().map(canonical), local }))
}

/// True for errors of `accept` that concern one connection only: the next one may be fine.
pub(super) const fn accept_goes_on(errno: Errno) -> bool {
    matches!(
        errno.0,
        libc::ECONNABORTED
            | libc::EINTR
            | libc::EAGAIN
            | libc::EPROTO
            | libc::EPERM
            | libc::ETIMEDOUT
            | libc::ENETDOWN
            | libc::ENETUNREACH
            | libc::EHOSTDOWN
            | libc::EHOSTUNREACH
            | libc::ENOPROTOOPT
    )
}

/// Shuts the sending side. A connection that is gone already needs no shutting.
pub(super) fn shut(fd: BorrowedFd<'_>) {
    let _ = SockRef::from(&fd).shutdown(std::net::Shutdown::Write);
}

/// Makes the coming close a reset.
pub(super) fn abort_on_close(fd: BorrowedFd<'_>) {
    let _ = SockRef::from(&fd).set_linger(Some(std::time::Duration::ZERO));
}

/// Makes a socket non-blocking.
pub(super) fn unblock(fd: BorrowedFd<'_>) -> io::Result<()> {
    SockRef::from(&fd).set_nonblocking(true)
}

/// Makes a socket one that blocks.
pub(super) fn set_blocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    SockRef::from(&fd).set_nonblocking(false)
}

/// Wakes a ring through an event descriptor; many wakes before the ring looks are one.
#[derive(Debug)]
pub(super) struct Waker {
    fd: OwnedFd,
    pending: AtomicBool,
}

impl Waker {
    /// A waker whose descriptor blocks (io_uring waits for it itself) or not (epoll).
    pub(super) fn new(blocking: bool) -> io::Result<Arc<Self>> {
        let flags = libc::EFD_CLOEXEC | if blocking { 0 } else { libc::EFD_NONBLOCK };
        // SAFETY: no pointers are passed.
        let raw = unsafe { libc::eventfd(0, flags) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        Ok(Arc::new(Self { fd, pending: AtomicBool::new(false) }))
    }

    /// The descriptor to watch.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// From now on a `wake` writes again. To be called after the descriptor was read and before the cause is looked at.
    pub(super) fn seen(&self) {
        self.pending.store(false, Ordering::SeqCst);
    }

    /// Reads the counter away (epoll; io_uring reads it with an operation).
    pub(super) fn drain(&self) {
        let mut word = 0u64;
        // SAFETY: eight bytes are valid for the kernel to write.
        unsafe { libc::read(self.fd.as_raw_fd(), (&raw mut word).cast(), 8) };
    }
}

impl Wake for Waker {
    fn wake(&self) {
        if !self.pending.swap(true, Ordering::SeqCst) {
            let one = 1u64;
            // SAFETY: eight bytes are valid for the kernel to read. The counter is at most one, so it cannot block.
            unsafe { libc::write(self.fd.as_raw_fd(), (&raw const one).cast(), 8) };
        }
    }
}

/// Raises the number of files that this process may open as far as it is allowed to; returns the new limit.
pub fn raise_open_files() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the struct is valid for the kernel to write.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: the struct is valid for the kernel to read.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(limit.rlim_cur)
}
