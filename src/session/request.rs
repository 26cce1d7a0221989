//! A request that was understood: what becomes of it.
//!
//! What goes in: a head, parsed. What comes out: an [`Exchange`] with a server, an answer of our own, or a reason to refuse
//! it. It owns nothing. Always true: what goes to a server is written anew from what was parsed.

use arrayvec::ArrayString;

use crate::buf::Chunk;
use crate::close::Close;
use crate::config::model::{Action, Http, contains};
use crate::http::h1::write::{Forward, write_request};
use crate::http::message::{Framing, Request};
use crate::http::rules::FieldRules;
use crate::net::Ends;
use crate::tls::{ClientCertificate, Pipe};

use super::Cx;
use super::answers::{self, Own};
use super::exchange::{Exchange, count_status};
use super::http::HttpSession;
use super::marks::Marks;
use super::relay::BodyIn;

/// How a request began.
pub(super) enum Begun {
    /// The head is incomplete.
    NeedMore,
    /// No page was free: again later.
    Starved,
    /// It is answered with an error.
    Failed(Close),
    /// It was answered.
    Answered,
    /// A server answers it.
    Exchange(Box<Exchange>),
}

impl HttpSession {
    pub(super) fn begin_request(&mut self, request: &Request<'_>, cx: &mut Cx<'_>) -> Begun {
        let body = match request.framing {
            Framing::None | Framing::Length(0) => BodyIn::Done,
            Framing::Length(length) => BodyIn::Length(length),
            Framing::Chunked => BodyIn::Chunked(Box::default()),
        };
        self.method = request.method;
        self.version = request.version;
        self.requests += 1;
        self.owing = !body.is_done();
        self.mark(Some(request), cx);
        self.begin_line(Some(request), cx);
        let site = self.site(cx);
        let more = request.keep_alive && !cx.draining && self.requests < site.limits.requests_max;
        self.closing = !more;
        self.client_ends = !request.keep_alive && body.is_done();
        if request.expect_other {
            return Begun::Failed(Close::ExpectationFailed);
        }
        if matches!(request.framing, Framing::Length(length) if length > site.limits.body_bytes_max) {
            return Begun::Failed(Close::BodyTooLarge);
        }
        if self.is_misdirected(request, site) {
            return Begun::Failed(Close::Misdirected);
        }
        let Some(found) = site.routes.find(request.host, request.target.path()) else {
            return Begun::Failed(Close::NoRoute);
        };
        self.mark_route(found.index, cx);
        let own = match &found.value.action {
            Action::Pool(pool) => {
                let Some(page) = cx.pool.take() else { return Begun::Starved };
                let mut head = Chunk::empty(page);
                let Some(written) = self.rewrite(request, &found.value.request, &mut head, cx) else {
                    cx.pool.give(head.into_page());
                    return Begun::Failed(Close::HeadTooLarge);
                };
                head.filled(written);
                let mut exchange =
                    Exchange::new(request, &found.value.response, *pool, head, body, self.closing);
                exchange.limit_body(site.limits.body_bytes_max);
                exchange.route = u32::try_from(found.index).ok();
                (exchange.begun, exchange.asked) = (self.asked_since(cx), cx.now);
                return Begun::Exchange(Box::new(exchange));
            }
            Action::Redirect(redirect) => Own::Redirect(redirect, request),
            Action::Answer(answer) => Own::Page(answer),
        };
        self.decide(cx);
        let route = u32::try_from(found.index).ok();
        let bytes_in = request.head_bytes as u64;
        match self.answer(&own, cx) {
            Ok((status, bytes_out)) => {
                self.note_own(Close::Done, status, route, (bytes_in, bytes_out), cx);
                Begun::Answered
            }
            Err(()) => Begun::Starved,
        }
    }

    /// A request for a site that the client's certificate was not checked for (CVE-2025-23419 and its kind).
    fn is_misdirected(&self, request: &Request<'_>, site: &Http) -> bool {
        match (&site.tls, self.front.pipe()) {
            (Some(tls), Some(pipe)) => {
                let asked = tls.client_certificate() != ClientCertificate::Off;
                asked
                    && pipe.server_name().is_some_and(|name| !name.eq_ignore_ascii_case(request.host_name()))
            }
            _ => false,
        }
    }

    fn rewrite(
        &self,
        request: &Request<'_>,
        rules: &FieldRules,
        head: &mut Chunk,
        cx: &Cx<'_>,
    ) -> Option<usize> {
        let site = self.site(cx);
        let client = self.ends.client.map(|client| client.ip());
        let subject = site.client_subject_field.as_deref().map(|name| {
            let value = self.front.pipe().and_then(Pipe::subject);
            (name, value)
        });
        let host_default = if request.host.is_empty() { self.local_host() } else { String::new() };
        let extra = self.marks_on(cx);
        let forward = Forward {
            client_text: &self.client,
            proto: if site.tls.is_some() { "https" } else { "http" },
            trusted: client.is_some_and(|client| contains(&site.trusted_proxies, client)),
            forwarded: site.forwarded,
            subject,
            host_default: &host_default,
            keep_alive: !cx.draining,
            upgrade: request.upgrade.is_some(),
            extra: &extra,
        };
        write_request(request, &forward, rules, head.tail_mut())
    }

    /// The authority for an HTTP/1.0 request that named none: the address that the client connected to.
    fn local_host(&self) -> String {
        self.ends.local.map_or_else(|| "localhost".to_owned(), |local| local.to_string())
    }

    /// Queues an answer of our own and tells its status and bytes; errs when no page is free. A body that nobody is going
    /// to read ends the connection.
    pub(super) fn answer(&mut self, own: &Own<'_>, cx: &mut Cx<'_>) -> Result<(u16, u64), ()> {
        let last = self.closing || self.owing || cx.draining;
        self.mark_unknown(cx);
        let extra = self.marks.as_deref().map(Marks::back).unwrap_or_default();
        let about =
            answers::About { method: self.method, version: self.version, last, date: cx.date, extra: &extra };
        let before = self.front.outbox.len();
        let queued = answers::queue(own, &about, &mut self.front.outbox, cx.pool);
        drop(extra);
        let Some(status) = queued else { return Err(()) };
        let bytes = (self.front.outbox.len() - before) as u64;
        count_status(status, cx);
        self.closing = last;
        if last {
            self.flush(self.owing || !self.client_ends);
        } else {
            self.rest(cx);
        }
        Ok((status, bytes))
    }
}

/// The client's address as text, for the forwarded fields.
pub(super) fn address_text(ends: &Ends) -> ArrayString<46> {
    use std::fmt::Write;
    let mut text = ArrayString::new();
    let written = match ends.client {
        Some(client) => write!(text, "{}", client.ip().to_canonical()),
        None => write!(text, "unix"),
    };
    debug_assert!(written.is_ok(), "46 bytes hold every address");
    text
}
