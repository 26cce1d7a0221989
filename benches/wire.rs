//! What a request costs on the wire layer: parse and write of its head, parse and write of its answer's head.
//!
//! `cargo bench --bench wire` prints nanoseconds. For instructions: build with `--profile profiling`, run the binary under
//! `valgrind --tool=callgrind --toggle-collect='*round_trip*'` with `--bench --profile-time 1 NAME`, and divide by the
//! number of calls.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use ringgate::http::h1::chunked::Chunked;
use ringgate::http::h1::head::{HeadLimits, Parse, Scratch, parse_request, parse_response};
use ringgate::http::h1::write::{Connection, Forward, OutFraming, Relay, write_request, write_response};
use ringgate::http::message::{Method, ResponseFraming, Version};
use ringgate::http::rules::FieldRules;

const WRK: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";

const CURL: &[u8] =
    b"GET /index.html HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n";

const BROWSER: &[u8] = b"GET /app/assets/index-4f8a91c2.js?v=20240131 HTTP/1.1\r\n\
    Host: www.example.com\r\n\
    Connection: keep-alive\r\n\
    sec-ch-ua: \"Chromium\";v=\"128\", \"Not;A=Brand\";v=\"24\", \"Google Chrome\";v=\"128\"\r\n\
    sec-ch-ua-mobile: ?0\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Safari/537.36\r\n\
    sec-ch-ua-platform: \"Linux\"\r\n\
    Accept: */*\r\n\
    Sec-Fetch-Site: same-origin\r\n\
    Sec-Fetch-Mode: no-cors\r\n\
    Sec-Fetch-Dest: script\r\n\
    Referer: https://www.example.com/app/\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-US,en;q=0.9\r\n\
    Cookie: session=eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.abc; theme=dark; consent=1\r\n\
    If-None-Match: \"65b9f0a2-1d3f\"\r\n\r\n";

const NGINX: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Server: nginx/1.22.1\r\n\
    Date: Wed, 31 Jan 2024 12:00:00 GMT\r\n\
    Content-Type: text/plain\r\n\
    Content-Length: 12\r\n\
    Last-Modified: Wed, 31 Jan 2024 11:00:00 GMT\r\n\
    Connection: keep-alive\r\n\
    ETag: \"65ba28b0-c\"\r\n\
    Accept-Ranges: bytes\r\n\r\n";

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 16 * 1024, fields_max: 100, target_bytes_max: 8192 };

#[inline(never)]
fn round_trip(request: &[u8], response: &[u8], rules: &FieldRules, out: &mut [u8]) -> usize {
    request_trip(request, rules, out) + response_trip(response, rules, out)
}

#[inline(never)]
fn request_trip(bytes: &[u8], rules: &FieldRules, out: &mut [u8]) -> usize {
    let forward = Forward {
        client_text: "127.0.0.1",
        proto: "http",
        trusted: false,
        forwarded: false,
        subject: None,
        host_default: "127.0.0.1:8080",
        keep_alive: true,
        upgrade: false,
        extra: &[],
    };
    let mut scratch = Scratch::new();
    match parse_request(bytes, &LIMITS, &mut scratch) {
        Parse::Done(request) => write_request(&request, &forward, rules, out).unwrap_or(0),
        Parse::NeedMore | Parse::Bad(..) => 0,
    }
}

#[inline(never)]
fn response_trip(bytes: &[u8], rules: &FieldRules, out: &mut [u8]) -> usize {
    let mut scratch = Scratch::new();
    match parse_response(bytes, &LIMITS, Method::Get, &mut scratch) {
        Parse::Done(response) => {
            let framing = match response.framing {
                ResponseFraming::None => OutFraming::None,
                ResponseFraming::Length(length) => OutFraming::Length(length),
                ResponseFraming::Chunked => OutFraming::Chunked,
                ResponseFraming::UntilClose => OutFraming::UntilClose,
            };
            let relay = Relay {
                version: Version::Http11,
                connection: Connection::KeepAlive,
                framing,
                date: Some("Wed, 31 Jan 2024 12:00:00 GMT"),
                extra: &[],
            };
            write_response(&response, &relay, rules, out).unwrap_or(0)
        }
        Parse::NeedMore | Parse::Bad(..) => 0,
    }
}

fn heads(criterion: &mut Criterion) {
    let none = FieldRules::default();
    let pair = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    let rules = FieldRules::new(vec!["Server".into()], pair("X-Frame-Options", "DENY"), pair("X-Proxy", "1"))
        .unwrap_or_default();
    let mut out = vec![0; 16 * 1024];
    for (name, request) in [("wrk", WRK), ("curl", CURL), ("browser", BROWSER)] {
        criterion.bench_function(&format!("round_trip/{name}"), |bencher| {
            bencher.iter(|| {
                round_trip(black_box(request), black_box(NGINX), black_box(&none), black_box(&mut out))
            });
        });
    }
    criterion.bench_function("round_trip/browser_with_rules", |bencher| {
        bencher.iter(|| {
            round_trip(black_box(BROWSER), black_box(NGINX), black_box(&rules), black_box(&mut out))
        });
    });
    criterion.bench_function("request/wrk", |bencher| {
        bencher.iter(|| request_trip(black_box(WRK), black_box(&none), black_box(&mut out)));
    });
    criterion.bench_function("response/nginx", |bencher| {
        bencher.iter(|| response_trip(black_box(NGINX), black_box(&none), black_box(&mut out)));
    });
}

fn chunks(criterion: &mut Criterion) {
    let mut one = b"3ff8\r\n".to_vec();
    one.resize(6 + 0x3ff8, b'x');
    one.extend_from_slice(b"\r\n");
    let mut many = Vec::new();
    while many.len() < 16 * 1024 - 100 {
        many.extend_from_slice(b"40\r\n");
        many.resize(many.len() + 0x40, b'x');
        many.extend_from_slice(b"\r\n");
    }
    for (name, coded) in [("chunked/one_16k", one), ("chunked/many_64", many)] {
        // Decoding moves data, so every round begins with a fresh copy; `copy_16k` is the cost of that alone.
        let mut bytes = coded.clone();
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| {
                bytes.copy_from_slice(black_box(&coded));
                Chunked::new().decode(black_box(&mut bytes)).map(|decoded| decoded.used)
            });
        });
    }
    let (from, mut to) = (vec![0u8; 16 * 1024], vec![0u8; 16 * 1024]);
    criterion.bench_function("chunked/copy_16k", |bencher| {
        bencher.iter(|| black_box(&mut to).copy_from_slice(black_box(&from)));
    });
}

criterion_group!(wire, heads, chunks);
criterion_main!(wire);
