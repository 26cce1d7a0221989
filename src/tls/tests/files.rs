//! Certificates on disk: every mistake is named with its file and advice.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::tls::certs::Notice;

const DAY: Duration = Duration::from_secs(24 * 3600);
const ECDSA: &SignatureAlgorithm = &rcgen::PKCS_ECDSA_P256_SHA256;

/// The PEM sections of a text.
fn sections(pem: &str) -> Vec<String> {
    pem.split_inclusive("-----END ")
        .collect::<String>()
        .split_inclusive("KEY-----")
        .flat_map(|part| part.split_inclusive("CERTIFICATE-----").collect::<Vec<_>>())
        .fold(Vec::<String>::new(), |mut all, part| {
            match all.last_mut() {
                Some(last) if !last.contains("-----END") => last.push_str(part),
                _ => all.push(part.to_owned()),
            }
            all
        })
        .into_iter()
        .map(|section| format!("{}\n", section.trim()))
        .filter(|section| section.len() > 1)
        .collect()
}

fn write(folder: &Path, file: &str, content: &str) -> PathBuf {
    let path = folder.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn load(path: &Path) -> Result<(Store, Vec<Notice>), Vec<CertError>> {
    Store::load(&[path.to_owned()], now())
}

fn names(store: &Store) -> Vec<String> {
    store.describe(now()).into_iter().flat_map(|certificate| certificate.names).collect()
}

fn dated(authority: &Authority, from: SystemTime, to: SystemTime) -> String {
    let mut params = CertificateParams::new(vec!["dated.example".into()]).unwrap();
    (params.not_before, params.not_after) = (from.into(), to.into());
    authority.leaf_of(params, ECDSA)
}

#[test]
fn splits_its_own_test_data() {
    let pem = Authority::new("sections").leaf(&["a"], ECDSA);
    let parts = sections(&pem);
    assert_eq!(parts.len(), 3);
    assert!(parts[2].contains("PRIVATE KEY") && parts.concat().len() >= pem.trim().len());
}

#[test]
fn finds_keys_in_every_usual_place() {
    let authority = Authority::new("places");
    let pem = authority.leaf(&["a.example"], ECDSA);
    let [leaf, issuer, key] = <[String; 3]>::try_from(sections(&pem)).unwrap();
    let chain = format!("{leaf}{issuer}");
    let layouts: [&[(&str, &str)]; 6] = [
        &[("site.pem", &pem)],
        &[("site.crt", &chain), ("site.key", &key)],
        &[("site.pem", &chain), ("site.pem.key", &key)],
        &[("fullchain.pem", &chain), ("privkey.pem", &key), ("cert.pem", &leaf), ("chain.pem", &issuer)],
        &[("a.example/fullchain.pem", &chain), ("a.example/privkey.pem", &key), ("README", "text")],
        &[("site.pem", &format!("{key}{chain}")), (".hidden.pem", "nonsense"), ("ca.crt", &issuer)],
    ];
    for files in layouts {
        let folder = tempfile::tempdir().unwrap();
        for (file, content) in files {
            write(folder.path(), file, content);
        }
        let (store, notices) = load(folder.path()).unwrap();
        assert_eq!(names(&store), ["a.example"], "{files:?}");
        assert_eq!(store.describe(now())[0].chain_len, 2);
        let told = notices.iter().map(|notice| notice.what.as_str()).collect::<String>();
        assert!(told.is_empty() || told.contains("only certificates of authorities"), "{told}");
    }
}

#[test]
fn names_every_mistake_with_its_file() {
    let (authority, other) = (Authority::new("authority"), Authority::new("other"));
    let pem = authority.leaf(&["a.example"], ECDSA);
    let [leaf, issuer, key] = <[String; 3]>::try_from(sections(&pem)).unwrap();
    let [_, foreign_issuer, foreign_key] =
        <[String; 3]>::try_from(sections(&other.leaf(&["b"], ECDSA))).unwrap();
    // The same name as the real issuer, but another key.
    let imposter = sections(&Authority::new("authority").leaf(&["c"], ECDSA)).remove(1);
    let weak = {
        // Made with `openssl req -x509 -newkey rsa:1024`, so that no slow or refused key generation is needed here.
        let folder = tempfile::tempdir().unwrap();
        let made = std::process::Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:1024", "-nodes", "-subj", "/CN=weak", "-days", "30"])
            .args(["-addext", "subjectAltName=DNS:weak.example", "-keyout", "key", "-out", "cert"])
            .current_dir(folder.path())
            .output()
            .expect("install openssl");
        assert!(made.status.success(), "{made:?}");
        ["cert", "key"].map(|file| fs::read_to_string(folder.path().join(file)).unwrap()).concat()
    };
    let nameless = authority.leaf_of(CertificateParams::new(vec![]).unwrap(), ECDSA);
    // Keys made here, under the names that encrypted ones have.
    let named = |kind: &str| key.replace("PRIVATE", &format!("{kind} PRIVATE"));
    let encrypted = format!("{leaf}{}", named("ENCRYPTED"));
    let old = format!("{leaf}{}", named("EC").replacen('\n', "\nProc-Type: 4,ENCRYPTED\n\n", 1));
    let table: [(&str, &str, &str); 17] = [
        ("empty.pem", "", "no certificate in it"),
        ("text.pem", "hello", "no certificate in it"),
        ("nokey.pem", &format!("{leaf}{issuer}"), "no key for this certificate"),
        ("keyonly.pem", &key, "no certificate in it"),
        ("otherkey.pem", &format!("{leaf}{issuer}{foreign_key}"), "does not match"),
        (
            "order.pem",
            &format!("{issuer}{leaf}{key}"),
            "broken chain: 'CN=authority' was issued by 'CN=authority', but 'CN=a.example' follows",
        ),
        (
            "foreign.pem",
            &format!("{leaf}{foreign_issuer}{key}"),
            "broken chain: 'CN=a.example' was issued by 'CN=authority', but 'CN=other' follows",
        ),
        ("imposter.pem", &format!("{leaf}{imposter}{key}"), "was not signed by the key of 'CN=authority'"),
        ("expired.pem", &dated(&authority, now() - DAY * 90, now() - DAY * 3), "expired 3 days ago"),
        ("early.pem", &dated(&authority, now() + DAY, now() + DAY * 3), "not valid yet"),
        ("encrypted.pem", &encrypted, "the key is encrypted"),
        ("old.pem", &old, "the key is encrypted"),
        ("weak.pem", &weak, "the RSA key has only 1024 bits"),
        ("nameless.pem", &nameless, "names no host"),
        ("cut.pem", &leaf[..leaf.len() - 40], "not well-formed PEM"),
        ("der.pem", "\u{30}\u{1}\u{2}", "is in DER form"),
        (
            "badder.pem",
            "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
            "cannot be understood",
        ),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (file, content, what) in &table {
        let path = write(folder.path(), file, content);
        let errors = load(&path).unwrap_err();
        assert_eq!(errors.len(), 1, "{file}: {errors:?}");
        assert!(errors[0].what.contains(what), "{file}: {}", errors[0]);
        assert_eq!(errors[0].file, path);
        assert!(!errors[0].advice.is_empty(), "{file}");
        assert!(errors[0].to_string().starts_with(&format!("{}: ", path.display())));
    }
    // All at once, in order of name.
    let errors = load(folder.path()).unwrap_err();
    assert_eq!(errors.len(), table.len());
    assert!(errors.is_sorted_by_key(|error| error.file.clone()));
}

#[test]
fn names_paths_that_lead_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.pem");
    assert!(load(&missing).unwrap_err()[0].what.contains("cannot be read"));
    let errors = load(folder.path()).unwrap_err();
    assert_eq!((errors.len(), errors[0].what.as_str()), (1, "no certificate found"));
    assert!(Store::load(&[], now()).is_err());
}

#[test]
fn notices_what_will_soon_be_wrong() {
    let authority = Authority::new("notices");
    let folder = tempfile::tempdir().unwrap();
    let soon = write(folder.path(), "soon.pem", &dated(&authority, now() - DAY, now() + DAY * 5 + DAY / 2));
    let (store, notices) = load(&soon).unwrap();
    assert_eq!(notices, [Notice { file: soon.clone(), what: "expires in 5 days".into() }]);
    let described = store.describe(now());
    assert_eq!((described[0].days_left, described[0].key.as_str()), (5, "ECDSA"));
    assert_eq!(described[0].issuer, "CN=notices");

    fs::set_permissions(&soon, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(load(&soon).unwrap().1.iter().any(|notice| notice.what.contains("every user")));

    let [leaf, _, key] = <[String; 3]>::try_from(sections(&authority.leaf(&["a.example"], ECDSA))).unwrap();
    let alone = write(folder.path(), "alone.pem", &format!("{leaf}{key}"));
    let (_, notices) = load(&alone).unwrap();
    assert!(
        notices[0].what.contains("no intermediate certificate") && notices[0].what.contains("CN=notices")
    );
}

#[test]
fn the_demonstration_certificate_works() {
    let (store, pem) = demo::certificate(&demo::LOCAL_NAMES, now()).unwrap();
    let server = ServerTls::new(store, &ServerOptions::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ca = write(folder.path(), "demo.pem", &pem);
    let client = ClientTls::new(&ClientOptions { ca: Some(ca), ..ClientOptions::default() }).unwrap();
    for name in demo::LOCAL_NAMES {
        assert!(server.covers(name), "{name}");
        let mut pair = Pair::new(&server, &client, name);
        pair.works();
        pair.end();
    }
    assert!(!pem.contains("KEY"));
}

#[test]
fn a_client_identity_names_its_mistakes() {
    let authority = Authority::new("identity");
    let folder = tempfile::tempdir().unwrap();
    let [leaf, _, key] = <[String; 3]>::try_from(sections(&authority.leaf(&["me"], ECDSA))).unwrap();
    let certificate = write(folder.path(), "me.crt", &leaf);
    let key = write(folder.path(), "elsewhere", &key);
    let with = |key: Option<PathBuf>| {
        let options = ClientOptions {
            ca: Some(authority.file()),
            certificate: Some(certificate.clone()),
            key,
            ..ClientOptions::default()
        };
        ClientTls::new(&options).map(|_| ()).map_err(|error| error.what)
    };
    assert_eq!(with(None), Err("no key for this certificate".into()));
    assert_eq!(with(Some(certificate.clone())), Err("no key in it".into()));
    assert_eq!(with(Some(key)), Ok(()));
}

#[test]
fn fifty_thousand_names_are_found_at_once() {
    let pem = Authority::new("many").leaf(&["seed.example"], ECDSA);
    let store = Store::from_pem(&pem, now()).unwrap().repeated(50_000, |at| format!("site-{at}.example"));
    let server = ServerTls::new(store, &ServerOptions::default()).unwrap();
    assert!(server.covers("site-0.example") && server.covers("Site-49999.example"));
    assert!(!server.covers("site-50000.example"));
}
