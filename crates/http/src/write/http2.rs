//! Responses for HTTP/2: the same fields as on HTTP/1.1, one by one, and no framing.

use super::{Received, ResponseEdits, WriteError, check_settable, is_replaced};
use crate::ResponseHead;
use crate::chunked::is_forbidden_trailer;
use crate::field::Known;
use crate::framing::BodyFraming;
use crate::token::{is_field_value, is_token};

/// Gives `field` what the client gets of an upstream's response, interim or final, as names and values: what
/// [`super::response_head`] would write without what is about an HTTP/1.1 connection. `via`, `version` and `keep_alive`
/// of the edits do not count.
///
/// # Errors
/// If `edits` cannot be written safely; what was given until then is of no use.
pub fn response_fields(
    head: &ResponseHead,
    edits: &ResponseEdits<'_>,
    mut field: impl FnMut(&[u8], &[u8]),
) -> Result<(), WriteError> {
    let (bytes, fields) = head.raw();
    let received = Received { bytes, fields, set: edits.set, drop_field: edits.drop_field };
    received.fields(|known, _| known != Known::ContentLength).for_each(|(name, value)| field(name, value));
    if head.is_interim() {
        return Ok(());
    }
    let has_date =
        is_replaced(b"date", edits.set) || received.fields(|known, _| known == Known::Date).next().is_some();
    if let Some(date) = edits.date.filter(|&date| !has_date && is_field_value(date)) {
        field(b"date", date);
    }
    let length = match (head.body(), head.declared_length()) {
        (BodyFraming::Length(length), _) => Some(length),
        // RFC 9110 §8.6: what a GET would have had; not in a 204.
        (BodyFraming::None, Some(length)) if head.status() != 204 => Some(length),
        _ => None,
    };
    if let Some(length) = length {
        field(b"content-length", itoa::Buffer::new().format(length).as_bytes());
    }
    for (index, (name, value)) in edits.set.iter().chain(edits.add).enumerate() {
        check_settable(index, name, value)?;
        field(name.as_bytes(), value);
    }
    Ok(())
}

/// Whether a trailer may go on: well-formed, and none that RFC 9110 §6.5.1 forbids.
pub fn is_trailer(name: &[u8], value: &[u8]) -> bool {
    is_token(name) && is_field_value(value) && !is_forbidden_trailer(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HeadLimits, RequestKind, Version};

    fn fields(response: &str, kind: RequestKind, add: &[(&str, &[u8])]) -> Result<Vec<String>, WriteError> {
        let mut head = ResponseHead::new();
        let limits = HeadLimits { head_bytes_max: 4096, fields_max: 20 };
        head.parse(response.as_bytes(), kind, &limits).unwrap().unwrap();
        let edits = ResponseEdits {
            version: Version::Http2,
            keep_alive: true,
            via: None,
            date: Some(b"Thu, 01 Jan 1970 00:00:00 GMT"),
            drop_field: &|_| false,
            set: &[],
            add,
        };
        let mut shown = Vec::new();
        let mut field = |name: &[u8], value: &[u8]| {
            shown.push(format!("{}: {}", String::from_utf8_lossy(name), String::from_utf8_lossy(value)));
        };
        response_fields(&head, &edits, &mut field)?;
        Ok(shown)
    }

    #[test]
    fn nothing_of_the_upstream_connection_goes_on() {
        let response = "HTTP/1.1 200 OK\r\nConnection: x-a, close\r\nX-A: 1\r\nKeep-Alive: 5\r\nTransfer-Encoding: chunked\r\nUpgrade: h2c\r\nX-B: 2\r\n\r\n";
        let date = "date: Thu, 01 Jan 1970 00:00:00 GMT";
        assert_eq!(fields(response, RequestKind::Other, &[]).unwrap(), ["X-B: 2", date]);
        let sized = "HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 7\r\n\r\n";
        for kind in [RequestKind::Other, RequestKind::Head] {
            assert_eq!(fields(sized, kind, &[]).unwrap(), ["Date: now", "content-length: 7"], "{kind:?}");
        }
        let interim = "HTTP/1.1 103 Early Hints\r\nLink: a\r\nConnection: close\r\n\r\n";
        assert_eq!(fields(interim, RequestKind::Other, &[("x", b"y")]).unwrap(), ["Link: a"]);
    }

    #[test]
    fn what_could_not_be_set_on_http_1_cannot_be_set_here() {
        let response = "HTTP/1.1 200 OK\r\nDate: now\r\n\r\n";
        assert_eq!(fields(response, RequestKind::Other, &[("x-a", b"1")]).unwrap(), ["Date: now", "x-a: 1"]);
        for (name, value) in [
            ("x\r\n", &b"1"[..]),
            ("x", b"1\r\n"),
            ("connection", b"close"),
            ("content-length", b"1"),
            (":status", b"200"),
        ] {
            assert!(fields(response, RequestKind::Other, &[(name, value)]).is_err(), "{name}");
        }
    }
}
