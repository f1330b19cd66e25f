//! The state directory: what a process must remember even if it is killed at any moment.
//!
//! Hides how a file is replaced so that a reader finds the old content or the new one, and how a damaged one is told from
//! an intact one. Never takes a damaged or foreign file for an empty one: what is remembered here are refusals (the deny
//! list, the highest numbers of revocation lists), and forgetting one of them would let somebody in.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use rustix::fs::OFlags;
use sha2::{Digest, Sha256};

use crate::hex;

/// A state directory that belongs to this process until it ends.
#[derive(Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
    /// Open as long as we live: the lock ends with it, also when the process is killed.
    lock: File,
    /// A successor reads what is in here. Held while something is written.
    frozen: RwLock<bool>,
}

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    /// The file system says no.
    #[error("`{}` cannot be {what}: {source}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried: `read`, `written` and the like.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// Something else is in its place.
    #[error("`{}` is not a {expected}; name another `state_dir`, or move it away", .path.display())]
    WrongType {
        /// The path.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
    },
    /// Others could take refusals out.
    #[error(
        "state directory `{}` may be written by others than its owner (mode {mode:04o}): \
         `chmod go-w {}`, and check what is in there", .path.display(), .path.display()
    )]
    Exposed {
        /// The directory.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The owner could take refusals out.
    #[error(
        "state directory `{}` belongs to user {owner}, not to user {ours} as whom this process runs, nor to root: \
         `chown` it, or name another `state_dir`", .path.display()
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        ours: u32,
    },
    /// Two processes with one state would undo each other's changes.
    #[error(
        "state directory `{}` is in use by another process ({holder}): stop it, or give each its own `state_dir`",
        .path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// What the lock file says about the other process.
        holder: String,
    },
    /// It is read by a process that is to take over, or belongs to it already.
    #[error("`{}` is not changed: an upgrade is under way, and another process takes over; try again in a moment", .0.display())]
    HandedOver(PathBuf),
    /// Damaged, or changed by something else.
    #[error(
        "`{}` is damaged: {reason}. It holds refusals, so it is not taken for empty. Restore it from a backup, or move it \
         away knowing that what was in it is forgotten, and enter it again", .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl StateDir {
    /// Takes the directory at `path` for this process. It is made, with mode 0700, if only its parent exists. `handed_over` is the lock
    /// of it, if the process to which it belongs has handed that over.
    ///
    /// # Errors
    /// If it is no directory of ours, others may write to it, or another process has it.
    pub(crate) fn open_with(path: &Path, handed_over: Option<File>) -> Result<StateDir, StateError> {
        match DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => result.map_err(|source| failed(path, "created", source))?,
        }
        check_directory(path)?;
        let lock = match handed_over {
            Some(lock) => lock,
            None => take_lock(path)?,
        };
        Ok(StateDir { path: path.to_owned(), lock, frozen: RwLock::new(false) })
    }

    /// Says in the lock file that this process has it, whoever has handed it over.
    ///
    /// # Errors
    /// What the file system said.
    pub(crate) fn note_holder(&self) -> Result<(), StateError> {
        note_holder(&self.path, &self.lock)
    }

    /// With nobody who hands it over.
    #[cfg(test)]
    pub(crate) fn open(path: &Path) -> Result<StateDir, StateError> {
        StateDir::open_with(path, None)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What keeps other processes out, as long as one copy of it is open.
    pub(crate) fn lock(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }

    /// Refuses all changes from now on. Waits for the one under way.
    pub(crate) fn freeze(&self) {
        *self.frozen.write().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// Takes changes again.
    pub(crate) fn thaw(&self) {
        *self.frozen.write().unwrap_or_else(PoisonError::into_inner) = false;
    }

    /// Path of the file `name`, for messages.
    pub(crate) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Replaces the file `name`. When this returns, the new content survives a crash of the machine; if it fails or is
    /// interrupted at any point, the old content stays. `name` is one component.
    ///
    /// # Errors
    /// What the file system said.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> Result<(), StateError> {
        self.change(name, |path| replace_durably(path, content))
    }

    /// Reads the file `name`, at most `bytes_max` bytes; `None` if there is none.
    ///
    /// # Errors
    /// If it cannot be read, is no plain file, or is larger.
    pub(crate) fn read(&self, name: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, StateError> {
        let path = self.path_of(name);
        let file = match open_plain(&path) {
            Err(StateError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            file => file?,
        };
        let mut content = Vec::new();
        let read = file.take(bytes_max.saturating_add(1)).read_to_end(&mut content);
        read.map_err(|source| failed(&path, "read", source))?;
        if content.len() as u64 > bytes_max {
            return Err(StateError::Damaged { path, reason: format!("it has more than {bytes_max} bytes") });
        }
        Ok(Some(content))
    }

    /// As [`StateDir::write`], with a first line by which [`StateDir::read_sealed`] notices when a part is missing or
    /// was changed. For what cannot tell by itself that its end is missing, such as a list.
    ///
    /// # Errors
    /// What the file system said.
    pub(crate) fn write_sealed(&self, name: &str, content: &[u8]) -> Result<(), StateError> {
        let mut sealed = seal(content).into_bytes();
        sealed.extend_from_slice(content);
        self.write(name, &sealed)
    }

    /// Reads what [`StateDir::write_sealed`] wrote; `None` if there is no such file.
    ///
    /// # Errors
    /// As [`StateDir::read`], and [`StateError::Damaged`] if it is not exactly what was written.
    pub(crate) fn read_sealed(&self, name: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, StateError> {
        let limit = bytes_max.saturating_add(SEAL_BYTES_MAX);
        let Some(mut content) = self.read(name, limit)? else { return Ok(None) };
        let damaged =
            |reason: &str| StateError::Damaged { path: self.path_of(name), reason: reason.to_owned() };
        let end = content
            .iter()
            .position(|byte| *byte == b'\n')
            .ok_or_else(|| damaged("its first line is missing"))?;
        let body = content.split_off(end + 1);
        if !content.starts_with(SEAL_MARK.as_bytes()) {
            return Err(damaged("its first line is not that of a state file"));
        }
        if content != seal(&body).as_bytes() {
            return Err(damaged("a part of it is missing, or something else than ringward has changed it"));
        }
        Ok(Some(body))
    }

    /// Removes the file `name`, if there is one.
    ///
    /// # Errors
    /// What the file system said.
    pub(crate) fn remove(&self, name: &str) -> Result<(), StateError> {
        self.change(name, |path| match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result
                .and_then(|()| sync_directory(&self.path))
                .map_err(|source| failed(path, "removed", source)),
        })
    }

    /// Changes the file `name`, unless it is handed over.
    fn change(
        &self,
        name: &str,
        change: impl FnOnce(&Path) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        let path = self.path_of(name);
        let frozen = self.frozen.read().unwrap_or_else(PoisonError::into_inner);
        if *frozen { Err(StateError::HandedOver(path)) } else { change(&path) }
    }

    /// Names of the files whose name begins with `prefix`, in order.
    ///
    /// # Errors
    /// What the file system said.
    pub(crate) fn names(&self, prefix: &str) -> Result<Vec<String>, StateError> {
        let unreadable = |source| failed(&self.path, "listed", source);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(unreadable)? {
            let name = entry.map_err(unreadable)?.file_name();
            if let Some(name) =
                name.to_str().filter(|name| name.starts_with(prefix) && !name.ends_with(TEMPORARY))
            {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }
}

/// Replaces a file in its directory, readable by its owner only, who stays the same: what is at `path` is the old content or
/// the new one at every moment, and the new one for good when this returns.
///
/// # Errors
/// What the file system said.
pub(crate) fn replace_durably(path: &Path, content: &[u8]) -> Result<(), StateError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(TEMPORARY);
    let temporary = PathBuf::from(temporary);
    // What a process left behind that was killed. It must not be written through: it may be a link.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed(&temporary, "removed", error));
        }
        _ => {}
    }
    let owner = match fs::symlink_metadata(path) {
        Ok(metadata) => Some((metadata.uid(), metadata.gid())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(failed(path, "examined", source)),
    };
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&temporary)?;
        // Root may rotate the keys of a process that runs as somebody else, who has to read them afterwards.
        if let Some((uid, gid)) = owner.filter(|(uid, _)| *uid != rustix::process::geteuid().as_raw()) {
            std::os::unix::fs::fchown(&file, Some(uid), Some(gid))?;
        }
        file.write_all(content)?;
        // Before the rename: else the new name may point to a file without content after a crash.
        file.sync_all()
    };
    write().map_err(|source| {
        // A full disk is no reason to keep it full.
        let _ = fs::remove_file(&temporary);
        failed(&temporary, "written", source)
    })?;
    fs::rename(&temporary, path).map_err(|source| failed(path, "replaced", source))?;
    // The rename itself has to reach the disk too.
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    sync_directory(directory).map_err(|source| failed(directory, "synchronised", source))
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn failed(path: &Path, what: &'static str, source: io::Error) -> StateError {
    StateError::Io { path: path.to_owned(), what, source }
}

fn check_directory(path: &Path) -> Result<(), StateError> {
    let metadata = fs::metadata(path).map_err(|source| failed(path, "examined", source))?;
    if !metadata.is_dir() {
        return Err(StateError::WrongType { path: path.to_owned(), expected: "directory" });
    }
    let (owner, ours) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != ours && owner != 0 {
        return Err(StateError::Foreign { path: path.to_owned(), owner, ours });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & OTHERS_WRITE != 0 {
        return Err(StateError::Exposed { path: path.to_owned(), mode });
    }
    Ok(())
}

fn take_lock(directory: &Path) -> Result<File, StateError> {
    let path = directory.join(LOCK);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
    let opened = options.custom_flags(OFlags::NOFOLLOW.bits() as i32).open(&path);
    let lock = opened.map_err(|source| failed(&path, "opened", source))?;
    match lock.try_lock() {
        Ok(()) => note_holder(directory, &lock).map(|()| lock),
        Err(TryLockError::Error(source)) => Err(failed(&path, "locked", source)),
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Only for the message.
            let _ = (&lock).take(HOLDER_BYTES_MAX).read_to_string(&mut holder);
            let holder =
                if holder.is_empty() { "of unknown number".to_owned() } else { holder.trim().to_owned() };
            Err(StateError::InUse { path: directory.to_owned(), holder })
        }
    }
}

/// Says in the lock file who has it, for the messages of others.
fn note_holder(directory: &Path, mut lock: &File) -> Result<(), StateError> {
    let note = format!("process {}\n", std::process::id());
    let noted = lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| lock.write_all(note.as_bytes()));
    noted.map_err(|source| failed(&directory.join(LOCK), "written", source))
}

/// Opens a plain file, and nothing that a link leads to.
fn open_plain(path: &Path) -> Result<File, StateError> {
    let mut options = OpenOptions::new();
    // Without waiting for the other end, should it be a pipe.
    options.read(true).custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32);
    let file = options.open(path).map_err(|source| failed(path, "read", source))?;
    let metadata = file.metadata().map_err(|source| failed(path, "read", source))?;
    if !metadata.is_file() {
        return Err(StateError::WrongType { path: path.to_owned(), expected: "file" });
    }
    Ok(file)
}

/// The first line of a sealed file.
fn seal(content: &[u8]) -> String {
    format!("{SEAL_MARK}{} {}\n", content.len(), hex::encode(&Sha256::digest(content)))
}

const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
const OTHERS_WRITE: u32 = 0o022;
const LOCK: &str = "lock";
/// Ending of files that are being written.
const TEMPORARY: &str = ".new";
const HOLDER_BYTES_MAX: u64 = 64;
/// With a version: a later layout can be told from damage.
const SEAL_MARK: &str = "# ringward state 1 ";
const SEAL_BYTES_MAX: u64 = 128;

#[cfg(test)]
mod tests;
