//! One connection, byte by byte: the raw client, and a connection of a scripted server.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::PATIENCE;
use super::server::Record;

/// A connection with what was read from it and not yet used.
#[derive(Debug)]
pub struct Wire {
    /// Which connection of its server it is.
    pub number: usize,
    /// Where what it reads is noted.
    pub record: Option<Record>,
    stream: TcpStream,
    unread: Vec<u8>,
}

/// A request or an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Start line and fields, with the empty line.
    pub head: String,
    /// The body, without its framing.
    pub body: Vec<u8>,
    /// The trailers as they came.
    pub trailers: String,
}

impl Message {
    /// The status of an answer.
    #[track_caller]
    pub fn status(&self) -> u16 {
        let word = self.head.split(' ').nth(1).unwrap_or_default();
        word.split("\r\n")
            .next()
            .and_then(|word| word.parse().ok())
            .unwrap_or_else(|| panic!("no status: {self:?}"))
    }

    /// All values of a field, in order.
    pub fn fields(&self, name: &str) -> Vec<String> {
        let of = |line: &str| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        };
        self.head.split("\r\n").skip(1).filter_map(of).collect()
    }

    /// The first value of a field.
    pub fn field(&self, name: &str) -> Option<String> {
        self.fields(name).into_iter().next()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What a message's body may be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Request,
    Answer,
    AnswerToHead,
}

