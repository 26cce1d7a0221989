use super::*;
use crate::mysql::facts::Status;
use crate::mysql::generic::{EOF, OK};
use crate::mysql::packet;

const TRACK: Capabilities = Capabilities::SESSION_TRACK;

const CHANGES: &[Change] = &[
    Change::SystemVariable { name: b"last_gtid", value: b"0-1-42" },
    Change::SystemVariable { name: b"autocommit", value: b"OFF" },
    Change::Schema(b"shop"),
    Change::Schema(b""),
    Change::StateChange(b"1"),
    Change::Gtids(b"3e11fa47-71ca-11e1-9e33-c80aa9429562:23"),
    Change::TransactionCharacteristics(b"START TRANSACTION READ ONLY;"),
    Change::TransactionState(b"T_R_WsS_"),
    Change::Other(9, b"anything"),
    Change::Other(3, b"\x01new encoding"),
];

fn state(list: &[Change]) -> Vec<u8> {
    let mut out = Vec::new();
    for change in list {
        let before = out.len();
        change.write(&mut out);
        assert_eq!(out.len() - before, change.len());
    }
    out
}

fn ok(header: u8, state: &[u8]) -> OkPacket<'_> {
    let status = Status::AUTOCOMMIT.with(Status::SESSION_STATE_CHANGED);
    OkPacket {
        header,
        affected_rows: 3,
        last_insert_id: 300,
        status,
        warnings: 1,
        info: b"Rows matched: 3",
        state,
    }
}

#[test]
fn changes_come_back_as_written() {
    let bytes = state(CHANGES);
    let read: Vec<Change> = changes(&bytes).map(Result::unwrap).collect();
    assert_eq!(read, CHANGES);
    for end in 0..bytes.len() {
        let read: Vec<_> = changes(&bytes[..end]).collect();
        assert!(read.len() <= CHANGES.len());
        assert!(read.iter().rev().skip(1).all(Result::is_ok), "a violation is the last");
    }
}

#[test]
fn a_change_of_state_is_one_byte() {
    // As MariaDB 10.11 sends it after CREATE TEMPORARY TABLE.
    let read: Vec<Change> = changes(b"\x02\x011").map(Result::unwrap).collect();
    assert_eq!(read, [Change::StateChange(b"1")]);
}

#[test]
fn several_variables_in_one_tracker_are_told() {
    let bytes = b"\x00\x08\x01a\x011\x01b\x012\x01\x02\x01d";
    let read: Vec<Change> = changes(bytes).map(Result::unwrap).collect();
    let variable = |name, value| Change::SystemVariable { name, value };
    assert_eq!(read, [variable(b"a", b"1"), variable(b"b", b"2"), Change::Schema(b"d")]);
}

#[test]
fn what_is_no_tracker_is_refused() {
    let table: &[(&[u8], BadPacket)] = &[
        (b"\x00", BadPacket::Short),
        (b"\x00\x00", BadPacket::Short),
        (b"\x00\x03\x01a\x05", BadPacket::Short),
        (b"\x01\xfb", BadPacket::Lenenc),
        (b"\x01\x05\x01d", BadPacket::Short),
        (b"\x01\x03\x01dd", BadPacket::Trailing),
        (b"\x03\xfe\xff\xff\xff\xff\xff\xff\xff\xff", BadPacket::Short),
    ];
    for (bytes, reason) in table {
        let read: Vec<_> = changes(bytes).collect();
        assert_eq!(read.last().unwrap().map_err(|bad| bad.reason), Err(*reason), "{bytes:?}");
    }
}

#[test]
fn packets_are_written_with_what_is_kept() {
    let bytes = state(CHANGES);
    for header in [OK, EOF] {
        let whole = ok(header, &bytes);
        let mut before = Vec::new();
        packet::put(&mut before, &mut 7, |out| whole.write(out, TRACK));
        // All.
        let mut out = Vec::new();
        rewrite_packet(&mut out, &before, TRACK, TRACK, |_| true).unwrap();
        assert_eq!(out, before);
        // Some.
        out.clear();
        let keep = |change: &Change| matches!(change, Change::Schema(_) | Change::Gtids(_));
        rewrite_packet(&mut out, &before, TRACK, TRACK, keep).unwrap();
        let kept: Vec<Change> = CHANGES.iter().copied().filter(|change| keep(change)).collect();
        assert_eq!(OkPacket::parse(&out[4..], TRACK), Ok(ok(header, &state(&kept))));
        assert!(out.len() < before.len() && out[3] == 7);
        // None.
        for to in [TRACK, Capabilities::NONE] {
            out.clear();
            rewrite_packet(&mut out, &before, TRACK, to, |_| to == Capabilities::NONE).unwrap();
            let status = Status::AUTOCOMMIT;
            let expected = OkPacket { status, state: b"", ..whole };
            assert_eq!(OkPacket::parse(&out[4..], to), Ok(expected));
        }
    }
}

#[test]
fn nothing_is_written_of_what_cannot_be_read() {
    let mut before = Vec::new();
    packet::put(&mut before, &mut 1, |out| ok(OK, b"\x01\x05\x01d").write(out, TRACK));
    let mut out = b"kept".to_vec();
    for packet in [&before[..], &before[..12], b"", b"\x01\0\0\0\0"] {
        assert!(rewrite_packet(&mut out, packet, TRACK, TRACK, |_| true).is_err());
        assert_eq!(out, b"kept");
    }
}
