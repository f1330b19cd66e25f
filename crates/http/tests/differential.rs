//! hyper as the oracle: what hyper's server refuses, we refuse, and what both accept, both frame alike. We may refuse
//! more, and each way in which we do is listed with the number of heads that met it.

#[expect(dead_code, reason = "only the bytes of the cases matter here")]
mod common;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;

use common::cases;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, Version as HyperVersion};
use hyper_util::rt::TokioIo;
use ringward_http::{BodyFraming, ChunkedDecoder, Decoded, HeadLimits, RequestHead, Version};
use tokio::io::AsyncWriteExt;

/// hyper's own defaults for the number of fields; a head larger than any here.
const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 1 << 16, fields_max: 100 };

/// What both sides have to agree about.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    method: String,
    query: Option<String>,
    framing: BodyFraming,
    version: Version,
    /// Ordered by name; the order of equal names is that of the head.
    fields: Vec<(String, Vec<u8>)>,
}

#[tokio::test]
async fn what_hyper_refuses_we_refuse() {
    let mut refused_more = BTreeMap::<&'static str, usize>::new();
    let (mut accepted, mut refused) = (0, 0);
    for input in inputs(include_str!("corpus/request_heads.txt")) {
        let ours = ours(&input);
        let theirs = theirs(&input).await;
        let shown = String::from_utf8_lossy(&input);
        match (ours, theirs) {
            (Ok(ours), Some(theirs)) => {
                assert_eq!(ours, theirs, "the two read {shown:?} differently");
                accepted += 1;
            }
            (Ok(_), None) => panic!("hyper refuses what we accept: {shown:?}"),
            (Err(flag), Some(_)) => *refused_more.entry(flag).or_default() += 1,
            (Err(_), None) => refused += 1,
        }
    }
    println!("accepted by both: {accepted}, refused by both: {refused}, by us alone: {refused_more:#?}");
    assert!(
        accepted > 300 && refused > 300,
        "the inputs are one-sided: {accepted} accepted, {refused} refused"
    );
    // Where io.md found hyper too lenient for a gateway; each has to be met, or the inputs test nothing.
    for flag in [
        "bare_lf",
        "empty_line",
        "length_and_encoding",
        "repeated_content_length",
        "bad_transfer_encoding",
        "unsupported_transfer_encoding",
        "missing_host",
        "repeated_host",
        "bad_host",
        "host_mismatch",
        "connect_unsupported",
        "expectation_failed",
        "protected_connection_option",
        "path_above_root",
        "path_empty_segment",
        "path_forbidden_escape",
    ] {
        assert!(refused_more.contains_key(flag), "no input shows that we refuse {flag}");
    }
}

#[tokio::test]
async fn chunked_bodies_that_hyper_refuses_we_refuse() {
    let (mut accepted, mut refused) = (0, 0);
    for body in inputs(include_str!("corpus/chunked_bodies.txt")) {
        let ours = our_body(&body);
        let input = [b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", &body[..]].concat();
        let theirs = serve(&input, |request| async move {
            let body = request.into_body().collect().await;
            body.ok().map(|body| body.to_bytes().to_vec())
        });
        match (ours, theirs.await.flatten()) {
            (Some(ours), Some(theirs)) => {
                assert_eq!(ours, theirs, "the two read {:?} differently", String::from_utf8_lossy(&body));
                accepted += 1;
            }
            (Some(_), None) => panic!("hyper refuses what we accept: {:?}", String::from_utf8_lossy(&body)),
            (None, _) => refused += 1,
        }
    }
    assert!(
        accepted > 300 && refused > 300,
        "the inputs are one-sided: {accepted} accepted, {refused} refused"
    );
}

/// The corpus, and some thousand inputs made of it by a fixed seed.
fn inputs(corpus: &'static str) -> Vec<Vec<u8>> {
    let corpus: Vec<_> = cases(corpus).into_iter().map(|case| case.bytes).collect();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut inputs = corpus.clone();
    for _ in 0..20_000 {
        let mut input = corpus[random.below(corpus.len())].clone();
        for _ in 0..=random.below(3) {
            mutate(&mut input, &corpus, &mut random);
        }
        inputs.push(input);
    }
    inputs
}

fn mutate(input: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut Random) {
    let at = random.below(input.len() + 1);
    match random.below(6) {
        0 if at < input.len() => input[at] = INTERESTING[random.below(INTERESTING.len())],
        1 => input.insert(at, INTERESTING[random.below(INTERESTING.len())]),
        2 if at < input.len() => {
            input.remove(at);
        }
        // A line of another head.
        3 => {
            let other = &corpus[random.below(corpus.len())];
            let lines: Vec<_> = other.split_inclusive(|&byte| byte == b'\n').collect();
            let line = lines[random.below(lines.len())].to_vec();
            let start = input[..at].iter().rposition(|&byte| byte == b'\n').map_or(0, |lf| lf + 1);
            input.splice(start..start, line);
        }
        // A whole field that matters.
        4 => {
            let end = input.iter().position(|&byte| byte == b'\n').map_or(0, |lf| lf + 1);
            input.splice(end..end, FIELDS[random.below(FIELDS.len())].bytes());
        }
        // The tail of another head.
        _ => {
            let other = &corpus[random.below(corpus.len())];
            input.truncate(at);
            input.extend_from_slice(&other[at.min(other.len())..]);
        }
    }
}

const INTERESTING: &[u8] = b"\0\t\n\x0b\x0c\r  \"#%,.//0157:::;?@AHTchost[\\]_xz{|}~\x7f\x80\xa0\xff";

const FIELDS: &[&str] = &[
    "Content-Length: 5\r\n",
    "Content-Length:6\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip\r\n",
    "Transfer-Encoding:\tchunked \r\n",
    "Host: a\r\n",
    "Connection: keep-alive\r\n",
    "Connection: close\r\n",
    "Expect: 100-continue\r\n",
    "X: y\r\n",
];

/// xorshift64: reproducible without a dependency.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 32).expect("32 bits") % bound
    }
}

