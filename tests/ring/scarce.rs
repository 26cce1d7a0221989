//! When descriptors or pages are scarce, and that none leaks.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use ringgate::buf::{Chain, Chunk};
use ringgate::net::Address;
use ringgate::ring::Done;

use crate::Make;
use crate::rig::{FIRST, Rig, descriptors, dial, pattern};

pub fn a_thousand_connections_leak_nothing(make: Make) {
    let before = descriptors();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let back = Address::Tcp(server.local_addr().unwrap());
    let mut rig = Rig::new(make(64));
    let address = rig.listen_tcp();
    for round in 0..1000 {
        let mut client = dial(address);
        let (sock, _) = rig.accepted();
        let out = rig.io.connect(&back).unwrap();
        rig.io.recv(sock);
        match round % 4 {
            0 => client.write_all(b"gone before it is read").unwrap(),
            1 => drop(client),
            2 => rig.turn(0),
            _ => {}
        }
        rig.io.close(sock);
        rig.io.close(out);
        rig.told
            .retain(|done| !matches!(done, Done::Connected { .. } | Done::Eof { .. } | Done::Failed { .. }));
        rig.closed(sock);
        rig.closed(out);
        drop(server.accept());
    }
    rig.told
        .drain(..)
        .for_each(|done| assert!(matches!(done, Done::Connected { .. } | Done::Eof { .. }), "{done:?}"));
    rig.all_pages_are_accounted_for();
    drop(rig);
    drop(server);
    assert_eq!(descriptors(), before);
}

pub fn two_pages_serve_fifty_connections(make: Make) {
    let mut rig = Rig::new(make(2));
    let address = rig.listen_tcp();
    let text = pattern(3000);
    let clients: Vec<_> = (0..50)
        .map(|_| {
            let mut client = dial(address);
            let text = text.clone();
            std::thread::spawn(move || {
                client.write_all(&text).unwrap();
                client.shutdown(Shutdown::Write).unwrap();
                let mut all = Vec::new();
                client.read_to_end(&mut all).unwrap();
                assert_eq!(all, text);
            })
        })
        .collect();
    let mut open = 50;
    let mut told = Vec::new();
    while open > 0 {
        rig.turn(1000);
        told.append(&mut rig.told);
        for done in told.drain(..) {
            match done {
                Done::Accepted { sock, .. } => rig.io.recv(sock),
                Done::Received { sock, chain } => rig.io.send(sock, chain),
                Done::Sent { sock, chain, bytes } => {
                    let mut chunks = chain.into_chunks();
                    let mut chunk: Chunk = chunks.next().unwrap();
                    chunk.advance(bytes);
                    if chunk.is_empty() {
                        rig.io.pool().give(chunk.into_page());
                        rig.io.recv(sock);
                    } else {
                        let mut rest = Chain::new();
                        rest.push(chunk).unwrap();
                        rig.io.send(sock, rest);
                    }
                }
                Done::Eof { sock } => rig.io.close(sock),
                Done::Closed { .. } => open -= 1,
                done => panic!("{done:?}"),
            }
        }
        assert!(rig.io.pool().made() <= 2);
    }
    clients.into_iter().for_each(|client| client.join().unwrap());
    assert!(rig.io.starved() > 0, "fifty cannot all find one of two pages");
    rig.all_pages_are_accounted_for();
}

/// Sets how many files may be open; returns the old limit.
fn set_limit(soft: u64) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the struct is valid for the kernel to read and write.
    #[allow(unsafe_code)]
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        let before = limit.rlim_cur;
        limit.rlim_cur = soft;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
        before
    }
}

pub fn no_descriptors_pause_the_listener(make: Make) {
    // The kernel looks at the limit when an accept is started, so it is set before that and filled after.
    let mut rig = Rig::new(make(16));
    let top = descriptors() as u64 + 12;
    let before = set_limit(top);
    let address = rig.listen_tcp();
    let kept = dial(address);
    rig.accepted();
    let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    // No number below the limit is free.
    let mut fill = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        fill.push(file);
    }
    let refused = rig.io.connect(&Address::Tcp(address)).unwrap_err();
    client.connect(&address.into()).unwrap();
    for _ in 0..3 {
        rig.turn(20);
    }
    let failures: Vec<_> = rig.told.drain(..).collect();
    fill.clear();
    set_limit(before);
    assert_eq!(refused.0, libc::EMFILE);
    assert!(
        matches!(failures[..], [Done::AcceptFailed { listener: FIRST, errno }] if errno.0 == libc::EMFILE),
        "told once: {failures:?}"
    );
    rig.turn(20);
    assert!(rig.told.is_empty(), "paused: {:?}", rig.told);
    rig.io.accept(FIRST);
    rig.accepted();
    drop(kept);
}

pub fn dropping_closes_everything(make: Make) {
    let before = descriptors();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut rig = Rig::new(make(64));
    let address = rig.listen_tcp();
    let mut clients: Vec<TcpStream> = (0..20).map(|_| dial(address)).collect();
    let mut held = Vec::new();
    for client in &mut clients {
        client.write_all(b"x").unwrap();
        let (sock, _) = rig.accepted();
        rig.io.recv(sock);
        held.push(sock);
    }
    let out = rig.connected(&Address::Tcp(server.local_addr().unwrap()));
    let chain = rig.chain(b"never sent", 1);
    rig.io.send(out, chain);
    rig.turn(1);
    drop(rig);
    // The port is free at once, and everybody was told.
    TcpListener::bind(address).unwrap();
    for mut client in clients {
        let _ = client.read(&mut [0; 9]);
    }
    drop(server);
    assert_eq!(descriptors(), before);
}
