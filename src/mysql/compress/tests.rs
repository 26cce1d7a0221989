use super::*;

/// Everything out of a stream that comes in pieces of `size` bytes.
fn inflate(stream: &[u8], size: usize) -> Result<Vec<u8>, BadCompressed> {
    let (mut inflater, mut out) = (Inflater::new(), Vec::new());
    for piece in stream.chunks(size) {
        let mut at = 0;
        loop {
            let before = out.len();
            at += inflater.feed(&piece[at..], &mut out)?;
            assert!(out.len() - before <= SQL_INFLATE_BYTES);
            assert!(out.len() - before == SQL_INFLATE_BYTES || at == piece.len() || inflater.is_between());
            if out.len() - before < SQL_INFLATE_BYTES && at == piece.len() {
                break;
            }
        }
    }
    assert!(inflater.is_between() || stream.len() < HEADER_BYTES || out.is_empty(), "ends with a packet");
    Ok(out)
}

fn packet(sequence: u8, inflated: usize, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_u24(&mut out, payload.len() as u32);
    out.push(sequence);
    put_u24(&mut out, inflated as u32);
    out.extend_from_slice(payload);
    out
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut zlib = Compress::new(Compression::best(), true);
    let mut out = Vec::with_capacity(bytes.len() + 100);
    assert_eq!(zlib.compress_vec(bytes, &mut out, FlushCompress::Finish).unwrap(), Status::StreamEnd);
    out
}

#[test]
fn what_is_written_is_read_at_any_split() {
    let mut deflater = Deflater::new();
    let text: Vec<u8> = (0..10_000_u32).flat_map(|number| format!("row {number};").into_bytes()).collect();
    for length in [0, 1, 49, 50, 300, SQL_INFLATE_BYTES - 1, SQL_INFLATE_BYTES, 50_000] {
        let (mut stream, mut sequence) = (Vec::new(), 255);
        deflater.write(&mut stream, &mut sequence, &text[..length]);
        deflater.write(&mut stream, &mut sequence, b"end");
        let expected = [&text[..length], b"end"].concat();
        let packed = length >= 300;
        assert_eq!(stream.len() < length, packed, "{length}");
        assert_eq!(sequence, if length == 0 { 0 } else { 1 });
        for size in [1, 2, 7, 8, 1000, usize::MAX] {
            assert_eq!(inflate(&stream, size).unwrap(), expected, "{length} {size}");
        }
    }
}

#[test]
fn packets_come_one_at_a_time() {
    let (mut stream, mut sequence) = (Vec::new(), 7);
    let text = [b'x'; 1000];
    for piece in [&text[..], b"short", b""] {
        Deflater::new().write(&mut stream, &mut sequence, piece);
    }
    stream.extend_from_slice(&packet(9, 0, b""));
    let (mut inflater, mut at) = (Inflater::new(), 0);
    for (number, expected) in [(7, &text[..]), (8, b"short"), (9, b"")] {
        let mut out = Vec::new();
        at += inflater.feed(&stream[at..], &mut out).unwrap();
        assert_eq!((inflater.sequence(), inflater.is_between(), &out[..]), (number, true, expected));
        inflater.rest();
    }
    assert_eq!(at, stream.len());
    assert_eq!(inflater.feed(&stream[..9], &mut Vec::new()), Ok(9));
    inflater.rest();
    assert!(inflater.is_within() && inflater.zlib.is_some(), "needed");
}

#[test]
fn noise_is_stored() {
    let mut state = 1_u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let bytes: Vec<u8> = (0..10_000).map(|_| noise()).collect();
    let (mut stream, mut sequence) = (Vec::new(), 0);
    Deflater::new().write(&mut stream, &mut sequence, &bytes);
    assert_eq!(stream, packet(0, 0, &bytes));
}

#[test]
fn long_streams_are_several_packets() {
    let bytes = vec![b'x'; PAYLOAD_MAX + 100];
    let (mut stream, mut sequence) = (Vec::new(), 0);
    Deflater::new().write(&mut stream, &mut sequence, &bytes);
    assert_eq!(sequence, 2);
    assert!(inflate(&stream, 60_000).unwrap() == bytes);
}

#[test]
fn a_length_that_lies_is_refused() {
    let text = vec![b'a'; 5000];
    let packed = zlib(&text);
    assert_eq!(inflate(&packet(0, 5000, &packed), 99).unwrap(), text);
    for size in [1, 13, usize::MAX] {
        for inflated in [1, 4999, 5001, 0xff_ffff] {
            let found = inflate(&packet(0, inflated, &packed), size);
            assert_eq!(found, Err(BadCompressed::Length), "{inflated} {size}");
        }
        // The stream ends before the packet does, or after.
        let longer = [&packed[..], b"x"].concat();
        assert_eq!(inflate(&packet(0, 5000, &longer), size), Err(BadCompressed::Length));
        let shorter = &packed[..packed.len() - 1];
        assert_eq!(inflate(&packet(0, 5000, shorter), size), Err(BadCompressed::Length));
        assert_eq!(inflate(&packet(0, 1, b""), size), Err(BadCompressed::Length));
        assert_eq!(inflate(&packet(0, 9, b"not zlib!"), size), Err(BadCompressed::Zlib));
    }
}

#[test]
fn a_bomb_comes_out_in_small_pieces_and_only_as_long_as_it_said() {
    let bomb = zlib(&vec![0; 100 << 20]);
    let (mut inflater, mut out) = (Inflater::new(), Vec::new());
    let stream = packet(0, 1000, &bomb);
    assert_eq!(inflater.feed(&stream, &mut out), Err(BadCompressed::Length));
    assert!(out.len() <= 1000);
}

#[test]
fn empty_packets_are_nothing() {
    let stream = [packet(0, 0, b""), packet(1, 0, b"abc"), packet(2, 0, b"")].concat();
    for size in [1, 7, 100] {
        assert_eq!(inflate(&stream, size).unwrap(), b"abc");
    }
}
