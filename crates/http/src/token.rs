//! Character classes of RFC 9110 §5.6 and the span type that heads are made of.

/// A range of a head's bytes. Heads are below 1 MiB, so 32 bits hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    pub(crate) fn new(start: usize, end: usize) -> Span {
        let narrow =
            |at: usize| u32::try_from(at).expect("heads and what is derived from them stay below 4 GiB");
        Span { start: narrow(start), end: narrow(end) }
    }

    /// Where `part` lies in `whole`, given that it was sliced from it.
    pub(crate) fn locate(whole: &[u8], part: &[u8]) -> Span {
        let start = part.as_ptr().addr() - whole.as_ptr().addr();
        Span::new(start, start + part.len())
    }

    pub(crate) fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..self.end as usize]
    }

    /// The text of a span that was found to be ASCII when the head was parsed.
    pub(crate) fn text_of(self, bytes: &[u8]) -> &str {
        std::str::from_utf8(self.of(bytes)).expect("only spans checked to be ASCII are read as text")
    }
}

/// RFC 9110 §5.6.2: `tchar`.
pub(crate) fn is_token_byte(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

/// RFC 9110 §5.6.2: `token`, which is never empty.
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_token_byte(byte))
}

/// RFC 9110 §5.5: HTAB, SP, VCHAR and obs-text. Everything else could end the line or truncate the value somewhere.
///
/// Looks at every byte of a block before it decides, which compilers vectorise: `Client-Cert` has some 700 bytes and is checked
/// for every request.
pub(crate) fn is_field_value(bytes: &[u8]) -> bool {
    let forbidden = |byte: u8| !(byte == b'\t' || (byte >= b' ' && byte != 0x7f));
    bytes.chunks(256).all(|block| !block.iter().fold(false, |found, &byte| found | forbidden(byte)))
}

/// Strips RFC 9110 §5.6.3 OWS (SP and HTAB only; `trim_ascii` would strip more).
pub(crate) fn trim_ows(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// Equality of field names when `_` counts as `-`: CGI-like upstreams turn both into the same variable.
pub(crate) fn eq_as_variable(name: &[u8], lower_name: &[u8]) -> bool {
    name.len() == lower_name.len() && starts_as_variable(name, lower_name)
}

/// As [`eq_as_variable`], for a prefix.
pub(crate) fn starts_as_variable(name: &[u8], lower_prefix: &[u8]) -> bool {
    name.len() >= lower_prefix.len()
        && name.iter().zip(lower_prefix).all(|(&byte, &expected)| {
            let byte = if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
            byte == expected
        })
}

static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = matches!(
            byte as u8,
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9'
                | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        );
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_exactly_those_of_rfc_9110() {
        let accepted: Vec<u8> = (0..=255).filter(|&byte| is_token_byte(byte)).collect();
        assert_eq!(
            accepted,
            b"!#$%&'*+-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ^_`abcdefghijklmnopqrstuvwxyz|~"
        );
        assert!(!is_token(b""));
    }

    #[test]
    fn field_values_hold_no_control_character_but_tab() {
        let accepted: Vec<u8> = (0..=255).filter(|&byte| is_field_value(&[byte])).collect();
        let expected: Vec<u8> = std::iter::once(b'\t').chain(b' '..=0x7e).chain(0x80..=0xff).collect();
        assert_eq!(accepted, expected);
    }

    #[test]
    fn ows_is_space_and_tab_only() {
        assert_eq!(trim_ows(b" \t a b\t "), b"a b");
        assert_eq!(trim_ows(b"\x0ba\x0c"), b"\x0ba\x0c");
        assert_eq!(trim_ows(b" "), b"");
    }

    #[test]
    fn underscore_counts_as_hyphen_in_variable_names() {
        assert!(eq_as_variable(b"Content_Length", b"content-length"));
        assert!(!eq_as_variable(b"Content-Lengths", b"content-length"));
        assert!(starts_as_variable(b"X_Forwarded-Port", b"x-forwarded-"));
        assert!(!starts_as_variable(b"X-Forward", b"x-forwarded-"));
    }
}
