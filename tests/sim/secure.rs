//! TLS of the scripted ends: rustls without sockets, independent of the program's own use of it.
//!
//! Certificates and keys are Ed25519 with fixed serial numbers: every record of a run has the same length each time, so
//! that a seed still decides everything that matters.

use std::io::{ErrorKind, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_ED25519};
use ringgate::ring::sim::{ActorIo, ConnId};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection};
use tempfile::TempDir;

/// The names of the certificate: those of all requests, and of the servers.
const NAMES: [&str; 3] = ["one.test", "two.test", "nowhere.test"];

/// A certificate authority, one certificate, and what both sides make of them.
pub struct Material {
    folder: TempDir,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Material {
    pub fn new() -> Self {
        let ca_key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut ca = CertificateParams::default();
        ca.distinguished_name.push(DnType::CommonName, "ringgate simulator");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.serial_number = Some(vec![1, 2, 3].into());
        let ca_certificate = ca.self_signed(&ca_key).unwrap();
        let issuer = Issuer::new(ca, ca_key);
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut params = CertificateParams::new(NAMES.map(String::from)).unwrap();
        params.serial_number = Some(vec![4, 5, 6].into());
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("ca.pem"), ca_certificate.pem()).unwrap();
        let both = certificate.pem() + &key.serialize_pem();
        std::fs::write(folder.path().join("site.pem"), both).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(ca_certificate.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let secret = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], secret)
            .unwrap();
        Self { folder, client: Arc::new(client), server: Arc::new(server) }
    }

    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    pub fn site(&self) -> PathBuf {
        self.folder.path().join("site.pem")
    }

    /// The client's configuration; each run has its own, so that runs do not share tickets.
    pub fn client(&self) -> Arc<ClientConfig> {
        let mut config = (*self.client).clone();
        config.resumption = rustls::client::Resumption::in_memory_sessions(16);
        Arc::new(config)
    }

    pub fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }
}

/// How an end of a connection speaks.
pub enum Secure {
    Plain,
    Tls(Box<Tls>),
}

/// TLS of one end.
pub struct Tls {
    connection: Connection,
    /// The other side said that it sends no more.
    ended: bool,
    /// The stream is to be ended once the handshake is done.
    shut_wanted: bool,
}

impl Secure {
    /// TLS as a client of `name`.
    pub fn client(config: &Arc<ClientConfig>, name: &str) -> Self {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut connection = ClientConnection::new(Arc::clone(config), name).unwrap();
        connection.set_buffer_limit(None);
        Self::new(Connection::Client(connection))
    }

    /// TLS as a server.
    pub fn server(config: &Arc<ServerConfig>) -> Self {
        let mut connection = ServerConnection::new(Arc::clone(config)).unwrap();
        connection.set_buffer_limit(None);
        Self::new(Connection::Server(connection))
    }

    fn new(connection: Connection) -> Self {
        Self::Tls(Box::new(Tls { connection, ended: false, shut_wanted: false }))
    }

    /// Sends `bytes`; with TLS also what the handshake wants to send.
    pub fn send(&mut self, io: &mut ActorIo<'_>, conn: ConnId, bytes: &[u8]) {
        match self {
            Self::Plain => io.send(conn, bytes),
            Self::Tls(tls) => {
                tls.connection.writer().write_all(bytes).unwrap();
                tls.flush(io, conn);
            }
        }
    }

    /// What came, without TLS. Errors: the stream is broken.
    pub fn received(&mut self, io: &mut ActorIo<'_>, conn: ConnId, bytes: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            Self::Plain => Ok(bytes.to_vec()),
            Self::Tls(tls) => tls.received(io, conn, bytes),
        }
    }

    /// Ends the stream; what was sent before arrives before.
    pub fn shut(&mut self, io: &mut ActorIo<'_>, conn: ConnId) {
        match self {
            Self::Plain => io.shut(conn),
            Self::Tls(tls) if tls.connection.is_handshaking() => tls.shut_wanted = true,
            Self::Tls(tls) => tls.goodbye(io, conn),
        }
    }

    /// Closes in an orderly way.
    pub fn close(&mut self, io: &mut ActorIo<'_>, conn: ConnId) {
        if let Self::Tls(tls) = self {
            tls.goodbye(io, conn);
        }
        io.close(conn);
    }

    /// True when the end that was just seen is the whole truth: nothing can have been cut off.
    pub const fn is_whole(&self) -> bool {
        match self {
            Self::Plain => true,
            Self::Tls(tls) => tls.ended,
        }
    }
}

impl Tls {
    fn flush(&mut self, io: &mut ActorIo<'_>, conn: ConnId) {
        let mut out = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut out).unwrap();
        }
        if !out.is_empty() {
            io.send(conn, &out);
        }
    }

    fn goodbye(&mut self, io: &mut ActorIo<'_>, conn: ConnId) {
        self.connection.send_close_notify();
        self.flush(io, conn);
        io.shut(conn);
    }

    fn received(&mut self, io: &mut ActorIo<'_>, conn: ConnId, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let mut rest = bytes;
        let mut plain = Vec::new();
        while !rest.is_empty() {
            self.connection.read_tls(&mut rest).map_err(|error| error.to_string())?;
            let processed = self.connection.process_new_packets();
            match self.connection.reader().read_to_end(&mut plain) {
                Ok(_) => self.ended = true,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.to_string()),
            }
            if let Err(error) = processed {
                self.flush(io, conn);
                return Err(error.to_string());
            }
            if self.ended {
                break;
            }
        }
        self.flush(io, conn);
        if self.shut_wanted && !self.connection.is_handshaking() {
            self.shut_wanted = false;
            self.goodbye(io, conn);
        }
        Ok(plain)
    }
}
