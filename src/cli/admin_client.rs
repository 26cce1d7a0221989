//! A client of the admin interface: one request per connection, blocking.
//!
//! What goes in: where the interface listens, a token or certificate, a request. What comes out: the answer's status and
//! body, or one sentence about what went wrong and another about what to do. It owns nothing between two requests. Always
//! true: a request ends within [`ADMIN_TIME_MAX`], and an answer holds at most [`ADMIN_ANSWER_BYTES_MAX`] bytes.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use rustls::{ClientConnection, StreamOwned};

use super::admin_address::Place;
use crate::clock;
use crate::http::h1::chunked::Chunked;
use crate::http::h1::head::{HeadLimits, Parse, Scratch, parse_response};
use crate::http::message::{Method, ResponseFraming};
use crate::limits::{ADMIN_ANSWER_BYTES_MAX, ADMIN_CONNECT_TIME, ADMIN_TIME_MAX};
use crate::tls::{ClientOptions, ClientTls};

/// What went wrong, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) what: String,
    /// Empty when there is nothing to add.
    pub(super) advice: String,
}

impl Trouble {
    pub(super) fn new(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { what: what.into(), advice: advice.into() }
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.advice.as_str() {
            "" => write!(f, "{}", self.what),
            advice => write!(f, "{}\n  {advice}", self.what),
        }
    }
}

/// What proves that we may ask.
#[derive(Clone, Debug, Default)]
pub(super) struct Credentials {
    /// The token itself.
    pub(super) token: Option<String>,
    /// The authorities that an https interface is verified with; `None` trusts those of the system.
    pub(super) ca: Option<PathBuf>,
    /// Our certificate, as PEM.
    pub(super) certificate: Option<PathBuf>,
    /// Its key, as PEM.
    pub(super) key: Option<PathBuf>,
}

/// The admin interface of one process.
pub(super) struct Client {
    place: Place,
    token: Option<String>,
    /// Only for https.
    tls: Option<ClientTls>,
}

/// What the interface answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

