//! Names that other things refer to: do they exist, and were they used?

use std::collections::BTreeMap;
use std::ops::Range;

use serde_spanned::Spanned;

use super::context::Context;
use crate::raw::Field;
use crate::suggest::nearest;

/// The names of one kind of thing that other things refer to, and which of them were.
pub(super) struct Names {
    /// What to call the thing, such as "trust bundle".
    what: &'static str,
    /// Its section in the file, such as `trust`.
    section: &'static str,
    defined: BTreeMap<String, (Range<usize>, bool)>,
}

impl Names {
    pub(super) fn new<T>(
        what: &'static str,
        section: &'static str,
        table: &Field<BTreeMap<Spanned<String>, T>>,
    ) -> Self {
        let keys = table.value().into_iter().flat_map(BTreeMap::keys);
        let defined = keys.map(|key| (key.get_ref().clone(), (key.span(), false))).collect();
        Self { what, section, defined }
    }

    /// Checks a reference, and notes that the thing is used.
    pub(super) fn resolve<T: AsRef<str>>(
        &mut self,
        cx: &mut Context<'_>,
        name: &Spanned<T>,
    ) -> Option<String> {
        if let Some((_, used)) = self.defined.get_mut(name.get_ref().as_ref()) {
            *used = true;
        }
        self.exists(cx, name)
    }

    /// All that begin so, which are used then. There has to be one.
    pub(super) fn resolve_all(
        &mut self,
        cx: &mut Context<'_>,
        begin: &str,
        span: &Range<usize>,
    ) -> Vec<String> {
        let mut found = Vec::new();
        for (name, (_, used)) in self.defined.iter_mut().filter(|(name, _)| name.starts_with(begin)) {
            *used = true;
            found.push(name.clone());
        }
        if found.is_empty() {
            let (what, section) = (self.what, self.section);
            cx.error(span, format!("there is no {what} whose name begins with {begin:?}"))
                .help(format!("define one, [{section}.NAME], before a host admits them"));
        }
        found
    }

    /// Checks a reference that does not make the thing used.
    pub(super) fn exists<T: AsRef<str>>(&self, cx: &mut Context<'_>, name: &Spanned<T>) -> Option<String> {
        let text = name.get_ref().as_ref();
        if self.defined.contains_key(text) {
            return Some(text.to_owned());
        }
        let help = match nearest(text, self.defined.keys().map(String::as_str)) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("define it: [{}.{text}]", self.section),
        };
        cx.error(&name.span(), format!("there is no {} {text:?}", self.what)).help(help);
        None
    }

    pub(super) fn warn_unused(&self, cx: &mut Context<'_>) {
        for (name, (span, _)) in self.defined.iter().filter(|(_, (_, used))| !used) {
            cx.warning(span, format!("the {} {name:?} is not used", self.what));
        }
    }
}
