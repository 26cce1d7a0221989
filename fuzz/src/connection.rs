//! Two connections back to back, with TLS or without: what one end writes, the other end reads, in order.

use std::sync::LazyLock;

use ringgate::balance::Balancer;
use ringgate::buf::{Chain, Chunk, Page, Pool};
use ringgate::clock::{self, Moment};
use ringgate::config::model::Config;
use ringgate::counters::Counters;
use ringgate::ids::{SessionId, WorkerId};
use ringgate::limits::{CHAIN_CHUNKS_MAX, PAGE_BYTES, RECV_BYTES};
use ringgate::meters::digests::Digests;
use ringgate::net::Errno;
use ringgate::session::conn::Conn;
use ringgate::session::{Cx, Leg, Op};
use ringgate::tls::{ClientOptions, ClientTls, Pipe, ServerOptions, ServerTls, TlsError, Version, demo};

use crate::choices::Choices;
use crate::talk::pattern;

/// Bytes in the clear before TLS starts, as a PROXY protocol header is.
const HEADER: usize = 16;
/// With fewer pages than this left, an end may give up.
const RESERVE: usize = 12;
/// Bytes that one end writes at most in a run.
const WRITTEN_MAX: usize = 400 * 1024;

struct Shared {
    servers: [ServerTls; 2],
    client: ClientTls,
    config: Config,
    balancer: Balancer,
    counters: Counters,
}

static SHARED: LazyLock<Shared> = LazyLock::new(|| {
    let server = |max| {
        let made = demo::certificate(&["localhost"], clock::wall());
        let (store, _) = made.unwrap_or_else(|error| panic!("{error}"));
        let options = ServerOptions { max, ..ServerOptions::default() };
        ServerTls::new(store, &options).unwrap_or_else(|error| panic!("{error}"))
    };
    let options = ClientOptions { verify: false, ..ClientOptions::default() };
    let config = Config::default();
    Shared {
        servers: [server(Version::Tls13), server(Version::Tls12)],
        client: ClientTls::new(&options).unwrap_or_else(|error| panic!("{error}")),
        balancer: Balancer::new(&config),
        config,
        counters: Counters::default(),
    }
});

/// One end.
#[derive(Default)]
struct End {
    conn: Conn,
    written: usize,
    read: usize,
    receiving: bool,
    sending: Option<Chain>,
    arriving: Vec<u8>,
    /// The other end shut its sending side.
    ended: bool,
    told: bool,
    shut: bool,
    /// It said that it writes no more.
    done: bool,
    /// It gave up.
    dead: bool,
}

/// Both ends: the client is 0, the server is 1.
struct Pair {
    ends: [End; 2],
    pool: Pool,
    hoard: Vec<Page>,
    /// Where the server's TLS starts, once the header came.
    waiting: Option<Pipe>,
    secure: bool,
    /// Bytes were changed, or lost: an end may give up.
    damaged: bool,
    /// There were too few pages at some time: an end may give up.
    scarce: bool,
}

/// Plays a list of operations.
pub fn run(bytes: &[u8]) {
    let mut choices = Choices::new(bytes);
    let mode = choices.below(8);
    let mut pair = Pair::new(mode, [24, 64, 1024][choices.below(3)]);
    while let Some(step) = choices.next() {
        pair.act(step, &mut choices);
        pair.check();
    }
    pair.finish();
}

impl Pair {
    fn new(mode: usize, pages: usize) -> Self {
        let mut pair = Self {
            ends: Default::default(),
            pool: Pool::new(pages),
            hoard: Vec::new(),
            waiting: None,
            secure: mode > 0,
            damaged: false,
            scarce: false,
        };
        if mode == 0 {
            return pair;
        }
        let server = Pipe::accept(&SHARED.servers[mode % 2]).unwrap_or_else(|error| panic!("{error}"));
        let client = Pipe::connect(&SHARED.client, "localhost").unwrap_or_else(|error| panic!("{error}"));
        let [near, far] = &mut pair.ends;
        if mode >= 4 {
            assert!(near.conn.outbox.append(&[b'h'; HEADER], &mut pair.pool));
            pair.waiting = Some(server);
        } else {
            let started = far.conn.secure(server, &mut pair.pool);
            assert!(started.is_ok(), "{started:?}");
        }
        let started = near.conn.secure(client, &mut pair.pool);
        assert!(started.is_ok(), "{started:?}");
        pair
    }

