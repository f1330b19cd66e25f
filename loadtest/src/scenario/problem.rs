//! What is wrong with a scenario, and where: `file:line:column: error: message`, and the line itself.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// All that is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub(crate) struct Problems {
    file: PathBuf,
    /// In the order of the file.
    problems: Vec<Problem>,
}

#[derive(Debug)]
struct Problem {
    /// None if it is the file as a whole.
    place: Option<Place>,
    message: String,
}

/// A place in a text. Lines and columns count from 1; columns count characters.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    line: usize,
    column: usize,
    /// Characters that are marked on that line.
    width: usize,
    /// The line, without what a terminal would act on.
    text: String,
}

impl Problems {
    pub(crate) fn unreadable(file: &Path, error: &io::Error) -> Problems {
        let message = format!("cannot be read: {error}");
        Problems { file: file.to_owned(), problems: vec![Problem { place: None, message }] }
    }

    /// None so far.
    pub(super) fn new(file: &Path) -> Problems {
        Problems { file: file.to_owned(), problems: Vec::new() }
    }

    /// Adds one; `span` counts bytes of `text`.
    pub(super) fn add(&mut self, text: &str, span: Option<Range<usize>>, message: impl Into<String>) {
        let place = span.map(|span| Place::of(text, &span));
        self.problems.push(Problem { place, message: message.into() });
    }

    /// The value, if nothing is wrong.
    pub(super) fn or<T>(mut self, value: Option<T>) -> Result<T, Problems> {
        self.problems.sort_by(|a, b| a.place.cmp(&b.place));
        match value {
            Some(value) if self.problems.is_empty() => Ok(value),
            _ => Err(self),
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Problem { place, message }) in self.problems.iter().enumerate() {
            f.write_str(if index > 0 { "\n" } else { "" })?;
            let file = self.file.display();
            match place {
                None => write!(f, "{file}: error: {message}")?,
                Some(Place { line, column, width, text }) => {
                    let gutter = line.to_string().len();
                    let (before, marked) = (" ".repeat(column - 1), "^".repeat(*width));
                    write!(f, "{file}:{line}:{column}: error: {message}\n{line} | {text}\n")?;
                    write!(f, "{:gutter$} | {before}{marked}", "")?;
                }
            }
        }
        Ok(())
    }
}

impl Place {
    fn of(text: &str, span: &Range<usize>) -> Place {
        let at = |offset: usize| text.floor_char_boundary(offset.min(text.len()));
        let (start, end) = (at(span.start), at(span.end));
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
        let shown = text[line_start..line_end].chars().map(|c| if c.is_control() { ' ' } else { c });
        Place {
            line: text[..start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            width: text[start..end.clamp(start, line_end)].chars().count().max(1),
            text: shown.collect(),
        }
    }
}
