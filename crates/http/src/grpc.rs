//! What gRPC says in the fields of HTTP/2 (gRPC's `PROTOCOL-HTTP2.md`): which requests are calls, and their timeouts,
//! statuses and messages.
//!
//! Only what a proxy has to understand. Messages in bodies are never looked at.

use std::time::Duration;

use thiserror::Error;

use crate::{RequestHead, Version};

/// A `grpc-timeout` that cannot be read: not one to eight digits and a unit, or there are several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("grpc-timeout is not one field of 1 to 8 digits and one of the units H, M, S, m, u and n")]
pub struct BadTimeout;

impl RequestHead {
    /// Whether this is a gRPC call: a POST of HTTP/2 whose content is `application/grpc`, alone or with a suffix (`+proto`) or
    /// parameters. gRPC-Web (`application/grpc-web`) is another protocol.
    pub fn is_grpc(&self) -> bool {
        if self.version() != Version::Http2 || self.method_bytes() != b"POST" {
            return false;
        }
        let mut types = self.fields().filter(|field| field.name.eq_ignore_ascii_case("content-type"));
        match (types.next(), types.next()) {
            (Some(only), None) => is_content_type(only.value),
            _ => false,
        }
    }

    /// The `grpc-timeout`: how long the client waits for the whole call, if it says so. Zero stands for a deadline that was
    /// over when the request was sent.
    ///
    /// # Errors
    /// [`BadTimeout`] for anything but one value of the form that gRPC wants.
    pub fn grpc_timeout(&self) -> Result<Option<Duration>, BadTimeout> {
        let mut timeouts = self.fields().filter(|field| field.name.eq_ignore_ascii_case(TIMEOUT));
        match (timeouts.next(), timeouts.next()) {
            (None, _) => Ok(None),
            (Some(only), None) => parse_timeout(only.value).map(Some),
            _ => Err(BadTimeout),
        }
    }
}

/// Whether a content type is that of gRPC.
pub fn is_content_type(value: &[u8]) -> bool {
    value.split_at_checked(CONTENT_TYPE.len()).is_some_and(|(begin, rest)| {
        begin.eq_ignore_ascii_case(CONTENT_TYPE.as_bytes())
            && matches!(rest.first(), None | Some(b'+' | b';' | b' ' | b'\t'))
    })
}

/// Reads the value of `grpc-timeout`. Zero is read although the document wants positive numbers: grpc-go writes `0n` for a
/// deadline that is over.
///
/// # Errors
/// [`BadTimeout`] for anything but 1 to 8 digits and a unit.
pub fn parse_timeout(value: &[u8]) -> Result<Duration, BadTimeout> {
    let Some((unit, digits)) = value.split_last() else { return Err(BadTimeout) };
    if !(1..=TIMEOUT_DIGITS_MAX).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return Err(BadTimeout);
    }
    let number = digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    Ok(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return Err(BadTimeout),
    })
}

/// A value of `grpc-timeout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeoutText {
    bytes: [u8; TIMEOUT_DIGITS_MAX + 1],
    len: usize,
}

impl TimeoutText {
    /// Writes a time down, in the finest unit for which there are digits enough, and never as more than it is.
    pub fn new(time: Duration) -> TimeoutText {
        let seconds = time.as_secs();
        let units = [
            (time.as_micros(), b'u'),
            (time.as_millis(), b'm'),
            (seconds.into(), b'S'),
            ((seconds / 60).into(), b'M'),
            ((seconds / 3600).into(), b'H'),
        ];
        let fits = |(number, unit): (u128, u8)| {
            u32::try_from(number).ok().filter(|number| *number <= TIMEOUT_MAX).map(|number| (number, unit))
        };
        // More than 11,000 years is as good as 11,000.
        let (number, unit) = units.into_iter().find_map(fits).unwrap_or((TIMEOUT_MAX, b'H'));
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(number).as_bytes();
        let mut bytes = [0; TIMEOUT_DIGITS_MAX + 1];
        bytes[..digits.len()].copy_from_slice(digits);
        bytes[digits.len()] = unit;
        TimeoutText { bytes, len: digits.len() + 1 }
    }

    /// The value.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The number in a `grpc-status`. What is none of the protocol's numbers counts as UNKNOWN, as clients take it.
pub fn parse_status(value: &[u8]) -> u8 {
    match value {
        [digit @ b'0'..=b'9'] => digit - b'0',
        [b'1', digit @ b'0'..=b'6'] => 10 + digit - b'0',
        _ => UNKNOWN,
    }
}

/// Appends a text as a `grpc-message` has it: everything but visible ASCII and the blank as `%XX`, and `%` too.
pub fn write_message(out: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'%' | ..b' ' | 0x7f.. => {
                out.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 0xf)]]);
            }
            byte => out.push(byte),
        }
    }
}

/// The content type of gRPC.
pub const CONTENT_TYPE: &str = "application/grpc";
/// The field in which a client says how long it waits.
pub const TIMEOUT: &str = "grpc-timeout";
/// The field, of a head or among trailers, that says how a call has ended.
pub const STATUS: &str = "grpc-status";
/// The field that says it in words.
pub const MESSAGE: &str = "grpc-message";

