//! What TLS costs the server: handshakes, small and large records, memory per idle connection. [`Pipe`] beside the two
//! ways of using rustls alone. Only the server's own time counts; the client is rustls's ordinary one.
//!
//! `cargo bench --bench tls` prints the median microseconds of many rounds, in turn, so that a busy machine disturbs all
//! three alike; `cargo bench --bench tls -- memory` prints bytes per idle connection, each way in a process of its own;
//! `-- certificates` loads 50,000 certificates.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use std::cell::RefCell;
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringgate::buf::{Chunk, Pool, Queue};
use ringgate::clock;
use ringgate::tls::certs::Store;
use ringgate::tls::{Pipe, ServerOptions, ServerTls, demo};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::ConnectionState;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The server's side, however it is made.
trait Server {
    /// Takes cipher bytes; what it has to say is appended to `out`, data to `plain`.
    fn receive(&mut self, bytes: &[u8], plain: &mut Vec<u8>, out: &mut Vec<u8>);
    /// Encrypts.
    fn send(&mut self, bytes: &[u8], out: &mut Vec<u8>);
}

thread_local! {
    /// The pages of a worker, shared by its connections.
    static POOL: RefCell<Pool> = const { RefCell::new(Pool::new(1024)) };
}

fn drain(mut queue: Queue, to: &mut Vec<u8>, pool: &mut Pool) {
    while let Some(chunk) = queue.pop() {
        to.extend_from_slice(chunk.bytes());
        pool.give(chunk.into_page());
    }
}

impl Server for Pipe {
    fn receive(&mut self, bytes: &[u8], plain: &mut Vec<u8>, out: &mut Vec<u8>) {
        POOL.with_borrow_mut(|pool| {
            let (mut data, mut records) = (Queue::new(), Queue::new());
            for part in bytes.chunks(16 * 1024) {
                let mut chunk = Chunk::empty(pool.take().unwrap());
                chunk.append(part);
                self.received(chunk, &mut data, &mut records, pool).unwrap();
            }
            drain(data, plain, pool);
            drain(records, out, pool);
        });
    }

    fn send(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        POOL.with_borrow_mut(|pool| {
            let (mut data, mut records) = (Queue::new(), Queue::new());
            for part in bytes.chunks(16 * 1024) {
                let mut chunk = Chunk::empty(pool.take().unwrap());
                chunk.append(part);
                data.push(chunk, pool);
            }
            self.encrypt(&mut data, &mut records, usize::MAX, pool).unwrap();
            drain(records, out, pool);
        });
    }
}

impl Server for Box<ServerConnection> {
    fn receive(&mut self, mut bytes: &[u8], plain: &mut Vec<u8>, out: &mut Vec<u8>) {
        let mut room = [0; 16 * 1024];
        while !bytes.is_empty() {
            self.read_tls(&mut bytes).unwrap();
            let state = self.process_new_packets().unwrap();
            let mut left = state.plaintext_bytes_to_read();
            while left > 0 {
                let count = self.reader().read(&mut room).unwrap();
                plain.extend_from_slice(&room[..count]);
                left -= count;
            }
        }
        while self.wants_write() {
            self.write_tls(out).unwrap();
        }
    }

    fn send(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            let count = self.writer().write(bytes).unwrap();
            bytes = &bytes[count..];
            while self.wants_write() {
                self.write_tls(out).unwrap();
            }
        }
    }
}

struct Unbuffered {
    connection: Box<UnbufferedServerConnection>,
    held: Vec<u8>,
}

impl Server for Unbuffered {
    fn receive(&mut self, bytes: &[u8], plain: &mut Vec<u8>, out: &mut Vec<u8>) {
        self.held.extend_from_slice(bytes);
        loop {
            let status = self.connection.process_tls_records(&mut self.held);
            let mut discard = status.discard;
            let mut room = [0; 16 * 1024];
            let stop = match status.state.unwrap() {
                ConnectionState::EncodeTlsData(mut data) => {
                    let count = data.encode(&mut room).unwrap();
                    out.extend_from_slice(&room[..count]);
                    false
                }
                ConnectionState::TransmitTlsData(data) => {
                    data.done();
                    false
                }
                ConnectionState::ReadTraffic(mut data) => {
                    while let Some(record) = data.next_record() {
                        let record = record.unwrap();
                        discard += record.discard;
                        plain.extend_from_slice(record.payload);
                    }
                    false
                }
                _ => true,
            };
            self.held.drain(..discard);
            if stop {
                break;
            }
        }
        if self.held.is_empty() {
            self.held = Vec::new();
        }
    }

    fn send(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for part in bytes.chunks(16 * 1024) {
            let status = self.connection.process_tls_records(&mut []);
            let ConnectionState::WriteTraffic(mut traffic) = status.state.unwrap() else {
                panic!("no traffic")
            };
            let at = out.len();
            out.resize(at + part.len() + 64, 0);
            let count = traffic.encrypt(part, &mut out[at..]).unwrap();
            out.truncate(at + count);
        }
    }
}

