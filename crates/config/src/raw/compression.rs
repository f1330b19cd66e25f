//! `compression` of routes.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Count, Field, OneOrMany, SizeText};

/// `compression = { ... }` of a route: its responses are compressed on their way to clients that say they can read it
/// (`Accept-Encoding`). `compression = {}` has all defaults.
///
/// Whoever can make a client send requests, and sees how long the encrypted responses are, can guess secrets that stand in a compressed
/// response beside text of the request (BREACH). So it is for routes whose responses hold no secrets, or repeat nothing of the request.
///
/// What passes as it is: responses that have a coding already, `Cache-Control: no-transform` in the request or in the response, partial
/// ones (206, `Content-Range`), 204 and 304, those that are signed (`Signature-Input`), gRPC, tunnels, and what Ringward answers by
/// itself. A response that is compressed gets `Content-Encoding` and `Vary: Accept-Encoding`, a strong `ETag` becomes weak, and
/// `Content-Length`, `Accept-Ranges` and digests of the body are left out. What the upstream has sent leaves compressed whenever it
/// pauses, so streams stay streams. The upstream is told what the client accepts; with
/// `request_headers = { remove = "accept-encoding" }` it does not compress by itself.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "compression", default, deny_unknown_fields)]
pub struct Compression {
    /// The codings, in the order of preference where a client accepts several as gladly.
    ///
    /// Default `["zstd", "br", "gzip"]`. Example: `algorithms = ["gzip"]`.
    pub algorithms: Field<Vec<Field<CompressionAlgorithm>>>,
    /// How hard zstd tries, as its own tools count.
    ///
    /// Default 3; 1 to 9. Example: `zstd_level = 1`.
    pub zstd_level: Field<Count>,
    /// How hard Brotli tries, as its own tools count.
    ///
    /// Default 4; 2 to 4. Example: `br_level = 2`.
    pub br_level: Field<Count>,
    /// How hard gzip tries, as its own tools count.
    ///
    /// Default 5; 1 to 9. Example: `gzip_level = 1`.
    pub gzip_level: Field<Count>,
    /// Responses whose `Content-Length` is less pass as they are. Where there is none, the length is not known.
    ///
    /// Default `"1KiB"`; `"1B"` to `"1GiB"`. Example: `bytes_min = "256B"`.
    pub bytes_min: Field<SizeText>,
    /// The media types of responses that are compressed, without parameters; `text/*` stands for all of `text` but
    /// `text/event-stream`, which has to be named: its events are flushed one by one, which costs more than it saves where they are
    /// small.
    ///
    /// Default: `text/*`, `application/json`, `application/javascript`, `application/manifest+json`, `application/xml`,
    /// `application/xhtml+xml`, `application/rss+xml`, `application/atom+xml`, `application/wasm` and `image/svg+xml`; 1 to 64. Example:
    /// `content_types = ["application/json", "text/*"]`.
    pub content_types: Field<OneOrMany>,
}

/// Values of `algorithms` in `compression`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename = "compression.algorithms", rename_all = "snake_case")]
pub enum CompressionAlgorithm {
    /// Zstandard (RFC 8878), with windows of 128 KiB.
    Zstd,
    /// Brotli (RFC 7932), with windows of 256 KiB.
    Br,
    /// gzip (RFC 1952).
    Gzip,
}

impl CompressionAlgorithm {
    /// The word in the file, which is the name of the content coding.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Br => "br",
            Self::Gzip => "gzip",
        }
    }
}
