//! The configuration file: TOML in, a validated immutable model or diagnostics out.
//!
//! [`load`] reads a file in steps, each in modules of its own: `decode` parses the TOML and fills the [`raw`] types,
//! which mirror the file key by key; `build::include` adds what the files say that it includes; `build` judges all of it and makes
//! the [`model`], which is what runs. Whatever is wrong is
//! reported at once, as [`Diagnostics`] with file, line and column. There is no half-good configuration: one error
//! refuses the file.
//!
//! Also here are the two searches that the checks and the data path must agree on: [`HostTable`] for host names and
//! [`Routes`] for paths.
//!
//! This crate reads the configuration and nothing else: certificates, keys and policies are only named by it. It
//! knows no sockets, no TLS library and no policy engine.
//!
//! # A complete configuration
//! ```toml
#![doc = include_str!("../tests/sample.toml")]
//! ```

#![forbid(unsafe_code)]

mod bounds;
mod build;
mod decode;
mod diagnostic;
mod document;
mod host;
pub mod model;
mod path;
pub mod raw;
mod regex;
mod routes;
mod schema;
mod suggest;
mod system_roots;
mod template;
mod units;
mod url;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

pub use self::build::include::{Disk, IncludedFiles};
pub use self::diagnostic::{Diagnostic, Diagnostics, Location, Severity, Snippet};
pub use self::document::Document;
pub use self::host::{HostName, HostNameError, HostPattern, HostTable};
pub use self::model::*;
pub use self::path::{Params, PathPattern, PathPatternError, Segment};
pub use self::regex::{BoundedRegex, RegexError};
pub use self::routes::condition::{Conditions, RequestFacts, TextCondition};
pub use self::routes::{Lookup, Method, MethodError, Methods, RouteConflict, RouteMatch, Routes};
pub use self::schema::{Entry, json_schema, reference};
pub use self::template::{Template, TemplateValues};
pub use self::url::{HttpUrl, HttpUrlError};
use crate::decode::Manner;
use crate::diagnostic::Source;

/// Reads and checks a configuration file and those that it includes. Paths that are relative begin at the directory of the file
/// in which they stand.
///
/// # Errors
/// Everything that is wrong with it, also that it cannot be read.
pub fn load(path: &Path) -> Result<Config, Diagnostics> {
    let failed = |message: String, help: &str| {
        let help = (!help.is_empty()).then(|| help.to_owned());
        Diagnostics::from(Diagnostic::whole_file(path, message, help))
    };
    let mut bytes = Vec::new();
    let file =
        File::open(path).map_err(|error| failed(format!("cannot be opened: {error}"), open_help(&error)))?;
    file.take(bounds::FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| failed(format!("cannot be read: {error}"), ""))?;
    match std::str::from_utf8(&bytes) {
        Ok(text) => parse(text, path),
        Err(error) => {
            let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let source = Source::new(path, &good);
            let at = source.locate(&(good.len()..good.len()));
            let problem = source.diagnostic(Severity::Error, &at, "not valid UTF-8 from here on".into());
            Err(problem.with_help("TOML files are written in UTF-8").into())
        }
    }
}

/// Checks the text of a configuration file. `file` is what it is called in messages, and where relative paths begin. The files
/// that it includes are read.
///
/// # Errors
/// Everything that is wrong with it. If it is not TOML, only that.
pub fn parse(source: &str, file: &Path) -> Result<Config, Diagnostics> {
    parse_with(source, file, &mut Disk)
}

/// As [`parse`], with the files that it includes taken from elsewhere.
///
/// # Errors
/// As [`parse`].
pub fn parse_with(
    source: &str,
    file: &Path,
    included: &mut dyn IncludedFiles,
) -> Result<Config, Diagnostics> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    parse_at(source, file, included, i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
}

/// As [`parse_with`], at a moment in Unix seconds: what the file allows for a limited time is judged by it.
///
/// # Errors
/// As [`parse`].
pub fn parse_at(
    source: &str,
    file: &Path,
    included: &mut dyn IncludedFiles,
    now_unix: i64,
) -> Result<Config, Diagnostics> {
    if source.len() as u64 > bounds::FILE_BYTES_MAX {
        let help = Some("is this the configuration?".to_owned());
        return Err(Diagnostic::whole_file(file, "is larger than 16 MiB", help).into());
    }
    let mut source = Source::new(file, source);
    let (raw, problems) = decode::decode::<raw::File>(source.text(), Manner::default());
    let mut found = Diagnostics::new();
    source.note(problems, &mut found);
    match raw {
        Some(raw) => {
            let raw = build::include::assemble(raw, &mut source, &mut found, included, now_unix);
            build::build(&raw, Arc::new(source), found, now_unix)
        }
        None => {
            source.sort(&mut found);
            Err(found)
        }
    }
}

/// What a configuration includes, whatever else may be wrong with it. Nothing is read.
///
/// # Errors
/// What is wrong with its `[[include]]`; if it is not TOML, that.
pub fn includes(source: &str, file: &Path) -> Result<Vec<Include>, Diagnostics> {
    let source = Source::new(file, source);
    let mut found = Diagnostics::new();
    match decode::decode::<raw::File>(source.text(), Manner::default()) {
        (Some(raw), _) => build::include::allowed(&raw, &source),
        (None, problems) => {
            source.note(problems, &mut found);
            Err(found)
        }
    }
}

fn open_help(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "name the file with -c",
        io::ErrorKind::PermissionDenied => "let the user that runs ringward read it",
        _ => "",
    }
}

#[cfg(test)]
mod tests;
