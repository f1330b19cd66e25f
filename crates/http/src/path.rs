//! The one path that router, policy, log and upstream see.
//!
//! Attacks on a gateway's policy work by a path that the gateway and the upstream read differently. So a path is
//! either brought to the single form that RFC 3986 §6.2.2 calls normal, or refused. Decisions that the RFC leaves
//! open:
//!
//! - **Escapes.** `%41` becomes `A` (unreserved), other escapes get upper-case digits. Escaped control characters
//!   and `%5C` are refused, and so are escapes that do not form UTF-8: overlong forms have been used to hide `/` and `.`.
//! - **`%2F`** stays, and [`Normalised::has_encoded_slash`] says so: the caller refuses it unless the route allows it.
//! - **Dot segments** are resolved after unescaping. Above the root is an error. A dot segment in disguise, with
//!   parameters (`..;x`) or beside an encoded slash (`..%2F`), is an error: some upstreams resolve it later.
//! - **Empty segments** (`//`) are refused: many upstreams merge them, so a policy about `/admin` would not see
//!   `//admin`. Keeping or merging would each be wrong for some upstream. A trailing slash stays.
//! - **Characters** that RFC 3986 does not allow in a path are refused, in particular `\`, `#`, blanks and bytes from
//!   0x80 on. Parameters (`;`) are kept.

use std::str;

use thiserror::Error;

/// What [`normalise`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Normalised {
    /// The normal form differs from what was received and was appended to the buffer.
    pub rewritten: bool,
    /// The path holds `%2F`, which is one character to some upstreams and a separator to others.
    pub has_encoded_slash: bool,
}

/// Why a path is refused. All answer 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PathError {
    /// The path does not start with `/`.
    #[error("the path does not start with `/`")]
    NotAbsolute,
    /// A character that RFC 3986 §3.3 does not allow unescaped.
    #[error("the path holds the byte {0:#04x} unescaped")]
    ForbiddenByte(u8),
    /// `%` without two hexadecimal digits (RFC 3986 §2.1).
    #[error("the path holds a `%` without two hexadecimal digits")]
    BadEscape,
    /// An escaped control character or backslash.
    #[error("the path holds the escaped byte {0:#04x}")]
    ForbiddenEscape(u8),
    /// Escapes from `%80` on that do not form UTF-8.
    #[error("the path holds escapes that do not form UTF-8")]
    NotUtf8,
    /// `//` somewhere in the path.
    #[error("the path holds an empty segment (`//`)")]
    EmptySegment,
    /// More `..` than segments before it.
    #[error("the path leads above the root")]
    AboveRoot,
    /// A dot segment with parameters or beside an encoded slash.
    #[error("the path holds a dot segment with parameters or beside an encoded slash")]
    DisguisedDotSegment,
}

impl PathError {
    /// A stable name for logs and metrics.
    pub fn flag(&self) -> &'static str {
        match self {
            PathError::NotAbsolute => "path_not_absolute",
            PathError::ForbiddenByte(_) => "path_forbidden_byte",
            PathError::BadEscape => "path_bad_escape",
            PathError::ForbiddenEscape(_) => "path_forbidden_escape",
            PathError::NotUtf8 => "path_not_utf8",
            PathError::EmptySegment => "path_empty_segment",
            PathError::AboveRoot => "path_above_root",
            PathError::DisguisedDotSegment => "path_disguised_dot_segment",
        }
    }
}

/// Normalises `raw`, a path without query. If the normal form differs it is appended to `out`, otherwise `out` is left
/// as it was, and for a path without escapes and dots not even touched.
///
/// # Errors
/// As the module says. `out` then holds rests of the attempt.
pub fn normalise(raw: &[u8], out: &mut Vec<u8>) -> Result<Normalised, PathError> {
    if is_plain(raw) {
        return Ok(Normalised { rewritten: false, has_encoded_slash: false });
    }
    let Some(relative) = raw.strip_prefix(b"/") else { return Err(PathError::NotAbsolute) };
    let base = out.len();
    let mut has_encoded_slash = false;
    let mut segments = relative.split(|&byte| byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        let start = out.len();
        out.push(b'/');
        append_segment(segment, out)?;
        match &out[start + 1..] {
            b"" if !is_last => return Err(PathError::EmptySegment),
            b"." => out.truncate(start),
            b".." => {
                out.truncate(start);
                let parent =
                    out[base..].iter().rposition(|&byte| byte == b'/').ok_or(PathError::AboveRoot)?;
                out.truncate(base + parent);
            }
            normal => {
                has_encoded_slash |= inspect_escapes(normal)?;
                continue;
            }
        }
        if is_last {
            // RFC 3986 §5.2.4: `/a/.` and `/a/b/..` name the directory, `/a/`.
            out.push(b'/');
        }
    }
    let rewritten = out[base..] != *raw;
    if !rewritten {
        out.truncate(base);
    }
    Ok(Normalised { rewritten, has_encoded_slash })
}

