//! Owned bytes: pages, and who holds them.
//!
//! A [`Page`] has exactly one holder at any time: the [`Pool`], the kernel (through `ring/lend.rs`), or one queue of a
//! session. Pages move; nothing here is reference-counted. A [`Chunk`] is a page and the range of it that means
//! something; a [`Queue`] is bytes in order; a [`Chain`] is what one send hands to the kernel.
//!
//! Always true: a page that was taken from a pool goes back with [`Pool::give`]; `pool.made() == pool.free() + pages
//! held elsewhere`, checked by the worker when it is idle and by the simulator at the end of every run.

use std::collections::VecDeque;

use arrayvec::ArrayVec;

use crate::limits::{CHAIN_CHUNKS_MAX, PAGE_BYTES, PAGE_HEADROOM, POOL_RESERVE};

/// A fixed piece of memory of [`PAGE_BYTES`] bytes with one owner.
pub struct Page(Box<[u8; PAGE_BYTES]>);

impl Page {
    fn new() -> Option<Self> {
        // Zeroed straight from the allocator: fresh memory stays untouched until somebody writes to it.
        let boxed: Box<[u8]> = vec![0u8; PAGE_BYTES].into_boxed_slice();
        boxed.try_into().ok().map(Self)
    }

    /// All bytes of the page.
    pub fn bytes(&self) -> &[u8] {
        &self.0[..]
    }

    /// All bytes of the page, writable.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0[..]
    }
}

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Page")
    }
}

/// The pages of one worker: at most `max` of them exist, made when first needed.
#[derive(Debug)]
pub struct Pool {
    free: Vec<Page>,
    made: usize,
    max: usize,
    /// Pages that only [`Pool::take_last`] gives out.
    reserve: usize,
    refused: u64,
}

impl Pool {
    /// A pool of at most `pages_max` pages of [`PAGE_BYTES`] bytes; none is allocated yet.
    pub const fn new(pages_max: usize) -> Self {
        let reserve = if pages_max / 16 < POOL_RESERVE { pages_max / 16 } else { POOL_RESERVE };
        Self { free: Vec::new(), made: 0, max: pages_max, reserve, refused: 0 }
    }

    /// A page, or `None` when all but the reserve are out. The most recently returned page comes first: it is still in
    /// the cache.
    pub fn take(&mut self) -> Option<Page> {
        if self.available() == 0 {
            self.refused += 1;
            return None;
        }
        self.take_last()
    }

    /// A page even of the reserve, for what cannot wait: bytes of a TLS record that were received are lost with their
    /// connection when there is no place for them.
    pub fn take_last(&mut self) -> Option<Page> {
        if let Some(page) = self.free.pop() {
            return Some(page);
        }
        if self.made < self.max
            && let Some(page) = Page::new()
        {
            self.made += 1;
            return Some(page);
        }
        self.refused += 1;
        None
    }

    /// Takes a page back.
    pub fn give(&mut self, page: Page) {
        assert!(self.free.len() < self.made, "a page came home twice");
        self.free.push(page);
    }

    /// Takes the pages of a chain back.
    pub fn give_chain(&mut self, chain: Chain) {
        for chunk in chain.chunks {
            self.give(chunk.page);
        }
    }

    /// How many pages could be taken now, the reserve not counted.
    pub const fn available(&self) -> usize {
        (self.max - self.made + self.free.len()).saturating_sub(self.reserve)
    }

    /// Pages that exist.
    pub const fn made(&self) -> usize {
        self.made
    }

    /// Pages that may exist.
    pub const fn max(&self) -> usize {
        self.max
    }

    /// Pages at home: existing and not held by anybody.
    pub const fn free(&self) -> usize {
        self.free.len()
    }

    /// How often `take` had to answer `None`.
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// Gives memory back to the system: keeps at most `keep` free pages.
    pub fn trim(&mut self, keep: usize) {
        if self.free.len() > keep {
            self.made -= self.free.len() - keep;
            self.free.truncate(keep);
            self.free.shrink_to(keep);
        }
    }
}

/// A page and the range of it that holds meaningful bytes.
#[derive(Debug)]
pub struct Chunk {
    page: Page,
    from: u32,
    to: u32,
}

impl Chunk {
    /// The range `from..to` of a page.
    ///
    /// # Panics
    /// If the range does not lie within the page: that is an error of the program, never of the input.
    pub fn new(page: Page, from: usize, to: usize) -> Self {
        assert!(from <= to && to <= PAGE_BYTES, "a chunk lies within its page");
        Self { page, from: from as u32, to: to as u32 }
    }

    /// An empty chunk that leaves [`PAGE_HEADROOM`] bytes before it: to be filled with [`Chunk::append`].
    pub fn empty(page: Page) -> Self {
        Self::new(page, PAGE_HEADROOM, PAGE_HEADROOM)
    }

