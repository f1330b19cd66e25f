//! Taking the path of the admin socket, so that nobody else can have it and nobody else gets in.
//!
//! Never removes what is not a socket, and never the socket of a process that lives.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::sync::Notify;

/// A bound socket. Its path is free again when this is dropped, if it is ours.
#[derive(Debug)]
pub(crate) struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
    /// No other process that serves has it, so what is at the path goes with us.
    is_ours: bool,
    /// Whoever has it may replace what is at the path. Held until the path is free.
    lock: File,
    retirement: Arc<Retirement>,
}

/// That another process has the socket from now on.
#[derive(Debug, Default)]
pub(crate) struct Retirement {
    retired: AtomicBool,
    told: Notify,
}

/// Why the path cannot be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    /// The file system or the kernel says no.
    #[error("admin socket `{}` cannot be opened: {what}: {source}", .path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// Without a directory there is no place for it, and making one with the right owner is not ours.
    #[error(
        "admin socket `{}` cannot be opened: its directory does not exist; make it, or let systemd do so \
         (`RuntimeDirectory=ringward`)", .0.display()
    )]
    NoDirectory(PathBuf),
    /// Whoever may write to the directory may put another socket there, and get what is meant for us.
    #[error(
        "admin socket `{}` cannot be opened: others may write to its directory (mode {mode:04o}): \
         `chmod go-w {}`", .path.display(), .path.parent().unwrap_or(.path).display()
    )]
    ExposedDirectory {
        /// The socket.
        path: PathBuf,
        /// Permissions of the directory.
        mode: u32,
    },
    /// As above, by its owner.
    #[error(
        "admin socket `{}` cannot be opened: its directory belongs to user {owner}, not to user {ours} as whom this process \
         runs, nor to root", .path.display()
    )]
    ForeignDirectory {
        /// The socket.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        ours: u32,
    },
    /// A process that lives.
    #[error("admin socket `{}` is in use by another process: stop it, or give each its own `socket` in [admin]", .0.display())]
    InUse(PathBuf),
    /// Somebody's file.
    #[error("`{}` exists and is not a socket; name another `socket` in [admin], or move it away", .0.display())]
    NotASocket(PathBuf),
    /// Unix sockets have short names.
    #[error("`{}` is too long for the name of a socket (at most {SOCKET_PATH_BYTES_MAX} bytes)", .0.display())]
    TooLong(PathBuf),
}

impl AdminSocket {
    /// Takes `path`. What a process that is gone left there is replaced.
    ///
    /// # Errors
    /// If the directory is not fit, a living process has it, or something else is there.
    pub(crate) fn bind(path: &Path) -> Result<AdminSocket, BindError> {
        if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            return Err(BindError::TooLong(path.to_owned()));
        }
        check_directory(path)?;
        let lock = lock(path)?;
        clear(path)?;
        let listener = listen(path).map_err(|source| failed(path, "bind", source))?;
        let (path, retirement) = (path.to_owned(), Arc::default());
        Ok(AdminSocket { listener, path, is_ours: true, lock, retirement })
    }

    /// Takes a copy of one from a process that has it at `path`. Until [`AdminSocket::own`] it is that one's: if we end before, operators
    /// still reach it there.
    pub(crate) fn adopt(path: &Path, listener: UnixListener, lock: File) -> AdminSocket {
        AdminSocket { listener, path: path.to_owned(), is_ours: false, lock, retirement: Arc::default() }
    }

    /// Whoever had it before has left it to us.
    pub(crate) fn own(&mut self) {
        self.is_ours = true;
    }

    /// Copies of it and of its lock, to be handed over.
    ///
    /// # Errors
    /// If there are no descriptors left.
    pub(crate) fn copies(&self) -> io::Result<(UnixListener, File)> {
        Ok((self.listener.try_clone()?, self.lock.try_clone()?))
    }

    /// By which it is left to another process.
    pub(crate) fn retirement(&self) -> Arc<Retirement> {
        self.retirement.clone()
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// For a runtime to watch.
    ///
    /// # Errors
    /// If there are no descriptors left.
    pub(super) fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }
}