/// A connection of any kind.
trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl Client {
    /// Prepares requests; nothing is connected yet.
    pub(super) fn new(place: Place, credentials: &Credentials) -> Result<Self, Trouble> {
        let tls = match &place {
            Place::Tls { .. } => {
                let options = ClientOptions {
                    ca: credentials.ca.clone(),
                    certificate: credentials.certificate.clone(),
                    key: credentials.key.clone(),
                    ..ClientOptions::default()
                };
                Some(ClientTls::new(&options).map_err(|error| Trouble::new(error.to_string(), ""))?)
            }
            _ => None,
        };
        Ok(Self { place, token: credentials.token.clone(), tls })
    }

    /// Where it asks.
    pub(super) const fn place(&self) -> &Place {
        &self.place
    }

    /// Asks, and gives the body of an answer that says yes.
    pub(super) fn ask(&self, method: &str, target: &str, body: Option<&str>) -> Result<String, Trouble> {
        let answer = self.request(method, target, body)?;
        match answer.status {
            200..=299 => Ok(answer.body),
            _ => Err(self.refusal(&answer)),
        }
    }

    /// Asks, and gives the answer whatever its status.
    pub(super) fn request(&self, method: &str, target: &str, body: Option<&str>) -> Result<Answer, Trouble> {
        let deadline = clock::now() + ADMIN_TIME_MAX;
        let mut stream = self.connect()?;
        let request = self.written(method, target, body);
        let mut answer = Incoming::new(Method::of(method.as_bytes()));
        let mut piece = vec![0; 64 * 1024];
        // An interface that refuses early closes before it read everything: its answer counts.
        let sent = stream.write_all(request.as_bytes()).and_then(|()| stream.flush());
        loop {
            match stream.read(&mut piece) {
                Ok(0) if answer.ends_now() => break,
                Ok(0) => {
                    return Err(match (sent, answer.bytes.is_empty()) {
                        (Err(error), _) => self.failed(&error),
                        (Ok(()), true) => self.nonsense("it closed the connection without an answer"),
                        (Ok(()), false) => self.nonsense("its answer ends too early"),
                    });
                }
                Ok(count) => {
                    let piece = piece.get(..count).unwrap_or_default();
                    if answer.take(piece).map_err(|what| self.nonsense(what))? {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // TLS ended without a goodbye: only an answer that needs none is whole.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof && answer.is_done => break,
                Err(error) => return Err(self.failed(&error)),
            }
            if clock::now() >= deadline {
                return Err(self.late());
            }
        }
        String::from_utf8(answer.body)
            .map(|body| Answer { status: answer.status, body })
            .map_err(|_| self.nonsense("its answer is not UTF-8"))
    }

    fn connect(&self) -> Result<Box<dyn Stream>, Trouble> {
        match &self.place {
            Place::Unix(path) => {
                let stream = UnixStream::connect(path).map_err(|error| self.unreached(&error))?;
                let times = stream.set_read_timeout(Some(ADMIN_TIME_MAX));
                times
                    .and_then(|()| stream.set_write_timeout(Some(ADMIN_TIME_MAX)))
                    .map_err(|e| self.failed(&e))?;
                Ok(Box::new(stream))
            }
            Place::Tcp { host, port } => Ok(Box::new(self.connect_tcp(host, *port)?)),
            Place::Tls { host, port } => {
                let stream = self.connect_tcp(host, *port)?;
                let Some(tls) = &self.tls else { return Err(self.nonsense("TLS is not set up")) };
                let name = tls.name(host).map_err(|error| self.nonsense(&error.to_string()))?;
                let connection = ClientConnection::new(tls.config(), name)
                    .map_err(|error| self.nonsense(&format!("TLS cannot begin: {error}")))?;
                Ok(Box::new(StreamOwned::new(connection, stream)))
            }
        }
    }

    fn connect_tcp(&self, host: &str, port: u16) -> Result<TcpStream, Trouble> {
        let addresses = (host, port).to_socket_addrs().map_err(|error| self.unreached(&error))?;
        let mut last = std::io::Error::new(ErrorKind::NotFound, "the name has no address");
        for address in addresses {
            match TcpStream::connect_timeout(&address, ADMIN_CONNECT_TIME) {
                Ok(stream) => {
                    _ = stream.set_nodelay(true);
                    let times = stream.set_read_timeout(Some(ADMIN_TIME_MAX));
                    times
                        .and_then(|()| stream.set_write_timeout(Some(ADMIN_TIME_MAX)))
                        .map_err(|e| self.failed(&e))?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(self.unreached(&last))
    }

    /// The request as it goes over the wire.
    fn written(&self, method: &str, target: &str, body: Option<&str>) -> String {
        let host = match &self.place {
            Place::Unix(_) => "localhost".to_owned(),
            Place::Tcp { host, port } | Place::Tls { host, port } if host.contains(':') => {
                format!("[{host}]:{port}")
            }
            Place::Tcp { host, port } | Place::Tls { host, port } => format!("{host}:{port}"),
        };
        let version = env!("CARGO_PKG_VERSION");
        let mut text = format!(
            "{method} {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: ringgate-ctl/{version}\r\nX-Ringgate: 1\r\nConnection: close\r\n"
        );
        if let Some(token) = &self.token {
            text += &format!("Authorization: Bearer {token}\r\n");
        }
        if let Some(body) = body {
            text += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        }
        text + "\r\n" + body.unwrap_or_default()
    }

    /// The interface's own words for what it refused.
    pub(super) fn refusal(&self, answer: &Answer) -> Trouble {
        let said: super::admin_model::Refusal = serde_json::from_str(&answer.body).unwrap_or_default();
        let what = match said.error.as_str() {
            "" => format!("the admin interface at {} answered with {}", self.place, answer.status),
            what => what.to_owned(),
        };
        let advice = match (said.advice.as_str(), answer.status, &self.token) {
            ("", 401 | 403, None) => "a token is needed: --token-file FILE, or RINGGATE_TOKEN_FILE",
            ("", 401 | 403, Some(_)) => "the token is not the one that [admin] of the configuration names",
            (advice, ..) => advice,
        };
        Trouble::new(what, advice)
    }

    fn unreached(&self, error: &std::io::Error) -> Trouble {
        let at = &self.place;
        let place =
            "[admin] listen in the configuration says where it listens (--admin ADDR, or --config FILE)";
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                Trouble::new(format!("nothing listens at {at}: is ringgate running?"), place)
            }
            ErrorKind::PermissionDenied => Trouble::new(
                format!("{at} may not be opened by this user"),
                "ask as root, as the user of ringgate, or as a member of the socket's group",
            ),
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Trouble::new(
                format!("{at} does not accept connections: no answer within {ADMIN_CONNECT_TIME:?}"),
                place,
            ),
            _ => Trouble::new(format!("{at} cannot be reached: {error}"), place),
        }
    }

    fn failed(&self, error: &std::io::Error) -> Trouble {
        let at = &self.place;
        match error.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => self.late(),
            ErrorKind::InvalidData => Trouble::new(
                format!("TLS with {at} failed: {error}"),
                "is it https, and do --ca, --cert and --key name the right files?",
            ),
            _ => Trouble::new(format!("the connection to {at} broke: {error}"), "is ringgate still running?"),
        }
    }

    fn late(&self) -> Trouble {
        let at = &self.place;
        Trouble::new(
            format!("{at} gave no whole answer within {ADMIN_TIME_MAX:?}"),
            "is the process stopped or overloaded?",
        )
    }

    fn nonsense(&self, what: &str) -> Trouble {
        let at = &self.place;
        Trouble::new(
            format!("{at}: {what}"),
            "is it the admin interface of ringgate, and http or https as it should be?",
        )
    }
}

/// An answer while it arrives.
struct Incoming {
    method: Method,
    /// The head as far as it came, then what follows it and is not decoded yet.
    bytes: Vec<u8>,
    status: u16,
    framing: Option<Body>,
    body: Vec<u8>,
    is_done: bool,
}

enum Body {
    Length(u64),
    Chunked(Chunked),
    UntilClose,
}

impl Incoming {
    const fn new(method: Method) -> Self {
        Self { method, bytes: Vec::new(), status: 0, framing: None, body: Vec::new(), is_done: false }
    }

    /// Takes received bytes; true when the answer is whole.
    fn take(&mut self, piece: &[u8]) -> Result<bool, &'static str> {
        self.bytes.extend_from_slice(piece);
        while self.framing.is_none() && !self.is_done {
            if !self.head()? {
                return Ok(false);
            }
        }
        self.decode()?;
        Ok(self.is_done)
    }

    /// Reads a head. False while it is not whole.
    fn head(&mut self) -> Result<bool, &'static str> {
        let (status, framing, used) = {
            let mut scratch = Scratch::new();
            match parse_response(&self.bytes, &HeadLimits::default(), self.method, &mut scratch) {
                Parse::NeedMore => return Ok(false),
                Parse::Bad(..) => return Err("it does not speak HTTP/1.1"),
                Parse::Done(head) => (head.status, head.framing, head.head_bytes),
            }
        };
        self.status = status;
        self.bytes.drain(..used);
        // An interim answer: another one follows it.
        if status >= 200 {
            match framing {
                ResponseFraming::None => self.is_done = true,
                ResponseFraming::Length(length) => self.framing = Some(Body::Length(length)),
                ResponseFraming::Chunked => self.framing = Some(Body::Chunked(Chunked::new())),
                ResponseFraming::UntilClose => self.framing = Some(Body::UntilClose),
            }
        }
        Ok(true)
    }

    fn decode(&mut self) -> Result<(), &'static str> {
        match &mut self.framing {
            None => {}
            Some(Body::UntilClose) => self.body.append(&mut self.bytes),
            Some(Body::Length(length)) => {
                self.body.append(&mut self.bytes);
                let length = usize::try_from(*length).unwrap_or(usize::MAX);
                if length > ADMIN_ANSWER_BYTES_MAX {
                    return Err("its answer is too long");
                }
                self.is_done = self.body.len() >= length;
                self.body.truncate(length);
            }
            Some(Body::Chunked(chunked)) => loop {
                let decoded = chunked.decode(&mut self.bytes).map_err(|_| "its answer is not well framed")?;
                self.body.extend_from_slice(self.bytes.get(decoded.data).unwrap_or_default());
                self.bytes.drain(..decoded.used);
                self.is_done = decoded.done;
                if decoded.done || decoded.used == 0 {
                    break;
                }
            },
        }
        if self.body.len() > ADMIN_ANSWER_BYTES_MAX { Err("its answer is too long") } else { Ok(()) }
    }

    /// Whether the end of the connection ends the answer.
    fn ends_now(&self) -> bool {
        self.is_done || matches!(self.framing, Some(Body::UntilClose))
    }
}

