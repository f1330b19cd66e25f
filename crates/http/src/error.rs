//! Why a head is refused: one variant per rule, each with a stable flag for logs and metrics.
//!
//! The texts are for the operator. A client learns the status and nothing else.

use thiserror::Error;

use crate::path::PathError;

/// What makes a request head unusable. The connection has to be closed after the answer, because where the message
/// ends is not certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RequestError {
    /// A rule that holds for requests and responses alike.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The request line is longer than allowed, or fills the whole head limit.
    #[error("the request line is longer than {bytes_max} bytes: shorten the target")]
    RequestLineTooLong {
        /// The limit that was passed.
        bytes_max: usize,
    },
    /// The method is longer than any in use (RFC 9112 §3).
    #[error("the method is longer than {bytes_max} bytes")]
    MethodTooLong {
        /// The limit that was passed.
        bytes_max: usize,
    },
    /// The method is not a token, or the request line starts with a blank (RFC 9110 §9.1).
    #[error("the method is not a token")]
    BadMethod,
    /// The request line is not `method SP target SP version` (RFC 9112 §3).
    #[error("the request line is not `method target version` with single spaces")]
    BadRequestLine,
    /// The request target has none of the allowed forms, or a character that a URI may not hold (RFC 9112 §3.2).
    #[error("the request target is not a path, an absolute http(s) URI, or `*` with OPTIONS")]
    BadTarget,
    /// A well-formed version that is not 1.0 or 1.1 (RFC 9110 §2.5).
    #[error("the HTTP version is neither 1.0 nor 1.1")]
    UnsupportedVersion,
    /// CONNECT, which asks for a tunnel (RFC 9110 §9.3.6).
    #[error("CONNECT is not supported: this is a gateway, not a forward proxy")]
    ConnectUnsupported,
    /// The host in `Host` or in the target (RFC 9112 §3.2).
    #[error(transparent)]
    Host(#[from] HostError),
    /// The path of the target.
    #[error(transparent)]
    Path(#[from] PathError),
    /// `Expect` holds something other than `100-continue`, or is repeated (RFC 9110 §10.1.1).
    #[error("the expectation is not `100-continue`")]
    ExpectationFailed,
    /// HTTP/2: a field that is about an HTTP/1.1 connection, or a `TE` other than `trailers` (RFC 9113 §8.2.2).
    #[error(
        "an HTTP/2 request has a field that belongs to HTTP/1.1 connections, or a te other than trailers"
    )]
    ConnectionField,
}

/// What makes a response head unusable. The upstream connection has to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ResponseError {
    /// A rule that holds for requests and responses alike.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The status line is not `version SP status [SP reason]` (RFC 9112 §4).
    #[error("the status line is not `version status reason`: is the endpoint an HTTP/1.1 server?")]
    BadStatusLine,
    /// The version is neither 1.0 nor 1.1.
    #[error("the HTTP version is neither 1.0 nor 1.1")]
    UnsupportedVersion,
    /// A status outside of 100 to 599 (RFC 9110 §15).
    #[error("the status {0} is outside of 100 to 599")]
    BadStatus(u16),
    /// 101 to a request that asked for no upgrade (RFC 9110 §15.2.2).
    #[error("the upstream switched protocols (101) without being asked to")]
    UnexpectedUpgrade,
    /// A field of HTTP/1.1 connections in a response of HTTP/2 (RFC 9113 §8.2.2).
    #[error("an HTTP/2 response has a field that belongs to HTTP/1.1 connections")]
    ConnectionField,
}

/// Rules that hold for the heads of requests and responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HeadError {
    /// The head does not end within the limit.
    #[error("the head is longer than {bytes_max} bytes")]
    TooLarge {
        /// The limit that was passed.
        bytes_max: usize,
    },
    /// More field lines than the limit.
    #[error("the head has more than {fields_max} fields")]
    TooManyFields {
        /// The limit that was passed.
        fields_max: usize,
    },
    /// More empty lines before the start line than RFC 9112 §2.2 asks to tolerate.
    #[error("an empty line stands where the start line should be")]
    EmptyLine,
    /// A line ends in LF without CR (RFC 9112 §2.2 lets a recipient accept it; upstreams differ, so it is refused).
    #[error("a line of the head ends in LF without CR")]
    BareLf,
    /// A field line starts with a blank: obsolete line folding (RFC 9112 §5.2) or a blank before the first field.
    #[error("a field line starts with a blank (obsolete line folding)")]
    LineFolding,
    /// A field name is empty, not a token, followed by a blank (RFC 9112 §5.1), or longer than 65535 bytes.
    #[error(
        "a field name is empty, holds a forbidden character, is followed by a blank, or has more than 65535 bytes"
    )]
    FieldName,
    /// A field value holds a control character, such as NUL or a bare CR (RFC 9110 §5.5).
    #[error("a field value holds a control character")]
    FieldValue,
    /// `Content-Length` and `Transfer-Encoding` together (RFC 9112 §6.1).
    #[error("both content-length and transfer-encoding are present")]
    LengthAndEncoding,
    /// More than one `Content-Length` line, equal or not (RFC 9112 §6.3).
    #[error("content-length is repeated")]
    RepeatedContentLength,
    /// `Content-Length` is not a plain decimal number below 2^63 (RFC 9110 §8.6).
    #[error("content-length is not a plain decimal number below 2^63")]
    BadContentLength,
    /// `Transfer-Encoding` is repeated, empty, malformed, or does not end in exactly one `chunked` (RFC 9112 §6.1).
    #[error("transfer-encoding does not end in exactly one `chunked`")]
    BadTransferEncoding,
    /// A well-formed transfer coding before `chunked` (RFC 9112 §6.1).
    #[error("a transfer coding other than `chunked` is not supported")]
    UnsupportedTransferEncoding,
    /// `Transfer-Encoding` in an HTTP/1.0 message (RFC 9112 §6.1).
    #[error("transfer-encoding is present in an HTTP/1.0 message")]
    EncodingOnHttp10,
    /// `Connection` is not a list of tokens (RFC 9110 §7.6.1).
    #[error("connection is not a list of tokens")]
    BadConnectionOption,
    /// `Connection` names more options than anyone needs.
    #[error("connection names more than {options_max} options")]
    TooManyConnectionOptions {
        /// The limit that was passed.
        options_max: usize,
    },
    /// `Connection` asks to remove a field that framing, routing or security depends on.
    #[error("connection nominates a field that framing, routing or security depends on")]
    ProtectedConnectionOption,
}

