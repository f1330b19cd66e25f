//! Every case of the corpora, whole and split everywhere: the outcome must be the one written down, and may not depend
//! on how the bytes arrive.

mod common;

use common::{Case, cases};
use ringward_http::{
    BodyFraming, ChunkedDecoder, Decoded, HeadLimits, RequestHead, RequestKind, ResponseHead,
};

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 4096, fields_max: 20 };

#[test]
fn request_heads() {
    for case in cases(include_str!("corpus/request_heads.txt")) {
        let verdict = |head: &mut RequestHead, input: &[u8]| match head.parse(input, &LIMITS) {
            Ok(Some(len)) => Some((format!("ok {}", framing(head.body())), Some(len))),
            Ok(None) => None,
            Err(error) => Some((error.flag().to_owned(), None)),
        };
        check_head(&case, verdict);
    }
}

#[test]
fn response_heads() {
    for case in cases(include_str!("corpus/response_heads.txt")) {
        let verdict =
            |head: &mut ResponseHead, input: &[u8]| match head.parse(input, RequestKind::Other, &LIMITS) {
                Ok(Some(len)) => {
                    let connection = if head.keep_alive() { "keep" } else { "close" };
                    Some((format!("ok {} {connection}", framing(head.body())), Some(len)))
                }
                Ok(None) => None,
                Err(error) => Some((error.flag().to_owned(), None)),
            };
        check_head(&case, verdict);
    }
}

#[test]
fn chunked_bodies() {
    for case in cases(include_str!("corpus/chunked_bodies.txt")) {
        let whole = decode(&[&case.bytes]);
        let verdict = match &whole {
            Outcome::Done { data, rest, .. } => format!("ok {} {}", data.len(), rest.len()),
            Outcome::Incomplete { .. } => "incomplete".to_owned(),
            Outcome::Refused(error) => error.split([' ', '{']).next().unwrap().to_owned(),
        };
        assert_eq!(verdict, case.verdict, "{}", case.name);
        for split in 0..=case.bytes.len() {
            let (front, back) = case.bytes.split_at(split);
            assert_eq!(decode(&[front, back]), whole, "split at {split}: {}", case.name);
        }
        let bytes: Vec<&[u8]> = case.bytes.chunks(1).collect();
        assert_eq!(decode(&bytes), whole, "byte by byte: {}", case.name);
    }
}

/// Checks the verdict on the whole input, on each split in two, and byte by byte.
fn check_head<H: Default>(case: &Case, verdict: impl Fn(&mut H, &[u8]) -> Option<(String, Option<usize>)>) {
    let input = &case.bytes[..];
    let whole = verdict(&mut H::default(), input);
    let shown = whole.as_ref().map_or("incomplete", |(verdict, _)| verdict);
    assert_eq!(shown, case.verdict, "{}", case.name);
    for split in 0..=input.len() {
        let mut head = H::default();
        let outcome = verdict(&mut head, &input[..split]).or_else(|| verdict(&mut head, input));
        assert_eq!(outcome, whole, "split at {split}: {}", case.name);
    }
    let mut head = H::default();
    let outcome = (0..=input.len()).find_map(|end| verdict(&mut head, &input[..end]));
    assert_eq!(outcome, whole, "byte by byte: {}", case.name);
}

fn framing(framing: BodyFraming) -> String {
    match framing {
        BodyFraming::None => "none".to_owned(),
        BodyFraming::Length(length) => length.to_string(),
        BodyFraming::Chunked => "chunked".to_owned(),
        BodyFraming::UntilClose => "close".to_owned(),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Done { data: Vec<u8>, trailers: Vec<(String, Vec<u8>)>, rest: Vec<u8> },
    Incomplete { data: Vec<u8> },
    Refused(String),
}

/// Decodes a body that arrives in parts.
fn decode(parts: &[&[u8]]) -> Outcome {
    let mut decoder = ChunkedDecoder::new(|_| false);
    let mut data = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let mut input = *part;
        loop {
            match decoder.decode(input) {
                Ok(Decoded::Data { skip, data: len }) => {
                    assert!(len > 0, "progress");
                    data.extend_from_slice(&input[skip..skip + len]);
                    input = &input[skip + len..];
                }
                Ok(Decoded::NeedMore { consumed }) => {
                    assert_eq!(consumed, input.len());
                    break;
                }
                Ok(Decoded::Done { consumed }) => {
                    let rest = [&[&input[consumed..]], &parts[index + 1..]].concat().concat();
                    let owned = |(name, value): (&str, &[u8])| (name.to_owned(), value.to_vec());
                    return Outcome::Done { data, trailers: decoder.trailers().map(owned).collect(), rest };
                }
                Err(error) => {
                    assert_eq!(decoder.decode(b"0\r\n\r\n"), Err(error), "an error is final");
                    return Outcome::Refused(format!("{error:?}"));
                }
            }
        }
    }
    Outcome::Incomplete { data }
}
