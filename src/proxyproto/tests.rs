//! Tables, every prefix and round trips for both versions.

use super::*;

fn socket(text: &str) -> Option<SocketAddr> {
    Some(text.parse().unwrap())
}

fn header(source: &str, destination: &str) -> Header {
    Header { source: socket(source), destination: socket(destination), local: false }
}

fn v2(start: [u8; 2], block: &[u8]) -> Vec<u8> {
    let mut bytes = V2_SIGNATURE.to_vec();
    bytes.extend_from_slice(&start);
    bytes.extend_from_slice(&(block.len() as u16).to_be_bytes());
    bytes.extend_from_slice(block);
    bytes
}

const V4_BLOCK: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0x04, 0xd2, 0x01, 0xbb];

fn good() -> Vec<(Vec<u8>, Header)> {
    let v4 = header("192.0.2.1:1234", "198.51.100.2:443");
    let v6 = header("[2001:db8::1]:1234", "[2001:db8::2]:443");
    let v6_block = {
        let mut block = Vec::new();
        for end in [v6.source, v6.destination] {
            let Some(IpAddr::V6(ip)) = end.map(|end| end.ip()) else { panic!("not v6") };
            block.extend_from_slice(&ip.octets());
        }
        block.extend_from_slice(&[0x04, 0xd2, 0x01, 0xbb]);
        block
    };
    let with_tlv = [&V4_BLOCK[..], &[0x04, 0, 3, 1, 2, 3]].concat();
    let local = Header { local: true, ..UNKNOWN };
    vec![
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 1234 443\r\n".to_vec(), v4),
        (b"PROXY TCP6 2001:db8::1 2001:db8::2 1234 443\r\n".to_vec(), v6),
        (b"PROXY UNKNOWN\r\n".to_vec(), UNKNOWN),
        (b"PROXY UNKNOWN 2001:db8::1 whatever 1 99999\r\n".to_vec(), UNKNOWN),
        (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n".to_vec(), UNKNOWN),
        (v2([0x21, 0x11], &V4_BLOCK), v4),
        (v2([0x21, 0x11], &with_tlv), v4),
        (v2([0x21, 0x21], &v6_block), v6),
        (v2([0x20, 0x00], b""), local),
        (v2([0x20, 0x11], &V4_BLOCK), local),
        (v2([0x20, 0xff], b"abc"), local),
        (v2([0x21, 0x00], b"abc"), UNKNOWN),
        (v2([0x21, 0x12], &V4_BLOCK), UNKNOWN),
        (v2([0x21, 0x31], &[0; 216]), UNKNOWN),
        (v2([0x21, 0x11], &[&V4_BLOCK[..], &[0; 4084]].concat()), v4),
    ]
}

#[test]
fn every_prefix_needs_more_and_the_rest_is_left() {
    for (bytes, expected) in good() {
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end]), Parse::NeedMore, "{end} of {bytes:?}");
        }
        let followed = [&bytes[..], b"GET / HTTP/1.1\r\n"].concat();
        assert_eq!(parse(&followed), Parse::Done(expected, bytes.len()), "{bytes:?}");
    }
}

#[test]
fn refuses_what_is_not_exactly_version_1() {
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(200));
    let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(V1_BYTES_MAX - 16));
    let one_more = format!("PROXY UNKNOWN {}\r\n", "x".repeat(V1_BYTES_MAX - 15));
    assert_eq!(parse(longest.as_bytes()), Parse::Done(UNKNOWN, V1_BYTES_MAX));
    for (line, expected) in [
        ("GET / HTTP/1.1\r\n", BadHeader::NoSignature),
        ("PRI * HTTP/2.0\r\n", BadHeader::NoSignature),
        ("PROXY\r\n", BadHeader::NoSignature),
        ("proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n", BadHeader::NoSignature),
        ("PROXY \r\n", BadHeader::Protocol),
        ("PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n", BadHeader::Protocol),
        ("PROXY tcp4 1.2.3.4 1.2.3.4 1 2\r\n", BadHeader::Protocol),
        ("PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n", BadHeader::Protocol),
        ("PROXY UNKNOWNX\r\n", BadHeader::Protocol),
        ("PROXY TCP4\r\n", BadHeader::Words),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", BadHeader::Words),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n", BadHeader::Words),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n", BadHeader::Words),
        ("PROXY TCP4 b\u{fc} 1.2.3.4 1 2\r\n", BadHeader::Address),
        ("PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n", BadHeader::Words),
        ("PROXY TCP4\t1.2.3.4 1.2.3.4 1 2\r\n", BadHeader::Protocol),
        ("PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n", BadHeader::Address),
        ("PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n", BadHeader::Address),
        ("PROXY TCP4 ::1 1.2.3.4 1 2\r\n", BadHeader::Address),
        ("PROXY TCP4 256.2.3.4 1.2.3.4 1 2\r\n", BadHeader::Address),
        ("PROXY TCP6 1.2.3.4 ::1 1 2\r\n", BadHeader::Address),
        ("PROXY TCP6 ::1 [::1] 1 2\r\n", BadHeader::Address),
        ("PROXY TCP6 ::1 fe80::1%eth0 1 2\r\n", BadHeader::Address),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n", BadHeader::Port),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n", BadHeader::Port),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n", BadHeader::Port),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 x\r\n", BadHeader::Port),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 \r\n", BadHeader::Port),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", BadHeader::LineEnd),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\rX", BadHeader::LineEnd),
        ("PROXY TCP4 1.2.3.4\r1.2.3.4 1 2\r\n", BadHeader::LineEnd),
        (&long, BadHeader::LineTooLong),
        (&one_more, BadHeader::LineTooLong),
    ] {
        let found = parse(line.as_bytes());
        assert!(matches!(found, Parse::Bad(bad, _) if bad == expected), "{line:?}: {found:?}");
    }
    // A line that does not end is refused as soon as it cannot end in time.
    assert_eq!(parse(&long.as_bytes()[..V1_BYTES_MAX - 2]), Parse::NeedMore);
    assert!(matches!(parse(&long.as_bytes()[..V1_BYTES_MAX - 1]), Parse::Bad(BadHeader::LineTooLong, _)));
}

