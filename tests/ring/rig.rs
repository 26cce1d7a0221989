//! A kernel with a diary, and std sockets at the other end.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::BorrowedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ringgate::buf::{Chain, Chunk};
use ringgate::clock;
use ringgate::ids::{ListenerId, SockId};
use ringgate::limits::{PAGE_BYTES, PAGE_HEADROOM};
use ringgate::net::{Address, Ends};
use ringgate::ring::{Done, Io, ListenOptions};

/// Runs a test alone: some count descriptors or change their limit.
pub fn alone(test: impl FnOnce()) {
    static ONE: Mutex<()> = Mutex::new(());
    let _guard = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    test();
}

pub const OPTIONS: ListenOptions = ListenOptions { v6only: false, backlog: 1024 };
pub const FIRST: ListenerId = ListenerId(0);

pub struct Rig {
    pub io: Box<dyn Io>,
    pub told: Vec<Done>,
}

impl Rig {
    pub fn new(io: Box<dyn Io>) -> Self {
        Self { io, told: Vec::new() }
    }

    /// One turn of at most `ms`.
    pub fn turn(&mut self, ms: u64) {
        self.io.turn(clock::now() + Duration::from_millis(ms), &mut self.told).unwrap();
    }

    /// Turns until something is told that `pick` wants; everything else stays in the diary.
    pub fn wait<T>(&mut self, what: &str, mut pick: impl FnMut(&Done) -> Option<T>) -> (T, Done) {
        let stop = clock::now() + Duration::from_secs(10);
        loop {
            for at in 0..self.told.len() {
                if let Some(found) = pick(&self.told[at]) {
                    return (found, self.told.remove(at));
                }
            }
            assert!(clock::now() < stop, "no {what}; told: {:?}", self.told);
            self.turn(50);
        }
    }

    pub fn accepted(&mut self) -> (SockId, Ends) {
        self.wait("accept", |done| match done {
            Done::Accepted { sock, ends, .. } => Some((*sock, *ends)),
            _ => None,
        })
        .0
    }

    pub fn connected(&mut self, to: &Address) -> SockId {
        let sock = self.io.connect(to).unwrap();
        self.wait("connect", |done| {
            matches!(done, Done::Connected { sock: it } if *it == sock).then_some(())
        });
        sock
    }

    pub fn received(&mut self, sock: SockId) -> Chain {
        let done = self.wait("bytes", |done| {
            matches!(done, Done::Received { sock: it, .. } if *it == sock).then_some(())
        });
        match done.1 {
            Done::Received { chain, .. } => {
                assert!(!chain.is_empty());
                for chunk in chain.chunks() {
                    assert!(
                        !chunk.is_empty() && chunk.headroom() >= PAGE_HEADROOM && chunk.len() <= PAGE_BYTES
                    );
                }
                chain
            }
            _ => unreachable!(),
        }
    }

    /// Asks for bytes until so many came.
    pub fn read(&mut self, sock: SockId, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < count {
            self.io.recv(sock);
            let chain = self.received(sock);
            chain.chunks().iter().for_each(|chunk| bytes.extend_from_slice(chunk.bytes()));
            self.io.pool().give_chain(chain);
        }
        bytes
    }

    pub fn eof(&mut self, sock: SockId) {
        self.wait("end", |done| matches!(done, Done::Eof { sock: it } if *it == sock).then_some(()));
    }

    pub fn closed(&mut self, sock: SockId) {
        self.wait("closed", |done| matches!(done, Done::Closed { sock: it } if *it == sock).then_some(()));
    }

    /// A chain of `pages` pages that hold `bytes` in equal parts.
    pub fn chain(&mut self, bytes: &[u8], pages: usize) -> Chain {
        let mut chain = Chain::new();
        for part in bytes.chunks(bytes.len().div_ceil(pages)) {
            let mut chunk = Chunk::empty(self.io.pool().take().unwrap());
            assert_eq!(chunk.append(part), part.len());
            chain.push(chunk).unwrap();
        }
        chain
    }

    pub fn sent(&mut self, sock: SockId) -> usize {
        let done = self
            .wait("sent", |done| matches!(done, Done::Sent { sock: it, .. } if *it == sock).then_some(()));
        match done.1 {
            Done::Sent { chain, bytes, .. } => {
                self.io.pool().give_chain(chain);
                bytes
            }
            _ => unreachable!(),
        }
    }

    pub fn write(&mut self, sock: SockId, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let part = &rest[..rest.len().min(16 * 1024)];
            let chain = self.chain(part, 1);
            self.io.send(sock, chain);
            let sent = self.sent(sock);
            rest = &rest[sent..];
        }
    }

    /// Closes and waits; then every page must be at home or with the kernel (rule 4).
    pub fn close(&mut self, sock: SockId) {
        self.io.close(sock);
        self.closed(sock);
    }

    pub fn all_pages_are_accounted_for(&mut self) {
        let lent = self.io.lent();
        let pool = self.io.pool();
        assert_eq!(pool.made(), pool.free() + lent, "rule 4");
    }

    pub fn listen_tcp(&mut self) -> SocketAddr {
        let address = free_port();
        self.io.listen(FIRST, &Address::Tcp(address), &OPTIONS).unwrap();
        address
    }

    /// A connection that this ring accepted, and its other end.
    pub fn pair(&mut self) -> (SockId, TcpStream) {
        let address = self.listen_tcp();
        let client = dial(address);
        (self.accepted().0, client)
    }
}

pub fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

pub fn dial(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

pub fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Makes the send buffer of the listener at this address small, behind the ring's back.
pub fn shrink_send_buffer(address: SocketAddr, bytes: usize) {
    for entry in std::fs::read_dir("/proc/self/fd").unwrap() {
        let number = entry.unwrap().file_name().into_string().unwrap().parse().unwrap();
        // SAFETY: the descriptor was open a moment ago, and tests run alone.
        #[allow(unsafe_code)]
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        let sock = socket2::SockRef::from(&fd);
        if sock.local_addr().is_ok_and(|local| local.as_socket() == Some(address)) {
            sock.set_send_buffer_size(bytes).unwrap();
        }
    }
}

/// Bytes that tell their place.
pub fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at % 251) as u8 ^ (at / 251 % 255) as u8).collect()
}

/// A server that accepts one connection.
pub enum Server {
    Tcp(TcpListener),
    Unix(UnixListener),
}

pub trait Stream: Read + Write {}
impl Stream for TcpStream {}
impl Stream for UnixStream {}

impl Server {
    pub fn accept(&self) -> Box<dyn Stream> {
        match self {
            Self::Tcp(listener) => Box::new(listener.accept().unwrap().0),
            Self::Unix(listener) => Box::new(listener.accept().unwrap().0),
        }
    }
}
