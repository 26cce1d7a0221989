//! A certificate made on the spot, so that the program can show itself without any file.
//!
//! What goes in: host names and addresses. What comes out: a self-signed ECDSA P-256 certificate with its key, valid for a
//! month. It owns nothing and writes no file. Always true: every call makes a new key.

use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};

use super::certs::{CertError, Store};

/// How long a demonstration certificate is valid.
const VALID: Duration = Duration::from_secs(30 * 24 * 3600);
/// Clocks may differ by this much.
const CLOCKS_DIFFER: Duration = Duration::from_secs(3600);

/// The names under which a machine reaches itself.
pub const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// A self-signed certificate for these names, and the certificate alone as PEM, for clients that are to trust it.
pub fn certificate(names: &[&str], now: SystemTime) -> Result<(Store, String), CertError> {
    let failed =
        |error: rcgen::Error| CertError::general(&format!("no certificate could be made: {error}"), "");
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).map_err(failed)?;
    params.distinguished_name.push(DnType::CommonName, "ringgate demonstration");
    params.not_before = (now - CLOCKS_DIFFER).into();
    params.not_after = (now + VALID).into();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    let store = Store::from_pem(&format!("{}{}", certificate.pem(), key.serialize_pem()), now)?;
    Ok((store, certificate.pem()))
}
