//! Pages that the kernel has: the only place where addresses of pages are taken.
//!
//! What goes in: pages to receive into, chains to send. What comes out: the same pages and chains, when the kernel is
//! done with them. It owns them meanwhile. Always true: a page is given out of here only after the completion that
//! ends the kernel's use of it; so nobody reads or writes it while the kernel does.
#![allow(unsafe_code)]

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

use crate::buf::{Chain, Page};
use crate::limits::{CHAIN_CHUNKS_MAX, LENT_PAGES_MAX, PAGE_HEADROOM, RECV_BYTES};

/// The number of the group of buffers that receives pick from.
pub(super) const BUFFER_GROUP: u16 = 0;

const ENTRIES: usize = LENT_PAGES_MAX;
const _: () =
    assert!(ENTRIES.is_power_of_two() && ENTRIES <= 32768, "what the kernel demands of a buffer ring");

/// The memory that is shared with the kernel: entries, and in the first entry's unused field the tail.
#[repr(C, align(4096))]
struct Shared([BufRingEntry; ENTRIES]);

/// The pages that the kernel may receive into, in a ring it picks them from in order.
pub(super) struct Buffers {
    shared: Box<Shared>,
    tail: u16,
    pages: Box<[Option<Page>; ENTRIES]>,
    free: Vec<u16>,
}

impl Buffers {
    /// Registers an empty ring of buffers.
    pub(super) fn new(submitter: &Submitter<'_>) -> io::Result<Self> {
        // SAFETY: the entries are plain integers, for which zero is a value.
        let shared: Box<Shared> = Box::new(unsafe { std::mem::zeroed() });
        let address = (&raw const *shared) as u64;
        // SAFETY: the memory lives in a box that is not moved and outlives the registration (see `Uring::drop`).
        unsafe { submitter.register_buf_ring_with_flags(address, ENTRIES as u16, BUFFER_GROUP, 0)? };
        let free = (0..ENTRIES as u16).rev().collect();
        Ok(Self { shared, tail: 0, pages: Box::new([const { None }; ENTRIES]), free })
    }

    /// How many pages the kernel has.
    pub(super) fn len(&self) -> usize {
        ENTRIES - self.free.len()
    }

    /// Lends a page. It is seen by the kernel after `publish`.
    pub(super) fn lend(&mut self, mut page: Page) {
        let Some(bid) = self.free.pop() else { unreachable!("more pages lent than the ring has entries") };
        let entry = &mut self.shared.0[self.tail as usize % ENTRIES];
        entry.set_addr(page.bytes_mut()[PAGE_HEADROOM..].as_mut_ptr() as u64);
        entry.set_len(RECV_BYTES as u32);
        entry.set_bid(bid);
        self.tail = self.tail.wrapping_add(1);
        self.pages[bid as usize] = Some(page);
    }

    /// Shows the kernel what was lent.
    pub(super) fn publish(&mut self) {
        let base = (&raw const self.shared.0).cast::<BufRingEntry>();
        // SAFETY: the base is the first entry of a live ring; its tail field is two bytes, aligned, and only the
        // kernel reads it. The entries were written before (Release).
        unsafe { AtomicU16::from_ptr(BufRingEntry::tail(base).cast_mut()) }
            .store(self.tail, Ordering::Release);
    }

    /// A page comes back: the kernel said so in a completion.
    pub(super) fn take_back(&mut self, bid: u16) -> Page {
        let Some(page) = self.pages[bid as usize].take() else {
            unreachable!("the kernel returned buffer {bid}, which it does not have")
        };
        self.free.push(bid);
        page
    }
}

/// Which send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SendSlot(u32);

/// What the kernel reads during one send. Boxed: the address does not change while the table grows.
struct Sending {
    chain: Option<Chain>,
    parts: [libc::iovec; CHAIN_CHUNKS_MAX],
    message: libc::msghdr,
}

/// The chains that are being sent.
#[derive(Default)]
#[allow(clippy::vec_box, reason = "the kernel has addresses within an element while the list grows")]
pub(super) struct Sends {
    slots: Vec<Box<Sending>>,
    free: Vec<u32>,
}

/// What to tell the kernel about a send.
pub(super) enum Gather {
    /// One piece of memory: address and length.
    One(*const u8, u32),
    /// Several, described by a message header.
    Many(*const libc::msghdr),
}

impl Sends {
    /// Takes a chain for the time of its send.
    pub(super) fn lend(&mut self, chain: Chain) -> SendSlot {
        let at = self.free.pop().unwrap_or_else(|| {
            // SAFETY: both are plain C structs for which all zeroes is a value.
            let (parts, message) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
            self.slots.push(Box::new(Sending { chain: None, parts, message }));
            (self.slots.len() - 1) as u32
        });
        let sending = &mut *self.slots[at as usize];
        let count = chain.chunks().len();
        if count > 1 {
            for (part, chunk) in sending.parts.iter_mut().zip(chain.chunks()) {
                let bytes = chunk.bytes();
                *part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
            }
            sending.message.msg_iov = sending.parts.as_mut_ptr();
            sending.message.msg_iovlen = count as _;
        }
        sending.chain = Some(chain);
        SendSlot(at)
    }

    /// The addresses of a chain that was lent; valid until it is taken back.
    pub(super) fn gather(&self, slot: SendSlot) -> Gather {
        let sending = &*self.slots[slot.0 as usize];
        match sending.chain.as_ref().map_or(&[][..], Chain::chunks) {
            [only] => Gather::One(only.bytes().as_ptr(), only.len() as u32),
            _ => Gather::Many(&raw const sending.message),
        }
    }

    /// A chain comes back: its send is completed.
    pub(super) fn take_back(&mut self, slot: SendSlot) -> Chain {
        let Some(chain) = self.slots[slot.0 as usize].chain.take() else {
            unreachable!("a send was completed twice")
        };
        self.free.push(slot.0);
        chain
    }
}
