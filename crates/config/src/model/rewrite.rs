//! Another path or host for the upstream.

use crate::template::Template;

/// What the upstream gets instead of what the client has asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// The path, which has to be looked at once it is filled.
    pub path: Option<Template>,
    /// The host, with or without a port.
    pub host: Option<Box<str>>,
}

impl Rewrite {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.path.is_none() && self.host.is_none()
    }
}
