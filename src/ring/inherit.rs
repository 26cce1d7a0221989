//! Descriptors that this process was started with: listening sockets from systemd, or from the program's last version.
//!
//! What goes in: numbers that the environment names. What comes out: owned descriptors. It owns nothing. Always true: a
//! number becomes an owned descriptor at most once, and never one that this process opened itself. The sign is
//! close-on-exec: what comes through `execve` cannot have it; everything that this process opens has it, and so has what
//! was taken over here.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use socket2::{SockRef, Type};

use crate::net::Address;

/// The first number that is not a standard stream.
const FIRST: RawFd = 3;

/// A listening socket that somebody else opened.
#[derive(Debug)]
pub struct Listening {
    /// Where it listens.
    pub address: Address,
    /// An IPv6 address takes no IPv4 connections; true for every other address.
    pub v6only: bool,
    /// The socket, close-on-exec. It blocks or not as its maker left it.
    pub fd: OwnedFd,
}

/// Takes over a descriptor that came through `execve`. Errors: it is not open, it is a standard stream, or it is ours.
pub fn inherit(number: RawFd) -> io::Result<OwnedFd> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    if number < FIRST {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a standard stream cannot be taken over"));
    }
    // SAFETY: no pointers are passed.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if flags < 0 {
        return Err(io::Error::last_os_error());
    }
    if flags & libc::FD_CLOEXEC != 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it was not inherited, or is taken over already",
        ));
    }
    // SAFETY: no pointers are passed.
    if unsafe { libc::fcntl(number, libc::F_SETFD, flags | libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and nobody in this process owns it: see the head of this file.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Takes over a listening stream socket. Errors: as [`inherit`], or it is something else.
pub fn inherit_listening(number: RawFd) -> io::Result<Listening> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
    let fd = inherit(number)?;
    let about = |fd: &OwnedFd| -> io::Result<(Address, bool)> {
        let socket = SockRef::from(fd);
        if socket.r#type()? != Type::STREAM || !socket.is_listener()? {
            return Err(wrong("it is no listening stream socket"));
        }
        let local = socket.local_addr()?;
        match (local.as_socket(), local.as_pathname()) {
            (Some(address), _) => Ok((Address::Tcp(address), !address.is_ipv6() || socket.only_v6()?)),
            (None, Some(path)) => Ok((Address::Unix(path.to_owned()), true)),
            (None, None) => Err(wrong("it listens on an address without a path or port")),
        }
    };
    let (address, v6only) = about(&fd)?;
    Ok(Listening { address, v6only, fd })
}

/// A second descriptor of the same file, which programs started from now on inherit. To be closed once the one it is
/// meant for was started.
pub fn inheritable(fd: &impl AsFd) -> io::Result<OwnedFd> {
    let copy = fd.as_fd().try_clone_to_owned()?;
    // SAFETY: no pointers are passed; the descriptor is open, and ours.
    if unsafe { libc::fcntl(copy.as_raw_fd(), libc::F_SETFD, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::IntoRawFd;

    fn passed(fd: impl AsFd) -> RawFd {
        inheritable(&fd).unwrap().into_raw_fd()
    }

    #[test]
    fn listening_sockets_are_taken_over_once() {
        let listener = TcpListener::bind("[::1]:0").or_else(|_| TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let number = passed(&listener);
        drop(listener);
        let taken = inherit_listening(number).unwrap();
        assert_eq!(taken.address, Address::Tcp(address));
        let listener = TcpListener::from(taken.fd);
        TcpStream::connect(address).unwrap();
        listener.accept().unwrap();
        assert!(inherit(listener.as_raw_fd()).is_err(), "twice");
    }

    #[test]
    fn unix_sockets_have_their_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let taken = inherit_listening(passed(&listener)).unwrap();
        assert_eq!((taken.address, taken.v6only), (Address::Unix(path), true));
    }

    #[test]
    fn refuses_what_is_ours_or_does_not_listen() {
        let ours = TcpListener::bind("127.0.0.1:0").unwrap();
        for number in [0, 2, ours.as_raw_fd(), 1_000_000] {
            assert!(inherit(number).is_err(), "{number}");
        }
        let deaf = UdpSocket::bind("127.0.0.1:0").unwrap();
        let connected = TcpStream::connect(ours.local_addr().unwrap()).unwrap();
        for number in [passed(&deaf), passed(&connected)] {
            assert!(inherit_listening(number).is_err());
        }
    }
}
