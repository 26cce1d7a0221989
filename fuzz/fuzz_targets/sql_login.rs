//! What comes before a MySQL login is through: nothing panics, nothing is read from outside, and what is read is written to
//! mean the same.
//!
//! The first four bytes are the capabilities that were offered.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use ringgate::mysql::auth::{Password, Plugin, Secret, base64, crypt, ed25519, native, sha2};
use ringgate::mysql::facts::Capabilities;
use ringgate::mysql::handshake::{
    ChangeUser, First, Greeting, LoginReply, Response, SslRequest, attributes, scramble_of,
};

fuzz_target!(|bytes: &[u8]| {
    let Some((flags, payload)) = bytes.split_first_chunk() else { return };
    let offered = Capabilities(u64::from(u32::from_le_bytes(*flags)) | 7 << 34);
    if let Ok(First::Greeting(greeting)) = First::parse(payload) {
        let mut out = Vec::new();
        greeting.write(&mut out);
        assert_eq!(Greeting::parse(&out), Ok(greeting));
    }
    let wish = SslRequest::is_one(payload);
    assert!(!wish || payload.len() == 32);
    if let Ok(response) = Response::parse(payload, offered) {
        let pairs: usize =
            attributes(response.attributes).map(|(name, value)| name.len() + value.len() + 2).sum();
        assert!(pairs <= response.attributes.len());
        let mut out = Vec::new();
        response.write(&mut out);
        assert_eq!(Response::parse(&out, Capabilities(u64::MAX)), Ok(response));
    }
    if let Ok(change) = ChangeUser::parse(payload, offered) {
        let mut out = Vec::new();
        change.write(&mut out, offered);
        assert_eq!(ChangeUser::parse(&out, offered), Ok(change));
    }
    if let Ok(LoginReply::Switch { plugin, data }) = LoginReply::parse(payload) {
        let _ = (Plugin::of_name(plugin), scramble_of(data));
    }
    answers(payload);
});

/// The public key of a password; making one is slow.
static KEY: LazyLock<[u8; 32]> = LazyLock::new(|| ed25519::Key::of_password(b"secret").public());

/// Answers of clients who do not know the password, and what an account's row may hold.
fn answers(payload: &[u8]) {
    let scramble = b"abcdefghijklmnopqrst";
    let secret = native::stored_of(&native::secret_of(b"secret"));
    assert!(native::verify(payload, scramble, &secret).is_none());
    assert!(sha2::verify(payload, scramble, &Secret::new(&[7; 32])).is_none());
    assert!(!ed25519::verify(payload, &[7; 32], &KEY));
    if let Some(password) = Password::from_packet(payload) {
        assert!(password.reveal().len() < payload.len());
    }
    let _ = (native::parse_stored(payload), crypt::Stored::parse(payload), ed25519::parse_stored(payload));
    if let Some(decoded) = base64::decode(payload) {
        let text = base64::encode(&decoded);
        assert_eq!(unpadded(text.as_bytes()), unpadded(payload));
    }
}

/// A text without padding.
fn unpadded(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| *byte != b'=').map_or(0, |at| at + 1);
    &text[..end]
}
