use std::collections::HashMap;

use mysql_common::constants::{CapabilityFlags, StatusFlags};
use mysql_common::io::ParseBuf;
use mysql_common::packets::{AuthPlugin, HandshakePacket, HandshakeResponse};
use mysql_common::proto::{MyDeserialize, MySerialize};

use super::*;

const SCRAMBLE: Scramble = *b"abcdefghijklmnopqrst";

fn usual() -> Capabilities {
    Capabilities::PROTOCOL_41
        | Capabilities::SECURE_CONNECTION
        | Capabilities::PLUGIN_AUTH
        | Capabilities::PLUGIN_AUTH_LENENC
        | Capabilities::CONNECT_WITH_DB
        | Capabilities::CONNECT_ATTRS
}

fn greeting(capabilities: Capabilities) -> Greeting<'static> {
    Greeting {
        version: b"5.5.5-10.11.19-MariaDB",
        connection_id: 0x0102_0304,
        scramble: SCRAMBLE,
        capabilities,
        collation: 45,
        status: Status::AUTOCOMMIT,
        plugin: b"mysql_native_password",
    }
}

fn response(capabilities: Capabilities) -> Response<'static> {
    let has = |flag, value: &'static [u8]| if capabilities.has(flag) { value } else { b"" };
    Response {
        capabilities,
        packet_bytes_max: 1 << 24,
        collation: 45,
        user: b"anna",
        answer: b"12345678901234567890",
        database: has(Capabilities::CONNECT_WITH_DB, b"shop"),
        plugin: has(Capabilities::PLUGIN_AUTH, b"mysql_native_password"),
        attributes: has(Capabilities::CONNECT_ATTRS, b"\x04_pid\x0212\x03_os\x05Linux"),
        zstd_level: if capabilities.has(Capabilities::ZSTD) { 3 } else { 0 },
    }
}

#[test]
fn greetings_come_back_as_written() {
    for capabilities in [
        usual() | Capabilities::MYSQL,
        usual() | Capabilities::MARIADB_BULK,
        Capabilities::PROTOCOL_41 | Capabilities::SECURE_CONNECTION,
    ] {
        let mut expected = greeting(capabilities);
        if !capabilities.has(Capabilities::PLUGIN_AUTH) {
            expected.plugin = b"";
        }
        let mut out = Vec::new();
        expected.write(&mut out);
        assert_eq!(First::parse(&out), Ok(First::Greeting(expected)));
        for end in 0..out.len() {
            let cut = Greeting::parse(&out[..end]);
            assert!(cut.is_err() || cut.is_ok_and(|cut| cut.plugin.len() < 22), "{end}");
        }
    }
}

#[test]
fn greetings_are_those_of_another_implementation() {
    let mut out = Vec::new();
    greeting(usual() | Capabilities::MARIADB_BULK).write(&mut out);
    let theirs = HandshakePacket::deserialize((), &mut ParseBuf(&out)).unwrap();
    assert_eq!(theirs.nonce(), SCRAMBLE);
    assert_eq!(theirs.connection_id(), 0x0102_0304);
    assert_eq!(theirs.auth_plugin_name_ref(), Some(&b"mysql_native_password"[..]));
    assert_eq!(theirs.mariadb_ext_capabilities().bits(), 4);
    assert_eq!(theirs.maria_db_server_version_parsed(), Some((10, 11, 19)));

    let flags = CapabilityFlags::CLIENT_PROTOCOL_41 | CapabilityFlags::CLIENT_PLUGIN_AUTH;
    let theirs = HandshakePacket::new(
        10,
        &b"9.7.4"[..],
        7,
        *b"abcdefgh",
        Some(&b"ijklmnopqrst\0"[..]),
        flags | CapabilityFlags::CLIENT_LONG_PASSWORD,
        255,
        StatusFlags::SERVER_STATUS_AUTOCOMMIT,
        Some(&b"caching_sha2_password"[..]),
    );
    let mut out = Vec::new();
    theirs.serialize(&mut out);
    let ours = Greeting::parse(&out).unwrap();
    assert_eq!((ours.version, ours.connection_id, ours.scramble), (&b"9.7.4"[..], 7, SCRAMBLE));
    assert_eq!((ours.collation, ours.plugin), (255, &b"caching_sha2_password"[..]));
    assert_eq!(ours.capabilities.mariadb(), 0);
}

