use super::*;
use crate::mysql::generic::ErrPacket;
use crate::mysql::packet;

const DEPRECATE: Capabilities = Capabilities::DEPRECATE_EOF;
const OLD: Capabilities = Capabilities::NONE;
const AUTOCOMMIT: Status = Status::AUTOCOMMIT;
const MORE: Status = Status(Status::AUTOCOMMIT.0 | Status::MORE_RESULTS_EXISTS.0);
const CURSOR: Status = Status(Status::AUTOCOMMIT.0 | Status::CURSOR_EXISTS.0);

/// An answer in the making.
struct Answer {
    bytes: Vec<u8>,
    sequence: u8,
    capabilities: Capabilities,
}

impl Answer {
    fn new(capabilities: Capabilities) -> Self {
        Self { bytes: Vec::new(), sequence: 1, capabilities }
    }

    fn packet(mut self, payload: &[u8]) -> Self {
        packet::write(&mut self.bytes, &mut self.sequence, payload);
        self
    }

    fn ok_packet(self, header: u8, status: Status) -> Self {
        let mut payload = vec![header, 0, 0];
        payload.extend_from_slice(&status.0.to_le_bytes());
        payload.extend_from_slice(&[0, 0]);
        self.packet(&payload)
    }

    fn ok(self, status: Status) -> Self {
        self.ok_packet(OK, status)
    }

    fn eof(self, status: Status) -> Self {
        let mut payload = Vec::new();
        EofPacket { warnings: 0, status }.write(&mut payload);
        self.packet(&payload)
    }

    fn err(self) -> Self {
        let mut payload = Vec::new();
        ErrPacket { code: 1317, sqlstate: Some(*b"70100"), message: b"interrupted" }.write(&mut payload);
        self.packet(&payload)
    }

    /// The end of rows.
    fn end(self, status: Status) -> Self {
        if self.capabilities.has(DEPRECATE) { self.ok_packet(EOF, status) } else { self.eof(status) }
    }

    /// Definitions, and the EOF behind them where there is one.
    fn definitions(mut self, count: usize) -> Self {
        for _ in 0..count {
            self = self.packet(b"\x03def\x04shop\x01t\x01t\x01a\x01a\x0c\x3f\0\x0b\0\0\0\x03\0\0\0\0\0");
        }
        let eof = !self.capabilities.has(DEPRECATE) && count > 0;
        if eof { self.eof(AUTOCOMMIT) } else { self }
    }

    fn columns(self, count: u8) -> Self {
        self.packet(&[count]).definitions(usize::from(count))
    }

    fn rows(mut self, count: usize) -> Self {
        for row in 0..count {
            self = self.packet(&[3, b'r', b'o', row as u8, 0xfb]);
        }
        self
    }
}

/// What comes of an answer in pieces of these sizes: the judged packets; every byte must have been seen in order.
fn told(
    capabilities: Capabilities,
    command: Kind,
    bytes: &[u8],
    mut sizes: impl FnMut() -> usize,
) -> Result<Vec<(Judged, Vec<u8>)>, BadReply> {
    let mut reply = Reply::new(capabilities);
    reply.begin(command);
    let (mut judged, mut seen) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < bytes.len() {
        let end = bytes.len().min(at.saturating_add(sizes()));
        while at < end && !reply.is_over() {
            let piece = &bytes[at..end];
            let Step { used, what } = reply.feed(piece)?;
            match what {
                What::Pass => seen.extend_from_slice(&piece[..used]),
                What::PassHeld(held) => seen.extend_from_slice(held),
                What::Hold => assert_eq!(used, piece.len()),
                What::Packet(kind, packet) => {
                    judged.push((kind, packet[HEADER_BYTES..].to_vec()));
                    seen.extend_from_slice(packet);
                }
            }
            at += used;
        }
        if reply.is_over() {
            break;
        }
    }
    assert!(reply.is_over() && at == bytes.len(), "over with {at} of {}", bytes.len());
    assert!(seen == bytes, "every byte was told once");
    Ok(judged)
}

