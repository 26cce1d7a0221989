//! The compressed protocol of MySQL: any split gives the same stream or the same error, in bounded pieces; and what is
//! written is read.
//!
//! The first byte chooses how the rest is cut.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringgate::limits::SQL_INFLATE_BYTES;
use ringgate::mysql::compress::{BadCompressed, Deflater, Inflater};

fuzz_target!(|input: &[u8]| {
    let [size, stream @ ..] = input else { return };
    let whole = inflate(stream, stream.len().max(1));
    assert_eq!(whole, inflate(stream, usize::from(*size).max(1)));
    let (mut packets, mut sequence) = (Vec::new(), 0);
    Deflater::new().write(&mut packets, &mut sequence, stream);
    assert_eq!(inflate(&packets, usize::from(*size).max(1)), (stream.to_vec(), None));
});

fn inflate(stream: &[u8], size: usize) -> (Vec<u8>, Option<BadCompressed>) {
    let (mut inflater, mut out) = (Inflater::new(), Vec::new());
    for piece in stream.chunks(size) {
        let mut at = 0;
        loop {
            let before = out.len();
            match inflater.feed(&piece[at..], &mut out) {
                // How much came out before the violation depends on the pieces.
                Err(bad) => return (Vec::new(), Some(bad)),
                Ok(used) => at += used,
            }
            let made = out.len() - before;
            assert!(made <= SQL_INFLATE_BYTES);
            if made < SQL_INFLATE_BYTES {
                assert_eq!(at, piece.len());
                break;
            }
        }
    }
    (out, None)
}
