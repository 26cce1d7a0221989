//! Bytes that must not pass: what is damaged, out of place, endless, or not TLS at all.

use super::*;

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;

fn working(version: Version) -> Pair {
    let (server, client) = both(&only(version));
    let mut pair = Pair::new(&server, &client, "localhost");
    pair.works();
    pair
}

#[test]
fn recognises_what_is_not_tls() {
    let (server, client) = both(&ServerOptions::default());
    for step in [1, 2, 5, usize::MAX] {
        for (bytes, error) in [
            (&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], Some(TlsError::NotTls)),
            (b"G", Some(TlsError::NotTls)),
            (b"\x80\x2e\x01\x03\x01", Some(TlsError::NotTls)),
            (b"\x16\x02\x00\x00\x10", Some(TlsError::NotTls)),
            (b"\x17\x03\x03\x00\x10", Some(TlsError::NotTls)),
            (b"\x00", Some(TlsError::NotTls)),
            (b"\x16\x03\x01\x00", None),
            (b"\x16", None),
            (b"", None),
        ] {
            let mut pair = Pair::new(&server, &client, "localhost");
            pair.server.receive(bytes, step, &mut pair.pool);
            assert_eq!(pair.server.error, error, "{bytes:?}");
            assert_eq!(pair.server.out.len(), 0, "nothing is said to somebody who does not speak TLS");
            pair.end();
        }
        let mut pair = Pair::new(&server, &client, "localhost");
        pair.client.pipe.start(&mut pair.client.out, &mut pair.pool).unwrap();
        pair.client.receive(b"HTTP/1.1 400 Bad Request\r\n\r\n", step, &mut pair.pool);
        assert_eq!(pair.client.error, Some(TlsError::NotTls));
        pair.end();
    }
}

#[test]
fn a_record_changed_anywhere_is_refused_with_an_alert() {
    for version in [Version::Tls12, Version::Tls13] {
        let probe = working(version).client.pipe.seal_raw(DATA, b"text", 0).len();
        for at in 0..probe {
            let mut pair = working(version);
            let mut record = pair.client.pipe.seal_raw(DATA, b"text", 0);
            // A longer length makes a record that is not complete; what follows completes it wrongly.
            let more = pair.client.pipe.seal_raw(DATA, &[0; 300], 0);
            record.extend(more);
            record[at] ^= 1;
            pair.server.receive(&record, 9, &mut pair.pool);
            let error = pair.server.error.unwrap();
            let expected = [TlsError::BadRecord, TlsError::BadMessage, TlsError::Unexpected];
            assert!(expected.contains(&error), "{version:?} byte {at}: {error:?}");
            assert_eq!(pair.server.plain.len(), 0);
            pair.run();
            assert_eq!(pair.client.error, error.alert().map(TlsError::Alert));
            pair.end();
        }
    }
}

#[test]
fn refuses_what_has_no_place_behind_the_handshake() {
    let long = [4, 0, 0x40, 1];
    let table: [(u8, &[u8], Result<(), TlsError>); 20] = [
        (20, &[1], Err(TlsError::Unexpected)),
        (24, b"heartbeat", Err(TlsError::Unexpected)),
        (0, b"", Err(TlsError::Unexpected)),
        (HANDSHAKE, b"", Err(TlsError::Unexpected)),
        (HANDSHAKE, &[1, 0, 0, 0], Err(TlsError::Unexpected)),
        (HANDSHAKE, &[0, 0, 0, 0], Err(TlsError::Unexpected)),
        (HANDSHAKE, &[4, 0, 0, 0], Err(TlsError::Unexpected)),
        (HANDSHAKE, &[20, 0, 0, 0], Err(TlsError::Unexpected)),
        (HANDSHAKE, &[24, 0, 0, 1, 2], Err(TlsError::BadMessage)),
        (HANDSHAKE, &[24, 0, 0, 0], Err(TlsError::BadMessage)),
        (HANDSHAKE, &[24, 0, 0, 2, 0, 0], Err(TlsError::BadMessage)),
        (HANDSHAKE, &[24, 0, 0, 1, 0, 24, 0, 0, 1, 0], Err(TlsError::Unexpected)),
        (HANDSHAKE, &[24, 0, 0, 1, 0, 24], Err(TlsError::Unexpected)),
        (HANDSHAKE, &long, Err(TlsError::BadMessage)),
        (HANDSHAKE, &[24, 0, 0], Ok(())),
        (HANDSHAKE, &[24, 0, 0, 1, 0], Ok(())),
        (ALERT, &[2], Err(TlsError::BadMessage)),
        (ALERT, &[2, 0, 0], Err(TlsError::BadMessage)),
        (ALERT, &[1, 90], Ok(())),
        (ALERT, &[2, 40], Err(TlsError::Alert(40))),
    ];
    for (kind, content, expected) in table {
        let mut pair = working(Version::Tls13);
        let record = pair.client.pipe.seal_raw(kind, content, 0);
        pair.server.receive(&record, 3, &mut pair.pool);
        assert_eq!(pair.server.error.map_or(Ok(()), Err), expected, "{kind} {content:?}");
        pair.run();
        let told = expected.err().and_then(TlsError::alert).map(TlsError::Alert);
        assert_eq!(pair.client.error, told, "{kind} {content:?}");
        pair.end();
    }
}

