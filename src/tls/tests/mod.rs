//! Pipes back to back in memory, and against rustls's own connections as an oracle.

mod damage;
mod files;
mod peers;
mod policy;
mod streams;

use std::path::PathBuf;
use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SignatureAlgorithm,
};

use super::certs::Store;
use super::*;
use crate::buf::{Chunk, Pool, Queue};
use crate::clock;

/// An authority of the tests.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    pub(super) fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A leaf with its key as PEM, certificate first.
    pub(super) fn leaf(&self, names: &[&str], algorithm: &'static SignatureAlgorithm) -> String {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).unwrap();
        params.distinguished_name.push(DnType::CommonName, names.first().map_or("nobody", |name| name));
        self.leaf_of(params, algorithm)
    }

    pub(super) fn leaf_of(
        &self,
        params: CertificateParams,
        algorithm: &'static SignatureAlgorithm,
    ) -> String {
        let key = if *algorithm == rcgen::PKCS_RSA_SHA256 {
            KeyPair::from_pem(RSA_KEY.with(|key| key.clone()).as_str()).unwrap()
        } else {
            KeyPair::generate_for(algorithm).unwrap()
        };
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        format!("{}{}{}", certificate.pem(), self.issuer.pem(), key.serialize_pem())
    }

    /// Writes a leaf into the authority's folder.
    pub(super) fn leaf_file(
        &self,
        file: &str,
        names: &[&str],
        algorithm: &'static SignatureAlgorithm,
    ) -> PathBuf {
        let path = self.folder.path().join(file);
        std::fs::write(&path, self.leaf(names, algorithm)).unwrap();
        path
    }

    pub(super) fn store(&self, names: &[&str]) -> Store {
        Store::from_pem(&self.leaf(names, &rcgen::PKCS_ECDSA_P256_SHA256), clock::wall()).unwrap()
    }
}

thread_local! {
    /// Making an RSA key is slow.
    static RSA_KEY: String =
        KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap().serialize_pem();
}

pub(super) fn now() -> SystemTime {
    clock::wall()
}

/// Options with one version.
pub(super) fn only(version: Version) -> ServerOptions {
    ServerOptions { min: version, max: version, ..ServerOptions::default() }
}

/// Two pipes and what lies between them.
pub(super) struct Pair {
    pub(super) pool: Pool,
    pub(super) client: Side,
    pub(super) server: Side,
    /// How many bytes arrive at once.
    pub(super) step: usize,
}

/// One pipe with its queues.
pub(super) struct Side {
    pub(super) pipe: Pipe,
    pub(super) plain: Queue,
    pub(super) out: Queue,
    pub(super) error: Option<TlsError>,
}

impl Side {
    pub(super) fn new(pipe: Pipe) -> Self {
        Self { pipe, plain: Queue::new(), out: Queue::new(), error: None }
    }

    /// Takes everything that is to be sent.
    pub(super) fn sent(&mut self, pool: &mut Pool) -> Vec<u8> {
        take(&mut self.out, pool)
    }

    /// Takes everything that was received.
    pub(super) fn read(&mut self, pool: &mut Pool) -> Vec<u8> {
        take(&mut self.plain, pool)
    }

    /// Hands over bytes, `step` at a time.
    pub(super) fn receive(&mut self, bytes: &[u8], step: usize, pool: &mut Pool) {
        for part in bytes.chunks(step.min(crate::limits::RECV_BYTES)) {
            if self.error.is_some() {
                return;
            }
            let mut chunk = Chunk::empty(pool.take().unwrap());
            assert_eq!(chunk.append(part), part.len());
            self.error = self.pipe.received(chunk, &mut self.plain, &mut self.out, pool).err();
        }
    }

    /// Encrypts all of `bytes` from chunks of `chunk` bytes.
    pub(super) fn write(&mut self, bytes: &[u8], chunk: usize, pool: &mut Pool) {
        let mut plain = Queue::new();
        for part in bytes.chunks(chunk) {
            let mut page = Chunk::empty(pool.take().unwrap());
            page.append(part);
            plain.push(page, pool);
        }
        let progress = self.pipe.encrypt(&mut plain, &mut self.out, usize::MAX, pool).unwrap();
        assert_eq!(progress, Progress::Done);
        assert!(plain.is_empty());
    }
}

pub(super) fn take(queue: &mut Queue, pool: &mut Pool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(queue.len());
    while let Some(chunk) = queue.pop() {
        bytes.extend_from_slice(chunk.bytes());
        pool.give(chunk.into_page());
    }
    bytes
}

impl Pair {
    pub(super) fn new(server: &ServerTls, client: &ClientTls, name: &str) -> Self {
        let client = Side::new(Pipe::connect(client, name).unwrap());
        let server = Side::new(Pipe::accept(server).unwrap());
        Self { pool: Pool::new(4096), client, server, step: usize::MAX }
    }

    /// Carries bytes to and fro until nobody has something to say.
    pub(super) fn run(&mut self) {
        let pool = &mut self.pool;
        loop {
            let up = self.client.sent(pool);
            let down = self.server.sent(pool);
            if up.is_empty() && down.is_empty() {
                return;
            }
            self.server.receive(&up, self.step, pool);
            self.client.receive(&down, self.step, pool);
        }
    }

    pub(super) fn handshake(&mut self) {
        self.client.pipe.start(&mut self.client.out, &mut self.pool).unwrap();
        self.run();
    }

    /// The handshake must work, and bytes must pass both ways.
    pub(super) fn works(&mut self) {
        self.handshake();
        assert_eq!((self.client.error, self.server.error), (None, None));
        assert!(!self.client.pipe.is_handshaking() && !self.server.pipe.is_handshaking());
        self.exchange(b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n");
    }

    pub(super) fn exchange(&mut self, up: &[u8], down: &[u8]) {
        self.client.write(up, 16 * 1024, &mut self.pool);
        self.server.write(down, 16 * 1024, &mut self.pool);
        self.run();
        assert!(self.server.read(&mut self.pool) == up, "what the server got");
        assert!(self.client.read(&mut self.pool) == down, "what the client got");
    }

    /// Every page is home when the pipes and queues are emptied.
    pub(super) fn end(mut self) {
        for side in [&mut self.client, &mut self.server] {
            side.pipe.clear(&mut self.pool);
            side.plain.clear(&mut self.pool);
            side.out.clear(&mut self.pool);
            assert_eq!(side.pipe.pages(), 0);
        }
        assert_eq!(self.pool.free(), self.pool.made());
    }
}

/// A server with one certificate for `localhost`, and a client that trusts it.
pub(super) fn both(options: &ServerOptions) -> (ServerTls, ClientTls) {
    let authority = Authority::new("both");
    let server = ServerTls::new(authority.store(&["localhost"]), options).unwrap();
    let options = ClientOptions { ca: Some(authority.file()), ..ClientOptions::default() };
    (server, ClientTls::new(&options).unwrap().with_alpn(&["http/1.1"]))
}
