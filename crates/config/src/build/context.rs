//! What every step of the check shares: where problems go, and how single values are read.
//!
//! Every reader reports what is wrong and then returns something usable, so that one run finds everything. What it
//! returns after a report never gets out: a file with an error is refused as a whole.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::time::Duration;

use ringward_identity::ObjectId;
use serde_spanned::Spanned;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::bounds::{DurationBounds, NAME_CHARS_MAX, NumberBounds, OBJECT_ID_CHARS_MAX};
use crate::diagnostic::{Diagnostic, Diagnostics, Location, Severity, Source};
use crate::model::{NamedPath, NamedUrl};
use crate::raw::{Count, CountOrWord, DateTime, DurationText, Field, OneOrMany, SizeText, strings};
use crate::units::{ShowDuration, ShowSize, UnitError, parse_duration, parse_size};
use crate::url::HttpUrl;

/// The state of one check.
pub(super) struct Context<'s> {
    source: &'s Source,
    pub(super) found: Diagnostics,
    unreadable: Option<Range<usize>>,
    now_unix: i64,
    process: ProcessKeys,
}

/// Which keys of `[server]` the file has, readable or not, that others need.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProcessKeys {
    pub(super) state_dir: bool,
    pub(super) fetch_ca: bool,
}

impl<'s> Context<'s> {
    pub(super) fn new(source: &'s Source, found: Diagnostics, now_unix: i64, process: ProcessKeys) -> Self {
        Self { source, found, unreadable: None, now_unix, process }
    }

    /// When the file is read.
    pub(super) fn now_unix(&self) -> i64 {
        self.now_unix
    }

    /// Everything found, in the order of the file.
    pub(super) fn finish(mut self) -> Diagnostics {
        // The decoder has reported every value that it could not read. Should it ever not, the file is still refused.
        if let Some(span) = self.unreadable.take().filter(|_| !self.found.has_errors()) {
            self.error(&span, "this value cannot be read");
        }
        self.source.sort(&mut self.found);
        self.found
    }

    pub(super) fn at(&self, span: &Range<usize>) -> Location {
        self.source.locate(span)
    }

    /// How a place is called within a sentence.
    pub(super) fn place(&self, at: &Location) -> String {
        self.source.place(at)
    }

    pub(super) fn error(&mut self, span: &Range<usize>, message: impl Into<String>) -> Report<'_, 's> {
        let at = self.at(span);
        self.error_at(at, message)
    }

    /// An error at a place that is known by location only.
    pub(super) fn error_at(&mut self, at: Location, message: impl Into<String>) -> Report<'_, 's> {
        Report { cx: self, severity: Severity::Error, at, message: message.into(), help: None }
    }

    pub(super) fn warning(&mut self, span: &Range<usize>, message: impl Into<String>) -> Report<'_, 's> {
        let at = self.at(span);
        self.warning_at(at, message)
    }

    /// A warning at a place that is known by location only.
    pub(super) fn warning_at(&mut self, at: Location, message: impl Into<String>) -> Report<'_, 's> {
        Report { cx: self, severity: Severity::Warning, at, message: message.into(), help: None }
    }

    /// The text of a place of the file.
    pub(super) fn text(&self, span: &Range<usize>) -> &str {
        self.source.text().get(span.clone()).unwrap_or_default()
    }

    /// How long the texts of all files are.
    pub(super) fn bytes(&self) -> usize {
        self.source.text().len()
    }