#[test]
fn refuses_records_in_the_clear_and_data_between_parts_of_a_message() {
    for clear in [&[20, 3, 3, 0, 1, 1][..], &[21, 3, 3, 0, 2, 1, 0], &[22, 3, 3, 0, 4, 1, 0, 0, 0]] {
        let mut pair = working(Version::Tls13);
        pair.server.receive(&[clear, &[0; 40]].concat(), usize::MAX, &mut pair.pool);
        assert!(matches!(pair.server.error, Some(TlsError::Unexpected | TlsError::BadRecord)));
        pair.end();
    }
    let mut pair = working(Version::Tls13);
    let part = pair.client.pipe.seal_raw(HANDSHAKE, &[24, 0], 0);
    let data = pair.client.pipe.seal_raw(DATA, b"text", 0);
    pair.server.receive(&[part, data].concat(), usize::MAX, &mut pair.pool);
    assert_eq!(pair.server.error, Some(TlsError::Unexpected));
    pair.end();
}

#[test]
fn a_key_update_may_come_in_pieces() {
    let mut pair = working(Version::Tls13);
    for byte in [24, 0, 0, 1, 1] {
        let record = pair.client.pipe.seal_raw(HANDSHAKE, &[byte], 0);
        pair.server.receive(&record, usize::MAX, &mut pair.pool);
    }
    assert_eq!(pair.server.error, None);
    // The server announces its own new keys before it sends data again.
    assert_eq!(pair.server.out.len(), 0);
    pair.server.write(b"under new keys", 100, &mut pair.pool);
    assert_eq!(pair.server.pipe.records_sealed(), 1);
    pair.run();
    assert_eq!(pair.client.read(&mut pair.pool), b"under new keys");
    pair.end();
}

#[test]
fn refuses_records_that_are_too_long() {
    for version in [Version::Tls12, Version::Tls13] {
        let max = if version == Version::Tls13 { 16_384 + 256 } else { 16_384 + 2048 };
        let mut pair = working(version);
        let [high, low] = (max as u16 + 1).to_be_bytes();
        pair.server.receive(&[DATA, 3, 3, high, low], 1, &mut pair.pool);
        assert_eq!(pair.server.error, Some(TlsError::RecordTooLong));
        pair.run();
        assert_eq!(pair.client.error, Some(TlsError::Alert(22)));
        pair.end();

        let mut pair = working(version);
        let record = pair.client.pipe.seal_raw(DATA, &vec![7; 16_385], 0);
        pair.server.receive(&record, usize::MAX, &mut pair.pool);
        assert_eq!(pair.server.error, Some(TlsError::RecordTooLong));
        pair.end();
    }
    let (server, client) = both(&ServerOptions::default());
    let mut pair = Pair::new(&server, &client, "localhost");
    pair.server.receive(&[HANDSHAKE, 3, 1, 0xff, 0xff, 1, 0, 0, 0], 1, &mut pair.pool);
    assert!(pair.server.error.is_some());
    pair.end();
}

