//! The chunked coding: any split decodes as all at once does, and as a simple reader of whole bodies does.
//!
//! The first two bytes choose how the rest is cut.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringgate::http::h1::chunked::{BadChunk, CHUNK_END, Chunked, size_line, write_last_chunk};

fuzz_target!(|input: &[u8]| {
    let [first, second, coded @ ..] = input else { return };
    let whole = decode(coded, coded.len().max(1), coded.len().max(1));
    let cut = decode(coded, usize::from(*first).max(1), usize::from(*second).max(1));
    let bytewise = decode(coded, 1, 1);
    assert_eq!(whole, cut);
    assert_eq!(whole, bytewise);
    let Ok(body) = whole else { return };
    if !body.done {
        return;
    }
    // A second reader, of complete bodies, that knows lines and sizes only.
    let (data, used) = read_simply(coded);
    assert_eq!((&data, used), (&body.data, body.used));
    // What we write of it means the same.
    let mut again = Vec::new();
    for part in data.chunks(1000) {
        again.extend_from_slice(&size_line(part.len() as u64));
        again.extend_from_slice(part);
        again.extend_from_slice(CHUNK_END);
    }
    let mut last = vec![0; body.trailers.len() + 5];
    assert_eq!(write_last_chunk(&body.trailers, &mut last), Some(last.len()));
    again.extend_from_slice(&last);
    // Only trailers that were just long enough can have grown (`a:b` is written `a: b`) over the bound.
    if let Ok(second) = decode(&again, again.len(), again.len()) {
        assert_eq!((second.data, second.trailers, second.used), (data, body.trailers, again.len()));
    } else {
        assert!(body.trailers.len() > 8000);
    }
});

#[derive(Debug, PartialEq)]
struct Body {
    data: Vec<u8>,
    trailers: Vec<u8>,
    used: usize,
    done: bool,
}

fn decode(coded: &[u8], first: usize, further: usize) -> Result<Body, BadChunk> {
    let mut state = Chunked::new();
    let mut body = Body { data: Vec::new(), trailers: Vec::new(), used: 0, done: false };
    let mut size = first;
    while body.used < coded.len() && !body.done {
        let mut piece = coded[body.used..coded.len().min(body.used + size)].to_vec();
        let decoded = state.decode(&mut piece)?;
        assert!(decoded.data.end <= decoded.used && decoded.used <= piece.len());
        assert!(decoded.done || decoded.used == piece.len());
        body.data.extend_from_slice(&piece[decoded.data]);
        body.used += decoded.used;
        body.done = decoded.done;
        size = further;
    }
    body.trailers = state.trailers().to_vec();
    Ok(body)
}

fn line(coded: &[u8], at: &mut usize) -> String {
    let from = *at;
    while &coded[*at..*at + 2] != b"\r\n" {
        *at += 1;
    }
    *at += 2;
    coded[from..*at - 2].iter().map(|byte| char::from(*byte)).collect()
}

fn read_simply(coded: &[u8]) -> (Vec<u8>, usize) {
    let (mut data, mut at) = (Vec::new(), 0);
    loop {
        let size = line(coded, &mut at);
        let digits = size.split(';').next().unwrap_or_default();
        assert!(digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let Ok(size) = usize::from_str_radix(digits, 16) else { panic!("{size:?}") };
        if size == 0 {
            while !line(coded, &mut at).is_empty() {}
            return (data, at);
        }
        data.extend_from_slice(&coded[at..at + size]);
        at += size;
        assert_eq!(line(coded, &mut at), "");
    }
}