/// A name as one segment of a path (RFC 3986, 3.3).
pub(super) fn segment(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => {
                text.push(byte as char)
            }
            byte => text += &format!("%{byte:02X}"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, step: usize) -> Result<(bool, u16, String), &'static str> {
        let mut incoming = Incoming::new(Method::Get);
        let mut done = false;
        for piece in text.as_bytes().chunks(step) {
            done = incoming.take(piece)?;
        }
        Ok((done || incoming.ends_now(), incoming.status, String::from_utf8(incoming.body).unwrap()))
    }

    #[test]
    fn answers_are_read_however_they_arrive() {
        for (text, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Ok((true, 200, "ok"))),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", Ok((false, 200, "ok"))),
            (
                "HTTP/1.1 422 No\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n",
                Ok((true, 422, "abc")),
            ),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nb", Ok((false, 200, "ab"))),
            ("HTTP/1.0 200 OK\r\n\r\nall of it", Ok((true, 200, "all of it"))),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", Ok((true, 204, ""))),
            ("HTTP/1.1 200 OK\r\nContent-", Ok((false, 0, ""))),
            ("SSH-2.0-x\r\n\r\n", Err("it does not speak HTTP/1.1")),
            ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", Err("its answer is too long")),
        ] {
            for step in [1, 2, 7, text.len()] {
                let found = read(text, step);
                let found = found
                    .as_ref()
                    .map(|(done, status, body)| (*done, *status, body.as_str()))
                    .map_err(|e| *e);
                assert_eq!(found, expected, "{text:?} by {step}");
            }
        }
    }

    #[test]
    fn names_become_segments() {
        for (name, text) in [
            ("web-1", "web-1"),
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("unix:/run/a b", "unix:%2Frun%2Fa%20b"),
            ("ü?", "%C3%BC%3F"),
        ] {
            assert_eq!(segment(name), text);
        }
    }
}
