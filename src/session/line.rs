//! The part of a log's line that is known when the request comes.
//!
//! What goes in: a request, the client's connection. What comes out: bytes for the access record. It owns nothing. Always
//! true: nothing is written when there is no log; of the request's fields only those that a log is expected to show.

use std::fmt::Write;

use arrayvec::ArrayString;

use super::Cx;
use super::conn::Conn;
use super::http::HttpSession;
use crate::access::line::Line;
use crate::http::message::{Kind, Request, Version};
use crate::limits::LOG_TEXT_BYTES_MAX;
use crate::net::Ends;
use crate::tls::Pipe;

impl HttpSession {
    /// Begins the line of a request; of one that was not understood with what is known of the connection.
    pub(super) fn begin_line(&mut self, request: Option<&Request<'_>>, cx: &Cx<'_>) {
        let log = &cx.config.log;
        if log.access.is_none() || !self.site(cx).log {
            return;
        }
        let mut bytes = std::mem::take(&mut self.line);
        bytes.clear();
        if request.is_some() {
            bytes.reserve(320);
        }
        let mut line = Line::new(&mut bytes, log.format);
        client(&mut line, &self.ends, &self.front);
        if let Some(request) = request {
            line.text("method", cut(request.method_text.as_bytes()));
            line.text("host", cut(request.host.as_bytes()));
            line.text("target", cut(request.target.path_and_query.as_bytes()));
            let version = if request.version == Version::Http11 { "HTTP/1.1" } else { "HTTP/1.0" };
            line.text("version", version.as_bytes());
            line.maybe("user_agent", field(request, b"user-agent"));
            line.maybe("referer", field(request, b"referer"));
        }
        let (id, trace) = self.ids();
        line.maybe("request_id", id);
        line.maybe("trace_id", trace);
        self.line = bytes;
    }
}

/// The value of a field.
fn field<'r>(request: &Request<'r>, name: &[u8]) -> Option<&'r [u8]> {
    let is = |one: &&crate::http::message::Field<'r>| {
        one.kind == Kind::Other && one.name.len() == name.len() && one.name.eq_ignore_ascii_case(name)
    };
    request.fields.iter().find(is).map(|one| cut(one.value))
}

/// The part of a line that is known of a connection; empty when there is no log.
pub(super) fn of_client(ends: &Ends, front: &Conn, cx: &Cx<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if cx.config.log.access.is_some() {
        client(&mut Line::new(&mut bytes, cx.config.log.format), ends, front);
    }
    bytes
}

fn client(line: &mut Line<'_>, ends: &Ends, front: &Conn) {
    let mut text = ArrayString::<64>::new();
    let written = match ends.client {
        Some(client) => write!(text, "{client}"),
        None => write!(text, "unix"),
    };
    debug_assert!(written.is_ok(), "64 bytes hold every address");
    line.text("client", text.as_bytes());
    let pipe = front.pipe();
    line.maybe("sni", pipe.and_then(Pipe::server_name).map(|name| cut(name.as_bytes())));
}

/// What is shown of a long text.
fn cut(text: &[u8]) -> &[u8] {
    &text[..text.len().min(LOG_TEXT_BYTES_MAX)]
}
