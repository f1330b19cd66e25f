//! Field lines: where they lie in a head, and which of them this crate has to understand.
//!
//! One pass recognises each name by length and then by comparison; no map is built. Never changes a name or value.

use crate::error::HeadError;
use crate::token::Span;

/// One field line of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// The name as received: a token, so ASCII, in any case.
    pub name: &'a str,
    /// The value without surrounding blanks. May hold bytes from 0x80 on, which RFC 9110 §5.5 calls opaque.
    pub value: &'a [u8],
    /// Meant for this connection only (RFC 9110 §7.6.1): by its name, or because `Connection` nominates it.
    pub hop_by_hop: bool,
}

/// Where a field lies in the bytes of its head.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FieldSpan {
    pub(crate) name: Span,
    pub(crate) value: Span,
    pub(crate) known: Known,
    pub(crate) hop_by_hop: bool,
}

/// The names that framing, hop-by-hop rules or the writer treat specially.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    Connection,
    ContentLength,
    Date,
    Expect,
    Forwarded,
    /// Hop-by-hop by definition and of no further interest.
    HopByHop,
    Host,
    Other,
    TransferEncoding,
    Upgrade,
    Via,
}

/// How often a field occurs that may occur once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Occurrence {
    #[default]
    Absent,
    Once(Span),
    Repeated,
}

/// What one pass over the fields found.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    pub(crate) content_length: Occurrence,
    pub(crate) expect: Occurrence,
    pub(crate) host: Occurrence,
    pub(crate) transfer_encoding: Occurrence,
    pub(crate) upgrade: Occurrence,
}

/// Fills `fields` from what `httparse` found in `head`, and surveys them.
///
/// # Errors
/// If there is a name that could not go on by HTTP/2.
pub(crate) fn collect(
    head: &[u8],
    parsed: &[httparse::Header<'_>],
    fields: &mut Vec<FieldSpan>,
) -> Result<Survey, HeadError> {
    let mut survey = Survey::default();
    fields.clear();
    // Only an unusually large head can have one.
    if head.len() > NAME_BYTES_MAX && parsed.iter().any(|header| header.name.len() > NAME_BYTES_MAX) {
        return Err(HeadError::FieldName);
    }
    for header in parsed {
        let (name, value) = (header.name.as_bytes(), header.value);
        let field = FieldSpan::new(Known::of(name), Span::locate(head, name), Span::locate(head, value));
        survey.count(&field);
        fields.push(field);
    }
    Ok(survey)
}

impl FieldSpan {
    /// A field that no `Connection` line has nominated yet.
    pub(crate) fn new(known: Known, name: Span, value: Span) -> FieldSpan {
        FieldSpan { name, value, known, hop_by_hop: known.is_hop_by_hop() }
    }
}

impl Survey {
    pub(crate) fn count(&mut self, field: &FieldSpan) {
        match field.known {
            Known::ContentLength => self.content_length.count(field.value),
            Known::Expect => self.expect.count(field.value),
            Known::Host => self.host.count(field.value),
            Known::TransferEncoding => self.transfer_encoding.count(field.value),
            Known::Upgrade => self.upgrade.count(field.value),
            _ => {}
        }
    }
}

/// The field errors of `httparse`; it reports those of the start line by other variants.
pub(crate) fn head_error(error: httparse::Error) -> HeadError {
    match error {
        httparse::Error::HeaderName | httparse::Error::NewLine => HeadError::FieldName,
        _ => HeadError::FieldValue,
    }
}

/// The fields of a head, in order, as the public type.
pub(crate) fn iterate<'a>(bytes: &'a [u8], fields: &'a [FieldSpan]) -> impl Iterator<Item = Field<'a>> {
    fields.iter().map(|field| Field {
        name: field.name.text_of(bytes),
        value: field.value.of(bytes),
        hop_by_hop: field.hop_by_hop,
    })
}

/// The value of the first field of this name.
pub(crate) fn find<'a>(bytes: &'a [u8], fields: &[FieldSpan], name: &str) -> Option<&'a [u8]> {
    let field = fields.iter().find(|field| field.name.of(bytes).eq_ignore_ascii_case(name.as_bytes()))?;
    Some(field.value.of(bytes))
}

