//! Text for the person or script that ran a command: results to standard output, complaints to standard error.
//!
//! A reader that went away (`ringward check | head`) is not an error: what it does not want to read is dropped. What
//! the running process has to say goes to the log instead.

use std::fmt::Display;
use std::io::{self, Write};

/// Writes a line, or several, to standard output.
pub(crate) fn say(text: impl Display) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Writes a line, or several, to standard error.
pub(crate) fn complain(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
