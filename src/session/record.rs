//! The access record of an HTTP connection's requests.
//!
//! What goes in: how a request or the connection ended. What comes out: records in `cx.accesses`. It owns nothing. Always
//! true: every request that was understood leaves exactly one record, when its exchange ends or its own answer is
//! queued; so does every connection that ended before or within a head.

use crate::access::{Access, Block, Split, Steps, Tls};
use crate::clock::Moment;
use crate::close::Close;
use crate::counters::Count;
use crate::tls::Pipe;

use super::Cx;
use super::conn::Conn;
use super::http::{HttpSession, Phase};

impl HttpSession {
    /// When the first byte of the request at hand came.
    pub(super) fn asked_since(&self, cx: &Cx<'_>) -> Moment {
        if self.head_begun { self.head_since } else { cx.now }
    }

    /// Counts the bytes of a tunnel.
    pub(super) fn count_tunnel(&mut self, bytes_in: u64, bytes_out: u64) {
        if self.phase == Phase::Tunnel
            && let Some(exchange) = &mut self.exchange
        {
            exchange.bytes_in += bytes_in;
            exchange.bytes_out += bytes_out;
        }
    }

    /// The exchange in progress is over; `status` is that of our own answer, if it gets one. Does nothing when it left its
    /// record already.
    pub(super) fn note_exchange(&mut self, close: Close, status: Option<u16>, cx: &mut Cx<'_>) {
        let Some(exchange) = &mut self.exchange else { return };
        if !exchange.begun.is_set() {
            return;
        }
        let steps = Steps {
            begun: std::mem::replace(&mut exchange.begun, Moment::NEVER),
            asked: exchange.asked,
            picked: exchange.dial.picked,
            connected: exchange.dial.connected,
            answered: exchange.answered,
            ended: cx.now,
        };
        cx.accesses.push(Access {
            block: Block::Http(self.site),
            route: exchange.route,
            pool: Some(exchange.dial.pool),
            server: exchange.dial.last.map(|(server, _)| server),
            status: status.unwrap_or(exchange.status),
            close,
            bytes_in: exchange.bytes_in,
            bytes_out: exchange.bytes_out,
            steps,
            retries: exchange.dial.retries(),
            reused: exchange.dial.last.is_some_and(|(_, reused)| reused),
            tls: tls_of(&self.front),
            split: Split::default(),
            line: std::mem::take(&mut self.line),
        });
    }

    /// A request without an exchange was answered.
    pub(super) fn note_own(
        &mut self,
        close: Close,
        status: u16,
        route: Option<u32>,
        (bytes_in, bytes_out): (u64, u64),
        cx: &mut Cx<'_>,
    ) {
        let steps =
            Steps { asked: cx.now, answered: cx.now, ended: cx.now, ..Steps::new(self.asked_since(cx)) };
        if self.line.is_empty() {
            self.mark_unknown(cx);
            self.begin_line(None, cx);
        }
        cx.accesses.push(Access {
            block: Block::Http(self.site),
            route,
            pool: None,
            server: None,
            status,
            close,
            bytes_in,
            bytes_out,
            steps,
            retries: 0,
            reused: false,
            tls: tls_of(&self.front),
            split: Split::default(),
            line: std::mem::take(&mut self.line),
        });
    }

    /// The answer of our own that the last record is about has so many bytes.
    pub(super) fn note_answered(bytes: u64, cx: &mut Cx<'_>) {
        if let Some(access) = cx.accesses.last_mut() {
            access.bytes_out += bytes;
        }
    }

    /// The connection ended without an answer: a record only if that was before or within a head.
    pub(super) fn note_cut(&mut self, close: Close, cx: &mut Cx<'_>) {
        let within = match self.phase {
            Phase::Proxy | Phase::Handshake => true,
            Phase::Head => self.head_begun,
            _ => false,
        };
        if within {
            self.note_own(close, 0, None, (0, 0), cx);
            self.head_begun = false;
        }
    }
}

/// Counts a completed TLS handshake with a client.
pub(super) fn count_handshake(conn: &Conn, cx: &Cx<'_>) {
    cx.counters.add(Count::TlsHandshakes, 1);
    if tls_of(conn) == Tls::Tls12 {
        cx.counters.add(Count::TlsHandshakes12, 1);
    }
    if conn.pipe().is_some_and(Pipe::resumed) {
        cx.counters.add(Count::TlsResumed, 1);
    }
}

/// TLS of a client's connection.
pub(super) fn tls_of(conn: &Conn) -> Tls {
    match conn.pipe().map_or("", Pipe::version) {
        "TLSv1.2" => Tls::Tls12,
        "TLSv1.3" => Tls::Tls13,
        _ => Tls::None,
    }
}
