//! A test per rule of the chunked coding: tables, every prefix and every split.

use super::*;

/// Decodes `coded` in the pieces that `cuts` makes, as a session would; the data, what follows the body, the state.
fn decode_cut(coded: &[u8], cuts: &[usize]) -> Result<(Vec<u8>, Vec<u8>, Chunked), BadChunk> {
    let (mut state, mut data, mut rest) = (Chunked::new(), Vec::new(), Vec::new());
    let mut from = 0;
    for to in cuts.iter().copied().chain([coded.len()]) {
        let mut piece = coded[from..to].to_vec();
        let decoded = state.decode(&mut piece)?;
        assert!(decoded.data.end <= decoded.used && decoded.used <= piece.len());
        assert!(decoded.done || decoded.used == piece.len(), "everything is consumed until the end");
        assert_eq!(decoded.done, state.is_done());
        data.extend_from_slice(&piece[decoded.data]);
        rest.extend_from_slice(&piece[decoded.used..]);
        from = to;
    }
    Ok((data, rest, state))
}

fn decode(coded: &[u8]) -> Result<(Vec<u8>, Vec<u8>, Chunked), BadChunk> {
    decode_cut(coded, &[])
}

const GOOD: &[(&[u8], &[u8], &[u8])] = &[
    (b"0\r\n\r\n", b"", b""),
    (b"5\r\nhello\r\n0\r\n\r\n", b"hello", b""),
    (b"5\r\nhello\r\n6\r\n world\r\n1\r\n!\r\n0\r\n\r\n", b"hello world!", b""),
    (b"000000000000000A\r\n0123456789\r\n00\r\n\r\n", b"0123456789", b""),
    (b"a;name=value;q=\"a;b\";x\r\n\r\n\r\n\r\n\r\n\r\n\r\n0;last\r\n\r\n", b"\r\n\r\n\r\n\r\n\r\n", b""),
    (
        b"3\r\nabc\r\n0\r\nX-Sum: 1\r\nX-Empty:\r\nx-b:\t c \t\r\n\r\n",
        b"abc",
        b"X-Sum: 1\r\nX-Empty: \r\nx-b: c\r\n",
    ),
    (b"1\r\na\r\n0\r\nContent-Length: 5\r\nHost: x\r\nX-Ok: 1\r\n\r\n", b"a", b"X-Ok: 1\r\n"),
];

#[test]
fn decodes_and_keeps_what_follows() {
    for (coded, data, trailers) in GOOD {
        let mut bytes = coded.to_vec();
        bytes.extend_from_slice(b"GET / HTTP/1.1\r\n");
        let (found, rest, state) = decode(&bytes).unwrap();
        assert_eq!((&found[..], &rest[..]), (*data, &b"GET / HTTP/1.1\r\n"[..]));
        assert!(state.is_done());
        assert_eq!(state.trailers(), *trailers);
    }
}

#[test]
fn every_prefix_is_a_good_beginning() {
    for (coded, data, _) in GOOD {
        for end in 0..coded.len() {
            let (found, rest, state) = decode(&coded[..end]).unwrap();
            assert!(data.starts_with(&found) && rest.is_empty() && !state.is_done());
        }
    }
}

#[test]
fn every_split_decodes_to_the_same() {
    for (coded, data, trailers) in GOOD {
        for first in 0..=coded.len() {
            for second in first..=coded.len() {
                let (found, rest, state) = decode_cut(coded, &[first, second]).unwrap();
                assert_eq!((&found[..], rest.len(), state.trailers()), (*data, 0, *trailers));
            }
        }
        let bytewise: Vec<usize> = (1..coded.len()).collect();
        let (found, _, state) = decode_cut(coded, &bytewise).unwrap();
        assert_eq!((&found[..], state.trailers()), (*data, *trailers));
    }
}

