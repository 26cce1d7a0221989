//! A reader of requests: of what reaches a server, where everything must be well formed, and of what a client sent.

use ringgate::http::h1::chunked::{Chunked, size_line};
use ringgate::http::h1::head::{HeadLimits, Parse, Scratch, parse_request};
use ringgate::http::message::{Framing, Method, Version};
use ringgate::proxyproto;

use crate::talk::pattern;

/// A request that was read.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: Method,
    pub mark: Option<u64>,
    pub upgrade: bool,
}

/// How a body goes on.
#[derive(Debug)]
pub enum Body {
    Length(u64),
    /// Anybody's chunks.
    Chunked(Box<Chunked>),
    /// Our chunks: a size line.
    Size,
    /// So many bytes of a chunk, then CRLF.
    Data(u64),
    Trailers,
    UntilClose,
}

/// What [`Body::take`] found.
pub enum Taken {
    More,
    Done,
    Bad(&'static str),
}

fn line(buffer: &[u8]) -> Option<usize> {
    buffer.windows(2).position(|pair| pair == b"\r\n")
}

impl Body {
    /// Takes body bytes from the front of the buffer.
    pub fn take(&mut self, buffer: &mut Vec<u8>, mut got: impl FnMut(&[u8])) -> Taken {
        loop {
            match self {
                Self::Length(0) => return Taken::Done,
                Self::Length(left) | Self::Data(left) if *left > 0 => {
                    if buffer.is_empty() {
                        return Taken::More;
                    }
                    let count = buffer.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    got(&buffer[..count]);
                    buffer.drain(..count);
                    *left -= count as u64;
                }
                Self::Length(_) => return Taken::Done,
                Self::Data(_) => {
                    if buffer.len() < 2 {
                        return Taken::More;
                    }
                    if !buffer.starts_with(b"\r\n") {
                        return Taken::Bad("no CRLF behind a chunk");
                    }
                    buffer.drain(..2);
                    *self = Self::Size;
                }
                Self::Size => {
                    let Some(at) = line(buffer) else {
                        return if buffer.len() > 18 { Taken::Bad("a long size") } else { Taken::More };
                    };
                    let text = String::from_utf8_lossy(&buffer[..at]).into_owned();
                    let Ok(size) = u64::from_str_radix(&text, 16) else { return Taken::Bad("no size") };
                    if size > 0 && buffer[..at + 2] != size_line(size)[..] {
                        return Taken::Bad("not our size line");
                    }
                    buffer.drain(..at + 2);
                    *self = if size > 0 { Self::Data(size) } else { Self::Trailers };
                }
                Self::Trailers => {
                    let Some(at) = line(buffer) else { return Taken::More };
                    buffer.drain(..at + 2);
                    if at == 0 {
                        return Taken::Done;
                    }
                }
                Self::Chunked(decoder) => {
                    if buffer.is_empty() {
                        return Taken::More;
                    }
                    let Ok(decoded) = decoder.decode(buffer) else { return Taken::Bad("chunks") };
                    got(&buffer[decoded.data]);
                    buffer.drain(..decoded.used);
                    if decoded.done {
                        return Taken::Done;
                    }
                }
                Self::UntilClose => {
                    got(buffer);
                    buffer.clear();
                    return Taken::More;
                }
            }
        }
    }
}

#[derive(Debug)]
enum State {
    Proxy,
    Head,
    Body(Body),
    /// Whatever comes is collected.
    Free,
    Broken,
}

/// The reader.
#[derive(Debug)]
pub struct Requests {
    buffer: Vec<u8>,
    state: State,
    strict: bool,
    tcp: bool,
    limits: HeadLimits,
    body: u64,
    /// Requests whose head came.
    pub asked: Vec<Asked>,
    /// Bytes that are no messages.
    pub free: Vec<u8>,
}

impl Requests {
    /// `strict`: nothing may be wrong. `proxy`: a PROXY protocol header comes first. `tcp`: no HTTP.
    pub fn new(strict: bool, proxy: bool, tcp: bool, limits: HeadLimits) -> Self {
        let first = if tcp { State::Free } else { State::Head };
        Self {
            buffer: Vec::new(),
            state: if proxy { State::Proxy } else { first },
            strict,
            tcp,
            limits,
            body: 0,
            asked: Vec::new(),
            free: Vec::new(),
        }
    }

    /// The server switched protocols.
    pub fn switch(&mut self) {
        self.state = State::Free;
    }

    /// Bytes came. `check`: bodies must be the pattern of their mark.
    pub fn feed(&mut self, bytes: &[u8], check: bool) {
        self.buffer.extend_from_slice(bytes);
        while self.step(check) {}
    }

