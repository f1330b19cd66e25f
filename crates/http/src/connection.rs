//! The `Connection` field: whether the connection persists, and which fields end here (RFC 9110 §7.6.1).
//!
//! A client may nominate its own fields, never one that framing, routing or security depends on: removing those on a
//! client's word has been used to strip what an earlier hop had added.

use crate::Version;
use crate::error::HeadError;
use crate::field::{FieldSpan, Known};
use crate::token::{is_token, starts_as_variable, trim_ows};

/// What the options of all `Connection` lines say together.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConnectionOptions {
    close: bool,
    keep_alive: bool,
    /// `upgrade` is nominated, without which an `Upgrade` field means nothing (RFC 9110 §7.8).
    pub(crate) upgrade: bool,
}

/// Reads every `Connection` line of `head` and marks the fields that they nominate as hop-by-hop.
pub(crate) fn process(head: &[u8], fields: &mut [FieldSpan]) -> Result<ConnectionOptions, HeadError> {
    let mut options = ConnectionOptions::default();
    let mut count = 0;
    for index in 0..fields.len() {
        if fields[index].known != Known::Connection {
            continue;
        }
        for option in fields[index].value.of(head).split(|&byte| byte == b',') {
            let option = trim_ows(option);
            if option.is_empty() {
                // RFC 9110 §5.6.1.2: a recipient has to ignore empty list elements.
                continue;
            }
            count += 1;
            if count > OPTIONS_MAX {
                return Err(HeadError::TooManyConnectionOptions { options_max: OPTIONS_MAX });
            }
            options.apply(option, head, fields)?;
        }
    }
    Ok(options)
}

impl ConnectionOptions {
    /// RFC 9112 §9.3: `close` wins; without either, HTTP/1.1 persists and HTTP/1.0 does not.
    pub(crate) fn persists(self, version: Version) -> bool {
        !self.close && (self.keep_alive || version == Version::Http11)
    }

    fn apply(&mut self, option: &[u8], head: &[u8], fields: &mut [FieldSpan]) -> Result<(), HeadError> {
        if !is_token(option) {
            return Err(HeadError::BadConnectionOption);
        }
        if option.eq_ignore_ascii_case(b"close") {
            self.close = true;
        } else if option.eq_ignore_ascii_case(b"keep-alive") {
            self.keep_alive = true;
        } else if option.eq_ignore_ascii_case(b"upgrade") {
            self.upgrade = true;
        } else if is_protected(option) {
            return Err(HeadError::ProtectedConnectionOption);
        } else {
            let nominated =
                fields.iter_mut().filter(|field| field.name.of(head).eq_ignore_ascii_case(option));
            nominated.for_each(|field| field.hop_by_hop = true);
        }
        Ok(())
    }
}

/// Framing, routing, credentials, provenance and what says how content is to be read. RFC 9110 §7.6.1 forbids to
/// nominate what is meant for all recipients.
fn is_protected(option: &[u8]) -> bool {
    PROTECTED.iter().any(|name| option.eq_ignore_ascii_case(name))
        || starts_as_variable(option, b"x-forwarded-")
}

const PROTECTED: &[&[u8]] = &[
    b"authorization",
    b"cache-control",
    b"client-cert",
    b"client-cert-chain",
    b"content-encoding",
    b"content-length",
    b"content-range",
    b"content-type",
    b"cookie",
    b"date",
    b"expect",
    b"forwarded",
    b"host",
    b"location",
    b"origin",
    b"set-cookie",
    b"strict-transport-security",
    b"transfer-encoding",
    b"vary",
    b"via",
    b"www-authenticate",
    b"x-real-ip",
];

/// Each option is compared with each field, so their number is bounded; real messages name at most a handful.
const OPTIONS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field;

    /// The options of a head, and the names of its fields that end here.
    fn processed(head: &str) -> (Result<ConnectionOptions, HeadError>, Vec<String>) {
        let mut headers = [httparse::EMPTY_HEADER; 8];
        let (_, parsed) = httparse::parse_headers(head.as_bytes(), &mut headers).unwrap().unwrap();
        let mut fields = Vec::new();
        field::collect(head.as_bytes(), parsed, &mut fields).unwrap();
        let options = process(head.as_bytes(), &mut fields);
        let ending = field::iterate(head.as_bytes(), &fields).filter(|field| field.hop_by_hop);
        (options, ending.map(|field| field.name.to_owned()).collect())
    }

    #[test]
    fn nominated_fields_end_here() {
        let head = "Connection: X-a , ,x-B\r\nX-A: 1\r\nx-b: 2\r\nx-a: 3\r\nx-c: 4\r\n\r\n";
        let (options, ending) = processed(head);
        assert_eq!(options, Ok(ConnectionOptions::default()));
        assert_eq!(ending, ["Connection", "X-A", "x-b", "x-a"]);
    }

    #[test]
    fn nominations_reach_fields_before_and_after_on_every_line() {
        let (_, ending) = processed("a: 1\r\nConnection: b\r\nb: 2\r\nconnection: a\r\n\r\n");
        assert_eq!(ending, ["a", "Connection", "b", "connection"]);
    }

    #[test]
    fn protected_fields_cannot_be_nominated() {
        for name in PROTECTED.iter().copied().chain([&b"X-Forwarded-For"[..], b"x-forwarded-client-cert"]) {
            let name = String::from_utf8_lossy(name).to_uppercase();
            let (options, _) = processed(&format!("Connection: close, {name}\r\n\r\n"));
            assert_eq!(options, Err(HeadError::ProtectedConnectionOption), "{name}");
        }
    }

    #[test]
    fn options_that_are_no_tokens_are_refused() {
        for value in ["a b", "\"close\"", "close;x", "close, (", "x@y", "\u{e9}"] {
            let (options, _) = processed(&format!("Connection: {value}\r\n\r\n"));
            assert_eq!(options, Err(HeadError::BadConnectionOption), "{value}");
        }
    }

    #[test]
    fn the_number_of_options_is_limited() {
        let head = |count: usize| format!("Connection: {}\r\n\r\n", vec!["a"; count].join(","));
        assert!(processed(&head(OPTIONS_MAX)).0.is_ok());
        let expected = Err(HeadError::TooManyConnectionOptions { options_max: OPTIONS_MAX });
        assert_eq!(processed(&head(OPTIONS_MAX + 1)).0, expected);
    }

    #[test]
    fn persistence_follows_version_and_options() {
        for (value, http10, http11) in [
            ("", false, true),
            ("close", false, false),
            ("Keep-Alive", true, true),
            ("keep-alive, close", false, false),
            ("close, keep-alive", false, false),
            ("x-close", false, true),
        ] {
            let options = processed(&format!("Connection: {value}\r\n\r\n")).0.unwrap();
            assert_eq!(options.persists(Version::Http10), http10, "{value:?} on 1.0");
            assert_eq!(options.persists(Version::Http11), http11, "{value:?} on 1.1");
        }
    }
}
