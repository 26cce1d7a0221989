//! Answers of a MySQL server: any split gives the same judged packets, every byte is told once, and little is kept.
//!
//! The first three bytes are the command, a capability, and how the rest is cut.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringgate::limits::SQL_JUDGED_BYTES_MAX;
use ringgate::mysql::command::Kind;
use ringgate::mysql::facts::Capabilities;
use ringgate::mysql::reply::{BadReply, Judged, Reply, Step, What};

fuzz_target!(|input: &[u8]| {
    let [command, flag, size, stream @ ..] = input else { return };
    let Some(command) = Kind::of_byte(*command) else { return };
    let capabilities = if flag & 1 == 1 { Capabilities::DEPRECATE_EOF } else { Capabilities::NONE };
    let whole = follow(command, capabilities, stream, stream.len().max(1));
    assert_eq!(whole, follow(command, capabilities, stream, usize::from(*size).max(1)));
    assert_eq!(whole, follow(command, capabilities, stream, 1));
});

/// Judged packets with the offset behind each, where the answer ended, and the violation.
type Followed = (Vec<(Judged, usize)>, Option<usize>, Option<BadReply>);

fn follow(command: Kind, capabilities: Capabilities, stream: &[u8], size: usize) -> Followed {
    let mut reply = Reply::new(capabilities);
    reply.begin(command);
    let (mut judged, mut seen, mut at) = (Vec::new(), Vec::new(), 0);
    while at < stream.len() && !reply.is_over() {
        let end = stream.len().min(at - at % size + size);
        let piece = &stream[at..end];
        match reply.feed(piece) {
            Err(bad) => return (judged, None, Some(bad)),
            Ok(Step { used, what }) => {
                assert!(used <= piece.len());
                at += used;
                match what {
                    What::Pass => {
                        assert!(used > 0);
                        seen.extend_from_slice(&piece[..used]);
                    }
                    What::PassHeld(held) => seen.extend_from_slice(held),
                    What::Hold => assert_eq!(used, piece.len()),
                    What::Packet(kind, packet) => {
                        seen.extend_from_slice(packet);
                        judged.push((kind, at));
                    }
                }
            }
        }
        assert!(reply.held_bytes() <= SQL_JUDGED_BYTES_MAX + 4);
    }
    assert!(stream.starts_with(&seen));
    if reply.is_over() {
        assert_eq!(seen.len(), at);
    }
    (judged, reply.is_over().then_some(at), None)
}
