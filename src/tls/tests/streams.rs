//! Bytes that pass: every kind of handshake, every way to cut the stream, large and small data.

use super::*;
use crate::limits::PAGE_BYTES;

const VERSIONS: [Version; 2] = [Version::Tls12, Version::Tls13];

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8 ^ (at / 251) as u8).collect()
}

#[test]
fn agrees_on_facts() {
    for (version, text, cipher) in [
        (Version::Tls12, "TLSv1.2", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
        (Version::Tls13, "TLSv1.3", "TLS13_AES_128_GCM_SHA256"),
    ] {
        let (server, client) = both(&only(version));
        let mut pair = Pair::new(&server, &client, "LocalHost");
        assert_eq!(pair.server.pipe.version(), "");
        pair.works();
        for side in [&pair.client, &pair.server] {
            assert_eq!(side.pipe.version(), text);
            assert_eq!(side.pipe.cipher(), cipher);
            assert_eq!(side.pipe.alpn(), Some("http/1.1"));
            assert!(!side.pipe.resumed() && !side.pipe.peer_closed());
            assert_eq!(side.pipe.subject(), None);
        }
        assert_eq!(pair.server.pipe.server_name(), Some("localhost"));
        assert_eq!(pair.client.pipe.server_name(), None);
        pair.end();
    }
}

#[test]
fn any_cut_of_the_stream_gives_the_same_bytes() {
    for version in VERSIONS {
        let (server, client) = both(&only(version));
        for resumed in [false, true] {
            for step in [1, 2, 3, 5, 6, 7, 21, 100, 255, 1000, 4096, 16_384] {
                let mut pair = Pair::new(&server, &client, "localhost");
                pair.step = step;
                pair.works();
                assert_eq!(pair.server.pipe.resumed(), resumed || step > 1, "{version:?} {step}");
                let large = pattern(if step < 100 { 20_000 } else { 200_000 });
                pair.exchange(&large, &large);
                pair.end();
            }
        }
    }
}

#[test]
fn sealed_pages_carry_what_was_written_whatever_their_shape() {
    // (where the chunk starts in its page, its length)
    let shapes = [
        (0, 100),
        (64, 16_384),
        (64, PAGE_BYTES - 64),
        (0, PAGE_BYTES),
        (4, 1),
        (12, 30),
        (PAGE_BYTES - 300, 300),
        (5000, PAGE_BYTES - 5000),
        (4096, 16_384),
    ];
    for version in VERSIONS {
        let (server, client) = both(&only(version));
        let mut pair = Pair::new(&server, &client, "localhost");
        pair.works();
        for (from, len) in shapes {
            let text = pattern(len);
            let mut page = pair.pool.take().unwrap();
            page.bytes_mut()[from..from + len].copy_from_slice(&text);
            let mut plain = Queue::new();
            plain.push(Chunk::new(page, from, from + len), &mut pair.pool);
            let progress =
                pair.server.pipe.encrypt(&mut plain, &mut pair.server.out, usize::MAX, &mut pair.pool);
            assert_eq!(progress, Ok(Progress::Done));
            pair.run();
            assert!(pair.client.read(&mut pair.pool) == text, "{from} {len}");
        }
        pair.end();
    }
}

#[test]
fn small_neighbours_share_a_record_and_large_ones_stay_in_their_pages() {
    // (lengths of the chunks, lengths of the records' plaintexts)
    let table: [(&[usize], &[usize]); 8] = [
        (&[200, 12], &[212]),
        (&[200, 12, 5, 7], &[224]),
        (&[200, 4096], &[4296]),
        (&[200, 4097], &[200, 4097]),
        (&[200, 16_384], &[200, 16_384]),
        (&[16_384, 16_384, 1], &[16_384, 16_384, 1]),
        (&[16_000, 384, 1], &[16_384, 1]),
        (&[20_000], &[16_384, 3616]),
    ];
    let (server, client) = both(&only(Version::Tls13));
    let mut pair = Pair::new(&server, &client, "localhost");
    pair.works();
    for (chunks, records) in table {
        let mut plain = Queue::new();
        for &len in chunks {
            let mut chunk = Chunk::empty(pair.pool.take().unwrap());
            chunk.append(&pattern(len));
            plain.push(chunk, &mut pair.pool);
        }
        let mut out = Queue::new();
        pair.server.pipe.encrypt(&mut plain, &mut out, usize::MAX, &mut pair.pool).unwrap();
        let mut lengths = Vec::new();
        while let Some(chunk) = out.pop() {
            lengths.push(chunk.len() - 5 - 1 - 16);
            pair.pool.give(chunk.into_page());
        }
        assert_eq!(lengths, records, "{chunks:?}");
    }
    pair.end();
}

#[test]
fn stops_at_its_bound_and_when_the_pool_is_dry_and_loses_nothing() {
    let (server, client) = both(&only(Version::Tls13));
    let mut pair = Pair::new(&server, &client, "localhost");
    pair.works();
    let text = pattern(3 * 16_384);
    let mut plain = Queue::new();
    for part in text.chunks(16_384) {
        let mut chunk = Chunk::empty(pair.pool.take().unwrap());
        chunk.append(part);
        plain.push(chunk, &mut pair.pool);
    }
    let (pipe, out, pool) = (&mut pair.server.pipe, &mut pair.server.out, &mut pair.pool);
    assert_eq!(pipe.encrypt(&mut plain, out, 0, pool), Ok(Progress::More));
    assert_eq!(plain.len(), text.len());
    assert_eq!(pipe.encrypt(&mut plain, out, 1, pool), Ok(Progress::More));
    assert_eq!(plain.len(), 2 * 16_384);
    assert_eq!(pipe.encrypt(&mut plain, out, 20_000, pool), Ok(Progress::More));
    assert_eq!(plain.len(), 16_384);
    assert_eq!(pipe.encrypt(&mut plain, out, 16_384, pool), Ok(Progress::Done));
    pair.run();
    assert!(pair.client.read(&mut pair.pool) == text);

    // A page that is too full for one record needs a second page.
    let mut full = Chunk::new(pair.pool.take().unwrap(), 0, 0);
    full.append(&pattern(PAGE_BYTES));
    plain.push(full, &mut pair.pool);
    let mut dry = Pool::new(0);
    let progress = pair.server.pipe.encrypt(&mut plain, &mut pair.server.out, usize::MAX, &mut dry);
    assert_eq!(progress, Ok(Progress::Starved));
    assert_eq!(plain.len(), PAGE_BYTES);
    let progress = pair.server.pipe.encrypt(&mut plain, &mut pair.server.out, usize::MAX, &mut pair.pool);
    assert_eq!(progress, Ok(Progress::Done));
    pair.run();
    assert!(pair.client.read(&mut pair.pool) == pattern(PAGE_BYTES));
    pair.end();
}

#[test]
fn records_of_one_page_become_one_chunk() {
    let (server, client) = both(&only(Version::Tls13));
    let mut pair = Pair::new(&server, &client, "localhost");
    pair.works();
    let mut records = Vec::new();
    for part in [&b"one,"[..], b"two,", b"", b"three"] {
        records.extend(pair.client.pipe.seal_raw(23, part, 0));
    }
    pair.server.receive(&records, usize::MAX, &mut pair.pool);
    assert_eq!(pair.server.plain.pages(), 1);
    assert_eq!(pair.server.pipe.pages(), 0);
    assert_eq!(pair.server.read(&mut pair.pool), b"one,two,three");
    pair.end();
}

#[test]
fn holds_a_page_only_while_a_record_is_half_received() {
    let (server, client) = both(&only(Version::Tls13));
    let mut pair = Pair::new(&server, &client, "localhost");
    pair.works();
    for len in [1, 100, 16_384] {
        let text = pattern(len);
        for cut in [1, 4, 5, 6, len / 2 + 6, len + 21] {
            let record = pair.client.pipe.seal_raw(23, &text, 0);
            pair.server.receive(&record[..cut], usize::MAX, &mut pair.pool);
            assert_eq!((pair.server.pipe.pages(), pair.server.plain.len()), (1, 0), "{len} {cut}");
            pair.server.receive(&record[cut..], usize::MAX, &mut pair.pool);
            assert_eq!(pair.server.pipe.pages(), 0, "{len} {cut}");
            assert!(pair.server.read(&mut pair.pool) == text);
        }
    }
    // Given back on demand, too.
    let record = pair.client.pipe.seal_raw(23, b"text", 0);
    pair.server.receive(&record[..9], usize::MAX, &mut pair.pool);
    pair.server.pipe.clear(&mut pair.pool);
    assert_eq!(pair.pool.free(), pair.pool.made());
    pair.end();
}

#[test]
fn padding_is_removed() {
    let (server, client) = both(&only(Version::Tls13));
    let mut pair = Pair::new(&server, &client, "localhost");
    pair.works();
    for padding in [1, 2, 300] {
        let record = pair.client.pipe.seal_raw(23, b"padded", padding);
        pair.server.receive(&record, 7, &mut pair.pool);
        assert_eq!(pair.server.error, None);
        assert_eq!(pair.server.read(&mut pair.pool), b"padded");
    }
    pair.end();
}

#[test]
fn keys_change_in_the_middle_of_the_stream() {
    let (server, client) = both(&only(Version::Tls13));
    let mut pair = Pair::new(&server, &client, "localhost");
    pair.works();
    for _ in 0..3 {
        pair.client.pipe.update_keys(&mut pair.client.out, &mut pair.pool);
        pair.server.pipe.update_keys(&mut pair.server.out, &mut pair.pool);
        pair.exchange(b"up", &pattern(50_000));
    }
    // Near the limit of AES-GCM (2^24 records) the keys change by themselves.
    let sealed = (1 << 24) - 8;
    pair.server.pipe.set_numbers(Some(sealed), None);
    pair.client.pipe.set_numbers(None, Some(sealed));
    pair.exchange(b"up", b"down");
    assert_eq!(pair.server.pipe.records_sealed(), 1);
    pair.end();
}

#[test]
fn without_key_updates_the_keys_are_exhausted_some_day() {
    let (server, client) = both(&only(Version::Tls12));
    let mut pair = Pair::new(&server, &client, "localhost");
    pair.works();
    pair.server.pipe.set_numbers(Some((1 << 24) - 8), None);
    let mut plain = Queue::new();
    plain.append(b"x", &mut pair.pool);
    let result = pair.server.pipe.encrypt(&mut plain, &mut pair.server.out, usize::MAX, &mut pair.pool);
    assert_eq!(result, Err(TlsError::Exhausted));
    plain.clear(&mut pair.pool);
    pair.end();
}

/// rustls's own connections, as an oracle.
mod oracle {
    use std::io::{Read, Write};
    use std::sync::Arc;

    use rustls::{ClientConnection, ConnectionCommon, ServerConnection, SideData};

    use super::*;

    fn sent<D: SideData>(connection: &mut ConnectionCommon<D>) -> Vec<u8> {
        let mut bytes = Vec::new();
        while connection.wants_write() {
            connection.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    fn receive<D: SideData>(connection: &mut ConnectionCommon<D>, mut bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        while !bytes.is_empty() {
            connection.read_tls(&mut bytes).unwrap();
            connection.process_new_packets().unwrap();
            let mut room = [0; 16_384];
            while let Ok(count @ 1..) = connection.reader().read(&mut room) {
                plain.extend_from_slice(&room[..count]);
            }
        }
        plain
    }

    fn talk<D: SideData>(
        other: &mut ConnectionCommon<D>,
        side: &mut Side,
        pool: &mut Pool,
        step: usize,
    ) -> Vec<u8> {
        let mut plain = Vec::new();
        loop {
            let (theirs, ours) = (sent(other), side.sent(pool));
            if theirs.is_empty() && ours.is_empty() {
                return plain;
            }
            plain.extend(receive(other, &ours));
            side.receive(&theirs, step, pool);
            assert_eq!(side.error, None);
        }
    }

    fn converse<D: SideData>(other: &mut ConnectionCommon<D>, mut side: Side, updates: bool, step: usize) {
        let mut pool = Pool::new(4096);
        talk(other, &mut side, &mut pool, step);
        assert!(!side.pipe.is_handshaking() && !other.is_handshaking());
        other.set_buffer_limit(None);
        let text = pattern(100_000);
        for _ in 0..3 {
            if updates {
                // Asks for an update in return.
                other.refresh_traffic_keys().unwrap();
            }
            other.writer().write_all(&text).unwrap();
            talk(other, &mut side, &mut pool, step);
            assert!(side.read(&mut pool) == text);
            side.write(&text, 10_000, &mut pool);
            assert!(talk(other, &mut side, &mut pool, step) == text);
        }
        other.send_close_notify();
        talk(other, &mut side, &mut pool, step);
        assert!(side.pipe.peer_closed());
        side.pipe.close_notify(&mut side.out, &mut pool).unwrap();
        let end = side.sent(&mut pool);
        let mut bytes = &end[..];
        other.read_tls(&mut bytes).unwrap();
        assert!(other.process_new_packets().unwrap().peer_has_closed());
        side.pipe.clear(&mut pool);
        assert_eq!(pool.free(), pool.made());
    }

    #[test]
    fn our_server_speaks_with_the_client_of_rustls() {
        for version in VERSIONS {
            for step in [1, 19, 1000, usize::MAX] {
                let (server, client) = both(&only(version));
                for _ in 0..2 {
                    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
                    let mut other = ClientConnection::new(client.config(), name).unwrap();
                    let side = Side::new(Pipe::accept(&server).unwrap());
                    converse(&mut other, side, version == Version::Tls13, step);
                }
            }
        }
    }

    #[test]
    fn our_client_speaks_with_the_server_of_rustls() {
        for version in VERSIONS {
            for step in [1, 19, 1000, usize::MAX] {
                let (server, client) = both(&only(version));
                for round in 0..2 {
                    let mut other = ServerConnection::new(server.config()).unwrap();
                    let mut side = Side::new(Pipe::connect(&client, "localhost").unwrap());
                    let mut pool = Pool::new(8);
                    side.pipe.start(&mut side.out, &mut pool).unwrap();
                    let hello = side.sent(&mut pool);
                    receive(&mut other, &hello);
                    converse(&mut other, side, version == Version::Tls13, step);
                    let resumed = other.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
                    assert_eq!(resumed, round == 1, "{version:?}");
                }
            }
        }
    }

    #[test]
    fn every_suite_works_with_rustls() {
        for suite in provider().cipher_suites.clone() {
            let mut chosen = rustls::crypto::CryptoProvider::clone(&provider());
            chosen.cipher_suites = vec![suite];
            let is_13 = suite.tls13().is_some();
            let version = if is_13 { &rustls::version::TLS13 } else { &rustls::version::TLS12 };
            let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(chosen))
                .with_protocol_versions(&[version])
                .unwrap()
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth();
            config.dangerous().set_certificate_verifier(Arc::new(crate::tls::client::Unverified::new()));
            let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
            let mut other = ClientConnection::new(Arc::new(config), name).unwrap();
            let is_rsa = suite.suite().as_str().unwrap().contains("_RSA_");
            let algorithm = if is_rsa { &rcgen::PKCS_RSA_SHA256 } else { &rcgen::PKCS_ECDSA_P256_SHA256 };
            let pem = Authority::new("suites").leaf(&["localhost"], algorithm);
            let store = Store::from_pem(&pem, now()).unwrap();
            let server = ServerTls::new(store, &ServerOptions::default()).unwrap();
            converse(&mut other, Side::new(Pipe::accept(&server).unwrap()), false, 1000);
            assert_eq!(other.negotiated_cipher_suite(), Some(suite));
        }
    }
}
