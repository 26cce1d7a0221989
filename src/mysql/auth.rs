//! Logging in: the arithmetic of the authentication plugins, in both roles.
//!
//! What is stored of a password, scrambles and answers go in; verdicts and answers to others come out. This file has the
//! two plugins that answer a scramble, [`native`] (`mysql_native_password`) and [`sha2`] (`caching_sha2_password`); the
//! slow path of the second stands in [`crypt`] and [`rsa`], MariaDB's `ed25519` in [`ed25519`]. Owns nothing but secrets,
//! each in a type that prints nothing and is wiped when dropped. Always true: secrets are compared in constant time; from
//! a good answer and what is stored, the secret of the client is recovered with which the same login can be made elsewhere.

pub mod base64;
pub mod crypt;
pub mod ed25519;
pub mod rsa;

#[cfg(test)]
mod tests;

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use zeroize::Zeroizing;

use super::handshake::Scramble;

/// The plugins that are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plugin {
    /// `mysql_native_password`.
    Native,
    /// `caching_sha2_password` of MySQL.
    Sha2,
    /// `client_ed25519`: MariaDB's `ed25519` as clients call it.
    Ed25519,
    /// `mysql_clear_password`: the password as it is, over TLS only.
    Clear,
}

impl Plugin {
    /// The name in packets.
    pub const fn name(self) -> &'static [u8] {
        match self {
            Self::Native => b"mysql_native_password",
            Self::Sha2 => b"caching_sha2_password",
            Self::Ed25519 => b"client_ed25519",
            Self::Clear => b"mysql_clear_password",
        }
    }

    /// By the name in packets, or the one in the table of accounts.
    pub fn of_name(name: &[u8]) -> Option<Self> {
        match name {
            b"ed25519" => Some(Self::Ed25519),
            _ => {
                let all = [Self::Native, Self::Sha2, Self::Ed25519, Self::Clear];
                all.into_iter().find(|plugin| plugin.name() == name)
            }
        }
    }
}

/// Bytes of a password that are taken, as the servers do.
pub const PASSWORD_BYTES_MAX: usize = 256;

/// A secret of a fixed length, such as the hash of a password.
#[derive(Clone)]
pub struct Secret<const N: usize>(Box<Zeroizing<[u8; N]>>);

impl<const N: usize> Secret<N> {
    /// Keeps these bytes.
    pub fn new(bytes: &[u8; N]) -> Self {
        Self(Box::new(Zeroizing::new(*bytes)))
    }

    /// The bytes, for who must send or hash them.
    pub fn reveal(&self) -> &[u8; N] {
        &self.0
    }

    /// Whether it is this, in constant time.
    pub fn is(&self, other: &[u8]) -> bool {
        verify_slices_are_equal(&self.0[..], other).is_ok()
    }
}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret")
    }
}

/// A password.
#[derive(Clone)]
pub struct Password(Zeroizing<Box<[u8]>>);

impl Password {
    /// Keeps these bytes.
    pub fn new(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// From what `mysql_clear_password` and `caching_sha2_password` send over TLS: the password and a NUL.
    pub fn from_packet(payload: &[u8]) -> Option<Self> {
        let (nul, password) = payload.split_last()?;
        let fits = *nul == 0 && password.len() <= PASSWORD_BYTES_MAX;
        fits.then(|| Self::new(password))
    }

    /// The bytes, for who must send or hash them.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Password")
    }
}

/// The hash of these parts, one after the other.
fn hash<const N: usize>(algorithm: &'static digest::Algorithm, parts: &[&[u8]]) -> Secret<N> {
    let mut context = digest::Context::new(algorithm);
    for part in parts {
        context.update(part);
    }
    let done = context.finish();
    let mut out = Secret::new(&[0; N]);
    for (place, byte) in out.0.iter_mut().zip(done.as_ref()) {
        *place = *byte;
    }
    out
}

fn xor<const N: usize>(one: &Secret<N>, other: &[u8; N]) -> Secret<N> {
    let mut out = one.clone();
    for (place, byte) in out.0.iter_mut().zip(other) {
        *place ^= byte;
    }
    out
}

