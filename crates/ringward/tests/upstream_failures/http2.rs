//! What an upstream of HTTP/2 can do. What can be wrong with single frames is in `http2_upstream/broken.rs`.

use ringward_testkit::{fields_block, flags, frame, kind};

use super::Asks::{Get, HastyGet, HastyUpload, LimitedGet, Post, Twice, Upload};
use super::Sees::{Cut, Status, Whole};
use super::Step::{
    Body, ClientHasHead, ClientHasResponse, Close, Flood, Head, IsLeft, LetItAsk, Mute, Reset, Send,
};
use super::{Row, Step};

pub(super) fn rows() -> Vec<Row> {
    [before_a_head(), within_the_upload(), within_the_body(), idle()].concat()
}

fn before_a_head() -> Vec<Row> {
    let large = "v".repeat(9000);
    let endless = frame(kind::CONTINUATION, 0, 1, &[0; 16_000]);
    vec![
        Row::new(
            "connected: no settings",
            HastyGet,
            vec![Mute, IsLeft],
            Status(504),
            "upstream_connect_timeout",
        ),
        Row::new("connected: closes", Get, vec![Mute, Body(1), Close], Status(502), "upstream_connect"),
        Row::new(
            "connected: garbage",
            Get,
            vec![Mute, Body(1), Send(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()), IsLeft],
            Status(502),
            "upstream_connect",
        ),
        Row::new("asked: says nothing", HastyGet, vec![Head, IsLeft], Status(504), "upstream_timeout"),
        Row::new("asked: closes", Get, vec![Head, Close], Status(502), "upstream_closed"),
        Row::new("asked: resets", Post, vec![Head, Reset], Status(502), "upstream_reset"),
        Row::new("asked: resets the stream", Get, vec![Head, reset(CANCEL)], Status(502), "upstream_reset"),
        Row::new(
            "within the head: stalls",
            HastyGet,
            vec![Head, half_a_head(), IsLeft],
            Status(504),
            "upstream_timeout",
        ),
        Row::new(
            "within the head: closes",
            Get,
            vec![Head, half_a_head(), Close],
            Status(502),
            "upstream_closed",
        ),
        Row::new(
            "behind an interim head: stalls",
            HastyGet,
            vec![Head, head("103", &[], false), IsLeft],
            Status(504),
            "upstream_timeout",
        ),
        Row::new(
            "interim heads without end",
            Get,
            vec![Head, Send(frames_of_head("103", &[], false).repeat(50)), IsLeft],
            Status(502),
            "upstream_head_malformed",
        ),
        Row::new(
            "a head without end",
            Get,
            vec![Head, half_a_head(), Flood(endless)],
            Status(502),
            "upstream_protocol",
        ),
        Row::new(
            "a large head",
            Get,
            vec![Head, head("200", &[("x", &large)], true)],
            Status(502),
            "upstream_head_malformed",
        ),
        Row::new(
            "101 unasked for",
            Get,
            vec![Head, head("101", &[], false), IsLeft],
            Status(502),
            "upstream_head_malformed",
        ),
        Row::new(
            "HTTP/1.1",
            Get,
            vec![Head, Send(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()), IsLeft],
            Status(502),
            "upstream_protocol",
        ),
    ]
}

fn within_the_upload() -> Vec<Row> {
    let refusal =
        || Send([frames_of_head("413", &[("content-length", "4")], false), data(b"much", true)].concat());
    let no_error = reset(0);
    vec![
        // More than the windows, which nobody gives back.
        Row::new(
            "upload: takes nothing",
            HastyUpload(LARGE),
            vec![Head, IsLeft],
            Status(504),
            "upstream_timeout",
        ),
        Row::new(
            "upload: resets",
            Upload(LARGE),
            vec![Head, Body(10_000), Reset],
            Status(502),
            "upstream_reset",
        )
        .or("upstream_closed"),
        Row::new(
            "upload: resets the stream",
            Upload(LARGE),
            vec![Head, Body(10_000), reset(CANCEL)],
            Status(502),
            "upstream_reset",
        ),
        Row::new(
            "upload: answers early",
            Upload(LARGE),
            vec![Head, Body(1000), refusal(), IsLeft],
            Whole(413, "much"),
            "",
        ),
        Row::new(
            "upload: answers early and wants no more",
            Upload(LARGE),
            vec![Head, Body(1000), refusal(), no_error],
            Whole(413, "much"),
            "",
        ),
        Row::new(
            "upload: answers early and closes",
            Upload(LARGE),
            vec![Head, Body(1000), refusal(), Close],
            Whole(413, "much"),
            "",
        ),
    ]
}

