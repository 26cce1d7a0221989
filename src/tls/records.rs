//! Records after the handshake: sealed and opened in place (RFC 8446 section 5, RFC 5246 section 6.2).
//!
//! What goes in: keys from rustls, one record at a time. What comes out: the same bytes, opened or sealed. It owns the
//! keys of one direction and the number of the next record. Always true: a number is used once per key, so no nonce
//! repeats; a record that fails to open changes nothing but the bytes it was given.

use std::ops::Range;

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use rustls::{ConnectionTrafficSecrets, SupportedCipherSuite};

use super::TlsError;

/// Content types of records.
pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
pub(super) const DATA: u8 = 23;

/// Bytes of a record's header: type, version, length.
pub(super) const HEADER: usize = 5;
/// Plaintext bytes of one record.
pub(super) const PLAIN_BYTES_MAX: usize = 16 * 1024;
/// Bytes of the authentication tag of every suite we have.
const TAG: usize = 16;
/// Bytes that a protected record may be longer than its plaintext: RFC 8446 section 5.2, RFC 5246 section 6.2.3.
const EXPANSION_13: usize = 256;
const EXPANSION_12: usize = 2048;

/// How a suite lays out its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// TLS 1.3: the content type is the last encrypted byte.
    V13,
    /// TLS 1.2 with AES-GCM: eight bytes of nonce come first (RFC 5288 section 3).
    V12Gcm,
    /// TLS 1.2 with ChaCha20-Poly1305: the nonce is implied (RFC 7905 section 2).
    V12ChaCha,
}

impl Layout {
    /// Bytes in front of the encrypted bytes.
    pub(super) const fn front(self) -> usize {
        match self {
            Self::V13 | Self::V12ChaCha => HEADER,
            Self::V12Gcm => HEADER + 8,
        }
    }

    /// Bytes behind the plaintext.
    pub(super) const fn back(self) -> usize {
        match self {
            Self::V13 => 1 + TAG,
            Self::V12Gcm | Self::V12ChaCha => TAG,
        }
    }

    const fn body_bytes_max(self) -> usize {
        match self {
            Self::V13 => PLAIN_BYTES_MAX + EXPANSION_13,
            Self::V12Gcm | Self::V12ChaCha => PLAIN_BYTES_MAX + EXPANSION_12,
        }
    }
}

/// The keys of one direction.
pub(super) struct Direction {
    key: LessSafeKey,
    iv: [u8; 12],
    layout: Layout,
    /// The number of the next record.
    number: u64,
}

