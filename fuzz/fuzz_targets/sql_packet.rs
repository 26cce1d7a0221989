//! Packets of MySQL: any split gives the same payloads, and they are those of a simple reader.
//!
//! The first byte chooses how the rest is cut.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringgate::mysql::packet::{Framer, HEADER_BYTES, Packet, Parse, Part, parse};
use ringgate::mysql::reply::Upload;

fuzz_target!(|input: &[u8]| {
    let [size, stream @ ..] = input else { return };
    let whole = lengths(stream, stream.len().max(1));
    assert_eq!(whole, lengths(stream, usize::from(*size).max(1)));
    assert_eq!(whole, lengths(stream, 1));
    let mut at = 0;
    for (length, done) in whole {
        match parse(&stream[at..], 100_000) {
            Parse::Done(Packet { payload, .. }, used) => {
                assert!(done && payload.len() == length && used == length + HEADER_BYTES);
                at += used;
            }
            Parse::NeedMore => assert!(!done),
            Parse::Bad(_) => break,
        }
    }
    let mut upload = Upload::new();
    let used = upload.feed(stream);
    assert!(used <= stream.len() && (upload.is_over() || used == stream.len()));
});

/// The length of each payload, and whether it is complete.
fn lengths(stream: &[u8], size: usize) -> Vec<(usize, bool)> {
    let mut framer = Framer::new();
    let mut lengths: Vec<(usize, bool)> = Vec::new();
    for piece in stream.chunks(size) {
        let mut at = 0;
        while let Some((part, used)) = framer.next(&piece[at..]) {
            assert!(used > 0);
            at += used;
            match part {
                Part::Header => {}
                Part::Start { begins: true, ends, .. } => lengths.push((0, ends)),
                Part::Start { ends, .. } => {
                    lengths.iter_mut().last().into_iter().for_each(|last| last.1 = ends)
                }
                Part::Payload { ends } => {
                    lengths.iter_mut().last().into_iter().for_each(|last| *last = (last.0 + used, ends));
                }
            }
        }
        assert_eq!(at, piece.len());
    }
    lengths
}