/// The same policy for all three ways.
struct Setup {
    tls: ServerTls,
    config: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Pipe,
    Buffered,
    Unbuffered,
}

const WAYS: [(Way, &str); 3] =
    [(Way::Pipe, "pipe"), (Way::Buffered, "rustls buffered"), (Way::Unbuffered, "rustls unbuffered")];

fn with_suites(names: &[&str]) -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|suite| names.contains(&suite.suite().as_str().unwrap()));
    provider
}

const AES_128: &str = "TLS13_AES_128_GCM_SHA256";
const AES_256: &str = "TLS13_AES_256_GCM_SHA384";
const CHACHA: &str = "TLS13_CHACHA20_POLY1305_SHA256";

fn setup(suite: &str, resume: bool, post_quantum: bool) -> Setup {
    let (store, _) = demo::certificate(&["localhost"], clock::wall()).unwrap();
    let tls = ServerTls::new(store, &ServerOptions::default()).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap().self_signed(&key).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(certificate.pem().as_bytes()).unwrap()];
    let der = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(with_suites(&[AES_128, AES_256, CHACHA])))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, der)
        .unwrap();
    config.send_tls13_tickets = 1;
    config.ticketer = aws_lc_rs::Ticketer::new().unwrap();
    let mut provider = with_suites(&[suite]);
    if !post_quantum {
        provider.kx_groups.retain(|group| group.name() == rustls::NamedGroup::X25519);
    }
    let mut client = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    client.dangerous().set_certificate_verifier(Arc::new(anyone::Anyone));
    if !resume {
        client.resumption = rustls::client::Resumption::disabled();
    }
    Setup { tls, config: Arc::new(config), client: Arc::new(client) }
}

mod anyone {
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{DigitallySignedStruct, Error, SignatureScheme};

    #[derive(Debug)]
    pub struct Anyone;

    impl ServerCertVerifier for Anyone {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::RSA_PSS_SHA256]
        }
    }
}

impl Setup {
    fn server(&self, way: Way) -> Box<dyn Server> {
        match way {
            Way::Pipe => Box::new(Pipe::accept(&self.tls).unwrap()),
            Way::Buffered => Box::new(Box::new(ServerConnection::new(Arc::clone(&self.config)).unwrap())),
            Way::Unbuffered => Box::new(Unbuffered {
                connection: Box::new(UnbufferedServerConnection::new(Arc::clone(&self.config)).unwrap()),
                held: Vec::new(),
            }),
        }
    }

    fn client(&self) -> ClientConnection {
        ClientConnection::new(Arc::clone(&self.client), ServerName::try_from("localhost").unwrap()).unwrap()
    }
}

fn client_sends(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

fn client_receives(client: &mut ClientConnection, mut bytes: &[u8]) {
    let mut room = [0; 16 * 1024];
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).unwrap();
        client.process_new_packets().unwrap();
        while client.reader().read(&mut room).is_ok_and(|count| count > 0) {}
    }
}

/// A whole handshake; the server's time.
fn handshake(server: &mut dyn Server, client: &mut ClientConnection) -> Duration {
    let mut spent = Duration::ZERO;
    let (mut plain, mut out) = (Vec::new(), Vec::with_capacity(8192));
    loop {
        let up = client_sends(client);
        if up.is_empty() {
            return spent;
        }
        let start = Instant::now();
        server.receive(&up, &mut plain, &mut out);
        spent += start.elapsed();
        client_receives(client, &out);
        out.clear();
    }
}

/// The median of the server's time over `rounds`, for each way in turn, as a row of a table.
fn row(name: &str, rounds: usize, mut measure: impl FnMut(usize) -> Duration) {
    let mut spent: [Vec<Duration>; WAYS.len()] = Default::default();
    for _ in 0..rounds {
        for (way, spent) in spent.iter_mut().enumerate() {
            spent.push(measure(way));
        }
    }
    print!("| {name} |");
    for mut spent in spent {
        spent.sort();
        print!(" {:.2} |", spent[rounds / 2].as_secs_f64() * 1e6);
    }
    println!();
}

