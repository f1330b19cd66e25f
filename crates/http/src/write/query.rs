//! Parameters of a query that are set or removed on the way; all others pass as received, byte for byte.

/// What changes in the query (`application/x-www-form-urlencoded`, as URL's standard has it: `&` separates, `+` is a blank).
#[derive(Clone, Copy, Debug, Default)]
pub struct QueryEdits<'a> {
    /// Decoded names and values, appended in this order. The first of a name replaces all received ones of that name.
    pub set: &'a [(&'a str, &'a str)],
    /// Decoded names of received parameters that do not go on.
    pub remove: &'a [&'a str],
}

impl QueryEdits<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty()
    }

    fn drops(&self, encoded: &[u8]) -> bool {
        let is = |name: &str| decoded(encoded).eq(name.bytes());
        self.remove.iter().any(|name| is(name)) || self.set.iter().any(|(name, _)| is(name))
    }

    /// Appends `?` and the query, or nothing if no parameter is left.
    pub(super) fn append(&self, out: &mut Vec<u8>, received: Option<&str>) {
        let mut separator = b'?';
        let mut begin = |out: &mut Vec<u8>| out.push(std::mem::replace(&mut separator, b'&'));
        let pairs = received.unwrap_or_default().as_bytes().split(|byte| *byte == b'&');
        for pair in pairs.filter(|pair| !pair.is_empty()) {
            let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
            if !self.drops(name) {
                begin(out);
                out.extend_from_slice(pair);
            }
        }
        for (name, value) in self.set {
            begin(out);
            encode(out, name);
            out.push(b'=');
            encode(out, value);
        }
    }
}

/// What an encoded name means. An escape that is none stands for itself.
fn decoded(mut encoded: &[u8]) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let (byte, rest) = match *encoded {
            [b'%', high, low, ref rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (digit(high) << 4 | digit(low), rest)
            }
            [b'+', ref rest @ ..] => (b' ', rest),
            [byte, ref rest @ ..] => (byte, rest),
            [] => return None,
        };
        encoded = rest;
        Some(byte)
    })
}

fn digit(hexadecimal: u8) -> u8 {
    match hexadecimal {
        b'0'..=b'9' => hexadecimal - b'0',
        _ => (hexadecimal | 0x20) - b'a' + 10,
    }
}

/// RFC 3986 §2.3: only unreserved characters stand for themselves.
fn encode(out: &mut Vec<u8>, text: &str) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte);
        } else {
            out.extend_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(received: Option<&str>, set: &[(&str, &str)], remove: &[&str]) -> String {
        let mut out = b"/path".to_vec();
        QueryEdits { set, remove }.append(&mut out, received);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_set_replaces_all_of_its_name_and_nothing_else() {
        assert_eq!(edited(Some("a=1&b=2&a=3&c"), &[("a", "x")], &[]), "/path?b=2&c&a=x");
        assert_eq!(edited(Some("b=%zz&&c=d=e"), &[("a", "x"), ("a", "y")], &[]), "/path?b=%zz&c=d=e&a=x&a=y");
        assert_eq!(edited(None, &[("a", "")], &[]), "/path?a=");
    }

    #[test]
    fn a_query_that_becomes_empty_is_none() {
        assert_eq!(edited(Some("a=1&a"), &[], &["a"]), "/path");
        assert_eq!(edited(Some(""), &[], &["a"]), "/path");
        assert_eq!(edited(None, &[], &["a"]), "/path");
    }

    /// Else a client would keep what the policy removes, or send its own beside what the policy sets.
    #[test]
    fn every_spelling_of_a_name_is_that_name() {
        for spelling in ["is+admin", "is%20admin", "%69s%20%61dmin", "is+admin=", "is%20admin=1=2"] {
            assert_eq!(edited(Some(spelling), &[], &["is admin"]), "/path", "{spelling}");
            assert_eq!(edited(Some(spelling), &[("is admin", "no")], &[]), "/path?is%20admin=no");
        }
        for other in ["is%2admin", "Is+admin", "is%2Badmin", "is+admins", "=is+admin"] {
            assert_eq!(edited(Some(other), &[], &["is admin"]), format!("/path?{other}"));
        }
    }

    #[test]
    fn what_is_set_cannot_be_more_than_one_parameter_nor_end_the_request_line() {
        let set = [("a&b=c", "d e\r\nx: y#z"), ("ä", "1+1")];
        assert_eq!(edited(None, &set, &[]), "/path?a%26b%3Dc=d%20e%0D%0Ax%3A%20y%23z&%C3%A4=1%2B1");
    }
}
