//! MariaDB's `ed25519`: the password's SHA-512 is an Ed25519 key, a login is a signature.
//!
//! A password or a stored public key and 32 random bytes go in; a signature or a verdict comes out. Owns nothing but the
//! key made of a password. Always true: from a signature nothing can be recovered, so a login as the client's user needs
//! the password. Source: mariadb.com/kb/en/authentication-plugin-ed25519; RFC 8032, 5.1.6.

use std::fmt;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign};
use ed25519_dalek::{Sha512, VerifyingKey};

use super::{Secret, base64, hash};

/// Bytes of the random data.
pub const NONCE_BYTES: usize = 32;
/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;
/// Bytes of a public key.
pub const KEY_BYTES: usize = 32;

/// The key pair of a password.
pub struct Key {
    secret: ExpandedSecretKey,
    public: VerifyingKey,
}

impl fmt::Debug for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Key")
    }
}

impl Key {
    /// Of this password.
    pub fn of_password(password: &[u8]) -> Self {
        let expanded: Secret<64> = hash(&aws_lc_rs::digest::SHA512, &[password]);
        let secret = ExpandedSecretKey::from_bytes(expanded.reveal());
        let public = VerifyingKey::from(&secret);
        Self { secret, public }
    }

    /// What a server stores.
    pub fn public(&self) -> [u8; KEY_BYTES] {
        self.public.to_bytes()
    }

    /// The answer to a server's random data.
    pub fn answer(&self, nonce: &[u8; NONCE_BYTES]) -> [u8; SIGNATURE_BYTES] {
        raw_sign::<Sha512>(&self.secret, nonce, &self.public).to_bytes()
    }
}

/// The public key in an account's `authentication_string`: base64 without padding.
pub fn parse_stored(text: &[u8]) -> Option<[u8; KEY_BYTES]> {
    base64::decode(text)?.try_into().ok()
}

/// Whether this is the answer to the random data of who knows the password.
pub fn verify(answer: &[u8], nonce: &[u8; NONCE_BYTES], stored: &[u8; KEY_BYTES]) -> bool {
    UnparsedPublicKey::new(&ED25519, stored).verify(nonce, answer).is_ok()
}
