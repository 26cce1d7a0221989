//! The compressed protocol of MySQL: any split gives the same stream, or an error in the same cases, in bounded pieces; and
//! what is written is read. Of two violations in one packet it depends on the pieces which is met first.
//!
//! The first byte chooses how the rest is cut.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringgate::limits::SQL_INFLATE_BYTES;
use ringgate::mysql::compress::{Deflater, Inflater};

fuzz_target!(|input: &[u8]| {
    let [size, stream @ ..] = input else { return };
    let whole = inflate(stream, stream.len().max(1));
    assert_eq!(whole, inflate(stream, usize::from(*size).max(1)));
    let (mut packets, mut sequence) = (Vec::new(), 0);
    Deflater::new().write(&mut packets, &mut sequence, stream);
    assert_eq!(inflate(&packets, usize::from(*size).max(1)), Some(stream.to_vec()));
});

/// What comes out; `None` after a violation.
fn inflate(stream: &[u8], size: usize) -> Option<Vec<u8>> {
    let (mut inflater, mut out) = (Inflater::new(), Vec::new());
    for piece in stream.chunks(size) {
        let mut at = 0;
        loop {
            let before = out.len();
            match inflater.feed(&piece[at..], &mut out) {
                // So does how much came out before it.
                Err(_) => return None,
                Ok(used) => at += used,
            }
            let made = out.len() - before;
            assert!(made <= SQL_INFLATE_BYTES);
            assert!(made == SQL_INFLATE_BYTES || at == piece.len() || inflater.is_between());
            if made < SQL_INFLATE_BYTES && at == piece.len() {
                break;
            }
        }
    }
    Some(out)
}