impl Wire {
    /// Over an existing connection.
    pub fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { number: 0, record: None, stream, unread: Vec::new() }
    }

    /// Connects.
    #[track_caller]
    pub fn connect(to: SocketAddr) -> Self {
        Self::new(TcpStream::connect_timeout(&to, PATIENCE).unwrap())
    }

    /// Connects from this address of the client.
    #[track_caller]
    pub fn connect_from(from: &str, to: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(from.parse::<IpAddr>().unwrap(), 0).into()).unwrap();
        socket.connect_timeout(&to.into(), PATIENCE).unwrap();
        Self::new(socket.into())
    }

    /// Connects with a small receive buffer, so that whoever sends soon has to wait.
    #[track_caller]
    pub fn connect_small(to: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect_timeout(&to.into(), PATIENCE).unwrap();
        Self::new(socket.into())
    }

    /// Sends these bytes.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Sends these bytes, one at a time.
    pub fn drip(&mut self, bytes: impl AsRef<[u8]>, pause: Duration) -> Result<()> {
        for byte in bytes.as_ref() {
            self.send([*byte])?;
            std::thread::sleep(pause);
        }
        Ok(())
    }

    /// Sends a request and reads its answer.
    #[track_caller]
    pub fn ask(&mut self, request: &str) -> Message {
        self.send(request).unwrap();
        let answer = if request.starts_with("HEAD ") { self.answer_to_head() } else { self.answer() };
        answer.unwrap_or_else(|error| panic!("no whole answer to {request:?}: {error}"))
    }

    /// Sends no more.
    pub fn half_close(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Ends the connection with a reset when it is dropped.
    pub fn reset_when_dropped(&self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// How long a read waits.
    pub fn patience(&self, patience: Duration) {
        self.stream.set_read_timeout(Some(patience)).unwrap();
    }

    /// The next request; `None` when the connection closed before its first byte.
    pub fn request(&mut self) -> Result<Option<Message>> {
        if self.unread.is_empty() && self.more()? == 0 {
            return Ok(None);
        }
        self.message(Kind::Request).map(Some)
    }

    /// The next answer.
    pub fn answer(&mut self) -> Result<Message> {
        self.message(Kind::Answer)
    }

    /// The next answer, which has no body because the request was HEAD.
    pub fn answer_to_head(&mut self) -> Result<Message> {
        self.message(Kind::AnswerToHead)
    }

    /// The next bytes up to and with `end`.
    pub fn until(&mut self, end: &str) -> Result<String> {
        loop {
            let found = self.unread.windows(end.len()).position(|window| window == end.as_bytes());
            if let Some(at) = found {
                let bytes: Vec<u8> = self.unread.drain(..at + end.len()).collect();
                return Ok(String::from_utf8_lossy(&bytes).into_owned());
            }
            if self.more()? == 0 {
                let unread = String::from_utf8_lossy(&self.unread).into_owned();
                return Err(Error::new(ErrorKind::UnexpectedEof, format!("closed; unread: {unread:?}")));
            }
        }
    }

    /// Start line, fields and empty line.
    pub fn head(&mut self) -> Result<String> {
        self.until("\r\n\r\n")
    }

    /// Exactly this many bytes.
    pub fn exactly(&mut self, bytes: usize) -> Result<Vec<u8>> {
        while self.unread.len() < bytes {
            if self.more()? == 0 {
                let got = self.unread.len();
                return Err(Error::new(
                    ErrorKind::UnexpectedEof,
                    format!("closed after {got} of {bytes} bytes"),
                ));
            }
        }
        Ok(self.unread.drain(..bytes).collect())
    }

    /// Everything until the other side closes; an error when it resets or stays open.
    pub fn rest(&mut self) -> Result<Vec<u8>> {
        while self.more()? > 0 {}
        Ok(std::mem::take(&mut self.unread))
    }

    /// Everything until the connection ends, by an orderly close or by a reset; an error when it stays open.
    pub fn rest_however(&mut self) -> Result<Vec<u8>> {
        loop {
            match self.more() {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(std::mem::take(&mut self.unread))
    }

    /// Asserts that the other side closes in an orderly way and says nothing before.
    #[track_caller]
    pub fn assert_closed(&mut self) {
        match self.rest() {
            Ok(rest) => assert_eq!(String::from_utf8_lossy(&rest), "", "unexpected bytes before the close"),
            Err(error) => panic!("the connection did not close: {error}"),
        }
    }

    /// Asserts that the other side is still there and says nothing for a moment.
    #[track_caller]
    pub fn assert_quiet(&mut self, moment: Duration) {
        assert_eq!(String::from_utf8_lossy(&self.unread), "");
        self.patience(moment);
        let read = self.more();
        self.patience(PATIENCE);
        let error = read.map(|bytes| format!("{bytes} bytes: {}", String::from_utf8_lossy(&self.unread)));
        let kind = error.expect_err("the connection should be open and quiet").kind();
        assert!(matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{kind:?}");
    }

    fn more(&mut self) -> Result<usize> {
        let mut bytes = [0; 65536];
        let count = self.stream.read(&mut bytes)?;
        self.unread.extend_from_slice(&bytes[..count]);
        if let Some(record) = &self.record {
            record.lock().unwrap()[self.number].extend_from_slice(&bytes[..count]);
        }
        Ok(count)
    }

    fn message(&mut self, kind: Kind) -> Result<Message> {
        let head = self.head()?;
        let mut message = Message { head, body: Vec::new(), trailers: String::new() };
        if kind == Kind::AnswerToHead {
            return Ok(message);
        }
        if kind == Kind::Answer && matches!(message.status(), 100..=199 | 204 | 304) {
            return Ok(message);
        }
        let chunked =
            message.fields("transfer-encoding").iter().any(|value| value.eq_ignore_ascii_case("chunked"));
        if chunked {
            (message.body, message.trailers) = self.chunks()?;
        } else if let Some(length) = message.field("content-length") {
            let length = length.parse().map_err(|_| Error::other(format!("bad length: {length}")))?;
            message.body = self.exactly(length)?;
        } else if kind == Kind::Answer {
            message.body = self.rest()?;
        }
        Ok(message)
    }

    fn chunks(&mut self) -> Result<(Vec<u8>, String)> {
        let mut body = Vec::new();
        loop {
            let line = self.until("\r\n")?;
            let size = line.trim_end().split(';').next().unwrap_or_default();
            let size =
                usize::from_str_radix(size, 16).map_err(|_| Error::other(format!("bad size: {line:?}")))?;
            if size == 0 {
                break;
            }
            body.extend(self.exactly(size)?);
            if self.exactly(2)? != b"\r\n" {
                return Err(Error::other("no CRLF after a chunk"));
            }
        }
        let mut trailers = String::new();
        loop {
            let line = self.until("\r\n")?;
            if line == "\r\n" {
                return Ok((body, trailers));
            }
            trailers.push_str(&line);
        }
    }
}
