//! TLS towards clients: one policy (certificates, versions, client certificates, ticket keys) for one listener.
//!
//! What goes in: a [`Store`] and [`ServerOptions`]. What comes out: what [`Pipe::accept`](super::Pipe::accept) needs.
//! It is shared by all workers; cloning it shares it. Always true: one value is one policy, and tickets can be opened
//! only by the value that sealed them (or by one that took its keys over with exactly the same policy about clients), so
//! that resuming never goes around a client certificate that another policy asks for.

use std::path::PathBuf;
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, version};

use super::certs::{CertError, Store};
use super::names::Names;
use super::tickets::Tickets;
use super::{WallClock, pem, provider};
use crate::clock;

/// A protocol version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// TLS 1.2 (RFC 5246), with ephemeral key exchange and authenticated encryption only.
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

/// Whether clients show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificate {
    /// They are not asked.
    #[default]
    Off,
    /// They are asked; one that is sent must be valid.
    Optional,
    /// They are asked, and without a valid one there is no connection.
    Required,
}

/// The policy of a [`ServerTls`].
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The lowest version.
    pub min: Version,
    /// The highest version.
    pub max: Version,
    /// The authorities of client certificates, as PEM. Needed unless `client_certificate` is `Off`.
    pub client_ca: Option<PathBuf>,
    /// Whether clients show a certificate.
    pub client_certificate: ClientCertificate,
    /// Application protocols in order of preference; empty negotiates none.
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

/// TLS towards clients.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    names: Arc<Names>,
    tickets: Arc<Tickets>,
    client_certificate: ClientCertificate,
    /// What decides who may connect: a digest of the authorities and of whether a certificate is needed.
    policy: [u8; 32],
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls")
            .field("names", &self.names)
            .field("client_certificate", &self.client_certificate)
            .finish_non_exhaustive()
    }
}

impl ServerTls {
    /// Builds the policy; reads `client_ca`.
    pub fn new(store: Store, options: &ServerOptions) -> Result<Self, CertError> {
        let versions = versions(options)?;
        let names = Arc::new(Names::new(&store, options.max == Version::Tls13));
        let tickets = Tickets::new(clock::now())
            .map(Arc::new)
            .ok_or_else(|| CertError::general("no randomness for ticket keys", "check /dev/urandom"))?;
        let (verifier, policy) = client_verifier(options)?;
        let mut config = ServerConfig::builder_with_details(provider(), Arc::new(WallClock))
            .with_protocol_versions(versions)
            .map_err(|error| CertError::general(&format!("TLS cannot be set up: {error}"), ""))?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::clone(&names) as _);
        // Our order counts (see `provider`).
        config.ignore_client_order = true;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = Arc::clone(&tickets) as _;
        // One ticket is enough for a client that keeps its connection; each one costs key derivation and a seal.
        config.send_tls13_tickets = 1;
        config.max_early_data_size = 0;
        config.enable_secret_extraction = true;
        config.alpn_protocols = options.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Self {
            config: Arc::new(config),
            names,
            tickets,
            client_certificate: options.client_certificate,
            policy,
        })
    }

    /// Takes over the ticket keys of the value that this one replaces, so that clients can resume after a reload. Does
    /// nothing when the two differ in who may connect.
    #[must_use]
    pub fn replacing(self, old: &Self) -> Self {
        if self.policy != old.policy {
            return self;
        }
        let mut config = ServerConfig::clone(&self.config);
        config.ticketer = Arc::clone(&old.tickets) as _;
        Self { config: Arc::new(config), tickets: Arc::clone(&old.tickets), ..self }
    }

    /// Whether one of the certificates is for this host (a name or an address, without port), exactly or by wildcard.
    pub fn covers(&self, host: &str) -> bool {
        self.names.covers(host)
    }

    /// The same policy for a connection that rustls itself serves (the admin interface).
    pub fn rustls(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// Whether clients show a certificate.
    pub const fn client_certificate(&self) -> ClientCertificate {
        self.client_certificate
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }
}

type Versions = &'static [&'static SupportedProtocolVersion];

const TLS_12: Versions = &[&version::TLS12];
const TLS_13: Versions = &[&version::TLS13];
const TLS_12_13: Versions = &[&version::TLS13, &version::TLS12];

fn versions(options: &ServerOptions) -> Result<Versions, CertError> {
    match (options.min, options.max) {
        (Version::Tls12, Version::Tls12) => Ok(TLS_12),
        (Version::Tls12, Version::Tls13) => Ok(TLS_12_13),
        (Version::Tls13, Version::Tls13) => Ok(TLS_13),
        (Version::Tls13, Version::Tls12) => Err(CertError::general(
            "the lowest TLS version is above the highest",
            "set the lowest version to 1.2, or the highest to 1.3",
        )),
    }
}

fn client_verifier(options: &ServerOptions) -> Result<(Arc<dyn ClientCertVerifier>, [u8; 32]), CertError> {
    let mut identity = digest::Context::new(&digest::SHA256);
    identity.update(&[options.client_certificate as u8]);
    let verifier = if options.client_certificate == ClientCertificate::Off {
        WebPkiClientVerifier::no_client_auth()
    } else {
        let Some(file) = &options.client_ca else {
            return Err(CertError::general(
                "client certificates are asked for, but there is no authority to check them with",
                "name the file with the authorities' certificates",
            ));
        };
        let authorities = pem::authorities(file)?;
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            identity.update(&authority);
            roots.add(authority).map_err(|error| {
                CertError::new(
                    file,
                    &format!("not usable as an authority: {error}"),
                    "use the authority's own certificate",
                )
            })?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        let builder = match options.client_certificate {
            ClientCertificate::Optional => builder.allow_unauthenticated(),
            ClientCertificate::Off | ClientCertificate::Required => builder,
        };
        builder.build().map_err(|error| CertError::new(file, &error.to_string(), ""))?
    };
    let mut policy = [0; 32];
    policy.copy_from_slice(identity.finish().as_ref());
    Ok((verifier, policy))
}
