//! The advisories of ProxySQL 2.7.4 as tables: eight ways in which packets lied before or during a login there, of which
//! each gets a named answer here. (CVE-2026-48772, CVE-2026-48773 and those fixed with them.)

use std::net::SocketAddr;

use super::auth::{native, sha2};
use super::command::Command;
use super::compress::{BadCompressed, Inflater};
use super::facts::Capabilities;
use super::handshake::{ChangeUser, Response, SslRequest};
use super::packet::{Parse, parse};
use super::prepared::Execute;
use super::wire::BadPacket;
use crate::limits::SQL_LOGIN_BYTES_MAX;
use crate::proxyproto;

const OFFERED: Capabilities = Capabilities(
    Capabilities::PROTOCOL_41.0
        | Capabilities::SECURE_CONNECTION.0
        | Capabilities::PLUGIN_AUTH.0
        | Capabilities::PLUGIN_AUTH_LENENC.0
        | Capabilities::CONNECT_WITH_DB.0
        | Capabilities::CONNECT_ATTRS.0,
);

/// A login with these capabilities and whatever follows their 32 bytes.
fn login(capabilities: Capabilities, rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    SslRequest { capabilities, packet_bytes_max: 1 << 24, collation: 45 }.write(&mut out);
    out.extend_from_slice(rest);
    out
}

fn reason<T>(read: Result<T, super::wire::Bad>) -> Option<BadPacket> {
    read.err().map(|bad| bad.reason)
}

#[test]
fn a_first_packet_longer_than_the_buffer_is_refused_by_its_header() {
    for length in [SQL_LOGIN_BYTES_MAX + 1, 0xff_fffe, 0xff_ffff] {
        let [a, b, c, _] = (length as u32).to_le_bytes();
        assert_eq!(parse(&[a, b, c, 1], SQL_LOGIN_BYTES_MAX), Parse::Bad(BadPacket::TooLong));
    }
}

#[test]
fn proxy_unknown_says_nothing_about_who_connects() {
    let line = b"PROXY UNKNOWN 10.0.0.1 10.0.0.2 1 2\r\n";
    let proxyproto::Parse::Done(header, used) = proxyproto::parse(line) else { panic!() };
    assert_eq!((used, header.source, header.destination), (line.len(), None::<SocketAddr>, None));
}

#[test]
fn lengths_within_a_login_end_with_the_login() {
    let table: &[(&[u8], BadPacket)] = &[
        // The user without its NUL.
        (b"user", BadPacket::NoNul),
        // The answer to the scramble longer than the packet, by every form of a length.
        (b"user\0\x14short", BadPacket::Short),
        (b"user\0\xfc\xff\xffshort", BadPacket::Short),
        (b"user\0\xfd\xff\xff\xffshort", BadPacket::Short),
        (b"user\0\xfe\xff\xff\xff\xff\xff\xff\xff\xffshort", BadPacket::Short),
        (b"user\0\xfe\xff\xff\xff\xff\xff\xff\xff\x7fshort", BadPacket::Short),
        // A length cut off, NULL, and the byte that is no length.
        (b"user\0\xfe\xff\xff", BadPacket::Short),
        (b"user\0\xfb", BadPacket::Lenenc),
        (b"user\0\xff", BadPacket::Lenenc),
        (b"user\0", BadPacket::Short),
        // Attributes longer than the packet, and attributes within that are longer than their block.
        (b"user\0\0db\0plugin\0\x09\x01a", BadPacket::Short),
        (b"user\0\0db\0plugin\0\x03\x01a\x05", BadPacket::Short),
        (b"user\0\0db\0plugin\0\x02\x01a", BadPacket::Short),
        (b"user\0\0db\0plugin\0\xff", BadPacket::Lenenc),
    ];
    for (rest, expected) in table {
        let read = Response::parse(&login(OFFERED, rest), OFFERED).map(|_| ());
        assert_eq!(reason(read), Some(*expected), "{rest:?}");
    }
    let short = OFFERED.without(Capabilities::PLUGIN_AUTH_LENENC);
    let read = login(short, b"user\0\xffshort");
    assert_eq!(reason(Response::parse(&read, short)), Some(BadPacket::Short));
    // A database or plugin without its NUL ends with the packet, and nothing is read behind it.
    let whole = login(OFFERED, b"user\0\0db\0plugin");
    assert_eq!(Response::parse(&whole, OFFERED).unwrap().plugin, b"plugin");
    let whole = login(OFFERED, b"user\0\0db");
    assert_eq!(Response::parse(&whole, OFFERED).unwrap().database, b"db");
}

