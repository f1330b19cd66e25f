//! Text for the person or script that ran a command: results to standard output, complaints to standard error.
//!
//! A reader that went away (`ringward check | head`) is not an error: what it does not want to read is dropped. What
//! the running process has to say goes to the log instead.

use std::fmt::Display;
use std::io::{self, Write};

use serde::Serialize;

use crate::failure::Failure;

/// Writes a line, or several, to standard output.
pub(crate) fn say(text: impl Display) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Writes a line, or several, to standard error.
pub(crate) fn complain(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Writes a result as JSON to standard output.
///
/// # Errors
/// If it cannot be written so.
pub(crate) fn print_json(result: &impl Serialize) -> Result<(), Failure> {
    let json = serde_json::to_string_pretty(result);
    say(json.map_err(|error| Failure::Runtime(format!("the result cannot be written as JSON: {error}")))?);
    Ok(())
}