/// The same in all ways to cut it in three, byte by byte, and whole.
#[track_caller]
fn check(command: Kind, answer: Answer, expected: &[Judged]) {
    let Answer { bytes, capabilities, .. } = answer;
    let kinds = |told: Vec<(Judged, Vec<u8>)>| told.into_iter().map(|(kind, _)| kind).collect::<Vec<_>>();
    let whole = told(capabilities, command, &bytes, || usize::MAX).unwrap();
    assert_eq!(kinds(whole.clone()), expected, "{command:?}");
    for size in [1, 2, 3, 5, 7, 11] {
        assert_eq!(told(capabilities, command, &bytes, || size).unwrap(), whole);
    }
    for first in 1..bytes.len() {
        let mut sizes = [first, usize::MAX].into_iter();
        assert_eq!(told(capabilities, command, &bytes, || sizes.next().unwrap()).unwrap(), whole, "{first}");
    }
}

const END: Judged = Judged::End;

#[test]
fn answers_end_where_they_end() {
    for capabilities in [OLD, DEPRECATE] {
        let new = || Answer::new(capabilities);
        check(Kind::Query, new().ok(AUTOCOMMIT), &[Judged::Ok]);
        check(Kind::Query, new().err(), &[Judged::Err]);
        check(Kind::Query, new().columns(2).rows(3).end(AUTOCOMMIT), &[END]);
        check(Kind::Query, new().columns(1).end(AUTOCOMMIT), &[END]);
        check(Kind::Query, new().columns(1).rows(2).err(), &[Judged::Err]);
        check(Kind::Query, new().packet(b"\x01").err(), &[Judged::Err]);
        check(Kind::StmtExecute, new().columns(250).rows(1).end(AUTOCOMMIT), &[END]);
        let several = new().ok(MORE).columns(1).rows(1).end(MORE).columns(2).end(MORE).ok(AUTOCOMMIT);
        check(Kind::Query, several, &[Judged::Ok, END, END, Judged::Ok]);
        check(Kind::Query, new().columns(1).rows(1).end(MORE).err(), &[END, Judged::Err]);
        check(Kind::StmtFetch, new().rows(2).end(CURSOR), &[END]);
        check(Kind::StmtFetch, new().end(Status::LAST_ROW_SENT.with(MORE)), &[END]);
        check(Kind::StmtFetch, new().err(), &[Judged::Err]);
        check(Kind::StmtFetch, new().packet(b"").packet(&[7; 254]).packet(&[7; 255]).end(AUTOCOMMIT), &[END]);
        check(Kind::FieldList, new().definitions(0).end(AUTOCOMMIT), &[END]);
        check(Kind::Statistics, new().packet(b"Uptime: 5  Threads: 1"), &[]);
        check(Kind::Statistics, new().packet(b""), &[]);
        check(Kind::Statistics, new().err(), &[Judged::Err]);
        check(Kind::Ping, new().ok(MORE), &[Judged::Ok]);
        check(Kind::SetOption, new().eof(AUTOCOMMIT), &[END]);
        check(Kind::SetOption, new().ok_packet(if capabilities == OLD { OK } else { EOF }, MORE), {
            if capabilities == OLD { &[Judged::Ok] } else { &[END] }
        });
        check(Kind::ResetConnection, new().ok(AUTOCOMMIT), &[Judged::Ok]);
    }
    let fields = Answer::new(OLD).packet(b"\x03def\x01a").packet(b"\x03def\x01b").eof(AUTOCOMMIT);
    check(Kind::FieldList, fields, &[END]);
}

