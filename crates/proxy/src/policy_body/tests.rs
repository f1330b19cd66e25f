use super::*;

const BOUNDS: Bounds = Bounds { bytes_max: 8, body_bytes_max: 100, held_max: 0, timeout: Duration::ZERO };

fn chunked() -> Ahead {
    Ahead::of(BodyFraming::Chunked, &BOUNDS, Vec::new())
}

fn length(length: u64) -> Ahead {
    Ahead::of(BodyFraming::Length(length), &BOUNDS, Vec::new())
}

/// What is found when it arrives byte by byte: how many had arrived, whether the body goes on, and what was found.
fn byte_by_byte(mut ahead: Ahead, body: &[u8]) -> Option<(usize, bool, Vec<u8>)> {
    (0..=body.len()).find_map(|arrived| {
        let truncated = ahead.look(&body[..arrived], false).unwrap()?;
        Some((arrived, truncated, ahead.bytes.clone()))
    })
}

#[test]
fn no_more_is_waited_for_than_is_looked_at() {
    for (ahead, body, expected) in [
        (length(0), &b"next"[..], (0, false, &b""[..])),
        (length(5), b"hellonext", (5, false, b"hello")),
        (length(8), b"12345678next", (8, false, b"12345678")),
        (length(9), b"123456789next", (8, true, b"12345678")),
        (chunked(), b"0\r\n\r\nnext", (5, false, b"")),
        (chunked(), b"5\r\nhello\r\n0\r\n\r\nnext", (15, false, b"hello")),
        (chunked(), b"4;x\r\n1234\r\n4\r\n5678\r\n0\r\nx: y\r\n\r\nnext", (31, false, b"12345678")),
        (chunked(), b"9\r\n123456789\r\n0\r\n\r\n", (12, true, b"12345678")),
        (chunked(), b"8\r\n12345678\r\n1\r\n9\r\n0\r\n\r\n", (17, true, b"12345678")),
    ] {
        let (arrived, truncated, found) = expected;
        let text = String::from_utf8_lossy(body);
        assert_eq!(byte_by_byte(ahead, body), Some((arrived, truncated, found.to_vec())), "{text}");
    }
}

#[test]
fn a_part_is_never_taken_for_the_whole() {
    for (ahead, part) in [
        (length(5), &b"hell"[..]),
        (length(9), b"1234567"),
        (chunked(), b"5\r\nhello\r\n0\r\n\r"),
        (chunked(), b"8\r\n12345678\r\n"),
        (chunked(), b""),
    ] {
        assert_eq!(byte_by_byte(ahead, part), None, "{}", String::from_utf8_lossy(part));
    }
}

#[test]
fn broken_and_too_large_chunked_bodies_are_refused() {
    assert!(matches!(chunked().look(b"x\r\n", false), Err(ProxyError::Chunk(_))));
    let bounds = Bounds { body_bytes_max: 7, ..BOUNDS };
    let mut ahead = Ahead::of(BodyFraming::Chunked, &bounds, Vec::new());
    assert!(matches!(ahead.look(b"8\r\n12345678", false), Err(ProxyError::BodyTooLarge { limit: 7 })));
}

#[test]
fn framing_is_not_collected_without_end() {
    // As much of extensions as the decoder takes.
    let mut body = [b"1;", &vec![b'x'; 16 * 1024][..], b"\r\na\r\n1\r\nb\r\n"].concat();
    let mut ahead = chunked();
    assert_eq!(ahead.look(&body, false).unwrap(), None);
    body.extend(b"1\r\nc\r\n");
    assert_eq!((ahead.look(&body, false).unwrap(), &*ahead.bytes), (Some(true), &b"abc"[..]));
}

#[test]
fn rooms_share_what_there_is_and_give_it_back() {
    let held = HeldBodies::default();
    let (one, other) = (Room::new(&held), Room::new(&held));
    one.resize(60, 100).unwrap();
    other.resize(40, 100).unwrap();
    assert!(matches!(other.resize(41, 100), Err(ProxyError::PolicyBodyMemory { limit: 100 })));
    // A limit that was lowered meanwhile takes nothing away.
    assert!(one.resize(60, 50).is_err());
    assert_eq!(held.0.get(), 100);
    one.shrink(70);
    one.shrink(10);
    other.resize(90, 100).unwrap();
    drop(one);
    assert_eq!(held.0.get(), 90);
    drop(other);
    assert_eq!(held.0.get(), 0);
}

#[test]
fn the_copy_counts_before_it_is_made() {
    for (ahead, copied) in [(length(5), 5), (length(9), 8), (length(u64::MAX), 8), (chunked(), 0)] {
        assert_eq!(ahead.copied(), copied);
    }
    let mut ahead = chunked();
    assert_eq!(ahead.look(b"5\r\nhello\r\n", false).unwrap(), None);
    assert_eq!(ahead.copied(), 5);
}