#[test]
fn a_first_packet_may_be_a_refusal() {
    let refusal = b"\xff\x10\x04Too many connections";
    let Ok(First::Err(err)) = First::parse(refusal) else { panic!() };
    assert_eq!((err.code, err.sqlstate, err.message), (1040, None, &b"Too many connections"[..]));
    assert_eq!(First::parse(b"\x09x").unwrap_err(), Bad::new(BadPacket::Version, 0));
    assert_eq!(First::parse(b"").unwrap_err(), Bad::new(BadPacket::Short, 0));
}

#[test]
fn responses_come_back_as_written() {
    for capabilities in [
        usual() | Capabilities::MYSQL,
        usual() | Capabilities::ZSTD | Capabilities::MARIADB_BULK_UNIT_RESULTS,
        usual().without(Capabilities::PLUGIN_AUTH_LENENC),
        usual().without(Capabilities::PLUGIN_AUTH_LENENC | Capabilities::SECURE_CONNECTION),
        usual().without(Capabilities::CONNECT_WITH_DB),
        usual().without(Capabilities::PLUGIN_AUTH | Capabilities::CONNECT_ATTRS),
    ] {
        let expected = response(capabilities);
        let mut out = Vec::new();
        expected.write(&mut out);
        assert_eq!(Response::parse(&out, Capabilities(u64::MAX)), Ok(expected));
        assert!(!SslRequest::is_one(&out));
        for end in 0..out.len() {
            // What stands at the end may be missing, with no byte read from elsewhere.
            if let Ok(cut) = Response::parse(&out[..end], Capabilities(u64::MAX)) {
                assert_eq!(cut.user, expected.user);
                assert!(expected.database.starts_with(cut.database));
                assert!(expected.plugin.starts_with(cut.plugin));
                assert!(cut.attributes.is_empty() || cut.attributes == expected.attributes);
            }
        }
    }
}

#[test]
fn responses_are_those_of_another_implementation() {
    let attributes = HashMap::from([("_pid".to_owned(), "12".to_owned())]);
    let theirs = HandshakeResponse::new(
        Some(&b"12345678901234567890"[..]),
        (8, 0, 0),
        Some(&b"anna"[..]),
        Some(&b"shop"[..]),
        Some(AuthPlugin::MysqlNativePassword),
        CapabilityFlags::from_bits_truncate(usual().mysql()),
        Some(attributes.clone()),
        1 << 24,
    );
    let mut out = Vec::new();
    theirs.serialize(&mut out);
    let ours = Response::parse(&out, usual()).unwrap();
    let expected = Response { attributes: ours.attributes, ..response(usual()) };
    assert_eq!(ours, expected);
    assert_eq!(super::attributes(ours.attributes).collect::<Vec<_>>(), [(&b"_pid"[..], &b"12"[..])]);

    let mut out = Vec::new();
    response(usual()).write(&mut out);
    let theirs = HandshakeResponse::deserialize((), &mut ParseBuf(&out)).unwrap();
    assert_eq!((theirs.user(), theirs.db_name()), (&b"anna"[..], Some(&b"shop"[..])));
    assert_eq!(theirs.scramble_buf(), b"12345678901234567890");
    assert_eq!(theirs.auth_plugin(), Some(&AuthPlugin::MysqlNativePassword));
    assert_eq!(theirs.connect_attributes().unwrap()["_os"], "Linux");
}

#[test]
fn what_was_not_offered_is_not_read() {
    let mut out = Vec::new();
    response(usual()).write(&mut out);
    let ours = Response::parse(&out, usual().without(Capabilities::CONNECT_ATTRS)).unwrap();
    assert_eq!((ours.plugin, ours.attributes), (&b"mysql_native_password"[..], &b""[..]));
    assert!(!ours.capabilities.has(Capabilities::CONNECT_ATTRS));
}

