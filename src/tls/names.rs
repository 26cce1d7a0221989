//! Which certificate for which name: exact, then wildcard, then the first one.
//!
//! What goes in: the certificates of a listener, once; a name and what the client can verify, per handshake. What comes
//! out: the certificate to show. It owns two hash tables. Always true: a wildcard stands for exactly one label (RFC
//! 6125 section 6.4.3); names are compared without case; per name, cheaper signatures come first.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, SignatureAlgorithm, SignatureScheme};

use super::certs::Store;

/// The certificates of one name: at most one per kind of key.
type Entry = Vec<Arc<CertifiedKey>>;

/// Longest host name (RFC 1035 section 2.3.4) in text.
const NAME_BYTES_MAX: usize = 253;

thread_local! {
    /// The name in the client hello that rustls has just handled on this thread. rustls tells it to the resolver, but
    /// its unbuffered connection does not say it afterwards; the handshake takes it as soon as rustls returns.
    static ASKED: Cell<Option<Box<str>>> = const { Cell::new(None) };
}

/// Takes the name that the client hello asked for, which was handled by the last call into rustls on this thread.
pub(super) fn take_asked() -> Option<Box<str>> {
    ASKED.take()
}

/// The table of names.
pub(super) struct Names {
    exact: HashMap<Box<str>, Entry>,
    /// By what follows `*.`.
    wildcard: HashMap<Box<str>, Entry>,
    first: Entry,
    /// Whether TLS 1.3, whose suites say nothing about keys, can be negotiated.
    has_13: bool,
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Names")
            .field("exact", &self.exact.len())
            .field("wildcard", &self.wildcard.len())
            .finish_non_exhaustive()
    }
}

impl Names {
    /// The table of a store's certificates. Where two have the same name and kind of key, the first one counts.
    pub(super) fn new(store: &Store, has_13: bool) -> Self {
        let mut names = Self { exact: HashMap::new(), wildcard: HashMap::new(), first: Entry::new(), has_13 };
        for certificate in store.certificates() {
            for name in &certificate.names {
                let (table, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut names.wildcard, parent),
                    None => (&mut names.exact, &**name),
                };
                add(table.entry(name.into()).or_default(), &certificate.key);
            }
        }
        if let Some(first) = store.certificates().first() {
            // The same site with another kind of key is part of the default.
            let same = first.names.first().and_then(|name| names.entry_as_written(name)).cloned();
            names.first = same.unwrap_or_default();
            add(&mut names.first, &first.key);
        }
        names
    }

    fn entry_as_written(&self, name: &str) -> Option<&Entry> {
        match name.strip_prefix("*.") {
            Some(parent) => self.wildcard.get(parent),
            None => self.exact.get(name),
        }
    }

    fn entry(&self, name: &str) -> Option<&Entry> {
        let name = name.strip_suffix('.').unwrap_or(name);
        let mut lower = [0; NAME_BYTES_MAX];
        let lower = lower.get_mut(..name.len())?;
        lower.copy_from_slice(name.as_bytes());
        lower.make_ascii_lowercase();
        let name = std::str::from_utf8(lower).ok()?;
        if let Some(entry) = self.exact.get(name) {
            return Some(entry);
        }
        let (label, parent) = name.split_once('.')?;
        if label.is_empty() { None } else { self.wildcard.get(parent) }
    }

    /// Whether a certificate is for this host (a name or an address, without port).
    pub(super) fn covers(&self, host: &str) -> bool {
        self.entry(host).is_some()
    }

    /// The certificate for a client.
    fn pick(
        &self,
        name: Option<&str>,
        schemes: &[SignatureScheme],
        suites: &[CipherSuite],
    ) -> Option<Arc<CertifiedKey>> {
        let entry = name.and_then(|name| self.entry(name)).unwrap_or(&self.first);
        let usable = |key: &&Arc<CertifiedKey>| {
            key.key.choose_scheme(schemes).is_some()
                && suites.iter().any(|&suite| self.suite_fits(suite, key.key.algorithm()))
        };
        // When nothing fits, the first one lets rustls say what is missing.
        entry.iter().find(usable).or_else(|| entry.first()).cloned()
    }

    fn suite_fits(&self, suite: CipherSuite, key: SignatureAlgorithm) -> bool {
        match suite {
            CipherSuite::TLS13_AES_128_GCM_SHA256
            | CipherSuite::TLS13_AES_256_GCM_SHA384
            | CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => self.has_13,
            CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
            | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => key == SignatureAlgorithm::RSA,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => key != SignatureAlgorithm::RSA,
            _ => false,
        }
    }
}

impl ResolvesServerCert for Names {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        ASKED.set(client_hello.server_name().map(|name| name.to_ascii_lowercase().into()));
        self.pick(client_hello.server_name(), client_hello.signature_schemes(), client_hello.cipher_suites())
    }
}

/// Adds a certificate unless there is one with the same kind of key; RSA, the slowest to sign with, comes last.
fn add(entry: &mut Entry, key: &Arc<CertifiedKey>) {
    let algorithm = key.key.algorithm();
    if entry.iter().any(|other| other.key.algorithm() == algorithm) {
        return;
    }
    let at = if algorithm == SignatureAlgorithm::RSA { entry.len() } else { 0 };
    entry.insert(at, Arc::clone(key));
}
