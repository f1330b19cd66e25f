//! The chunked transfer coding, decoded as it arrives (RFC 9112 §7.1).
//!
//! Strict: hexadecimal digits, an optional extension, CRLF, nothing else. Extensions are read over and dropped, which
//! RFC 9112 §7.1.1 allows. Holds nothing but the trailer section; where data lies is said by offsets.

use std::fmt;

use memchr::memchr;
use smallvec::{SmallVec, smallvec};
use thiserror::Error;

use crate::field::{self, FieldSpan, Known};
use crate::token::{eq_as_variable, is_field_value, starts_as_variable};

/// Decodes one chunked body. Reusable by [`ChunkedDecoder::reset`], which keeps its buffers.
pub struct ChunkedDecoder {
    state: State,
    /// Extension bytes read in this body.
    extension_bytes: usize,
    /// The trailer section as received, up to the end of its last complete line once it was parsed.
    trailer_section: Vec<u8>,
    trailers: Vec<FieldSpan>,
    drop_trailer: fn(&[u8]) -> bool,
    /// Trailer fields that the predicate has dropped.
    dropped: u64,
}

/// What the front of the input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded {
    /// `input[skip..skip + data]` is body data; `skip + data` bytes are consumed. `data` is never 0.
    Data {
        /// Bytes of framing before the data.
        skip: usize,
        /// Bytes of data.
        data: usize,
    },
    /// Everything was consumed and the body is not complete.
    NeedMore {
        /// Always the length of the input.
        consumed: usize,
    },
    /// The body ended, trailers included; what follows belongs to the next message.
    Done {
        /// Bytes up to the end of the body.
        consumed: usize,
    },
}

/// Why a chunked body is refused. Where it ends is unknown, so the connection has to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ChunkError {
    /// The size is empty, not hexadecimal, or above 2^60.
    #[error("a chunk size is not a hexadecimal number of at most {CHUNK_SIZE_DIGITS_MAX} digits")]
    BadSize,
    /// An extension holds a control character, or its line does not end in CRLF.
    #[error("a chunk extension holds a control character or does not end in CRLF")]
    BadExtension,
    /// More extension bytes in one body than allowed.
    #[error("chunk extensions are longer than {bytes_max} bytes in total")]
    ExtensionsTooLong {
        /// The limit that was passed.
        bytes_max: usize,
    },
    /// No CRLF after the size or after the data of a chunk.
    #[error("a chunk is not followed by CRLF")]
    MissingCrlf,
    /// A trailer field breaks the rules for fields.
    #[error("the trailer section holds a malformed field")]
    BadTrailer,
    /// The trailer section is longer than allowed.
    #[error("the trailer section is longer than {bytes_max} bytes")]
    TrailersTooLong {
        /// The limit that was passed.
        bytes_max: usize,
    },
    /// More trailer fields than allowed.
    #[error("the trailer section has more than {fields_max} fields")]
    TooManyTrailers {
        /// The limit that was passed.
        fields_max: usize,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In the digits of a chunk size.
    Size {
        value: u64,
        digits: usize,
    },
    /// Past the `;` of an extension.
    Extension {
        value: u64,
    },
    /// Past the CR of the size line.
    SizeLf {
        value: u64,
    },
    /// In the data of a chunk.
    Data {
        left: u64,
    },
    /// Past the data of a chunk.
    DataCr,
    /// Past the CR behind the data.
    DataLf,
    /// In the trailer section, at the start of a line or, if `line_start` lies behind, within one.
    Trailers {
        line_start: usize,
        lines: usize,
    },
    Done,
    Failed(ChunkError),
}

impl ChunkedDecoder {
    /// A decoder at the start of a body. Trailer fields for which `drop_trailer` (given the name) says so are dropped,
    /// besides those that [`ChunkedDecoder::trailers`] names: what may not arrive as a field may not come this way.
    pub fn new(drop_trailer: fn(&[u8]) -> bool) -> ChunkedDecoder {
        ChunkedDecoder {
            state: State::START,
            extension_bytes: 0,
            trailer_section: Vec::new(),
            trailers: Vec::new(),
            drop_trailer,
            dropped: 0,
        }
    }

    /// Starts over for the next body.
    pub fn reset(&mut self) {
        self.state = State::START;
        self.extension_bytes = 0;
        self.trailer_section.clear();
        self.trailers.clear();
        self.dropped = 0;
    }

