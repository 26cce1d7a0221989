//! What a certificate chain says, and whether it holds together.
//!
//! What goes in: the certificates of one file, leaf first, and the time. What comes out: names and dates of the leaf, or
//! the first thing that is wrong. It owns nothing. Always true: each certificate of an accepted chain was signed by the
//! next one, and all are valid now.

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use x509_parser::der_parser::asn1_rs::ToDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::time::ASN1Time;
use x509_parser::x509::AlgorithmIdentifier;

use super::certs::{CertError, Notice};
use super::{provider, subject};

/// Bits of an RSA key that are still considered safe.
const RSA_BITS_MIN: usize = 2048;
/// A certificate that expires within this time is worth a notice.
const EXPIRES_SOON: Duration = Duration::from_secs(14 * 24 * 3600);
const DAY_SECONDS: i64 = 24 * 3600;

/// What the leaf of a chain says.
pub(super) struct Leaf {
    /// Host names (with `*.` for wildcards) and addresses, in lower case.
    pub(super) names: Vec<String>,
    pub(super) subject: String,
    pub(super) issuer: String,
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
    /// True when the chain ends in a certificate that signed itself, or has more than the leaf.
    pub(super) is_complete: bool,
}

/// Checks a chain.
pub(super) fn check(
    file: &Path,
    chain: &[CertificateDer<'static>],
    now: SystemTime,
    notices: &mut Vec<Notice>,
) -> Result<Leaf, CertError> {
    let mut parsed = Vec::with_capacity(chain.len());
    for (at, der) in chain.iter().enumerate() {
        let Ok((rest, certificate)) = X509Certificate::from_der(der) else {
            return Err(CertError::new(
                file,
                &format!("certificate {} of the file cannot be understood", at + 1),
                "copy the file again from where it was issued",
            ));
        };
        if !rest.is_empty() {
            return Err(CertError::new(file, "bytes follow a certificate", "copy the file again"));
        }
        parsed.push(certificate);
    }
    let Some(first) = parsed.first() else {
        return Err(CertError::new(
            file,
            "no certificate in it",
            "name a PEM file with the certificate and its chain",
        ));
    };
    for certificate in &parsed {
        check_dates(file, certificate, now)?;
    }
    check_key_size(file, first)?;
    check_links(file, &parsed)?;
    let leaf = Leaf {
        names: names(first),
        subject: subject::text(first.subject()),
        issuer: subject::text(first.issuer()),
        not_before: time(first.validity().not_before),
        not_after: time(first.validity().not_after),
        is_complete: parsed.len() > 1 || first.issuer().as_raw() == first.subject().as_raw(),
    };
    if !leaf.is_complete {
        let what = format!("has no intermediate certificate; clients must know '{}' themselves", leaf.issuer);
        notices.push(Notice { file: file.to_owned(), what });
    }
    if leaf.not_after < now + EXPIRES_SOON {
        let days = seconds_between(now, leaf.not_after) / DAY_SECONDS;
        notices.push(Notice { file: file.to_owned(), what: format!("expires in {days} days") });
    }
    Ok(leaf)
}

/// RFC 5280 section 4.1.2.5.
fn check_dates(file: &Path, certificate: &X509Certificate<'_>, now: SystemTime) -> Result<(), CertError> {
    let validity = certificate.validity();
    let whose = subject::text(certificate.subject());
    if time(validity.not_after) < now {
        let days = seconds_between(time(validity.not_after), now) / DAY_SECONDS;
        return Err(CertError::new(
            file,
            &format!("the certificate of '{whose}' expired {days} days ago"),
            "renew it, and renew it automatically from now on",
        ));
    }
    if time(validity.not_before) > now {
        return Err(CertError::new(
            file,
            &format!("the certificate of '{whose}' is not valid yet"),
            "check the clock of this machine, or wait",
        ));
    }
    Ok(())
}

fn check_key_size(file: &Path, certificate: &X509Certificate<'_>) -> Result<(), CertError> {
    if let Ok(PublicKey::RSA(key)) = certificate.public_key().parsed()
        && key.key_size() < RSA_BITS_MIN
    {
        return Err(CertError::new(
            file,
            &format!("the RSA key has only {} bits", key.key_size()),
            "have it issued for a key of 2048 bits or more, or for an ECDSA key",
        ));
    }
    Ok(())
}

/// Each certificate must be issued and signed by the next one (RFC 5280 section 6.1, RFC 8446 section 4.4.2).
fn check_links(file: &Path, chain: &[X509Certificate<'_>]) -> Result<(), CertError> {
    for pair in chain.windows(2) {
        let [certificate, issuer] = pair else { continue };
        let names = (subject::text(certificate.subject()), subject::text(issuer.subject()));
        if certificate.issuer().as_raw() != issuer.subject().as_raw() {
            let what = format!(
                "broken chain: '{}' was issued by '{}', but '{}' follows",
                names.0,
                subject::text(certificate.issuer()),
                names.1
            );
            return Err(CertError::new(
                file,
                &what,
                "put the certificates in order: the host's first, then its issuers",
            ));
        }
        if !is_signed_by(certificate, issuer) {
            let what = format!(
                "broken chain: '{}' was not signed by the key of '{}' that follows",
                names.0, names.1
            );
            return Err(CertError::new(file, &what, "take the chain that came with this certificate"));
        }
    }
    Ok(())
}

fn is_signed_by(certificate: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> bool {
    let (Some(signature_algorithm), Some(key_algorithm)) =
        (algorithm(&certificate.signature_algorithm), algorithm(&issuer.public_key().algorithm))
    else {
        return false;
    };
    let key = &issuer.public_key().subject_public_key.data;
    let signature = &certificate.signature_value.data;
    provider().signature_verification_algorithms.all.iter().any(|verifier| {
        *verifier.signature_alg_id() == *signature_algorithm
            && *verifier.public_key_alg_id() == *key_algorithm
            && verifier.verify_signature(key, certificate.tbs_certificate.as_ref(), signature).is_ok()
    })
}

/// An algorithm as rustls writes it: the content of the sequence.
fn algorithm(id: &AlgorithmIdentifier<'_>) -> Option<Vec<u8>> {
    let mut content = id.algorithm.to_der_vec().ok()?;
    if let Some(parameters) = &id.parameters {
        content.extend(parameters.to_der_vec().ok()?);
    }
    Some(content)
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let mut names = Vec::new();
    if let Ok(Some(alternatives)) = certificate.subject_alternative_name() {
        for name in &alternatives.value.general_names {
            match name {
                GeneralName::DNSName(name) => names.push(name.to_ascii_lowercase()),
                GeneralName::IPAddress(bytes) => {
                    names.extend(address(bytes).map(|address| address.to_string()))
                }
                _ => {}
            }
        }
    }
    names.sort();
    names.dedup();
    names
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// True when this certificate may issue others (RFC 5280 section 4.2.1.9).
pub(super) fn is_authority(der: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(der).is_ok_and(|(_, certificate)| certificate.is_ca())
}

fn time(time: ASN1Time) -> SystemTime {
    let seconds = Duration::from_secs(time.timestamp().unsigned_abs());
    let moved = if time.timestamp() < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(seconds)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(seconds)
    };
    moved.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Seconds from one time to another, negative when that is earlier.
pub(super) fn seconds_between(from: SystemTime, to: SystemTime) -> i64 {
    let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    to.duration_since(from).map_or_else(|error| -seconds(error.duration()), seconds)
}