#[test]
fn refuses_what_is_not_exactly_version_2() {
    let mut wrong_signature = v2([0x21, 0x11], &V4_BLOCK);
    wrong_signature[11] = b'\r';
    for (bytes, expected, at) in [
        (wrong_signature, BadHeader::NoSignature, 11),
        (b"\r\nGET / HTTP/1.1\r\n".to_vec(), BadHeader::NoSignature, 2),
        (v2([0x11, 0x11], &V4_BLOCK), BadHeader::Version, 12),
        (v2([0x31, 0x11], &V4_BLOCK), BadHeader::Version, 12),
        (v2([0x22, 0x11], &V4_BLOCK), BadHeader::Command, 12),
        (v2([0x21, 0x41], &V4_BLOCK), BadHeader::Family, 13),
        (v2([0x21, 0x13], &V4_BLOCK), BadHeader::Family, 13),
        (v2([0x21, 0x11], &V4_BLOCK[..11]), BadHeader::TooShort, 14),
        (v2([0x21, 0x21], &V4_BLOCK), BadHeader::TooShort, 14),
        (v2([0x21, 0x31], &[0; 215]), BadHeader::TooShort, 14),
        (v2([0x21, 0x11], &[0; 4097]), BadHeader::TooLong, 14),
        (v2([0x20, 0x00], &[0; 4097]), BadHeader::TooLong, 14),
    ] {
        assert_eq!(parse(&bytes), Parse::Bad(expected, at));
        // Seen at the first byte that shows it, not later.
        for end in 0..=at {
            assert_eq!(parse(&bytes[..end]), Parse::NeedMore);
        }
    }
}

#[test]
fn what_is_written_parses_to_the_same() {
    let v4 = ("192.0.2.1:1234", "198.51.100.2:443");
    let v6 =
        ("[2001:db8:1111:2222:3333:4444:5555:6666]:65535", "[2001:db8:1111:2222:3333:4444:5555:7777]:65535");
    for version in [Version::V1, Version::V2] {
        for (ends, expected) in [
            (v4, header(v4.0, v4.1)),
            (v6, header(v6.0, v6.1)),
            (("192.0.2.1:1", "[2001:db8::1]:2"), header("[::ffff:192.0.2.1]:1", "[2001:db8::1]:2")),
            (("[2001:db8::1]:2", "192.0.2.1:1"), header("[2001:db8::1]:2", "[::ffff:192.0.2.1]:1")),
            (("[::ffff:192.0.2.1]:1", "[::ffff:192.0.2.2]:2"), header("192.0.2.1:1", "192.0.2.2:2")),
        ] {
            let bytes = write(version, socket(ends.0), socket(ends.1));
            assert_eq!(parse(&bytes), Parse::Done(expected, bytes.len()), "{ends:?}");
        }
        for (source, destination) in [(None, None), (socket(v4.0), None), (None, socket(v4.1))] {
            let bytes = write(version, source, destination);
            let expected = Header { local: version == Version::V2, ..UNKNOWN };
            assert_eq!(parse(&bytes), Parse::Done(expected, bytes.len()));
        }
    }
    assert_eq!(
        &write(Version::V1, socket(v4.0), socket(v4.1))[..],
        b"PROXY TCP4 192.0.2.1 198.51.100.2 1234 443\r\n"
    );
    assert_eq!(&write(Version::V2, socket(v4.0), socket(v4.1))[..], &v2([0x21, 0x11], &V4_BLOCK)[..]);
}