const TIMEOUT_DIGITS_MAX: usize = 8;
const TIMEOUT_MAX: u32 = 99_999_999;
const UNKNOWN: u8 = 2;
const HEX: &[u8; 16] = b"0123456789ABCDEF";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HeadLimits, Http2Request};

    #[test]
    fn content_types_of_grpc_are_told_from_others() {
        for value in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc+json",
            "application/grpc;charset=utf-8",
            "application/grpc ; a=b",
            "Application/GRPC",
        ] {
            assert!(is_content_type(value.as_bytes()), "{value}");
        }
        for value in
            ["", "application/grp", "application/grpc-web", "application/grpcx", "text/application/grpc"]
        {
            assert!(!is_content_type(value.as_bytes()), "{value}");
        }
    }

    fn head(method: &str, fields: &[(&str, &str)]) -> RequestHead {
        let request = Http2Request {
            method: method.as_bytes(),
            scheme: b"https",
            authority: Some(b"a.example"),
            path: b"/pkg.Service/Method",
            protocol: None,
            ends: true,
        };
        let mut head = RequestHead::new();
        let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let limits = HeadLimits { head_bytes_max: 4096, fields_max: 10 };
        head.take_http2(&request, fields, &mut Vec::new(), &limits).unwrap();
        head
    }

    #[test]
    fn calls_are_posts_of_http_2_with_one_content_type() {
        let grpc = ("content-type", "application/grpc");
        assert!(head("POST", &[grpc]).is_grpc());
        assert!(!head("GET", &[grpc]).is_grpc());
        assert!(!head("POST", &[]).is_grpc());
        assert!(!head("POST", &[grpc, ("content-type", "text/plain")]).is_grpc());
        let mut http1 = RequestHead::new();
        let bytes = b"POST / HTTP/1.1\r\nhost: a.example\r\ncontent-type: application/grpc\r\n\r\n";
        http1.parse(bytes, &HeadLimits { head_bytes_max: 4096, fields_max: 10 }).unwrap();
        assert!(!http1.is_grpc());
    }

    #[test]
    fn timeouts_are_read_strictly() {
        for (value, time) in [
            ("0n", Duration::ZERO),
            ("1n", Duration::from_nanos(1)),
            ("00000001u", Duration::from_micros(1)),
            ("100m", Duration::from_millis(100)),
            ("5S", Duration::from_secs(5)),
            ("2M", Duration::from_secs(120)),
            ("99999999H", Duration::from_secs(99_999_999 * 3600)),
        ] {
            assert_eq!(parse_timeout(value.as_bytes()), Ok(time), "{value}");
        }
        for value in [
            "",
            "S",
            "1",
            "1s",
            "1h",
            "-1S",
            "+1S",
            " 1S",
            "1S ",
            "1 S",
            "1.5S",
            "123456789S",
            "1SS",
            "1\u{661}S",
        ] {
            assert_eq!(parse_timeout(value.as_bytes()), Err(BadTimeout), "{value:?}");
        }
    }

    #[test]
    fn a_timeout_is_given_once_or_not_at_all() {
        assert_eq!(head("POST", &[]).grpc_timeout(), Ok(None));
        assert_eq!(head("POST", &[("grpc-timeout", "1S")]).grpc_timeout(), Ok(Some(Duration::from_secs(1))));
        let twice = head("POST", &[("grpc-timeout", "1S"), ("grpc-timeout", "1S")]);
        assert_eq!(twice.grpc_timeout(), Err(BadTimeout));
    }

    #[test]
    fn timeouts_are_written_in_the_finest_unit_that_fits_and_rounded_down() {
        for (time, text) in [
            (Duration::ZERO, "0u"),
            (Duration::from_nanos(1_999), "1u"),
            (Duration::from_micros(99_999_999), "99999999u"),
            (Duration::from_micros(100_000_000), "100000m"),
            (Duration::from_millis(99_999_999), "99999999m"),
            (Duration::from_millis(100_000_999), "100000S"),
            (Duration::from_secs(100_000_000), "1666666M"),
            (Duration::from_secs(60 * 100_000_000), "1666666H"),
            (Duration::MAX, "99999999H"),
        ] {
            let written = TimeoutText::new(time);
            assert_eq!(std::str::from_utf8(written.as_bytes()), Ok(text), "{time:?}");
            assert!(parse_timeout(written.as_bytes()).unwrap() <= time);
        }
    }

    #[test]
    fn statuses_beyond_those_of_the_protocol_are_unknown() {
        for code in 0..=16_u8 {
            assert_eq!(parse_status(code.to_string().as_bytes()), code);
        }
        for value in ["", "17", "99", "00", "-1", "ok", "1x"] {
            assert_eq!(parse_status(value.as_bytes()), UNKNOWN, "{value:?}");
        }
    }

    #[test]
    fn messages_are_visible_ascii() {
        let mut out = Vec::new();
        write_message(&mut out, "no: 100 %\n\u{e9}~\x7f");
        assert_eq!(std::str::from_utf8(&out), Ok("no: 100 %25%0A%C3%A9~%7F"));
    }
}