#[test]
fn refuses_what_is_not_exactly_the_coding() {
    use BadChunk::{
        DataEnd, ExtensionInvalid, LineEnd, SizeInvalid, SizeMissing, SizeTooLong, TrailerInvalid,
    };
    for (coded, expected) in [
        (&b"\r\n"[..], SizeMissing),
        (b" 5\r\nhello\r\n", SizeMissing),
        (b"+5\r\nhello\r\n", SizeMissing),
        (b"-5\r\nhello\r\n", SizeMissing),
        (b";x\r\n", SizeMissing),
        (b"g\r\n", SizeMissing),
        (b"0x5\r\nhello\r\n", SizeInvalid),
        (b"5 \r\nhello\r\n", SizeInvalid),
        (b"5\t\r\nhello\r\n", SizeInvalid),
        (b"5 ;x\r\nhello\r\n", SizeInvalid),
        (b"5_0\r\n", SizeInvalid),
        (b"5,5\r\n", SizeInvalid),
        (b"5\0\r\n", SizeInvalid),
        (b"5\nhello\r\n", LineEnd),
        (b"5\rhello\r\n", LineEnd),
        (b"5\r\rhello\r\n", LineEnd),
        (b"10000000000000000\r\n", SizeTooLong),
        (b"00000000000000005\r\nhello\r\n", SizeTooLong),
        (b"fffffffffffffffff\r\n", SizeTooLong),
        (b"5\r\nhello0\r\n\r\n", DataEnd),
        (b"5\r\nhello\n0\r\n\r\n", DataEnd),
        (b"5\r\nhello\r0\r\n\r\n", DataEnd),
        (b"5\r\nhello!\r\n0\r\n\r\n", DataEnd),
        (b"5\r\nhell\r\n0\r\n\r\n", DataEnd),
        (b"5;a\nhello\r\n", LineEnd),
        (b"5;a\rb\r\nhello\r\n", LineEnd),
        (b"5;a\0b\r\nhello\r\n", ExtensionInvalid),
        (b"5;a\x7f\r\nhello\r\n", ExtensionInvalid),
        (b"5;\x0b\r\nhello\r\n", ExtensionInvalid),
        (b"0\n\r\n", LineEnd),
        (b"0\r\n\n", LineEnd),
        (b"0\r\n\r\r\n", LineEnd),
        (b"0\r\nX: y\n\r\n", LineEnd),
        (b"0\r\nX: y\rz\r\n\r\n", LineEnd),
        (b"0\r\nX: y\r\n\n", LineEnd),
        (b"0\r\nX: y\r\n\rz", LineEnd),
        (b"0\r\nX\r\n\r\n", TrailerInvalid),
        (b"0\r\n: y\r\n\r\n", TrailerInvalid),
        (b"0\r\nX : y\r\n\r\n", TrailerInvalid),
        (b"0\r\n X: y\r\n\r\n", TrailerInvalid),
        (b"0\r\nX: y\r\n z\r\n\r\n", TrailerInvalid),
        (b"0\r\nX: y\0\r\n\r\n", TrailerInvalid),
        (b"0\r\nX\0: y\r\n\r\n", TrailerInvalid),
        (b"0\r\n\0\r\n\r\n", TrailerInvalid),
        (b"0\r\nGET / HTTP/1.1\r\n\r\n", TrailerInvalid),
    ] {
        let text = String::from_utf8_lossy(coded);
        assert_eq!(decode(coded).map(|_| ()), Err(expected), "{text:?}");
        let bytewise: Vec<usize> = (1..coded.len()).collect();
        assert_eq!(decode_cut(coded, &bytewise).map(|_| ()), Err(expected), "{text:?} byte by byte");
    }
}

#[test]
fn the_largest_size_does_not_overflow() {
    let (data, rest, state) = decode(b"ffffffffffffffff\r\nhello").unwrap();
    assert_eq!((&data[..], rest.len(), state.is_done()), (&b"hello"[..], 0, false));
}

#[test]
fn data_of_one_chunk_stays_where_it_is() {
    let mut bytes = b"5\r\nhello\r\n0\r\n\r\n".to_vec();
    let decoded = Chunked::new().decode(&mut bytes).unwrap();
    assert_eq!(decoded, Decoded { data: 3..8, used: bytes.len(), done: true });
    let mut bytes = b"5\r\nhello\r\n3\r\nabc\r\n".to_vec();
    let decoded = Chunked::new().decode(&mut bytes).unwrap();
    assert_eq!(decoded, Decoded { data: 3..11, used: bytes.len(), done: false });
    assert_eq!(&bytes[decoded.data], b"helloabc");
}

