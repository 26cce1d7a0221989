use super::*;

/// All parts of a stream that comes in pieces of `size` bytes.
fn parts(stream: &[u8], size: usize) -> Vec<(Part, usize)> {
    let mut framer = Framer::new();
    let mut parts = Vec::new();
    for piece in stream.chunks(size) {
        let mut at = 0;
        while let Some((part, used)) = framer.next(&piece[at..]) {
            parts.push((part, used));
            at += used;
        }
    }
    parts
}

/// The lengths of the payloads.
fn payloads(stream: &[u8], size: usize) -> Vec<usize> {
    let mut lengths = Vec::new();
    for (part, used) in parts(stream, size) {
        match part {
            Part::Header => {}
            Part::Start { begins: true, .. } => lengths.push(0),
            Part::Start { begins: false, .. } => {}
            Part::Payload { .. } => *lengths.last_mut().unwrap() += used,
        }
    }
    lengths
}

#[test]
fn any_split_gives_the_same_payloads() {
    let mut stream = Vec::new();
    let mut sequence = 254;
    for length in [0, 1, 5, 300, 0] {
        write(&mut stream, &mut sequence, &vec![1; length]);
    }
    assert_eq!(sequence, 3);
    for size in [1, 2, 3, 4, 5, 7, 100, 1000] {
        assert_eq!(payloads(&stream, size), [0, 1, 5, 300, 0], "{size}");
    }
}

#[test]
fn long_payloads_are_continued_and_end_with_a_shorter_packet() {
    for (length, packets) in
        [(PAYLOAD_MAX - 1, 1), (PAYLOAD_MAX, 2), (PAYLOAD_MAX + 1, 2), (2 * PAYLOAD_MAX, 3)]
    {
        let mut stream = Vec::new();
        let mut sequence = 0;
        write(&mut stream, &mut sequence, &vec![1; length]);
        write(&mut stream, &mut sequence, b"x");
        assert_eq!(usize::from(sequence), packets + 1);
        for size in [100_003, stream.len()] {
            let parts = parts(&stream, size);
            let ends = parts.iter().filter(|(part, _)| {
                matches!(part, Part::Start { ends: true, .. } | Part::Payload { ends: true })
            });
            assert_eq!(ends.count(), 2);
            assert_eq!(payloads(&stream, size), [length, 1]);
        }
    }
}

#[test]
fn every_prefix_of_a_packet_needs_more() {
    let mut stream = Vec::new();
    put(&mut stream, &mut 3, |out| out.extend_from_slice(b"payload"));
    for end in 0..stream.len() {
        assert_eq!(parse(&stream[..end], 100), Parse::NeedMore);
    }
    let expected = Packet { sequence: 3, payload: b"payload" };
    assert_eq!(parse(&stream, 100), Parse::Done(expected, 11));
    stream.push(9);
    assert_eq!(parse(&stream, 7), Parse::Done(expected, 11));
    assert_eq!(parse(&stream[..4], 6), Parse::Bad(BadPacket::TooLong));
    // Whatever the bound: a packet that is continued is none of those that are taken whole.
    assert_eq!(parse(&[0xff, 0xff, 0xff, 0], usize::MAX), Parse::Bad(BadPacket::TooLong));
}

#[test]
fn a_framer_knows_when_it_stands_between_payloads() {
    let mut framer = Framer::new();
    assert!(framer.is_between() && framer.next(b"").is_none());
    for (bytes, between) in [(&b"\x02\0"[..], false), (b"\0\0", false), (b"a", false), (b"b", true)] {
        let (_, used) = framer.next(bytes).unwrap();
        assert_eq!((used, framer.is_between()), (bytes.len(), between));
    }
    let (part, used) = framer.next(b"\0\0\0\x05rest").unwrap();
    let header = Header { length: 0, sequence: 5 };
    assert_eq!((part, used), (Part::Start { header, begins: true, ends: true }, 4));
    assert!(framer.is_between());
}

#[test]
fn packets_are_numbered_anew_at_any_split() {
    let (mut stream, mut expected) = (Vec::new(), Vec::new());
    for (number, length) in [0, 1, 300, 0, 5].into_iter().enumerate() {
        write(&mut stream, &mut 77, &vec![9; length]);
        write(&mut expected, &mut 254_u8.wrapping_add(number as u8), &vec![9; length]);
    }
    for size in [1, 2, 3, 4, 5, 7, stream.len()] {
        let (mut numbers, mut bytes) = (Numbers::new(254), stream.clone());
        bytes.chunks_mut(size).for_each(|piece| numbers.number(piece));
        assert_eq!(bytes, expected, "{size}");
    }
}