    /// Reads the front of `input`: at most one run of data. Call again with what follows the consumed bytes.
    ///
    /// # Errors
    /// See [`ChunkError`]. The same error comes again from then on.
    pub fn decode(&mut self, input: &[u8]) -> Result<Decoded, ChunkError> {
        let outcome = self.advance(input);
        if let Err(error) = outcome {
            self.state = State::Failed(error);
        }
        outcome
    }

    /// The body ended.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The trailer fields, once the body is done, without those that RFC 9110 §6.5.1 forbids there (framing, routing,
    /// authentication, request modifiers, content format), hop-by-hop fields, provenance (`Via`, `Forwarded`,
    /// `X-Forwarded-*`), and what the caller's predicate drops. `_` counts as `-`.
    pub fn trailers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let section = &self.trailer_section[..];
        self.trailers.iter().map(move |field| (field.name.text_of(section), field.value.of(section)))
    }

    /// How many trailer fields the caller's predicate has dropped.
    pub fn dropped_trailers(&self) -> u64 {
        self.dropped
    }

    fn advance(&mut self, input: &[u8]) -> Result<Decoded, ChunkError> {
        let mut at = 0;
        while at < input.len() {
            let byte = input[at];
            self.state = match self.state {
                State::Size { value, digits } => size_byte(byte, value, digits)?,
                State::Extension { value } => {
                    let line = &input[at..];
                    let len =
                        line.iter().position(|&byte| byte == b'\r' || byte == b'\n').unwrap_or(line.len());
                    self.count_extension(&line[..len])?;
                    at += len;
                    match line.get(len) {
                        Some(b'\r') => State::SizeLf { value },
                        Some(_) => return Err(ChunkError::BadExtension),
                        None => break,
                    }
                }
                State::SizeLf { value } => match (byte, value) {
                    (b'\n', 0) => State::Trailers { line_start: 0, lines: 0 },
                    (b'\n', left) => State::Data { left },
                    _ => return Err(ChunkError::MissingCrlf),
                },
                State::Data { left } => {
                    let available = input.len() - at;
                    let data = usize::try_from(left).map_or(available, |left| left.min(available));
                    let left = left - data as u64;
                    self.state = if left == 0 { State::DataCr } else { State::Data { left } };
                    return Ok(Decoded::Data { skip: at, data });
                }
                State::DataCr if byte == b'\r' => State::DataLf,
                State::DataLf if byte == b'\n' => State::START,
                State::DataCr | State::DataLf => return Err(ChunkError::MissingCrlf),
                State::Trailers { line_start, lines } => {
                    let consumed = self.take_trailer_bytes(&input[at..], line_start, lines)?;
                    at += consumed;
                    if self.state == State::Done {
                        return Ok(Decoded::Done { consumed: at });
                    }
                    continue;
                }
                State::Done => return Ok(Decoded::Done { consumed: 0 }),
                State::Failed(error) => return Err(error),
            };
            at += 1;
        }
        match self.state {
            State::Done => Ok(Decoded::Done { consumed: 0 }),
            State::Failed(error) => Err(error),
            _ => Ok(Decoded::NeedMore { consumed: input.len() }),
        }
    }

    fn count_extension(&mut self, bytes: &[u8]) -> Result<(), ChunkError> {
        if !is_field_value(bytes) {
            return Err(ChunkError::BadExtension);
        }
        self.extension_bytes += bytes.len();
        if self.extension_bytes > EXTENSION_BYTES_MAX {
            return Err(ChunkError::ExtensionsTooLong { bytes_max: EXTENSION_BYTES_MAX });
        }
        Ok(())
    }

    /// Takes bytes up to the end of a line of the trailer section, or all.
    fn take_trailer_bytes(
        &mut self,
        input: &[u8],
        line_start: usize,
        lines: usize,
    ) -> Result<usize, ChunkError> {
        let lf = memchr(b'\n', input);
        let taken = lf.map_or(input.len(), |lf| lf + 1);
        if self.trailer_section.len() + taken > TRAILER_BYTES_MAX {
            return Err(ChunkError::TrailersTooLong { bytes_max: TRAILER_BYTES_MAX });
        }
        self.trailer_section.extend_from_slice(&input[..taken]);
        if lf.is_none() {
            return Ok(taken);
        }
        let Some(line) = self.trailer_section[line_start..].strip_suffix(b"\r\n") else {
            return Err(ChunkError::BadTrailer);
        };
        match (line.first(), lines) {
            (None, _) => {
                self.parse_trailers(lines)?;
                self.state = State::Done;
            }
            (Some(_), TRAILER_FIELDS_MAX..) => {
                return Err(ChunkError::TooManyTrailers { fields_max: TRAILER_FIELDS_MAX });
            }
            (Some(_), _) => {
                self.state = State::Trailers { line_start: self.trailer_section.len(), lines: lines + 1 };
            }
        }
        Ok(taken)
    }

    fn parse_trailers(&mut self, lines: usize) -> Result<(), ChunkError> {
        let section = &self.trailer_section[..];
        let mut headers: SmallVec<[_; TRAILER_FIELDS_MAX]> = smallvec![httparse::EMPTY_HEADER; lines];
        let parsed = match httparse::parse_headers(section, &mut headers) {
            Ok(httparse::Status::Complete((len, parsed))) if len == section.len() => parsed,
            _ => return Err(ChunkError::BadTrailer),
        };
        field::collect(section, parsed, &mut self.trailers).map_err(|_| ChunkError::BadTrailer)?;
        let received = self.trailers.len();
        let drop_trailer = self.drop_trailer;
        self.trailers.retain(|field| !drop_trailer(field.name.of(section)));
        self.dropped = (received - self.trailers.len()) as u64;
        self.trailers.retain(|field| !is_forbidden_trailer(field.name.of(section)));
        Ok(())
    }
}

