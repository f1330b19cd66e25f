//! Which responses are touched, and how; through the functions that need no worker.

use ringward_http::{HeadLimits, RequestKind};

use super::*;

fn response(lines: &[&str]) -> ResponseHead {
    respond("200 OK", lines, RequestKind::Other)
}

fn respond(status: &str, lines: &[&str], kind: RequestKind) -> ResponseHead {
    let mut text = format!("HTTP/1.1 {status}\r\n");
    lines.iter().for_each(|line| text += &format!("{line}\r\n"));
    let mut head = ResponseHead::new();
    let limits = HeadLimits { head_bytes_max: 1 << 16, fields_max: 100 };
    head.parse((text + "\r\n").as_bytes(), kind, &limits).unwrap().unwrap();
    head
}

fn request(method: &str) -> RequestHead {
    let text = format!("{method} / HTTP/1.1\r\nhost: a.test\r\n\r\n");
    let mut head = RequestHead::new();
    let limits = HeadLimits { head_bytes_max: 1 << 16, fields_max: 100 };
    head.parse(text.as_bytes(), &limits).unwrap().unwrap();
    head
}

#[test]
fn whole_bodies_alone_are_compressed() {
    for (status, lines, whole) in [
        ("200 OK", &["content-length: 5"][..], true),
        ("200 OK", &["transfer-encoding: chunked"], true),
        ("200 OK", &[], true),
        ("404 Not Found", &["content-length: 5"], true),
        ("500 Internal Server Error", &["content-length: 5"], true),
        ("200 OK", &["content-length: 0"], false),
        ("206 Partial Content", &["content-length: 5"], false),
        ("204 No Content", &[], false),
        ("205 Reset Content", &["content-length: 5"], false),
        ("304 Not Modified", &[], false),
    ] {
        let head = respond(status, lines, RequestKind::Other);
        assert_eq!(has_whole_body(&request("GET"), &head), whole, "{status} {lines:?}");
    }
    // What a GET would have had.
    let head = respond("200 OK", &["content-length: 5"], RequestKind::Head);
    assert!(has_whole_body(&request("HEAD"), &head));
    let head = respond("206 Partial Content", &["content-length: 5"], RequestKind::Head);
    assert!(!has_whole_body(&request("HEAD"), &head));
}

#[test]
fn no_transform_is_found_wherever_it_stands() {
    for (value, found) in [
        ("no-transform", true),
        ("No-Transform", true),
        ("max-age=60,no-transform", true),
        ("public , \tno-transform ,x", true),
        ("no-transform=\"x\"", true),
        ("private=\"x\", no-transform", true),
        ("no-transforms", false),
        ("x-no-transform", false),
        ("no-store", false),
        ("", false),
    ] {
        assert_eq!(has_no_transform(value.as_bytes()), found, "{value}");
    }
}

#[test]
fn vary_is_said_once() {
    for (lines, adds) in [
        (&[][..], true),
        (&["vary: origin"], true),
        (&["vary: accept-encodings"], true),
        (&["vary: Accept-Encoding"], false),
        (&["vary: origin, accept-encoding"], false),
        (&["vary: origin", "vary: accept-encoding"], false),
        (&["vary: *"], false),
    ] {
        let recoded = Recoded::varying(&response(lines));
        let fields = recoded.fields();
        assert_eq!(fields.iter().any(|field| *field == ("vary", &b"accept-encoding"[..])), adds, "{lines:?}");
        assert!(!recoded.is_encoded() && !recoded.drops(b"etag") && !recoded.drops(b"accept-ranges"));
    }
}

#[test]
fn tags_become_weak_and_digests_go() {
    for (lines, dropped, expected) in [
        (&[][..], false, None),
        (&["etag: \"a\""], true, Some("W/\"a\"")),
        (&["etag: \"\""], true, Some("W/\"\"")),
        (&["etag: W/\"a\""], false, None),
        (&["etag: a"], true, None),
        (&["etag: \"a"], true, None),
        (&["etag: \"a\" \"b\""], true, None),
        (&["etag: w/\"a\""], true, None),
        (&["etag: \"a\"", "etag: \"b\""], true, None),
        (&["etag: W/\"a\"", "etag: W/\"b\""], true, None),
    ] {
        let head = response(lines);
        let mut recoded = Recoded::varying(&head);
        recoded.encode("br", &head);
        assert_eq!(recoded.drops(b"ETag"), dropped, "{lines:?}");
        let fields = recoded.fields();
        let etag = fields.iter().find(|(name, _)| *name == "etag");
        assert_eq!(etag.map(|(_, value)| *value), expected.map(str::as_bytes), "{lines:?}");
        assert!(fields.contains(&("content-encoding", b"br")));
        for name in ["Accept-Ranges", "Content-MD5", "Digest", "Repr-Digest", "content-digest"] {
            assert!(recoded.drops(name.as_bytes()), "{name}");
        }
        assert!(!recoded.drops(b"last-modified") && !recoded.drops(b"vary") && !recoded.drops(b"digests"));
    }
}
