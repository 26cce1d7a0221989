//! What a scripted server answers, as steps: the right answer of a plan, and every wrong one.

use std::collections::VecDeque;
use std::time::Duration;

use crate::ledger::{Ask, Framing, Ledger, Wrong};
use crate::pattern::{self, Use};

/// One step of an answer.
pub enum Step {
    Send(Vec<u8>),
    Wait(Duration),
    Close,
    Reset,
    /// From now on nothing is done on this connection.
    Hang,
    /// The answer is complete.
    Done {
        keep: bool,
    },
}

/// Writes one answer as steps.
pub struct Writer<'a> {
    pub ask: &'a Ask,
    pub id: usize,
    pub attempt: usize,
    /// With TLS an end without goodbye shows.
    pub tls: bool,
    pub steps: &'a mut VecDeque<Step>,
}

impl Writer<'_> {
    pub fn write(mut self, wrong: Option<Wrong>, ledger: &mut Ledger) {
        let plan = self.ask.plan.clone();
        if plan.wait > Duration::ZERO {
            self.steps.push_back(Step::Wait(plan.wait));
        }
        for status in &plan.interims {
            self.send(format!("HTTP/1.1 {status} Interim\r\nX-Interim: {}\r\n\r\n", self.id).into_bytes());
        }
        let given = &mut ledger.records[self.id].given[self.attempt];
        if self.ask.upgrade && wrong.is_none() {
            given.len = 0;
            let head = format!(
                "HTTP/1.1 101 Switching\r\nX-Id: {}\r\nX-Attempt: {}\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n",
                self.id, self.attempt
            );
            self.send(head.into_bytes());
            self.steps.push_back(Step::Done { keep: true });
            return;
        }
        let bodiless = self.ask.method == "HEAD" || matches!(plan.status, 204 | 304);
        given.len = if bodiless { 0 } else { plan.len };
        let framing = if self.ask.upgrade { Framing::Length } else { plan.framing };
        let body = if bodiless { Vec::new() } else { self.body(framing, plan.len) };
        let head = self.head(framing, bodiless, "");
        match wrong {
            None => self.right(head, body, framing, bodiless),
            Some(Wrong::CloseInBody) if framing == Framing::UntilClose && !bodiless && !self.tls => {
                // Nobody can tell that something is missing.
                given.len = plan.len / 2;
                given.whole = true;
                let cut = given.len;
                self.send([head, body[..cut].to_vec()].concat());
                self.steps.push_back(Step::Close);
            }
            Some(Wrong::BadChunkSize | Wrong::LengthAndChunked) if bodiless => {
                self.wrong(Wrong::BadStatusLine, head, body, framing, bodiless);
            }
            Some(Wrong::SwitchUnasked) if self.ask.upgrade => {
                self.wrong(Wrong::BadStatusLine, head, body, framing, bodiless);
            }
            Some(Wrong::CloseInBody | Wrong::ResetInBody | Wrong::StallInBody)
                if body.is_empty() && !bodiless =>
            {
                self.wrong(Wrong::CloseInHead, head, body, framing, bodiless);
            }
            Some(wrong) => self.wrong(wrong, head, body, framing, bodiless),
        }
    }

    fn send(&mut self, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.steps.push_back(Step::Send(bytes));
        }
    }

    fn head(&self, framing: Framing, bodiless: bool, extra: &str) -> Vec<u8> {
        let plan = &self.ask.plan;
        let status = plan.status;
        let mut head =
            format!("HTTP/1.1 {status} Fine\r\nX-Id: {}\r\nX-Attempt: {}\r\n{extra}", self.id, self.attempt);
        match framing {
            Framing::Length if status == 204 => {}
            Framing::Length => head += &format!("Content-Length: {}\r\n", plan.len),
            Framing::Chunked if bodiless && status != 200 => {}
            Framing::Chunked => head += "Transfer-Encoding: chunked\r\n",
            Framing::UntilClose => {}
        }
        if plan.close {
            head += "Connection: close\r\n";
        }
        (head + "\r\n").into_bytes()
    }

    fn body(&self, framing: Framing, len: usize) -> Vec<u8> {
        let plain = pattern::bytes(self.id as u64, Use::Answer(self.attempt), 0, len);
        if framing != Framing::Chunked {
            return plain;
        }
        chunked(&plain, self.id as u64, self.ask.plan.trailers)
    }

    fn right(mut self, head: Vec<u8>, body: Vec<u8>, framing: Framing, bodiless: bool) {
        let plan = self.ask.plan.clone();
        if plan.pieces <= 1 {
            self.send([head, body].concat());
        } else {
            self.send(head);
            for piece in body.chunks(body.len().div_ceil(plan.pieces).max(1)) {
                self.steps.push_back(Step::Wait(plan.pause));
                self.send(piece.to_vec());
            }
        }
        let keep = !plan.close && (bodiless || framing != Framing::UntilClose);
        self.steps.push_back(Step::Done { keep });
    }

    fn wrong(mut self, wrong: Wrong, head: Vec<u8>, body: Vec<u8>, framing: Framing, bodiless: bool) {
        let half = head.len() / 2;
        let half_body = body[..body.len() / 2].to_vec();
        match wrong {
            Wrong::CloseBeforeHead | Wrong::CloseInRequest => self.steps.push_back(Step::Close),
            Wrong::ResetBeforeHead => self.steps.push_back(Step::Reset),
            Wrong::CloseInHead => {
                self.send(head[..half].to_vec());
                self.steps.push_back(Step::Close);
            }
            Wrong::CloseInBody | Wrong::ResetInBody | Wrong::StallInBody => {
                self.send(if bodiless { head[..half].to_vec() } else { [head, half_body].concat() });
                self.steps.push_back(Step::Wait(Duration::from_millis(20)));
                self.steps.push_back(match wrong {
                    Wrong::CloseInBody => Step::Close,
                    Wrong::ResetInBody => Step::Reset,
                    _ => Step::Hang,
                });
            }
            Wrong::Silence => self.steps.push_back(Step::Hang),
            Wrong::BadStatusLine => self.bad(b"HTTP/1.1 2x0 Fine\r\n\r\n".to_vec()),
            Wrong::TwoLengths => {
                let head = self.head(Framing::Length, false, "Content-Length: 3\r\nContent-Length: 4\r\n");
                self.bad(head);
            }
            Wrong::LengthAndChunked => {
                let head = self.head(Framing::Chunked, false, "Content-Length: 5\r\n");
                self.bad([head, b"5\r\nhello\r\n0\r\n\r\n".to_vec()].concat());
            }
            Wrong::BadChunkSize => {
                let head = self.head(Framing::Chunked, false, "");
                self.bad([head, b"5 \r\nhello\r\n0\r\n\r\n".to_vec()].concat());
            }
            Wrong::ControlByte => {
                let head = self.head(framing, bodiless, "X-Bad: a\x01b\r\n");
                self.bad(head);
            }
            Wrong::SpaceInName => {
                let head = self.head(framing, bodiless, "X-Bad : a\r\n");
                self.bad(head);
            }
            Wrong::HugeHead => {
                let long = format!("X-Long: {}\r\n", "y".repeat(40_000));
                let head = self.head(framing, bodiless, &long);
                self.bad(head);
            }
            Wrong::SwitchUnasked => {
                self.bad(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: evil\r\n\r\n".to_vec());
            }
            Wrong::TooManyInterims => self.bad(b"HTTP/1.1 103 Hints\r\n\r\n".repeat(40)),
            Wrong::EarlyClose => {
                self.send([head, body].concat());
                self.steps.push_back(Step::Done { keep: false });
            }
            Wrong::ExtraAnswer => {
                let extra = b"HTTP/1.1 200 Evil\r\nX-Id: 999999\r\nContent-Length: 4\r\n\r\nevil";
                self.send([head, body, extra.to_vec()].concat());
                self.steps.push_back(Step::Done { keep: true });
            }
        }
    }

    fn bad(&mut self, bytes: Vec<u8>) {
        self.send(bytes);
        self.steps.push_back(Step::Hang);
    }
}

/// A chunked body; `seed` decides the sizes of its chunks.
pub fn chunked(plain: &[u8], seed: u64, trailers: bool) -> Vec<u8> {
    let mut random = ringgate::ring::sim::Random::new(seed);
    let mut out = Vec::with_capacity(plain.len() + 64);
    let mut rest = plain;
    while !rest.is_empty() {
        let most = random.pick(&[3, 100, 5000, 16_384, 70_000]).max(plain.len() / 200);
        let count = random.between(1, most).min(rest.len());
        let extension = if random.chance(50) { ";a=b" } else { "" };
        out.extend_from_slice(format!("{count:x}{extension}\r\n").as_bytes());
        out.extend_from_slice(&rest[..count]);
        out.extend_from_slice(b"\r\n");
        rest = &rest[count..];
    }
    out.extend_from_slice(if trailers { b"0\r\nX-Trailer: yes\r\n\r\n" } else { b"0\r\n\r\n" });
    out
}
