//! Templates of request paths: `/orders/{id}`, `/files/{rest...}`; or regular expressions, for what no template can say.
//!
//! Hides the grammar of templates and how a path is taken apart. A template is written in the same normal form that
//! request paths are brought into before they are matched, so one that no path could ever equal is refused. Never
//! decodes or repairs anything: matching compares bytes.
//!
//! A segment is what stands between two `/`. `{name}` stands for one whole segment, which must not be empty; `{name...}`
//! in the last place for everything after that `/`, slashes included and possibly nothing. So `/files/{rest...}` takes
//! `/files/` and `/files/a/b`, but not `/files`.

use std::fmt;
use std::ops::Range;

use crate::regex::{BoundedRegex, RegexError};

/// A template of request paths, or a regular expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    text: Box<str>,
    /// None of a regular expression.
    segments: Vec<Segment>,
    regex: Option<BoundedRegex>,
    encoded_slash: bool,
}

/// One segment of a [`PathPattern`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// These bytes. Empty only in the last place: the template ends with `/`.
    Literal(Box<str>),
    /// `{name}`: one segment that is not empty.
    Param(Box<str>),
    /// `{name...}`: the rest of the path.
    Rest(Box<str>),
}

impl PathPattern {
    /// Reads a template.
    ///
    /// # Errors
    /// [`PathPatternError`] says which rule is broken.
    pub fn parse(text: &str) -> Result<Self, PathPatternError> {
        let fault = |kind| PathPatternError { text: text.to_owned(), kind };
        if text.len() > TEMPLATE_BYTES_MAX {
            return Err(PathPatternError { text: text.chars().take(64).collect(), kind: PathFault::TooLong });
        }
        let path = text.strip_prefix('/').ok_or_else(|| fault(PathFault::NoSlash))?;
        let count = path.split('/').count();
        if count > SEGMENTS_MAX {
            return Err(fault(PathFault::TooManySegments));
        }
        let mut segments = Vec::with_capacity(count);
        for (index, segment) in path.split('/').enumerate() {
            let last = index + 1 == count;
            segments.push(parse_segment(segment, last).map_err(fault)?);
        }
        let names: Vec<&str> = segments.iter().filter_map(Segment::name).collect();
        if names.len() > PARAMS_MAX {
            return Err(fault(PathFault::TooManyNames));
        }
        if let Some((_, name)) = names.iter().enumerate().find(|(index, name)| names[..*index].contains(name))
        {
            return Err(fault(PathFault::NameTwice((*name).to_owned())));
        }
        let literal_with =
            |wanted| segments.iter().any(|s| matches!(s, Segment::Literal(text) if text.contains(wanted)));
        Ok(Self { encoded_slash: literal_with("%2F"), text: text.into(), segments, regex: None })
    }

    /// Reads a regular expression, which has to match whole paths and has no parameters.
    ///
    /// # Errors
    /// [`RegexError`] if it is none, or too large.
    pub fn parse_regex(text: &str) -> Result<Self, RegexError> {
        let regex = BoundedRegex::new(text)?;
        Ok(Self { text: text.into(), segments: Vec::new(), regex: Some(regex), encoded_slash: false })
    }

    /// The regular expression, if it is one.
    pub fn regex(&self) -> Option<&BoundedRegex> {
        self.regex.as_ref()
    }

    /// What every path that it takes begins with, as far as that is a single text.
    pub(crate) fn literal_prefix(&self) -> String {
        match &self.regex {
            Some(regex) => String::from_utf8_lossy(&regex.literal_prefix()).into_owned(),
            None => self.text.split('{').next().unwrap_or_default().to_owned(),
        }
    }

