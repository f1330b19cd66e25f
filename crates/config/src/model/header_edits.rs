//! Header fields that are changed on the way.

use crate::template::Template;

/// What changes in the header fields of requests, or of responses. No name stands in it twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    /// Lower-case names of fields that replace all of their name, with their values.
    pub set: Vec<(Box<str>, Template)>,
    /// Lower-case names of fields that come beside those of their name, with their values.
    pub append: Vec<(Box<str>, Template)>,
    /// Lower-case names of fields that are removed.
    pub remove: Vec<Box<str>>,
}

impl HeaderEdits {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.names().next().is_none()
    }

    /// The names of all fields that it is about.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let written = self.set.iter().chain(&self.append).map(|(name, _)| &**name);
        written.chain(self.remove.iter().map(|name| &**name))
    }

    /// All templates.
    pub(crate) fn values(&self) -> impl Iterator<Item = &Template> {
        self.set.iter().chain(&self.append).map(|(_, value)| value)
    }

    /// These, and of `host` what is about other fields.
    pub(crate) fn over(mut self, host: &Self) -> Self {
        // Many servers do not tell `_` from `-`.
        let folded = |name: &str| name.replace('_', "-");
        let own: Vec<String> = self.names().map(folded).collect();
        let is_other = |name: &str| !own.contains(&folded(name));
        let of_others = |list: &[(Box<str>, Template)]| -> Vec<(Box<str>, Template)> {
            list.iter().filter(|(name, _)| is_other(name)).cloned().collect()
        };
        let (set, append) = (of_others(&host.set), of_others(&host.append));
        let remove: Vec<Box<str>> = host.remove.iter().filter(|name| is_other(name)).cloned().collect();
        self.set.extend(set);
        self.append.extend(append);
        self.remove.extend(remove);
        self
    }
}