#[test]
fn a_cursor_has_no_rows_behind_its_definitions() {
    // Without DEPRECATE_EOF the one EOF behind the definitions is the end.
    let old = Answer::new(OLD).packet(b"\x01").packet(b"\x03def").eof(CURSOR);
    check(Kind::StmtExecute, old, &[END]);
    let new = Answer::new(DEPRECATE).columns(1).end(CURSOR);
    check(Kind::StmtExecute, new, &[END]);
}

#[test]
fn prepared_statements_have_two_lists_of_definitions() {
    for capabilities in [OLD, DEPRECATE] {
        for (parameters, columns) in [(0, 0), (1, 0), (0, 2), (3, 2)] {
            let mut payload = Vec::new();
            PrepareOk { statement: 7, columns, parameters, warnings: 0 }.write(&mut payload);
            let answer = Answer::new(capabilities).packet(&payload);
            let answer = answer.definitions(usize::from(parameters)).definitions(usize::from(columns));
            check(Kind::StmtPrepare, answer, &[Judged::PrepareOk]);
        }
        check(Kind::StmtPrepare, Answer::new(capabilities).err(), &[Judged::Err]);
    }
}

#[test]
fn logins_have_several_turns() {
    let answer = Answer::new(OLD).packet(b"\xfemysql_native_password\0abcdefghijklmnopqrst\0");
    let answer = answer.packet(b"\x01\x04").packet(b"\xfe").packet(b"\x01\x03").ok(MORE);
    let expected = [Judged::AuthSwitch, Judged::AuthMore, Judged::AuthSwitch, Judged::AuthMore, Judged::Ok];
    check(Kind::ChangeUser, answer, &expected);
    check(Kind::ChangeUser, Answer::new(OLD).err(), &[Judged::Err]);
}

#[test]
fn a_file_is_asked_for_and_then_the_answer_goes_on() {
    for capabilities in [OLD, DEPRECATE] {
        let answer = Answer::new(capabilities).packet(b"\xfb/etc/hosts").ok(AUTOCOMMIT);
        check(Kind::Query, answer, &[Judged::LocalInfile, Judged::Ok]);
        let answer = Answer::new(capabilities).packet(b"\xfbx").ok(MORE).columns(1).end(AUTOCOMMIT);
        check(Kind::Query, answer, &[Judged::LocalInfile, Judged::Ok, END]);
    }
    let (mut bytes, mut sequence) = (Vec::new(), 2);
    for payload in [&b"1,2\n"[..], b"3,4\n", b""] {
        packet::write(&mut bytes, &mut sequence, payload);
    }
    let length = bytes.len();
    bytes.extend_from_slice(b"next");
    for size in 1..bytes.len() {
        let (mut upload, mut at) = (Upload::new(), 0);
        while at < bytes.len() && !upload.is_over() {
            at += upload.feed(&bytes[at..bytes.len().min(at + size)]);
        }
        assert_eq!((at, upload.is_over()), (length, true), "{size}");
    }
}

#[test]
fn commands_without_an_answer_are_over_at_once() {
    for command in [Kind::Quit, Kind::StmtClose, Kind::StmtSendLongData] {
        let mut reply = Reply::new(DEPRECATE);
        reply.begin(command);
        assert!(reply.is_over());
        assert_eq!(reply.feed(b"\x01\0\0\0\0"), Err(BadReply::Unasked));
    }
}

#[test]
fn rows_over_16_mib_pass_whatever_they_begin_with() {
    for capabilities in [OLD, DEPRECATE] {
        for length in [PAYLOAD_MAX - 1, PAYLOAD_MAX, PAYLOAD_MAX + 9, 2 * PAYLOAD_MAX] {
            let mut row = vec![0xfe; length];
            if length < PAYLOAD_MAX {
                row[0] = 0xfd;
            }
            let answer = Answer::new(capabilities).columns(1).packet(&row).rows(1).end(AUTOCOMMIT);
            for size in [65_521, usize::MAX] {
                let told = told(capabilities, Kind::Query, &answer.bytes, || size).unwrap();
                assert_eq!(told.len(), 1);
                assert_eq!(told[0].0, END);
            }
        }
    }
}

