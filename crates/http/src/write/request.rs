//! The request head as it goes upstream.

use super::{Forwarded, Received, WriteError, framing_line, line, set_lines, via_line};
use crate::RequestHead;
use crate::field::Known;
use crate::framing::BodyFraming;
use crate::path::is_normal;
use crate::write::QueryEdits;

/// What changes between the received head and the one that is sent upstream.
pub struct RequestEdits<'a> {
    /// Received fields of these names are left out, look-alikes included. Given the name as received.
    pub drop_field: &'a dyn Fn(&[u8]) -> bool,
    /// The path instead of the received one, in normal form.
    pub path: Option<&'a str>,
    /// The authority instead of the received one.
    pub authority: Option<&'a str>,
    /// What changes in the query.
    pub query: QueryEdits<'a>,
    /// Written last; each replaces all received fields of its name. Framing, hop-by-hop and `Host` cannot be set.
    pub set: &'a [(&'a str, &'a [u8])],
    /// Written last, beside received fields of the same name.
    pub add: &'a [(&'a str, &'a [u8])],
    /// Our name in `Via` (a token), which continues a received one. `None`: a received `Via` passes untouched.
    pub via: Option<&'a str>,
    /// Who asked.
    pub forwarded: Forwarded<'a>,
    /// How the body will be sent.
    pub framing: BodyFraming,
    /// Ask the upstream for 100 before the body is sent. A received `Expect` is never passed on by itself.
    pub expect_continue: bool,
}

/// Appends the head of a request to an HTTP/1.1 upstream: method, normalised path, query, and the fields that go on.
///
/// # Errors
/// If `edits` cannot be written safely; `out` is then as it was.
pub fn request_head(
    out: &mut Vec<u8>,
    head: &RequestHead,
    edits: &RequestEdits<'_>,
) -> Result<(), WriteError> {
    let start = out.len();
    let written = append(out, head, edits);
    if written.is_err() {
        out.truncate(start);
    }
    written
}

fn append(out: &mut Vec<u8>, head: &RequestHead, edits: &RequestEdits<'_>) -> Result<(), WriteError> {
    if edits.framing == BodyFraming::UntilClose {
        return Err(WriteError::UnframedRequest);
    }
    let (bytes, fields) = head.raw();
    out.extend_from_slice(head.method_bytes());
    out.push(b' ');
    let path = edits.path.map_or(head.path_bytes(), str::as_bytes);
    if edits.path.is_some() && !is_normal(path) {
        return Err(WriteError::BadTarget);
    }
    out.extend_from_slice(path);
    if path == b"*" {
        // RFC 9112 §3.2.4: it has no query, and can be given none.
        if !edits.query.set.is_empty() {
            return Err(WriteError::BadTarget);
        }
    } else if !edits.query.is_empty() {
        edits.query.append(out, head.query());
    } else if let Some(query) = head.query() {
        out.push(b'?');
        out.extend_from_slice(query.as_bytes());
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    // RFC 9110 §7.2: first; RFC 9112 §3.2: present even if it is empty.
    let authority = edits.authority.map_or(head.authority_bytes(), str::as_bytes);
    if !authority.iter().all(u8::is_ascii_graphic) {
        return Err(WriteError::BadTarget);
    }
    line(out, b"host", authority);
    let received = Received { bytes, fields, set: edits.set, drop_field: edits.drop_field };
    let is_ours = |known, name: &[u8]| match known {
        Known::Host | Known::ContentLength | Known::Expect => true,
        Known::Via => edits.via.is_some(),
        _ => edits.forwarded.takes(known, name),
    };
    for (name, value) in received.fields(|known, name| !is_ours(known, name)) {
        line(out, name, value);
    }
    if let Some(pseudonym) = edits.via {
        via_line(out, received, head.version(), pseudonym)?;
    }
    edits.forwarded.write(out, received)?;
    framing_line(out, edits.framing);
    if edits.expect_continue {
        line(out, b"expect", b"100-continue");
    }
    set_lines(out, edits.set)?;
    set_lines(out, edits.add)?;
    out.extend_from_slice(b"\r\n");
    Ok(())
}