    /// The template or regular expression as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its segments.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The names of its parameters, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(Segment::name)
    }

    /// Whether a literal of it has `%2F`, so that only paths with an encoded slash can match.
    pub fn needs_encoded_slash(&self) -> bool {
        self.encoded_slash
    }

    /// Whether this template takes every path that begins with `prefix`: it ends with `{rest...}`, and what stands before that is
    /// in the prefix.
    pub(crate) fn takes_all_with(&self, prefix: &str) -> bool {
        let Some((Segment::Rest(_), before)) = self.segments.split_last() else { return false };
        // What stands behind the last `/` may go on.
        let Some((whole, _)) = prefix.rsplit_once('/') else { return false };
        let mut given = whole.split('/').skip(1);
        before.iter().all(|segment| match (segment, given.next()) {
            (Segment::Literal(text), Some(given)) => **text == *given,
            (Segment::Param(_), Some(given)) => !given.is_empty(),
            _ => false,
        })
    }

    /// The parameters of a normalised path, if this template takes it. Allocates nothing.
    pub fn matches(&self, path: &str) -> Option<Params> {
        let mut params = Params::default();
        if let Some(regex) = &self.regex {
            return regex.is_match(path.bytes()).then_some(params);
        }
        let mut at = path.starts_with('/').then_some(1);
        for segment in &self.segments {
            let start = at?;
            let end = segment_end(path, start);
            match segment {
                Segment::Literal(text) if path[start..end] == **text => {}
                Segment::Param(_) if start < end => params.push(start, end),
                Segment::Rest(_) => {
                    params.push(start, path.len());
                    return Some(params);
                }
                Segment::Literal(_) | Segment::Param(_) => return None,
            }
            at = next_segment(path, end);
        }
        at.is_none().then_some(params)
    }

    /// Whether there is a path that both templates take. Of a regular expression it is not found out: it may be.
    pub fn overlaps(&self, other: &PathPattern) -> bool {
        if self.regex.is_some() || other.regex.is_some() {
            return true;
        }
        let mut pairs = self.segments.iter().zip(&other.segments);
        let by_rest = pairs.find_map(|pair| match pair {
            (Segment::Rest(_), _) | (_, Segment::Rest(_)) => Some(true),
            (Segment::Literal(one), Segment::Literal(another)) if one != another => Some(false),
            // `{name}` takes no segment that is empty.
            (Segment::Param(_), Segment::Literal(text)) | (Segment::Literal(text), Segment::Param(_))
                if text.is_empty() =>
            {
                Some(false)
            }
            _ => None,
        });
        by_rest.unwrap_or(self.segments.len() == other.segments.len())
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Segment {
    /// The name, unless it is a literal.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Literal(_) => None,
            Self::Param(name) | Self::Rest(name) => Some(name),
        }
    }
}

/// What the parameters of a template stand for in one path, as byte ranges of that path. Lives on the stack.
#[derive(Clone, Copy, Debug, Default)]
pub struct Params {
    spans: [(u32, u32); PARAMS_MAX],
    len: u8,
}

impl Params {
    /// How many there are.
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The byte range of the parameter at `index`, in the order of the template.
    pub fn span(&self, index: usize) -> Option<Range<usize>> {
        let (start, end) = *self.spans[..self.len()].get(index)?;
        Some(start as usize..end as usize)
    }

    /// Names and values, for the template and the path that were matched.
    pub fn iter<'a>(
        &'a self,
        pattern: &'a PathPattern,
        path: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        let spans = self.spans[..self.len()].iter();
        pattern
            .names()
            .zip(spans.map(|(start, end)| path.get(*start as usize..*end as usize).unwrap_or_default()))
    }

    pub(crate) fn push(&mut self, start: usize, end: usize) {
        // A path is shorter than a request head, which is far below 4 GiB; a template has no more names than this has
        // places. A broken promise loses a parameter here, and never memory.
        let span = u32::try_from(start).ok().zip(u32::try_from(end).ok());
        if let (Some(span), Some(place)) = (span, self.spans.get_mut(usize::from(self.len))) {
            *place = span;
            self.len += 1;
        }
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(u8::try_from(len).unwrap_or(u8::MAX));
    }
}

impl PartialEq for Params {
    fn eq(&self, other: &Self) -> bool {
        // What lies behind the length is left over from branches that failed.
        self.spans[..self.len()] == other.spans[..other.len()]
    }
}

impl Eq for Params {}

/// Where the segment that starts at `start` ends.
pub(crate) fn segment_end(path: &str, start: usize) -> usize {
    path.as_bytes()[start..].iter().position(|byte| *byte == b'/').map_or(path.len(), |length| start + length)
}

