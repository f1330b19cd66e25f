//! The asking end, for the commands. Blocks, and asks nobody else than the process that it means.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::bind::{directory, is_exposed};
use super::request::{Envelope, Reply, Request};
use super::{ANSWER_BYTES_MAX, ATTACHMENT_BYTES_MAX};

/// A connection to the process that serves.
#[derive(Debug)]
pub(crate) struct Client {
    stream: BufReader<UnixStream>,
    path: PathBuf,
}

/// Why there is no answer, or not the wanted one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Nobody listens.
    #[error(
        "no ringward listens on `{}` ({source}): does it run, and is this the `socket` in [admin] of its configuration?",
        .path.display()
    )]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The socket is closed to us.
    #[error("`{}` may not be used by this user: run this as root or as the user of the process", .0.display())]
    Denied(PathBuf),
    /// It listens there, but is not who it should be: what we say might be meant for someone else, and its answers are
    /// worth nothing.
    #[error("`{}` belongs to a process of user {uid}, which is neither root, nor us, nor the owner of its directory", .path.display())]
    Foreign {
        /// The socket.
        path: PathBuf,
        /// Whose process it is.
        uid: u32,
    },
    /// It does not want to talk.
    #[error(
        "ringward closed the connection without an answer: it serves root and its own user only (its log says whom it refused)"
    )]
    Closed,
    /// No answer within the time that any takes.
    #[error("ringward did not answer in time; its log says what became of the request")]
    TimedOut,
    /// Something else.
    #[error("`{}`: {source}", .path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Not an answer, or not to this question.
    #[error("the answer is not understood: {0}; is the running ringward of this version?")]
    NotUnderstood(String),
    /// The answer is no.
    #[error("{0}")]
    Refused(String),
}

impl Client {
    /// Connects to the process that listens on `path`.
    ///
    /// # Errors
    /// If nobody does, or not somebody to be trusted.
    pub(crate) fn connect(path: &Path) -> Result<Client, ClientError> {
        let stream = UnixStream::connect(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NotRunning { path: path.to_owned(), source }
            }
            io::ErrorKind::PermissionDenied => ClientError::Denied(path.to_owned()),
            _ => ClientError::Io { path: path.to_owned(), source },
        })?;
        let failed = |source| ClientError::Io { path: path.to_owned(), source };
        let peer = rustix::net::sockopt::socket_peercred(&stream).map_err(|error| failed(error.into()))?;
        let uid = peer.uid.as_raw();
        if !is_to_be_trusted(uid, path).map_err(failed)? {
            return Err(ClientError::Foreign { path: path.to_owned(), uid });
        }
        stream.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(failed)?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT)).map_err(failed)?;
        Ok(Client { stream: BufReader::new(stream), path: path.to_owned() })
    }

    /// Waits for so long for each answer, instead of as long as other operations take.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(crate) fn waiting(self, patience: Duration) -> Result<Client, ClientError> {
        let set = self.stream.get_ref().set_read_timeout(Some(patience));
        set.map_err(|source| ClientError::Io { path: self.path.clone(), source })?;
        Ok(self)
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// If there is none, or it is an error.
    pub(crate) fn ask<T: DeserializeOwned>(
        &mut self,
        request: Request,
        attachment: &[u8],
    ) -> Result<T, ClientError> {
        if attachment.len() > ATTACHMENT_BYTES_MAX {
            return Err(ClientError::Refused(format!("the file has more than {ATTACHMENT_BYTES_MAX} bytes")));
        }
        let envelope = Envelope { request, attachment_bytes: attachment.len() };
        let mut line =
            serde_json::to_vec(&envelope).map_err(|error| ClientError::NotUnderstood(error.to_string()))?;
        line.push(b'\n');
        let stream = self.stream.get_mut();
        // One that refuses us may have closed already; then the answer, if there is one, says more than this error.
        let sent = stream.write_all(&line).and_then(|()| stream.write_all(attachment));
        let mut answer = Vec::new();
        let read = (&mut self.stream).take(ANSWER_BYTES_MAX as u64).read_until(b'\n', &mut answer);
        if answer.last() != Some(&b'\n') {
            return Err(match sent.and(read.map(drop)) {
                Err(source)
                    if matches!(source.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
                {
                    ClientError::TimedOut
                }
                Err(source)
                    if !matches!(
                        source.kind(),
                        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                    ) =>
                {
                    ClientError::Io { path: self.path.clone(), source }
                }
                _ => ClientError::Closed,
            });
        }
        match serde_json::from_slice(&answer)
            .map_err(|error| ClientError::NotUnderstood(error.to_string()))?
        {
            Reply::Ok(value) => {
                serde_json::from_value(value).map_err(|error| ClientError::NotUnderstood(error.to_string()))
            }
            Reply::Error(reason) => Err(ClientError::Refused(reason)),
        }
    }
}

/// Whether a process of this user may be the one that is meant: in a directory like /tmp anybody may have put a socket there
/// before it.
fn is_to_be_trusted(uid: u32, path: &Path) -> io::Result<bool> {
    if uid == ROOT || uid == rustix::process::geteuid().as_raw() {
        return Ok(true);
    }
    let directory = fs::metadata(directory(path))?;
    let mode = directory.mode() & 0o7777;
    Ok(directory.uid() == uid && !is_exposed(mode))
}

const ROOT: u32 = 0;
/// Longer than any operation takes, on a slow disk too.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_server_of_somebody_else_is_trusted_in_a_directory_of_his_own_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        let ours = rustix::process::geteuid().as_raw();
        let stranger = ours + 1;
        assert!(is_to_be_trusted(ROOT, &path).unwrap() && is_to_be_trusted(ours, &path).unwrap());
        assert!(!is_to_be_trusted(stranger, &path).unwrap());
        // Only root can give a directory away.
        if ours == ROOT {
            std::os::unix::fs::chown(dir.path(), Some(stranger), None).unwrap();
            assert!(is_to_be_trusted(stranger, &path).unwrap());
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
            assert!(!is_to_be_trusted(stranger, &path).unwrap());
        }
    }
}
