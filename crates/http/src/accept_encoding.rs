//! `Accept-Encoding` (RFC 9110 §12.5.3): which content coding a client wants most of those that there are.
//!
//! What cannot be read asks for nothing: a coding whose weight is malformed, or that stands there with several, gets the lowest that
//! could be meant. So nobody gets a coding without having said that it can be read.

use crate::request::RequestHead;
use crate::token::{is_token, trim_ows};

/// What a request says about one coding, in thousandths; 0 is a refusal.
type Weight = u16;

impl RequestHead {
    /// The index of the coding in `codings` that the client wants most; of several that it wants alike, the first. `None` if it wants
    /// none of them, or wants the body as it is more than all of them, or says nothing.
    ///
    /// `codings` are names in lower case; `identity` is none of them.
    pub fn preferred_coding(&self, codings: &[&str]) -> Option<usize> {
        let mut best: Option<(usize, Weight)> = None;
        for (index, coding) in codings.iter().enumerate() {
            let weight = self.weight_of(coding.as_bytes()).unwrap_or(0);
            if weight > best.map_or(0, |(_, best)| best) {
                best = Some((index, weight));
            }
        }
        let (index, weight) = best?;
        // `*` says whether `identity` is acceptable, and not how much it is wanted.
        let identity = self.listed_weight(|name| name.eq_ignore_ascii_case(b"identity"));
        (identity.unwrap_or(0) <= weight).then_some(index)
    }

    /// By its own name, or else by `*`.
    fn weight_of(&self, coding: &[u8]) -> Option<Weight> {
        let is_coding = |name: &[u8]| {
            // RFC 9110 §8.4.1.3: `x-gzip` is `gzip`.
            let name = if name.eq_ignore_ascii_case(b"x-gzip") { b"gzip" } else { name };
            name.eq_ignore_ascii_case(coding)
        };
        self.listed_weight(is_coding).or_else(|| self.listed_weight(|name| name == b"*"))
    }

    /// The lowest weight of the members whose name `is_it`.
    fn listed_weight(&self, is_it: impl Fn(&[u8]) -> bool) -> Option<Weight> {
        let fields = self.fields().filter(|field| field.name.eq_ignore_ascii_case("accept-encoding"));
        let members = fields.flat_map(|field| field.value.split(|byte| *byte == b','));
        members.filter_map(|member| weighted(member, &is_it)).min()
    }
}

/// The weight of a member of the list, if it is about the coding.
fn weighted(member: &[u8], is_it: impl Fn(&[u8]) -> bool) -> Option<Weight> {
    let mut parts = member.split(|byte| *byte == b';').map(trim_ows);
    let name = parts.next().filter(|name| is_token(name) && is_it(name))?;
    debug_assert!(!name.is_empty());
    match (parts.next(), parts.next()) {
        (None, _) => Some(1000),
        (Some(weight), None) => Some(parse_weight(weight).unwrap_or(0)),
        // RFC 9110 §12.5.3: codings have no other parameters.
        (Some(_), Some(_)) => Some(0),
    }
}

/// RFC 9110 §12.4.2: `q=` and a number from 0 to 1 with up to three digits behind the point.
fn parse_weight(parameter: &[u8]) -> Option<Weight> {
    let [b'q' | b'Q', b'=', integer @ (b'0' | b'1'), rest @ ..] = parameter else { return None };
    let digits = match rest {
        [] => rest,
        [b'.', digits @ ..] if digits.len() <= 3 => digits,
        _ => return None,
    };
    let mut weight = Weight::from(integer - b'0') * 1000;
    for (digit, value) in digits.iter().zip([100, 10, 1]) {
        weight += digit.is_ascii_digit().then(|| Weight::from(digit - b'0') * value)?;
    }
    (weight <= 1000).then_some(weight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HeadLimits;

    const CODINGS: [&str; 3] = ["zstd", "br", "gzip"];

    fn preferred(lines: &[&str]) -> Option<&'static str> {
        let mut text = "GET / HTTP/1.1\r\nhost: a.test\r\n".to_owned();
        lines.iter().for_each(|line| text += &format!("Accept-Encoding: {line}\r\n"));
        let mut head = RequestHead::new();
        let limits = HeadLimits { head_bytes_max: 1 << 16, fields_max: 100 };
        head.parse((text + "\r\n").as_bytes(), &limits).unwrap().unwrap();
        head.preferred_coding(&CODINGS).map(|index| CODINGS[index])
    }

    #[test]
    fn the_client_chooses_and_then_our_order() {
        for (value, expected) in [
            // Browsers, curl, Go.
            ("gzip, deflate, br, zstd", Some("zstd")),
            ("gzip, deflate, br", Some("br")),
            ("deflate, gzip", Some("gzip")),
            ("gzip", Some("gzip")),
            ("GZip", Some("gzip")),
            ("x-gzip", Some("gzip")),
            ("deflate", None),
            ("compress, exi", None),
            ("", None),
            // Weights.
            ("gzip;q=1.0, br;q=0.8, zstd;q=0.8", Some("gzip")),
            ("gzip;q=0.8, br;q=0.8, zstd;q=0.800", Some("zstd")),
            ("gzip;q=0.001", Some("gzip")),
            ("gzip ; Q=0.5 ,br\t;\tq=0.6", Some("br")),
            ("gzip;q=0", None),
            ("gzip;q=0.000", None),
            ("gzip;q=0, *", Some("zstd")),
            ("zstd;q=0, br;q=0, *", Some("gzip")),
            // `*` and `identity`.
            ("*", Some("zstd")),
            ("*;q=0", None),
            ("*;q=0, gzip", Some("gzip")),
            ("identity", None),
            ("identity, gzip", Some("gzip")),
            ("identity, gzip;q=0.5", None),
            ("identity;q=0.5, gzip;q=0.5", Some("gzip")),
            ("identity;q=0.5, gzip;q=0.6", Some("gzip")),
            ("identity;q=0, gzip;q=0.1", Some("gzip")),
            ("identity;q=0", None),
            ("*, identity;q=0.1", Some("zstd")),
            ("*;q=0.1, identity", None),
            // What cannot be read, or is said twice.
            ("gzip;q=2", None),
            ("gzip;q=1.001", None),
            ("gzip;q=0.5000", None),
            ("gzip;q=.5", None),
            ("gzip;q=", None),
            ("gzip;q=0,5", None),
            ("gzip;q=-1", None),
            ("gzip;q=1e0", None),
            ("gzip;level=9", None),
            ("gzip;q=1;x=y", None),
            ("gzip;", None),
            ("gzip, gzip;q=0", None),
            ("gzip;q=0.5, gzip;q=0.7, br;q=0.6", Some("br")),
            ("gzip br", None),
            ("\"gzip\"", None),
            (", ,gzip,", Some("gzip")),
        ] {
            assert_eq!(preferred(&[value]), expected, "{value:?}");
        }
    }

    #[test]
    fn all_lines_are_one_list() {
        assert_eq!(preferred(&[]), None);
        assert_eq!(preferred(&["gzip;q=0.5", "br"]), Some("br"));
        assert_eq!(preferred(&["gzip", "gzip;q=0"]), None);
    }
}
