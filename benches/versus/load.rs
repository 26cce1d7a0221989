//! Load over plain connections: wrk, one connection alone, idle connections; and the check of an answer.
//!
//! In: an address, an answer's size, seconds. Out: a `Load` with counts and latencies. Owns its own client
//! connections for the length of a call. Always true: each answer counts either as a request or as an error, and
//! an answer is right only with status 200 and a body of exactly the expected length.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::Value;

use crate::programs::{self, Outcome};
use crate::scenario::KEPT_CONNECTIONS;

/// No answer may take longer than this.
pub const ANSWER_TIME: Duration = Duration::from_secs(10);

/// What went wrong, each counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Errors {
    /// Connections that did not come about, TLS handshakes included.
    pub connect: u64,
    /// Reads that failed or ended early, short bodies included.
    pub read: u64,
    /// Writes that failed.
    pub write: u64,
    /// Answers that took too long.
    pub timeout: u64,
    /// Statuses other than 200 (wrk: 400 and above).
    pub status: u64,
    /// Bodies of a wrong length.
    pub body: u64,
}

impl Errors {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.connect + self.read + self.write + self.timeout + self.status + self.body
    }

    /// Counts one failed exchange.
    pub fn count(&mut self, fault: Fault) {
        match fault {
            Fault::Connect => self.connect += 1,
            Fault::Read => self.read += 1,
            Fault::Write => self.write += 1,
            Fault::Status => self.status += 1,
            Fault::Body => self.body += 1,
        }
    }

    /// Adds the counts of another thread.
    pub fn add(&mut self, other: &Self) {
        self.connect += other.connect;
        self.read += other.read;
        self.write += other.write;
        self.timeout += other.timeout;
        self.status += other.status;
        self.body += other.body;
    }
}

/// Why an exchange failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No connection, or no TLS handshake.
    Connect,
    /// The request could not be sent.
    Write,
    /// The answer could not be read, or ended early.
    Read,
    /// The status is not 200.
    Status,
    /// The length or bytes of the body are not the expected ones.
    Body,
}

/// What a load saw.
#[derive(Clone, Debug, Default)]
pub struct Load {
    /// Right answers.
    pub requests: u64,
    /// How long it took.
    pub seconds: f64,
    /// Median latency in microseconds.
    pub p50_us: f64,
    /// The latency that 99 % stayed below.
    pub p99_us: f64,
    /// What went wrong.
    pub errors: Errors,
    /// Of the TLS handshakes, how many were resumed; `None` where that is not counted.
    pub resumed: Option<u64>,
}

/// Latencies in nanoseconds, 1 µs to 100 s, three digits.
pub fn histogram() -> Outcome<Histogram<u64>> {
    Histogram::new_with_bounds(1, 100_000_000_000, 3).map_err(|error| error.to_string())
}

/// A quantile in microseconds.
pub fn quantile_us(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1000.0
}

/// What wrk prints at the end: one line of JSON behind a word that its usual report does not have.
const REPORT_LUA: &str = r#"done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    'VERSUS {"requests":%d,"micros":%d,"bytes":%d,"p50":%.1f,"p99":%.1f,"connect":%d,"read":%d,"write":%d,"timeout":%d,"status":%d}\n',
    summary.requests, summary.duration, summary.bytes, latency:percentile(50), latency:percentile(99),
    e.connect, e.read, e.write, e.timeout, e.status))
end
"#;

/// How wrk is run.
pub struct Wrk<'a> {
    /// Its path.
    pub program: &'a Path,
    /// The core it runs on.
    pub core: usize,
    /// The temporary folder.
    pub folder: &'a Path,
}

