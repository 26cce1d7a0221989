//! How long a body is: RFC 9112, section 6.3, as one function for both roles.
//!
//! What the head says about framing goes in, how the body ends comes out, or the violation. Owns nothing. Always true:
//! a message whose length two parsers could read differently is refused, never repaired.

use super::head::BadHead;
use crate::http::message::{Method, ResponseFraming, Version, elements, is_token};

/// What a head says about the length of its body. Each field occurred once at most; twice was refused before.
#[derive(Clone, Copy, Debug)]
pub struct Framed<'a> {
    /// The version of the message.
    pub version: Version,
    /// The value of Transfer-Encoding.
    pub transfer_encoding: Option<&'a [u8]>,
    /// The value of Content-Length.
    pub content_length: Option<&'a [u8]>,
}

/// Whose message it is.
#[derive(Clone, Copy, Debug)]
pub enum Role {
    /// A request.
    Request,
    /// The response with this status to a request of this method.
    Response(u16, Method),
}

/// RFC 9112, 6.3: how the body of a message ends. A request is never `UntilClose`.
pub fn body_length(role: Role, framed: &Framed) -> Result<ResponseFraming, BadHead> {
    // 1. "Any response to a HEAD request and any response with a 1xx (Informational), 204 (No Content), or 304 (Not
    //    Modified) status code is always terminated by the first empty line after the header fields, regardless of
    //    the header fields present in the message, and thus cannot contain a message body or trailer section."
    if let Role::Response(status, method) = role
        && (method == Method::Head || matches!(status, 100..=199 | 204 | 304))
    {
        return Ok(ResponseFraming::None);
    }

    // 2. "Any 2xx (Successful) response to a CONNECT request implies that the connection will become a tunnel": never
    //    here, CONNECT is refused before it reaches a server.

    if let Some(codings) = framed.transfer_encoding {
        // 6.1: "A server or client that receives an HTTP/1.0 message containing a Transfer-Encoding header field MUST
        //    treat the message as if the framing is faulty".
        if framed.version == Version::Http10 {
            return Err(BadHead::TransferEncodingInHttp10);
        }
        // 3. "If a message is received with both a Transfer-Encoding and a Content-Length header field, the
        //    Transfer-Encoding overrides the Content-Length. Such a message might indicate an attempt to perform
        //    request smuggling or response splitting and ought to be handled as an error." It is.
        if framed.content_length.is_some() {
            return Err(BadHead::LengthAndTransferEncoding);
        }
        // 4. "If a Transfer-Encoding header field is present and the chunked transfer coding is the final encoding,
        //    the message body length is determined by reading and decoding the chunked data until the transfer coding
        //    indicates the data is complete. [...] If a Transfer-Encoding header field is present in a request and
        //    the chunked transfer coding is not the final encoding, the message body length cannot be determined
        //    reliably; the server MUST respond with the 400 (Bad Request) status code and then close the connection."
        //    For a response without chunked at the end the RFC would read until close; we refuse it as well, and
        //    (6.1: "A server that receives a request message with a transfer coding it does not understand SHOULD
        //    respond with 501") every other coding before it.
        return match chunked_alone(codings) {
            Ok(()) => Ok(ResponseFraming::Chunked),
            Err(bad) => Err(bad),
        };
    }

    // 5. "If a message is received without Transfer-Encoding and with an invalid Content-Length header field, then the
    //    message framing is invalid and the recipient MUST treat it as an unrecoverable error". The exception for
    //    lists of equal values is not made.
    // 6. "If a valid Content-Length header field is present without Transfer-Encoding, its decimal value defines the
    //    expected message body length in octets."
    if let Some(digits) = framed.content_length {
        return parse_length(digits).map(ResponseFraming::Length).ok_or(BadHead::ContentLengthInvalid);
    }

    match role {
        // 7. "If this is a request message and none of the above are true, then the message body length is zero (no
        //    message body is present)."
        Role::Request => Ok(ResponseFraming::None),
        // 8. "Otherwise, this is a response message without a declared message body length, so the message body length
        //    is determined by the number of octets received prior to the server closing the connection."
        Role::Response(..) => Ok(ResponseFraming::UntilClose),
    }
}

/// A Content-Length: digits alone, below 10^18, so that no arithmetic of anybody overflows.
pub fn parse_length(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    let mut length = 0;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        length = length * 10 + u64::from(digit);
    }
    Some(length)
}

