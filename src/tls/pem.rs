//! PEM files (RFC 7468): certificates and keys as they lie on disk, and what can be wrong with them.
//!
//! What goes in: a path. What comes out: the certificates and the key in the file, or a mistake with advice. It owns
//! nothing. Always true: no message contains anything from a key.

use std::fs;
use std::path::Path;

use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::certs::CertError;

/// Largest file that is read: a long list of authorities has about 250 KiB.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What is in a file.
pub(super) struct Pem {
    pub(super) certificates: Vec<CertificateDer<'static>>,
    pub(super) key: Option<PrivateKeyDer<'static>>,
}

/// Reads a file.
pub(super) fn read(file: &Path) -> Result<Pem, CertError> {
    let unreadable = |error: std::io::Error| {
        let advice = match error.kind() {
            std::io::ErrorKind::NotFound => "check the path",
            std::io::ErrorKind::PermissionDenied => "let the user that starts ringgate read it",
            _ => "check the file",
        };
        CertError::new(file, &format!("cannot be read: {error}"), advice)
    };
    let length = fs::metadata(file).map_err(unreadable)?.len();
    if length > FILE_BYTES_MAX {
        return Err(CertError::new(file, "is too large for a certificate", "name a PEM file"));
    }
    parse(file, &fs::read(file).map_err(unreadable)?)
}

/// Understands the content of a file.
pub(super) fn parse(file: &Path, content: &[u8]) -> Result<Pem, CertError> {
    if has(content, b"BEGIN ENCRYPTED PRIVATE KEY") || has(content, b"Proc-Type: 4,ENCRYPTED") {
        return Err(CertError::new(
            file,
            "the key is encrypted",
            "decrypt it: openssl pkey -in KEY -out NEW_KEY; then make the new file readable for its owner alone",
        ));
    }
    if content.first() == Some(&0x30) && !has(content, b"-----BEGIN") {
        return Err(CertError::new(
            file,
            "is in DER form",
            "convert it: openssl x509 -inform der -in FILE -out FILE.pem",
        ));
    }
    let mut pem = Pem { certificates: Vec::new(), key: None };
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(content) {
        let (kind, der) = section.map_err(|_| {
            CertError::new(
                file,
                "is not well-formed PEM",
                "copy the file again; a line may be missing or cut",
            )
        })?;
        match kind {
            SectionKind::Certificate => pem.certificates.push(CertificateDer::from(der)),
            _ if pem.key.is_none() => pem.key = PrivateKeyDer::from_pem(kind, der),
            _ => {}
        }
    }
    Ok(pem)
}

/// The certificates of a file that lists authorities.
pub(super) fn authorities(file: &Path) -> Result<Vec<CertificateDer<'static>>, CertError> {
    let certificates = read(file)?.certificates;
    if certificates.is_empty() {
        return Err(CertError::new(
            file,
            "no certificate in it",
            "name a PEM file with the authorities' certificates",
        ));
    }
    Ok(certificates)
}

fn has(content: &[u8], text: &[u8]) -> bool {
    content.windows(text.len()).any(|window| window == text)
}
