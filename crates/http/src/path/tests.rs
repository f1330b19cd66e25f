use super::*;

/// The normal form and whether it holds an encoded slash.
fn check(raw: &str) -> Result<(String, bool), PathError> {
    let mut out = b"kept".to_vec();
    let found = normalise(raw.as_bytes(), &mut out)?;
    let appended = out.strip_prefix(b"kept").expect("what was in the buffer stays");
    let normal = if found.rewritten { str::from_utf8(appended).unwrap() } else { raw };
    assert_eq!(found.rewritten, normal != raw, "{raw}");
    assert!(found.rewritten || appended.is_empty(), "{raw}");
    Ok((normal.to_owned(), found.has_encoded_slash))
}

#[test]
fn normal_forms() {
    for (raw, normal) in [
        // RFC 3986 §3.3: already normal.
        ("/", "/"),
        ("/a", "/a"),
        ("/a/", "/a/"),
        ("/a/b-c._~!$&'()*+,;=:@", "/a/b-c._~!$&'()*+,;=:@"),
        ("/.well-known/x", "/.well-known/x"),
        ("/...", "/..."),
        ("/..a/b..", "/..a/b.."),
        ("/a;v=1/b;", "/a;v=1/b;"),
        ("/;x", "/;x"),
        ("/caf%C3%A9", "/caf%C3%A9"),
        ("/%20%22%25%3C%3F%23", "/%20%22%25%3C%3F%23"),
        // RFC 3986 §6.2.2.1, §6.2.2.2: case and needless escapes.
        ("/%c3%a9", "/%C3%A9"),
        ("/%41%7a%30%2d%2E%5f%7e", "/Az0-._~"),
        ("/%7euser", "/~user"),
        ("/%e2%82%ac/%f0%9f%98%80", "/%E2%82%AC/%F0%9F%98%80"),
        ("/%252e%252e", "/%252e%252e"),
        // RFC 3986 §5.2.4: dot segments.
        ("/.", "/"),
        ("/./", "/"),
        ("/a/.", "/a/"),
        ("/a/./b", "/a/b"),
        ("/a/..", "/"),
        ("/a/../", "/"),
        ("/a/b/..", "/a/"),
        ("/a/b/../c", "/a/c"),
        ("/a/b/c/./../../g", "/a/g"),
        ("/mid/content=5/../6", "/mid/6"),
        ("/a/%2e%2E/b", "/b"),
        ("/a/.%2e/b", "/b"),
        ("/a/%2e/b", "/a/b"),
    ] {
        assert_eq!(check(raw), Ok((normal.to_owned(), false)), "{raw}");
    }
}

#[test]
fn normalising_twice_changes_nothing() {
    for raw in ["/%7euser/./x", "/a/b/../%c3%a9", "/%252e", "/a%2fb/%2e"] {
        let (normal, has_encoded_slash) = check(raw).unwrap();
        assert_eq!(check(&normal), Ok((normal.clone(), has_encoded_slash)), "{raw}");
    }
}

#[test]
fn encoded_slashes_are_kept_and_reported() {
    for (raw, normal) in [
        ("/a%2Fb", "/a%2Fb"),
        ("/a%2fb", "/a%2Fb"),
        ("/%2F", "/%2F"),
        ("/a/%2f/../b/c%2F", "/a/b/c%2F"),
        ("/a%2F...%2Fb", "/a%2F...%2Fb"),
    ] {
        assert_eq!(check(raw), Ok((normal.to_owned(), true)), "{raw}");
    }
    assert_eq!(check("/a%252Fb"), Ok(("/a%252Fb".to_owned(), false)), "an escaped percent sign is no slash");
}