/// What implementations of HTTP/2 take for a name, ours among them.
pub(crate) const NAME_BYTES_MAX: usize = (1 << 16) - 1;

impl Known {
    pub(crate) fn of(name: &[u8]) -> Known {
        let (expected, known): (&[u8], Known) = match name.len() {
            2 => (b"te", Known::HopByHop),
            3 => (b"via", Known::Via),
            4 if name[0] | 0x20 == b'h' => (b"host", Known::Host),
            4 => (b"date", Known::Date),
            6 => (b"expect", Known::Expect),
            7 if name[0] | 0x20 == b'u' => (b"upgrade", Known::Upgrade),
            7 => (b"trailer", Known::HopByHop),
            9 => (b"forwarded", Known::Forwarded),
            10 if name[0] | 0x20 == b'c' => (b"connection", Known::Connection),
            10 => (b"keep-alive", Known::HopByHop),
            14 => (b"content-length", Known::ContentLength),
            16 => (b"proxy-connection", Known::HopByHop),
            17 => (b"transfer-encoding", Known::TransferEncoding),
            18 => (b"proxy-authenticate", Known::HopByHop),
            19 => (b"proxy-authorization", Known::HopByHop),
            _ => return Known::Other,
        };
        if name.eq_ignore_ascii_case(expected) { known } else { Known::Other }
    }

    /// RFC 9110 §7.6.1, with `Proxy-Authenticate` and `Proxy-Authorization`, which are for this hop too (§11.7).
    pub(crate) fn is_hop_by_hop(self) -> bool {
        matches!(self, Known::Connection | Known::HopByHop | Known::TransferEncoding | Known::Upgrade)
    }
}

impl Occurrence {
    fn count(&mut self, value: Span) {
        *self = match self {
            Occurrence::Absent => Occurrence::Once(value),
            Occurrence::Once(_) | Occurrence::Repeated => Occurrence::Repeated,
        };
    }

    /// The value of a field that occurs once and is visible ASCII.
    pub(crate) fn if_readable(self, head: &[u8]) -> Option<Span> {
        match self {
            Occurrence::Once(value) if value.of(head).iter().all(|byte| matches!(byte, b' '..=b'~')) => {
                Some(value)
            }
            _ => None,
        }
    }
}

/// Fields that are tokenised without allocating; more than this is rare.
pub(crate) const INLINE_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_recognised_in_any_case() {
        for (name, known) in [
            ("connection", Known::Connection),
            ("content-length", Known::ContentLength),
            ("date", Known::Date),
            ("expect", Known::Expect),
            ("forwarded", Known::Forwarded),
            ("host", Known::Host),
            ("keep-alive", Known::HopByHop),
            ("proxy-authenticate", Known::HopByHop),
            ("proxy-authorization", Known::HopByHop),
            ("proxy-connection", Known::HopByHop),
            ("te", Known::HopByHop),
            ("trailer", Known::HopByHop),
            ("transfer-encoding", Known::TransferEncoding),
            ("upgrade", Known::Upgrade),
            ("via", Known::Via),
        ] {
            assert_eq!(Known::of(name.as_bytes()), known, "{name}");
            assert_eq!(Known::of(name.to_uppercase().as_bytes()), known, "{name}");
            let mut other = name.as_bytes().to_vec();
            *other.last_mut().unwrap() = b'_';
            assert_eq!(Known::of(&other), Known::Other, "{name}");
        }
        assert_eq!(Known::of(b"content_length"), Known::Other);
        assert_eq!(Known::of(b""), Known::Other);
    }

    #[test]
    fn end_to_end_fields_are_not_hop_by_hop() {
        for name in ["content-length", "date", "expect", "forwarded", "host", "via", "accept"] {
            assert!(!Known::of(name.as_bytes()).is_hop_by_hop(), "{name}");
        }
    }
}
