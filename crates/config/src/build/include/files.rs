//! Which files are included, and their texts.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::super::context::Context;
use super::BYTES_MAX;
use super::entries::{Entry, Pattern};
use crate::bounds;

/// Where included files come from.
pub trait IncludedFiles {
    /// The names of the files in a directory. Those that are not text are left out: nobody can name them.
    ///
    /// # Errors
    /// Why it cannot be read, in the words of a message.
    fn names(&mut self, directory: &Path) -> Result<Vec<String>, String>;

    /// The text of a file.
    ///
    /// # Errors
    /// As [`names`](Self::names).
    fn text(&mut self, file: &Path) -> Result<String, String>;
}

/// The file system.
#[derive(Clone, Copy, Debug)]
pub struct Disk;

impl IncludedFiles for Disk {
    fn names(&mut self, directory: &Path) -> Result<Vec<String>, String> {
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        let entries = fs::read_dir(directory).map_err(|error| error.to_string())?;
        let names = entries.filter_map(|entry| match entry {
            Ok(entry) => entry.file_name().into_string().ok().map(Ok),
            Err(error) => Some(Err(error.to_string())),
        });
        names.collect()
    }

    fn text(&mut self, file: &Path) -> Result<String, String> {
        // Asked before opening, since opening a pipe waits for its other end.
        if !fs::metadata(file).map_err(|error| error.to_string())?.is_file() {
            return Err("is not a file".to_owned());
        }
        let mut bytes = Vec::new();
        let opened = File::open(file).map_err(|error| error.to_string())?;
        opened.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        String::from_utf8(bytes).map_err(|error| format!("is not UTF-8 text ({})", error.utf8_error()))
    }
}

/// A file that is included.
pub(super) struct Included<'e> {
    pub(super) path: PathBuf,
    pub(super) text: String,
    pub(super) entry: &'e Entry,
}

/// Finds and reads the files of all entries.
pub(super) fn find<'e>(
    cx: &mut Context<'_>,
    entries: &'e [Entry],
    included: &mut dyn IncludedFiles,
) -> Vec<Included<'e>> {
    let mut found: Vec<Included<'e>> = Vec::new();
    let mut bytes = cx.bytes() as u64;
    for entry in entries {
        for path in paths(cx, entry, included) {
            if found.iter().any(|known| known.path == path) || cx.is_file(&path) {
                cx.error(&entry.span, format!("`{}` is part of the configuration already", path.display()))
                    .help("name each file once");
                continue;
            }
            if found.len() == bounds::INCLUDED_FILES {
                let max = bounds::INCLUDED_FILES;
                cx.error(&entry.span, format!("more than {max} files are included"));
                return found;
            }
            match included.text(&path) {
                Ok(text) => {
                    bytes += text.len() as u64;
                    if bytes > BYTES_MAX {
                        let message =
                            format!("with `{}` the configuration is larger than 16 MiB", path.display());
                        cx.error(&entry.span, message);
                        return found;
                    }
                    found.push(Included { path, text, entry });
                }
                Err(reason) => {
                    cx.error(&entry.span, format!("`{}` cannot be included: {reason}", path.display()));
                }
            }
        }
    }
    found
}

/// The paths that an entry means, in the order of their names.
fn paths(cx: &mut Context<'_>, entry: &Entry, included: &mut dyn IncludedFiles) -> Vec<PathBuf> {
    if let Pattern::One(name) = &entry.name {
        return vec![entry.directory.join(name)];
    }
    match included.names(&entry.directory) {
        Ok(mut names) => {
            // Editors and Kubernetes keep what is not meant under names with a dot.
            names.retain(|name| !name.starts_with('.') && entry.name.matches(name));
            names.sort();
            names.into_iter().map(|name| entry.directory.join(name)).collect()
        }
        Err(reason) => {
            let message = format!("the directory `{}` cannot be read: {reason}", entry.directory.display());
            cx.error(&entry.span, message).help("make it; it may be empty");
            Vec::new()
        }
    }
}