fn ours(input: &[u8]) -> Result<Seen, &'static str> {
    let mut head = RequestHead::new();
    match head.parse(input, &LIMITS) {
        Ok(Some(_)) => Ok(Seen {
            method: head.method().to_owned(),
            query: head.query().map(str::to_owned),
            framing: head.body(),
            version: head.version(),
            fields: ordered(
                head.fields().map(|field| (field.name.to_ascii_lowercase(), field.value.to_vec())),
            ),
        }),
        Ok(None) => Err("incomplete"),
        Err(error) => Err(error.flag()),
    }
}

/// The data of a chunked body; `None` if it is refused or never complete.
fn our_body(mut input: &[u8]) -> Option<Vec<u8>> {
    let mut decoder = ChunkedDecoder::new(|_| false);
    let mut body = Vec::new();
    loop {
        match decoder.decode(input).ok()? {
            Decoded::Data { skip, data } => {
                body.extend_from_slice(&input[skip..skip + data]);
                input = &input[skip + data..];
            }
            Decoded::NeedMore { .. } => return None,
            Decoded::Done { .. } => return Some(body),
        }
    }
}

/// What hyper's service gets to see of the first request; `None` if it is refused or never complete.
async fn theirs(input: &[u8]) -> Option<Seen> {
    serve(input, |request| {
        let seen = see(&request);
        async { seen }
    })
    .await
}

/// Serves `input` by hyper and returns what `look` makes of the first request.
async fn serve<T, F: Future<Output = T>>(input: &[u8], look: impl Fn(Request<Incoming>) -> F) -> Option<T> {
    let (mut client, server) = tokio::io::duplex(1 << 16);
    client.write_all(input).await.expect("the pipe is larger than any input");
    client.shutdown().await.expect("the server side is open");
    let seen = RefCell::new(None);
    let service = service_fn(|request: Request<Incoming>| {
        let looked = look(request);
        async {
            let looked = looked.await;
            seen.borrow_mut().get_or_insert(looked);
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    // The end of the input ends the connection, but not the service of a request before it. An error of the connection
    // says no more than the missing request.
    let mut builder = hyper::server::conn::http1::Builder::new();
    let _ = builder.half_close(true).serve_connection(TokioIo::new(server), service).await;
    seen.into_inner()
}

fn see(request: &Request<Incoming>) -> Seen {
    let has_length = request.headers().contains_key("content-length");
    let framing = match request.body().size_hint().exact() {
        Some(0) if !has_length => BodyFraming::None,
        Some(length) => BodyFraming::Length(length),
        None => BodyFraming::Chunked,
    };
    Seen {
        method: request.method().to_string(),
        query: request.uri().query().map(str::to_owned),
        framing,
        version: if request.version() == HyperVersion::HTTP_10 { Version::Http10 } else { Version::Http11 },
        fields: ordered(
            request.headers().iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())),
        ),
    }
}

/// A hyper map groups the fields of one name, so the order of different names cannot be compared.
fn ordered(fields: impl Iterator<Item = (String, Vec<u8>)>) -> Vec<(String, Vec<u8>)> {
    let mut fields: Vec<_> = fields.collect();
    fields.sort_by(|(left, _), (right, _)| left.cmp(right));
    fields
}
