//! OK, ERR and EOF packets of a MySQL server: what is read is written to mean the same; trackers are taken away one by one.
//!
//! The first byte says which trackers are kept.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringgate::mysql::facts::{Capabilities, Status};
use ringgate::mysql::generic::{EofPacket, ErrPacket, OkPacket};
use ringgate::mysql::track::{Change, changes, rewrite};

const TRACK: Capabilities = Capabilities::SESSION_TRACK;

fuzz_target!(|input: &[u8]| {
    let [kept, payload @ ..] = input else { return };
    if let Ok(err) = ErrPacket::parse(payload) {
        let mut out = Vec::new();
        err.write(&mut out);
        assert_eq!(out, payload);
    }
    if let Ok(eof) = EofPacket::parse(payload) {
        let mut out = Vec::new();
        eof.write(&mut out);
        assert_eq!(out, payload);
    }
    let Ok(ok) = OkPacket::parse(payload, TRACK) else { return };
    assert_eq!(OkPacket::status(payload), Ok(ok.status));
    let keep = |change: &Change| kept >> (kind(change) % 8) & 1 == 1;
    let all: Result<Vec<Change>, _> = changes(ok.state).collect();
    let mut out = Vec::new();
    let written = rewrite(&mut out, &ok, TRACK, keep);
    assert_eq!(written.is_ok(), all.is_ok());
    let Ok(all) = all else { return };
    let Ok(again) = OkPacket::parse(&out, TRACK) else { panic!("{out:?}") };
    let left: Vec<Change> = changes(again.state).filter_map(Result::ok).collect();
    let wanted: Vec<Change> = all.iter().copied().filter(keep).collect();
    assert_eq!(left, wanted);
    assert_eq!(again.status.has(Status::SESSION_STATE_CHANGED), !wanted.is_empty());
    assert_eq!((again.affected_rows, again.info), (ok.affected_rows, ok.info));
    out.clear();
    assert!(rewrite(&mut out, &ok, Capabilities::NONE, keep).is_ok());
    let Ok(plain) = OkPacket::parse(&out, Capabilities::NONE) else { panic!("{out:?}") };
    assert_eq!((plain.info, plain.state), (ok.info, &b""[..]));
});

fn kind(change: &Change) -> u8 {
    match change {
        Change::SystemVariable { .. } => 0,
        Change::Schema(_) => 1,
        Change::StateChange(_) => 2,
        Change::Gtids(_) => 3,
        Change::TransactionCharacteristics(_) => 4,
        Change::TransactionState(_) => 5,
        Change::Other(kind, _) => *kind,
    }
}
