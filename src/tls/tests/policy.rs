//! Who may connect, with which certificate, and which sessions may be resumed where.

use std::sync::Mutex;

use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, NamedGroup};

use super::*;

fn trusting(authority: &Authority) -> ClientTls {
    ClientTls::new(&ClientOptions { ca: Some(authority.file()), ..ClientOptions::default() }).unwrap()
}

/// A folder's certificates under these names, all of one authority.
fn sites(authority: &Authority, sites: &[(&str, &[&str], &'static SignatureAlgorithm)]) -> Store {
    let paths: Vec<PathBuf> =
        sites.iter().map(|(file, names, algorithm)| authority.leaf_file(file, names, algorithm)).collect();
    Store::load(&paths, now()).unwrap().0
}

/// The subject of the certificate that a client gets under a name.
fn shown(
    server: &ServerTls,
    config: &Arc<ClientConfig>,
    name: &str,
) -> (String, HandshakeKind, ClientConnection) {
    let mut client = ClientConnection::new(Arc::clone(config), name.to_owned().try_into().unwrap()).unwrap();
    let mut side = Side::new(Pipe::accept(server).unwrap());
    let mut pool = Pool::new(64);
    while client.is_handshaking() || client.wants_write() {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        side.receive(&bytes, usize::MAX, &mut pool);
        assert_eq!(side.error, None, "{name}");
        let sent = side.sent(&mut pool);
        let mut rest = &sent[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets().unwrap();
        }
    }
    let subject = subject::of_certificate(&client.peer_certificates().unwrap()[0]).unwrap();
    (subject, client.handshake_kind().unwrap(), client)
}

fn anyone() -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    config.dangerous().set_certificate_verifier(Arc::new(crate::tls::client::Unverified::new()));
    config
}

#[test]
fn the_name_chooses_the_certificate() {
    let authority = Authority::new("sites");
    let ecdsa = &rcgen::PKCS_ECDSA_P256_SHA256;
    let store = sites(
        &authority,
        &[
            ("first.pem", &["first.example"], ecdsa),
            ("exact.pem", &["a.wild.example"], ecdsa),
            ("wild.pem", &["*.wild.example"], ecdsa),
            ("two.pem", &["Two.Example", "www.two.example"], ecdsa),
            ("again.pem", &["www.two.example"], ecdsa),
        ],
    );
    let server = ServerTls::new(store, &ServerOptions::default()).unwrap();
    let config = Arc::new(anyone());
    for (name, subject, covered) in [
        ("first.example", "CN=first.example", true),
        ("a.wild.example", "CN=a.wild.example", true),
        ("b.wild.example", "CN=*.wild.example", true),
        ("B.WILD.example", "CN=*.wild.example", true),
        ("a.b.wild.example", "CN=first.example", false),
        ("wild.example", "CN=first.example", false),
        ("two.example", "CN=Two.Example", true),
        ("www.two.example", "CN=Two.Example", true),
        ("unknown.example", "CN=first.example", false),
        ("127.0.0.1", "CN=first.example", false),
    ] {
        assert_eq!(shown(&server, &config, name).0, subject, "{name}");
        assert_eq!(server.covers(name), covered, "{name}");
    }
    for (name, covered) in [
        ("FIRST.example.", true),
        ("", false),
        (".", false),
        (".wild.example", false),
        ("*.wild.example", true),
    ] {
        assert_eq!(server.covers(name), covered, "{name}");
    }
    assert!(!server.covers(&"a.".repeat(200)));
}

#[test]
fn what_the_client_can_verify_chooses_the_kind_of_key() {
    let authority = Authority::new("kinds");
    let store = sites(
        &authority,
        &[
            ("rsa.pem", &["rsa", "both.example"], &rcgen::PKCS_RSA_SHA256),
            ("ecdsa.pem", &["ecdsa", "both.example"], &rcgen::PKCS_ECDSA_P256_SHA256),
        ],
    );
    let server = ServerTls::new(store, &ServerOptions::default()).unwrap();
    let suites = |text: &str| {
        let mut chosen = rustls::crypto::CryptoProvider::clone(&provider());
        chosen.cipher_suites.retain(|suite| suite.suite().as_str().unwrap().contains(text));
        let version = if text == "TLS13" { &rustls::version::TLS13 } else { &rustls::version::TLS12 };
        let mut config = ClientConfig::builder_with_provider(Arc::new(chosen))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        config.dangerous().set_certificate_verifier(Arc::new(crate::tls::client::Unverified::new()));
        Arc::new(config)
    };
    for (text, subject) in [("TLS13", "CN=ecdsa"), ("_ECDHE_ECDSA_", "CN=ecdsa"), ("_ECDHE_RSA_", "CN=rsa")] {
        assert_eq!(shown(&server, &suites(text), "both.example").0, subject, "{text}");
    }
}

#[test]
fn key_exchange_is_post_quantum_by_default_and_costs_no_second_round_otherwise() {
    let (server, _) = both(&ServerOptions::default());
    let classic = |groups: &[NamedGroup]| {
        let mut chosen = rustls::crypto::CryptoProvider::clone(&provider());
        chosen.kx_groups.retain(|group| groups.contains(&group.name()));
        let mut config = ClientConfig::builder_with_provider(Arc::new(chosen))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        config.dangerous().set_certificate_verifier(Arc::new(crate::tls::client::Unverified::new()));
        Arc::new(config)
    };
    for (groups, expected) in [
        (&[NamedGroup::X25519MLKEM768, NamedGroup::X25519][..], NamedGroup::X25519MLKEM768),
        (&[NamedGroup::X25519], NamedGroup::X25519),
        (&[NamedGroup::X25519, NamedGroup::secp256r1], NamedGroup::X25519),
        (&[NamedGroup::secp256r1], NamedGroup::secp256r1),
        (&[NamedGroup::secp384r1], NamedGroup::secp384r1),
    ] {
        let (_, kind, client) = shown(&server, &classic(groups), "localhost");
        assert_eq!(kind, HandshakeKind::Full, "{groups:?}");
        assert_eq!(client.negotiated_key_exchange_group().unwrap().name(), expected);
    }
}

#[test]
fn client_certificates_are_checked() {
    let (servers, people, strangers) =
        (Authority::new("servers"), Authority::new("people"), Authority::new("strangers"));
    let ecdsa = &rcgen::PKCS_ECDSA_P256_SHA256;
    let good = people.leaf_file("alice.pem", &["alice"], ecdsa);
    let foreign = strangers.leaf_file("mallory.pem", &["mallory"], ecdsa);
    let alice = Some("CN=alice");
    use ClientCertificate::{Off, Optional, Required};
    for (policy, file, subject, error, alert) in [
        (Off, None, None, None, 0),
        (Off, Some(&good), None, None, 0),
        (Optional, None, None, None, 0),
        (Optional, Some(&good), alice, None, 0),
        (Optional, Some(&foreign), None, Some(TlsError::CertificateUntrusted), 48),
        (Required, Some(&good), alice, None, 0),
        (Required, None, None, Some(TlsError::CertificateMissing), 116),
        (Required, Some(&foreign), None, Some(TlsError::CertificateUntrusted), 48),
    ] {
        for version in [Version::Tls12, Version::Tls13] {
            let options =
                ServerOptions { client_ca: Some(people.file()), client_certificate: policy, ..only(version) };
            let server = ServerTls::new(servers.store(&["localhost"]), &options).unwrap();
            assert_eq!(server.client_certificate(), policy);
            let options = ClientOptions {
                ca: Some(servers.file()),
                certificate: file.cloned(),
                ..ClientOptions::default()
            };
            let client = ClientTls::new(&options).unwrap();
            for round in 0..2 {
                let mut pair = Pair::new(&server, &client, "localhost");
                pair.handshake();
                assert_eq!(pair.server.error, error, "{policy:?} {file:?} {version:?}");
                assert_eq!(pair.server.pipe.subject(), subject, "{policy:?} {version:?} {round}");
                if error.is_some() {
                    assert_eq!(pair.client.error, Some(TlsError::Alert(alert)), "{policy:?} {version:?}");
                } else {
                    // Also when resumed, the subject is known.
                    assert_eq!(pair.server.pipe.resumed(), round == 1, "{policy:?} {version:?}");
                }
                pair.end();
            }
        }
    }
    let options = ServerOptions { client_certificate: Required, ..ServerOptions::default() };
    let error = ServerTls::new(servers.store(&["localhost"]), &options).unwrap_err();
    assert!(error.what.contains("no authority"), "{error}");
}

#[test]
fn servers_are_verified() {
    let (known, unknown) = (Authority::new("known"), Authority::new("unknown"));
    let server =
        ServerTls::new(known.store(&["app.example", "127.0.0.1"]), &ServerOptions::default()).unwrap();
    let cases = [
        (&known, None::<&str>, "app.example", true, None),
        (&known, None, "127.0.0.1", true, None),
        (&known, Some("app.example"), "10.0.0.1", true, None),
        (&known, None, "10.0.0.1", true, Some(TlsError::CertificateName)),
        (&known, Some("other.example"), "app.example", true, Some(TlsError::CertificateName)),
        (&unknown, None, "app.example", true, Some(TlsError::CertificateUntrusted)),
        (&unknown, None, "10.0.0.1", false, None),
    ];
    for (authority, name, address, verify, error) in cases {
        let options = ClientOptions {
            verify,
            ca: Some(authority.file()),
            server_name: name.map(Into::into),
            ..ClientOptions::default()
        };
        let client = ClientTls::new(&options).unwrap();
        let mut pair = Pair::new(&server, &client, address);
        pair.handshake();
        assert_eq!(pair.client.error, error, "{name:?} {address}");
        assert_eq!(pair.server.error.is_some(), error.is_some());
        let asked = name.or((address == "app.example").then_some(address));
        if error.is_none() {
            assert_eq!(pair.server.pipe.server_name(), asked);
        }
        pair.end();
    }
    let client = trusting(&known);
    assert_eq!(Pipe::connect(&client, "not a name").unwrap_err(), TlsError::ServerName);
    let options = ClientOptions { server_name: Some("not a name".into()), ..ClientOptions::default() };
    assert!(ClientTls::new(&options).unwrap_err().what.contains("not a name"));
}

#[test]
fn the_system_knows_authorities() {
    // The package ca-certificates is among what the tests need.
    let error = ClientTls::new(&ClientOptions::default()).err();
    assert!(error.is_none(), "install ca-certificates: {error:?}");
}

#[test]
fn sessions_resume_on_every_worker() {
    let authority = Authority::new("workers");
    for version in [Version::Tls12, Version::Tls13] {
        let server = ServerTls::new(authority.store(&["localhost"]), &only(version)).unwrap();
        let client = trusting(&authority);
        let first = Pair::new(&server, &client, "localhost");
        let resumed = |mut pair: Pair| {
            pair.works();
            let resumed = pair.server.pipe.resumed();
            assert_eq!(pair.client.pipe.resumed(), resumed);
            pair.end();
            resumed
        };
        assert!(!resumed(first));
        for _ in 0..4 {
            let (server, client) = (server.clone(), client.clone());
            let worker = std::thread::spawn(move || {
                let mut pair = Pair::new(&server, &client, "localhost");
                pair.works();
                let resumed = pair.server.pipe.resumed();
                pair.end();
                resumed
            });
            assert!(worker.join().unwrap(), "{version:?}");
        }
    }
}

/// Remembers the last session whatever the server's name was: a client that tries what it should not.
#[derive(Debug, Default)]
struct Careless {
    ticket_13: Mutex<Option<Tls13ClientSessionValue>>,
    session_12: Mutex<Option<Tls12ClientSessionValue>>,
}

impl ClientSessionStore for Careless {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}
    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }
    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        *self.session_12.lock().unwrap() = Some(value);
    }
    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.session_12.lock().unwrap().clone()
    }
    fn remove_tls12_session(&self, _: &ServerName<'static>) {}
    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        *self.ticket_13.lock().unwrap() = Some(value);
    }
    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.ticket_13.lock().unwrap().take()
    }
}

