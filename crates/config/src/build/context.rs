//! What every step of the check shares: where problems go, and how single values are read.
//!
//! Every reader reports what is wrong and then returns something usable, so that one run finds everything. What it
//! returns after a report never gets out: a file with an error is refused as a whole.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_spanned::Spanned;

use crate::bounds::{DurationBounds, NAME_CHARS_MAX, NumberBounds};
use crate::diagnostic::{Diagnostic, Diagnostics, Location, Severity, Source};
use crate::model::NamedPath;
use crate::raw::{Count, CountOrWord, DurationText, Field, OneOrMany, SizeText, strings};
use crate::suggest::nearest;
use crate::units::{ShowDuration, ShowSize, UnitError, parse_duration, parse_size};

/// The state of one check.
pub(super) struct Context<'s> {
    source: &'s Source,
    /// Relative paths begin here.
    directory: PathBuf,
    pub(super) found: Diagnostics,
    unreadable: Option<Range<usize>>,
}

impl<'s> Context<'s> {
    pub(super) fn new(source: &'s Source, found: Diagnostics) -> Self {
        let directory = source.file().parent().map(Path::to_path_buf).unwrap_or_default();
        Self { source, directory, found, unreadable: None }
    }

    /// Everything found, in the order of the file.
    pub(super) fn finish(mut self) -> Diagnostics {
        // The decoder has reported every value that it could not read. Should it ever not, the file is still refused.
        if let Some(span) = self.unreadable.take().filter(|_| !self.found.has_errors()) {
            self.error(&span, "this value cannot be read");
        }
        self.found.sort();
        self.found
    }

    pub(super) fn at(&self, span: &Range<usize>) -> Location {
        self.source.locate(span)
    }

    pub(super) fn error(&mut self, span: &Range<usize>, message: impl Into<String>) -> Report<'_, 's> {
        Report {
            cx: self,
            severity: Severity::Error,
            span: span.clone(),
            message: message.into(),
            help: None,
        }
    }

    pub(super) fn warning(&mut self, span: &Range<usize>, message: impl Into<String>) -> Report<'_, 's> {
        Report {
            cx: self,
            severity: Severity::Warning,
            span: span.clone(),
            message: message.into(),
            help: None,
        }
    }

    /// A problem of no particular place.
    pub(super) fn whole_file_error(&mut self, message: &str, help: &str) {
        self.found.push(Diagnostic::whole_file(self.source.file(), message, Some(help.to_owned())));
    }