fn chunked_alone(codings: &[u8]) -> Result<(), BadHead> {
    if codings.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let empty = codings.split(|byte| *byte == b',').any(|coding| coding.trim_ascii().is_empty());
    let count = elements(codings).filter(|coding| chunked(coding)).count();
    let known_form = elements(codings).all(is_token);
    match elements(codings).last() {
        Some(last) if chunked(last) && count == 1 && known_form && !empty => Err(BadHead::CodingUnknown),
        _ => Err(BadHead::TransferEncodingInvalid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ResponseFraming::{Chunked, Length, None as NoBody, UntilClose};

    const GET: Method = Method::Get;

    fn framed<'a>(coding: Option<&'a str>, length: Option<&'a str>) -> Framed<'a> {
        Framed {
            version: Version::Http11,
            transfer_encoding: coding.map(str::as_bytes),
            content_length: length.map(str::as_bytes),
        }
    }

    #[test]
    fn the_eight_rules() {
        let both = framed(Some("chunked"), Some("5"));
        let chunked = framed(Some("Chunked"), None);
        let five = framed(None, Some("5"));
        let nothing = framed(None, None);
        let old = Framed { version: Version::Http10, ..chunked };
        for (role, framed, expected) in [
            (Role::Response(200, Method::Head), both, Ok(NoBody)),
            (Role::Response(100, GET), five, Ok(NoBody)),
            (Role::Response(101, GET), nothing, Ok(NoBody)),
            (Role::Response(204, GET), chunked, Ok(NoBody)),
            (Role::Response(304, GET), five, Ok(NoBody)),
            (Role::Request, both, Err(BadHead::LengthAndTransferEncoding)),
            (Role::Response(200, GET), both, Err(BadHead::LengthAndTransferEncoding)),
            (Role::Request, old, Err(BadHead::TransferEncodingInHttp10)),
            (Role::Response(200, GET), old, Err(BadHead::TransferEncodingInHttp10)),
            (Role::Request, chunked, Ok(Chunked)),
            (Role::Response(200, GET), chunked, Ok(Chunked)),
            (Role::Request, five, Ok(Length(5))),
            (Role::Response(205, GET), five, Ok(Length(5))),
            (Role::Request, nothing, Ok(NoBody)),
            (Role::Response(200, GET), nothing, Ok(UntilClose)),
            (Role::Response(600, GET), nothing, Ok(UntilClose)),
        ] {
            assert_eq!(body_length(role, &framed), expected, "{role:?} {framed:?}");
        }
    }

    #[test]
    fn chunked_must_be_the_only_coding() {
        for (codings, expected) in [
            ("chunked", Ok(Chunked)),
            ("CHUNKED", Ok(Chunked)),
            ("gzip, chunked", Err(BadHead::CodingUnknown)),
            ("identity,chunked", Err(BadHead::CodingUnknown)),
            ("gzip , \tdeflate,Chunked", Err(BadHead::CodingUnknown)),
            ("", Err(BadHead::TransferEncodingInvalid)),
            ("gzip", Err(BadHead::TransferEncodingInvalid)),
            ("identity", Err(BadHead::TransferEncodingInvalid)),
            ("xchunked", Err(BadHead::TransferEncodingInvalid)),
            ("chunked, identity", Err(BadHead::TransferEncodingInvalid)),
            ("chunked, gzip", Err(BadHead::TransferEncodingInvalid)),
            ("chunked, chunked", Err(BadHead::TransferEncodingInvalid)),
            ("chunked,", Err(BadHead::TransferEncodingInvalid)),
            (",chunked", Err(BadHead::TransferEncodingInvalid)),
            ("chunked;q=1", Err(BadHead::TransferEncodingInvalid)),
            ("\"chunked\"", Err(BadHead::TransferEncodingInvalid)),
            ("gzip chunked", Err(BadHead::TransferEncodingInvalid)),
            ("gz ip, chunked", Err(BadHead::TransferEncodingInvalid)),
        ] {
            assert_eq!(body_length(Role::Request, &framed(Some(codings), None)), expected, "{codings}");
        }
    }

    #[test]
    fn a_length_is_digits_alone() {
        for (text, expected) in [
            ("0", Some(0)),
            ("007", Some(7)),
            ("999999999999999999", Some(999_999_999_999_999_999)),
            ("1000000000000000000", None),
            ("18446744073709551616", None),
            ("", None),
            ("+5", None),
            ("-5", None),
            ("5 ", None),
            (" 5", None),
            ("5 5", None),
            ("5,5", None),
            ("5, 6", None),
            ("0x5", None),
            ("5a", None),
            ("5.0", None),
            ("5;", None),
            ("\u{663}", None),
        ] {
            assert_eq!(parse_length(text.as_bytes()), expected, "{text:?}");
        }
    }
}