    /// The meaningful bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.page.bytes()[self.from as usize..self.to as usize]
    }

    /// The meaningful bytes, writable (TLS decrypts and chunked bodies are compacted in place).
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.page.bytes_mut()[self.from as usize..self.to as usize]
    }

    /// Number of meaningful bytes.
    pub const fn len(&self) -> usize {
        (self.to - self.from) as usize
    }

    /// True when no meaningful byte is left.
    pub const fn is_empty(&self) -> bool {
        self.from == self.to
    }

    /// Drops the first `count` bytes from the range.
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.len(), "a chunk cannot advance past its end");
        self.from += count as u32;
    }

    /// Keeps the first `count` bytes.
    pub fn truncate(&mut self, count: usize) {
        assert!(count <= self.len(), "a chunk cannot be truncated to more than it has");
        self.to = self.from + count as u32;
    }

    /// Free bytes behind the range.
    pub const fn tailroom(&self) -> usize {
        PAGE_BYTES - self.to as usize
    }

    /// Free bytes before the range.
    pub const fn headroom(&self) -> usize {
        self.from as usize
    }

    /// The free bytes behind the range; say with [`Chunk::filled`] how many were written.
    pub fn tail_mut(&mut self) -> &mut [u8] {
        &mut self.page.bytes_mut()[self.to as usize..]
    }

    /// Extends the range by `count` bytes that were written to [`Chunk::tail_mut`].
    pub fn filled(&mut self, count: usize) {
        assert!(count <= self.tailroom(), "a chunk cannot be filled past its page");
        self.to += count as u32;
    }

    /// Copies as much of `bytes` behind the range as fits; returns how many.
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.tailroom());
        self.tail_mut()[..count].copy_from_slice(&bytes[..count]);
        self.to += count as u32;
        count
    }

    /// Copies `bytes` in front of the range; false (and nothing changed) when they do not fit.
    pub fn prepend(&mut self, bytes: &[u8]) -> bool {
        if bytes.len() > self.headroom() {
            return false;
        }
        let from = self.from as usize - bytes.len();
        self.page.bytes_mut()[from..self.from as usize].copy_from_slice(bytes);
        self.from = from as u32;
        true
    }

    /// The page alone, to give it back.
    pub fn into_page(self) -> Page {
        self.page
    }
}

/// What one send hands to the kernel: up to [`CHAIN_CHUNKS_MAX`] chunks in order.
#[derive(Debug, Default)]
pub struct Chain {
    chunks: ArrayVec<Chunk, CHAIN_CHUNKS_MAX>,
}

impl Chain {
    /// A chain without chunks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a chunk at the end; gives it back when the chain is full.
    pub fn push(&mut self, chunk: Chunk) -> Result<(), Chunk> {
        self.chunks.try_push(chunk).map_err(|full| full.element())
    }

    /// True when no further chunk fits.
    pub const fn is_full(&self) -> bool {
        self.chunks.is_full()
    }

    /// True without chunks.
    pub const fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Bytes of all chunks.
    pub fn len(&self) -> usize {
        self.chunks.iter().map(Chunk::len).sum()
    }

    /// The chunks in order.
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// The chunks in order, owned.
    pub fn into_chunks(self) -> impl DoubleEndedIterator<Item = Chunk> {
        self.chunks.into_iter()
    }
}

impl From<Chunk> for Chain {
    fn from(chunk: Chunk) -> Self {
        std::iter::once(chunk).collect()
    }
}

impl FromIterator<Chunk> for Chain {
    /// # Panics
    /// With more than [`CHAIN_CHUNKS_MAX`] chunks.
    fn from_iter<T: IntoIterator<Item = Chunk>>(chunks: T) -> Self {
        Self { chunks: chunks.into_iter().collect() }
    }
}

/// Bytes in order, as chunks: an inbox or an outbox.
#[derive(Debug, Default)]
pub struct Queue {
    chunks: VecDeque<Chunk>,
    bytes: usize,
}

impl Queue {
    /// A queue without bytes; allocates nothing.
    pub const fn new() -> Self {
        Self { chunks: VecDeque::new(), bytes: 0 }
    }

    /// Bytes in all chunks.
    pub const fn len(&self) -> usize {
        self.bytes
    }

    /// True without bytes.
    pub const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Number of chunks, which is the number of pages held.
    pub fn pages(&self) -> usize {
        self.chunks.len()
    }

    /// Adds a chunk at the end; an empty one goes straight home.
    pub fn push(&mut self, chunk: Chunk, pool: &mut Pool) {
        if chunk.is_empty() {
            pool.give(chunk.into_page());
            return;
        }
        self.bytes += chunk.len();
        self.chunks.push_back(chunk);
    }