#[test]
fn every_prefix_of_a_login_is_safe() {
    let whole = login(OFFERED, b"user\0\x1412345678901234567890db\0plugin\0\x06\x02ab\x02cd");
    for end in 0..whole.len() {
        let _ = Response::parse(&whole[..end], OFFERED);
        let _ = ChangeUser::parse(&whole[..end], OFFERED);
    }
}

#[test]
fn answers_of_a_wrong_length_are_wrong_answers() {
    let (scramble, long) = (b"abcdefghijklmnopqrst", vec![1; 70_000]);
    let stored = native::stored_of(&native::secret_of(b"secret"));
    let remembered = sha2::remembered_of(&sha2::secret_of(b"secret"));
    for length in [0, 1, 19, 21, 31, 33, 255, 70_000] {
        assert!(native::verify(&long[..length], scramble, &stored).is_none());
        assert!(sha2::verify(&long[..length], scramble, &remembered).is_none());
    }
}

#[test]
fn lengths_within_parameters_end_with_the_command() {
    let attributes = Capabilities::QUERY_ATTRIBUTES;
    let table: &[&[u8]] = &[
        b"\x03\x01\x01\0\x01\xfe\0\xfe\xff\xff\xff\xff\xff\xff\xff\xffname",
        b"\x03\x01\x01\0\x01\xfe\0\x01n\xfc\xff\xffvalue",
        b"\x03\x01\x01\0\x01\x0c\0\x01n\xff12345",
        b"\x03\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01\0",
    ];
    for payload in table {
        assert_eq!(reason(Command::parse(payload, attributes)), Some(BadPacket::Short), "{payload:?}");
    }
    let head = b"\x17\x01\0\0\0\x08\x01\0\0\0";
    for (count, expected) in [
        (&b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff"[..], BadPacket::Value),
        (b"\xfc\xff\xff", BadPacket::Short),
        (b"\xff", BadPacket::Lenenc),
    ] {
        let payload = [&head[..], count].concat();
        assert_eq!(reason(Execute::parse(&payload, 1, attributes)), Some(expected), "{count:?}");
    }
    assert_eq!(reason(Execute::parse(head, u16::MAX, Capabilities::NONE)), Some(BadPacket::Short));
}

#[test]
fn a_decompressed_length_is_not_believed() {
    // 16 MiB promised: nothing is reserved for them, and five bytes are not enough.
    let stream = b"\x05\0\0\0\xff\xff\xff\x78\x9c\x03\0\0";
    let mut out = Vec::new();
    assert_eq!(Inflater::new().feed(stream, &mut out), Err(BadCompressed::Length));
    assert!(out.capacity() < 100_000);
    // One byte promised, more within: "aaaaaaaa".
    let stream = b"\x0b\0\0\0\x01\0\0\x78\x9c\x4b\x4c\x84\0\0\x0d\xac\x03\x09";
    assert_eq!(Inflater::new().feed(stream, &mut Vec::new()), Err(BadCompressed::Length));
}

#[test]
fn lengths_within_a_change_of_user_end_with_it() {
    let table: &[(&[u8], BadPacket)] = &[
        (b"\x11", BadPacket::NoNul),
        (b"\x11user", BadPacket::NoNul),
        (b"\x11user\0", BadPacket::Short),
        (b"\x11user\0\xffshort", BadPacket::Short),
        (b"\x11user\0\0db\0\x2d", BadPacket::Short),
        (b"\x11user\0\0db\0\x2d\0plugin\0\xfe\xff\xff\xff\xff\xff\xff\xff\xff", BadPacket::Short),
        (b"\x11user\0\0db\0\x2d\0plugin\0\x03\x01a\x05", BadPacket::Short),
    ];
    for (payload, expected) in table {
        assert_eq!(reason(ChangeUser::parse(payload, OFFERED)), Some(*expected), "{payload:?}");
    }
}