/// `mysql_native_password`. The server stores SHA1(SHA1(password)); the client proves that it knows SHA1(password).
pub mod native {
    use super::{Scramble, Secret, hash, xor};
    use aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY as SHA1;

    /// Bytes of hashes and answers.
    pub const BYTES: usize = 20;

    /// SHA1(password): what answers scrambles.
    pub fn secret_of(password: &[u8]) -> Secret<BYTES> {
        hash(&SHA1, &[password])
    }

    /// SHA1(SHA1(password)): what a server stores.
    pub fn stored_of(secret: &Secret<BYTES>) -> Secret<BYTES> {
        hash(&SHA1, &[secret.reveal()])
    }

    /// What a server stores, from the form in its table of accounts: `*` and 40 hexadecimal digits.
    pub fn parse_stored(text: &[u8]) -> Option<Secret<BYTES>> {
        let digits = text.strip_prefix(b"*").filter(|digits| digits.len() == 2 * BYTES)?;
        let mut bytes = [0; BYTES];
        for (place, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).ok().filter(|pair| !pair.starts_with('+'))?;
            *place = u8::from_str_radix(pair, 16).ok()?;
        }
        Some(Secret::new(&bytes))
    }

    /// The answer to a scramble. An account without a password answers with nothing instead.
    pub fn answer(secret: &Secret<BYTES>, scramble: &Scramble) -> [u8; BYTES] {
        let mask = hash(&SHA1, &[scramble, stored_of(secret).reveal()]);
        *xor(&mask, secret.reveal()).reveal()
    }

    /// SHA1(password), if this is the answer to the scramble of who knows it.
    pub fn verify(answer: &[u8], scramble: &Scramble, stored: &Secret<BYTES>) -> Option<Secret<BYTES>> {
        let mask = hash(&SHA1, &[scramble, stored.reveal()]);
        let secret = xor(&mask, answer.try_into().ok()?);
        stored.is(stored_of(&secret).reveal()).then_some(secret)
    }
}

/// The fast path of `caching_sha2_password`. The server remembers SHA256(SHA256(password)) of who logged in before; the
/// client proves that it knows SHA256(password).
pub mod sha2 {
    use super::{Scramble, Secret, hash, xor};
    use aws_lc_rs::digest::SHA256;

    /// Bytes of hashes and answers.
    pub const BYTES: usize = 32;
    /// AuthMoreData of the server: the answer was good, an OK packet follows.
    pub const FAST_AUTH_SUCCESS: u8 = 3;
    /// AuthMoreData of the server: it remembers nothing, the password itself is needed.
    pub const PERFORM_FULL_AUTHENTICATION: u8 = 4;
    /// The client's wish for the server's RSA key, which comes as AuthMoreData in PEM form.
    pub const REQUEST_PUBLIC_KEY: u8 = 2;

    /// SHA256(password): what answers scrambles.
    pub fn secret_of(password: &[u8]) -> Secret<BYTES> {
        hash(&SHA256, &[password])
    }

    /// SHA256(SHA256(password)): what a server remembers.
    pub fn remembered_of(secret: &Secret<BYTES>) -> Secret<BYTES> {
        hash(&SHA256, &[secret.reveal()])
    }

    /// The answer to a scramble. An account without a password answers with nothing instead.
    pub fn answer(secret: &Secret<BYTES>, scramble: &Scramble) -> [u8; BYTES] {
        let mask = hash(&SHA256, &[remembered_of(secret).reveal(), scramble]);
        *xor(&mask, secret.reveal()).reveal()
    }

    /// SHA256(password), if this is the answer to the scramble of who knows it.
    pub fn verify(answer: &[u8], scramble: &Scramble, remembered: &Secret<BYTES>) -> Option<Secret<BYTES>> {
        let mask = hash(&SHA256, &[remembered.reveal(), scramble]);
        let secret = xor(&mask, answer.try_into().ok()?);
        remembered.is(remembered_of(&secret).reveal()).then_some(secret)
    }
}
