//! What checking a configuration needs of the host: files, names, certificates.
//!
//! What goes in: paths, host names, TLS options. What comes out: bytes, addresses, TLS values. It owns nothing. Always
//! true: `check` reaches the outside only through this trait, so that tests and the fuzzer can do without a host.

use std::io;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::model::{Dns, Found, Lookup, Records};
use super::names;
use crate::clock;
use crate::tls::certs::{CertError, Description, Notice, Store};
use crate::tls::{ClientOptions, ClientTls, ServerOptions, ServerTls};

/// TLS with clients, and what there is to say about its certificates.
#[derive(Debug)]
pub struct Certified {
    /// The certificates with a policy.
    pub tls: ServerTls,
    /// What is in them.
    pub certificates: Vec<Description>,
    /// What is doubtful about them.
    pub notices: Vec<Notice>,
}

/// What checking a configuration needs of the host.
pub trait World {
    /// The bytes of a file, at most `bytes_max + 1` of them.
    fn read(&self, file: &Path, bytes_max: usize) -> io::Result<Vec<u8>>;

    /// What names stand for, at least one server each, or why that is not known.
    fn resolve(&self, lookups: &[Lookup], dns: &Dns) -> Vec<Result<Records, String>>;

    /// Whether the host has IPv6.
    fn has_ipv6(&self) -> bool;

    /// Whether a path is a folder.
    fn is_folder(&self, path: &Path) -> bool;

    /// TLS with clients, from certificate files and folders.
    fn server_tls(&self, paths: &[PathBuf], options: &ServerOptions) -> Result<Certified, Vec<CertError>>;

    /// TLS with servers.
    fn client_tls(&self, options: &ClientOptions) -> Result<ClientTls, CertError>;
}

/// The host that this process runs on.
#[derive(Clone, Copy, Debug)]
pub struct Host;

impl World for Host {
    fn read(&self, file: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        std::fs::File::open(file)?.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn resolve(&self, lookups: &[Lookup], dns: &Dns) -> Vec<Result<Records, String>> {
        names::resolve(lookups, dns)
    }

    fn has_ipv6(&self) -> bool {
        Path::new("/proc/net/if_inet6").exists()
    }

    fn is_folder(&self, path: &Path) -> bool {
        path.is_dir()
    }

    fn server_tls(&self, paths: &[PathBuf], options: &ServerOptions) -> Result<Certified, Vec<CertError>> {
        let now = clock::wall();
        let (store, notices) = Store::load(paths, now)?;
        let certificates = store.describe(now);
        let tls = ServerTls::new(store, options).map_err(|error| vec![error])?;
        Ok(Certified { tls, certificates, notices })
    }

    fn client_tls(&self, options: &ClientOptions) -> Result<ClientTls, CertError> {
        ClientTls::new(options)
    }
}

/// A host without files, certificates and network: every file is empty, every name ending in `.invalid` is unknown and
/// every other name is 192.0.2.1, no TLS can be had. For tests and the fuzzer.
#[derive(Clone, Copy, Debug)]
pub struct Nowhere;

impl World for Nowhere {
    fn read(&self, _file: &Path, _bytes_max: usize) -> io::Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn resolve(&self, lookups: &[Lookup], _dns: &Dns) -> Vec<Result<Records, String>> {
        let resolve = |lookup: &Lookup| {
            if lookup.name.ends_with(".invalid") {
                return Err("there is no such name".to_owned());
            }
            let address = SocketAddr::from(([192, 0, 2, 1], lookup.port.unwrap_or(80)));
            let found = vec![Found { address, service: None }];
            Ok(Records { found, left_out: 0, ttl: Duration::MAX })
        };
        lookups.iter().map(resolve).collect()
    }

    fn has_ipv6(&self) -> bool {
        true
    }

    fn is_folder(&self, _path: &Path) -> bool {
        true
    }

    fn server_tls(&self, paths: &[PathBuf], _options: &ServerOptions) -> Result<Certified, Vec<CertError>> {
        Err(paths.iter().map(|path| nowhere(path)).collect())
    }

    fn client_tls(&self, options: &ClientOptions) -> Result<ClientTls, CertError> {
        Err(nowhere(options.ca.as_deref().unwrap_or(Path::new(""))))
    }
}

fn nowhere(file: &Path) -> CertError {
    CertError { file: file.into(), what: "there is no TLS here".into(), advice: String::new() }
}
