//! The admin listeners: HTTP/1.1 for people and programs on this host, and for others who show a token or certificate.
//!
//! What goes in: connections. What comes out: answers of [`super::api`]. It owns: the listening sockets. Always true: a
//! request that another site's page sent (by Origin, Sec-Fetch-Site or Host) is refused, and so is one that does not show
//! the token where one is configured; each listener has its share of [`ADMIN_CONNECTIONS_MAX`] connections, so that who
//! takes all of one cannot shut another one; a client that does not take its answer is left.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue, ORIGIN};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::api::{self, Answer};
use super::patient::Patient;
use super::state::State;
use crate::config::model::AdminConfig;
use crate::limits::{ADMIN_BODY_BYTES_MAX, ADMIN_CONNECTIONS_MAX, ADMIN_TIME};
use crate::net::Address;
use crate::ring::{Door, ListenOptions};
use crate::worker::edition::Inherited;
use crate::worker::spawn::StartError;

/// The header that every request with an effect must have: a page of another site cannot send it unasked.
const EFFECT_FIELD: &str = "x-ringgate";

/// The sockets of the admin listeners, open and not served yet.
pub struct Doors(Vec<(Address, Door)>);

/// Second descriptors of the admin sockets, for a new version of the program.
#[derive(Debug, Default)]
pub struct Copies(Vec<(Address, OwnedFd)>);

impl Copies {
    /// Copies of the copies.
    pub fn take_copies(&self) -> io::Result<Inherited> {
        self.0.iter().map(|(address, fd)| Ok((address.clone(), fd.try_clone()?))).collect()
    }
}

impl Doors {
    /// Opens them. Errors: what the kernel refuses, with advice.
    pub(super) fn open(config: &AdminConfig, inherited: &Inherited) -> Result<Self, StartError> {
        let options = ListenOptions { v6only: true, backlog: 128 };
        let open = |address: &Address| -> io::Result<Door> {
            match inherited.iter().find(|(other, _)| other == address) {
                Some((_, fd)) => Door::adopt(address, fd.try_clone()?),
                None => {
                    crate::ring::check_free(address, true, crate::clock::now() + crate::limits::TAKEN_TIME)?;
                    Door::open(address, &options)
                }
            }
        };
        let doors: io::Result<Vec<_>> =
            config.listen.iter().map(|address| Ok((address.clone(), open(address)?))).collect();
        doors.map(Self).map_err(|error| StartError::new(format!("[admin] {error}")))
    }

    /// Second descriptors, with their addresses.
    pub(super) fn copies(&self) -> Copies {
        let copy = |(address, door): &(Address, Door)| Some((address.clone(), door.copy().ok()?));
        Copies(self.0.iter().filter_map(copy).collect())
    }

    /// Accepts on the control thread's runtime, until the thread ends.
    pub(super) fn serve(self, state: &Rc<State>) {
        let share = (ADMIN_CONNECTIONS_MAX / self.0.len().max(1)).max(1);
        for (address, door) in self.0 {
            let (state, places) = (state.clone(), Arc::new(Semaphore::new(share)));
            tokio::task::spawn_local(async move {
                if let Err(error) = accept(&address, door, state, places).await {
                    eprintln!("ringgate: the admin listener {address} has ended: {error}");
                }
            });
        }
    }
}

async fn accept(address: &Address, door: Door, state: Rc<State>, places: Arc<Semaphore>) -> io::Result<()> {
    let fd: OwnedFd = door.copy()?;
    let listener = match address {
        Address::Tcp(_) => {
            let socket = std::net::TcpListener::from(fd);
            socket.set_nonblocking(true)?;
            Listener::Tcp(TcpListener::from_std(socket)?)
        }
        Address::Unix(_) => {
            let socket = std::os::unix::net::UnixListener::from(fd);
            socket.set_nonblocking(true)?;
            Listener::Unix(UnixListener::from_std(socket)?)
        }
    };
    let mut left = state.left.subscribe();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return Ok(()) };
        let accepted = tokio::select! {
            biased;
            _ = left.wait_for(|left| *left) => {
                // Another process accepts from it: its file stays.
                door.leave();
                return Ok(());
            }
            accepted = listener.accept() => accepted,
        };
        let state = state.clone();
        match accepted {
            Ok(stream) => {
                tokio::task::spawn_local(async move {
                    let _place = place;
                    converse(stream, state).await;
                });
            }
            Err(_) => tokio::time::sleep(crate::limits::ACCEPT_AGAIN_TIME).await,
        }
    }
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listener {
    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Stream::Tcp(stream)),
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Stream::Unix(stream)),
        }
    }
}