impl Wrk<'_> {
    /// Loads `url` from `KEPT_CONNECTIONS` connections, each used once when `close` is set.
    pub fn run(&self, url: &str, close: bool, seconds: u32, body_bytes: usize) -> Outcome<Load> {
        let script = self.folder.join("report.lua");
        fs::write(&script, REPORT_LUA)
            .map_err(|error| format!("cannot write {}: {error}", script.display()))?;
        let (connections, duration) = (format!("-c{KEPT_CONNECTIONS}"), format!("-d{seconds}s"));
        let mut words: Vec<&OsStr> = vec![self.program.as_ref()];
        words.extend(["-t1", &connections, &duration, "-s"].map(OsStr::new));
        words.push(script.as_ref());
        if close {
            words.extend(["-H", "Connection: close"].map(OsStr::new));
        }
        words.push(url.as_ref());
        let output = programs::run(self.core, &words)?;
        let text = String::from_utf8_lossy(&output.stdout);
        parse_wrk(&text, body_bytes).ok_or_else(|| {
            format!("wrk printed no report: {text}{}", String::from_utf8_lossy(&output.stderr))
        })
    }
}

/// Reads wrk's report. wrk itself finds bodies that end early (`read`); that no body was too short on the whole is
/// checked with the sum of all bytes: each lacking body counts as one error.
fn parse_wrk(text: &str, body_bytes: usize) -> Option<Load> {
    let line = text.lines().find_map(|line| line.strip_prefix("VERSUS "))?;
    let report: Value = serde_json::from_str(line).ok()?;
    let whole = |key: &str| report.get(key)?.as_u64();
    let number = |key: &str| report.get(key)?.as_f64();
    let status = whole("status")?;
    // wrk counts an answer with a wrong status as a request too.
    let requests = whole("requests")?.saturating_sub(status);
    let right = whole("bytes")? / body_bytes.max(1) as u64;
    Some(Load {
        requests,
        seconds: number("micros")? / 1e6,
        p50_us: number("p50")?,
        p99_us: number("p99")?,
        errors: Errors {
            connect: whole("connect")?,
            read: whole("read")?,
            write: whole("write")?,
            timeout: whole("timeout")?,
            status,
            body: requests.saturating_sub(right),
        },
        resumed: None,
    })
}

