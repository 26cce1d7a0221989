use super::*;
use crate::mysql::wire::{put_lenenc, put_lenenc_bytes};

const NONE: Capabilities = Capabilities::NONE;
const ATTRIBUTES: Capabilities = Capabilities::QUERY_ATTRIBUTES;

#[test]
fn commands_are_read() {
    let table: &[(&[u8], Command)] = &[
        (b"\x01", Command::Quit),
        (b"\x02shop", Command::InitDb(b"shop")),
        (b"\x03SELECT 1", Command::Query(Query { text: b"SELECT 1", text_at: 1, attributes: 0 })),
        (b"\x03", Command::Query(Query { text: b"", text_at: 1, attributes: 0 })),
        (b"\x04t\0a%", Command::FieldList { table: b"t", wildcard: b"a%" }),
        (b"\x04t\0", Command::FieldList { table: b"t", wildcard: b"" }),
        (b"\x09", Command::Statistics),
        (b"\x0a", Command::ProcessInfo),
        (b"\x0c\x01\x02\0\0", Command::ProcessKill(513)),
        (b"\x0d", Command::Debug),
        (b"\x0e", Command::Ping),
        (b"\x11user\0\0\0", Command::ChangeUser),
        (b"\x16SELECT ?", Command::StmtPrepare(b"SELECT ?")),
        (b"\x17\x05\0\0\0\0\x01\0\0\0", Command::StmtExecute(5)),
        (b"\xfa\xff\xff\xff\xff\x80\0", Command::StmtBulkExecute(u32::MAX)),
        (
            b"\x18\x05\0\0\0\x02\0data",
            Command::StmtSendLongData { statement: 5, parameter: 2, data: b"data" },
        ),
        (b"\x19\x05\0\0\0", Command::StmtClose(5)),
        (b"\x1a\x05\0\0\0", Command::StmtReset(5)),
        (b"\x1b\x01\0", Command::SetOption(1)),
        (b"\x1c\x05\0\0\0\x0a\0\0\0", Command::StmtFetch { statement: 5, rows: 10 }),
        (b"\x1f", Command::ResetConnection),
        (b"\x12anything", Command::Refused(Kind::BinlogDump)),
        (b"\x1e", Command::Refused(Kind::BinlogDumpGtid)),
        (b"\x08", Command::Refused(Kind::Shutdown)),
        (b"\xfe", Command::Refused(Kind::Multi)),
        (b"\0", Command::Refused(Kind::Sleep)),
    ];
    for (payload, expected) in table {
        assert_eq!(Command::parse(payload, NONE), Ok(*expected), "{payload:?}");
    }
    let bad = [
        (&b""[..], BadPacket::Short, 0),
        (b"\x22", BadPacket::Kind, 0),
        (b"\x0c\x01\x02\0", BadPacket::Short, 1),
        (b"\x04t", BadPacket::NoNul, 1),
        (b"\x18\x05\0\0\0\x02", BadPacket::Short, 5),
        (b"\x1c\x05\0\0\0\x0a\0\0", BadPacket::Short, 5),
    ];
    for (payload, reason, at) in bad {
        assert_eq!(Command::parse(payload, NONE), Err(Bad::new(reason, at)), "{payload:?}");
    }
}

#[test]
fn kinds_have_names_and_bytes() {
    for kind in Kind::ALL {
        assert_eq!(Kind::of_byte(*kind as u8), Some(*kind));
        assert!(kind.name().starts_with("COM_"));
    }
    assert_eq!((0..=255).filter(|byte| Kind::of_byte(*byte).is_some()).count(), Kind::ALL.len());
}

type Attribute<'a> = (u8, &'a str, Option<&'a [u8]>);

/// Query attributes with these types, names and values (`None`: NULL).
fn with_attributes(attributes: &[Attribute], text: &[u8]) -> Vec<u8> {
    let mut out = vec![3];
    put_lenenc(&mut out, attributes.len() as u64);
    out.push(1);
    if !attributes.is_empty() {
        let mut nulls = vec![0; attributes.len().div_ceil(8)];
        for (index, (.., value)) in attributes.iter().enumerate() {
            nulls[index / 8] |= u8::from(value.is_none()) << (index % 8);
        }
        out.extend_from_slice(&nulls);
        out.push(1);
        for (kind, name, _) in attributes {
            out.extend_from_slice(&[*kind, 0]);
            put_lenenc_bytes(&mut out, name.as_bytes());
        }
        for (.., value) in attributes {
            out.extend_from_slice(value.unwrap_or_default());
        }
    }
    out.extend_from_slice(text);
    out
}

#[test]
fn query_attributes_are_gone_over() {
    let sets: &[&[Attribute]] = &[
        &[],
        &[(254, "name", Some(b"\x05value"))],
        &[(6, "null", None), (8, "long", Some(b"12345678")), (3, "int", None)],
        &[
            (1, "a", Some(b"1")),
            (2, "b", Some(b"12")),
            (9, "c", Some(b"1234")),
            (5, "d", Some(b"12345678")),
            (12, "e", Some(b"\x041234")),
            (11, "f", Some(b"\0")),
            (246, "g", Some(b"\x031.5")),
            (6, "h", Some(b"")),
            (252, "", Some(b"\xfc\x03\0abc")),
        ],
    ];
    for set in sets {
        let payload = with_attributes(set, b"SELECT 1");
        let text_at = payload.len() - 8;
        let expected = Query { text: b"SELECT 1", text_at, attributes: set.len() };
        assert_eq!(Command::parse(&payload, ATTRIBUTES), Ok(Command::Query(expected)));
        for end in 1..text_at {
            let cut = Command::parse(&payload[..end], ATTRIBUTES).map_err(|bad| bad.reason);
            assert_eq!(cut, Err(BadPacket::Short), "{end}");
        }
    }
    let other = with_attributes(&[(20, "odd", Some(b""))], b"");
    assert_eq!(Command::parse(&other, ATTRIBUTES).unwrap_err().reason, BadPacket::Value);
    for wrong in [&b"\x03\0\x02SELECT"[..], b"\x03\x01\x01\0\0", b"\x03\0\0SELECT"] {
        assert_eq!(Command::parse(wrong, ATTRIBUTES).unwrap_err().reason, BadPacket::Value, "{wrong:?}");
    }
    let many = b"\x03\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01";
    assert_eq!(Command::parse(many, ATTRIBUTES).unwrap_err().reason, BadPacket::Short);
}
