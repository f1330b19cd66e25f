//! Writes the files of a partner, and takes them back.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::plan::Plan;
use crate::failure::Failure;
use crate::terminal::complain;

/// Files that were written, with what was there before.
#[derive(Debug)]
pub(super) struct Change {
    before: Vec<(PathBuf, Option<Vec<u8>>)>,
}

impl Change {
    /// Writes the files, each whole or not at all.
    ///
    /// # Errors
    /// If one cannot be written. Those before it were taken back.
    pub(super) fn write(plan: &Plan) -> Result<Change, Failure> {
        let mut change = Change { before: Vec::new() };
        for (path, content) in &plan.files {
            let written = previous(path, plan.replace).and_then(|before| {
                put(path, content, plan.replace)?;
                Ok(before)
            });
            match written {
                Ok(before) => change.before.push((path.clone(), before)),
                Err(error) => {
                    change.take_back();
                    return Err(Failure::Runtime(format!(
                        "`{}` cannot be written: {error}; nothing was changed",
                        path.display()
                    )));
                }
            }
        }
        Ok(change)
    }

    /// It stays.
    pub(super) fn keep(self) {}

    /// As if nothing had been written. What names others goes first.
    pub(super) fn take_back(self) {
        for (path, before) in self.before.into_iter().rev() {
            let undone = match before {
                Some(content) => put(&path, &content, true),
                None => fs::remove_file(&path),
            };
            if let Err(error) = undone {
                complain(format_args!("error: `{}` could not be taken back: {error}", path.display()));
            }
        }
    }
}

fn previous(path: &Path, replace: bool) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(content) if replace => Ok(Some(content)),
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// By way of a file beside it, so that nobody reads half of it. There are no secrets in it, and the service, which is another user, reads it.
fn put(path: &Path, content: &[u8], replace: bool) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".onboard")
        .permissions(fs::Permissions::from_mode(0o644))
        .tempfile_in(directory)?;
    io::Write::write_all(&mut file, content)?;
    // Whatever the umask says.
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    let persisted = if replace { file.persist(path) } else { file.persist_noclobber(path) };
    persisted.map_err(|error| error.error)?;
    fs::File::open(directory)?.sync_all()
}
