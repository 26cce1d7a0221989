//! What clients and servers say when they are not talking nonsense.
//!
//! Every request carries a mark, every answer the mark of its request, and every body is a pattern of the mark: a byte
//! that reaches the wrong connection, or the wrong place, is noticed.

use ringgate::http::message::Method;

use crate::requests::Asked;

/// The byte at a place of the body that belongs to a mark.
pub fn pattern(mark: u64, at: u64) -> u8 {
    (at.wrapping_mul(131) ^ (at >> 8).wrapping_mul(29) ^ mark.wrapping_mul(97)) as u8
}

fn body(mark: u64, from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(|at| pattern(mark, at as u64)).collect()
}

fn chunked(mark: u64, len: usize, trailers: &str) -> Vec<u8> {
    let mut coded = Vec::new();
    let mut from = 0;
    while from < len {
        let part = (len - from).min(1 + (from * 7 + 5) % 3000);
        coded.extend_from_slice(format!("{part:x};ignored=\"x\"\r\n").as_bytes());
        coded.extend(body(mark, from, part));
        coded.extend_from_slice(b"\r\n");
        from += part;
    }
    coded.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
    coded
}

/// Where requests go: every kind of route.
const PLACES: [(&str, &str); 8] = [
    ("www.x", "/"),
    ("www.x", "/full/a"),
    ("www.x", "/introduced/a"),
    ("www.x", "/once/a?b=c"),
    ("fixed.x", "/"),
    ("gone.x", "/there"),
    ("www.x", "/full/b"),
    ("nowhere.x", "/none/"),
];

/// Kinds of requests.
pub const REQUESTS: usize = 16;

/// A request of a kind, with a body of `len` bytes where the kind has one.
pub fn request(kind: usize, place: usize, len: usize, mark: u64) -> Vec<u8> {
    let (host, path) = PLACES[place % PLACES.len()];
    let head = |method: &str, version: &str, fields: &str| {
        format!("{method} {path} HTTP/{version}\r\nHost: {host}\r\nX-Mark: {mark}\r\n{fields}\r\n")
            .into_bytes()
    };
    let sized = |method: &str, fields: &str| {
        [head(method, "1.1", &format!("{fields}Content-Length: {len}\r\n")), body(mark, 0, len)].concat()
    };
    match kind % REQUESTS {
        0 => head("GET", "1.1", ""),
        1 => head("HEAD", "1.1", ""),
        2 => sized("POST", ""),
        3 => {
            [head("POST", "1.1", "Transfer-Encoding: chunked\r\n"), chunked(mark, len, "X-T: t\r\n")].concat()
        }
        4 => head("GET", "1.0", ""),
        5 => head("GET", "1.0", "Connection: keep-alive\r\n"),
        6 => head("GET", "1.1", "Connection: upgrade\r\nUpgrade: websocket\r\n"),
        7 => sized("POST", "Expect: 100-continue\r\n"),
        8 => head("GET", "1.1", "Connection: close\r\n"),
        9 => head("DELETE", "1.1", ""),
        10 => sized("PUT", "Connection: close\r\n"),
        11 => b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_vec(),
        12 => b"PROXY TCP4 10.1.2.3 10.0.0.9 4321 80\r\n".to_vec(),
        13 => b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\x01\x02\x03\x0a\0\0\x09\x10\xe1\0\x50".to_vec(),
        14 => head("GET", "1.1", "").split_off(20),
        _ => sized("POST", "Expect: something\r\n"),
    }
}

/// Kinds of answers.
pub const ANSWERS: usize = 16;

/// An answer: its bytes, the length of its body, and whether what it means is beyond doubt.
pub struct Said {
    pub bytes: Vec<u8>,
    pub body: u64,
    pub is_final: bool,
    pub is_clear: bool,
}

/// An answer of a kind to a request.
pub fn answer(kind: usize, len: usize, asked: &Asked) -> Said {
    let mark = asked.mark.unwrap_or(0);
    let bodiless = asked.method == Method::Head;
    let head =
        |line: &str, fields: &str| format!("HTTP/{line}\r\nX-Mark: {mark}\r\n{fields}\r\n").into_bytes();
    let with = |head: Vec<u8>, coded: Vec<u8>| if bodiless { head } else { [head, coded].concat() };
    let length = format!("Content-Length: {len}\r\n");
    let sized = |line: &str, fields: &str| with(head(line, &format!("{length}{fields}")), body(mark, 0, len));
    let coding = "Transfer-Encoding: chunked\r\n";
    let (mut is_final, mut is_clear, mut has_body) = (true, true, !bodiless);
    let mut interim = |line: &str, fields: &str| {
        (is_final, has_body) = (false, false);
        head(line, fields)
    };
    let bytes = match kind % ANSWERS {
        0 => sized("1.1 200 OK", ""),
        1 => with(head("1.1 200 OK", coding), chunked(mark, len, "X-T: t\r\n")),
        2 => with(head("1.1 200 OK", "Connection: close\r\n"), body(mark, 0, len)),
        3 => interim("1.1 101 Switching", "Connection: upgrade\r\nUpgrade: websocket\r\n"),
        4 => interim("1.1 100 Continue", ""),
        5 => interim("1.1 103 Early", "Link: </a>\r\n"),
        6 => {
            has_body = false;
            head("1.1 204 No Content", "")
        }
        7 => {
            has_body = false;
            head("1.1 304 Not Modified", &length)
        }
        8 => sized("1.1 502 Bad Gateway", "Connection: close\r\n"),
        9 => sized("1.0 200 OK", ""),
        10 => sized("1.0 200 OK", "Connection: keep-alive\r\n"),
        11 => head("2 200 OK", ""),
        12 => {
            let mut coded = chunked(mark, len, "");
            coded.truncate(coded.len() / 2);
            coded.extend_from_slice(b"\r\nnonsense\r\n");
            is_clear = false;
            with(head("1.1 200 OK", coding), coded)
        }
        13 => {
            is_clear = false;
            [sized("1.1 200 OK", ""), b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()].concat()
        }
        14 => with(head("1.1 200 OK", &format!("{coding}{length}")), chunked(mark, len, "")),
        _ => with(head("1.1 200 OK", "Server: x\r\nTransfer-Encoding: chunked\r\n"), chunked(mark, len, "")),
    };
    Said { bytes, body: if has_body { len as u64 } else { 0 }, is_final, is_clear }
}
