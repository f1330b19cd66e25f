//! The fields of a head, for a reader without a table of its own (RFC 7541 with a table size of 0).

/// Reads a header block.
///
/// # Panics
/// If it refers to a table that there is not, or is cut short.
pub(super) fn read(mut block: &[u8]) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    while let Some(&first) = block.first() {
        match first {
            // §6.1: a field of the static table, of which only those of requests' and responses' first lines occur.
            0x80.. => {
                let index = integer(&mut block, 7);
                let value = index.checked_sub(2).and_then(|at| VALUES.get(at)).expect("a value");
                fields.push((NAMES[index - 1].to_owned(), (*value).to_owned()));
            }
            // §6.3: the size of the table.
            0x20..0x40 => assert_eq!(integer(&mut block, 5), 0, "there is no table"),
            // §6.2: a literal, its name from the table or not.
            _ => {
                let index = integer(&mut block, if first >= 0x40 { 6 } else { 4 });
                let name = match index {
                    0 => text(&mut block),
                    index => NAMES.get(index - 1).copied().expect("a name of the static table").to_owned(),
                };
                fields.push((name, text(&mut block)));
            }
        }
    }
    fields
}

/// §5.1: a number whose first byte has `bits` bits of it.
fn integer(block: &mut &[u8], bits: u32) -> usize {
    let most = (1 << bits) - 1;
    let mut number = usize::from(take(block) & most as u8);
    if number < most {
        return number;
    }
    for shift in (0..28).step_by(7) {
        let byte = take(block);
        number += usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return number;
        }
    }
    panic!("a number without end");
}

/// §5.2.
fn text(block: &mut &[u8]) -> String {
    let is_huffman = block[0] & 0x80 != 0;
    let length = integer(block, 7);
    let (bytes, rest) = block.split_at(length);
    *block = rest;
    if is_huffman { huffman(bytes) } else { String::from_utf8(bytes.to_vec()).expect("a text") }
}

fn take(block: &mut &[u8]) -> u8 {
    let (first, rest) = block.split_first().expect("the block is whole");
    *block = rest;
    *first
}

/// Appendix B. The code is canonical: of the codes of one length each is one more than the one before, in the order of the
/// characters, and the first of a length follows the last of the shorter ones. So the lengths tell all.
fn huffman(bytes: &[u8]) -> String {
    let bits = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| usize::from(byte >> bit & 1)));
    let (mut decoded, mut code, mut length) = (String::new(), 0, 0);
    for bit in bits {
        (code, length) = (code << 1 | bit, length + 1);
        if let Some(character) = character(code, length) {
            decoded.push(character);
            (code, length) = (0, 0);
        }
    }
    assert!(
        length < 8 && code == (1 << length) - 1,
        "the rest is padding, or a character that is not known here"
    );
    decoded
}

fn character(code: usize, length: u32) -> Option<char> {
    let (mut first, mut before) = (0, CODES[0].0);
    for (bits, characters) in CODES {
        first <<= bits - before;
        before = *bits;
        if *bits == length {
            return characters.chars().nth(code.checked_sub(first)?);
        }
        first += characters.len();
    }
    None
}

/// Visible ASCII by length of its code, with NUL, which stands among it; but for `\`.
const CODES: &[(u32, &str)] = &[
    (5, "012aceiost"),
    (6, " %-./3456789=A_bdfghlmnpru"),
    (7, ":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, "&*,;XZ"),
    (10, "!\"()?"),
    (11, "'+|"),
    (12, "#>"),
    (13, "\0$@[]~"),
    (14, "^}"),
    (15, "<`{"),
];

/// Appendix A, from 2 on.
const VALUES: [&str; 13] =
    ["GET", "POST", "/", "/index.html", "http", "https", "200", "204", "206", "304", "400", "404", "500"];

/// Appendix A.
const NAMES: [&str; 61] = [
    ":authority",
    ":method",
    ":method",
    ":path",
    ":path",
    ":scheme",
    ":scheme",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "accept",
    "access-control-allow-origin",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "link",
    "location",
    "max-forwards",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "refresh",
    "retry-after",
    "server",
    "set-cookie",
    "strict-transport-security",
    "transfer-encoding",
    "user-agent",
    "vary",
    "via",
    "www-authenticate",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7541, C.6.1, and C.4.1 of a request.
    #[test]
    fn the_examples_of_the_document_are_read() {
        let block = [
            0x48, 0x82, 0x64, 0x02, 0x58, 0x85, 0xae, 0xc3, 0x77, 0x1a, 0x4b, 0x61, 0x96, 0xd0, 0x7a, 0xbe,
            0x94, 0x10, 0x54, 0xd4, 0x44, 0xa8, 0x20, 0x05, 0x95, 0x04, 0x0b, 0x81, 0x66, 0xe0, 0x82, 0xa6,
            0x2d, 0x1b, 0xff, 0x6e, 0x91, 0x9d, 0x29, 0xad, 0x17, 0x18, 0x63, 0xc7, 0x8f, 0x0b, 0x97, 0xc8,
            0xe9, 0xae, 0x82, 0xae, 0x43, 0xd3,
        ];
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            read(&block),
            [
                field(":status", "302"),
                field("cache-control", "private"),
                field("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
                field("location", "https://www.example.com"),
            ]
        );
    }

    #[test]
    fn literals_without_the_code_are_read() {
        let long = "v".repeat(300);
        let block = [&b"\x20\x88"[..], &super::super::fields_block(&[("a", "b"), ("c", &long)])].concat();
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(read(&block), [field(":status", "200"), field("a", "b"), field("c", &long)]);
    }
}