#[test]
fn refused_paths() {
    for (raw, error) in [
        ("", PathError::NotAbsolute),
        ("a", PathError::NotAbsolute),
        ("*", PathError::NotAbsolute),
        ("%2Fa", PathError::NotAbsolute),
        ("/a\\b", PathError::ForbiddenByte(b'\\')),
        ("/a#b", PathError::ForbiddenByte(b'#')),
        ("/a?b", PathError::ForbiddenByte(b'?')),
        ("/a b", PathError::ForbiddenByte(b' ')),
        ("/a\"", PathError::ForbiddenByte(b'"')),
        ("/<a>", PathError::ForbiddenByte(b'<')),
        ("/[a]", PathError::ForbiddenByte(b'[')),
        ("/a|b", PathError::ForbiddenByte(b'|')),
        ("/{a}", PathError::ForbiddenByte(b'{')),
        ("/a^", PathError::ForbiddenByte(b'^')),
        ("/a`", PathError::ForbiddenByte(b'`')),
        ("/a\0", PathError::ForbiddenByte(0)),
        ("/a\r", PathError::ForbiddenByte(b'\r')),
        ("/a\t", PathError::ForbiddenByte(b'\t')),
        ("/a\x7f", PathError::ForbiddenByte(0x7f)),
        ("/\u{e9}", PathError::ForbiddenByte(0xc3)),
        ("/%", PathError::BadEscape),
        ("/%4", PathError::BadEscape),
        ("/%4/1", PathError::BadEscape),
        ("/%g0", PathError::BadEscape),
        ("/%0g", PathError::BadEscape),
        ("/%+1", PathError::BadEscape),
        ("/%%41", PathError::BadEscape),
        ("/%u0041", PathError::BadEscape),
        ("/%00", PathError::ForbiddenEscape(0)),
        ("/a%0d%0aX:1", PathError::ForbiddenEscape(b'\r')),
        ("/%1F", PathError::ForbiddenEscape(0x1f)),
        ("/%7f", PathError::ForbiddenEscape(0x7f)),
        ("/a%5Cb", PathError::ForbiddenEscape(b'\\')),
        ("/a%5cb", PathError::ForbiddenEscape(b'\\')),
        // RFC 3629 §3: overlong, surrogate, cut off, beyond U+10FFFF, not text at all.
        ("/%C0%AE%C0%AE/", PathError::NotUtf8),
        ("/%c0%af", PathError::NotUtf8),
        ("/%E0%80%AF", PathError::NotUtf8),
        ("/%F0%80%80%AF", PathError::NotUtf8),
        ("/%ED%A0%80", PathError::NotUtf8),
        ("/%C3", PathError::NotUtf8),
        ("/%C3a", PathError::NotUtf8),
        ("/%C3/%A9", PathError::NotUtf8),
        ("/%A9", PathError::NotUtf8),
        ("/%E9", PathError::NotUtf8),
        ("/%F4%90%80%80", PathError::NotUtf8),
        ("/%FF", PathError::NotUtf8),
        ("/%C3%4", PathError::BadEscape),
        ("//", PathError::EmptySegment),
        ("//a", PathError::EmptySegment),
        ("/a//b", PathError::EmptySegment),
        ("/a//", PathError::EmptySegment),
        ("/a//../b", PathError::EmptySegment),
        ("/..", PathError::AboveRoot),
        ("/../a", PathError::AboveRoot),
        ("/a/../../b", PathError::AboveRoot),
        ("/./../b", PathError::AboveRoot),
        ("/%2e%2e/a", PathError::AboveRoot),
        ("/a/..;/b", PathError::DisguisedDotSegment),
        ("/a/..;x=1/b", PathError::DisguisedDotSegment),
        ("/a/.;", PathError::DisguisedDotSegment),
        ("/a/%2e%2e;/b", PathError::DisguisedDotSegment),
        ("/a/..%3b/b", PathError::DisguisedDotSegment),
        ("/a/..%2Fb", PathError::DisguisedDotSegment),
        ("/a/b%2f..", PathError::DisguisedDotSegment),
        ("/a/b%2F.%2fc", PathError::DisguisedDotSegment),
        ("/a/b%2F..;x%2fc", PathError::DisguisedDotSegment),
        ("/a/%2F%2e%2e%2F", PathError::DisguisedDotSegment),
    ] {
        assert_eq!(check(raw), Err(error), "{raw:?}");
    }
}

#[test]
fn every_byte_is_allowed_or_refused_as_rfc_3986_says() {
    let allowed: Vec<u8> =
        (0..=255_u8).filter(|&byte| normalise(&[b'/', byte], &mut Vec::new()).is_ok()).collect();
    // `.` and `/` are not here as characters: `/.` is a dot segment (fine), `//` an empty one (refused).
    assert_eq!(allowed, b"!$&'()*+,-.0123456789:;=@ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~");
}

#[test]
fn a_normal_path_does_not_touch_the_buffer() {
    let mut out = Vec::new();
    for raw in ["/", "/a/b", "/orders/42;v=1/x.json"] {
        normalise(raw.as_bytes(), &mut out).unwrap();
        assert_eq!(out.capacity(), 0, "{raw}");
    }
}

#[test]
fn errors_have_flags() {
    assert_eq!(PathError::AboveRoot.flag(), "path_above_root");
    assert_eq!(PathError::ForbiddenByte(b'\\').to_string(), "the path holds the byte 0x5c unescaped");
}