    /// Whether it is the file that was named.
    pub(super) fn is_file(&self, path: &Path) -> bool {
        self.source.file() == path
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

    /// None is the word, which is the default too.
    pub(super) fn duration_or_word(
        &mut self,
        key: &str,
        field: &Field<DurationText>,
        word: &str,
        bounds: &DurationBounds,
    ) -> Option<Duration> {
        if field.value().is_some_and(|text| text.0 == word) {
            return None;
        }
        self.optional_duration(key, field, bounds)
    }

    /// A moment in Unix seconds; fractions of a second do not count.
    pub(super) fn moment(&mut self, key: &str, moment: &Spanned<DateTime>) -> Option<i64> {
        let text = &moment.get_ref().0;
        if let Ok(moment) = OffsetDateTime::parse(text, &Rfc3339) {
            return Some(moment.unix_timestamp());
        }
        self.error(&moment.span(), format!("`{key}`: {text} is not a moment"))
            .help("write date, time and offset from UTC, Z for none: 2027-03-01T18:00:00Z");
        None
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

    /// None if the key is not given.
    pub(super) fn optional_number(
        &mut self,
        key: &str,
        field: &Field<Count>,
        bounds: &NumberBounds,
    ) -> Option<usize> {
        self.given(field)?;
        Some(self.number(key, field, bounds))
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

    /// None if the key is not given.
    pub(super) fn optional_size(
        &mut self,
        key: &str,
        field: &Field<SizeText>,
        bounds: &NumberBounds,
    ) -> Option<usize> {
        self.given(field)?;
        Some(self.size(key, field, bounds))
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

    /// The strings of a list. If there are more than there should be, the rest is not looked at.
    pub(super) fn list<'f>(
        &mut self,
        key: &str,
        list: &'f Spanned<OneOrMany>,
        allowed: RangeInclusive<usize>,
    ) -> Vec<Spanned<&'f str>> {
        let mut items = strings(list);
        items.truncate(*allowed.end());
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

    /// The values of a list of choices, each once; a list without any is reported.
    pub(super) fn choices<T: Copy + PartialEq>(&mut self, key: &str, field: &Field<Vec<Field<T>>>) -> Vec<T> {
        let Some(list) = self.given(field) else { return Vec::new() };
        if list.get_ref().is_empty() {
            self.error(&list.span(), format!("`{key}` is empty")).help("leave it away for its default");
        }
        let mut choices = Vec::new();
        for item in list.get_ref() {
            let Some(item) = self.given(item) else { continue };
            if choices.contains(item.get_ref()) {
                self.error(&item.span(), format!("`{key}` has this entry twice"));
            } else {
                choices.push(*item.get_ref());
            }
        }
        choices
    }

    /// The names of things that exist, each once. `resolve` says whether one does, or reports that it does not.
    pub(super) fn names(
        &mut self,
        key: &str,
        list: &Spanned<OneOrMany>,
        allowed: RangeInclusive<usize>,
        mut resolve: impl FnMut(&mut Self, &Spanned<&str>) -> Option<String>,
    ) -> Vec<String> {
        let mut names = Vec::new();
        for item in self.list(key, list, allowed) {
            let Some(name) = resolve(self, &item) else { continue };
            if names.contains(&name) {
                self.error(&item.span(), format!("`{key}`: {name:?} appears twice"));
            }
            names.push(name);
        }
        names
    }

    pub(super) fn url<T: AsRef<str>>(&mut self, key: &str, text: &Spanned<T>) -> Option<NamedUrl> {
        match HttpUrl::parse(text.get_ref().as_ref()) {
            Ok(url) if url.is_https() && !self.process.fetch_ca => {
                let message =
                    format!("`{key}`: {url} needs a `fetch_ca`: the CAs of the system are not used");
                self.error(&text.span(), message).help(
                    "write http, since what is fetched is signed, or add fetch_ca = \"FILE\" with the server's CA to [server]",
                );
                None
            }
            Ok(url) => Some(NamedUrl { url, at: self.at(&text.span()) }),
            Err(error) => {
                self.error(&text.span(), format!("`{key}`: {error}"))
                    .help("write scheme, host and path, as in \"http://pki.example.com/path\"");
                None
            }
        }
    }

    /// Refuses what has to survive a restart if there is no place for it.
    pub(super) fn needs_state_dir(&mut self, span: &Range<usize>, what: &str, why: &str) {
        if !self.process.state_dir {
            self.error(span, format!("{what} needs a `state_dir`: {why}"))
                .help("add state_dir = \"/var/lib/ringward\" to [server]");
        }
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
        let directory = self.source.file_of(span).parent().unwrap_or(Path::new(""));
        Some(NamedPath { path: directory.join(text), at: self.at(span) })
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
            _ if key == "endpoints" && text.starts_with('/') => {
                format!("for a Unix socket write \"unix:{text}\"")
            }
            Some(("localhost", port)) => format!("write \"127.0.0.1:{port}\""),
            Some(("" | "*", port)) if key == "bind" => {
                format!("write \"[::]:{port}\" for every address of this machine")
            }
            Some((host, _)) if host.parse::<std::net::Ipv6Addr>().is_ok() => {
                "an IPv6 address stands in brackets: \"[2001:db8::1]:8080\"".to_owned()
            }
            Some((host, _)) if host.bytes().any(|b| b.is_ascii_alphabetic()) && !host.starts_with('[') => {
                match key {
                    "endpoints" => format!("write endpoints_dns = {text:?} instead of `endpoints`"),
                    _ => "names are not looked up here: write the IP address".to_owned(),
                }
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
    at: Location,
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
        self.cx.found.push(self.cx.source.quoting(self.severity, &self.at, &self.message, help));
    }
}

/// Object identifiers, as many as are allowed.
pub(super) fn object_ids(
    cx: &mut Context<'_>,
    key: &str,
    field: &Field<OneOrMany>,
    allowed: RangeInclusive<usize>,
) -> Vec<ObjectId> {
    let Some(list) = cx.given(field) else { return Vec::new() };
    let mut identifiers = Vec::new();
    for item in cx.list(key, list, allowed) {
        match item.get_ref().parse() {
            Ok(identifier) if item.get_ref().len() <= OBJECT_ID_CHARS_MAX => identifiers.push(identifier),
            _ => cx
                .error(&item.span(), format!("`{key}`: {:?} is not an object identifier", item.get_ref()))
                .help("write numbers joined by dots: \"1.3.6.1.4.1.57264.1.8\""),
        }
    }
    identifiers
}

pub(super) const UNLIMITED: &str = "unlimited";