async fn converse(stream: Stream, state: Rc<State>) {
    let tls = state.file().admin.tls.as_ref().map(|tls| TlsAcceptor::from(tls.rustls()));
    match (stream, tls) {
        (Stream::Unix(stream), _) => connection(stream, state, true).await,
        (Stream::Tcp(stream), None) => connection(stream, state, false).await,
        (Stream::Tcp(stream), Some(acceptor)) => {
            if let Ok(Ok(stream)) = tokio::time::timeout(ADMIN_TIME, acceptor.accept(stream)).await {
                connection(stream, state, false).await;
            }
        }
    }
}

/// Serves one connection. `is_unix`: it came through a Unix socket, whose file rights decide who may.
async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, state: Rc<State>, is_unix: bool) {
    let serve = service_fn(|request| {
        let state = state.clone();
        async move { Ok::<_, std::convert::Infallible>(respond(request, &state, is_unix).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(hyper_util::rt::TokioTimer::new())
        .header_read_timeout(ADMIN_TIME)
        .max_buf_size(ADMIN_BODY_BYTES_MAX)
        .serve_connection(TokioIo::new(Patient::new(stream, ADMIN_TIME)), serve);
    // What fails here is the client's connection: there is nobody to tell.
    let _ = connection.await;
}

async fn respond(request: Request<Incoming>, state: &Rc<State>, is_unix: bool) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let is_page = head.method == Method::GET && api::is_page(head.uri.path());
    let answer = match refuse(&head.headers, &head.method, state, is_unix, is_page) {
        Some(answer) => answer,
        None => {
            match tokio::time::timeout(ADMIN_TIME, Limited::new(body, ADMIN_BODY_BYTES_MAX).collect()).await {
                Ok(Ok(body)) => api::answer(&head.method, &head.uri, &body.to_bytes(), state).await,
                Ok(Err(_)) => Answer::error(413, "the body is longer than 64 KiB or was cut", "send less"),
                Err(_) => Answer::error(408, "the body did not come in time", "send it at once"),
            }
        }
    };
    answer.into_response(&head.method)
}

/// Why a request is refused before it is looked at.
fn refuse(
    fields: &HeaderMap,
    method: &Method,
    state: &State,
    is_unix: bool,
    is_page: bool,
) -> Option<Answer> {
    let text = |name: &str| fields.get(name).and_then(|value| value.to_str().ok());
    let config = &state.file().admin;
    let host = text(HOST.as_str()).unwrap_or_default();
    // Without a token the name must be one that no foreign site can point here (DNS rebinding).
    let is_named = is_unix || config.token.is_some() || config.tls.is_some() || is_local_name(host);
    if !is_named {
        return Some(Answer::error(
            403,
            "the Host field names another site",
            "use 127.0.0.1, localhost or a token",
        ));
    }
    let origin = text(ORIGIN.as_str());
    let is_foreign = origin.is_some_and(|origin| origin.split_once("://").is_none_or(|(_, of)| of != host))
        || text("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none"));
    if is_foreign {
        return Some(Answer::error(
            403,
            "the request comes from another site's page",
            "open the dashboard itself",
        ));
    }
    if !is_page && let Some(token) = &config.token {
        let shown = fields.get(AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
        let shown = shown.strip_prefix(b"Bearer ").unwrap_or_default();
        if !token.is(shown) {
            let advice = "send Authorization: Bearer TOKEN (ringgate ctl --token-file FILE)";
            return Some(Answer::error(401, "the token is missing or wrong", advice));
        }
    }
    let has_effect = !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    if has_effect && !fields.contains_key(EFFECT_FIELD) {
        return Some(Answer::error(
            403,
            "the field X-Ringgate is missing",
            "send X-Ringgate: 1 with every change",
        ));
    }
    None
}

/// A name that means this host for every browser.
fn is_local_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let ip = name.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    name.eq_ignore_ascii_case("localhost") || ip.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_cannot_be_pointed_elsewhere_are_local() {
        for host in ["localhost", "localhost:9090", "127.0.0.1:9090", "[::1]:9090", "192.0.2.1"] {
            assert!(is_local_name(host), "{host}");
        }
        for host in ["", "evil.example", "evil.example:9090", "127.0.0.1.evil.example", "localhost.evil"] {
            assert!(!is_local_name(host), "{host}");
        }
    }

    #[test]
    fn tokens_are_compared_whole() {
        let token = crate::config::model::Token("abc".into());
        assert!(token.is(b"abc"));
        assert!([&b"ab"[..], b"abd", b"abcd", b""].iter().all(|shown| !token.is(shown)));
    }
}