    fn act(&mut self, step: u8, choices: &mut Choices<'_>) {
        let at = usize::from(step >> 7);
        // A server that waits for the header in the clear says nothing yet.
        let silent = at == 1 && self.waiting.is_some();
        match step % 16 {
            0 | 1 | 10 | 11 if silent => self.read(at, HEADER),
            0 | 1 => self.write(at, choices.size() * 3, choices.below(2) == 0),
            2 | 3 => self.read(at, choices.size()),
            4 | 5 => drop(self.deliver(at, choices.size())),
            6 | 7 => drop(self.sent(at, choices.below(256))),
            8 => self.settle(),
            9 => self.hoard(choices.below(64)),
            10 => {
                self.ends[at].conn.shut_when_flushed();
                self.ends[at].done = true;
                self.pump(at, true);
            }
            11 => {
                self.ends[at].conn.say_goodbye();
                self.ends[at].done = true;
            }
            12 => self.pump(at, choices.below(4) > 0),
            13 if choices.below(4) == 0 => self.fail_send(at),
            14 if choices.below(4) == 0 => {
                self.damaged |= !self.ends[at].arriving.is_empty() || !self.ends[at].ended;
                self.ends[at].arriving.clear();
                self.ends[at].ended = true;
            }
            15 if choices.below(2) == 0 => self.damage(at, choices),
            _ => self.pump(at, true),
        }
    }

    fn damage(&mut self, at: usize, choices: &mut Choices<'_>) {
        let (place, change) = (choices.size(), choices.byte());
        let arriving = &mut self.ends[at].arriving;
        if let Some(byte) = arriving.get_mut(place) {
            *byte ^= change;
            self.damaged |= change != 0;
        }
    }

    /// The application writes.
    fn write(&mut self, at: usize, len: usize, small: bool) {
        let end = &mut self.ends[at];
        // Whoever fills every page with what is to be sent has none left to shake hands with.
        let fits = self.pool.available() > RESERVE + len.div_ceil(RECV_BYTES);
        if end.dead || end.done || end.conn.is_deaf() || end.written + len > WRITTEN_MAX || !fits {
            return;
        }
        let bytes: Vec<u8> = (end.written..end.written + len).map(|n| pattern(at as u64, n as u64)).collect();
        if small {
            end.written += if end.conn.outbox.append(&bytes, &mut self.pool) { len } else { 0 };
        } else {
            for part in bytes.chunks(RECV_BYTES) {
                let Some(page) = self.pool.take() else { break };
                let mut chunk = Chunk::empty(page);
                end.written += chunk.append(part);
                end.conn.outbox.push(chunk, &mut self.pool);
            }
        }
        self.pump(at, true);
    }

    /// The application reads what came, up to `len` bytes.
    fn read(&mut self, at: usize, len: usize) {
        let end = &mut self.ends[at];
        let header = at == 1 && self.waiting.is_some();
        let mut left = if header { HEADER } else { len };
        if header && end.conn.inbox.len() < HEADER {
            return;
        }
        while left > 0
            && let Some(mut chunk) = end.conn.inbox.pop()
        {
            let count = left.min(chunk.len());
            for byte in &chunk.bytes()[..count] {
                let expected = if header { b'h' } else { pattern(1 - at as u64, end.read as u64) };
                let excused = self.damaged && (!self.secure || header);
                assert!(*byte == expected || excused, "byte {} at end {at}", end.read);
                end.read += usize::from(!header);
            }
            chunk.advance(count);
            left -= count;
            end.conn.inbox.push_front(chunk, &mut self.pool);
        }
        if header && let Some(pipe) = self.waiting.take() {
            let started = end.conn.secure(pipe, &mut self.pool);
            self.settle_error(at, started);
        }
        assert!(self.ends[at].read <= self.ends[1 - at].written, "more was read than written");
        self.pump(at, true);
    }

    /// An end that meets an error gives up; it must have a reason.
    fn settle_error(&mut self, at: usize, result: Result<(), TlsError>) {
        if let Err(error) = result {
            assert!(self.damaged || self.scarce, "end {at} failed without a reason: {error:?}");
            let end = &mut self.ends[at];
            end.dead = true;
            end.conn.clear(&mut self.pool);
            if let Some(chain) = end.sending.take() {
                self.pool.give_chain(chain);
            }
            self.ends[1 - at].ended = true;
            self.damaged = true;
        }
    }

    fn deliver(&mut self, at: usize, max: usize) -> bool {
        let end = &mut self.ends[at];
        if !end.receiving || end.dead {
            return false;
        }
        if end.arriving.is_empty() {
            if end.ended && !end.told {
                (end.told, end.receiving) = (true, false);
                end.conn.ended();
                self.pump(at, true);
                return true;
            }
            return false;
        }
        let mut chain = Chain::new();
        let mut left = end.arriving.len().min(max.clamp(1, RECV_BYTES * CHAIN_CHUNKS_MAX));
        let piece = if max % 3 == 0 { left.div_ceil(CHAIN_CHUNKS_MAX) } else { RECV_BYTES };
        while left > 0
            && !chain.is_full()
            && let Some(page) = self.pool.take()
        {
            let mut chunk = Chunk::empty(page);
            let count = chunk.append(&end.arriving[..piece.min(left)]);
            end.arriving.drain(..count);
            left -= count;
            assert!(chain.push(chunk).is_ok());
        }
        if chain.is_empty() {
            return false;
        }
        end.receiving = false;
        self.scarce |= self.pool.available() < RESERVE;
        let received = end.conn.received(chain, &mut self.pool);
        self.settle_error(at, received);
        self.pump(at, true);
        true
    }