#[test]
fn a_wish_for_tls_is_32_bytes_with_the_flag() {
    let mut out = Vec::new();
    let capabilities = usual() | Capabilities::SSL | Capabilities::MARIADB_BULK;
    let request = SslRequest { capabilities, packet_bytes_max: 5, collation: 8 };
    request.write(&mut out);
    assert_eq!(out.len(), SSL_REQUEST_BYTES);
    assert!(SslRequest::is_one(&out));
    assert_eq!(SslRequest::parse(&out), Ok(request));
    for end in 0..out.len() {
        assert!(!SslRequest::is_one(&out[..end]));
    }
    out.push(0);
    assert!(!SslRequest::is_one(&out), "a response to be read under TLS");
    let mut plain = Vec::new();
    SslRequest { capabilities: usual(), ..request }.write(&mut plain);
    assert!(!SslRequest::is_one(&plain));
    // CLIENT_PROTOCOL_41 is bit 9.
    plain[1] &= !2;
    assert_eq!(SslRequest::parse(&plain), Err(Bad::new(BadPacket::Protocol320, 0)));
    assert_eq!(Response::parse(&plain, usual()), Err(Bad::new(BadPacket::Protocol320, 0)));
}

#[test]
fn changes_of_user_come_back_as_written() {
    for capabilities in
        [usual(), usual().without(Capabilities::SECURE_CONNECTION), Capabilities::SECURE_CONNECTION]
    {
        let full = ChangeUser {
            user: b"bert",
            answer: b"12345678901234567890",
            database: b"shop",
            collation: Some(45),
            plugin: if capabilities.has(Capabilities::PLUGIN_AUTH) { b"client_ed25519" } else { b"" },
            attributes: if capabilities.has(Capabilities::CONNECT_ATTRS) { b"\x01a\x01b" } else { b"" },
        };
        let short = ChangeUser { database: b"", collation: None, plugin: b"", attributes: b"", ..full };
        for expected in [full, short] {
            let mut out = Vec::new();
            expected.write(&mut out, capabilities);
            assert_eq!(ChangeUser::parse(&out, capabilities), Ok(expected));
            for end in 0..out.len() {
                if let Ok(cut) = ChangeUser::parse(&out[..end], capabilities) {
                    assert_eq!((cut.user, cut.answer), (expected.user, expected.answer));
                    assert!(cut.attributes.is_empty());
                }
            }
        }
    }
    assert_eq!(ChangeUser::parse(b"\x03x\0\0", usual()), Err(Bad::new(BadPacket::Kind, 0)));
}

#[test]
fn replies_to_logins_are_told_apart() {
    let mut switch = Vec::new();
    write_auth_switch(&mut switch, b"mysql_native_password", b"abcdefghijklmnopqrst\0");
    let Ok(LoginReply::Switch { plugin, data }) = LoginReply::parse(&switch) else { panic!() };
    assert_eq!((plugin, scramble_of(data)), (&b"mysql_native_password"[..], Some(SCRAMBLE)));
    assert_eq!(scramble_of(&data[..20]), Some(SCRAMBLE));
    assert_eq!((scramble_of(&data[..19]), scramble_of(b"abcdefghijklmnopqrstu")), (None, None));
    for end in 2..22 {
        assert_eq!(LoginReply::parse(&switch[..end]), Err(Bad::new(BadPacket::NoNul, 1)));
    }
    let mut more = Vec::new();
    write_auth_more(&mut more, b"\x03");
    let table: &[(&[u8], LoginReply)] = &[
        (&more, LoginReply::More(b"\x03")),
        (b"\xfe", LoginReply::OldSwitch),
        (b"\0\0\0\x02\0\0\0", LoginReply::Ok(b"\0\0\0\x02\0\0\0")),
    ];
    for (payload, expected) in table {
        assert_eq!(LoginReply::parse(payload), Ok(*expected));
    }
    assert!(matches!(LoginReply::parse(b"\xff\x15\x04#28000no"), Ok(LoginReply::Err(_))));
    assert_eq!(LoginReply::parse(b"\x02mfa\0"), Err(Bad::new(BadPacket::Kind, 0)));
    assert_eq!(LoginReply::parse(b""), Err(Bad::new(BadPacket::Short, 0)));
}