#[test]
fn a_session_resumes_only_under_its_name_and_policy() {
    let (servers, people) = (Authority::new("servers"), Authority::new("people"));
    for version in [Version::Tls12, Version::Tls13] {
        let with = |client_certificate| {
            let client_ca = Some(people.file());
            let options = ServerOptions { client_ca, client_certificate, ..only(version) };
            ServerTls::new(servers.store(&["*.example"]), &options).unwrap()
        };
        let open = with(ClientCertificate::Off);
        let other = with(ClientCertificate::Off);
        let strict = with(ClientCertificate::Optional);
        let heir = with(ClientCertificate::Off).replacing(&open);
        let strict_heir = with(ClientCertificate::Optional).replacing(&open);
        for (second, name, resumes) in [
            (&open, "a.example", true),
            (&open, "b.example", false),
            (&other, "a.example", false),
            (&strict, "a.example", false),
            (&heir, "a.example", true),
            (&strict_heir, "a.example", false),
        ] {
            let mut config = anyone();
            config.resumption = Resumption::store(Arc::new(Careless::default()));
            let config = Arc::new(config);
            assert_eq!(shown(&open, &config, "a.example").1, HandshakeKind::Full);
            let expected = if resumes { HandshakeKind::Resumed } else { HandshakeKind::Full };
            assert_eq!(shown(second, &config, name).1, expected, "{version:?} {name}");
        }
    }
}

#[test]
fn nothing_secret_is_printed() {
    let (server, client) = both(&ServerOptions::default());
    let pipe = Pipe::accept(&server).unwrap();
    let text = format!("{server:?} {client:?} {pipe:?}");
    assert!(text.len() < 300, "{text}");
}

#[test]
fn versions_must_make_sense() {
    let options = ServerOptions { min: Version::Tls13, max: Version::Tls12, ..ServerOptions::default() };
    let error = ServerTls::new(Authority::new("x").store(&["localhost"]), &options).unwrap_err();
    assert!(error.to_string().contains("lowest TLS version"), "{error}");
}
