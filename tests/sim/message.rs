//! A small strict HTTP/1.1 reader for the scripted ends: it shares nothing with the program under test.

/// The head of a message.
#[derive(Clone, Debug)]
pub struct Head {
    /// The request line or status line.
    pub start: String,
    /// Names in lower case, values as they came.
    pub fields: Vec<(String, String)>,
}

impl Head {
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields.iter().filter(move |(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.all(name).flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
    }

    /// The framing that the fields announce. Errors: it is ambiguous.
    pub fn framing(&self) -> Result<Option<Body>, String> {
        let lengths: Vec<&str> = self.all("content-length").collect();
        let codings: Vec<&str> = self.all("transfer-encoding").collect();
        match (&lengths[..], &codings[..]) {
            ([], []) => Ok(None),
            ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => Ok(Some(Body::Chunked)),
            ([length], []) if length.bytes().all(|b| b.is_ascii_digit()) => {
                length.parse().map(|length| Some(Body::Length(length))).map_err(|e| format!("{e}: {length}"))
            }
            _ => Err(format!("ambiguous framing: Content-Length {lengths:?}, Transfer-Encoding {codings:?}")),
        }
    }
}

/// How a body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

/// A piece of a message.
#[derive(Debug)]
pub enum Piece {
    /// A head; [`Reader::body`] must be called next.
    Head(Head),
    Data(Vec<u8>),
    /// The message is complete.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    AfterHead,
    Length(u64),
    Size,
    Chunk(u64),
    ChunkEnd,
    Trailers,
    UntilClose,
}

/// Turns bytes into pieces.
#[derive(Debug)]
pub struct Reader {
    bytes: Vec<u8>,
    from: usize,
    state: State,
}

impl Reader {
    pub fn new() -> Self {
        Self { bytes: Vec::new(), from: 0, state: State::Head }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The bytes that were not understood yet.
    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.from..]
    }

    pub fn take_rest(&mut self) -> Vec<u8> {
        let rest = self.bytes.split_off(self.from);
        self.bytes.clear();
        self.from = 0;
        rest
    }

    /// Takes `count` bytes from the front.
    pub fn skip(&mut self, count: usize) {
        self.from += count;
    }

    /// True between two messages, with nothing of the next one.
    pub fn is_between(&self) -> bool {
        self.state == State::Head && self.rest().is_empty()
    }

    /// True within a body that ends with the connection.
    pub fn is_until_close(&self) -> bool {
        self.state == State::UntilClose
    }

    /// How the body of the head that was just read is framed.
    pub fn body(&mut self, body: Body) {
        assert_eq!(self.state, State::AfterHead);
        self.state = match body {
            Body::None => State::Length(0),
            Body::Length(length) => State::Length(length),
            Body::Chunked => State::Size,
            Body::UntilClose => State::UntilClose,
        };
    }

