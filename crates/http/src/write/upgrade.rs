//! Asking for another protocol, and switching to it (RFC 9110 §7.8).

use super::{WriteError, check_settable, line};
use crate::token::is_token;

/// Makes the head of a request that was just appended to `out` ask for `protocol` as well, or that of a 101 say that it
/// follows. `set` is written besides.
///
/// # Errors
/// If `protocol` is not `name` or `name/version`, or `set` cannot be written safely; `out` is then of no use.
pub fn upgrade(out: &mut Vec<u8>, protocol: &str, set: &[(&str, &[u8])]) -> Result<(), WriteError> {
    if !is_protocol(protocol.as_bytes()) {
        return Err(WriteError::BadProtocol);
    }
    debug_assert!(out.ends_with(b"\r\n\r\n"), "a whole head stands before");
    out.truncate(out.len().saturating_sub(2));
    for (index, (name, value)) in set.iter().enumerate() {
        check_settable(index, name, value)?;
        line(out, name.as_bytes(), value);
    }
    line(out, b"connection", b"upgrade");
    line(out, b"upgrade", protocol.as_bytes());
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Appends which protocols a 426 asks for, as it came; no lines if that is not a list of protocols. `listed` is what stands there.
pub(super) fn required_lines(out: &mut Vec<u8>, listed: &str) {
    if listed.split(',').all(|protocol| is_protocol(protocol.trim_matches([' ', '\t']).as_bytes())) {
        line(out, b"connection", b"upgrade");
        line(out, b"upgrade", listed.as_bytes());
    }
}

/// RFC 9110 §7.8: `protocol`, a name with or without a version.
pub fn is_protocol(text: &[u8]) -> bool {
    match text.iter().position(|byte| *byte == b'/') {
        Some(slash) => is_token(&text[..slash]) && is_token(&text[slash + 1..]),
        None => is_token(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_an_upgrade_end_the_head() {
        let mut out = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec();
        upgrade(&mut out, "SPDY/3.1", &[("sec-websocket-key", b"k")]).unwrap();
        let expected = "GET / HTTP/1.1\r\nhost: a\r\nsec-websocket-key: k\r\nconnection: upgrade\r\nupgrade: SPDY/3.1\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn nothing_but_a_protocol_can_be_asked_for() {
        for (protocol, valid) in [
            ("websocket", true),
            ("SPDY/3.1", true),
            ("", false),
            ("a/", false),
            ("/1", false),
            ("a/b/c", false),
            ("a b", false),
            ("a, b", false),
            ("a\r\nx: y", false),
        ] {
            assert_eq!(is_protocol(protocol.as_bytes()), valid, "{protocol:?}");
            let written = upgrade(&mut b"\r\n\r\n".to_vec(), protocol, &[]);
            assert_eq!(written.is_ok(), valid, "{protocol:?}");
        }
        let split = upgrade(&mut b"\r\n\r\n".to_vec(), "a", &[("x", b"1\r\ny: 2")]);
        assert_eq!(split, Err(WriteError::BadValue { index: 0 }));
    }
}