#[test]
fn nothing_is_kept_of_what_lies_whole_or_passes() {
    let answer = Answer::new(DEPRECATE).columns(3).rows(100).end(AUTOCOMMIT);
    let mut reply = Reply::new(DEPRECATE);
    reply.begin(Kind::Query);
    let mut at = 0;
    let mut steps = 0;
    while !reply.is_over() {
        at += reply.feed(&answer.bytes[at..]).unwrap().used;
        steps += 1;
        assert_eq!((reply.held_bytes(), reply.is_between_packets()), (0, true));
    }
    assert_eq!((at, steps), (answer.bytes.len(), 2), "all rows are one run");
    assert_eq!(reply.sequence(), answer.sequence.wrapping_sub(1));
    reply.begin(Kind::Ping);
    assert!(!reply.is_over());
}

#[test]
fn what_cannot_stand_there_is_refused() {
    use BadReply::{Packet, TooLong, Unexpected};
    let long = vec![0; SQL_JUDGED_BYTES_MAX + 1];
    let mut long_end = long.clone();
    long_end[0] = EOF;
    let table: &[(Kind, Capabilities, &[&[u8]], BadReply)] = &[
        (Kind::Query, OLD, &[b""], Unexpected),
        // Not the first byte of the next packet's header.
        (Kind::StmtReset, OLD, &[b"", b"", b""], Unexpected),
        (Kind::Query, OLD, &[b"\xfe\0\0\x02\0"], Packet(BadPacket::Short)),
        (Kind::Query, OLD, &[b"\x02\0"], Unexpected),
        (Kind::Query, OLD, &[b"\xfc\0\0"], Unexpected),
        (Kind::Query, OLD, &[b"\0"], Packet(BadPacket::Short)),
        (Kind::Query, OLD, &[b"\0\xff\0\0\0\0\0"], Packet(BadPacket::Lenenc)),
        (Kind::Query, OLD, &[b"\x01", b"\x03def", b"\x01a"], Unexpected),
        (Kind::Query, OLD, &[b"\x01", b"\xfe\0\0\x02\0"], Unexpected),
        (Kind::Query, DEPRECATE, &[b"\x01", b"\x03def", b"\xfe\0\0\0"], Packet(BadPacket::Short)),
        (Kind::Query, OLD, &[&long], TooLong),
        (Kind::Query, DEPRECATE, &[b"\x01", b"\x03def", &long_end], TooLong),
        (Kind::StmtPrepare, OLD, &[b"\0\x01\0\0\0\0\0\0\0\0\0"], Packet(BadPacket::Short)),
        (Kind::StmtPrepare, OLD, &[b"\x01"], Unexpected),
        (Kind::Ping, OLD, &[b"\x05"], Unexpected),
        (Kind::ChangeUser, OLD, &[b"\x02x"], Unexpected),
    ];
    for (command, capabilities, payloads, expected) in table {
        let answer =
            payloads.iter().fold(Answer::new(*capabilities), |answer, payload| answer.packet(payload));
        for size in [1, 4, 5, usize::MAX] {
            let found = told(*capabilities, *command, &answer.bytes, || size);
            assert_eq!(found, Err(*expected), "{command:?} {size}");
        }
    }
}

#[test]
fn bytes_behind_an_answer_are_not_taken() {
    let mut bytes = Answer::new(OLD).columns(1).rows(1).end(AUTOCOMMIT).bytes;
    let length = bytes.len();
    bytes.extend_from_slice(&[1, 0, 0, 0, 0]);
    let mut reply = Reply::new(OLD);
    reply.begin(Kind::Query);
    let mut at = 0;
    while !reply.is_over() {
        at += reply.feed(&bytes[at..]).unwrap().used;
    }
    assert_eq!(at, length);
    assert_eq!(reply.feed(&bytes[at..]), Err(BadReply::Unasked));
}
