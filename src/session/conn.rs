//! One connection as a session sees it: plain bytes in, plain bytes out, TLS or not, compressed as MySQL does it or not.
//!
//! What goes in: received chunks, sent chains, plain bytes to be sent. What comes out: plain bytes (`inbox`), receives
//! and sends. It owns: both queues, the state of TLS and of the compression, and what is known of the socket. Always true: at most one receive and
//! one send are asked for at any time; nothing is sealed before the handshake is over; bytes leave in the order in
//! which they were queued.

use crate::buf::{Chain, Chunk, Pool, Queue};
use crate::limits::{BODY_COPY_BYTES_MAX, INBOX_BYTES_MAX, INBOX_PAGES_MAX, OUTBOX_BYTES_MAX};
use crate::net::Errno;
use crate::tls::{Pipe, Progress, TlsError};

use super::{Cx, Leg, Op};

mod packed;

pub use packed::BadPacked;
use packed::Packed;

/// TLS of a connection: the state, and the records that wait to be sent.
#[derive(Debug)]
struct Secure {
    pipe: Pipe,
    sealed: Queue,
}

impl Secure {
    /// Opens the records of a chunk. What is small is copied behind what waits already: a record of one byte must not
    /// hold the page that it came in.
    fn opened(&mut self, chunk: Chunk, inbox: &mut Queue, pool: &mut Pool) -> Result<(), TlsError> {
        if inbox.is_empty() {
            return self.pipe.received(chunk, inbox, &mut self.sealed, pool);
        }
        let mut plain = Queue::new();
        let taken = self.pipe.received(chunk, &mut plain, &mut self.sealed, pool);
        while let Some(chunk) = plain.pop() {
            push_or_copy(inbox, chunk, pool);
        }
        taken
    }
}

/// One connection.
#[derive(Debug, Default)]
pub struct Conn {
    /// Plain bytes that were received and not yet understood.
    pub inbox: Queue,
    /// Plain bytes that wait to be sent.
    pub outbox: Queue,
    tls: Option<Box<Secure>>,
    /// Between TLS and the queues, if the other end compresses.
    packed: Option<Box<Packed>>,
    /// Bytes that the kernel is sending.
    in_flight: u32,
    receiving: bool,
    sending: bool,
    eof: bool,
    /// Sending failed: nothing more goes out.
    deaf: bool,
    /// Sending failed because the connection broke: its end, when it comes, is not one in order.
    cut: bool,
    /// The sending side is to be shut once everything went out.
    shut_wanted: bool,
    /// TLS is to say `close_notify` once everything went out.
    notify_wanted: bool,
    /// It did.
    notified: bool,
    shut: bool,
}

impl Conn {
    /// A connection without TLS.
    pub fn plain() -> Self {
        Self::default()
    }

    /// Starts TLS; bytes in the inbox are cipher bytes from now on.
    /// What waits in the outbox (a PROXY protocol header) still leaves in the clear, first.
    pub fn secure(&mut self, mut pipe: Pipe, pool: &mut Pool) -> Result<(), TlsError> {
        let mut sealed = std::mem::take(&mut self.outbox);
        let mut started = pipe.start(&mut sealed, pool);
        let mut cipher = std::mem::take(&mut self.inbox);
        while let Some(chunk) = cipher.pop() {
            if started.is_ok() {
                started = pipe.received(chunk, &mut self.inbox, &mut sealed, pool);
            } else {
                pool.give(chunk.into_page());
            }
        }
        self.tls = Some(Box::new(Secure { pipe, sealed }));
        started
    }

    /// Stops using TLS, for an answer to a client that does not speak it.
    pub fn unsecure(&mut self, pool: &mut Pool) {
        if let Some(mut secure) = self.tls.take() {
            secure.sealed.clear(pool);
            secure.pipe.clear(pool);
        }
    }

    /// From here on what comes and goes is compressed packets. What waits in the outbox still leaves as it is, first; what is in
    /// the inbox is compressed. More comes into the inbox by [`Conn::unpack`] alone.
    pub fn compress(&mut self) {
        self.packed.get_or_insert_with(|| {
            Box::new(Packed::new(std::mem::take(&mut self.inbox), std::mem::take(&mut self.outbox)))
        });
    }

    /// Whether the other end compresses.
    pub const fn is_compressed(&self) -> bool {
        self.packed.is_some()
    }