#[test]
fn records_without_data_are_bounded() {
    let silent: [(Version, u8, &[u8]); 4] = [
        (Version::Tls12, DATA, b""),
        (Version::Tls13, DATA, b""),
        (Version::Tls12, ALERT, &[1, 100]),
        (Version::Tls13, ALERT, &[1, 90]),
    ];
    for (version, kind, content) in silent {
        let mut pair = working(version);
        for _ in 0..3 {
            for _ in 0..32 {
                let record = pair.client.pipe.seal_raw(kind, content, 0);
                pair.server.receive(&record, usize::MAX, &mut pair.pool);
            }
            let record = pair.client.pipe.seal_raw(DATA, b"x", 0);
            pair.server.receive(&record, usize::MAX, &mut pair.pool);
            assert_eq!(pair.server.error, None);
        }
        let flood: Vec<u8> = (0..33).flat_map(|_| pair.client.pipe.seal_raw(kind, content, 0)).collect();
        pair.server.receive(&flood, usize::MAX, &mut pair.pool);
        assert_eq!(pair.server.error, Some(TlsError::Flood));
        pair.end();
    }
    let mut pair = working(Version::Tls13);
    for round in 0..=1024 {
        pair.client.pipe.update_keys(&mut pair.client.out, &mut pair.pool);
        pair.client.write(b"x", 1, &mut pair.pool);
        pair.run();
        assert_eq!(pair.server.error, (round == 1024).then_some(TlsError::Flood));
    }
    pair.end();

    let mut pair = working(Version::Tls13);
    for _ in 0..33 {
        pair.client.pipe.update_keys(&mut pair.client.out, &mut pair.pool);
    }
    pair.run();
    assert_eq!(pair.server.error, Some(TlsError::Flood));
    pair.end();
}

#[test]
fn renegotiation_is_refused_once_and_then_ends_the_connection() {
    let mut pair = working(Version::Tls12);
    let hello = pair.client.pipe.seal_raw(HANDSHAKE, &[1, 0, 0, 0], 0);
    pair.server.receive(&hello, usize::MAX, &mut pair.pool);
    assert_eq!(pair.server.error, None);
    assert!(!pair.server.out.is_empty(), "a warning is sent");
    pair.exchange(b"still", b"working");
    let hello = pair.client.pipe.seal_raw(HANDSHAKE, &[1, 0, 0, 0], 0);
    pair.server.receive(&hello, usize::MAX, &mut pair.pool);
    assert_eq!(pair.server.error, Some(TlsError::Renegotiation));
    pair.end();

    let mut pair = working(Version::Tls12);
    for error in [None, Some(TlsError::Renegotiation)] {
        let request = pair.server.pipe.seal_raw(HANDSHAKE, &[0, 0, 0, 0], 0);
        pair.client.receive(&request, usize::MAX, &mut pair.pool);
        assert_eq!(pair.client.error, error);
    }
    pair.end();
}

#[test]
fn a_clean_end_differs_from_a_cut() {
    for version in [Version::Tls12, Version::Tls13] {
        let mut pair = working(version);
        pair.client.write(b"last", 10, &mut pair.pool);
        let mut end = pair.client.sent(&mut pair.pool);
        pair.client.pipe.close_notify(&mut pair.client.out, &mut pair.pool).unwrap();
        pair.client.pipe.close_notify(&mut pair.client.out, &mut pair.pool).unwrap();
        end.extend(pair.client.sent(&mut pair.pool));
        let whole = end.len();
        end.extend_from_slice(b"bytes after the end are dropped");
        pair.server.receive(&end[..whole - 1], usize::MAX, &mut pair.pool);
        assert!(!pair.server.pipe.peer_closed());
        assert_eq!(pair.server.pipe.pages(), 1);
        pair.server.receive(&end[whole - 1..], usize::MAX, &mut pair.pool);
        assert!(pair.server.pipe.peer_closed());
        assert_eq!((pair.server.error, pair.server.pipe.pages()), (None, 0));
        assert_eq!(pair.server.read(&mut pair.pool), b"last");
        // The other direction still works, and ours is closed for good.
        pair.server.write(b"answer", 10, &mut pair.pool);
        pair.run();
        assert_eq!(pair.client.read(&mut pair.pool), b"answer");
        let mut plain = Queue::new();
        plain.append(b"x", &mut pair.pool);
        let late = pair.client.pipe.encrypt(&mut plain, &mut pair.client.out, 1, &mut pair.pool);
        assert_eq!(late, Err(TlsError::Closed));
        plain.clear(&mut pair.pool);
        pair.end();
    }
}

#[test]
fn after_an_error_nothing_works_any_more() {
    let mut pair = working(Version::Tls13);
    let first = pair.client.pipe.seal_raw(DATA, b"first", 0);
    let mut damaged = pair.client.pipe.seal_raw(DATA, b"second", 0);
    damaged[10] ^= 1;
    pair.server.receive(&[first, damaged].concat(), usize::MAX, &mut pair.pool);
    assert_eq!(pair.server.error.take(), Some(TlsError::BadRecord));
    let record = pair.client.pipe.seal_raw(DATA, b"third", 0);
    pair.server.receive(&record, usize::MAX, &mut pair.pool);
    assert_eq!(pair.server.error, Some(TlsError::Closed));
    let mut plain = Queue::new();
    plain.append(b"x", &mut pair.pool);
    let result = pair.server.pipe.encrypt(&mut plain, &mut pair.server.out, 1, &mut pair.pool);
    assert_eq!(result, Err(TlsError::Closed));
    assert_eq!(plain.len(), 1);
    plain.clear(&mut pair.pool);
    pair.end();
}

