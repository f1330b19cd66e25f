//! Names and values of queries and forms as OPA's plugins read them, which are written in Go.

use std::borrow::Cow;

use crate::input::document::decode_form;

/// Decodes a name or value. `None` if Go's `net/url` leaves the pair out: with an invalid escape, or with a semicolon, which
/// others take for the end of the pair.
pub(crate) fn decode(encoded: &str) -> Option<Cow<'_, str>> {
    let mut escapes = encoded.split('%').skip(1).map(str::as_bytes);
    let valid = escapes
        .all(|rest| matches!(rest, [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit()));
    (valid && !encoded.contains(';')).then(|| decode_form(encoded))
}
