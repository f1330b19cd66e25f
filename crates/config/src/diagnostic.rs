//! What is wrong with a configuration, and where: `file:line:column: error: message`, the line itself, and help.
//!
//! Hides line counting, snippets and rendering. Never decides what is wrong, and never shows control characters of
//! the file as they are: a snippet is printed to terminals.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::decode::Problem;

/// How bad a [`Diagnostic`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration works, but probably not as meant.
    Warning,
    /// The configuration is refused.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// A place in a configuration file. Lines and columns count from 1; columns count characters, not bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The file as it was named on the command line.
    pub file: Arc<Path>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Characters that the caret marks on that line, at least 1.
    width: u32,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// One problem of a configuration.
///
/// Displays as `file:line:column: severity: message`, then the source line with a caret, then the help.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Whether the configuration is refused for it.
    pub severity: Severity,
    /// The file, as it was named.
    #[serde(serialize_with = "as_text")]
    pub file: Arc<Path>,
    /// Line, from 1; 0 if the problem concerns the file as a whole.
    pub line: u32,
    /// Column in characters, from 1; 0 if the problem concerns the file as a whole.
    pub column: u32,
    /// Lower case, one line: names the thing and its value.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// The source line, with what the caret marks.
    pub snippet: Option<Snippet>,
}

impl Diagnostic {
    /// A problem of the file as a whole: it cannot be read, for example.
    pub fn whole_file(file: &Path, message: impl Into<String>, help: Option<String>) -> Self {
        Self {
            severity: Severity::Error,
            file: Arc::from(file),
            line: 0,
            column: 0,
            message: message.into(),
            help,
            snippet: None,
        }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}: {}", self.severity, self.message)?;
        let gutter = if self.snippet.is_some() { self.line.to_string().len() } else { 0 };
        if let Some(snippet) = &self.snippet {
            write!(f, "\n{:gutter$} |\n{} | {}\n{:gutter$} | ", "", self.line, snippet.text, "")?;
            write!(
                f,
                "{:before$}{:^<marked$}",
                "",
                "",
                before = snippet.before as usize,
                marked = snippet.marked as usize
            )?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n{:gutter$} = help: {help}", "")?;
        }
        Ok(())
    }
}

/// The source line of a [`Diagnostic`], fit to be printed: tabs are blanks, other control characters are replaced,
/// very long lines are cut around the marked part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Snippet {
    /// The line.
    pub text: String,
    /// Characters before the mark.
    pub before: u32,
    /// Characters marked, at least 1.
    pub marked: u32,
}

/// Everything that is wrong with a configuration, in the order of the file.
///
/// Displays as all diagnostics with an empty line between them, then a line with their number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(transparent)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    /// No problems.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a problem at the end.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.0.push(diagnostic);
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many problems there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the configuration has to be refused.
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// The problems in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }
}

impl Extend<Diagnostic> for Diagnostics {
    fn extend<I: IntoIterator<Item = Diagnostic>>(&mut self, diagnostics: I) {
        self.0.extend(diagnostics);
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Self(vec![diagnostic])
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diagnostic in &self.0 {
            write!(f, "{diagnostic}\n\n")?;
        }
        let errors = self.0.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count();
        let warnings = self.0.len() - errors;
        match (errors, warnings) {
            (0, 0) => write!(f, "no problems"),
            (_, 0) => write!(f, "{}", Counted(errors, "error")),
            (0, _) => write!(f, "{}", Counted(warnings, "warning")),
            _ => write!(f, "{}, {}", Counted(errors, "error"), Counted(warnings, "warning")),
        }
    }
}

/// The text of a configuration, of one file or several, with its lines indexed: locations and diagnostics are made from it.
///
/// Places in it are byte ranges of the texts of all files, one behind the other. Only this type knows which file has which.
#[derive(Debug)]
pub(crate) struct Source {
    text: String,
    /// In the order in which they were added; at least one, and first the file that was named.
    parts: Vec<Part>,
}

/// One file.
#[derive(Debug)]
struct Part {
    file: Arc<Path>,
    /// Where its text is.
    range: Range<usize>,
    /// Byte offsets at which lines begin; the first is that of the file.
    lines: Vec<usize>,
}

impl Source {
    pub(crate) fn new(file: &Path, text: &str) -> Self {
        let mut source = Self { text: String::new(), parts: Vec::new() };
        source.add(file, text);
        source
    }

