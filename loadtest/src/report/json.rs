//! A report as JSON: written so that each second is a line, and read with care, for the file may be anything.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};

use super::{Report, SCHEMA};
use crate::origin::parse_rfc3339;
use crate::series::SAMPLES_MAX;

/// Why a file is no report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("`{}` cannot be read: {reason}", .file.display())]
    Io { file: PathBuf, reason: io::Error },
    #[error("`{}` has more than {REPORT_BYTES_MAX} bytes, which no report has", .0.display())]
    Large(PathBuf),
    #[error("`{}` is no report of `ringward-load run --json`: {reason}", .file.display())]
    Json { file: PathBuf, reason: serde_json::Error },
    #[error("`{}` is no report of `ringward-load run --json`: it has no `schema`", .0.display())]
    NoSchema(PathBuf),
    #[error(
        "`{}` has schema {schema}, and this version reads {SCHEMA}; use the version that wrote it", .file.display()
    )]
    Schema { file: PathBuf, schema: String },
    #[error("`{}` is damaged: {what}", .file.display())]
    Damaged { file: PathBuf, what: String },
}

impl Report {
    /// One JSON object. Members stand below each other, and so do the seconds of the series.
    pub(crate) fn to_json(&self) -> String {
        let mut text = Vec::new();
        let mut serializer = Serializer::with_formatter(&mut text, OuterLevels::default());
        self.serialize(&mut serializer).expect("no map has keys that JSON cannot have");
        String::from_utf8(text).expect("JSON is UTF-8")
    }

    /// Reads what [`Report::to_json`] wrote.
    ///
    /// # Errors
    /// What keeps it from being a report.
    pub(crate) fn read(file: &Path) -> Result<Report, ReadError> {
        let io = |reason| ReadError::Io { file: file.to_owned(), reason };
        let mut bytes = Vec::new();
        File::open(file).map_err(io)?.take(REPORT_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() as u64 > REPORT_BYTES_MAX {
            return Err(ReadError::Large(file.to_owned()));
        }
        Report::parse(file, &bytes)
    }

    pub(super) fn parse(file: &Path, bytes: &[u8]) -> Result<Report, ReadError> {
        let json = |reason| ReadError::Json { file: file.to_owned(), reason };
        let value: serde_json::Value = serde_json::from_slice(bytes).map_err(json)?;
        // First of all, so that another version's report is called that, and not damaged.
        match value.get("schema") {
            None => return Err(ReadError::NoSchema(file.to_owned())),
            Some(schema) if *schema != SCHEMA => {
                return Err(ReadError::Schema { file: file.to_owned(), schema: schema.to_string() });
            }
            Some(_) => {}
        }
        drop(value);
        // From the text once more, so that an error says where.
        let report: Report = serde_json::from_slice(bytes).map_err(json)?;
        match report.damage() {
            Some(what) => Err(ReadError::Damaged { file: file.to_owned(), what }),
            None => Ok(report),
        }
    }

    /// What cannot be in a report of ours.
    fn damage(&self) -> Option<String> {
        let times = self.series.iter().map(|sample| (sample.unix, sample.lasts));
        let target_times = self
            .targets
            .iter()
            .flat_map(|target| target.series.iter().map(|sample| (sample.unix, sample.lasts)));
        if self.processes.is_empty() {
            return Some("no process made it".to_owned());
        }
        if let Some(process) = self.processes.iter().find(|process| parse_rfc3339(&process.started).is_none())
        {
            return Some(format!("`started` is {:?}, which is no time of RFC 3339", process.started));
        }
        if self.series.len() > SAMPLES_MAX * self.processes.len() {
            return Some(format!("{} seconds in the series", self.series.len()));
        }
        let wrong = times.chain(target_times).find(|(unix, lasts)| *unix > UNIX_MAX || *lasts < 0.0);
        wrong.map(|(unix, lasts)| format!("a sample of second {unix} that lasts {lasts} s"))
    }
}

/// Pretty on the outer levels, and compact within.
#[derive(Default)]
struct OuterLevels {
    pretty: PrettyFormatter<'static>,
    compact: CompactFormatter,
    depth: usize,
}

/// Calls a method of the one that is right for the depth.
macro_rules! forward {
    ($self:ident, $name:ident($($argument:expr),*)) => {
        if $self.depth <= PRETTY_LEVELS {
            $self.pretty.$name($($argument),*)
        } else {
            $self.compact.$name($($argument),*)
        }
    };
}

impl Formatter for OuterLevels {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth += 1;
        forward!(self, begin_array(writer))
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        let done = forward!(self, end_array(writer));
        self.depth -= 1;
        done
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        forward!(self, begin_array_value(writer, first))
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        forward!(self, end_array_value(writer))
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth += 1;
        forward!(self, begin_object(writer))
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        let done = forward!(self, end_object(writer));
        self.depth -= 1;
        done
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        forward!(self, begin_object_key(writer, first))
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        forward!(self, begin_object_value(writer))
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        forward!(self, end_object_value(writer))
    }
}

/// The object and what is in it.
const PRETTY_LEVELS: usize = 2;
/// Hundreds of processes for an hour.
const REPORT_BYTES_MAX: u64 = 64 << 20;
/// The end of the year 9999, after which there is no RFC 3339.
const UNIX_MAX: u64 = 253_402_300_799;
