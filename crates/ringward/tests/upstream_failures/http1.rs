//! What an upstream of HTTP/1.1 can do.

use super::Asks::{Get, HastyGet, HastyUpload, LimitedGet, Post, Twice, Upload};
use super::Sees::{Cut, Status, Whole};
use super::Step::{
    Body, ClientHasHead, ClientHasResponse, Close, Flood, Head, Idle, IsLeft, LetItAsk, Reset, Send, Truncate,
};
use super::{Row, Step};

pub(super) fn rows() -> Vec<Row> {
    [before_a_head(), within_the_upload(), heads(), within_the_body(), behind_the_body(), idle()].concat()
}

fn before_a_head() -> Vec<Row> {
    vec![
        Row::new("connected: takes nothing", HastyGet, vec![IsLeft], Status(504), "upstream_timeout"),
        Row::new("asked: says nothing", HastyGet, vec![Head, IsLeft], Status(504), "upstream_timeout"),
        Row::new("asked: closes", Get, vec![Head, Close], Status(502), "upstream_closed"),
        Row::new("asked: resets", Get, vec![Head, Reset], Status(502), "upstream_reset"),
        Row::new("asked: resets, POST", Post, vec![Head, Reset], Status(502), "upstream_reset"),
        Row::new(
            "within the head: closes",
            Get,
            vec![Head, send("HTTP/1.1 200 OK\r\nconte"), Close],
            Status(502),
            "upstream_closed",
        ),
        Row::new(
            "within the head: stalls",
            HastyGet,
            vec![Head, send("HTTP/1.1 200 OK\r\nconte"), IsLeft],
            Status(504),
            "upstream_timeout",
        ),
        Row::new(
            "behind an interim head: stalls",
            HastyGet,
            vec![Head, send("HTTP/1.1 103 Early Hints\r\n\r\n"), IsLeft],
            Status(504),
            "upstream_timeout",
        ),
        Row::new(
            "behind an interim head: closes",
            Get,
            vec![Head, send("HTTP/1.1 103 Early Hints\r\n\r\n"), Close],
            Status(502),
            "upstream_closed",
        ),
        Row::new(
            "interim heads without end",
            Get,
            vec![Head, Flood(b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec())],
            Status(502),
            "upstream_head_malformed",
        ),
        Row::new(
            "a head without end",
            Get,
            vec![Head, send("HTTP/1.1 200 OK\r\nx: "), Flood(vec![b'a'; 1000])],
            Status(502),
            "upstream_head_malformed",
        ),
    ]
}

fn within_the_upload() -> Vec<Row> {
    let refusal = "HTTP/1.1 413 Content Too Large\r\ncontent-length: 4\r\n\r\nmuch";
    let closing = "HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncontent-length: 4\r\n\r\nmuch";
    vec![
        Row::new(
            "upload: takes nothing",
            HastyUpload(LARGE),
            vec![Head, Idle, IsLeft],
            Status(504),
            "upstream_timeout",
        ),
        Row::new(
            "upload: resets",
            Upload(LARGE),
            vec![Head, Body(10_000), Reset],
            Status(502),
            "upstream_reset",
        ),
        Row::new(
            "upload: answers early and takes the rest",
            Upload(1_000_000),
            vec![Head, Body(1000), send(refusal), IsLeft],
            Whole(413, "much"),
            "",
        ),
        Row::new(
            "upload: answers early and closes",
            Upload(LARGE),
            vec![Head, Body(1000), send(closing), Close],
            Whole(413, "much"),
            "",
        ),
        Row::new(
            "upload: answers early and resets",
            Upload(LARGE),
            vec![Head, Body(1000), send(closing), Reset],
            Whole(413, "much"),
            "",
        ),
        Row::new(
            "upload: answers half and stalls",
            HastyUpload(LARGE),
            vec![Head, Body(1000), send("HTTP/1.1 413 Con"), IsLeft],
            Status(504),
            "upstream_timeout",
        ),
    ]
}

