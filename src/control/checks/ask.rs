//! One check: a connection, a question, an answer.
//!
//! What goes in: what to ask which server. What comes out: a few words for people, whether it went well or not. It owns
//! the connection. Always true: it ends within the check's time; at most [`CHECK_BYTES_MAX`] bytes are read.

use std::fmt::Display;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::mysql;
use crate::clock::{self, Moment};
use crate::config::model::{Ask, AskHttp, Check};
use crate::limits::{CHECK_BYTES_MAX, CHECK_LINGER_TIME};
use crate::net::Address;
use crate::proxyproto::{self, Version};
use crate::tls::ClientTls;

/// What to ask which server.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) check: Check,
    pub(super) address: Address,
    /// Its host as written; empty for a Unix socket.
    pub(super) host: String,
    pub(super) send_proxy: Option<Version>,
}

/// A connection, whatever it goes through.
pub(in crate::control) trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// Asks. The answer is what went well, or what did not.
pub(super) async fn ask(plan: &Plan) -> Result<String, String> {
    let begin = clock::now();
    match timeout(plan.check.timeout, asked(plan, begin)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("no answer within {}", time(plan.check.timeout))),
    }
}

async fn asked(plan: &Plan, begin: Moment) -> Result<String, String> {
    let mut plain = connect(plan).await.map_err(|error| words(&error))?;
    // Another port is another service: it knows nothing of the header.
    if let (Some(version), None) = (plan.send_proxy, plan.check.port) {
        let header = proxyproto::write(version, None, None);
        plain.write_all(&header).await.map_err(|error| words(&error))?;
    }
    match (&plan.check.ask, &plan.check.tls) {
        (Ask::Tcp, _) => Ok(format!("connected in {}", took(begin))),
        (Ask::Mysql, _) => mysql::greeted(&mut plain, begin).await,
        (Ask::Http(http), None) => http_answer(&mut plain, http, plan, begin).await,
        (Ask::Http(http), Some(tls)) => {
            let mut stream = secured(plain, tls, plan).await?;
            http_answer(&mut stream, http, plan, begin).await
        }
        (Ask::Tls, None) => Err("there is no TLS to check with".into()),
        (Ask::Tls, Some(tls)) => {
            let mut stream = secured(plain, tls, plan).await?;
            let version = match stream.get_ref().1.protocol_version() {
                Some(tokio_rustls::rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2",
                _ => "TLS 1.3",
            };
            let text = format!("{version} in {}", took(begin));
            // The handshake is all that was asked for: how the connection ends says nothing.
            let _ = stream.shutdown().await;
            Ok(text)
        }
    }
}

async fn connect(plan: &Plan) -> io::Result<Box<dyn Stream>> {
    Ok(match &plan.address {
        Address::Tcp(address) => {
            let mut address = *address;
            address.set_port(plan.check.port.unwrap_or(address.port()));
            Box::new(TcpStream::connect(address).await?)
        }
        Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
    })
}

async fn secured(
    plain: Box<dyn Stream>,
    tls: &ClientTls,
    plan: &Plan,
) -> Result<TlsStream<Box<dyn Stream>>, String> {
    let host = if plan.host.is_empty() { "localhost" } else { &plan.host };
    let name = tls.name(host).map_err(|_| format!("\"{host}\" is not a name for TLS"))?;
    let connected = TlsConnector::from(tls.config()).connect(name, plain).await;
    connected.map_err(|error| format!("TLS failed: {}", words(&error)))
}

/// Sends a request and reads the head of its answer.
async fn http_answer(
    stream: &mut impl Stream,
    http: &AskHttp,
    plan: &Plan,
    begin: Moment,
) -> Result<String, String> {
    let request = request(http, plan);
    stream.write_all(request.as_bytes()).await.map_err(|error| words(&error))?;
    let mut bytes = Vec::new();
    let status = loop {
        if let Some(status) = status(&bytes)? {
            break status;
        }
        if bytes.len() >= CHECK_BYTES_MAX {
            return Err("the head of its answer is too long".into());
        }
        if read_more(stream, &mut bytes).await.map_err(|error| words(&error))? == 0 {
            let nothing = bytes.is_empty();
            return Err(if nothing {
                "closed without an answer"
            } else {
                "closed in the middle of its answer"
            }
            .into());
        }
    };
    let text = took(begin);
    if !http.status.iter().any(|range| range.contains(&status)) {
        return Err(format!("answered {status}, not {}", wanted(http)));
    }
    // The rest is of no interest, but servers note connections that are cut.
    let rest = async {
        while bytes.len() < CHECK_BYTES_MAX && read_more(stream, &mut bytes).await.is_ok_and(|n| n > 0) {}
    };
    let _ = timeout(CHECK_LINGER_TIME, rest).await;
    Ok(format!("{status} in {text}"))
}

fn request(http: &AskHttp, plan: &Plan) -> String {
    let host = match (&http.host, &plan.address) {
        (Some(host), _) => host.clone(),
        (None, Address::Unix(_)) => "localhost".into(),
        (None, Address::Tcp(address)) => {
            let host = if plan.host.contains(':') { format!("[{}]", plan.host) } else { plan.host.clone() };
            let usual = if plan.check.tls.is_some() { 443 } else { 80 };
            match plan.check.port.unwrap_or(address.port()) {
                port if port == usual => host,
                port => format!("{host}:{port}"),
            }
        }
    };
    let AskHttp { method, path, .. } = http;
    let length = if method == "POST" { "Content-Length: 0\r\n" } else { "" };
    format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: ringgate-check\r\nAccept: */*\r\n{length}Connection: close\r\n\r\n"
    )
}

/// The status of a complete head; `None` when it is not complete.
fn status(bytes: &[u8]) -> Result<Option<u16>, String> {
    let not_http = || "what it answered is not HTTP".to_owned();
    let begin = &bytes[..bytes.len().min(7)];
    if !b"HTTP/1.".starts_with(begin) {
        return Err(not_http());
    }
    if !bytes.windows(4).any(|four| four == b"\r\n\r\n") {
        return Ok(None);
    }
    let digits = bytes.get(9..12).filter(|_| bytes.get(8) == Some(&b' '));
    let number = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    number.map(Some).ok_or_else(not_http)
}

async fn read_more(stream: &mut (impl AsyncRead + Unpin), bytes: &mut Vec<u8>) -> io::Result<usize> {
    let mut page = [0; 4096];
    let count = stream.read(&mut page).await?;
    bytes.extend(page.iter().take(count));
    Ok(count)
}

/// The statuses that would do, as the configuration writes them.
fn wanted(http: &AskHttp) -> String {
    let one = |range: &std::ops::RangeInclusive<u16>| match (*range.start(), *range.end()) {
        (first, last) if first == last => first.to_string(),
        (first, last) if first % 100 == 0 && last == first + 99 => format!("{}xx", first / 100),
        (first, last) => format!("{first}-{last}"),
    };
    http.status.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// How long it took, for people.
pub(super) fn took(begin: Moment) -> String {
    let took = clock::now().since(begin);
    format!("{:.1} ms", took.as_secs_f64() * 1000.0)
}

pub(in crate::control) fn time(time: Duration) -> String {
    match time.as_millis() {
        ms if ms.is_multiple_of(1000) => format!("{} s", ms / 1000),
        ms => format!("{ms} ms"),
    }
}

/// An error in few words, without the number of the kernel.
pub(in crate::control) fn words(error: &(impl Display + ?Sized)) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    let shouts = text.chars().nth(1).is_some_and(char::is_uppercase);
    match letters.next() {
        Some(first) if !shouts => first.to_lowercase().chain(letters).collect(),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_as_far_as_needed() {
        for (text, expected) in [
            ("", Ok(None)),
            ("HTT", Ok(None)),
            ("HTTP/1.1 200 OK\r\n", Ok(None)),
            ("HTTP/1.1 200 OK\r\n\r\n", Ok(Some(200))),
            ("HTTP/1.0 503\r\nA: b\r\n\r\nbody", Ok(Some(503))),
            ("SSH-2.0-x", Err(())),
            ("HTTP/2 200\r\n\r\n", Err(())),
            ("HTTP/1.1 2x0 OK\r\n\r\n", Err(())),
            ("HTTP/1.1\r\n\r\n", Err(())),
        ] {
            assert_eq!(status(text.as_bytes()).map_err(drop), expected, "{text:?}");
        }
    }

    #[test]
    fn errors_are_few_words() {
        let refused = io::Error::from_raw_os_error(111);
        assert_eq!(words(&refused), "connection refused");
        assert_eq!(words("TLS is odd"), "TLS is odd");
        assert_eq!(words("É"), "é");
        assert_eq!(
            (time(Duration::from_secs(2)), time(Duration::from_millis(1500))),
            ("2 s".into(), "1500 ms".into())
        );
    }
}
