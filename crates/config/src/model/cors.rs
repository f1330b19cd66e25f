//! Which pages of other origins may use a route from a browser.

use std::time::Duration;

use crate::regex::BoundedRegex;

/// Cross-origin resource sharing, as the Fetch standard has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// Whether all origins may; `credentials` is false then.
    pub any_origin: bool,
    /// These may.
    pub origins: Vec<Box<str>>,
    /// And those that match.
    pub origin_regex: Option<BoundedRegex>,
    /// Lower-case names of the header fields that pages may send.
    pub headers: Vec<Box<str>>,
    /// The names of the header fields that pages may read, joined by commas.
    pub expose_headers: Box<str>,
    /// Whether they may ask with credentials.
    pub credentials: bool,
    /// How long the answer to a preflight may be remembered.
    pub max_age: Duration,
}

impl Cors {
    /// Whether a page of this origin may use it. Origins are compared byte by byte, as browsers write them.
    pub fn allows(&self, origin: &[u8]) -> bool {
        self.any_origin
            || self.origins.iter().any(|allowed| allowed.as_bytes() == origin)
            || self.origin_regex.as_ref().is_some_and(|regex| regex.is_match(origin.iter().copied()))
    }

    /// Whether a page may send all the fields of a comma-separated list.
    pub fn allows_headers(&self, names: &[u8]) -> bool {
        let mut names = names.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        names.all(|name| self.headers.iter().any(|allowed| allowed.as_bytes().eq_ignore_ascii_case(name)))
    }
}