    /// Adds a chunk at the front; an empty one goes straight home.
    pub fn push_front(&mut self, chunk: Chunk, pool: &mut Pool) {
        if chunk.is_empty() {
            pool.give(chunk.into_page());
            return;
        }
        self.bytes += chunk.len();
        self.chunks.push_front(chunk);
    }

    /// Free bytes behind the last chunk; 0 without chunks.
    pub fn tailroom(&self) -> usize {
        self.chunks.back().map_or(0, Chunk::tailroom)
    }

    /// The first chunk, without taking it.
    pub fn front(&self) -> Option<&Chunk> {
        self.chunks.front()
    }

    /// Takes the first chunk.
    pub fn pop(&mut self) -> Option<Chunk> {
        let chunk = self.chunks.pop_front()?;
        self.bytes -= chunk.len();
        Some(chunk)
    }

    /// Copies `bytes` to the end: into the last page where they fit, else into pages from the pool. False when the
    /// pool ran dry; nothing was added then.
    pub fn append(&mut self, bytes: &[u8], pool: &mut Pool) -> bool {
        let tail = self.chunks.back().map_or(0, Chunk::tailroom);
        let fresh = PAGE_BYTES - PAGE_HEADROOM;
        let needed = bytes.len().saturating_sub(tail).div_ceil(fresh);
        if pool.available() < needed {
            return false;
        }
        let mut rest = bytes;
        if let Some(last) = self.chunks.back_mut() {
            let count = last.append(rest);
            rest = &rest[count..];
        }
        while !rest.is_empty() {
            let Some(page) = pool.take() else {
                unreachable!("the pool had {needed} pages a moment ago");
            };
            let mut chunk = Chunk::empty(page);
            let count = chunk.append(rest);
            rest = &rest[count..];
            self.chunks.push_back(chunk);
        }
        self.bytes += bytes.len();
        true
    }

    /// The first bytes; `None` when the queue is shorter.
    pub fn first<const COUNT: usize>(&self) -> Option<[u8; COUNT]> {
        if let Some(bytes) = self.chunks.front()?.bytes().first_chunk() {
            return Some(*bytes);
        }
        let mut all = self.chunks.iter().flat_map(Chunk::bytes);
        let mut out = [0; COUNT];
        for place in &mut out {
            *place = *all.next()?;
        }
        Some(out)
    }

    /// Copies the first `count` bytes behind what `out` holds; fewer when the queue is shorter.
    pub fn peek(&self, count: usize, out: &mut Vec<u8>) {
        let mut left = count;
        for chunk in &self.chunks {
            let piece = chunk.bytes().get(..left).unwrap_or(chunk.bytes());
            out.extend_from_slice(piece);
            left -= piece.len();
            if left == 0 {
                break;
            }
        }
    }

    /// Drops the first `count` bytes (fewer when the queue is shorter); emptied pages go home.
    pub fn consume(&mut self, count: usize, pool: &mut Pool) {
        let mut left = count.min(self.bytes);
        self.bytes -= left;
        while left > 0 {
            let Some(first) = self.chunks.front_mut() else { break };
            if first.len() > left {
                first.advance(left);
                break;
            }
            left -= first.len();
            if let Some(chunk) = self.chunks.pop_front() {
                pool.give(chunk.into_page());
            }
        }
    }

    /// Moves bytes from the front of the first two chunks together until the first chunk holds everything that fits
    /// in a page: a head that straddles pages becomes one slice. False when the queue has fewer than two chunks or
    /// the first page is full: nothing more can be joined.
    pub fn join_front(&mut self, pool: &mut Pool) -> bool {
        if self.chunks.len() < 2 {
            return false;
        }
        let (Some(mut first), Some(mut second)) = (self.chunks.pop_front(), self.chunks.pop_front()) else {
            return false;
        };
        if first.tailroom() < second.len() && first.headroom() > PAGE_HEADROOM {
            let len = first.len();
            let from = first.from as usize;
            first.page.bytes_mut().copy_within(from..from + len, PAGE_HEADROOM);
            first = Chunk::new(first.into_page(), PAGE_HEADROOM, PAGE_HEADROOM + len);
        }
        let moved = first.append(second.bytes());
        second.advance(moved);
        if second.is_empty() {
            pool.give(second.into_page());
        } else {
            self.chunks.push_front(second);
        }
        self.chunks.push_front(first);
        moved > 0
    }

    /// Takes up to [`CHAIN_CHUNKS_MAX`] chunks from the front, for one send.
    pub fn take_chain(&mut self) -> Chain {
        let mut chain = Chain::new();
        while !chain.is_full() {
            let Some(chunk) = self.pop() else { break };
            if let Err(chunk) = chain.push(chunk) {
                self.bytes += chunk.len();
                self.chunks.push_front(chunk);
                break;
            }
        }
        chain
    }