impl Direction {
    /// Takes over what rustls extracted.
    pub(super) fn new(
        number: u64,
        secrets: &ConnectionTrafficSecrets,
        suite: SupportedCipherSuite,
    ) -> Result<Self, TlsError> {
        let (algorithm, key, iv): (&'static Algorithm, _, _) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return Err(TlsError::Internal),
        };
        let layout = match suite {
            SupportedCipherSuite::Tls13(_) => Layout::V13,
            SupportedCipherSuite::Tls12(_) if *algorithm == CHACHA20_POLY1305 => Layout::V12ChaCha,
            SupportedCipherSuite::Tls12(_) => Layout::V12Gcm,
        };
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| TlsError::Internal)?;
        let iv = iv.as_ref().try_into().map_err(|_| TlsError::Internal)?;
        Ok(Self { key: LessSafeKey::new(key), iv, layout, number })
    }

    /// How records of this direction are laid out.
    pub(super) const fn layout(&self) -> Layout {
        self.layout
    }

    /// How many records the keys have protected.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// Pretends that the keys have protected this many records.
    #[cfg(test)]
    pub(super) const fn set_number(&mut self, number: u64) {
        self.number = number;
    }

    /// RFC 8446 section 5.3: the number, padded to the left, xor the static vector.
    fn nonce(&self) -> [u8; 12] {
        let mut nonce = self.iv;
        for (byte, number) in nonce[4..].iter_mut().zip(self.number.to_be_bytes()) {
            *byte ^= number;
        }
        nonce
    }

    /// Seals one record in place. `record` is the room for the header, the plaintext, and the room for what follows
    /// it ([`Layout::front`], [`Layout::back`]); all of it is sent afterwards.
    pub(super) fn seal(&mut self, kind: u8, record: &mut [u8]) -> Result<(), TlsError> {
        let (front, back) = (self.layout.front(), self.layout.back());
        let Some(plain_len) = record.len().checked_sub(front + back) else { return Err(TlsError::Internal) };
        let body_len = (record.len() - HEADER) as u16;
        let nonce = self.nonce();
        let (head, rest) = record.split_at_mut(front);
        let (plain, tail) = rest.split_at_mut(plain_len);
        let [high, low] = body_len.to_be_bytes();
        let outer = if self.layout == Layout::V13 { DATA } else { kind };
        let header = [outer, 3, 3, high, low];
        head[..HEADER].copy_from_slice(&header);
        head[HEADER..].copy_from_slice(&nonce[12 - (front - HEADER)..]);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = match self.layout {
            Layout::V13 => self.key.seal_in_place_scatter(nonce, Aad::from(header), plain, &[kind], tail),
            Layout::V12Gcm | Layout::V12ChaCha => {
                let aad = Aad::from(additional_12(self.number, [kind, 3, 3], plain_len));
                self.key.seal_in_place_scatter(nonce, aad, plain, &[], tail)
            }
        };
        // The number is used up whether sealing worked or not.
        self.number += 1;
        sealed.map_err(|_| TlsError::Internal)
    }

    /// Opens one whole record in place: its content type, and where in `record` the plaintext is.
    pub(super) fn open(&mut self, record: &mut [u8]) -> Result<(u8, Range<usize>), TlsError> {
        let front = self.layout.front();
        let Some(sealed_len) = record.len().checked_sub(front + TAG) else { return Err(TlsError::BadRecord) };
        let (head, body) = record.split_at_mut(front);
        let &mut [kind, high_version, low_version, high, low, ref mut explicit @ ..] = head else {
            return Err(TlsError::BadRecord);
        };
        let plain = match self.layout {
            Layout::V13 => {
                if kind != DATA {
                    return Err(TlsError::Unexpected);
                }
                let aad = Aad::from([kind, high_version, low_version, high, low]);
                self.key.open_in_place(Nonce::assume_unique_for_key(self.nonce()), aad, body)
            }
            Layout::V12Gcm => {
                let mut nonce = self.iv;
                nonce[4..].copy_from_slice(explicit);
                let aad =
                    Aad::from(additional_12(self.number, [kind, high_version, low_version], sealed_len));
                self.key.open_in_place(Nonce::assume_unique_for_key(nonce), aad, body)
            }
            Layout::V12ChaCha => {
                let aad =
                    Aad::from(additional_12(self.number, [kind, high_version, low_version], sealed_len));
                self.key.open_in_place(Nonce::assume_unique_for_key(self.nonce()), aad, body)
            }
        };
        let plain = plain.map_err(|_| TlsError::BadRecord)?;
        self.number += 1;
        if plain.len() > PLAIN_BYTES_MAX + 1 {
            return Err(TlsError::RecordTooLong);
        }
        let (kind, len) = match self.layout {
            // RFC 8446 section 5.4: the last byte that is not zero is the content type.
            Layout::V13 => match plain.iter().rposition(|&byte| byte != 0) {
                Some(last) => (plain[last], last),
                None => return Err(TlsError::Unexpected),
            },
            Layout::V12Gcm | Layout::V12ChaCha => (kind, plain.len()),
        };
        if len > PLAIN_BYTES_MAX {
            return Err(TlsError::RecordTooLong);
        }
        Ok((kind, front..front + len))
    }

    /// The length of the record that starts here, header included; `None` when its header is not complete.
    pub(super) fn record_len(&self, bytes: &[u8]) -> Result<Option<usize>, TlsError> {
        let &[_, version, _, high, low, ..] = bytes else { return Ok(None) };
        let len = usize::from(u16::from_be_bytes([high, low]));
        if version != 3 {
            return Err(TlsError::BadMessage);
        }
        if len > self.layout.body_bytes_max() {
            return Err(TlsError::RecordTooLong);
        }
        Ok(Some(HEADER + len))
    }
}

/// RFC 5246 section 6.2.3.3: number, type, version, length.
fn additional_12(number: u64, head: [u8; 3], len: usize) -> [u8; 13] {
    let mut aad = [0; 13];
    aad[..8].copy_from_slice(&number.to_be_bytes());
    aad[8..11].copy_from_slice(&head);
    aad[11..].copy_from_slice(&(len as u16).to_be_bytes());
    aad
}