    /// Takes some of what the other end compressed into the inbox, a packet at most; false when there is nothing, or no room.
    /// `begins`: a command may begin, whose packets are counted anew.
    pub fn unpack(&mut self, begins: bool, cx: &mut Cx<'_>) -> Result<bool, BadPacked> {
        let Some(packed) = &mut self.packed else { return Ok(false) };
        if self.inbox.len() >= INBOX_BYTES_MAX {
            return Ok(false);
        }
        // What was answered before counts on from the packets before.
        let packed_all = packed.pack(&mut self.outbox, cx.pool);
        let unpacked = if packed_all { packed.unpack(&mut self.inbox, begins, cx.pool)? } else { None };
        cx.starved |= unpacked.is_none();
        Ok(unpacked.unwrap_or(false))
    }

    /// The TLS state.
    pub fn pipe(&self) -> Option<&Pipe> {
        self.tls.as_ref().map(|secure| &secure.pipe)
    }

    /// True while a TLS handshake is in progress.
    pub fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|secure| secure.pipe.is_handshaking())
    }

    /// Bytes came from the socket.
    pub fn received(&mut self, chain: Chain, pool: &mut Pool) -> Result<(), TlsError> {
        self.receiving = false;
        let mut taken = Ok(());
        let inbox = self.packed.as_mut().map_or(&mut self.inbox, |packed| &mut packed.inbox);
        for chunk in chain.into_chunks() {
            match &mut self.tls {
                None => push_or_copy(inbox, chunk, pool),
                Some(secure) if taken.is_ok() => {
                    taken = secure.opened(chunk, inbox, pool);
                    self.eof |= secure.pipe.peer_closed();
                }
                Some(_) => pool.give(chunk.into_page()),
            }
        }
        taken
    }

    /// The other end will send no more.
    pub const fn ended(&mut self) {
        self.receiving = false;
        self.eof = true;
    }

    /// A send ended.
    pub fn sent(&mut self, chain: Chain, bytes: usize, pool: &mut Pool) {
        self.sending = false;
        self.in_flight = 0;
        match (&mut self.tls, &mut self.packed) {
            (Some(secure), _) => secure.sealed.untake(chain, bytes, pool),
            (None, Some(packed)) => packed.outbox.untake(chain, bytes, pool),
            (None, None) => self.outbox.untake(chain, bytes, pool),
        }
    }

    /// A send failed: what waits to be sent never goes out.
    pub fn deafen(&mut self, errno: Errno, pool: &mut Pool) {
        self.sending = false;
        self.in_flight = 0;
        self.deaf = true;
        self.cut |= !errno.is_broken_pipe();
        self.outbox.clear(pool);
        if let Some(packed) = &mut self.packed {
            packed.outbox.clear(pool);
        }
        if let Some(secure) = &mut self.tls {
            secure.sealed.clear(pool);
        }
    }

    /// True after the other end said that it sends no more, and all that it sent can be seen.
    pub fn is_eof(&self) -> bool {
        self.eof && self.packed.as_ref().is_none_or(|packed| packed.inbox.is_empty())
    }

    /// True after an end that may have cut the stream: of TLS without `close_notify`, of a plain one after a reset.
    pub fn is_truncated(&self) -> bool {
        self.eof && self.tls.as_ref().map_or(self.cut, |secure| !secure.pipe.peer_closed())
    }

    /// True after the end of a connection that broke (a reset is told once, and when the send hears of it the receive
    /// finds an end like any other).
    pub const fn is_broken(&self) -> bool {
        self.eof && self.cut
    }

    /// True when sending failed.
    pub const fn is_deaf(&self) -> bool {
        self.deaf
    }

    /// Bytes queued or in flight towards the other end.
    pub fn pending(&self) -> usize {
        let sealed = self.tls.as_ref().map_or(0, |secure| secure.sealed.len());
        let packed = self.packed.as_ref().map_or(0, |packed| packed.outbox.len());
        self.outbox.len() + packed + sealed + self.in_flight as usize
    }

    /// Bytes that the kernel is sending.
    pub const fn in_flight(&self) -> usize {
        self.in_flight as usize
    }

    /// Pages queued towards the other end (bytes alone do not bound memory: a page may hold one byte).
    pub fn pending_pages(&self) -> usize {
        self.outbox.pages() + self.packed.as_ref().map_or(0, |packed| packed.outbox.pages())
    }

    /// True when everything that was queued went out.
    pub fn is_flushed(&self) -> bool {
        !self.sending && (self.deaf || self.pending() == 0)
    }

    /// True when a receive is in flight.
    pub const fn is_receiving(&self) -> bool {
        self.receiving
    }

    /// Notes that the worker asked for a receive itself (for a parked connection).
    pub const fn note_receiving(&mut self) {
        self.receiving = true;
    }

    /// Asks that the sending side be shut after everything queued went out. TLS says `close_notify` first.
    pub const fn shut_when_flushed(&mut self) {
        self.shut_wanted = true;
        self.notify_wanted = true;
    }

    /// Asks that TLS says `close_notify` after everything queued went out: the connection is to be closed then.
    pub const fn say_goodbye(&mut self) {
        self.notify_wanted = true;
    }

    /// True when everything went out, and the goodbye of TLS too if one was asked for.
    pub fn is_finished(&self) -> bool {
        self.is_flushed() && (self.deaf || self.notified || !self.notify_wanted || self.tls.is_none())
    }

    /// True once the sending side was shut.
    pub const fn is_shut(&self) -> bool {
        self.shut
    }

    /// Asks for what should be in flight. `listen` is false when nothing more is to be received.
    pub fn pump(&mut self, leg: Leg, listen: bool, cx: &mut Cx<'_>) {
        if !self.sending && !self.deaf && !self.shut {
            let chain = self.next_chain(cx);
            if !chain.is_empty() {
                self.in_flight = u32::try_from(chain.len()).unwrap_or(u32::MAX);
                self.sending = true;
                cx.ops.push(Op::Send(leg, chain));
            } else if self.shut_wanted && self.pending() == 0 && (self.notified || self.tls.is_none()) {
                self.shut = true;
                cx.ops.push(Op::Shut(leg));
            }
        }
        let inbox = self.packed.as_ref().map_or(&self.inbox, |packed| &packed.inbox);
        let room = inbox.len() < INBOX_BYTES_MAX && inbox.pages() < INBOX_PAGES_MAX;
        if listen && room && !self.receiving && !self.eof {
            self.receiving = true;
            cx.ops.push(Op::Recv(leg));
        }
    }

    fn next_chain(&mut self, cx: &mut Cx<'_>) -> Chain {
        let waits = self.tls.as_ref().is_some_and(|secure| !secure.sealed.is_empty());
        let outbox = match &mut self.packed {
            None => &mut self.outbox,
            Some(packed) => {
                if packed.outbox.is_empty() && !waits {
                    cx.starved |= !packed.pack(&mut self.outbox, cx.pool);
                }
                &mut packed.outbox
            }
        };
        let Some(secure) = &mut self.tls else { return outbox.take_chain() };
        if secure.sealed.is_empty() && !secure.pipe.is_handshaking() {
            if !outbox.is_empty() {
                let sealed = secure.pipe.encrypt(outbox, &mut secure.sealed, OUTBOX_BYTES_MAX, cx.pool);
                match sealed {
                    Ok(Progress::Starved) => cx.starved = true,
                    Ok(_) => {}
                    // A sealing that fails would repeat for ever: nothing more can be sent.
                    Err(_) => self.deaf = true,
                }
            } else if self.notify_wanted && !self.notified {
                match secure.pipe.close_notify(&mut secure.sealed, cx.pool) {
                    Ok(()) => self.notified = true,
                    Err(TlsError::Starved) => cx.starved = true,
                    Err(_) => self.deaf = true,
                }
            }
        }
        secure.sealed.take_chain()
    }

    /// Nothing is to be done for a while: gives memory of empty queues back.
    pub fn rest(&mut self) {
        self.inbox.rest();
    }

    /// Pages held.
    pub fn pages(&self) -> usize {
        let tls = self.tls.as_ref().map_or(0, |secure| secure.sealed.pages() + secure.pipe.pages());
        let packed = self.packed.as_ref().map_or(0, |packed| packed.inbox.pages() + packed.outbox.pages());
        self.inbox.pages() + self.outbox.pages() + packed + tls
    }

    /// Sends every page home.
    pub fn clear(&mut self, pool: &mut Pool) {
        self.inbox.clear(pool);
        self.outbox.clear(pool);
        if let Some(packed) = &mut self.packed {
            packed.inbox.clear(pool);
            packed.outbox.clear(pool);
        }
        if let Some(secure) = &mut self.tls {
            secure.sealed.clear(pool);
            secure.pipe.clear(pool);
        }
    }
}

/// Queues a chunk; a small one is copied behind the last one, so that slow drips do not hold a page each and a short
/// body leaves together with its head.
pub fn push_or_copy(queue: &mut Queue, chunk: Chunk, pool: &mut Pool) {
    if chunk.len() <= BODY_COPY_BYTES_MAX && chunk.len() <= queue.tailroom() && !queue.is_empty() {
        queue.append(chunk.bytes(), pool);
        pool.give(chunk.into_page());
    } else {
        queue.push(chunk, pool);
    }
}

#[cfg(test)]
mod tests;
