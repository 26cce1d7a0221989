//! The slow path of `caching_sha2_password` without TLS: the password encrypted with the server's RSA key.
//!
//! As a server: a [`ServerKey`] gives its public half as PEM and decrypts. As a client: [`encrypt`] with the PEM that a
//! server sent. Owns the server's key. Always true: what is encrypted is the password and a NUL, XORed with the scramble,
//! by RSA-OAEP with SHA-1. A server without TLS proves nothing about itself: who asks it for its key must know why.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA1_MGF1SHA1, OaepPrivateDecryptingKey, OaepPublicEncryptingKey, PrivateDecryptingKey,
    PublicEncryptingKey,
};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use zeroize::Zeroizing;

use super::{PASSWORD_BYTES_MAX, Password, base64};
use crate::mysql::handshake::Scramble;

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadKey {
    /// No key could be made.
    NotMade,
    /// What a server sent is no RSA key in PEM form.
    NotPem,
    /// The key is too small for the password, or the library refuses it.
    NotEncrypted,
}

/// A server's key pair.
#[derive(Debug)]
pub struct ServerKey {
    secret: OaepPrivateDecryptingKey,
    pem: String,
}

impl ServerKey {
    /// A new one of 2048 bits, as the servers make. It takes a tenth of a second and more.
    pub fn generate() -> Result<Self, BadKey> {
        let secret = PrivateDecryptingKey::generate(KeySize::Rsa2048).map_err(|_| BadKey::NotMade)?;
        let der: PublicKeyX509Der = secret.public_key().as_der().map_err(|_| BadKey::NotMade)?;
        let mut pem = String::from("-----BEGIN PUBLIC KEY-----\n");
        let text = base64::encode(der.as_ref());
        for (index, letter) in text.chars().enumerate() {
            if index > 0 && index % 64 == 0 {
                pem.push('\n');
            }
            pem.push(letter);
        }
        pem.push_str("\n-----END PUBLIC KEY-----\n");
        let secret = OaepPrivateDecryptingKey::new(secret).map_err(|_| BadKey::NotMade)?;
        Ok(Self { secret, pem })
    }

    /// What a client is sent that asks for the key.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The password that a client encrypted after this scramble.
    pub fn decrypt(&self, encrypted: &[u8], scramble: &Scramble) -> Option<Password> {
        let mut room = Zeroizing::new(vec![0; self.secret.min_output_size()]);
        let plain = self.secret.decrypt(&OAEP_SHA1_MGF1SHA1, encrypted, &mut room, None).ok()?;
        mask(plain, scramble);
        Password::from_packet(plain)
    }
}

/// The password as a server with this key takes it.
pub fn encrypt(password: &[u8], scramble: &Scramble, pem: &[u8]) -> Result<Vec<u8>, BadKey> {
    if password.len() > PASSWORD_BYTES_MAX {
        return Err(BadKey::NotEncrypted);
    }
    let der = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|_| BadKey::NotPem)?;
    let key = PublicEncryptingKey::from_der(&der).map_err(|_| BadKey::NotPem)?;
    let key = OaepPublicEncryptingKey::new(key).map_err(|_| BadKey::NotPem)?;
    let mut plain = Zeroizing::new(Vec::with_capacity(password.len() + 1));
    plain.extend_from_slice(password);
    plain.push(0);
    mask(&mut plain, scramble);
    let mut room = vec![0; key.ciphertext_size()];
    let encrypted = key.encrypt(&OAEP_SHA1_MGF1SHA1, &plain, &mut room, None);
    let length = encrypted.map_err(|_| BadKey::NotEncrypted)?.len();
    room.truncate(length);
    Ok(room)
}

fn mask(bytes: &mut [u8], scramble: &Scramble) {
    for (byte, mask) in bytes.iter_mut().zip(scramble.iter().cycle()) {
        *byte ^= mask;
    }
}
