//! Bodies: from one connection's inbox to the other's outbox, framing undone on the way in and written anew on the way
//! out.
//!
//! What goes in: a queue of received bytes and the framing of the message. What comes out: bytes framed by us. It owns
//! the progress within one body. Always true: a body byte is copied only when its chunk is small; the sender's framing
//! never reaches the receiver; nothing is moved while the receiver's queue is full.

use std::ops::Range;

use crate::buf::{Chunk, Pool, Queue};
use crate::http::h1::chunked::{self, BadChunk, Chunked};
use crate::limits::OUTBOX_PAGES_MAX;

use super::conn::push_or_copy;

/// What is left of a body that is being received.
#[derive(Debug)]
pub enum BodyIn {
    /// Nothing: it is complete.
    Done,
    /// So many bytes.
    Length(u64),
    /// Chunks until the last one.
    Chunked(Box<Chunked>),
    /// Everything until the connection ends.
    UntilClose,
}

impl BodyIn {
    /// True when the body is complete.
    pub const fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }
}

/// How a body is framed on the way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyOut {
    /// As it is: its length was announced, or the end of the connection ends it.
    Raw,
    /// In chunks.
    Chunked,
    /// Nowhere: it is read and dropped.
    Dropped,
}

/// Pages that one step of a relay takes from the pool at most.
const STEP_PAGES: usize = 4;

/// What one call moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Body bytes.
    pub bytes: u64,
    /// For want of a page it could not go on.
    pub starved: bool,
}

/// Moves what can be moved now. `window` is how many bytes may wait in `to`, those in flight (`in_flight`) included.
/// Errors: the chunked framing is broken.
pub fn relay(
    body: &mut BodyIn,
    out: BodyOut,
    from: &mut Queue,
    to: &mut Queue,
    window: usize,
    in_flight: usize,
    pool: &mut Pool,
) -> Result<Moved, BadChunk> {
    let mut moved = Moved::default();
    while !body.is_done() && to.len() + in_flight < window && to.pages() < OUTBOX_PAGES_MAX {
        // What one step may take: a page for what follows the body, and pages for our framing and the trailers. With
        // them no step stops half way.
        if pool.available() < STEP_PAGES {
            moved.starved = !from.is_empty();
            break;
        }
        let Some(chunk) = from.pop() else { break };
        let (data, rest) = match body {
            BodyIn::Done => (None, Some(chunk)),
            BodyIn::UntilClose => (Some(chunk), None),
            BodyIn::Length(left) => take_length(left, chunk, pool),
            BodyIn::Chunked(decoder) => match take_chunked(decoder, chunk, pool) {
                Ok(taken) => taken,
                Err((bad, chunk)) => {
                    from.push_front(chunk, pool);
                    return Err(bad);
                }
            },
        };
        if let Some(rest) = rest {
            from.push_front(rest, pool);
        }
        if let Some(data) = data {
            moved.bytes += data.len() as u64;
            emit(data, out, to, pool);
        }
        finish(body, out, to, pool);
    }
    Ok(moved)
}

/// Ends a body that the end of the connection ends.
pub fn end_until_close(body: &mut BodyIn, out: BodyOut, to: &mut Queue, pool: &mut Pool) -> bool {
    if pool.available() < STEP_PAGES {
        return false;
    }
    *body = BodyIn::Done;
    if out == BodyOut::Chunked {
        put(to, chunked::LAST_CHUNK, pool);
    }
    true
}

type Taken = (Option<Chunk>, Option<Chunk>);

fn take_length(left: &mut u64, chunk: Chunk, pool: &mut Pool) -> Taken {
    if chunk.len() as u64 <= *left {
        *left -= chunk.len() as u64;
        return (Some(chunk), None);
    }
    // `left` is smaller than a page here.
    let count = *left as usize;
    *left = 0;
    split(chunk, 0..count, count, pool)
}

/// A decoder's verdict on a chunk; on an error the chunk comes back.
fn take_chunked(
    decoder: &mut Chunked,
    mut chunk: Chunk,
    pool: &mut Pool,
) -> Result<Taken, (BadChunk, Chunk)> {
    match decoder.decode(chunk.bytes_mut()) {
        Err(bad) => Err((bad, chunk)),
        Ok(decoded) => Ok(split(chunk, decoded.data, decoded.used, pool)),
    }
}

/// The bytes `data` of a chunk, and those behind `used`.
fn split(mut chunk: Chunk, data: Range<usize>, used: usize, pool: &mut Pool) -> Taken {
    let rest_len = chunk.len() - used;
    if data.is_empty() {
        chunk.advance(used);
        if rest_len == 0 {
            pool.give(chunk.into_page());
            return (None, None);
        }
        return (None, Some(chunk));
    }
    if rest_len == 0 {
        chunk.truncate(data.end);
        chunk.advance(data.start);
        return (Some(chunk), None);
    }
    let Some(page) = pool.take() else { unreachable!("relay checked that a page is available") };
    let mut other = Chunk::empty(page);
    // The shorter side is copied.
    if rest_len <= data.len() {
        other.append(&chunk.bytes()[used..]);
        chunk.truncate(data.end);
        chunk.advance(data.start);
        (Some(chunk), Some(other))
    } else {
        other.append(&chunk.bytes()[data]);
        chunk.advance(used);
        (Some(other), Some(chunk))
    }
}

fn emit(mut data: Chunk, out: BodyOut, to: &mut Queue, pool: &mut Pool) {
    match out {
        BodyOut::Raw => push_or_copy(to, data, pool),
        BodyOut::Dropped => pool.give(data.into_page()),
        BodyOut::Chunked => {
            let line = chunked::size_line(data.len() as u64);
            if !data.prepend(&line) {
                put(to, &line, pool);
            }
            if data.tailroom() >= 2 {
                data.append(b"\r\n");
                push_or_copy(to, data, pool);
            } else {
                to.push(data, pool);
                put(to, b"\r\n", pool);
            }
        }
    }
}

/// Notices that a body is complete and writes the end of its framing.
fn finish(body: &mut BodyIn, out: BodyOut, to: &mut Queue, pool: &mut Pool) {
    match body {
        BodyIn::Length(0) => {
            if out == BodyOut::Chunked {
                put(to, chunked::LAST_CHUNK, pool);
            }
            *body = BodyIn::Done;
        }
        BodyIn::Chunked(decoder) if decoder.is_done() => {
            if out == BodyOut::Chunked {
                put(to, b"0\r\n", pool);
                put(to, decoder.trailers(), pool);
                put(to, b"\r\n", pool);
            }
            *body = BodyIn::Done;
        }
        _ => {}
    }
}

/// Queues a few bytes of framing.
fn put(to: &mut Queue, bytes: &[u8], pool: &mut Pool) {
    let queued = to.append(bytes, pool);
    assert!(queued, "relay checked that pages are available");
}