#[test]
fn a_handshake_changed_anywhere_never_works() {
    for version in [Version::Tls12, Version::Tls13] {
        let (server, client) = both(&only(version));
        let mut whole = Pair::new(&server, &client, "localhost");
        whole.client.pipe.start(&mut whole.client.out, &mut whole.pool).unwrap();
        let hello = whole.client.out.len();
        for at in (0..hello).step_by(7) {
            let mut pair = Pair::new(&server, &client, "localhost");
            pair.client.pipe.start(&mut pair.client.out, &mut pair.pool).unwrap();
            let mut sent = pair.client.sent(&mut pair.pool);
            sent[at.min(hello - 1)] ^= 0x41;
            pair.server.receive(&sent, 100, &mut pair.pool);
            pair.run();
            let one_failed = pair.client.error.is_some() || pair.server.error.is_some();
            let one_waits = pair.client.pipe.is_handshaking() || pair.server.pipe.is_handshaking();
            // The version field of the record is not protected, and nothing depends on it.
            assert!(one_failed || one_waits || at < 5, "{version:?} {at}");
            assert_eq!(pair.server.plain.len(), 0);
            pair.end();
        }
        // The server's flight.
        for at in (0..600).step_by(13) {
            let mut pair = Pair::new(&server, &client, "localhost");
            pair.client.pipe.start(&mut pair.client.out, &mut pair.pool).unwrap();
            let hello = pair.client.sent(&mut pair.pool);
            pair.server.receive(&hello, usize::MAX, &mut pair.pool);
            let mut flight = pair.server.sent(&mut pair.pool);
            let at = at % flight.len();
            flight[at] ^= 0x41;
            pair.client.receive(&flight, 1000, &mut pair.pool);
            pair.run();
            let failed = pair.client.error.is_some() || pair.server.error.is_some();
            let waits = pair.client.pipe.is_handshaking();
            assert!(failed || waits || at < 5, "{version:?} {at}");
            pair.end();
        }
        whole.end();
    }
}

#[test]
fn says_what_does_not_fit() {
    let table: [(Version, Version, &[&str], TlsError, u8); 3] = [
        (Version::Tls13, Version::Tls12, &["http/1.1"], TlsError::NoVersion, 70),
        (Version::Tls12, Version::Tls13, &["http/1.1"], TlsError::NoVersion, 70),
        (Version::Tls13, Version::Tls13, &["h2"], TlsError::NoProtocol, 120),
    ];
    for (server, client, alpn, error, alert) in table {
        let (server, _) = both(&only(server));
        let versions: &[_] =
            if client == Version::Tls13 { &[&rustls::version::TLS13] } else { &[&rustls::version::TLS12] };
        let mut config = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let mut other =
            rustls::ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        let mut hello = Vec::new();
        other.write_tls(&mut hello).unwrap();
        let (mut pool, mut side) = (Pool::new(64), Side::new(Pipe::accept(&server).unwrap()));
        side.receive(&hello, usize::MAX, &mut pool);
        assert_eq!(side.error, Some(error));
        let sent = side.sent(&mut pool);
        other.read_tls(&mut &sent[..]).unwrap();
        let told = other.process_new_packets().unwrap_err();
        assert_eq!(told, rustls::Error::AlertReceived(alert.into()));
        assert_eq!(pool.free(), pool.made());
    }
}

#[test]
fn a_dry_pool_ends_a_handshake_without_losing_a_page() {
    let (server, client) = both(&ServerOptions::default());
    let mut pair = Pair::new(&server, &client, "localhost");
    pair.client.pipe.start(&mut pair.client.out, &mut pair.pool).unwrap();
    let hello = pair.client.sent(&mut pair.pool);
    let mut pool = Pool::new(1);
    pair.server.receive(&hello, usize::MAX, &mut pool);
    assert_eq!(pair.server.error, Some(TlsError::Starved));
    assert_eq!((pool.free(), pool.made()), (1, 1));
    pair.end();
}

#[test]
fn errors_read_as_sentences() {
    assert_eq!(TlsError::Alert(48).to_string(), "the other side sent alert 48 (unknown_ca)");
    assert_eq!(TlsError::NotTls.to_string(), "the first bytes are not TLS");
}
