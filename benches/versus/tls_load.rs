//! Load over TLS that wrk cannot make: a handshake per request, full or resumed; idle TLS connections; and what was
//! negotiated.
//!
//! In: an address. Out: a `Load` that also counts resumed handshakes. Owns its client threads for the length of a
//! call. Always true: the client offers TLS 1.3 with one X25519 key share, as curl on OpenSSL 3.0 does; it checks
//! the handshake's signature but no chain of trust (the certificate was made a moment ago).

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, HandshakeKind, SignatureScheme, Stream,
};

use crate::load::{self, Errors, Fault, Load};
use crate::programs::Outcome;

/// Client threads that do handshakes at the same time.
const THREADS: usize = 16;

/// Accepts every certificate, but not every signature.
#[derive(Debug)]
struct AnyChain(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyChain {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A client's settings. With `resumed` it keeps the tickets of its last connections and offers one each time.
pub fn client(resumed: bool) -> Outcome<Arc<ClientConfig>> {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519, aws_lc_rs::kx_group::SECP256R1];
    let provider = Arc::new(provider);
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyChain(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = if resumed { Resumption::in_memory_sessions(8) } else { Resumption::disabled() };
    Ok(Arc::new(config))
}

/// A connection that has not shaken hands yet.
fn start(config: &Arc<ClientConfig>, address: SocketAddr) -> Result<(ClientConnection, TcpStream), Fault> {
    let name = ServerName::try_from("localhost").map_err(|_| Fault::Connect)?;
    let tls = ClientConnection::new(config.clone(), name).map_err(|_| Fault::Connect)?;
    Ok((tls, load::connect(address)?))
}

/// Connects, shakes hands, does one request. Returns both halves, and whether the handshake was resumed.
pub fn one_request(
    config: &Arc<ClientConfig>,
    address: SocketAddr,
    request: &[u8],
    body_bytes: usize,
    buffer: &mut Vec<u8>,
) -> Result<(ClientConnection, TcpStream, usize), Fault> {
    let (mut tls, mut socket) = start(config, address)?;
    while tls.is_handshaking() {
        tls.complete_io(&mut socket).map_err(|_| Fault::Connect)?;
    }
    let at = load::exchange(&mut Stream::new(&mut tls, &mut socket), request, body_bytes, buffer)?;
    Ok((tls, socket, at))
}

/// What one client thread saw.
struct Seen {
    latencies: Histogram<u64>,
    requests: u64,
    resumed: u64,
    errors: Errors,
}

/// A connection, a handshake and a request each time, from `THREADS` threads.
pub fn handshakes(
    address: SocketAddr,
    path: &str,
    body_bytes: usize,
    resumed: bool,
    seconds: u32,
) -> Outcome<Load> {
    let begin = Instant::now();
    let end = begin + Duration::from_secs(seconds.into());
    let mut threads = Vec::new();
    for _ in 0..THREADS {
        // Tickets are each thread's own, as those of separate clients are.
        let (config, request) = (client(resumed)?, load::request(path, true));
        threads
            .push(thread::spawn(move || one_client(&config, address, request.as_bytes(), body_bytes, end)));
    }
    let mut load = Load::default();
    let mut latencies = load::histogram()?;
    let mut count = 0;
    for thread in threads {
        let seen = thread.join().map_err(|_| "a client thread panicked".to_owned())??;
        latencies.add(&seen.latencies).map_err(|error| error.to_string())?;
        load.requests += seen.requests;
        load.errors.add(&seen.errors);
        count += seen.resumed;
    }
    load.seconds = begin.elapsed().as_secs_f64();
    load.resumed = Some(count);
    load.p50_us = load::quantile_us(&latencies, 0.5);
    load.p99_us = load::quantile_us(&latencies, 0.99);
    Ok(load)
}

fn one_client(
    config: &Arc<ClientConfig>,
    address: SocketAddr,
    request: &[u8],
    body_bytes: usize,
    end: Instant,
) -> Outcome<Seen> {
    let mut seen = Seen { latencies: load::histogram()?, requests: 0, resumed: 0, errors: Errors::default() };
    let mut buffer = Vec::new();
    while Instant::now() < end {
        let begun = Instant::now();
        match one_request(config, address, request, body_bytes, &mut buffer) {
            Ok((mut tls, mut socket, _)) => {
                seen.requests += 1;
                seen.resumed += u64::from(tls.handshake_kind() == Some(HandshakeKind::Resumed));
                seen.latencies.saturating_record(begun.elapsed().as_nanos() as u64);
                // The server was asked to close: until it does, nothing but its farewell may come.
                if !matches!(Stream::new(&mut tls, &mut socket).read(&mut [0; 64]), Ok(0)) {
                    seen.errors.count(Fault::Read);
                }
            }
            Err(fault) => seen.errors.count(fault),
        }
    }
    Ok(seen)
}

/// Does one request and says what was negotiated, such as `TLSv1_3 TLS13_AES_256_GCM_SHA384 X25519 http/1.1`.
pub fn negotiated(address: SocketAddr, path: &str, body: &[u8]) -> Outcome<String> {
    let mut buffer = Vec::new();
    let request = load::request(path, false);
    let (tls, _socket, at) =
        one_request(&client(false)?, address, request.as_bytes(), body.len(), &mut buffer)
            .map_err(|fault| format!("a TLS request failed: {fault:?}"))?;
    if buffer.get(at..) != Some(body) {
        return Err("the body of a TLS answer is wrong".to_owned());
    }
    let version = tls.protocol_version().map_or_else(String::new, |v| format!("{v:?}"));
    let suite = tls.negotiated_cipher_suite().map_or_else(String::new, |s| format!("{:?}", s.suite()));
    let group = tls.negotiated_key_exchange_group().map_or_else(String::new, |g| format!("{:?}", g.name()));
    let alpn = String::from_utf8_lossy(tls.alpn_protocol().unwrap_or(b"no ALPN")).into_owned();
    Ok(format!("{version} {suite} {group} {alpn}"))
}