impl Retirement {
    /// Leaves the socket to the process that has a copy: who connects from now on is answered there, and its path stays.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        self.told.notify_one();
    }

    /// Waits until that was said.
    pub(super) async fn wait(&self) {
        while !self.retired.load(Ordering::Acquire) {
            self.told.notified().await;
        }
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        if !self.is_ours || self.retirement.retired.load(Ordering::Acquire) {
            return;
        }
        // The lock is released after this, so what is at the path is still ours. If it stays, the next start removes it.
        let _ = fs::remove_file(&self.path);
    }
}

fn failed(path: &Path, what: &'static str, source: io::Error) -> BindError {
    BindError::Io { path: path.to_owned(), what, source }
}

fn check_directory(path: &Path) -> Result<(), BindError> {
    let metadata = match fs::metadata(directory(path)) {
        Ok(metadata) if metadata.is_dir() => metadata,
        Ok(_) => return Err(BindError::NoDirectory(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(BindError::NoDirectory(path.to_owned()));
        }
        Err(source) => return Err(failed(path, "examine its directory", source)),
    };
    let (owner, ours) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != ours && owner != 0 {
        return Err(BindError::ForeignDirectory { path: path.to_owned(), owner, ours });
    }
    let mode = metadata.mode() & 0o7777;
    if is_exposed(mode) {
        return Err(BindError::ExposedDirectory { path: path.to_owned(), mode });
    }
    Ok(())
}

/// Whether others than the owner may replace entries of a directory with this mode. In one like /tmp each may only replace
/// their own (unlink(2), EPERM).
pub(super) fn is_exposed(mode: u32) -> bool {
    mode & OTHERS_WRITE != 0 && mode & STICKY == 0
}

/// The directory of a socket.
pub(super) fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Of two processes that start at the same time, both may find the socket of a third one that is gone; only one may replace it.
fn lock(path: &Path) -> Result<File, BindError> {
    let mut name = path.as_os_str().to_owned();
    name.push(LOCK_ENDING);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let opened = options.custom_flags(OFlags::NOFOLLOW.bits() as i32).open(PathBuf::from(name));
    let lock = opened.map_err(|source| failed(path, "open its lock", source))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(BindError::InUse(path.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed(path, "lock it", source)),
    }
}

/// Removes the socket of a process that is gone.
fn clear(path: &Path) -> Result<(), BindError> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata.map_err(|source| failed(path, "examine it", source))?,
    };
    if !metadata.file_type().is_socket() {
        return Err(BindError::NotASocket(path.to_owned()));
    }
    // Our lock says that no ringward has it. It may belong to something else that lives.
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        // Also when it cannot be told: its queue may be full, or it is not ours to connect to.
        _ => return Err(BindError::InUse(path.to_owned())),
    }
    fs::remove_file(path).map_err(|source| failed(path, "remove that of a process that is gone", source))
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // On Linux the mode of an unbound socket becomes that of its file, so there is no moment in which others could connect.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // What a kernel does that does otherwise is not left to chance.
    rustix::fs::chmod(path, Mode::RUSR | Mode::WUSR)?;
    socket.set_nonblocking(true)?;
    socket.listen(BACKLOG)?;
    Ok(UnixListener::from(std::os::fd::OwnedFd::from(socket)))
}