impl fmt::Debug for ChunkedDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChunkedDecoder").field("state", &self.state).finish_non_exhaustive()
    }
}

impl State {
    const START: State = State::Size { value: 0, digits: 0 };
}

/// RFC 9112 §7.1: `1*HEXDIG`, then CRLF or an extension. Blanks before either are refused: recipients differ about them.
fn size_byte(byte: u8, value: u64, digits: usize) -> Result<State, ChunkError> {
    match (char::from(byte).to_digit(16), byte) {
        (Some(digit), _) if digits < CHUNK_SIZE_DIGITS_MAX => {
            Ok(State::Size { value: value << 4 | u64::from(digit), digits: digits + 1 })
        }
        (None, b';') if digits > 0 => Ok(State::Extension { value }),
        (None, b'\r') if digits > 0 => Ok(State::SizeLf { value }),
        _ => Err(ChunkError::BadSize),
    }
}

/// RFC 9110 §6.5.1: fields that a recipient has to see before the content, or that would change what was decided then.
pub(crate) fn is_forbidden_trailer(name: &[u8]) -> bool {
    Known::of(name) != Known::Other
        || FORBIDDEN_TRAILERS.iter().any(|forbidden| eq_as_variable(name, forbidden))
        || FORBIDDEN_TRAILER_PREFIXES.iter().any(|prefix| starts_as_variable(name, prefix))
}

/// By the classes of RFC 9110 §6.5.1. Those of one word without `-` are found by [`Known`] as well.
const FORBIDDEN_TRAILERS: &[&[u8]] = &[
    b"age",
    b"authorization",
    b"cache-control",
    b"client-cert",
    b"client-cert-chain",
    b"content-encoding",
    b"content-length",
    b"content-location",
    b"content-range",
    b"content-type",
    b"cookie",
    b"expires",
    b"keep-alive",
    b"location",
    b"max-forwards",
    b"origin",
    b"pragma",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"proxy-connection",
    b"range",
    b"retry-after",
    b"set-cookie",
    b"strict-transport-security",
    b"transfer-encoding",
    b"vary",
    b"warning",
    b"www-authenticate",
    b"x-real-ip",
];

const FORBIDDEN_TRAILER_PREFIXES: &[&[u8]] = &[b"access-control-", b"if-", b"x-forwarded-"];

/// 60 bits: no overflow, and beyond any body.
const CHUNK_SIZE_DIGITS_MAX: usize = 15;

/// As hyper: enough for signatures in a few hundred chunks, too little to hide work in.
const EXTENSION_BYTES_MAX: usize = 16 * 1024;

/// A quarter of the usual limit for a head.
const TRAILER_BYTES_MAX: usize = 8 * 1024;

/// gRPC uses three.
const TRAILER_FIELDS_MAX: usize = 32;

#[cfg(test)]
mod tests;
