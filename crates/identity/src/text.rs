//! Decoding of ASN.1 string types, and which characters an identity may hold.
//!
//! Never substitutes or escapes: a string that cannot be decoded exactly, or holds a character that could hide
//! or imitate text in a log, a header or a policy, is refused.

use crate::der::Tlv;

/// Why an ASN.1 value gave no identity string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextError {
    /// The value is no string type.
    NotText,
    /// The bytes are not valid in the value's own string type.
    Encoding,
    /// A character that no identity may hold.
    Forbidden(char),
}

/// Decodes one string value, and [checks](check) its characters.
///
/// PrintableString is taken as ASCII: certificates with `@`, `*` or `_` in it are common and not ambiguous.
/// T61String is read as Latin-1, as OpenSSL does; real T.61 is used by nobody.
pub(crate) fn decode(value: &Tlv<'_>) -> Result<String, TextError> {
    let text = match value.tag {
        UTF8_STRING => std::str::from_utf8(value.content).map_err(|_| TextError::Encoding)?.to_owned(),
        NUMERIC_STRING | PRINTABLE_STRING | IA5_STRING | VISIBLE_STRING => ascii(value.content)?.to_owned(),
        T61_STRING => value.content.iter().copied().map(char::from).collect(),
        BMP_STRING => bmp(value.content)?,
        UNIVERSAL_STRING => universal(value.content)?,
        _ => return Err(TextError::NotText),
    };
    check(&text)?;
    Ok(text)
}

/// Bytes that must be ASCII, as in an IA5String.
pub(crate) fn ascii(bytes: &[u8]) -> Result<&str, TextError> {
    let text = std::str::from_utf8(bytes).map_err(|_| TextError::Encoding)?;
    if text.is_ascii() { Ok(text) } else { Err(TextError::Encoding) }
}

/// Refuses characters that no identity may hold.
pub(crate) fn check(text: &str) -> Result<(), TextError> {
    match text.chars().find(|&character| is_forbidden(character)) {
        Some(character) => Err(TextError::Forbidden(character)),
        None => Ok(()),
    }
}

/// Controls (a NUL ends the name for software written in C; CR and LF end a header or a log line), line
/// separators, characters that reorder what is displayed (CVE-2021-42574) or display as nothing while making
/// two names differ, and noncharacters. The joiners U+200C and U+200D stay: Persian and Indic names need them.
fn is_forbidden(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{00ad}'
                | '\u{061c}'
                | '\u{180e}'
                | '\u{200b}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fdd0}'..='\u{fdef}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
        || u32::from(character) & 0xfffe == 0xfffe
}

/// UCS-2 in network order: two octets for each character, so no surrogates.
fn bmp(bytes: &[u8]) -> Result<String, TextError> {
    let (units, []) = bytes.as_chunks::<2>() else { return Err(TextError::Encoding) };
    units
        .iter()
        .map(|&unit| char::from_u32(u32::from(u16::from_be_bytes(unit))).ok_or(TextError::Encoding))
        .collect()
}

/// UCS-4 in network order.
fn universal(bytes: &[u8]) -> Result<String, TextError> {
    let (units, []) = bytes.as_chunks::<4>() else { return Err(TextError::Encoding) };
    units.iter().map(|&unit| char::from_u32(u32::from_be_bytes(unit)).ok_or(TextError::Encoding)).collect()
}

// Identifier octets of the primitive encodings; a string in pieces (constructed) is BER, not DER.
const UTF8_STRING: u8 = 0x0c;
const NUMERIC_STRING: u8 = 0x12;
const PRINTABLE_STRING: u8 = 0x13;
const T61_STRING: u8 = 0x14;
const IA5_STRING: u8 = 0x16;
const VISIBLE_STRING: u8 = 0x1a;
const UNIVERSAL_STRING: u8 = 0x1c;
const BMP_STRING: u8 = 0x1e;

#[cfg(test)]
mod tests {
    use super::*;

    fn value(tag: u8, content: &[u8]) -> Result<String, TextError> {
        decode(&Tlv { tag, content, raw: &[] })
    }

    #[test]
    fn decodes_each_string_type() {
        let table: &[(u8, &[u8], &str)] = &[
            (UTF8_STRING, "Lučić 株式会社".as_bytes(), "Lučić 株式会社"),
            (NUMERIC_STRING, b"0123", "0123"),
            (PRINTABLE_STRING, b"Example *@_", "Example *@_"),
            (T61_STRING, b"M\xfcller", "Müller"),
            (IA5_STRING, b"a@example.com", "a@example.com"),
            (VISIBLE_STRING, b"visible", "visible"),
            (BMP_STRING, &[0x00, 0x41, 0x01, 0x0d, 0x30, 0x42], "Ač\u{3042}"),
            (UNIVERSAL_STRING, &[0x00, 0x00, 0x00, 0x41, 0x00, 0x01, 0xf9, 0x80], "A\u{1f980}"),
            (UTF8_STRING, b"", ""),
            (UTF8_STRING, "می\u{200c}خواهم".as_bytes(), "می\u{200c}خواهم"),
        ];
        for (tag, content, expected) in table {
            assert_eq!(value(*tag, content).as_deref(), Ok(*expected));
        }
    }

    #[test]
    fn refuses_what_cannot_be_decoded_exactly() {
        let table: &[(&str, u8, &[u8])] = &[
            ("invalid UTF-8", UTF8_STRING, b"\xff"),
            ("overlong UTF-8", UTF8_STRING, b"\xc0\xaf"),
            ("UTF-8 in a PrintableString", PRINTABLE_STRING, "ü".as_bytes()),
            ("eighth bit in an IA5String", IA5_STRING, b"\xfc"),
            ("odd length", BMP_STRING, b"\x00A\x00"),
            ("surrogates", BMP_STRING, &[0xd8, 0x3e, 0xdd, 0x80]),
            ("half a character", UNIVERSAL_STRING, &[0, 0, 0]),
            ("above Unicode", UNIVERSAL_STRING, &[0x00, 0x11, 0x00, 0x00]),
        ];
        for (what, tag, content) in table {
            assert_eq!(value(*tag, content), Err(TextError::Encoding), "{what}");
        }
        assert_eq!(value(0x02, &[1]), Err(TextError::NotText), "an INTEGER");
        assert_eq!(value(0x2c, b"\x0c\x01A"), Err(TextError::NotText), "a string in pieces");
    }

    #[test]
    fn refuses_characters_that_hide_or_imitate() {
        for character in [
            '\0',
            '\n',
            '\r',
            '\t',
            '\u{1b}',
            '\u{7f}',
            '\u{85}',
            '\u{ad}',
            '\u{200b}',
            '\u{200e}',
            '\u{202e}',
            '\u{2028}',
            '\u{2066}',
            '\u{feff}',
            '\u{fffe}',
            '\u{1ffff}',
            '\u{e0041}',
        ] {
            let text = format!("admin{character}.example");
            assert_eq!(value(UTF8_STRING, text.as_bytes()), Err(TextError::Forbidden(character)));
        }
        assert_eq!(value(T61_STRING, b"a\x9b"), Err(TextError::Forbidden('\u{9b}')));
        assert_eq!(value(BMP_STRING, &[0x00, 0x41, 0x00, 0x00]), Err(TextError::Forbidden('\0')));
        assert_eq!(value(PRINTABLE_STRING, b"a\0b"), Err(TextError::Forbidden('\0')));
    }
}