    fn sent(&mut self, at: usize, share: usize) -> bool {
        let Some(chain) = self.ends[at].sending.take() else { return false };
        let count = (chain.len() * (share + 1)).div_ceil(256);
        let bytes: Vec<u8> = chain.chunks().iter().flat_map(|chunk| chunk.bytes()).copied().collect();
        if !self.ends[1 - at].ended {
            self.ends[1 - at].arriving.extend_from_slice(&bytes[..count]);
        }
        self.ends[at].conn.sent(chain, count, &mut self.pool);
        self.pump(at, true);
        true
    }

    fn fail_send(&mut self, at: usize) {
        let Some(chain) = self.ends[at].sending.take() else { return };
        self.pool.give_chain(chain);
        self.ends[at].conn.deafen(Errno(104), &mut self.pool);
        self.ends[1 - at].ended = true;
        self.damaged = true;
        self.pump(at, true);
    }

    fn hoard(&mut self, count: usize) {
        for _ in 0..count {
            self.hoard.extend(self.pool.take());
        }
        if count == 0 {
            self.hoard.drain(..).for_each(|page| self.pool.give(page));
        }
        self.scarce |= self.pool.available() < RESERVE;
    }

    fn pump(&mut self, at: usize, listen: bool) {
        if self.ends[at].dead {
            return;
        }
        self.scarce |= self.pool.available() < RESERVE;
        let mut ops = Vec::new();
        let end = &mut self.ends[at];
        let mut cx = Cx {
            now: Moment(1),
            worker: WorkerId(0),
            me: SessionId { slot: 0, generation: 0 },
            config: &SHARED.config,
            balancer: &SHARED.balancer,
            clusters: &[],
            counters: &SHARED.counters,
            pool: &mut self.pool,
            ops: &mut ops,
            accesses: &mut Vec::new(),
            digests: &mut Digests::default(),
            date: "",
            chance: 0,
            draining: false,
            behind: false,
            starved: false,
        };
        end.conn.pump(Leg::Front, listen, &mut cx);
        let asked = cx.ops.len();
        end.conn.pump(Leg::Front, listen, &mut cx);
        assert_eq!(cx.ops.len(), asked, "pumping again asked for more: {:?}", cx.ops);
        for op in ops {
            match op {
                Op::Recv(_) => {
                    assert!(!end.receiving && !end.told);
                    end.receiving = true;
                }
                Op::Send(_, chain) => {
                    assert!(end.sending.is_none() && !end.shut && !chain.is_empty());
                    end.sending = Some(chain);
                }
                Op::Shut(_) => {
                    assert!(end.sending.is_none() && !end.shut);
                    end.shut = true;
                }
                other => panic!("{other:?}"),
            }
        }
        let shut = end.shut;
        self.ends[1 - at].ended |= shut;
    }

    fn check(&self) {
        let held =
            |end: &End| end.conn.pages() + end.sending.as_ref().map_or(0, |chain| chain.chunks().len());
        let held: usize = self.ends.iter().map(held).sum();
        assert_eq!(self.pool.free() + held + self.hoard.len(), self.pool.made(), "a page is lost");
        assert!(self.pool.made() * PAGE_BYTES <= self.pool.max() * PAGE_BYTES);
    }

    /// Everything that is under way arrives and is read.
    fn settle(&mut self) {
        for _ in 0..4000 {
            let mut moved = false;
            for at in 0..2 {
                let was_shut = self.ends[at].shut;
                self.pump(at, true);
                moved |= self.sent(at, 255);
                moved |= self.deliver(at, usize::MAX);
                self.read(at, usize::MAX);
                moved |= self.ends[at].shut != was_shut;
            }
            if !moved {
                return;
            }
        }
        panic!("bytes go round in circles");
    }

    /// Both say goodbye; if nothing was damaged, everything arrived.
    fn finish(mut self) {
        self.hoard(0);
        self.settle();
        for at in 0..2 {
            self.ends[at].conn.shut_when_flushed();
        }
        self.settle();
        self.check();
        if !self.damaged {
            for at in 0..2 {
                let (end, other) = (&self.ends[at], &self.ends[1 - at]);
                assert_eq!(
                    end.read, other.written,
                    "bytes are missing at {at}: {:?} {:?}",
                    end.conn, other.conn
                );
                let state = (end.conn.is_eof(), end.conn.is_truncated(), end.shut);
                assert_eq!(state, (true, false, true), "no proper end of {at}: {:?}", end.conn);
            }
        }
        for end in &mut self.ends {
            end.conn.clear(&mut self.pool);
            if let Some(chain) = end.sending.take() {
                self.pool.give_chain(chain);
            }
        }
        assert_eq!(self.pool.free(), self.pool.made(), "pages are missing");
    }
}