    /// The next piece, if it is there. Errors: what came breaks the rules.
    pub fn next(&mut self) -> Result<Option<Piece>, String> {
        loop {
            match self.state {
                State::AfterHead => return Ok(None),
                State::Head => {
                    let Some(text) = self.take_until(b"\r\n\r\n")? else { return Ok(None) };
                    self.state = State::AfterHead;
                    return parse_head(&text).map(|head| Some(Piece::Head(head)));
                }
                State::Length(0) => {
                    self.state = State::Head;
                    self.tidy();
                    return Ok(Some(Piece::End));
                }
                State::Length(left) | State::Chunk(left) => {
                    let count = (self.rest().len() as u64).min(left);
                    if count == 0 {
                        return Ok(None);
                    }
                    let data = self.rest()[..count as usize].to_vec();
                    self.skip(count as usize);
                    self.state = match self.state {
                        State::Chunk(left) if left == count => State::ChunkEnd,
                        State::Chunk(left) => State::Chunk(left - count),
                        _ => State::Length(left - count),
                    };
                    self.tidy();
                    return Ok(Some(Piece::Data(data)));
                }
                State::Size => {
                    let Some(line) = self.take_until(b"\r\n")? else { return Ok(None) };
                    let digits = line.split(';').next().unwrap_or_default();
                    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                        return Err(format!("a chunk size of {line:?}"));
                    }
                    let size = u64::from_str_radix(digits, 16).map_err(|e| e.to_string())?;
                    self.state = if size == 0 { State::Trailers } else { State::Chunk(size) };
                }
                State::ChunkEnd => {
                    if self.rest().len() < 2 {
                        return Ok(None);
                    }
                    if &self.rest()[..2] != b"\r\n" {
                        return Err(format!("a chunk ends with {:?}", &self.rest()[..2]));
                    }
                    self.skip(2);
                    self.state = State::Size;
                }
                State::Trailers => {
                    let Some(line) = self.take_until(b"\r\n")? else { return Ok(None) };
                    if line.is_empty() {
                        self.state = State::Length(0);
                    }
                }
                State::UntilClose => {
                    let data = self.rest().to_vec();
                    self.skip(data.len());
                    self.tidy();
                    return Ok(if data.is_empty() { None } else { Some(Piece::Data(data)) });
                }
            }
        }
    }

    /// The connection ended: true when that completes the message (or none was begun).
    pub fn end(&mut self) -> bool {
        if self.state == State::UntilClose {
            self.state = State::Head;
            return true;
        }
        self.is_between()
    }

    fn take_until(&mut self, mark: &[u8]) -> Result<Option<String>, String> {
        let rest = &self.bytes[self.from..];
        let Some(at) = rest.windows(mark.len()).position(|window| window == mark) else { return Ok(None) };
        let line = rest[..at].to_vec();
        self.from += at + mark.len();
        String::from_utf8(line).map(Some).map_err(|_| "a head that is not text".to_owned())
    }

    fn tidy(&mut self) {
        if self.from == self.bytes.len() {
            self.bytes.clear();
            self.from = 0;
        } else if self.from > 256 * 1024 {
            self.bytes.drain(..self.from);
            self.from = 0;
        }
    }
}

fn parse_head(text: &str) -> Result<Head, String> {
    let mut lines = text.split("\r\n");
    let start = lines.next().unwrap_or_default().to_owned();
    if start.is_empty() {
        return Err(format!("a head without a first line: {text:?}"));
    }
    let mut fields = Vec::new();
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { return Err(format!("a field line {line:?}")) };
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || !name.bytes().all(token) {
            return Err(format!("a field name {name:?}"));
        }
        fields.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()));
    }
    if text.bytes().any(|b| b == 0 || b == b'\x7f' || (b < 32 && !b"\r\n\t".contains(&b))) {
        return Err(format!("a control byte in a head: {text:?}"));
    }
    if text.replace("\r\n", "").contains(['\r', '\n']) {
        return Err(format!("a bare CR or LF in a head: {text:?}"));
    }
    Ok(Head { start, fields })
}

#[test]
fn pieces_come_out_at_every_split() {
    let message = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;x=y\r\n!\r\n0\r\nT: v\r\n\r\n";
    for split in 0..message.len() {
        let mut reader = Reader::new();
        let (mut body, mut ends) = (Vec::new(), 0);
        for part in [&message[..split], &message[split..]] {
            reader.push(part);
            while let Some(piece) = reader.next().unwrap() {
                match piece {
                    Piece::Head(head) => reader.body(head.framing().unwrap().unwrap()),
                    Piece::Data(data) => body.extend(data),
                    Piece::End => ends += 1,
                }
            }
        }
        assert_eq!((&body[..], ends), (&b"hello!"[..], 1));
        assert!(reader.is_between());
    }
}

#[test]
fn the_reader_is_strict() {
    for bad in [
        "A\r\nb : c\r\n\r\n",
        "A\r\nb: c\nd: e\r\n\r\n",
        "A\r\n: c\r\n\r\n",
        "A\r\nb\r\n\r\n",
        "\r\nB: c\r\n\r\n",
    ] {
        let mut reader = Reader::new();
        reader.push(bad.as_bytes());
        assert!(reader.next().is_err(), "{bad:?}");
    }
    let twice = Head {
        start: String::new(),
        fields: vec![("content-length".into(), "1".into()), ("content-length".into(), "1".into())],
    };
    assert!(twice.framing().is_err());
}