/// The request that our own clients send.
pub fn request(path: &str, close: bool) -> String {
    let connection = if close { "Connection: close\r\n" } else { "" };
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: versus\r\nAccept: */*\r\n{connection}\r\n")
}

/// A connected socket with TCP_NODELAY and bounded waits.
pub fn connect(address: SocketAddr) -> Result<TcpStream, Fault> {
    let open = || -> io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&address, ANSWER_TIME)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIME))?;
        stream.set_write_timeout(Some(ANSWER_TIME))?;
        Ok(stream)
    };
    open().map_err(|_| Fault::Connect)
}

/// Sends a request and reads the whole answer into `buffer` (cleared first); returns where the body begins.
pub fn exchange(
    stream: &mut (impl Read + Write),
    request: &[u8],
    body_bytes: usize,
    buffer: &mut Vec<u8>,
) -> Result<usize, Fault> {
    stream.write_all(request).map_err(|_| Fault::Write)?;
    buffer.clear();
    let mut piece = [0; 16 * 1024];
    let start = loop {
        if let Some(at) = head_end(buffer) {
            break at;
        }
        read_some(stream, &mut piece, buffer)?;
    };
    if !buffer.starts_with(b"HTTP/1.1 200 ") {
        return Err(Fault::Status);
    }
    if content_length(&buffer[..start]) != Some(body_bytes) {
        return Err(Fault::Body);
    }
    while buffer.len() < start + body_bytes {
        read_some(stream, &mut piece, buffer)?;
    }
    if buffer.len() == start + body_bytes { Ok(start) } else { Err(Fault::Body) }
}

fn read_some(stream: &mut impl Read, piece: &mut [u8], buffer: &mut Vec<u8>) -> Result<(), Fault> {
    match stream.read(piece) {
        Ok(0) | Err(_) => Err(Fault::Read),
        Ok(count) => {
            buffer.extend_from_slice(&piece[..count]);
            Ok(())
        }
    }
}

fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

fn content_length(head: &[u8]) -> Option<usize> {
    let head = std::str::from_utf8(head).ok()?;
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("content-length") { value.trim().parse().ok() } else { None }
    })
}

/// One connection, one request after the other.
pub fn single(address: SocketAddr, path: &str, body_bytes: usize, seconds: u32) -> Outcome<Load> {
    let request = request(path, false);
    let mut latencies = histogram()?;
    let mut load = Load::default();
    let mut buffer = Vec::new();
    let mut stream = connect(address).map_err(|fault| format!("no connection: {fault:?}"))?;
    let start = Instant::now();
    let end = start + Duration::from_secs(seconds.into());
    while Instant::now() < end {
        let sent = Instant::now();
        match exchange(&mut stream, request.as_bytes(), body_bytes, &mut buffer) {
            Ok(_) => {
                load.requests += 1;
                latencies.saturating_record(sent.elapsed().as_nanos() as u64);
            }
            Err(fault) => {
                load.errors.count(fault);
                stream = connect(address).map_err(|fault| format!("no connection: {fault:?}"))?;
            }
        }
    }
    load.seconds = start.elapsed().as_secs_f64();
    load.p50_us = quantile_us(&latencies, 0.5);
    load.p99_us = quantile_us(&latencies, 0.99);
    Ok(load)
}

/// Opens one connection, does one request on it, and returns it open.
pub fn one_request(address: SocketAddr, request: &[u8], body_bytes: usize) -> Result<TcpStream, Fault> {
    let mut stream = connect(address)?;
    exchange(&mut stream, request, body_bytes, &mut Vec::new())?;
    Ok(stream)
}

#[cfg(test)]
#[allow(unused, reason = "only tests.rs has a harness")]
mod tests {
    use super::*;

    /// Gives its bytes in pieces of the stated size.
    struct Script {
        bytes: Vec<u8>,
        at: usize,
        piece: usize,
        sent: Vec<u8>,
    }

    impl Read for Script {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = self.piece.min(self.bytes.len() - self.at).min(into.len());
            into[..count].copy_from_slice(&self.bytes[self.at..self.at + count]);
            self.at += count;
            Ok(count)
        }
    }

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.sent.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn judges_answers_at_every_split() {
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", Ok(38)),
            ("HTTP/1.1 200 OK\r\ncontent-length:3\r\n\r\nabc", Ok(37)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", Err(Fault::Read)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", Err(Fault::Body)),
            ("HTTP/1.1 200 OK\r\n\r\nabc", Err(Fault::Body)),
            ("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nabc", Err(Fault::Status)),
            ("HTTP/1.1 200 OK\r\nContent-Le", Err(Fault::Read)),
            ("", Err(Fault::Read)),
        ] {
            for piece in 1..=answer.len().max(1) {
                let mut script = Script { bytes: answer.into(), at: 0, piece, sent: Vec::new() };
                let mut buffer = b"old".to_vec();
                assert_eq!(exchange(&mut script, b"GET", 3, &mut buffer), expected, "{answer} by {piece}");
                assert_eq!(script.sent, b"GET");
            }
        }
    }

    #[test]
    fn reads_wrks_report() {
        let text = "Running 3s test\n  2 requests in 3.00s, 1.2KB read\nVERSUS {\"requests\":1000,\"micros\":3000000,\
                    \"bytes\":150000,\"p50\":812.0,\"p99\":1903.5,\"connect\":1,\"read\":2,\"write\":3,\"timeout\":4,\"status\":5}\n";
        let load = parse_wrk(text, 12).unwrap();
        assert_eq!(load.requests, 995);
        assert_eq!(load.seconds, 3.0);
        assert_eq!((load.p50_us, load.p99_us), (812.0, 1903.5));
        assert_eq!(load.errors, Errors { connect: 1, read: 2, write: 3, timeout: 4, status: 5, body: 0 });
        assert_eq!(load.errors.total(), 15);
        assert_eq!(parse_wrk(text, 1000).unwrap().errors.body, 845);
    }

    #[test]
    fn refuses_output_without_a_report() {
        for text in ["", "Running 3s test\n", "VERSUS {\"requests\":1}\n", "VERSUS nonsense\n"] {
            assert!(parse_wrk(text, 12).is_none(), "{text}");
        }
    }

    #[test]
    fn the_request_asks_to_close_only_when_told() {
        assert!(request("/small", true).contains("\r\nConnection: close\r\n\r\n"));
        assert!(!request("/small", false).contains("Connection"));
    }
}
