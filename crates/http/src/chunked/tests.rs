use super::*;

/// The names and values of the trailers of a body without data.
fn trailers_of(section: &str, drop_trailer: fn(&[u8]) -> bool) -> Result<Vec<(String, String)>, ChunkError> {
    let mut decoder = ChunkedDecoder::new(drop_trailer);
    let body = format!("0\r\n{section}\r\n");
    assert_eq!(decoder.decode(body.as_bytes())?, Decoded::Done { consumed: body.len() });
    let text = |(name, value): (&str, &[u8])| (name.to_owned(), String::from_utf8_lossy(value).into_owned());
    Ok(decoder.trailers().map(text).collect())
}

fn drop_nothing(_: &[u8]) -> bool {
    false
}

#[test]
fn data_is_found_in_place() {
    let mut decoder = ChunkedDecoder::new(drop_nothing);
    let body = b"5;x\r\nhello\r\n2\r\n!!\r\n0\r\n\r\nrest";
    assert_eq!(decoder.decode(body), Ok(Decoded::Data { skip: 5, data: 5 }));
    assert_eq!(decoder.decode(&body[10..]), Ok(Decoded::Data { skip: 5, data: 2 }));
    assert!(!decoder.is_done());
    assert_eq!(decoder.decode(&body[17..]), Ok(Decoded::Done { consumed: 7 }));
    assert!(decoder.is_done());
    assert_eq!(decoder.decode(&body[24..]), Ok(Decoded::Done { consumed: 0 }), "what follows is another's");
}

#[test]
fn empty_input_changes_nothing() {
    let mut decoder = ChunkedDecoder::new(drop_nothing);
    assert_eq!(decoder.decode(b""), Ok(Decoded::NeedMore { consumed: 0 }));
    assert_eq!(decoder.decode(b"3\r\nab"), Ok(Decoded::Data { skip: 3, data: 2 }));
    assert_eq!(decoder.decode(b""), Ok(Decoded::NeedMore { consumed: 0 }));
    assert_eq!(decoder.decode(b"c\r\n"), Ok(Decoded::Data { skip: 0, data: 1 }));
}

#[test]
fn the_largest_chunk_is_bounded() {
    let mut decoder = ChunkedDecoder::new(drop_nothing);
    let input = format!("{}\r\nx", "f".repeat(CHUNK_SIZE_DIGITS_MAX));
    assert_eq!(
        decoder.decode(input.as_bytes()),
        Ok(Decoded::Data { skip: CHUNK_SIZE_DIGITS_MAX + 2, data: 1 })
    );
    decoder.reset();
    let input = format!("{}\r\nx", "f".repeat(CHUNK_SIZE_DIGITS_MAX + 1));
    assert_eq!(decoder.decode(input.as_bytes()), Err(ChunkError::BadSize));
}

#[test]
fn extensions_are_bounded_over_the_whole_body() {
    let body = |extension_bytes: usize| {
        let half = "x".repeat(extension_bytes / 2);
        let rest = "x".repeat(extension_bytes - extension_bytes / 2);
        format!("1;{half}\r\nx\r\n0;{rest}\r\n\r\n")
    };
    let decode = |body: &str| {
        let mut decoder = ChunkedDecoder::new(drop_nothing);
        let Decoded::Data { skip, data } = decoder.decode(body.as_bytes())? else { panic!("data first") };
        decoder.decode(&body.as_bytes()[skip + data..])
    };
    assert!(matches!(decode(&body(EXTENSION_BYTES_MAX)), Ok(Decoded::Done { .. })));
    let error = ChunkError::ExtensionsTooLong { bytes_max: EXTENSION_BYTES_MAX };
    assert_eq!(decode(&body(EXTENSION_BYTES_MAX + 1)), Err(error));
}

#[test]
fn trailers_are_bounded() {
    let bytes = |len: usize| trailers_of(&format!("x: {}\r\n", "y".repeat(len - 7)), drop_nothing);
    assert_eq!(bytes(TRAILER_BYTES_MAX).map(|trailers| trailers.len()), Ok(1));
    assert_eq!(
        bytes(TRAILER_BYTES_MAX + 1),
        Err(ChunkError::TrailersTooLong { bytes_max: TRAILER_BYTES_MAX })
    );
    let fields = |count: usize| trailers_of(&"x: y\r\n".repeat(count), drop_nothing);
    assert_eq!(fields(TRAILER_FIELDS_MAX).map(|trailers| trailers.len()), Ok(TRAILER_FIELDS_MAX));
    let error = ChunkError::TooManyTrailers { fields_max: TRAILER_FIELDS_MAX };
    assert_eq!(fields(TRAILER_FIELDS_MAX + 1), Err(error));
}

#[test]
fn trailers_without_end_are_bounded() {
    let mut decoder = ChunkedDecoder::new(drop_nothing);
    decoder.decode(b"0\r\n").unwrap();
    let outcome = (0..=TRAILER_BYTES_MAX).find_map(|_| decoder.decode(b"x").err());
    assert_eq!(outcome, Some(ChunkError::TrailersTooLong { bytes_max: TRAILER_BYTES_MAX }));
    assert!(decoder.trailer_section.len() <= TRAILER_BYTES_MAX);
}

#[test]
fn forbidden_trailers_are_dropped() {
    let named = FORBIDDEN_TRAILERS.iter().map(|name| String::from_utf8_lossy(name).into_owned());
    let known = ["Connection", "Date", "Expect", "Forwarded", "Host", "TE", "Trailer", "Upgrade", "Via"]
        .map(String::from);
    let prefixed = [
        "If-Match",
        "if_none_match",
        "X-Forwarded-For",
        "x_forwarded_client_cert",
        "Access-Control-Allow-Origin",
    ];
    for name in named.chain(known).chain(prefixed.map(String::from)) {
        for name in [name.to_uppercase(), name.replace('-', "_"), name] {
            let kept = trailers_of(&format!("a: 1\r\n{name}: x\r\nb: 2\r\n"), drop_nothing).unwrap();
            assert_eq!(kept.iter().map(|(name, _)| &name[..]).collect::<Vec<_>>(), ["a", "b"], "{name}");
        }
    }
}

#[test]
fn the_caller_drops_trailers_too() {
    let section = "Grpc-Status: 0\r\nX-Identity: root\r\nx-IDENTITY: root\r\nServer-Timing: a \r\n";
    let kept = trailers_of(section, |name| name.eq_ignore_ascii_case(b"x-identity")).unwrap();
    let expected = [("Grpc-Status", "0"), ("Server-Timing", "a")];
    assert_eq!(kept, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn a_decoder_is_reused_without_rests_of_the_last() {
    let mut decoder = ChunkedDecoder::new(drop_nothing);
    decoder.decode(b"0;ext\r\na: b\r\n\r\n").unwrap();
    assert_eq!(decoder.trailers().count(), 1);
    decoder.reset();
    assert_eq!((decoder.trailers().count(), decoder.extension_bytes), (0, 0));
    assert_eq!(decoder.decode(b"0\r\n\r\n"), Ok(Decoded::Done { consumed: 5 }));
    assert_eq!(decoder.trailers().count(), 0);
    assert!(decoder.decode(b"x").is_ok());
    decoder.reset();
    assert_eq!(decoder.decode(b"x"), Err(ChunkError::BadSize));
    decoder.reset();
    assert_eq!(decoder.decode(b"0\r\n\r\n"), Ok(Decoded::Done { consumed: 5 }), "an error is forgotten");
}
