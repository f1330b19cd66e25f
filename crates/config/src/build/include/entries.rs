//! What each `[[include]]` means.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_spanned::Spanned;

use super::super::context::Context;
use crate::bounds;
use crate::model::Include;
use crate::raw::{self, Field, Section};

/// A readable `[[include]]`.
#[derive(Debug)]
pub(super) struct Entry {
    /// The directory, and what the files in it are called.
    pub(super) directory: PathBuf,
    pub(super) name: Pattern,
    pub(super) may_define: Vec<Section>,
    /// What named things may be called; none for anything.
    pub(super) names: Option<Vec<Pattern>>,
    pub(super) may_weaken: bool,
    /// Where its path stands.
    pub(super) span: Range<usize>,
}

impl From<Entry> for Include {
    fn from(entry: Entry) -> Self {
        Self {
            directory: entry.directory,
            file: entry.name,
            may_define: entry.may_define,
            names: entry.names,
        }
    }
}

/// A name, or with `*` in it many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// This one.
    One(String),
    /// All that begin and end so.
    Between(String, String),
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(name) => write!(f, "{name:?}"),
            Self::Between(before, behind) => write!(f, "\"{before}*{behind}\""),
        }
    }
}

impl Pattern {
    pub(super) fn new(text: &str) -> Self {
        match text.split_once('*') {
            None => Self::One(text.to_owned()),
            Some((before, behind)) => Self::Between(before.to_owned(), behind.to_owned()),
        }
    }

    /// Whether it stands for this name, too.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::One(only) => name == only,
            Self::Between(before, behind) => {
                name.strip_prefix(before.as_str()).is_some_and(|rest| rest.ends_with(behind.as_str()))
            }
        }
    }
}

/// Reads all entries. Those that are not readable are left out, which was reported.
pub(super) fn entries(cx: &mut Context<'_>, field: &Field<Vec<Field<raw::Include>>>) -> Vec<Entry> {
    let Some(list) = cx.given(field) else { return Vec::new() };
    if list.get_ref().len() > bounds::INCLUDES {
        let max = bounds::INCLUDES;
        cx.error(&list.span(), format!("there are more than {max} [[include]]"))
            .help("name the files of a directory with `*`");
    }
    let readable = list.get_ref().iter().take(bounds::INCLUDES);
    readable.filter_map(|raw| cx.given(raw).and_then(|raw| entry(cx, raw))).collect()
}

fn entry(cx: &mut Context<'_>, raw: &Spanned<raw::Include>) -> Option<Entry> {
    let (span, raw) = (raw.span(), raw.get_ref());
    let example = "may_define = [\"trust\", \"tenant\"], what these files may have";
    cx.required("may_define", example, &raw.may_define, &span);
    let may_define = cx.choices("may_define", &raw.may_define);
    let names = cx.given(&raw.names).map(|list| {
        let items = cx.list("names", list, bounds::INCLUDE_NAMES);
        items.into_iter().filter_map(|item| name_pattern(cx, &item)).collect()
    });
    let may_weaken = cx.value_or(&raw.may_weaken, false);
    let path = cx.required("path", "path = \"partners.d/*.toml\"", &raw.path, &span)?;
    let (directory, name) = split(cx, path)?;
    Some(Entry { directory, name, may_define, names, may_weaken, span: path.span() })
}

fn name_pattern(cx: &mut Context<'_>, item: &Spanned<&str>) -> Option<Pattern> {
    let text = *item.get_ref();
    let begin = text.strip_suffix('*').unwrap_or(text);
    if begin.is_empty() {
        cx.error(&item.span(), format!("`names`: {text:?} is every name, or none"))
            .help("write how the names begin: \"partner-*\"");
        return None;
    }
    cx.name("what a file defines", begin, &item.span())?;
    Some(Pattern::new(text))
}

/// The directory and the name of a path.
fn split(cx: &mut Context<'_>, path: &Spanned<String>) -> Option<(PathBuf, Pattern)> {
    let span = path.span();
    let named = cx.path("path", path.get_ref(), &span)?;
    let directory = named.path.parent().map(Path::to_path_buf).unwrap_or_default();
    let text = path.get_ref().as_str();
    let (before, name) = text.rsplit_once('/').unwrap_or(("", text));
    if name.is_empty() || name == "." || name == ".." {
        cx.error(&span, format!("`path`: {text:?} is a directory"))
            .help(format!("write \"{}/*.toml\" for the files in it", text.trim_end_matches('/')));
        return None;
    }
    if before.contains('*') || name.matches('*').count() > 1 {
        cx.error(&span, format!("`path`: {text:?} has `*` where it is not understood"))
            .help("write one `*`, in the last part: \"partners.d/*.toml\"");
        return None;
    }
    Some((directory, Pattern::new(name)))
}