#[test]
fn extensions_are_bounded() {
    let chunk = |extension: usize, data: usize| {
        format!("{data:x};{}\r\n{}\r\n", "x".repeat(extension - 1), "d".repeat(data)).into_bytes()
    };
    assert!(decode(&chunk(CHUNK_EXTENSION_BYTES_MAX, 1)).is_ok());
    assert_eq!(decode(&chunk(CHUNK_EXTENSION_BYTES_MAX + 1, 1)).map(|_| ()), Err(BadChunk::ExtensionTooLong));
    let endless = [b"5;", &[b'x'; 1000][..]].concat();
    assert_eq!(decode(&endless).map(|_| ()), Err(BadChunk::ExtensionTooLong));
    // Many small chunks with long extensions carry less data than extensions.
    let many: Vec<u8> = (0..100).flat_map(|_| chunk(200, 1)).collect();
    assert_eq!(decode(&many).map(|_| ()), Err(BadChunk::ExtensionTooLong));
    let fair: Vec<u8> = (0..100).flat_map(|_| chunk(200, 200)).collect();
    assert_eq!(decode(&fair).unwrap().0.len(), 20_000);
}

#[test]
fn trailers_are_bounded_and_only_harmless_ones_kept() {
    let section = |bytes: usize| [b"0\r\nX: ", &vec![b'x'; bytes - 7][..], b"\r\n\r\n"].concat();
    assert!(decode(&section(TRAILER_BYTES_MAX)).unwrap().2.is_done());
    assert_eq!(decode(&section(TRAILER_BYTES_MAX + 1)).map(|_| ()), Err(BadChunk::TrailersTooLong));
    for name in NEVER_TRAILERS.iter().chain(Kind::NAMED.iter().map(|(_, name)| name)).chain(&[
        "X_Forwarded_For",
        "X-Forwarded-Port",
        "content_type",
        "Set-Cookie",
    ]) {
        let (_, _, state) = decode(format!("0\r\n{name}: x\r\n\r\n").as_bytes()).unwrap();
        assert_eq!(state.trailers(), b"", "{name}");
    }
    let (_, _, state) = decode(b"0\r\nServer-Timing: x\r\nGrpc-Status: 0\r\nDigest: b\xfc\r\n\r\n").unwrap();
    assert_eq!(state.trailers(), b"Server-Timing: x\r\nGrpc-Status: 0\r\nDigest: b\xfc\r\n");
}

#[test]
fn an_end_without_trailers_allocates_nothing() {
    let (_, _, state) = decode(b"1\r\na\r\n0\r\n\r\n").unwrap();
    assert!(state.trailers.is_none());
    assert!(size_of::<Chunked>() <= 24);
}

#[test]
fn what_is_written_decodes_to_the_same() {
    for length in [1, 9, 10, 15, 16, 255, 256, 0xabcd, u64::MAX >> 1, u64::MAX] {
        let line = size_line(length);
        assert_eq!(&line[..], format!("{length:x}\r\n").as_bytes());
    }
    let data = vec![b'd'; 0x1234];
    let mut last = [0; 64];
    let used = write_last_chunk(b"X-Sum: 1\r\n", &mut last).unwrap();
    let coded = [&size_line(data.len() as u64)[..], &data, CHUNK_END, &last[..used]].concat();
    let (found, rest, state) = decode(&coded).unwrap();
    assert_eq!((found, rest.len(), state.trailers()), (data, 0, &b"X-Sum: 1\r\n"[..]));
    assert_eq!(write_last_chunk(b"", &mut last), Some(5));
    assert_eq!(&last[..5], LAST_CHUNK);
    assert_eq!(write_last_chunk(b"X-Sum: 1\r\n", &mut last[..14]), None);
}
