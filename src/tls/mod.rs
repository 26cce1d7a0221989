//! TLS (stub).

use std::path::PathBuf;

pub mod certs;

/// TLS towards clients.
#[derive(Debug)]
pub struct ServerTls {}

/// TLS towards servers.
#[derive(Debug)]
pub struct ClientTls {}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 1.2.
    Tls12,
    /// 1.3.
    Tls13,
}

/// Whether clients show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificate {
    /// They are not asked.
    #[default]
    Off,
    /// They may.
    Optional,
    /// They must.
    Required,
}

/// Options towards clients.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Lowest version.
    pub min: Version,
    /// Highest version.
    pub max: Version,
    /// Who signs clients' certificates.
    pub client_ca: Option<PathBuf>,
    /// Whether clients show one.
    pub client_certificate: ClientCertificate,
    /// Application protocols.
    pub alpn: Vec<String>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            min: Version::Tls12,
            max: Version::Tls13,
            client_ca: None,
            client_certificate: ClientCertificate::Off,
            alpn: vec!["http/1.1".to_owned()],
        }
    }
}

/// Options towards servers.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Whether the server's certificate is verified.
    pub verify: bool,
    /// Who signs servers' certificates.
    pub ca: Option<PathBuf>,
    /// The name to ask for and to verify.
    pub server_name: Option<String>,
    /// The certificate to show.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self { verify: true, ca: None, server_name: None, certificate: None, key: None }
    }
}

impl ServerTls {
    /// Stub.
    pub fn covers(&self, _host: &str) -> bool {
        true
    }

    /// Stub.
    pub fn new(_store: certs::Store, options: &ServerOptions) -> Result<Self, certs::CertError> {
        options.client_ca.as_deref().map_or(Ok(()), certs::exists).map(|()| Self {})
    }
}

impl ClientTls {
    /// Stub.
    pub fn new(options: &ClientOptions) -> Result<Self, certs::CertError> {
        for file in [&options.ca, &options.certificate, &options.key].into_iter().flatten() {
            certs::exists(file)?;
        }
        Ok(Self {})
    }
}
