//! The contract, one rule at a time.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ringgate::clock;
use ringgate::ids::{ListenerId, SockId};
use ringgate::limits::{LENT_PAGES_MAX, RECV_BYTES};
use ringgate::net::{Address, Ends};
use ringgate::ring::{Done, Failure, ListenOptions};

use crate::Make;
use crate::rig::{FIRST, OPTIONS, Rig, Server, dial, free_port, pattern, shrink_send_buffer};

pub fn bytes_and_the_end_may_come_with_the_connect(make: Make) {
    let mut rig = Rig::new(make(64));
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::Tcp(server.local_addr().unwrap());
    let there = std::thread::spawn(move || {
        let (mut there, _) = server.accept().unwrap();
        there.write_all(b"greeting").unwrap();
        there.shutdown(Shutdown::Write).unwrap();
        there
    });
    let sock = rig.io.connect(&address).unwrap();
    // Where `connect` goes to the kernel at once, everything has happened before the first turn.
    std::thread::sleep(Duration::from_millis(50));
    rig.wait("connect", |done| matches!(done, Done::Connected { sock: it } if *it == sock).then_some(()));
    let _there = there.join().unwrap();
    assert_eq!(rig.read(sock, 8), b"greeting");
    rig.io.recv(sock);
    rig.eof(sock);
    rig.close(sock);
    rig.all_pages_are_accounted_for();
}

pub fn echoes_over_tcp_and_unix(make: Make) {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::new(make(64));
    let address = rig.listen_tcp();
    let path = folder.path().join("front");
    rig.io.listen(ListenerId(1), &Address::Unix(path.clone()), &OPTIONS).unwrap();
    let mut tcp = dial(address);
    let (tcp_sock, _) = rig.accepted();
    let mut unix = UnixStream::connect(&path).unwrap();
    let (unix_sock, ends) = rig.accepted();
    assert_eq!(ends, Ends { client: None, local: None });

    // And from there over a connection of the ring to a server.
    let back = folder.path().join("back");
    let tcp_server = TcpListener::bind("127.0.0.1:0").unwrap();
    let servers = [
        (Address::Tcp(tcp_server.local_addr().unwrap()), Server::Tcp(tcp_server)),
        (Address::Unix(back.clone()), Server::Unix(UnixListener::bind(&back).unwrap())),
    ];
    for (address, server) in servers {
        let out = rig.connected(&address);
        let mut there = server.accept();
        for round in 0..50u8 {
            let text = [b'a' + round % 26; 77];
            tcp.write_all(&text).unwrap();
            assert_eq!(rig.read(tcp_sock, text.len()), text);
            rig.write(out, &text);
            let mut seen = [0; 77];
            there.read_exact(&mut seen).unwrap();
            assert_eq!(seen, text);
            there.write_all(&seen).unwrap();
            assert_eq!(rig.read(out, seen.len()), text);
            rig.write(unix_sock, &text);
            unix.read_exact(&mut seen).unwrap();
            assert_eq!(seen, text);
        }
        rig.close(out);
    }
    rig.close(tcp_sock);
    rig.close(unix_sock);
    assert_eq!((tcp.read(&mut [0]).unwrap(), unix.read(&mut [0]).unwrap()), (0, 0));
    rig.all_pages_are_accounted_for();
}

/// Listens on a port that nobody else has; between a question and its answer another test may take one.
fn listen_somewhere(rig: &mut Rig, ip: &str, options: &ListenOptions) -> u16 {
    for _ in 0..50 {
        let port = free_port().port();
        let address = Address::Tcp(format!("{ip}:{port}").parse().unwrap());
        if rig.io.listen(FIRST, &address, options).is_ok() {
            return port;
        }
    }
    panic!("no port of {ip} is free");
}

pub fn tells_both_ends(make: Make) {
    for (listen, dialled) in [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.2"), ("[::]", "127.0.0.3")] {
        let mut rig = Rig::new(make(8));
        let port = listen_somewhere(&mut rig, listen, &OPTIONS);
        let client = dial(format!("{dialled}:{port}").parse().unwrap());
        let (_, ends) = rig.accepted();
        assert_eq!(ends.client, Some(client.local_addr().unwrap()), "{listen}");
        assert_eq!(ends.local, Some(client.peer_addr().unwrap()), "{listen}");
    }
    // An IPv6 address that shall not take IPv4.
    let mut rig = Rig::new(make(8));
    let only = ListenOptions { v6only: true, ..OPTIONS };
    let port = listen_somewhere(&mut rig, "[::]", &only);
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
}