fn handshakes(filter: &str) {
    for (suite, resume, post_quantum, name) in [
        (AES_128, false, false, "handshake, full, X25519, AES-128"),
        (AES_256, false, false, "handshake, full, X25519, AES-256"),
        (AES_128, false, true, "handshake, full, X25519MLKEM768, AES-128"),
        (AES_128, true, false, "handshake, resumed, X25519, AES-128"),
        (AES_256, true, false, "handshake, resumed, X25519, AES-256"),
        (AES_128, true, true, "handshake, resumed, X25519MLKEM768, AES-128"),
    ] {
        if !name.contains(filter) {
            continue;
        }
        // Each way has its own tickets.
        let setups = WAYS.map(|_| setup(suite, resume, post_quantum));
        row(name, 500, |way| {
            let setup = &setups[way];
            let mut client = setup.client();
            let start = Instant::now();
            let mut server = setup.server(WAYS[way].0);
            let mut spent = start.elapsed();
            spent += handshake(&mut *server, &mut client);
            let start = Instant::now();
            drop(server);
            spent + start.elapsed()
        });
    }
}

fn data(filter: &str) {
    for (suite, name) in [(AES_128, "AES-128"), (AES_256, "AES-256"), (CHACHA, "ChaCha20")] {
        for (up, down) in [(200, 200), (200, 16 * 1024), (200, 1024 * 1024), (1024 * 1024, 200)] {
            let name = format!("data, {name}, {up} bytes in, {down} bytes out");
            if !name.contains(filter) {
                continue;
            }
            let setup = setup(suite, false, false);
            let mut sides = WAYS.map(|(way, _)| {
                let (mut server, mut client) = (setup.server(way), setup.client());
                client.set_buffer_limit(None);
                handshake(&mut *server, &mut client);
                (server, client)
            });
            let (sent, answer) = (vec![b'x'; up], vec![b'y'; down]);
            let (mut plain, mut out) = (Vec::with_capacity(2 << 20), Vec::with_capacity(2 << 20));
            row(&name, 1000, |way| {
                let (server, client) = &mut sides[way];
                client.writer().write_all(&sent).unwrap();
                let bytes = client_sends(client);
                plain.clear();
                out.clear();
                let start = Instant::now();
                server.receive(&bytes, &mut plain, &mut out);
                server.send(&answer, &mut out);
                let spent = start.elapsed();
                assert_eq!(plain.len(), up);
                spent
            });
        }
    }
}

/// Resident bytes of this process.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

fn memory(way: Way, label: &str) {
    let setup = setup(AES_128, false, true);
    let make = |count: usize| {
        let connections: Vec<_> = (0..count)
            .map(|_| {
                let (mut server, mut client) = (setup.server(way), setup.client());
                handshake(&mut *server, &mut client);
                client.writer().write_all(&[b'x'; 200]).unwrap();
                let bytes = client_sends(&mut client);
                let (mut plain, mut out) = (Vec::new(), Vec::new());
                server.receive(&bytes, &mut plain, &mut out);
                server.send(&[b'y'; 200], &mut out);
                server
            })
            .collect();
        connections
    };
    drop(make(100));
    let before = resident();
    let connections = make(4000);
    println!("{label}: {} bytes per idle connection", (resident() - before) / connections.len());
}

/// Processor time of this process, all threads.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split_whitespace().collect();
    // utime and stime, in hundredths of a second.
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

/// How long it takes to load very many certificates from a folder.
fn certificates(count: usize) {
    let key = || rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = rcgen::CertifiedIssuer::self_signed(params, key()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for at in 0..count {
        let key = key();
        let params = rcgen::CertificateParams::new(vec![format!("site-{at}.example")]).unwrap();
        let leaf = params.signed_by(&key, &authority).unwrap();
        let pem = format!("{}{}{}", leaf.pem(), authority.pem(), key.serialize_pem());
        std::fs::write(folder.path().join(format!("{at}.pem")), pem).unwrap();
    }
    let (before, used, start) = (resident(), processor_time(), Instant::now());
    let (store, _) = Store::load(&[folder.path().to_owned()], clock::wall()).unwrap();
    let tls = ServerTls::new(store, &ServerOptions::default()).unwrap();
    let (spent, bytes) = (start.elapsed(), resident() - before);
    assert!(tls.covers("site-0.example"));
    let used = processor_time() - used;
    println!("{count} certificates: {spent:.1?}, {used:.1?} of processor time, {} bytes each", bytes / count);
}

fn main() {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["certificates"] => certificates(50_000),
        ["memory"] => {
            for way in ["pipe", "buffered", "unbuffered"] {
                let program = std::env::current_exe().unwrap();
                assert!(
                    std::process::Command::new(program).args(["memory", way]).status().unwrap().success()
                );
            }
            println!("a Pipe alone: {} bytes", size_of::<Pipe>());
        }
        ["memory", "pipe"] => memory(Way::Pipe, "pipe"),
        ["memory", "buffered"] => memory(Way::Buffered, "rustls buffered"),
        ["memory", _] => memory(Way::Unbuffered, "rustls unbuffered"),
        ref filter => {
            println!(
                "| median microseconds | pipe | rustls buffered | rustls unbuffered |\n|---|---|---|---|"
            );
            let filter = filter.first().unwrap_or(&"");
            handshakes(filter);
            data(filter);
        }
    }
}
