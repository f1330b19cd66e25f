//! Endpoints from a file.

use ringward_config::{Diagnostic, Diagnostics, Endpoint, EndpointsFile};

use crate::load::files::{self, FileError};

/// Why a file says nothing.
#[derive(Debug)]
pub(super) enum Unread {
    /// It cannot be read.
    Unreachable(FileError),
    /// What it says is refused, all of it.
    Refused(Diagnostics),
}

/// Reads the file whole.
///
/// # Errors
/// If it cannot be read, or anything is wrong with it.
pub(super) fn read(named: &EndpointsFile) -> Result<Vec<Endpoint>, Unread> {
    let bytes = files::read_endpoints(&named.path.path).map_err(Unread::Unreachable)?;
    let text = str::from_utf8(&bytes).map_err(|error| {
        let message = format!("is not UTF-8 text ({error})");
        let help = Some("save it as UTF-8".to_owned());
        Unread::Refused(Diagnostic::whole_file(&named.path.path, message, help).into())
    })?;
    named.parse(text).map_err(Unread::Refused)
}