/// `sun_path` in unix(7), without its closing NUL.
const SOCKET_PATH_BYTES_MAX: usize = 107;
const OTHERS_WRITE: u32 = 0o022;
const STICKY: u32 = 0o1000;
const LOCK_ENDING: &str = ".lock";
const BACKLOG: i32 = 16;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        (dir, path)
    }

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn it_is_for_its_owner_only_and_goes_with_the_process() {
        let (_dir, path) = place();
        let socket = AdminSocket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        UnixStream::connect(&path).unwrap();
        drop(socket);
        assert!(!path.exists());
        AdminSocket::bind(&path).unwrap();
    }

    #[test]
    fn one_that_is_handed_over_stays_where_it_is_until_it_is_ours() {
        let (_dir, path) = place();
        let first = AdminSocket::bind(&path).unwrap();
        let adopt = || {
            let (listener, lock) = first.copies().unwrap();
            AdminSocket::adopt(&path, listener, lock)
        };
        drop(adopt());
        UnixStream::connect(&path).unwrap();
        let mut second = adopt();
        second.own();
        first.retirement().retire();
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn the_directory_has_to_be_there_and_closed_to_others() {
        let (dir, path) = place();
        for (mode, accepted) in
            [(0o700, true), (0o755, true), (0o1777, true), (0o777, false), (0o775, false), (0o702, false)]
        {
            chmod(dir.path(), mode);
            let bound = AdminSocket::bind(&path);
            assert_eq!(bound.is_ok(), accepted, "{mode:o}");
            if let Err(error) = bound {
                assert!(error.to_string().contains("chmod go-w"), "{error}");
            }
        }
        chmod(dir.path(), 0o700);
        assert!(matches!(
            AdminSocket::bind(&dir.path().join("no/admin.sock")),
            Err(BindError::NoDirectory(_))
        ));
    }

    #[test]
    fn the_directory_is_ours_or_roots() {
        let (dir, path) = place();
        // Only root can give one away.
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(dir.path(), Some(65_534), None).unwrap();
            assert!(matches!(
                AdminSocket::bind(&path),
                Err(BindError::ForeignDirectory { owner: 65_534, .. })
            ));
        }
    }

    #[test]
    fn a_lock_that_leads_elsewhere_is_not_taken() {
        let (dir, path) = place();
        let elsewhere = dir.path().join("elsewhere");
        std::os::unix::fs::symlink(&elsewhere, dir.path().join("admin.sock.lock")).unwrap();
        assert!(matches!(AdminSocket::bind(&path), Err(BindError::Io { what: "open its lock", .. })));
        assert!(!elsewhere.exists());
    }

    #[test]
    fn what_a_dead_process_left_is_replaced() {
        let (_dir, path) = place();
        // A closed listener leaves its file behind, as a killed process does.
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let socket = AdminSocket::bind(&path).unwrap();
        UnixStream::connect(socket.path()).unwrap();
    }

    #[test]
    fn what_lives_is_left_alone() {
        let (_dir, path) = place();
        let other = UnixListener::bind(&path).unwrap();
        assert!(matches!(AdminSocket::bind(&path), Err(BindError::InUse(_))));
        UnixStream::connect(&path).unwrap();
        drop(other);

        let ours = AdminSocket::bind(&path).unwrap();
        assert!(matches!(AdminSocket::bind(&path), Err(BindError::InUse(_))));
        UnixStream::connect(ours.path()).unwrap();
        // Even if its socket does not answer: the lock alone says that its owner lives.
        fs::remove_file(&path).unwrap();
        drop(UnixListener::bind(&path).unwrap());
        assert!(matches!(AdminSocket::bind(&path), Err(BindError::InUse(_))));
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let (_dir, path) = place();
        fs::write(&path, "precious").unwrap();
        assert!(matches!(AdminSocket::bind(&path), Err(BindError::NotASocket(_))));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn the_name_has_a_limit() {
        let (dir, _) = place();
        let room = SOCKET_PATH_BYTES_MAX - dir.path().as_os_str().len() - 1;
        AdminSocket::bind(&dir.path().join("s".repeat(room))).unwrap();
        let error = AdminSocket::bind(&dir.path().join("s".repeat(room + 1))).unwrap_err();
        assert!(matches!(error, BindError::TooLong(_)), "{error}");
    }
}
