//! How bytes get from a connection into pages and back, and completions as text for the trace.
//!
//! What goes in: a connection of the world, pages and chains. What comes out: chunks, and bytes under way. It owns nothing.
//! Always true: what a page holds beyond the received bytes is [`POISON`], so that a read of it shows.

use crate::buf::{Chain, Chunk, Page};
use crate::ids::SockId;
use crate::limits::{PAGE_HEADROOM, RECV_BYTES};
use crate::ring::Done;

use super::state::State;
use super::wire::Side;

/// What a page holds where nothing was received: a read of it shows.
const POISON: u8 = 0xdb;

/// Reads a random part of what arrived into a page.
pub(super) fn read(state: &mut State, conn: usize, side: Side, mut page: Page) -> Chunk {
    let (tiny_reads, partial_reads) = (state.faults.tiny_reads, state.faults.partial_reads);
    let mut count = state.conns[conn].towards(side).arrived.min(RECV_BYTES);
    if state.random.chance(tiny_reads) {
        count = count.min(state.random.between(1, 8));
    } else if state.random.chance(partial_reads) {
        count = state.random.between(1, count);
    }
    page.bytes_mut()[PAGE_HEADROOM..].fill(POISON);
    let bytes = state.conns[conn].towards(side).read(count);
    page.bytes_mut()[PAGE_HEADROOM..PAGE_HEADROOM + count].copy_from_slice(bytes);
    Chunk::new(page, PAGE_HEADROOM, PAGE_HEADROOM + count)
}

/// True when a reset is still to be told at this end; it may be the last time.
pub(super) fn tell_reset(state: &mut State, conn: usize, side: Side) -> bool {
    let told_once = state.faults.told_once;
    let last = state.random.chance(told_once);
    let end = &mut state.conns[conn].ends[side as usize];
    let told = end.reset_told;
    end.reset_told |= last;
    !told
}

/// Writes the first `bytes` of a chain.
pub(super) fn put(state: &mut State, conn: usize, side: Side, chain: &Chain, bytes: usize) {
    let mut left = bytes;
    for chunk in chain.chunks() {
        let part = chunk.len().min(left);
        if part == 0 {
            break;
        }
        let written = state.write(conn, side, &chunk.bytes()[..part]);
        assert!(written == part, "there was space a moment ago");
        left -= part;
    }
}

/// The socket that a completion is about.
pub(super) const fn sock_of(done: &Done) -> Option<SockId> {
    match done {
        Done::Accepted { sock, .. }
        | Done::Connected { sock }
        | Done::Received { sock, .. }
        | Done::Eof { sock }
        | Done::Sent { sock, .. }
        | Done::Failed { sock, .. }
        | Done::Closed { sock } => Some(*sock),
        Done::AcceptFailed { .. } | Done::Woken => None,
    }
}

/// A completion in a few words.
pub(super) fn short(done: &Done) -> String {
    match done {
        Done::Accepted { listener, ends, .. } => format!("Accepted at {listener:?} from {:?}", ends.client),
        Done::Connected { .. } => "Connected".to_owned(),
        Done::Received { chain, .. } => {
            format!("Received {} bytes in {} chunks", chain.len(), chain.chunks().len())
        }
        Done::Eof { .. } => "Eof".to_owned(),
        Done::Sent { chain, bytes, .. } => format!("Sent {bytes} of {}", chain.len()),
        Done::Failed { what, errno, .. } => format!("Failed {what:?}: {errno}"),
        Done::Closed { .. } => "Closed".to_owned(),
        Done::AcceptFailed { listener, errno } => format!("AcceptFailed {listener:?}: {errno}"),
        Done::Woken => "Woken".to_owned(),
    }
}
