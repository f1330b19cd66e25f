//! Where log lines go: a stream or a file that may be rotated under us.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where the log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, appended to and created if need be, readable by owner and group.
    File(PathBuf),
}

/// An open [`LogTarget`].
#[derive(Debug)]
pub struct LogOutput(Sink);

enum Sink {
    Stream(Box<dyn Write + Send>),
    File { path: PathBuf, file: File },
}

impl LogOutput {
    /// Opens the target.
    ///
    /// # Errors
    /// The file cannot be opened for appending, or the standard stream is closed.
    pub fn open(target: &LogTarget) -> Result<LogOutput, LogOpenError> {
        let failed = |target: &str| {
            let target = target.to_owned();
            |source| LogOpenError { target, source }
        };
        // The streams are duplicated to get past the line buffer of the standard library.
        match target {
            LogTarget::Stdout => stream(io::stdout().as_fd()).map_err(failed("standard output")),
            LogTarget::Stderr => stream(io::stderr().as_fd()).map_err(failed("standard error")),
            LogTarget::File(path) => {
                let file = append(path).map_err(failed(&path.display().to_string()))?;
                Ok(LogOutput(Sink::File { path: path.clone(), file }))
            }
        }
    }

    /// Any writer, as to capture the lines.
    pub fn from_writer(writer: Box<dyn Write + Send>) -> LogOutput {
        LogOutput(Sink::Stream(writer))
    }

    /// Writes what the output takes at once.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Sink::Stream(stream) => stream.write(bytes),
            Sink::File { file, .. } => file.write(bytes),
        }
    }

    /// Opens the file anew if its path does not lead to it any more, as after a rotation. Without it, lines would go to
    /// a file that nobody sees, and hold its space.
    ///
    /// # Errors
    /// The new file cannot be opened; the old one is still written to.
    pub(crate) fn follow_rotation(&mut self) -> io::Result<()> {
        if let Sink::File { path, file } = &mut self.0
            && !is_same_file(path, file)?
        {
            *file = append(path)?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Sink::Stream(_) => f.write_str("Stream"),
            Sink::File { path, .. } => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// The log could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the log {target}: {source}; check the directory and its permissions")]
pub struct LogOpenError {
    target: String,
    source: io::Error,
}

fn stream(stream: std::os::fd::BorrowedFd<'_>) -> io::Result<LogOutput> {
    let file = File::from(stream.try_clone_to_owned()?);
    Ok(LogOutput(Sink::Stream(Box::new(file))))
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(path)
}

fn is_same_file(path: &Path, file: &File) -> io::Result<bool> {
    let open = file.metadata()?;
    match path.metadata() {
        Ok(found) => Ok((found.dev(), found.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Access records name people and partners.
const FILE_MODE: u32 = 0o640;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_appended_to_and_not_for_everyone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        for line in ["one\n", "two\n"] {
            LogOutput::open(&LogTarget::File(path.clone())).unwrap().write(line.as_bytes()).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o007, 0);
    }

    #[test]
    fn a_rotated_file_is_left_and_a_new_one_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let rotated = directory.path().join("access.log.1");
        let mut output = LogOutput::open(&LogTarget::File(path.clone())).unwrap();
        output.follow_rotation().unwrap();
        output.write(b"before\n").unwrap();
        fs::rename(&path, &rotated).unwrap();
        output.follow_rotation().unwrap();
        output.write(b"after\n").unwrap();
        assert_eq!(fs::read_to_string(&rotated).unwrap(), "before\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "after\n");
    }

    #[test]
    fn a_target_that_cannot_be_opened_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("missing/access.log");
        let error = LogOutput::open(&LogTarget::File(path.clone())).unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
    }
}