    /// Adds a file, and says where its text begins.
    pub(crate) fn add(&mut self, file: &Path, text: &str) -> usize {
        if !self.parts.is_empty() {
            // So that the end of one file is not the beginning of the next.
            self.text.push('\n');
        }
        let begin = self.text.len();
        self.text.push_str(text);
        let after_newlines =
            text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| begin + at + 1);
        let lines = std::iter::once(begin).chain(after_newlines).collect();
        self.parts.push(Part { file: Arc::from(file), range: begin..self.text.len(), lines });
        begin
    }

    /// The texts of all files.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The file that was named.
    pub(crate) fn file(&self) -> &Path {
        &self.parts[0].file
    }

    /// The file of a place.
    pub(crate) fn file_of(&self, span: &Range<usize>) -> &Path {
        &self.part(span.start).file
    }

    /// The files beside the one that was named.
    pub(crate) fn others(&self) -> impl Iterator<Item = &Path> {
        self.parts[1..].iter().map(|part| &*part.file)
    }

    /// How a place is called within a sentence: by its line if there is only one file.
    pub(crate) fn place(&self, at: &Location) -> String {
        match self.parts.len() {
            1 => format!("line {}", at.line),
            _ => format!("{}:{}", at.file.display(), at.line),
        }
    }

    /// Where a byte range begins. Offsets past the end or inside a character are moved back to the last good one.
    pub(crate) fn locate(&self, span: &Range<usize>) -> Location {
        let part = self.part(span.start);
        let start = floor_char_boundary(&self.text, span.start.min(part.range.end));
        let line = part.lines.partition_point(|begin| *begin <= start) - 1;
        let begin = part.lines[line];
        let line_end = begin + self.line_text(part, line).len();
        let end = floor_char_boundary(&self.text, span.end).clamp(start, line_end.max(start));
        Location {
            file: Arc::clone(&part.file),
            line: to_u32(line + 1),
            column: to_u32(self.text[begin..start].chars().count() + 1),
            width: to_u32(self.text[start..end].chars().count()).max(1),
        }
    }

    /// Adds what decoding has found.
    pub(crate) fn note(&self, problems: Vec<Problem>, found: &mut Diagnostics) {
        for problem in problems {
            let at = self.locate(&problem.span);
            found.push(self.quoting(Severity::Error, &at, &problem.message, problem.help.as_deref()));
        }
    }

    /// Puts problems into the order of the files, and in each by line and column, in the order of discovery within one place.
    pub(crate) fn sort(&self, found: &mut Diagnostics) {
        let index = |file: &Path| self.parts.iter().position(|part| *part.file == *file);
        found
            .0
            .sort_by_cached_key(|diagnostic| (index(&diagnostic.file), diagnostic.line, diagnostic.column));
    }

    /// The file that an offset is in.
    fn part(&self, offset: usize) -> &Part {
        let index = self.parts.partition_point(|part| part.range.start <= offset);
        &self.parts[index.saturating_sub(1)]
    }

    /// A diagnostic whose words may quote the file: one line of bearable length, without control characters.
    pub(crate) fn quoting(
        &self,
        severity: Severity,
        at: &Location,
        message: &str,
        help: Option<&str>,
    ) -> Diagnostic {
        let diagnostic = self.diagnostic(severity, at, printable(message));
        Diagnostic { help: help.map(printable), ..diagnostic }
    }

    /// A diagnostic with the snippet of its place.
    pub(crate) fn diagnostic(&self, severity: Severity, at: &Location, message: String) -> Diagnostic {
        Diagnostic {
            severity,
            file: Arc::clone(&at.file),
            line: at.line,
            column: at.column,
            message,
            help: None,
            snippet: self.snippet(at),
        }
    }

    fn snippet(&self, at: &Location) -> Option<Snippet> {
        let part = self.parts.iter().find(|part| part.file == at.file)?;
        let line = (at.line as usize).checked_sub(1).filter(|line| *line < part.lines.len())?;
        let before = (at.column as usize).saturating_sub(1);
        // Keep some context before the mark when the line is too long to print whole.
        let skip = if before + SNIPPET_CONTEXT_AFTER > SNIPPET_CHARS_MAX {
            before - before.min(SNIPPET_CONTEXT_BEFORE)
        } else {
            0
        };
        let text: String = self
            .line_text(part, line)
            .chars()
            .skip(skip)
            .take(SNIPPET_CHARS_MAX)
            .map(printable_char)
            .collect();
        let shown = text.chars().count();
        let before = before - skip;
        let marked = (at.width as usize).min(shown.saturating_sub(before)).max(1);
        Some(Snippet { text: text.trim_end().to_owned(), before: to_u32(before), marked: to_u32(marked) })
    }

    /// One line without its line ending.
    fn line_text(&self, part: &Part, line: usize) -> &str {
        let end = part.lines.get(line + 1).copied().unwrap_or(part.range.end);
        let text = &self.text[part.lines[line]..end];
        let text = text.strip_suffix('\n').unwrap_or(text);
        text.strip_suffix('\r').unwrap_or(text)
    }
}

struct Counted(usize, &'static str);

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.0, self.1, if self.0 == 1 { "" } else { "s" })
    }
}

