//! TLS towards servers: how the servers of a pool are verified, and what we show them.
//!
//! What goes in: [`ClientOptions`]. What comes out: what [`Pipe::connect`](super::Pipe::connect) needs. It owns the trusted
//! authorities and the tickets of servers, shared by all workers. Always true: unless `verify` is off, a server proves
//! its name by a chain to a trusted authority.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::certs::{self, CertError};
use super::{TlsError, WallClock, pem, provider};

/// Where systems keep their authorities, as one file: Debian, Fedora, openSUSE, Alpine.
const SYSTEM_AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Servers (by name) whose tickets are remembered.
const SESSIONS: usize = 256;

/// How to speak with the servers of a pool.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Whether servers must prove who they are.
    pub verify: bool,
    /// The authorities to trust, as PEM; `None` trusts those of the system.
    pub ca: Option<PathBuf>,
    /// The name that servers must prove, and that is sent to them (SNI); `None` takes the server's address.
    pub server_name: Option<String>,
    /// Our certificate and its chain, as PEM.
    pub certificate: Option<PathBuf>,
    /// Our key, as PEM; `None` looks for it beside the certificate.
    pub key: Option<PathBuf>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self { verify: true, ca: None, server_name: None, certificate: None, key: None }
    }
}

/// TLS towards servers.
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    name: Option<ServerName<'static>>,
}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientTls").field("name", &self.name).finish_non_exhaustive()
    }
}

impl ClientTls {
    /// Reads the files that the options name.
    pub fn new(options: &ClientOptions) -> Result<Self, CertError> {
        let name = match &options.server_name {
            Some(name) => Some(ServerName::try_from(name.clone()).map_err(|_| {
                CertError::general(
                    &format!("'{name}' is not a host name"),
                    "use a name such as app.example.com",
                )
            })?),
            None => None,
        };
        let provider = provider();
        let verifier: Arc<dyn ServerCertVerifier> = if options.verify {
            let roots = Arc::new(roots(options.ca.as_deref())?);
            WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
                .build()
                .map_err(|error| CertError::general(&error.to_string(), ""))?
        } else {
            Arc::new(Unverified::new())
        };
        let builder = ClientConfig::builder_with_details(provider, Arc::new(WallClock))
            .with_safe_default_protocol_versions()
            .map_err(|error| CertError::general(&format!("TLS cannot be set up: {error}"), ""))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &options.certificate {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let identity = certs::identity(file, options.key.as_deref(), crate::clock::wall())?;
                builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(identity)))
            }
        };
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        config.enable_early_data = false;
        config.enable_secret_extraction = true;
        Ok(Self { config: Arc::new(config), name })
    }

    /// Asks servers for these application protocols (ALPN).
    #[must_use]
    pub fn with_alpn(mut self, protocols: &[&str]) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        self.config = Arc::new(config);
        self
    }

    /// What rustls needs.
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// The name that the server must prove.
    pub fn name(&self, fallback: &str) -> Result<ServerName<'static>, TlsError> {
        match &self.name {
            Some(name) => Ok(name.clone()),
            None => ServerName::try_from(fallback.to_owned()).map_err(|_| TlsError::ServerName),
        }
    }
}

fn roots(file: Option<&Path>) -> Result<RootCertStore, CertError> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = file {
        for authority in pem::authorities(file)? {
            roots.add(authority).map_err(|error| {
                let what = format!("not usable as an authority: {error}");
                CertError::new(file, &what, "use the authority's own certificate")
            })?;
        }
        return Ok(roots);
    }
    let advice = "install the package ca-certificates, or name a file with the authorities to trust";
    let Some(file) = SYSTEM_AUTHORITIES.iter().map(Path::new).find(|file| file.exists()) else {
        return Err(CertError::general("the system has no list of trusted authorities", advice));
    };
    // One strange certificate among the system's must not stop the program.
    let (usable, _) = roots.add_parsable_certificates(pem::authorities(file)?);
    if usable == 0 { Err(CertError::new(file, "no usable authority in it", advice)) } else { Ok(roots) }
}

/// `verify = false`: any certificate will do, but the server must own its key.
#[derive(Debug)]
pub(super) struct Unverified(WebPkiSupportedAlgorithms);

impl Unverified {
    pub(super) fn new() -> Self {
        Self(provider().signature_verification_algorithms)
    }
}

impl ServerCertVerifier for Unverified {
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
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