    /// Puts back what a short send left: the chain without its first `sent` bytes.
    pub fn untake(&mut self, chain: Chain, sent: usize, pool: &mut Pool) {
        let mut skip = sent;
        let mut rest: ArrayVec<Chunk, CHAIN_CHUNKS_MAX> = ArrayVec::new();
        for mut chunk in chain.into_chunks() {
            let gone = skip.min(chunk.len());
            skip -= gone;
            chunk.advance(gone);
            if chunk.is_empty() {
                pool.give(chunk.into_page());
            } else {
                rest.push(chunk);
            }
        }
        for chunk in rest.into_iter().rev() {
            self.bytes += chunk.len();
            self.chunks.push_front(chunk);
        }
    }

    /// Gives the memory of an empty queue back.
    pub fn rest(&mut self) {
        if self.chunks.is_empty() {
            self.chunks = VecDeque::new();
        }
    }

    /// Sends every page home and gives the queue's own memory back.
    pub fn clear(&mut self, pool: &mut Pool) {
        for chunk in self.chunks.drain(..) {
            pool.give(chunk.into_page());
        }
        self.bytes = 0;
        self.chunks = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(queue: &Queue) -> Vec<u8> {
        queue.chunks.iter().flat_map(|chunk| chunk.bytes().to_vec()).collect()
    }

    #[test]
    fn a_pool_stops_at_its_limit() {
        let mut pool = Pool::new(2);
        let (first, second) = (pool.take().unwrap(), pool.take().unwrap());
        assert!(pool.take().is_none());
        assert_eq!(pool.refused(), 1);
        pool.give(first);
        assert_eq!(pool.available(), 1);
        pool.give(second);
        pool.trim(0);
        assert_eq!((pool.made(), pool.available()), (0, 2));
    }

    #[test]
    fn append_consume_and_join_keep_the_order() {
        let mut pool = Pool::new(8);
        let mut queue = Queue::new();
        let text: Vec<u8> = (0..PAGE_BYTES + 777).map(|n| (n % 251) as u8).collect();
        assert!(queue.append(&text, &mut pool));
        assert_eq!(all(&queue), text);
        queue.consume(PAGE_BYTES - 1000, &mut pool);
        assert_eq!(all(&queue), &text[PAGE_BYTES - 1000..]);
        assert!(queue.join_front(&mut pool));
        assert_eq!(queue.front().unwrap().bytes(), &text[PAGE_BYTES - 1000..]);
        assert!(!queue.join_front(&mut pool));
        queue.clear(&mut pool);
        assert_eq!(pool.free(), pool.made());
    }

    #[test]
    fn the_first_bytes_are_seen_wherever_they_lie() {
        let mut pool = Pool::new(8);
        for at in 0..=4 {
            let mut queue = Queue::new();
            for part in [&b"abcd"[..at], &b"abcd"[at..]] {
                let mut chunk = Chunk::empty(pool.take().unwrap());
                chunk.append(part);
                queue.push(chunk, &mut pool);
            }
            assert_eq!(queue.first(), Some(*b"abcd"));
            assert_eq!(queue.first(), Some(*b"abc"));
            assert_eq!(queue.first::<5>(), None);
            queue.clear(&mut pool);
        }
        assert_eq!(Queue::new().first::<1>(), None);
    }

    #[test]
    fn a_short_send_comes_back_in_order() {
        let mut pool = Pool::new(8);
        for sent in [0, 1, 5, 6, 11] {
            let mut queue = Queue::new();
            for part in ["hello", "world", "!"] {
                let mut chunk = Chunk::empty(pool.take().unwrap());
                chunk.append(part.as_bytes());
                queue.push(chunk, &mut pool);
            }
            let chain = queue.take_chain();
            assert_eq!((chain.len(), queue.len()), (11, 0));
            queue.untake(chain, sent, &mut pool);
            assert_eq!(all(&queue), &b"helloworld!"[sent..]);
            assert_eq!(queue.len(), 11 - sent);
            queue.clear(&mut pool);
        }
        assert_eq!(pool.free(), pool.made());
    }

    #[test]
    fn headroom_takes_a_chunk_size_line() {
        let mut pool = Pool::new(1);
        let mut chunk = Chunk::empty(pool.take().unwrap());
        chunk.append(b"data");
        assert!(chunk.prepend(b"4\r\n"));
        assert_eq!(chunk.bytes(), b"4\r\ndata");
        assert!(!chunk.prepend(&[0; PAGE_HEADROOM]));
        pool.give(chunk.into_page());
    }
}
