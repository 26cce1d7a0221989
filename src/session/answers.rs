//! Answers of our own: redirects, fixed answers, error pages.
//!
//! What goes in: which answer, and what is known of the request. What comes out: bytes in the client's outbox. It owns
//! nothing. Always true: a HEAD request gets the head alone; nothing of a request is echoed except the host and target
//! of a redirect, which were checked to be free of control bytes and blanks.

use arrayvec::ArrayVec;

use crate::buf::{Chunk, Pool, Queue};
use crate::config::model::{Answer, Redirect, RedirectTo};
use crate::http::h1::write::{Connection, Extra, OwnAnswer, reason, write_answer};
use crate::http::message::{Method, Request, Version, host_name};
use crate::limits::PAGE_BYTES;

use super::conn::push_or_copy;

/// What 405 says (RFC 9110, 15.5.6): every method but CONNECT is relayed.
const ALLOWED_METHODS: &str = "GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH, TRACE";

/// Which answer.
#[derive(Debug)]
pub enum Own<'a> {
    /// The built-in page of a status.
    Status(u16),
    /// A configured page: a fixed answer or an error page.
    Page(&'a Answer),
    /// A redirect.
    Redirect(&'a Redirect, &'a Request<'a>),
}

/// What is known of the request.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// Its method.
    pub method: Method,
    /// Its version.
    pub version: Version,
    /// The connection ends with this answer.
    pub last: bool,
    /// Now, as IMF-fixdate.
    pub date: &'a str,
    /// Further fields.
    pub extra: &'a [Extra<'a>],
}

/// Queues an answer; returns its status, or `None` (and queues nothing) when the pool is dry.
pub fn queue(own: &Own<'_>, about: &About<'_>, outbox: &mut Queue, pool: &mut Pool) -> Option<u16> {
    let built_in;
    let mut location = None;
    let (status, content_type, body): (u16, &str, &[u8]) = match own {
        Own::Page(answer) => (answer.status, &answer.content_type, &answer.body),
        Own::Status(status) => {
            built_in = page(*status);
            (*status, "text/html; charset=utf-8", built_in.as_bytes())
        }
        Own::Redirect(redirect, request) => {
            location = Some(target_of(redirect, request));
            built_in = page(redirect.status);
            (redirect.status, "text/html; charset=utf-8", built_in.as_bytes())
        }
    };
    let bodiless = matches!(status, 204 | 304);
    let body = if about.method == Method::Head || bodiless { &[][..] } else { body };
    if pool.available() < 2 + body.len().div_ceil(PAGE_BYTES / 2) {
        return None;
    }
    let mut head = Chunk::empty(pool.take()?);
    let connection = if about.last { Connection::Close } else { Connection::KeepAlive };
    let further = match &location {
        Some(url) => Some(("Location", url.as_str())),
        None => (status == 405).then_some(("Allow", ALLOWED_METHODS)),
    };
    let extra = about.extra.iter().filter_map(|(name, value)| Some((*name, (*value)?)));
    let further: ArrayVec<(&str, &str), 4> = further.into_iter().chain(extra).take(4).collect();
    let fields = OwnAnswer {
        status,
        content_type,
        body_len: length_of(own) as u64,
        fields: &further,
        date: about.date,
        version: about.version,
        connection,
    };
    let Some(written) = write_answer(&fields, head.tail_mut()) else {
        pool.give(head.into_page());
        return queue(&Own::Status(414), about, outbox, pool);
    };
    head.filled(written);
    push_or_copy(outbox, head, pool);
    let queued = outbox.append(body, pool);
    debug_assert!(queued, "the pool had enough pages a moment ago");
    Some(status)
}

fn length_of(own: &Own<'_>) -> usize {
    match own {
        Own::Page(answer) => answer.body.len(),
        Own::Status(status) => page(*status).len(),
        Own::Redirect(redirect, _) => page(redirect.status).len(),
    }
}

fn page(status: u16) -> String {
    let reason = reason(status);
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{status} {reason}</title>\
         <body><h1>{status} {reason}</h1></body></html>\n"
    )
}

fn target_of(redirect: &Redirect, request: &Request<'_>) -> String {
    let target = [request.target.missing_slash(), request.target.path_and_query].concat();
    match &redirect.to {
        RedirectTo::Exact(url) => url.clone(),
        RedirectTo::Prefix(prefix) => format!("{}{target}", prefix.trim_end_matches('/')),
        RedirectTo::Https(port) => {
            let host = host_name(request.host);
            if *port == 443 {
                format!("https://{host}{target}")
            } else {
                format!("https://{host}:{port}{target}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_of_the_table_has_a_page() {
        for close in crate::close::Close::ALL {
            if let Some(status) = close.status() {
                assert!(page(status).contains(&status.to_string()));
                assert_ne!(reason(status), "");
            }
        }
    }
}