/// Why the host that a request names is refused (RFC 9112 §3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HostError {
    /// No `Host` in an HTTP/1.1 request.
    #[error("host is missing")]
    Missing,
    /// More than one `Host`.
    #[error("host is repeated")]
    Repeated,
    /// Not a DNS name, IPv4 address or bracketed IPv6 address with an optional port from 1 to 65535.
    #[error("host is not a name or address with an optional port")]
    Syntax,
    /// An absolute-form target names another authority than `Host`.
    #[error("host differs from the authority in the request target")]
    Mismatch,
}

impl RequestError {
    /// The status to answer with.
    pub fn status(&self) -> u16 {
        match self {
            RequestError::Head(HeadError::TooLarge { .. } | HeadError::TooManyFields { .. }) => 431,
            RequestError::Head(HeadError::UnsupportedTransferEncoding) => 501,
            RequestError::RequestLineTooLong { .. } => 414,
            RequestError::MethodTooLong { .. } | RequestError::ConnectUnsupported => 501,
            RequestError::UnsupportedVersion => 505,
            RequestError::ExpectationFailed => 417,
            RequestError::Head(_)
            | RequestError::BadMethod
            | RequestError::BadRequestLine
            | RequestError::BadTarget
            | RequestError::ConnectionField
            | RequestError::Host(_)
            | RequestError::Path(_) => 400,
        }
    }

    /// A stable name for logs and metrics.
    pub fn flag(&self) -> &'static str {
        match self {
            RequestError::Head(error) => error.flag(),
            RequestError::RequestLineTooLong { .. } => "request_line_too_long",
            RequestError::MethodTooLong { .. } => "method_too_long",
            RequestError::BadMethod => "bad_method",
            RequestError::BadRequestLine => "bad_request_line",
            RequestError::BadTarget => "bad_target",
            RequestError::UnsupportedVersion => "unsupported_version",
            RequestError::ConnectUnsupported => "connect_unsupported",
            RequestError::Host(error) => error.flag(),
            RequestError::Path(error) => error.flag(),
            RequestError::ExpectationFailed => "expectation_failed",
            RequestError::ConnectionField => "connection_field",
        }
    }
}

impl ResponseError {
    /// The status to answer the client with: always 502, the fault is the upstream's.
    pub fn status(&self) -> u16 {
        502
    }

    /// A stable name for logs and metrics.
    pub fn flag(&self) -> &'static str {
        match self {
            ResponseError::Head(error) => error.flag(),
            ResponseError::BadStatusLine => "bad_status_line",
            ResponseError::UnsupportedVersion => "unsupported_version",
            ResponseError::BadStatus(_) => "bad_status",
            ResponseError::UnexpectedUpgrade => "unexpected_upgrade",
            ResponseError::ConnectionField => "connection_field",
        }
    }
}

impl HeadError {
    /// A stable name for logs and metrics.
    pub fn flag(&self) -> &'static str {
        match self {
            HeadError::TooLarge { .. } => "head_too_large",
            HeadError::TooManyFields { .. } => "too_many_fields",
            HeadError::EmptyLine => "empty_line",
            HeadError::BareLf => "bare_lf",
            HeadError::LineFolding => "line_folding",
            HeadError::FieldName => "bad_field_name",
            HeadError::FieldValue => "bad_field_value",
            HeadError::LengthAndEncoding => "length_and_encoding",
            HeadError::RepeatedContentLength => "repeated_content_length",
            HeadError::BadContentLength => "bad_content_length",
            HeadError::BadTransferEncoding => "bad_transfer_encoding",
            HeadError::UnsupportedTransferEncoding => "unsupported_transfer_encoding",
            HeadError::EncodingOnHttp10 => "encoding_on_http10",
            HeadError::BadConnectionOption => "bad_connection_option",
            HeadError::TooManyConnectionOptions { .. } => "too_many_connection_options",
            HeadError::ProtectedConnectionOption => "protected_connection_option",
        }
    }
}

impl HostError {
    /// A stable name for logs and metrics.
    pub fn flag(&self) -> &'static str {
        match self {
            HostError::Missing => "missing_host",
            HostError::Repeated => "repeated_host",
            HostError::Syntax => "bad_host",
            HostError::Mismatch => "host_mismatch",
        }
    }
}
