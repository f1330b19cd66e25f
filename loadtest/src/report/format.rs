//! The forms of a report, and the files it is written to.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Args, ValueEnum};

use super::Report;

/// The form of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Lines for people.
    Text,
    /// One object, with all that is known.
    Json,
    /// A table of the seconds; to a file: with two more beside it, of percentiles and of failures.
    Csv,
    /// A page with plots, in one file.
    Html,
}

/// Where a report is to go, and in which form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OutFile {
    path: PathBuf,
    format: Format,
}

/// Arguments of `ringward-load report`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ReportArguments {
    /// A report in JSON.
    pub(crate) report: PathBuf,
    /// Its new form; if it is not given, as the name of --out says, or text.
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<Format>,
    /// Write to this file and not to standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Why a report is not where it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    #[error("`{}` cannot be written: {reason}", .file.display())]
    Io { file: PathBuf, reason: io::Error },
    #[error("--out {0}")]
    Name(String),
}

impl ReportArguments {
    /// Writes the report to its file, if there is one; what is to be printed otherwise.
    ///
    /// # Errors
    /// Why it cannot be written.
    pub(crate) fn render(&self, report: &Report) -> Result<Option<String>, WriteError> {
        let Some(out) = &self.out else {
            return Ok(Some(report.in_format(self.format.unwrap_or(Format::Text))));
        };
        let file = match self.format {
            Some(format) => OutFile { path: out.clone(), format },
            None => OutFile::new(out).map_err(WriteError::Name)?,
        };
        file.write(report).map(|()| None)
    }
}

/// Writes a report to all these files.
///
/// # Errors
/// The first one that cannot be written. Those before it are there.
pub(crate) fn write_files(report: &Report, files: &[OutFile]) -> Result<(), WriteError> {
    files.iter().try_for_each(|file| file.write(report))
}

impl Report {
    fn in_format(&self, format: Format) -> String {
        match format {
            Format::Text => self.to_text(),
            Format::Json => self.to_json() + "\n",
            Format::Csv => self.to_csv(),
            Format::Html => self.to_html(),
        }
    }
}

impl OutFile {
    fn new(path: &Path) -> Result<OutFile, String> {
        let format = match path.extension().and_then(OsStr::to_str) {
            Some("txt") => Format::Text,
            Some("json") => Format::Json,
            Some("csv") => Format::Csv,
            Some("html") => Format::Html,
            _ => return Err(format!("`{}` ends in none of .json, .csv, .html and .txt", path.display())),
        };
        // Told before a run, and not after it.
        let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
        match directory {
            Some(directory) if !directory.is_dir() => {
                Err(format!("`{}`: there is no directory `{}`", path.display(), directory.display()))
            }
            _ => Ok(OutFile { path: path.to_owned(), format }),
        }
    }

    fn write(&self, report: &Report) -> Result<(), WriteError> {
        write(&self.path, &report.in_format(self.format))?;
        if self.format == Format::Csv {
            write(&self.path.with_extension("percentiles.csv"), &report.to_percentiles_csv())?;
            write(&self.path.with_extension("failures.csv"), &report.to_failures_csv())?;
        }
        Ok(())
    }
}

impl FromStr for OutFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        OutFile::new(Path::new(text))
    }
}

fn write(file: &Path, text: &str) -> Result<(), WriteError> {
    fs::write(file, text).map_err(|reason| WriteError::Io { file: file.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_file_says_its_form() {
        for (name, format) in [
            ("a.json", Format::Json),
            ("/tmp/a.b.csv", Format::Csv),
            ("./x.html", Format::Html),
            ("a.txt", Format::Text),
        ] {
            assert_eq!(name.parse(), Ok(OutFile { path: name.into(), format }), "{name}");
        }
        for (name, wanted) in [
            ("a", "none of"),
            ("a.xml", "none of"),
            (".json", "none of"),
            ("/missing/directory/a.json", "no directory"),
        ] {
            let error = name.parse::<OutFile>().unwrap_err();
            assert!(error.contains(wanted), "{name}: {error}");
        }
    }
}