pub fn unasked_bytes_wait_and_then_flow(make: Make) {
    const TOTAL: usize = 8 * 1024 * 1024;
    let mut rig = Rig::new(make(512));
    let (sock, client) = rig.pair();
    let mut writer = client.try_clone().unwrap();
    let writing = std::thread::spawn(move || writer.write_all(&pattern(TOTAL)));
    let mut all = rig.read(sock, 1);
    for _ in 0..30 {
        rig.turn(5);
    }
    // Nobody asks: what the ring holds of this socket is bounded by what was lent when it came.
    assert!(rig.told.is_empty(), "{:?}", rig.told);
    assert!(rig.io.lent() <= 2 * LENT_PAGES_MAX, "{} pages", rig.io.lent());
    assert!(!writing.is_finished(), "the sender must feel it");
    all.extend(rig.read(sock, TOTAL - all.len()));
    assert!(all == pattern(TOTAL), "the bytes must come whole and in order");
    writing.join().unwrap().unwrap();
    drop(client);
    rig.io.recv(sock);
    rig.eof(sock);
    rig.close(sock);
    rig.all_pages_are_accounted_for();
}

pub fn dripped_bytes_share_pages(make: Make) {
    let mut rig = Rig::new(make(256));
    let (sock, mut client) = rig.pair();
    client.set_nodelay(true).unwrap();
    client.write_all(b"x").unwrap();
    assert_eq!(rig.read(sock, 1), b"x");
    let text = pattern(500);
    for byte in &text {
        client.write_all(&[*byte]).unwrap();
        rig.turn(0);
    }
    assert!(rig.io.lent() <= 64 + 3, "{} pages", rig.io.lent());
    assert_eq!(rig.read(sock, text.len()), text);
    rig.close(sock);
    rig.all_pages_are_accounted_for();
}

pub fn short_sends_lose_nothing(make: Make) {
    const TOTAL: usize = 1024 * 1024;
    let mut rig = Rig::new(make(64));
    let address = rig.listen_tcp();
    // Accepted sockets inherit a buffer that cannot take a whole chain.
    shrink_send_buffer(address, 16 * 1024);
    let mut client = dial(address);
    let (sock, _) = rig.accepted();
    let reading = std::thread::spawn(move || {
        let mut all = vec![0; TOTAL];
        client.read_exact(&mut all).unwrap();
        (all, client)
    });
    let text = pattern(TOTAL);
    let (mut at, mut short) = (0, 0);
    while at < TOTAL {
        let part = &text[at..TOTAL.min(at + 4 * RECV_BYTES)];
        let chain = rig.chain(part, 4);
        rig.io.send(sock, chain);
        let sent = rig.sent(sock);
        assert!(sent > 0 && sent <= part.len());
        short += usize::from(sent < part.len());
        at += sent;
    }
    assert!(short > 0, "a small buffer makes sends short");
    let (all, _client) = reading.join().unwrap();
    assert!(all == text);
    rig.close(sock);
    rig.all_pages_are_accounted_for();
}

pub fn half_close_reaches_both_sides(make: Make) {
    let mut rig = Rig::new(make(16));
    let (sock, mut client) = rig.pair();
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rig.read(sock, 8), b"question");
    rig.io.recv(sock);
    rig.eof(sock);
    // The other direction still works.
    rig.write(sock, b"answer");
    rig.io.shut(sock);
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "answer");
    for _ in 0..5 {
        rig.turn(1);
    }
    assert!(rig.told.is_empty(), "nothing follows the end (rule 9): {:?}", rig.told);
    rig.close(sock);
}

pub fn reset_is_a_failure_at_the_other_end(make: Make) {
    let mut rig = Rig::new(make(16));
    let (sock, mut client) = rig.pair();
    rig.io.recv(sock);
    rig.turn(1);
    rig.io.reset(sock);
    rig.closed(sock);
    assert_eq!(client.read(&mut [0; 9]).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);

    // And towards us.
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let out = rig.connected(&Address::Tcp(server.local_addr().unwrap()));
    let (there, _) = server.accept().unwrap();
    rig.io.recv(out);
    socket2::SockRef::from(&there).set_linger(Some(Duration::ZERO)).unwrap();
    drop(there);
    let errno = rig.wait("failure", |done| match done {
        Done::Failed { sock, what: Failure::Recv, errno } if *sock == out => Some(errno.0),
        _ => None,
    });
    assert_eq!(errno.0, libc::ECONNRESET);
    let chain = rig.chain(b"too late", 1);
    rig.io.send(out, chain);
    rig.wait("failure", |done| {
        matches!(done, Done::Failed { sock, what: Failure::Send, .. } if *sock == out).then_some(())
    });
    rig.close(out);
    rig.all_pages_are_accounted_for();
}