fn within_the_body() -> Vec<Row> {
    let begun = |length: bool| {
        let fields: &[(&str, &str)] = if length { &[("content-length", "10")] } else { &[] };
        Send([frames_of_head("200", fields, false), data(b"short", false)].concat())
    };
    let cut = |name, asks, length, steps: &[Step], flag| {
        Row::new(name, asks, [&[Head, begun(length), ClientHasHead], steps].concat(), Cut(200), flag)
    };
    let large = "v".repeat(9000);
    let trailers = |fields: &[(&str, &str)]| {
        let block = fields_block(fields);
        Send(frame(kind::HEADERS, flags::END_HEADERS | flags::END_STREAM, 1, &block))
    };
    vec![
        cut("body with a length: stalls", HastyGet, true, &[IsLeft], "upstream_timeout"),
        cut("body without a length: stalls", HastyGet, false, &[IsLeft], "upstream_timeout"),
        cut("body with a length: closes", Get, true, &[Close], "upstream_truncated"),
        cut("body without a length: closes", Get, false, &[Close], "upstream_closed"),
        cut("body with a length: resets", Get, true, &[Reset], "upstream_reset"),
        cut("body without a length: resets", Get, false, &[Reset], "upstream_reset"),
        cut("body: resets the stream", Get, false, &[reset(CANCEL)], "upstream_reset"),
        // RFC 9113 §8.1: what was begun is not whole, whatever the reason says.
        cut("body: resets the stream without a reproach", Get, false, &[reset(0)], "upstream_reset"),
        cut("body with a length: ends early", Get, true, &[Send(data(b"", true))], "upstream_protocol"),
        cut("body with a length: excess", Get, true, &[Send(data(b"excess", false))], "upstream_protocol"),
        cut("trailers: too large", Get, false, &[trailers(&[("x", &large)])], "upstream_body_malformed"),
        cut("trailers: malformed", Get, false, &[trailers(&[("x y", "z")])], "upstream_protocol"),
        cut(
            "data without end, byte by byte",
            LimitedGet,
            false,
            &[Flood(data(b"x", false))],
            "request_timeout",
        ),
    ]
}

/// A kept connection, and the next request.
fn idle() -> Vec<Row> {
    let first = Send([frames_of_head("200", &[], false), data(b"first", true)].concat());
    let second = vec![Head, Send([frames_of_head("200", &[], false), data(b"second", true)].concat())];
    let kept = |name, method, steps: &[Step], sees, flag| {
        let begin = [Head, first.clone(), ClientHasResponse];
        Row::new(name, Twice(method), [&begin, steps].concat(), sees, flag)
    };
    let again = Whole(200, "second");
    // It has processed stream 1 and nothing behind it: also what is not idempotent goes to the next connection.
    let leaves = Send(frame(kind::GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]));
    vec![
        kept("idle: leaves as it is asked, POST", "POST", &[LetItAsk, Head, leaves, IsLeft], again, "")
            .then(second.clone()),
        kept(
            "idle: refuses the stream, POST",
            "POST",
            &[LetItAsk, Head, reset_of(3, REFUSED_STREAM), Close],
            again,
            "",
        )
        .then(second.clone()),
        kept("idle: closes as it is asked, GET", "GET", &[LetItAsk, Head, Close], again, "").then(second),
        kept(
            "idle: resets as it is asked, POST",
            "POST",
            &[LetItAsk, Head, Reset],
            Status(502),
            "upstream_reset",
        ),
    ]
}

fn frames_of_head(status: &str, fields: &[(&str, &str)], ends: bool) -> Vec<u8> {
    let flags = flags::END_HEADERS | if ends { flags::END_STREAM } else { 0 };
    frame(kind::HEADERS, flags, 1, &fields_block(&[&[(":status", status)], fields].concat()))
}

fn head(status: &str, fields: &[(&str, &str)], ends: bool) -> Step {
    Send(frames_of_head(status, fields, ends))
}

/// A head that CONTINUATION would have to end.
fn half_a_head() -> Step {
    Send(frame(kind::HEADERS, 0, 1, &fields_block(&[(":status", "200")])))
}

fn data(bytes: &[u8], ends: bool) -> Vec<u8> {
    frame(kind::DATA, if ends { flags::END_STREAM } else { 0 }, 1, bytes)
}

fn reset(code: u32) -> Step {
    reset_of(1, code)
}

fn reset_of(stream: u32, code: u32) -> Step {
    Send(frame(kind::RST_STREAM, 0, stream, &code.to_be_bytes()))
}

// RFC 9113 §7.
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
/// More than a window.
const LARGE: u64 = 200_000;