/// Whether a path, without query, is in the form that [`normalise`] brings paths into.
pub fn is_normal(path: &[u8]) -> bool {
    let mut normal = Vec::new();
    normalise(path, &mut normal).is_ok_and(|normalised| !normalised.rewritten)
}

/// Whether `raw` is normal for the simple reason that it has no escape, no segment that starts with a dot and no
/// empty one.
fn is_plain(raw: &[u8]) -> bool {
    let mut previous = 0;
    for &byte in raw {
        if !ALLOWED[usize::from(byte)] || (previous == b'/' && (byte == b'/' || byte == b'.')) {
            return false;
        }
        previous = byte;
    }
    raw.first() == Some(&b'/')
}

/// Appends a segment with its escapes in normal form.
fn append_segment(mut segment: &[u8], out: &mut Vec<u8>) -> Result<(), PathError> {
    while let [first, rest @ ..] = segment {
        if *first != b'%' {
            if !ALLOWED[usize::from(*first)] {
                return Err(PathError::ForbiddenByte(*first));
            }
            out.push(*first);
            segment = rest;
            continue;
        }
        let byte = escaped(segment)?;
        let len = match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(byte);
                segment = &segment[3..];
                continue;
            }
            ..b' ' | b'\\' | 0x7f => return Err(PathError::ForbiddenEscape(byte)),
            ..0x80 => 1,
            _ => utf8_len(segment)?,
        };
        for escape in segment[..3 * len].chunks(3) {
            out.extend([b'%', escape[1].to_ascii_uppercase(), escape[2].to_ascii_uppercase()]);
        }
        segment = &segment[3 * len..];
    }
    Ok(())
}

/// The byte that the escape at the front of `text` stands for.
fn escaped(text: &[u8]) -> Result<u8, PathError> {
    let digit = |at: usize| {
        let digit = text.get(at).and_then(|&byte| char::from(byte).to_digit(16));
        digit.and_then(|digit| u8::try_from(digit).ok()).ok_or(PathError::BadEscape)
    };
    Ok(digit(1)? << 4 | digit(2)?)
}

/// How many escapes at the front of `text` form one character beyond ASCII.
fn utf8_len(text: &[u8]) -> Result<usize, PathError> {
    let len = match escaped(text)? {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return Err(PathError::NotUtf8),
    };
    let mut character = [0; 4];
    for (index, byte) in character[..len].iter_mut().enumerate() {
        match text.get(3 * index..) {
            Some(rest @ [b'%', ..]) => *byte = escaped(rest)?,
            _ => return Err(PathError::NotUtf8),
        }
    }
    if str::from_utf8(&character[..len]).is_ok() { Ok(len) } else { Err(PathError::NotUtf8) }
}

/// Whether a normal segment holds `%2F`; an error if a dot segment hides in it.
fn inspect_escapes(segment: &[u8]) -> Result<bool, PathError> {
    let mut has_encoded_slash = false;
    let mut rest = segment;
    loop {
        let end = find(rest, b"%2F").unwrap_or(rest.len());
        let piece = &rest[..end];
        let name_end = [find(piece, b";"), find(piece, b"%3B")].into_iter().flatten().min().unwrap_or(end);
        if matches!(&piece[..name_end], b"." | b"..") {
            return Err(PathError::DisguisedDotSegment);
        }
        match rest.get(end + 3..) {
            Some(next) => rest = next,
            None => return Ok(has_encoded_slash),
        }
        has_encoded_slash = true;
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    memchr::memmem::find(text, part)
}

/// RFC 3986 §3.3: `pchar` without escapes, and `/`.
static ALLOWED: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = matches!(
            byte as u8,
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' // unreserved
                | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' // sub-delims
                | b':' | b'@' | b'/'
        );
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests;
