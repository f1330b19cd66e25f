//! Chunked bodies: split anywhere they decode as they do whole, and what was decoded survives being encoded again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringward_http::{ChunkError, ChunkedDecoder, Decoded, write};

fuzz_target!(|input: &[u8]| {
    let whole = decode(&[input]);
    // Any place will do that follows from the input alone.
    let split = input.iter().map(|byte| usize::from(*byte)).sum::<usize>() % (input.len() + 1);
    let (front, back) = input.split_at(split);
    assert_eq!(decode(&[front, back]), whole, "split at {split}");
    let bytes: Vec<&[u8]> = input.chunks(1).collect();
    assert_eq!(decode(&bytes), whole, "byte by byte");
    if let Ok(body @ Body { rest: Some(_), .. }) = whole {
        check_encoded(body);
    }
});

#[derive(Debug, PartialEq, Eq)]
struct Body {
    data: Vec<u8>,
    trailers: Vec<(String, Vec<u8>)>,
    /// How many bytes follow the body; `None` if it is not complete.
    rest: Option<usize>,
}

/// Decodes a body that arrives in parts.
fn decode(parts: &[&[u8]]) -> Result<Body, ChunkError> {
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
                    assert_eq!(consumed, input.len(), "all of it");
                    break;
                }
                Ok(Decoded::Done { consumed }) => {
                    let later: usize = parts[index + 1..].iter().map(|part| part.len()).sum();
                    let owned = |(name, value): (&str, &[u8])| (name.to_owned(), value.to_vec());
                    let trailers = decoder.trailers().map(owned).collect();
                    return Ok(Body { data, trailers, rest: Some(input.len() - consumed + later) });
                }
                Err(error) => {
                    assert_eq!(decoder.decode(b"0\r\n\r\n"), Err(error), "an error is final");
                    return Err(error);
                }
            }
        }
    }
    Ok(Body { data, trailers: Vec::new(), rest: None })
}

fn check_encoded(mut body: Body) {
    let mut encoded = Vec::new();
    for data in body.data.chunks(17) {
        write::chunk(&mut encoded, data);
    }
    let trailers = body.trailers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
    write::last_chunk(&mut encoded, trailers);
    body.rest = Some(0);
    assert_eq!(decode(&[&encoded]), Ok(body));
}