pub fn refused_connects_fail(make: Make) {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::new(make(16));
    let stale = folder.path().join("stale");
    drop(UnixListener::bind(&stale).unwrap());
    let cases = [
        (Address::Tcp(free_port()), libc::ECONNREFUSED),
        (Address::Unix(stale), libc::ECONNREFUSED),
        (Address::Unix(folder.path().join("absent")), libc::ENOENT),
    ];
    for (address, expected) in cases {
        let sock = rig.io.connect(&address).unwrap();
        let (errno, _) = rig.wait("failure", |done| match done {
            Done::Failed { sock: it, what: Failure::Connect, errno } if *it == sock => Some(errno.0),
            _ => None,
        });
        assert_eq!(errno, expected, "{address}");
        rig.close(sock);
    }
    let long = Address::Unix(folder.path().join("x".repeat(200)));
    assert!(rig.io.connect(&long).is_err());
}

pub fn close_ends_everything_in_flight(make: Make) {
    let mut rig = Rig::new(make(64));
    let (sock, client) = rig.pair();
    // Fill the connection until a send stays in flight, with a receive beside it.
    let text = pattern(4 * RECV_BYTES);
    loop {
        let chain = rig.chain(&text, 4);
        rig.io.send(sock, chain);
        rig.turn(30);
        let sent = rig.told.iter().position(|done| matches!(done, Done::Sent { .. }));
        match sent.map(|at| rig.told.remove(at)) {
            Some(Done::Sent { chain, .. }) => rig.io.pool().give_chain(chain),
            _ => break,
        }
    }
    rig.io.recv(sock);
    rig.turn(1);
    rig.io.close(sock);
    rig.io.close(sock);
    rig.io.reset(sock);
    rig.closed(sock);
    rig.io.close(sock);

    // A connect in flight: nobody answers there.
    let silent = rig.io.connect(&Address::Tcp("192.0.2.1:9".parse().unwrap())).unwrap();
    rig.turn(1);
    rig.io.close(silent);
    // And one that was not even handed over.
    let fresh = rig.io.connect(&Address::Tcp(free_port())).unwrap();
    rig.io.close(fresh);
    rig.told.retain(|done| !matches!(done, Done::Failed { what: Failure::Connect, .. }));
    rig.closed(silent);
    rig.closed(fresh);
    for _ in 0..5 {
        rig.turn(1);
    }
    assert!(rig.told.is_empty(), "exactly one Closed (rule 2): {:?}", rig.told);
    rig.all_pages_are_accounted_for();
    drop(client);
}

pub fn an_id_is_not_seen_again(make: Make) {
    let mut rig = Rig::new(make(64));
    let address = rig.listen_tcp();
    let mut seen: Vec<SockId> = Vec::new();
    for round in 0..100 {
        let mut client = dial(address);
        let (sock, _) = rig.accepted();
        assert!(!seen.contains(&sock));
        rig.io.recv(sock);
        if round % 2 == 0 {
            // Bytes are on their way while the socket closes.
            client.write_all(b"late").unwrap();
        }
        if round % 3 == 0 {
            rig.turn(0);
        }
        rig.io.close(sock);
        rig.told.retain(|done| match done {
            Done::Received { sock: it, .. } => *it != sock,
            _ => true,
        });
        rig.closed(sock);
        seen.push(sock);
    }
    assert!(seen.iter().any(|sock| sock.generation > 0), "slots are used again");
    assert!(rig.told.is_empty(), "{:?}", rig.told);
}

pub fn a_second_receive_is_a_bug(make: Make) {
    let mut rig = Rig::new(make(16));
    let (sock, _client) = rig.pair();
    rig.io.recv(sock);
    assert!(catch_unwind(AssertUnwindSafe(|| rig.io.recv(sock))).is_err());
    let (one, two) = (rig.chain(b"a", 1), rig.chain(b"b", 1));
    rig.io.send(sock, one);
    assert!(catch_unwind(AssertUnwindSafe(|| rig.io.send(sock, two))).is_err());
}

pub fn a_deadline_ends_the_wait(make: Make) {
    let mut rig = Rig::new(make(16));
    rig.listen_tcp();
    let before = clock::now();
    let after = rig.io.turn(before + Duration::from_millis(40), &mut rig.told).unwrap();
    let waited = after - before;
    assert!(waited >= Duration::from_millis(40) && waited < Duration::from_secs(5), "{waited:?}");
    // One that has passed does not wait at all.
    let after = rig.io.turn(before, &mut rig.told).unwrap();
    assert!(after - before < Duration::from_secs(5));
    assert!(rig.told.is_empty());
}