    /// The value of a key that may be left out.
    pub(super) fn given<'f, T>(&mut self, field: &'f Field<T>) -> Option<&'f Spanned<T>> {
        if let Field::Unreadable(span) = field {
            self.unreadable = Some(span.clone());
        }
        field.given()
    }

    /// The value of a key that may not be left out; `section` is where it should stand.
    pub(super) fn required<'f, T>(
        &mut self,
        key: &str,
        example: &str,
        field: &'f Field<T>,
        section: &Range<usize>,
    ) -> Option<&'f Spanned<T>> {
        if field.is_absent() {
            self.error(section, format!("`{key}` is missing")).help(format!("add {example}"));
        }
        self.given(field)
    }

    /// A copy of a plain value, or its default.
    pub(super) fn value_or<T: Copy>(&mut self, field: &Field<T>, default: T) -> T {
        self.given(field).map_or(default, |value| *value.get_ref())
    }

    pub(super) fn duration(
        &mut self,
        key: &str,
        field: &Field<DurationText>,
        bounds: &DurationBounds,
    ) -> Duration {
        self.optional_duration(key, field, bounds).unwrap_or(bounds.default)
    }

    /// None if the key is not given; for keys whose default is another key's value.
    pub(super) fn optional_duration(
        &mut self,
        key: &str,
        field: &Field<DurationText>,
        bounds: &DurationBounds,
    ) -> Option<Duration> {
        let text = self.given(field)?;
        let duration = self.parsed(key, &text.span(), parse_duration(&text.get_ref().0))?;
        if duration < bounds.min || duration > bounds.max {
            let (min, max) = (ShowDuration(bounds.min), ShowDuration(bounds.max));
            self.out_of_bounds(key, &text.span(), &ShowDuration(duration), &min, &max);
        }
        Some(duration)
    }

    /// None is `"unlimited"`, which is the default too.
    pub(super) fn duration_or_unlimited(
        &mut self,
        key: &str,
        field: &Field<DurationText>,
        bounds: &DurationBounds,
    ) -> Option<Duration> {
        if field.value().is_some_and(|text| text.0 == UNLIMITED) {
            return None;
        }
        self.optional_duration(key, field, bounds)
    }

    pub(super) fn number(&mut self, key: &str, field: &Field<Count>, bounds: &NumberBounds) -> usize {
        let number = match self.given(field) {
            None => bounds.default,
            Some(count) => {
                self.bounded(key, &count.span(), count.get_ref().0, bounds, |number| number.to_string())
            }
        };
        usize::try_from(number).unwrap_or(usize::MAX)
    }

    /// A number, or none for the word. What the default is, only the caller knows.
    pub(super) fn number_or_word(
        &mut self,
        key: &str,
        field: &Field<CountOrWord>,
        word: &str,
        bounds: &NumberBounds,
    ) -> Option<u64> {
        let value = self.given(field)?;
        match value.get_ref() {
            CountOrWord::Count(count) => {
                Some(self.bounded(key, &value.span(), *count, bounds, |number| number.to_string()))
            }
            CountOrWord::Word(found) if found == word => None,
            CountOrWord::Word(found) => {
                self.error(
                    &value.span(),
                    format!("`{key}`: expected a number or \"{word}\", found {found:?}"),
                );
                None
            }
        }
    }

    pub(super) fn size(&mut self, key: &str, field: &Field<SizeText>, bounds: &NumberBounds) -> usize {
        let size = self.given(field).and_then(|text| {
            let size = self.parsed(key, &text.span(), parse_size(&text.get_ref().0))?;
            Some(self.bounded(key, &text.span(), size, bounds, |size| ShowSize(size).to_string()))
        });
        usize::try_from(size.unwrap_or(bounds.default)).unwrap_or(usize::MAX)
    }

    /// None if the key is not given, `Some(None)` for `"unlimited"`.
    pub(super) fn optional_size_or_unlimited(
        &mut self,
        key: &str,
        field: &Field<SizeText>,
    ) -> Option<Option<u64>> {
        let text = self.given(field)?;
        if text.get_ref().0 == UNLIMITED {
            return Some(None);
        }
        self.parsed(key, &text.span(), parse_size(&text.get_ref().0)).map(Some)
    }

    /// The strings of a list, if it has as many as it should; each is reported if it is empty.
    pub(super) fn list<'f>(
        &mut self,
        key: &str,
        list: &'f Spanned<OneOrMany>,
        allowed: RangeInclusive<usize>,
    ) -> Vec<Spanned<&'f str>> {
        let items = strings(list);
        let written = match list.get_ref() {
            OneOrMany::One(_) => 1,
            OneOrMany::Many(items) => items.len(),
        };
        if !allowed.contains(&written) {
            let (min, max) = (allowed.start(), allowed.end());
            self.error(
                &list.span(),
                format!("`{key}` has {written} entries: from {min} to {max} are allowed"),
            );
        }
        items
    }

    /// Paths of files and directories.
    pub(super) fn paths(
        &mut self,
        key: &str,
        list: &Spanned<OneOrMany>,
        allowed: RangeInclusive<usize>,
    ) -> Vec<NamedPath> {
        let items = self.list(key, list, allowed);
        items.iter().filter_map(|item| self.path(key, item.get_ref(), &item.span())).collect()
    }

    pub(super) fn path(&mut self, key: &str, text: &str, span: &Range<usize>) -> Option<NamedPath> {
        if text.is_empty() || text.contains('\0') {
            self.error(span, format!("`{key}`: {text:?} is not the path of a file"));
            return None;
        }
        Some(NamedPath { path: self.directory.join(text), at: self.at(span) })
    }

    /// A name that the operator chose. It appears in logs and as a metric label.
    pub(super) fn name(&mut self, what: &str, text: &str, span: &Range<usize>) -> Option<String> {
        let letters = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
        let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        if letters && first && text.len() <= NAME_CHARS_MAX {
            return Some(text.to_owned());
        }
        self.error(span, format!("{text:?} is not a name for {what}")).help(format!(
            "write 1 to {NAME_CHARS_MAX} letters, digits, '_', '-' and '.', beginning with a letter or digit"
        ));
        None
    }

    pub(super) fn socket_addr(&mut self, key: &str, text: &str, span: &Range<usize>) -> Option<SocketAddr> {
        if let Ok(addr) = text.parse() {
            return Some(addr);
        }
        let help = match text.rsplit_once(':') {
            Some(("localhost", port)) => format!("names are not resolved yet: write \"127.0.0.1:{port}\""),
            Some(("" | "*", port)) if key == "bind" => {
                format!("write \"[::]:{port}\" for every address of this machine")
            }
            Some((host, _)) if host.parse::<std::net::Ipv6Addr>().is_ok() => {
                "an IPv6 address stands in brackets: \"[2001:db8::1]:8080\"".to_owned()
            }
            Some((host, _)) if host.bytes().any(|b| b.is_ascii_alphabetic()) && !host.starts_with('[') => {
                "names are not resolved yet: write the IP address".to_owned()
            }
            _ => "write an IP address and a port: \"10.0.0.11:8080\", \"[2001:db8::1]:8080\"".to_owned(),
        };
        self.error(span, format!("`{key}`: {text:?} is not an IP address with a port")).help(help);
        None
    }

    fn parsed<T>(&mut self, key: &str, span: &Range<usize>, result: Result<T, UnitError>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.error(span, format!("`{key}`: {error}")).help(error.help());
                None
            }
        }
    }

    fn bounded(
        &mut self,
        key: &str,
        span: &Range<usize>,
        number: u64,
        bounds: &NumberBounds,
        show: fn(u64) -> String,
    ) -> u64 {
        if number < bounds.min || number > bounds.max {
            self.out_of_bounds(key, span, &show(number), &show(bounds.min), &show(bounds.max));
        }
        number
    }

    fn out_of_bounds(
        &mut self,
        key: &str,
        span: &Range<usize>,
        found: &dyn Display,
        min: &dyn Display,
        max: &dyn Display,
    ) {
        self.error(span, format!("`{key}` is {found}: from {min} to {max} is allowed"));
    }
}

/// A problem that is about to be noted, so that help can be added to it.
pub(super) struct Report<'c, 's> {
    cx: &'c mut Context<'s>,
    severity: Severity,
    span: Range<usize>,
    message: String,
    help: Option<String>,
}

impl Report<'_, '_> {
    pub(super) fn help(mut self, help: impl Into<String>) {
        self.help = Some(help.into());
    }
}

impl Drop for Report<'_, '_> {
    fn drop(&mut self) {
        let help = self.help.as_deref();
        self.cx.found.push(self.cx.source.quoting(self.severity, &self.span, &self.message, help));
    }
}

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
    pub(super) fn resolve(&mut self, cx: &mut Context<'_>, name: &Spanned<String>) -> Option<String> {
        let text = name.get_ref();
        if let Some((_, used)) = self.defined.get_mut(text) {
            *used = true;
            return Some(text.clone());
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

const UNLIMITED: &str = "unlimited";
