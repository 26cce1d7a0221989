//! Bytes that pass: every kind of handshake, every way to cut the stream, large and small data.

use super::*;

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