pub fn a_waker_ends_the_wait(make: Make) {
    let mut rig = Rig::new(make(16));
    for _ in 0..20 {
        let waker = rig.io.waker();
        let called = std::sync::Arc::new(AtomicBool::new(false));
        let calling = called.clone();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(2));
            calling.store(true, Ordering::SeqCst);
            waker.wake();
            waker.wake();
        });
        while !rig.told.iter().any(|done| matches!(done, Done::Woken)) {
            rig.io.turn(clock::Moment::NEVER, &mut rig.told).unwrap();
        }
        assert!(called.load(Ordering::SeqCst));
        thread.join().unwrap();
        // The second call may have become a wake of its own.
        rig.turn(1);
        rig.told.clear();
    }
    // A wake before the wait is not lost.
    rig.io.waker().wake();
    rig.io.turn(clock::Moment::NEVER, &mut rig.told).unwrap();
    assert!(matches!(rig.told[..], [Done::Woken]));
}

pub fn pausing_leaves_connections_in_the_queue(make: Make) {
    let mut rig = Rig::new(make(16));
    let address = rig.listen_tcp();
    let first = dial(address);
    rig.accepted();
    rig.io.pause(FIRST);
    rig.turn(5);
    let second = dial(address);
    for _ in 0..5 {
        rig.turn(5);
    }
    assert!(rig.told.is_empty(), "{:?}", rig.told);
    rig.io.accept(FIRST);
    let (_, ends) = rig.accepted();
    assert_eq!(ends.client, Some(second.local_addr().unwrap()));
    // Back and forth before the kernel hears of it.
    rig.io.pause(FIRST);
    rig.io.accept(FIRST);
    rig.io.pause(FIRST);
    rig.io.accept(FIRST);
    let third = dial(address);
    assert_eq!(rig.accepted().1.client, Some(third.local_addr().unwrap()));
    drop(first);
}

pub fn unlisten_hands_out_the_queue(make: Make) {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::new(make(64));
    let address = rig.listen_tcp();
    let path = folder.path().join("front");
    rig.io.listen(ListenerId(1), &Address::Unix(path.clone()), &OPTIONS).unwrap();
    rig.io.pause(FIRST);
    rig.turn(5);
    let clients: Vec<_> = (0..10).map(|_| dial(address)).collect();
    let unix: Vec<_> = (0..10).map(|_| UnixStream::connect(&path).unwrap()).collect();
    rig.io.unlisten(FIRST);
    rig.io.unlisten(ListenerId(1));
    // The number can be used again at once.
    let again = free_port();
    rig.io.listen(FIRST, &Address::Tcp(again), &OPTIONS).unwrap();
    for mut client in clients {
        let sock = rig.accepted().0;
        rig.write(sock, b"hello");
        drop(client.set_read_timeout(Some(Duration::from_secs(5))));
        assert_eq!(client.read(&mut [0; 9]).unwrap(), 5);
        rig.close(sock);
    }
    for _ in unix {
        let sock = rig.accepted().0;
        rig.close(sock);
    }
    rig.turn(5);
    assert!(std::net::TcpStream::connect(address).is_err());
    assert!(!path.exists());
    let client = dial(again);
    assert_eq!(rig.accepted().1.client, Some(client.local_addr().unwrap()));
}

pub fn a_unix_path_is_shared_and_removed(make: Make) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("front");
    // A file that a killed process left.
    drop(UnixListener::bind(&path).unwrap());
    let address = Address::Unix(path.clone());
    let mut first = Rig::new(make(16));
    first.io.listen(FIRST, &address, &OPTIONS).unwrap();
    let mut second = Rig::new(make(16));
    second.io.listen(FIRST, &address, &OPTIONS).unwrap();
    let clients: Vec<_> = (0..20).map(|_| UnixStream::connect(&path).unwrap()).collect();
    let mut accepted = 0;
    while accepted < clients.len() {
        for rig in [&mut first, &mut second] {
            rig.turn(2);
            accepted += rig.told.drain(..).filter(|done| matches!(done, Done::Accepted { .. })).count();
        }
    }
    first.io.unlisten(FIRST);
    first.turn(5);
    let _late = UnixStream::connect(&path).unwrap();
    second.accepted();
    drop(second);
    assert!(!path.exists());
}

pub fn busy_ports_and_paths_come_with_advice(make: Make) {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::new(make(16));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let path = folder.path().join("taken");
    let _server = UnixListener::bind(&path).unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    let cases = [
        (Address::Tcp(taken.local_addr().unwrap()), "ss -ltnp"),
        (Address::Tcp("192.0.2.1:80".parse().unwrap()), "ip address"),
        (Address::Unix(path), "another process listens there"),
        (Address::Unix(file.clone()), "not a socket"),
    ];
    for (address, advice) in cases {
        let error = rig.io.listen(FIRST, &address, &OPTIONS).unwrap_err().to_string();
        assert!(error.contains(advice) && error.contains(&address.to_string()), "{error}");
    }
    assert_eq!(std::fs::read(file).unwrap(), b"precious");
}
