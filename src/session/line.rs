//! The part of a log's line that is known when the request comes.
//!
//! What goes in: a request, the client's connection. What comes out: bytes for the access record. It owns nothing. Always
//! true: nothing is written when there is no log; of the request's fields only those that a log is expected to show.

use std::fmt::Write;
use std::net::SocketAddr;

use arrayvec::ArrayString;

use super::Cx;
use super::conn::Conn;
use super::http::HttpSession;
use crate::access::line::{Format, Line, name};
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
        match log.format {
            Format::Json => self.write_line::<true>(request, &mut bytes),
            Format::Text => self.write_line::<false>(request, &mut bytes),
        }
        self.line = bytes;
    }

    fn write_line<const JSON: bool>(&self, request: Option<&Request<'_>>, out: &mut Vec<u8>) {
        if request.is_some() {
            out.reserve(320);
        }
        let mut line = Line::<JSON>::new(out);
        client(&mut line, &self.ends, &self.front);
        if let Some(request) = request {
            line.text(name!("method"), cut(request.method_text.as_bytes()));
            line.text(name!("host"), cut(request.host.as_bytes()));
            line.text(name!("target"), cut(request.target.path_and_query.as_bytes()));
            let version = if request.version == Version::Http11 { "HTTP/1.1" } else { "HTTP/1.0" };
            line.word(name!("version"), version);
            let [agent, referer] = fields(request);
            line.maybe(name!("user_agent"), agent);
            line.maybe(name!("referer"), referer);
        }
        let (id, trace) = self.ids();
        line.maybe(name!("request_id"), id);
        line.maybe(name!("trace_id"), trace);
    }
}

/// The values of `User-Agent` and `Referer`.
fn fields<'r>(request: &Request<'r>) -> [Option<&'r [u8]>; 2] {
    let mut found = [None; 2];
    for field in request.fields.iter().filter(|field| field.kind == Kind::Other) {
        let place = match field.name.len() {
            10 if field.name.eq_ignore_ascii_case(b"user-agent") => 0,
            7 if field.name.eq_ignore_ascii_case(b"referer") => 1,
            _ => continue,
        };
        let value = &mut found[place];
        *value = value.or(Some(cut(field.value)));
    }
    found
}

/// The part of a line that is known of a connection; empty when there is no log.
pub(super) fn of_client(ends: &Ends, front: &Conn, cx: &Cx<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let log = &cx.config.log;
    match log.format {
        _ if log.access.is_none() => {}
        Format::Json => client(&mut Line::<true>::new(&mut bytes), ends, front),
        Format::Text => client(&mut Line::<false>::new(&mut bytes), ends, front),
    }
    bytes
}

/// What an SQL statement shows of itself: not its text, which may hold what nobody should read.
#[derive(Debug)]
pub(super) struct Statement<'s> {
    /// Who gave it.
    pub(super) user: &'s [u8],
    /// The command's name; empty for a connection that ended.
    pub(super) command: &'static str,
    /// The number of its shape; 0 when it has none.
    pub(super) digest: u64,
}

/// The part of a line that is known of an SQL statement; empty when there is no log.
pub(super) fn of_statement(ends: &Ends, front: &Conn, statement: &Statement<'_>, cx: &Cx<'_>) -> Vec<u8> {
    fn write<const JSON: bool>(out: &mut Vec<u8>, ends: &Ends, front: &Conn, statement: &Statement<'_>) {
        let mut line = Line::<JSON>::new(out);
        client(&mut line, ends, front);
        line.text(name!("user"), cut(statement.user));
        line.word(name!("command"), statement.command);
        let mut digest = ArrayString::<16>::new();
        if statement.digest != 0 {
            // Sixteen digits always fit.
            let _ = write!(digest, "{:016x}", statement.digest);
        }
        line.word(name!("digest"), &digest);
    }
    let mut bytes = Vec::new();
    let log = &cx.config.log;
    match log.format {
        _ if log.access.is_none() => {}
        Format::Json => write::<true>(&mut bytes, ends, front, statement),
        Format::Text => write::<false>(&mut bytes, ends, front, statement),
    }
    bytes
}

fn client<const JSON: bool>(line: &mut Line<'_, JSON>, ends: &Ends, front: &Conn) {
    let mut text = ArrayString::<64>::new();
    match ends.client {
        Some(SocketAddr::V4(client)) => {
            // What std's formatting of an address costs is a tenth of the whole line.
            let mut digits = itoa::Buffer::new();
            for (at, octet) in client.ip().octets().into_iter().enumerate() {
                text.push_str(if at > 0 { "." } else { "" });
                text.push_str(digits.format(octet));
            }
            text.push(':');
            text.push_str(digits.format(client.port()));
        }
        Some(client) => {
            let written = write!(text, "{client}");
            debug_assert!(written.is_ok(), "64 bytes hold every address");
        }
        None => text.push_str("unix"),
    }
    line.word(name!("client"), &text);
    let pipe = front.pipe();
    line.maybe(name!("sni"), pipe.and_then(Pipe::server_name).map(|name| cut(name.as_bytes())));
}

/// What is shown of a long text.
fn cut(text: &[u8]) -> &[u8] {
    &text[..text.len().min(LOG_TEXT_BYTES_MAX)]
}
