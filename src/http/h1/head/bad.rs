//! The ways in which a head breaks the rules, and how an exchange with a client that sent it ends.
//!
//! Nothing goes in; the parsers answer one of these. Owns nothing. Always true: each names one violation, and each ends
//! the connection.

use crate::close::Close;

/// How a head broke the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHead {
    /// More bytes than allowed.
    HeadTooLarge,
    /// More fields than allowed.
    TooManyFields,
    /// A target of more bytes than allowed.
    TargetTooLong,
    /// A TLS handshake where plain HTTP is spoken.
    Tls,
    /// More than one empty line before a request, or any before a response.
    EmptyLines,
    /// The method is empty or not a token.
    MethodInvalid,
    /// CONNECT.
    MethodConnect,
    /// The target is empty, of no known form, or holds a fragment, a blank, a control or non-ASCII byte.
    TargetInvalid,
    /// `*` with a method other than OPTIONS.
    AsteriskWithoutOptions,
    /// Not `HTTP/` digit `.` digit.
    VersionInvalid,
    /// A version other than 1.0 and 1.1.
    VersionUnknown,
    /// The status is not three digits from 100 on.
    StatusInvalid,
    /// A control byte in the reason phrase.
    ReasonInvalid,
    /// LF without CR.
    BareLf,
    /// CR without LF.
    BareCr,
    /// A line that begins with a blank.
    ObsFold,
    /// A line that begins with the colon.
    FieldNameEmpty,
    /// Blanks between name and colon.
    BlankBeforeColon,
    /// A line without a colon.
    FieldWithoutColon,
    /// A byte in a field name that no token has.
    FieldNameInvalid,
    /// NUL or another control byte in a field value.
    FieldValueInvalid,
    /// No Host in HTTP/1.1.
    HostMissing,
    /// Host more than once.
    HostTwice,
    /// Host, or the authority of the target, is not a name or address with an optional port.
    HostInvalid,
    /// Content-Length more than once, even with the same value.
    ContentLengthTwice,
    /// Content-Length is not digits alone, or absurdly large.
    ContentLengthInvalid,
    /// Transfer-Encoding more than once.
    TransferEncodingTwice,
    /// Transfer-Encoding does not end with `chunked`, or has it twice.
    TransferEncodingInvalid,
    /// Transfer-Encoding in HTTP/1.0.
    TransferEncodingInHttp10,
    /// Content-Length and Transfer-Encoding.
    LengthAndTransferEncoding,
    /// A coding other than `chunked` below `chunked`.
    CodingUnknown,
}

impl BadHead {
    /// How an exchange with a client ends that sent this. (A server that sends this: `Close::ServerBadAnswer`.)
    pub const fn close(self) -> Close {
        match self {
            Self::HeadTooLarge | Self::TooManyFields => Close::HeadTooLarge,
            Self::TargetTooLong => Close::TargetTooLong,
            Self::MethodConnect => Close::MethodRefused,
            Self::VersionUnknown => Close::VersionRefused,
            Self::CodingUnknown => Close::CodingRefused,
            _ => Close::BadRequest,
        }
    }
}
