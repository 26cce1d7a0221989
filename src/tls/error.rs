//! Why a TLS connection ends before its time: one small enum, without secrets and without text from the wire.

use std::fmt;

use rustls::{CertificateError, Error, PeerIncompatible, PeerMisbehaved};

/// What was wrong with a TLS connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsError {
    /// The first bytes are not a TLS handshake record: plain HTTP on a TLS port, for example.
    NotTls,
    /// A record is longer than RFC 8446 section 5.2 (RFC 5246 section 6.2.3) allows.
    RecordTooLong,
    /// A record could not be authenticated.
    BadRecord,
    /// A message could not be understood.
    BadMessage,
    /// A record or message came that is not allowed now.
    Unexpected,
    /// Both sides have no protocol version in common.
    NoVersion,
    /// Both sides have no cipher suite, key exchange or signature scheme in common.
    NothingInCommon,
    /// Both sides have no application protocol in common.
    NoProtocol,
    /// There is no certificate for the name that was asked for.
    NoCertificate,
    /// A certificate was required and none was sent.
    CertificateMissing,
    /// The other side's certificate is expired or not valid yet.
    CertificateExpired,
    /// The other side's certificate comes from an authority that is not trusted here.
    CertificateUntrusted,
    /// The other side's certificate is for another name.
    CertificateName,
    /// The other side's certificate is wrong in another way.
    CertificateBad,
    /// The other side broke a rule of the handshake.
    Misbehaved,
    /// Renegotiation was asked for again after it had been refused.
    Renegotiation,
    /// Too many records in a row that carry no data, or a handshake that never ends.
    Flood,
    /// The other side sent this fatal alert (RFC 8446 section 6).
    Alert(u8),
    /// The keys have sealed as many records as is safe and cannot be renewed (TLS 1.2).
    Exhausted,
    /// There was no page left for what had to be written.
    Starved,
    /// The name to ask the server for is neither a host name nor an address.
    ServerName,
    /// The connection has failed before, or it was closed.
    Closed,
    /// Something failed here: no randomness, or a state that should not exist.
    Internal,
}

impl TlsError {
    /// The fatal alert that tells the other side (RFC 8446 section 6.2), for violations that `records.rs` finds.
    pub(super) const fn alert(self) -> Option<u8> {
        match self {
            Self::RecordTooLong => Some(22),
            Self::BadRecord => Some(20),
            Self::BadMessage => Some(50),
            Self::Unexpected | Self::Flood => Some(10),
            Self::Renegotiation => Some(40),
            Self::Exhausted | Self::Internal | Self::Starved => Some(80),
            _ => None,
        }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotTls => "the first bytes are not TLS",
            Self::RecordTooLong => "a record is too long",
            Self::BadRecord => "a record could not be authenticated",
            Self::BadMessage => "a message could not be understood",
            Self::Unexpected => "a message came that is not allowed now",
            Self::NoVersion => "no protocol version in common",
            Self::NothingInCommon => "no cipher suite, key exchange or signature scheme in common",
            Self::NoProtocol => "no application protocol in common",
            Self::NoCertificate => "no certificate for this name",
            Self::CertificateMissing => "a certificate is required and none was sent",
            Self::CertificateExpired => "the certificate is expired or not valid yet",
            Self::CertificateUntrusted => "the certificate comes from an authority that is not trusted",
            Self::CertificateName => "the certificate is for another name",
            Self::CertificateBad => "the certificate is not acceptable",
            Self::Misbehaved => "a rule of the handshake was broken",
            Self::Renegotiation => "renegotiation was asked for repeatedly",
            Self::Flood => "too many records without data",
            Self::Alert(code) => {
                return write!(f, "the other side sent alert {code} ({})", alert_name(*code));
            }
            Self::Exhausted => "the keys are used up",
            Self::Starved => "no memory is left",
            Self::ServerName => "the server's name is neither a host name nor an address",
            Self::Closed => "the connection was closed",
            Self::Internal => "an internal error",
        })
    }
}

impl std::error::Error for TlsError {}

impl From<Error> for TlsError {
    fn from(error: Error) -> Self {
        match error {
            Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
                Self::Unexpected
            }
            Error::InvalidMessage(_) => Self::BadMessage,
            Error::NoCertificatesPresented => Self::CertificateMissing,
            Error::DecryptError => Self::BadRecord,
            Error::PeerSentOversizedRecord => Self::RecordTooLong,
            Error::PeerIncompatible(
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled,
            ) => Self::NoVersion,
            Error::PeerIncompatible(_) => Self::NothingInCommon,
            Error::PeerMisbehaved(
                PeerMisbehaved::TooManyEmptyFragments
                | PeerMisbehaved::TooManyKeyUpdateRequests
                | PeerMisbehaved::TooManyWarningAlertsReceived,
            ) => Self::Flood,
            Error::PeerMisbehaved(PeerMisbehaved::TooManyRenegotiationRequests) => Self::Renegotiation,
            Error::PeerMisbehaved(_) => Self::Misbehaved,
            Error::AlertReceived(alert) => Self::Alert(alert.into()),
            Error::InvalidCertificate(error) => certificate(&error),
            Error::NoApplicationProtocol => Self::NoProtocol,
            Error::General(text) if text.starts_with("no server certificate") => Self::NoCertificate,
            _ => Self::Internal,
        }
    }
}

const fn certificate(error: &CertificateError) -> TlsError {
    match error {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => TlsError::CertificateExpired,
        CertificateError::UnknownIssuer => TlsError::CertificateUntrusted,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            TlsError::CertificateName
        }
        _ => TlsError::CertificateBad,
    }
}

/// The name of an alert in RFC 8446 section 6.
const fn alert_name(code: u8) -> &'static str {
    match code {
        10 => "unexpected_message",
        20 => "bad_record_mac",
        22 => "record_overflow",
        40 => "handshake_failure",
        42 => "bad_certificate",
        43 => "unsupported_certificate",
        44 => "certificate_revoked",
        45 => "certificate_expired",
        46 => "certificate_unknown",
        47 => "illegal_parameter",
        48 => "unknown_ca",
        49 => "access_denied",
        50 => "decode_error",
        51 => "decrypt_error",
        70 => "protocol_version",
        71 => "insufficient_security",
        80 => "internal_error",
        90 => "user_canceled",
        109 => "missing_extension",
        112 => "unrecognized_name",
        116 => "certificate_required",
        120 => "no_application_protocol",
        _ => "unnamed",
    }
}