fn as_text<S: Serializer>(path: &Arc<Path>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

fn printable(text: &str) -> String {
    let mut shown: String = text.chars().take(WORDS_CHARS_MAX).map(printable_char).collect();
    if shown.len() < text.len() && text.chars().nth(WORDS_CHARS_MAX).is_some() {
        shown.push_str("...");
    }
    shown
}

fn printable_char(c: char) -> char {
    match c {
        '\t' => ' ',
        // They reorder the text around them and are not seen themselves (Trojan Source, CVE-2021-42574).
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

fn floor_char_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn to_u32(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Wide terminals show this much without wrapping.
const SNIPPET_CHARS_MAX: usize = 120;
const SNIPPET_CONTEXT_BEFORE: usize = 40;
const SNIPPET_CONTEXT_AFTER: usize = 20;

/// Messages quote values; a value of a megabyte is not quoted whole.
const WORDS_CHARS_MAX: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str, span: Range<usize>) -> String {
        let source = Source::new(Path::new("r.toml"), text);
        let at = source.locate(&span);
        source.diagnostic(Severity::Error, &at, "bad".into()).with_help("fix it").to_string()
    }

    #[test]
    fn renders_place_snippet_and_help() {
        assert_eq!(
            show("a = 1\nbc = 22\n", 11..13),
            "r.toml:2:6: error: bad\n  |\n2 | bc = 22\n  |      ^^\n  = help: fix it"
        );
    }

    #[test]
    fn columns_count_characters() {
        assert_eq!(
            show("é = \"ü\" # x", 5..9),
            "r.toml:1:5: error: bad\n  |\n1 | é = \"ü\" # x\n  |     ^^^\n  = help: fix it"
        );
    }

    #[test]
    fn odd_spans_are_harmless() {
        for text in ["", "x", "\n", "é\r\né", "a\nb"] {
            for start in 0..6 {
                for end in 0..8 {
                    let _ = show(text, start..end);
                }
            }
        }
        assert_eq!(show("", 0..0), "r.toml:1:1: error: bad\n  |\n1 | \n  | ^\n  = help: fix it");
    }

    #[test]
    fn a_mark_ends_with_its_line() {
        assert!(show("ab = [\n1,\n2]\n", 5..12).contains("1 | ab = [\n  |      ^\n"));
    }

    #[test]
    fn control_characters_and_long_lines_are_tamed() {
        assert!(show("\ta\u{1b}[31m\u{202e}", 1..2).contains("1 |  a\u{fffd}[31m\u{fffd}\n"));
        let long = format!("{}= {}", "k".repeat(500), "v".repeat(500));
        let shown = show(&long, 502..1000);
        assert!(shown.lines().all(|line| line.chars().count() <= SNIPPET_CHARS_MAX + 6), "{shown}");
        assert!(shown.contains("= vvv"));
    }

    #[test]
    fn a_file_level_problem_has_no_position() {
        let diagnostic = Diagnostic::whole_file(Path::new("x.toml"), "cannot be read", None);
        assert_eq!(diagnostic.to_string(), "x.toml: error: cannot be read");
    }

    #[test]
    fn each_file_has_lines_of_its_own() {
        let mut source = Source::new(Path::new("r.toml"), "a = 1\nb = 2");
        let begin = source.add(Path::new("d/x.toml"), "c = 3\nd = 4\n");
        let shown = |span: Range<usize>| {
            let at = source.locate(&span);
            source.diagnostic(Severity::Error, &at, "bad".into()).to_string()
        };
        assert_eq!(shown(6..7), "r.toml:2:1: error: bad\n  |\n2 | b = 2\n  | ^");
        // The end of one file is not the beginning of the next.
        assert!(shown(11..12).starts_with("r.toml:2:6:"));
        assert_eq!(shown(begin..begin + 1), "d/x.toml:1:1: error: bad\n  |\n1 | c = 3\n  | ^");
        assert_eq!(shown(begin + 6..begin + 7), "d/x.toml:2:1: error: bad\n  |\n2 | d = 4\n  | ^");
        assert_eq!(source.place(&source.locate(&(begin + 6..begin + 7))), "d/x.toml:2");
    }

    #[test]
    fn counts_and_json() {
        let source = Source::new(Path::new("r.toml"), "a = 1");
        let at = source.locate(&(0..1));
        let mut all = Diagnostics::from(source.diagnostic(Severity::Warning, &at, "odd".into()));
        assert!(!all.has_errors());
        all.push(source.diagnostic(Severity::Error, &at, "bad".into()));
        assert!(all.has_errors());
        assert!(all.to_string().ends_with("1 error, 1 warning"));
        let json = serde_json::to_value(&all).unwrap();
        assert_eq!(json[0]["severity"], "warning");
        assert_eq!(json[1]["file"], "r.toml");
        assert_eq!(json[1]["snippet"]["text"], "a = 1");
    }
}
