use super::*;

const TRACK: Capabilities = Capabilities::SESSION_TRACK;

#[test]
fn ok_packets_come_back_as_written() {
    let changed = Status::AUTOCOMMIT.with(Status::SESSION_STATE_CHANGED);
    let table = [
        (OK, 0, 0, Status::AUTOCOMMIT, 0, &b""[..], &b""[..]),
        (EOF, 1, 300, Status::IN_TRANS, 2, b"Rows matched: 1", b""),
        (OK, u64::MAX, 70_000, changed, 65_535, b"", b"\x01\x03\x02db"),
        (EOF, 0, 0, changed, 0, b"info", b"\x02\x02\x011"),
    ];
    for (header, affected_rows, last_insert_id, status, warnings, info, state) in table {
        let ok = OkPacket { header, affected_rows, last_insert_id, status, warnings, info, state };
        let mut out = Vec::new();
        ok.write(&mut out, TRACK);
        assert_eq!(OkPacket::parse(&out, TRACK), Ok(ok));
        assert_eq!(OkPacket::status(&out), Ok(status));
        for end in 0..out.len() {
            // A packet may end behind the warnings, with nothing more to say.
            let cut = OkPacket::parse(&out[..end], TRACK);
            assert!(cut.is_err() || cut.is_ok_and(|cut| cut.info.is_empty() && cut.state.is_empty()));
        }
        out.push(0);
        let reason = OkPacket::parse(&out, TRACK).map_err(|bad| bad.reason);
        assert!(reason.is_err() || info.is_empty() && state.is_empty());

        let mut plain = Vec::new();
        ok.write(&mut plain, Capabilities::NONE);
        let status = status.without(Status::SESSION_STATE_CHANGED);
        let expected = OkPacket { status, state: b"", ..ok };
        assert_eq!(OkPacket::parse(&plain, Capabilities::NONE), Ok(expected));
    }
}

#[test]
fn err_packets_come_back_as_written() {
    for sqlstate in [None, Some(*b"28000")] {
        let err = ErrPacket { code: 1045, sqlstate, message: b"Access denied" };
        let mut out = Vec::new();
        err.write(&mut out);
        assert_eq!(ErrPacket::parse(&out), Ok(err));
        for end in 0..3 {
            assert_eq!(ErrPacket::parse(&out[..end]).unwrap_err().reason, BadPacket::Short);
        }
    }
    // A `#` that begins no SQLSTATE.
    assert_eq!(ErrPacket::parse(b"\xff\x15\x04#280").unwrap_err(), Bad::new(BadPacket::Short, 4));
    assert_eq!(ErrPacket::parse(b"\0\x15\x04").unwrap_err(), Bad::new(BadPacket::Kind, 0));
}

#[test]
fn eof_packets_come_back_as_written() {
    let eof = EofPacket { warnings: 3, status: Status::CURSOR_EXISTS };
    let mut out = Vec::new();
    eof.write(&mut out);
    assert_eq!(out, b"\xfe\x03\0\x40\0");
    assert_eq!(EofPacket::parse(&out), Ok(eof));
    for end in 0..out.len() {
        assert_eq!(EofPacket::parse(&out[..end]).unwrap_err().reason, BadPacket::Short);
    }
    out.push(0);
    assert_eq!(EofPacket::parse(&out).unwrap_err().reason, BadPacket::Trailing);
}

#[test]
fn another_implementation_reads_what_is_written() {
    use mysql_common::constants::{CapabilityFlags, StatusFlags};
    use mysql_common::io::ParseBuf;
    use mysql_common::packets::{CommonOkPacket, OkPacketDeserializer};
    use mysql_common::proto::MyDeserialize;
    let status = Status::AUTOCOMMIT.with(Status::SESSION_STATE_CHANGED);
    let state = b"\x01\x03\x02db";
    let ok =
        OkPacket { header: OK, affected_rows: 7, last_insert_id: 9, status, warnings: 1, info: b"hi", state };
    let mut out = Vec::new();
    ok.write(&mut out, TRACK);
    let theirs = OkPacketDeserializer::<CommonOkPacket>::deserialize(
        CapabilityFlags::CLIENT_SESSION_TRACK | CapabilityFlags::CLIENT_PROTOCOL_41,
        &mut ParseBuf(&out),
    );
    let theirs = theirs.unwrap().into_inner();
    assert_eq!((theirs.affected_rows(), theirs.last_insert_id()), (7, Some(9)));
    assert_eq!((theirs.warnings(), theirs.info_ref()), (1, Some(&b"hi"[..])));
    assert_eq!(theirs.session_state_info_ref(), Some(&state[..]));
    assert!(theirs.status_flags().contains(StatusFlags::SERVER_SESSION_STATE_CHANGED));
}