    fn broken(&mut self, why: &str) -> bool {
        assert!(!self.strict, "{why}: {}", self.buffer.escape_ascii());
        self.state = State::Broken;
        false
    }

    fn step(&mut self, check: bool) -> bool {
        if self.buffer.is_empty() {
            return false;
        }
        match &mut self.state {
            State::Proxy => match proxyproto::parse(&self.buffer) {
                proxyproto::Parse::NeedMore => false,
                proxyproto::Parse::Bad(..) => self.broken("a PROXY header"),
                proxyproto::Parse::Done(_, used) => {
                    self.buffer.drain(..used);
                    self.state = if self.tcp { State::Free } else { State::Head };
                    true
                }
            },
            State::Head => self.head(),
            State::Body(body) => {
                let (from, mark) = (&mut self.body, self.asked.last().and_then(|asked| asked.mark));
                let strict = self.strict;
                let taken = body.take(&mut self.buffer, |bytes| {
                    if let (true, true, Some(mark)) = (strict, check, mark) {
                        check_pattern(bytes, mark, *from);
                    }
                    *from += bytes.len() as u64;
                });
                match taken {
                    Taken::More => false,
                    Taken::Bad(why) => self.broken(why),
                    Taken::Done => {
                        self.state = State::Head;
                        true
                    }
                }
            }
            State::Free => {
                self.free.append(&mut self.buffer);
                false
            }
            State::Broken => {
                self.buffer.clear();
                false
            }
        }
    }

    fn head(&mut self) -> bool {
        let buffer = std::mem::take(&mut self.buffer);
        let mut scratch = Scratch::new();
        let (used, asked, framing) = match parse_request(&buffer, &self.limits, &mut scratch) {
            Parse::NeedMore => {
                self.buffer.clone_from(&buffer);
                return false;
            }
            Parse::Bad(bad, at) => {
                let why = format!("a request: {bad:?} at {at}: {}", buffer.escape_ascii());
                return self.broken(&why);
            }
            Parse::Done(request) => {
                if self.strict {
                    assert_eq!(request.version, Version::Http11);
                    check_lines(&buffer[..request.head_bytes], request.framing);
                }
                let mark = request.fields.iter().find(|field| field.name_text() == "X-Mark");
                let mark = mark.and_then(|field| std::str::from_utf8(field.value).ok()?.parse().ok());
                let asked = Asked { method: request.method, mark, upgrade: request.upgrade.is_some() };
                (request.head_bytes, asked, request.framing)
            }
        };
        self.buffer = buffer[used..].to_vec();
        self.asked.push(asked);
        self.body = 0;
        self.state = match framing {
            Framing::None => State::Head,
            Framing::Length(length) => State::Body(Body::Length(length)),
            Framing::Chunked if self.strict => State::Body(Body::Size),
            Framing::Chunked => State::Body(Body::Chunked(Box::default())),
        };
        true
    }
}

/// Bytes from a place of a body are those of its pattern.
pub fn check_pattern(bytes: &[u8], mark: u64, from: u64) {
    for (at, byte) in (from..).zip(bytes) {
        assert_eq!(*byte, pattern(mark, at), "byte {at} of the body of {mark}");
    }
}

/// A head to a server, read by somebody who knows nothing but CRLF and the first colon.
fn check_lines(head: &[u8], framing: Framing) {
    let text: String = head.iter().map(|byte| char::from(*byte)).collect();
    let Some(lines) = text.strip_suffix("\r\n\r\n") else { panic!("{text:?}") };
    assert!(!lines.replace("\r\n", "").contains(['\r', '\n', '\0']), "{text:?}");
    let fields: Vec<(String, &str)> = lines
        .split("\r\n")
        .skip(1)
        .map(|line| line.split_once(": ").unwrap_or_else(|| panic!("{text:?}")))
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .collect();
    let count = |name: &str| fields.iter().filter(|(found, _)| found == name).count();
    let length = matches!(framing, Framing::Length(_));
    assert_eq!(count("content-length"), usize::from(length), "{text:?}");
    assert_eq!(count("transfer-encoding"), usize::from(framing == Framing::Chunked), "{text:?}");
    assert_eq!(count("host"), 1, "{text:?}");
    for name in ["keep-alive", "proxy-connection", "te", "http2-settings", "proxy"] {
        assert_eq!(count(name), 0, "{text:?}");
    }
    for (name, value) in &fields {
        assert!(name != "transfer-encoding" || *value == "chunked", "{text:?}");
    }
}
