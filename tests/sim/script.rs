//! What a scripted client does, and its requests as bytes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ringgate::net::Address;
use ringgate::ring::sim::Pace;

use crate::ledger::{Ask, AskBody};

/// How a client behaves.
#[derive(Clone, Debug)]
pub enum Manner {
    Good,
    /// Ends its stream behind the last request, and reads on.
    HalfCloses,
    VanishesAfter(Duration),
    ResetsAfter(Duration),
    ClosesAfter(Duration),
    /// Behind its requests comes something that is not HTTP; the answer is one of these statuses.
    Garbage(Vec<u8>, &'static [u16]),
    /// The last request stops in its head.
    StopsInHead,
    /// The last request stops in its body.
    StopsInBody,
    /// Sends no PROXY header although one must come.
    Unannounced,
    /// Sends the last request's head, or its body, a byte a second.
    DripsHead,
    /// See `DripsHead`.
    DripsBody,
    /// Speaks plain HTTP where TLS is wanted.
    PlainOnTls,
    /// The chunked framing of the last request's body breaks in the middle.
    BadBody,
    /// Reads nothing any more after a while.
    StopsReading(Duration),
}

impl Manner {
    /// It must expect that its requests are not answered.
    pub const fn is_selfish(&self) -> bool {
        !matches!(self, Self::Good | Self::HalfCloses)
    }

    /// Only the last request suffers from it.
    pub const fn spares_others(&self) -> bool {
        matches!(
            self,
            Self::StopsInHead | Self::StopsInBody | Self::BadBody | Self::DripsHead | Self::DripsBody
        )
    }
}

/// What a client does.
#[derive(Clone, Debug)]
pub struct Script {
    pub to: Address,
    pub from: SocketAddr,
    /// Sends a PROXY header (version 2 or 1) that names this source.
    pub proxied: Option<(SocketAddr, bool)>,
    /// Speaks TLS to a site of this name.
    pub tls: Option<(Arc<rustls::ClientConfig>, &'static str)>,
    /// Ids of the requests.
    pub asks: Vec<usize>,
    /// Requests in flight at most.
    pub pipeline: usize,
    /// Between an answer and the next request.
    pub think: Duration,
    pub reads: Pace,
    pub writes: Pace,
    pub manner: Manner,
    /// After the last answer it waits to be closed instead of closing.
    pub waits: bool,
}

/// The head of a request.
pub fn head_of(ask: &Ask, id: usize) -> Vec<u8> {
    let version = if ask.http10 { "HTTP/1.0" } else { "HTTP/1.1" };
    let mut head = format!("{} {} {version}\r\nHost: {}\r\nX-Id: {id}\r\n", ask.method, ask.target, ask.host);
    match ask.body {
        AskBody::None => {}
        AskBody::Length(len) => head += &format!("Content-Length: {len}\r\n"),
        AskBody::Chunked(_) => head += "Transfer-Encoding: chunked\r\n",
    }
    match (ask.upgrade, ask.close, ask.hop) {
        (true, ..) => head += "Connection: Upgrade\r\nUpgrade: echo\r\n",
        (_, true, true) => head += "Connection: close, X-Hop\r\nX-Hop: secret\r\n",
        (_, true, false) => head += "Connection: close\r\n",
        (_, false, true) => head += "X-Hop: secret\r\nConnection: x-hop\r\n",
        (_, false, false) => {}
    }
    if ask.expect {
        head += "Expect: 100-continue\r\n";
    }
    (head + "X-Forwarded-For: 6.6.6.6\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\n\r\n").into_bytes()
}
