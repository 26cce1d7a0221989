use super::*;

/// The compressed packets of these pieces of a stream, from this sequence id on.
fn packets(from: u8, pieces: &[&[u8]]) -> Vec<u8> {
    let (mut out, mut sequence) = (Vec::new(), from);
    pieces.iter().for_each(|piece| Deflater::new().write(&mut out, &mut sequence, piece));
    out
}

fn all_of(queue: &mut Queue, pool: &mut Pool) -> Vec<u8> {
    let mut out = Vec::new();
    queue.peek(usize::MAX, &mut out);
    queue.clear(pool);
    out
}

/// A connection's far side, with pages.
struct Side {
    packed: Packed,
    plain: Queue,
    pool: Pool,
}

impl Side {
    fn new() -> Self {
        Self { packed: Packed::new(Queue::new(), Queue::new()), plain: Queue::new(), pool: Pool::new(64) }
    }

    fn take(&mut self, begins: bool) -> Result<Option<bool>, BadPacked> {
        self.packed.unpack(&mut self.plain, begins, &mut self.pool)
    }

    fn receive(&mut self, bytes: &[u8]) {
        assert!(self.packed.inbox.append(bytes, &mut self.pool));
    }

    fn say(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut plain = Queue::new();
        assert!(plain.append(bytes, &mut self.pool) && self.packed.pack(&mut plain, &mut self.pool));
        all_of(&mut self.packed.outbox, &mut self.pool)
    }
}

#[test]
fn commands_come_out_at_any_split_and_answers_count_on() {
    let long = vec![b'l'; 50_000];
    for size in [1, 3, 7, 8, 20, 1000, usize::MAX] {
        let mut side = Side::new();
        for command in [&b"short"[..], &long, b""] {
            let stream = packets(0, &[&command[..command.len() / 2], &command[command.len() / 2..]]);
            let mut out = Vec::new();
            for piece in stream.chunks(size) {
                side.receive(piece);
                while side.take(out.is_empty()).unwrap().unwrap() {
                    assert!(side.plain.len() <= SQL_INFLATE_BYTES);
                    out.extend(all_of(&mut side.plain, &mut side.pool));
                }
            }
            assert!(out == command && side.packed.inbox.is_empty(), "{size}");
            if !command.is_empty() {
                assert_eq!(side.say(b"answer"), packets(2, &[b"answer"]));
                assert_eq!(side.say(b"more"), packets(3, &[b"more"]));
            }
        }
        assert_eq!(side.pool.free(), side.pool.made());
    }
}

#[test]
fn a_packet_out_of_order_is_refused() {
    let cases = [
        (packets(0, &[b"a"]), true, Ok(())),
        (packets(0, &[b"a", b"b"]), true, Ok(())),
        (packets(1, &[b"a"]), true, Err(BadPacked::Order)),
        (packets(255, &[b"a"]), true, Err(BadPacked::Order)),
        ([packets(0, &[b"a"]), packets(2, &[b"b"])].concat(), true, Err(BadPacked::Order)),
        // Within a command it does not begin anew.
        ([packets(0, &[b"a"]), packets(0, &[b"b"])].concat(), true, Ok(())),
        (packets(0, &[b"a"]), false, Ok(())),
        ([packets(0, &[b"a"]), packets(0, &[b"b"])].concat(), false, Err(BadPacked::Order)),
        (vec![3, 0, 0, 0, 9, 0, 0, 1, 2, 3], true, Err(BadPacked::Packet)),
    ];
    for (stream, begins, expected) in cases {
        for size in [1, stream.len()] {
            let mut side = Side::new();
            let found = stream.chunks(size).try_for_each(|piece| {
                side.receive(piece);
                while side.take(begins)?.unwrap() {}
                Ok(())
            });
            assert_eq!(found, expected, "{stream:?} {begins} {size}");
        }
    }
}

#[test]
fn a_bomb_waits_until_it_is_asked_for() {
    let mut side = Side::new();
    let bomb = packets(0, &[&vec![0; 8 << 20]]);
    assert!(bomb.len() < 60_000, "{}", bomb.len());
    side.receive(&bomb);
    let made = side.pool.made();
    let mut bytes = 0;
    while side.take(true).unwrap().unwrap() {
        assert!(side.plain.len() <= SQL_INFLATE_BYTES);
        bytes += side.plain.len();
        side.plain.clear(&mut side.pool);
    }
    assert_eq!((bytes, side.packed.inbox.len()), (8 << 20, 0));
    assert!(side.pool.made() <= made + PAGES);
}

#[test]
fn without_pages_nothing_is_lost() {
    let mut side = Side::new();
    side.receive(&packets(0, &[b"command"]));
    let mut answer = Queue::new();
    assert!(answer.append(b"answer", &mut side.pool));
    let taken: Vec<_> = std::iter::from_fn(|| side.pool.take()).collect();
    assert_eq!(side.take(true), Ok(None));
    assert!(!side.packed.pack(&mut answer, &mut side.pool) && side.packed.sequence == 0);
    taken.into_iter().for_each(|page| side.pool.give(page));
    assert_eq!(side.take(true), Ok(Some(true)));
    assert_eq!(all_of(&mut side.plain, &mut side.pool), b"command");
    assert!(side.packed.pack(&mut answer, &mut side.pool));
    assert_eq!(all_of(&mut side.packed.outbox, &mut side.pool), packets(1, &[b"answer"]));
}