/// Heads that cannot be read, or lie about what follows.
fn heads() -> Vec<Row> {
    let malformed = |name, head: &str| {
        Row::new(name, Get, vec![Head, send(head), IsLeft], Status(502), "upstream_head_malformed")
    };
    vec![
        malformed("head: garbage", "garbage\r\n\r\n"),
        malformed("head: HTTP/0.9", "<html>hello</html>\r\n\r\n"),
        malformed("head: frames of HTTP/2", "\0\0\0\x04\0\0\0\0\0\r\n\r\n"),
        malformed(
            "head: two lengths",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        ),
        malformed(
            "head: a length and chunks",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        malformed("head: a negative length", "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n"),
        malformed("head: a coding that is not chunked", "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n"),
        malformed("head: a folded line", "HTTP/1.1 200 OK\r\nx: a\r\n folded\r\ncontent-length: 0\r\n\r\n"),
        malformed("head: bare line feeds", "HTTP/1.1 200 OK\ncontent-length: 0\n\n"),
        malformed("head: a NUL", "HTTP/1.1 200 OK\r\nx: \0\r\ncontent-length: 0\r\n\r\n"),
        malformed("head: status 600", "HTTP/1.1 600 Odd\r\ncontent-length: 0\r\n\r\n"),
        malformed(
            "head: 101 unasked for",
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        ),
    ]
}

fn within_the_body() -> Vec<Row> {
    let length = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort";
    let chunks = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nshort\r\n";
    let endless = "HTTP/1.1 200 OK\r\n\r\nshort";
    let cut = |name, asks, start: &str, steps: &[Step], flag| {
        Row::new(name, asks, [&[Head, send(start), ClientHasHead], steps].concat(), Cut(200), flag)
    };
    let trailers = format!("0\r\nx: {}\r\n\r\n", "v".repeat(20_000));
    vec![
        cut("body with a length: stalls", HastyGet, length, &[IsLeft], "upstream_timeout"),
        cut("body in chunks: stalls", HastyGet, chunks, &[IsLeft], "upstream_timeout"),
        cut("body without a length: stalls", HastyGet, endless, &[IsLeft], "upstream_timeout"),
        cut("body with a length: closes", Get, length, &[Close], "upstream_truncated"),
        cut("body in chunks: closes", Get, chunks, &[Close], "upstream_closed"),
        cut("body with a length: resets", Get, length, &[Reset], "upstream_reset"),
        cut("body in chunks: resets", Get, chunks, &[Reset], "upstream_reset"),
        cut("body without a length: resets", Get, endless, &[Reset], "upstream_reset"),
        cut("chunk: no size", Get, chunks, &[send("x\r\n"), IsLeft], "upstream_body_malformed"),
        cut(
            "chunk: an enormous size",
            Get,
            chunks,
            &[send("fffffffffffffffff\r\n"), IsLeft],
            "upstream_body_malformed",
        ),
        cut(
            "chunk: more than its size",
            Get,
            chunks,
            &[send("2\r\nabc\r\n"), IsLeft],
            "upstream_body_malformed",
        ),
        cut("chunks: stops behind the last", Get, chunks, &[send("0\r\n"), Close], "upstream_closed"),
        cut("trailers: too large", Get, chunks, &[send(&trailers), IsLeft], "upstream_body_malformed"),
        cut(
            "trailers: malformed",
            Get,
            chunks,
            &[send("0\r\nx y: z\r\n\r\n"), IsLeft],
            "upstream_body_malformed",
        ),
        cut(
            "chunks without end, one by one",
            LimitedGet,
            chunks,
            &[Flood(b"1\r\nx\r\n".to_vec())],
            "request_timeout",
        ),
    ]
}

/// More than was promised: what was promised goes through, and nothing else is ever asked on that connection.
fn behind_the_body() -> Vec<Row> {
    let evil = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    let excess = |name, answer: &str, status, body| {
        Row::new(name, Get, vec![Head, send(&format!("{answer}{evil}")), IsLeft], Whole(status, body), "")
    };
    vec![
        excess("excess behind a length", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", 200, "ok"),
        excess(
            "excess behind the last chunk",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            200,
            "ok",
        ),
        excess("excess behind a 204", "HTTP/1.1 204 No Content\r\n\r\n", 204, ""),
    ]
}

/// A kept connection, and the next request.
fn idle() -> Vec<Row> {
    let first = send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfirst");
    let second = vec![Head, send("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecond")];
    let kept = |name, method, steps: &[Step], sees, flag| {
        let begin = [Head, first.clone(), ClientHasResponse];
        Row::new(name, Twice(method), [&begin, steps].concat(), sees, flag)
    };
    let again = Whole(200, "second");
    let evil = send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil");
    vec![
        kept("idle: speaks unasked", "GET", &[evil, LetItAsk, IsLeft], again, "").then(second.clone()),
        kept("idle: closes as it is asked, GET", "GET", &[LetItAsk, Head, Close], again, "")
            .then(second.clone()),
        kept("idle: resets as it is asked, GET", "GET", &[LetItAsk, Head, Reset], again, "").then(second),
        // It may have been carried out: only the client can know whether to ask again.
        kept(
            "idle: closes as it is asked, POST",
            "POST",
            &[LetItAsk, Head, Close],
            Status(502),
            "upstream_closed",
        ),
        kept(
            "idle: resets as it is asked, POST",
            "POST",
            &[LetItAsk, Head, Reset],
            Status(502),
            "upstream_reset",
        ),
    ]
}

/// The end of TCP without an end of TLS, which anybody on the way can make.
pub(super) fn rows_of_tls() -> Vec<Row> {
    let cut = |name, start: &str| {
        Row::new(name, Get, vec![Head, send(start), ClientHasHead, Truncate], Cut(200), "upstream_reset")
    };
    vec![
        Row::new("asked: TLS does not end", Get, vec![Head, Truncate], Status(502), "upstream_reset"),
        cut("body with a length: TLS does not end", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort"),
        cut("body without a length: TLS does not end", "HTTP/1.1 200 OK\r\n\r\nshort"),
    ]
}

fn send(text: &str) -> Step {
    Send(text.as_bytes().to_vec())
}

/// More than the buffers of both kernels hold.
const LARGE: u64 = 64 << 20;
