use mysql_common::auth::plugins::caching_sha2_password::{CachingSha2Password, scramble_sha256};
use mysql_common::auth::plugins::client_ed25519::ClientEd25519;
use mysql_common::auth::plugins::mysql_native_password::scramble_native;
use mysql_common::auth::plugins::{ChallengeResponsePlugin, Context};

use super::*;

const SCRAMBLE: &Scramble = b"\x01\x02abcdefghijklmnopqr";
const PASSWORDS: &[&[u8]] = &[b"a", b"secret", "pässwörd".as_bytes(), &[b'x'; 200]];

/// What another implementation knows of the connection.
#[derive(Debug)]
struct Theirs<'a>(&'a [u8], Option<&'a [u8]>);

impl Context for &Theirs<'_> {
    fn pass(&self) -> &[u8] {
        self.0
    }
    fn is_ipc_transport(&self) -> bool {
        false
    }
    fn is_tls_transport(&self) -> bool {
        false
    }
    fn scramble(&self) -> &[u8] {
        SCRAMBLE
    }
    fn server_key_pem(&self) -> Option<&[u8]> {
        self.1
    }
}

#[test]
fn native_answers_are_those_of_another_implementation_and_give_the_secret() {
    for password in PASSWORDS {
        let secret = native::secret_of(password);
        let stored = native::stored_of(&secret);
        let answer = native::answer(&secret, SCRAMBLE);
        assert_eq!(Some(answer), scramble_native(SCRAMBLE, password));
        let found = native::verify(&answer, SCRAMBLE, &stored).unwrap();
        assert!(found.is(secret.reveal()));
        // With it the same login is made elsewhere.
        let other = [7; 20];
        assert_eq!(Some(native::answer(&found, &other)), scramble_native(&other, password));
        assert!(native::verify(&answer, &other, &stored).is_none());
        assert!(native::verify(&answer[..19], SCRAMBLE, &stored).is_none());
        assert!(native::verify(b"", SCRAMBLE, &stored).is_none());
    }
}

#[test]
fn a_stored_native_hash_is_read() {
    // SELECT PASSWORD('secret')
    let text = b"*14E65567ABDB5135D0CFD9A70B3032C179A49EE7";
    let stored = native::parse_stored(text).unwrap();
    assert!(stored.is(native::stored_of(&native::secret_of(b"secret")).reveal()));
    assert!(native::parse_stored(&text.to_ascii_lowercase()).is_some());
    for wrong in [&b""[..], b"*", &text[..40], &text[1..], b"*+4E65567ABDB5135D0CFD9A70B3032C179A49EE7"] {
        assert!(native::parse_stored(wrong).is_none(), "{wrong:?}");
    }
    assert!(native::parse_stored(b"invalid").is_none());
}

#[test]
fn sha2_answers_are_those_of_another_implementation_and_give_the_secret() {
    for password in PASSWORDS {
        let secret = sha2::secret_of(password);
        let remembered = sha2::remembered_of(&secret);
        let answer = sha2::answer(&secret, SCRAMBLE);
        assert_eq!(Some(answer), scramble_sha256(SCRAMBLE, password));
        let found = sha2::verify(&answer, SCRAMBLE, &remembered).unwrap();
        assert!(found.is(secret.reveal()));
        let other = [7; 20];
        assert_eq!(Some(sha2::answer(&found, &other)), scramble_sha256(&other, password));
        assert!(sha2::verify(&answer, &other, &remembered).is_none());
        assert!(sha2::verify(&answer[1..], SCRAMBLE, &remembered).is_none());
    }
}

#[test]
fn signatures_are_those_of_another_implementation() {
    let nonce = [9; 32];
    for password in PASSWORDS {
        let key = ed25519::Key::of_password(password);
        let theirs = Theirs(password, None);
        let answer = key.answer(&nonce);
        let response = ClientEd25519::default().run(&theirs, &nonce).unwrap();
        assert_eq!(response.data(), Some(&answer[..]));
        assert_eq!(ClientEd25519::default().password_hash(&theirs), Some(key.public().to_vec()));
        assert!(ed25519::verify(&answer, &nonce, &key.public()));
        assert!(!ed25519::verify(&answer, &[8; 32], &key.public()));
        assert!(!ed25519::verify(&answer[..63], &nonce, &key.public()));
        assert!(!ed25519::verify(&answer, &nonce, &ed25519::Key::of_password(b"other").public()));
        assert!(!ed25519::verify(&answer, &nonce, &[0xff; 32]));
    }
    // SELECT ed25519_password('secret')
    let stored = ed25519::parse_stored(b"ZIgUREUg5PVgQ6LskhXmO+eZLS0nC8be6HPjYWR4YJY");
    assert_eq!(stored, Some(ed25519::Key::of_password(b"secret").public()));
    assert_eq!(ed25519::parse_stored(b"ZIgUREUg5PVgQ6LskhXmO"), None);
}

#[test]
fn passwords_pass_encrypted_between_both_roles_and_another_implementation() {
    let key = rsa::ServerKey::generate().unwrap();
    for password in [&b""[..], b"secret", &[b'x'; 200]] {
        let ours = rsa::encrypt(password, SCRAMBLE, key.pem().as_bytes()).unwrap();
        assert_eq!(key.decrypt(&ours, SCRAMBLE).unwrap().reveal(), password);
        let other = key.decrypt(&ours, &[7; 20]);
        assert!(other.is_none_or(|other| other.reveal() != password));
        assert!(key.decrypt(&ours[1..], SCRAMBLE).is_none() && key.decrypt(b"", SCRAMBLE).is_none());
    }
    let theirs = Theirs(b"secret", Some(key.pem().as_bytes()));
    let mut plugin = CachingSha2Password::default();
    plugin.run(&theirs, SCRAMBLE).unwrap();
    let response = plugin.run(&theirs, &[sha2::PERFORM_FULL_AUTHENTICATION]).unwrap();
    assert_eq!(key.decrypt(response.data().unwrap(), SCRAMBLE).unwrap().reveal(), b"secret");
    let long = rsa::encrypt(&[b'x'; 250], SCRAMBLE, key.pem().as_bytes());
    assert_eq!(long, Err(rsa::BadKey::NotEncrypted));
    for pem in ["", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"] {
        assert_eq!(rsa::encrypt(b"x", SCRAMBLE, pem.as_bytes()), Err(rsa::BadKey::NotPem));
    }
}

#[test]
fn clear_passwords_end_with_a_nul() {
    assert_eq!(Password::from_packet(b"secret\0").unwrap().reveal(), b"secret");
    assert_eq!(Password::from_packet(b"\0").unwrap().reveal(), b"");
    assert!(Password::from_packet(b"secret").is_none() && Password::from_packet(b"").is_none());
    assert!(Password::from_packet(&[0; 258]).is_none() && Password::from_packet(&[0; 257]).is_some());
}

#[test]
fn secrets_print_nothing() {
    let secret = native::secret_of(b"secret");
    let told =
        format!("{secret:?} {:?} {:?}", Password::new(b"secret"), ed25519::Key::of_password(b"secret"));
    assert_eq!(told, "Secret Password Key");
}

#[test]
fn plugins_have_names() {
    assert_eq!(Plugin::of_name(b"ed25519"), Some(Plugin::Ed25519));
    for plugin in [Plugin::Native, Plugin::Sha2, Plugin::Ed25519, Plugin::Clear] {
        assert_eq!(Plugin::of_name(plugin.name()), Some(plugin));
    }
    assert_eq!(Plugin::of_name(b"sha256_password"), None);
}
