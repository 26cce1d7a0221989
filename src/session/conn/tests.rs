use super::*;
use crate::balance::Balancer;
use crate::clock::{self, Moment};
use crate::config::model::Config;
use crate::counters::Counters;
use crate::ids::{SessionId, WorkerId};
use crate::meters::digests::Digests;
use crate::tls::{ClientOptions, ClientTls, ServerOptions, ServerTls, demo};

/// A client and a server with TLS, and what lies between them.
struct Pair {
    ends: [Conn; 2],
    pool: Pool,
}

/// What one call of [`Conn::pump`] asked for.
struct Pumped {
    ops: Vec<Op>,
    starved: bool,
}

impl Pair {
    fn new() -> Self {
        let (store, _) = demo::certificate(&["localhost"], clock::wall()).unwrap();
        let server = ServerTls::new(store, &ServerOptions::default()).unwrap();
        let options = ClientOptions { verify: false, ..ClientOptions::default() };
        let client = ClientTls::new(&options).unwrap();
        let mut pool = Pool::new(64);
        let mut ends = [Conn::plain(), Conn::plain()];
        ends[0].secure(Pipe::connect(&client, "localhost").unwrap(), &mut pool).unwrap();
        ends[1].secure(Pipe::accept(&server).unwrap(), &mut pool).unwrap();
        Self { ends, pool }
    }

    fn pump(&mut self, at: usize) -> Pumped {
        let config = Config::default();
        let mut ops = Vec::new();
        let mut cx = Cx {
            now: Moment(1),
            worker: WorkerId(0),
            me: SessionId { slot: 0, generation: 0 },
            config: &config,
            balancer: &Balancer::new(&config),
            clusters: &[],
            counters: &Counters::default(),
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
        self.ends[at].pump(Leg::Front, true, &mut cx);
        let starved = cx.starved;
        Pumped { ops, starved }
    }

    /// Does what one end wants; true when it sent something. Shutting is an end for the other.
    fn carry(&mut self, at: usize) -> bool {
        let mut sent = false;
        for op in self.pump(at).ops {
            match op {
                Op::Send(_, chain) => {
                    let mut copy = Chain::new();
                    for chunk in chain.chunks() {
                        let mut page = Chunk::empty(self.pool.take().unwrap());
                        assert_eq!(page.append(chunk.bytes()), chunk.len());
                        copy.push(page).unwrap();
                    }
                    let len = chain.len();
                    self.ends[at].sent(chain, len, &mut self.pool);
                    self.ends[1 - at].received(copy, &mut self.pool).unwrap();
                    sent = true;
                }
                Op::Shut(_) => self.ends[1 - at].ended(),
                _ => {}
            }
        }
        sent
    }

    fn run(&mut self) {
        while self.carry(0) | self.carry(1) {}
    }

    fn end(mut self) {
        self.ends.iter_mut().for_each(|end| end.clear(&mut self.pool));
        assert_eq!(self.pool.free(), self.pool.made());
    }
}

#[test]
fn a_goodbye_that_finds_no_page_is_said_later() {
    let mut pair = Pair::new();
    pair.run();
    let mut taken: Vec<_> = std::iter::from_fn(|| pair.pool.take()).collect();
    pair.ends[1].shut_when_flushed();
    let pumped = pair.pump(1);
    assert!(pumped.starved && pumped.ops.is_empty(), "{:?}", pumped.ops);
    assert!(!pair.ends[1].is_finished() && !pair.ends[1].is_deaf());
    taken.drain(..).for_each(|page| pair.pool.give(page));
    pair.run();
    assert!(pair.ends[1].is_finished() && pair.ends[1].is_shut());
    assert!(pair.ends[0].is_eof() && !pair.ends[0].is_truncated());
    pair.end();
}

#[test]
fn nothing_is_shut_while_a_handshake_lasts() {
    let mut pair = Pair::new();
    pair.ends[0].shut_when_flushed();
    assert!(pair.carry(0), "the first flight");
    let pumped = pair.pump(0);
    assert!(pumped.ops.is_empty(), "{:?}", pumped.ops);
    pair.run();
    assert!(pair.ends[0].is_shut() && !pair.ends[1].is_handshaking());
    assert!(pair.ends[1].is_eof() && !pair.ends[1].is_truncated());
    pair.end();
}