/// Where the segment after the one that ends at `end` starts, if there is one.
pub(crate) fn next_segment(path: &str, end: usize) -> Option<usize> {
    (end < path.len()).then_some(end + 1)
}

/// Why a text is not a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a path template: {kind}")]
pub struct PathPatternError {
    text: String,
    kind: PathFault,
}

impl PathPatternError {
    /// What to do about it, if that is more than the message says.
    pub fn help(&self) -> Option<&'static str> {
        match self.kind {
            PathFault::PartOfSegment | PathFault::BadName => {
                Some("\"/orders/{id}\" takes one segment, \"/files/{rest...}\" everything that follows")
            }
            PathFault::Asterisk => {
                Some("write \"{name}\" for one segment, \"{rest...}\" for everything that follows")
            }
            PathFault::Query => Some("routes are chosen by path; a policy can look at the query"),
            PathFault::Encoding => Some(
                "write letters, digits, '-', '.', '_' and '~' as they are, and other bytes as %XX in capitals",
            ),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum PathFault {
    #[error("it does not begin with '/'")]
    NoSlash,
    #[error("it is longer than 2048 bytes")]
    TooLong,
    #[error("it has more than 64 segments")]
    TooManySegments,
    #[error("it has more than 8 names")]
    TooManyNames,
    #[error("the name {0:?} appears twice")]
    NameTwice(String),
    #[error("it has an empty segment")]
    EmptySegment,
    #[error("it has a \".\" or \"..\" segment, which no normalised path has")]
    DotSegment,
    #[error("'{{' and '}}' must enclose a whole segment")]
    PartOfSegment,
    #[error("a name has letters, digits and '_', and does not begin with a digit")]
    BadName,
    #[error("\"{{{0}...}}\" is not in the last place")]
    RestNotLast(String),
    #[error("'*' has no meaning in it")]
    Asterisk,
    #[error("it has a query or a fragment")]
    Query,
    #[error("it has the byte {0:?}, which no normalised path has as it is")]
    Byte(char),
    #[error("its percent-encoding is not in normal form")]
    Encoding,
    #[error("its percent-encoding is not UTF-8")]
    NotUtf8,
    #[error("it has %{0:02X}, which is refused in every path")]
    Refused(u8),
}

fn parse_segment(segment: &str, last: bool) -> Result<Segment, PathFault> {
    if let Some(inner) = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        let (name, rest) = match inner.strip_suffix("...") {
            Some(name) => (name, true),
            None => (inner, false),
        };
        if !is_name(name) {
            return Err(PathFault::BadName);
        }
        return match (rest, last) {
            (true, false) => Err(PathFault::RestNotLast(name.to_owned())),
            (true, true) => Ok(Segment::Rest(name.into())),
            (false, _) => Ok(Segment::Param(name.into())),
        };
    }
    if segment.is_empty() && !last {
        return Err(PathFault::EmptySegment);
    }
    check_literal(segment)?;
    // "..;x" and "..%2F" are refused in requests as well: some upstreams take them for "..".
    let dots =
        |piece: &str| matches!(piece.split(';').next().and_then(|p| p.split("%3B").next()), Some("." | ".."));
    if segment.split("%2F").any(dots) {
        return Err(PathFault::DotSegment);
    }
    Ok(Segment::Literal(segment.into()))
}

/// RFC 3986 §3.3: a segment is of `pchar`. §6.2.2: the normal form encodes no unreserved character, and writes the
/// others in capitals. What is encoded is UTF-8, as in every path that a request gets through with.
fn check_literal(segment: &str) -> Result<(), PathFault> {
    let mut bytes = segment.bytes();
    let mut decoded = Vec::with_capacity(segment.len());
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'}' => return Err(PathFault::PartOfSegment),
            b'*' => return Err(PathFault::Asterisk),
            b'?' | b'#' => return Err(PathFault::Query),
            b'%' => decoded.push(decode(bytes.next(), bytes.next())?),
            byte if is_unreserved(byte) => decoded.push(byte),
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'+' | b',' | b';' | b'=' | b':' | b'@' => {
                decoded.push(byte)
            }
            byte if byte.is_ascii() => return Err(PathFault::Byte(char::from(byte))),
            _ => return Err(PathFault::Encoding),
        }
    }
    std::str::from_utf8(&decoded).map(|_| ()).map_err(|_| PathFault::NotUtf8)
}

