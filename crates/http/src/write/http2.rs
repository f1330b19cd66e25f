//! Heads for HTTP/2: the same fields as on HTTP/1.1, one by one, and no framing.

use memchr::memchr;

use super::{Received, RequestEdits, ResponseEdits, WriteError, check_settable, is_replaced, request_head};
use crate::chunked::is_forbidden_trailer;
use crate::field::Known;
use crate::framing::BodyFraming;
use crate::token::{is_field_value, is_token, trim_ows};
use crate::{RequestHead, ResponseHead};

/// What an upstream that speaks HTTP/2 gets of a request.
#[derive(Debug, Clone, Copy)]
pub struct Http2Fields<'a> {
    /// Path and query, or `*`: `:path`.
    pub target: &'a [u8],
    /// `:authority`; empty if there is none.
    pub authority: &'a [u8],
    /// Field lines of our own writing, the first of which is `host`.
    lines: &'a [u8],
    takes_trailers: bool,
}

/// Prepares the head of a request for an upstream that speaks HTTP/2, in `image`, which is emptied first. What
/// [`super::request_head`] would write is what goes on, but for what is about an HTTP/1.1 connection; `:method` is
/// that of the head.
///
/// # Errors
/// As [`super::request_head`].
pub fn request_fields<'a>(
    image: &'a mut Vec<u8>,
    head: &RequestHead,
    edits: &RequestEdits<'_>,
) -> Result<Http2Fields<'a>, WriteError> {
    image.clear();
    request_head(image, head, edits)?;
    let (start, lines) = split_line(image);
    // The method is a token and the target has no blank, so that the target is what stands between the two blanks.
    let target = start.split(|&byte| byte == b' ').nth(1).unwrap_or_default();
    let authority = split_line(lines).0.strip_prefix(b"host: ").unwrap_or_default();
    // RFC 9113 §8.2.2. Trailers go on to every client, but whether it understands them only the client can say.
    let options = head.fields().filter(|field| field.name.eq_ignore_ascii_case("te"));
    let takes_trailers = options
        .flat_map(|field| field.value.split(|&byte| byte == b','))
        .any(|option| trim_ows(option).eq_ignore_ascii_case(b"trailers"));
    Ok(Http2Fields { target, authority, lines, takes_trailers })
}

impl<'a> Http2Fields<'a> {
    /// Names, in any case, and values.
    pub fn fields(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let mut lines = self.lines;
        let fields = std::iter::from_fn(move || {
            let line;
            (line, lines) = split_line(lines);
            // Behind the name stand `: `, as this crate writes it; the head ends with an empty line.
            let name = memchr(b':', line)?;
            Some((&line[..name], line.get(name + 2..).unwrap_or_default()))
        });
        let ours = |name: &[u8]| name == b"host" || name == b"transfer-encoding";
        let te = self.takes_trailers.then_some((&b"te"[..], &b"trailers"[..]));
        fields.filter(move |(name, _)| !ours(name)).chain(te)
    }
}

/// A line without its CRLF, and what follows it.
fn split_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr(b'\r', bytes).unwrap_or(bytes.len());
    (&bytes[..end], bytes.get(end + 2..).unwrap_or_default())
}

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
        _ if edits.is_recoded => None,
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
    use crate::write::{Forwarded, QueryEdits};
    use crate::{HeadLimits, RequestKind, Version};

    fn fields(response: &str, kind: RequestKind, add: &[(&str, &[u8])]) -> Result<Vec<String>, WriteError> {
        let mut head = ResponseHead::new();
        let limits = HeadLimits { head_bytes_max: 4096, fields_max: 20 };
        head.parse(response.as_bytes(), kind, &limits).unwrap().unwrap();
        let edits = ResponseEdits {
            version: Version::Http2,
            keep_alive: true,
            is_recoded: false,
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

    fn request(request: &str, edits: &RequestEdits<'_>) -> Result<(String, Vec<String>), WriteError> {
        let mut head = RequestHead::new();
        let limits = HeadLimits { head_bytes_max: 4096, fields_max: 20 };
        head.parse(request.as_bytes(), &limits).unwrap().unwrap();
        let mut image = b"of an earlier head".to_vec();
        let written = request_fields(&mut image, &head, edits)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let fields = written.fields().map(|(name, value)| format!("{}: {}", text(name), text(value)));
        Ok((text(written.target), fields.collect()))
    }

    fn edits<'a>(framing: BodyFraming, set: &'a [(&'a str, &'a [u8])]) -> RequestEdits<'a> {
        RequestEdits {
            drop_field: &|name| name == b"client-cert",
            path: None,
            authority: None,
            query: QueryEdits { set: &[("c", "3")], remove: &["a"] },
            set,
            add: &[],
            via: Some("ringward"),
            forwarded: Forwarded::default(),
            framing,
            expect_continue: false,
        }
    }

    #[test]
    fn a_request_has_what_it_would_have_on_http_1_and_nothing_of_its_connection() {
        let plain = "GET /x/../y?a=1&b=2 HTTP/1.1\r\nHost: a.example\r\nConnection: x-a, te\r\nX-A: 1\r\nTE: gzip, Trailers\r\nclient-cert: forged\r\nX-B: 1: 2\r\nX-C:\r\nUpgrade: h2c\r\n\r\n";
        let (target, fields) = request(plain, &edits(BodyFraming::None, &[("x-s", b"s")])).unwrap();
        assert_eq!(target, "/y?b=2&c=3");
        assert_eq!(fields, ["X-B: 1: 2", "X-C: ", "via: 1.1 ringward", "x-s: s", "te: trailers"]);
        let chunked = "POST / HTTP/1.1\r\nHost: a.example\r\nTE: gzip\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n";
        let (_, fields) = request(chunked, &edits(BodyFraming::Chunked, &[])).unwrap();
        assert_eq!(fields, ["via: 1.1 ringward"]);
        let (_, fields) = request(chunked, &edits(BodyFraming::Length(7), &[])).unwrap();
        assert_eq!(fields, ["via: 1.1 ringward", "content-length: 7"]);
        for set in [("connection", &b"x"[..]), ("x", b"1\r\ny: 2"), (":path", b"/"), ("host", b"b")] {
            assert!(request(plain, &edits(BodyFraming::None, &[set])).is_err(), "{set:?}");
        }
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
