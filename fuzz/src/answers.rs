//! A reader of answers, as a client reads them: nothing may be wrong.

use ringgate::http::h1::head::{HeadLimits, Parse, Scratch, parse_response};
use ringgate::http::message::{Method, ResponseFraming};

use crate::requests::{Asked, Body, Taken, check_pattern};

#[derive(Debug)]
enum State {
    Head,
    Body(Body),
    /// The last answer said that it is the last.
    Over,
    Free,
}

/// The reader.
#[derive(Debug)]
pub struct Answers {
    buffer: Vec<u8>,
    state: State,
    keeps: bool,
    mark: Option<u64>,
    /// Bytes that may follow the last answer: the refusal of a HEAD request that was not read yet has a body.
    excused: usize,
    /// Bytes of the present answer's body.
    body: u64,
    /// Final answers whose head came.
    pub finals: usize,
    /// Bytes that are no messages.
    pub free: Vec<u8>,
}

impl Answers {
    pub fn new(tcp: bool) -> Self {
        Self {
            buffer: Vec::new(),
            state: if tcp { State::Free } else { State::Head },
            keeps: true,
            mark: None,
            excused: 0,
            body: 0,
            finals: 0,
            free: Vec::new(),
        }
    }

    /// In a body that ends with the connection: the mark of its request and how much of it came.
    pub fn open_end(&self) -> Option<(u64, u64)> {
        let open = matches!(self.state, State::Body(Body::UntilClose));
        if open { Some((self.mark?, self.body)) } else { None }
    }

    /// Bytes came. `asked` is what the client asked for, `check`: marks and bodies must be right.
    pub fn feed(&mut self, bytes: &[u8], asked: &[Asked], check: bool) {
        self.buffer.extend_from_slice(bytes);
        while self.step(asked, check) {}
    }

    fn step(&mut self, asked: &[Asked], check: bool) -> bool {
        if self.buffer.is_empty() {
            return false;
        }
        match &mut self.state {
            State::Head => self.head(asked, check),
            State::Body(body) => {
                let (from, mark) = (&mut self.body, self.mark);
                let taken = body.take(&mut self.buffer, |bytes| {
                    if let (true, Some(mark)) = (check, mark) {
                        check_pattern(bytes, mark, *from);
                    }
                    *from += bytes.len() as u64;
                });
                match taken {
                    Taken::More => false,
                    Taken::Bad(why) => panic!("{why}: {}", self.buffer.escape_ascii()),
                    Taken::Done => {
                        self.state = if self.keeps { State::Head } else { State::Over };
                        true
                    }
                }
            }
            State::Over if self.excused > 0 => {
                let count = self.buffer.len().min(self.excused);
                self.buffer.drain(..count);
                self.excused -= count;
                true
            }
            State::Over => panic!("bytes after the last answer: {}", self.buffer.escape_ascii()),
            State::Free => {
                self.free.append(&mut self.buffer);
                false
            }
        }
    }

    fn head(&mut self, asked: &[Asked], check: bool) -> bool {
        let asked = asked.get(self.finals);
        let method = asked.map_or(Method::Get, |asked| asked.method);
        let buffer = std::mem::take(&mut self.buffer);
        let mut scratch = Scratch::new();
        let response = match parse_response(&buffer, &HeadLimits::default(), method, &mut scratch) {
            Parse::NeedMore => {
                self.buffer.clone_from(&buffer);
                return false;
            }
            Parse::Bad(bad, at) => panic!("{bad:?} at {at}: {}", buffer.escape_ascii()),
            Parse::Done(response) => response,
        };
        let mark = response.fields.iter().find(|field| field.name_text() == "X-Mark");
        let mark = mark.and_then(|field| std::str::from_utf8(field.value).ok()?.parse::<u64>().ok());
        if check && mark.is_some() {
            assert_eq!(mark, asked.and_then(|asked| asked.mark), "an answer to another request");
        }
        let used = response.head_bytes;
        if response.status == 101 {
            assert!(asked.is_some_and(|asked| asked.upgrade), "nobody asked to switch");
            self.state = State::Free;
        } else if !response.is_interim() {
            self.finals += 1;
            (self.mark, self.body, self.keeps) = (mark, 0, response.keep_alive);
            if method == Method::Head && response.status >= 400 && !self.keeps {
                self.excused = response.content_length.and_then(|length| length.try_into().ok()).unwrap_or(0);
            }
            let body = match response.framing {
                ResponseFraming::None => Body::Length(0),
                ResponseFraming::Length(length) => Body::Length(length),
                ResponseFraming::Chunked => Body::Size,
                ResponseFraming::UntilClose => Body::UntilClose,
            };
            self.state = match body {
                Body::Length(0) if self.keeps => State::Head,
                Body::Length(0) => State::Over,
                body => State::Body(body),
            };
        }
        self.buffer = buffer[used..].to_vec();
        true
    }
}