/// The byte that `%` and these two digits stand for.
fn decode(high: Option<u8>, low: Option<u8>) -> Result<u8, PathFault> {
    let digit = |byte: Option<u8>| match byte {
        Some(byte @ b'0'..=b'9') => Some(byte - b'0'),
        Some(byte @ b'A'..=b'F') => Some(byte - b'A' + 10),
        _ => None,
    };
    let (Some(high), Some(low)) = (digit(high), digit(low)) else { return Err(PathFault::Encoding) };
    match high * 16 + low {
        byte @ (..b' ' | b'\\' | 0x7f) => Err(PathFault::Refused(byte)),
        byte if is_unreserved(byte) => Err(PathFault::Encoding),
        byte => Ok(byte),
    }
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn is_name(name: &str) -> bool {
    let word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    word && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

/// Keeps [`Params`] on the stack; real templates have up to four or five.
const PARAMS_MAX: usize = 8;

/// Bounds the depth of the route table.
const SEGMENTS_MAX: usize = 64;

/// Far below the smallest useful request head.
const TEMPLATE_BYTES_MAX: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    fn captures(template: &str, path: &str) -> Option<Vec<(String, String)>> {
        let pattern = PathPattern::parse(template).unwrap();
        let params = pattern.matches(path)?;
        Some(params.iter(&pattern, path).map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    #[test]
    fn templates_take_the_paths_they_should() {
        for (template, path, expected) in [
            ("/", "/", Some(vec![])),
            ("/", "/a", None),
            ("/orders", "/orders", Some(vec![])),
            ("/orders", "/orders/", None),
            ("/orders/", "/orders/", Some(vec![])),
            ("/orders/", "/orders", None),
            ("/orders/", "/orders//", None),
            ("/orders", "/Orders", None),
            ("/orders/{id}", "/orders/7", Some(vec![("id", "7")])),
            ("/orders/{id}", "/orders/", None),
            ("/orders/{id}", "/orders", None),
            ("/orders/{id}", "/orders/7/", None),
            ("/orders/{id}", "/orders/7/x", None),
            (
                "/orders/{id}/items/{item}",
                "/orders/7/items/%C3%A9",
                Some(vec![("id", "7"), ("item", "%C3%A9")]),
            ),
            ("/orders/{id}/items", "/orders//items", None),
            ("/{rest...}", "/", Some(vec![("rest", "")])),
            ("/{rest...}", "/a/b/", Some(vec![("rest", "a/b/")])),
            ("/files/{rest...}", "/files", None),
            ("/files/{rest...}", "/files/", Some(vec![("rest", "")])),
            ("/files/{rest...}", "/files//a", Some(vec![("rest", "/a")])),
            ("/{a}/{rest...}", "/x/y", Some(vec![("a", "x"), ("rest", "y")])),
            ("/a", "", None),
            ("/a", "a", None),
            ("/{rest...}", "*", None),
        ] {
            let expected = expected.map(|pairs: Vec<(&str, &str)>| {
                pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<Vec<_>>()
            });
            assert_eq!(captures(template, path), expected, "{template} on {path}");
        }
    }

    #[test]
    fn templates_overlap_if_one_path_can_be_of_both() {
        for (one, another, expected) in [
            ("/", "/", true),
            ("/", "/{rest...}", true),
            ("/", "/{a}", false),
            ("/orders", "/orders", true),
            ("/orders", "/orders/", false),
            ("/orders/{id}", "/orders/7", true),
            ("/orders/{id}", "/orders/", false),
            ("/orders/{id}", "/{a}/{b}", true),
            ("/orders/{id}", "/items/{id}", false),
            ("/orders/{id}/items", "/orders/{rest...}", true),
            ("/orders", "/orders/{rest...}", false),
            ("/orders/{rest...}", "/items/{rest...}", false),
            ("/{a}/x/{rest...}", "/b/{c}/d", true),
        ] {
            let (one, another) = (PathPattern::parse(one).unwrap(), PathPattern::parse(another).unwrap());
            assert_eq!(one.overlaps(&another), expected, "{one} and {another}");
            assert_eq!(another.overlaps(&one), expected, "{another} and {one}");
        }
    }

    #[test]
    fn templates_that_are_refused() {
        for (template, why) in [
            ("", "it does not begin with '/'"),
            ("orders", "it does not begin with '/'"),
            ("//", "it has an empty segment"),
            ("/a//b", "it has an empty segment"),
            ("/a/./b", "it has a \".\" or \"..\" segment, which no normalised path has"),
            ("/a/..", "it has a \".\" or \"..\" segment, which no normalised path has"),
            ("/a/..;v=1", "it has a \".\" or \"..\" segment, which no normalised path has"),
            ("/a%2F..%3Bb", "it has a \".\" or \"..\" segment, which no normalised path has"),
            ("/a{id}", "'{' and '}' must enclose a whole segment"),
            ("/{id}.json", "'{' and '}' must enclose a whole segment"),
            ("/{id", "'{' and '}' must enclose a whole segment"),
            ("/{}", "a name has letters, digits and '_', and does not begin with a digit"),
            ("/{...}", "a name has letters, digits and '_', and does not begin with a digit"),
            ("/{1a}", "a name has letters, digits and '_', and does not begin with a digit"),
            ("/{a-b}", "a name has letters, digits and '_', and does not begin with a digit"),
            ("/{a}{b}", "a name has letters, digits and '_', and does not begin with a digit"),
            ("/{rest...}/", "\"{rest...}\" is not in the last place"),
            ("/{id}/{id}", "the name \"id\" appears twice"),
            ("/files/*", "'*' has no meaning in it"),
            ("/a?b=c", "it has a query or a fragment"),
            ("/a#b", "it has a query or a fragment"),
            ("/a b", "it has the byte ' ', which no normalised path has as it is"),
            ("/a\\b", "it has the byte '\\\\', which no normalised path has as it is"),
            ("/é", "its percent-encoding is not in normal form"),
            ("/%c3%a9", "its percent-encoding is not in normal form"),
            ("/%41", "its percent-encoding is not in normal form"),
            ("/%4", "its percent-encoding is not in normal form"),
            ("/%", "its percent-encoding is not in normal form"),
            ("/%zz", "its percent-encoding is not in normal form"),
            ("/%C3%41", "its percent-encoding is not in normal form"),
            ("/%C3a", "its percent-encoding is not UTF-8"),
            ("/%C0%AF", "its percent-encoding is not UTF-8"),
            ("/a%00", "it has %00, which is refused in every path"),
            ("/a%0A", "it has %0A, which is refused in every path"),
            ("/a%5C", "it has %5C, which is refused in every path"),
        ] {
            let error = PathPattern::parse(template).unwrap_err().to_string();
            assert_eq!(error, format!("{template:?} is not a path template: {why}"));
        }
    }

    #[test]
    fn sizes_at_the_limit() {
        let names = |count: usize| (0..count).map(|n| format!("/{{n{n}}}")).collect::<String>();
        assert_eq!(PathPattern::parse(&names(8)).unwrap().matches("/1/2/3/4/5/6/7/8").unwrap().len(), 8);
        assert!(PathPattern::parse(&names(9)).is_err());
        assert!(PathPattern::parse(&"/a".repeat(64)).is_ok());
        assert!(PathPattern::parse(&"/a".repeat(65)).is_err());
        assert!(PathPattern::parse(&format!("/{}", "a".repeat(2047))).is_ok());
        assert!(PathPattern::parse(&format!("/{}", "a".repeat(2048))).is_err());
    }

    #[test]
    fn an_encoded_slash_is_noticed() {
        assert!(PathPattern::parse("/a%2Fb").unwrap().needs_encoded_slash());
        assert!(!PathPattern::parse("/a%3Ab/{c}").unwrap().needs_encoded_slash());
    }
}
