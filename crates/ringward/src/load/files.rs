//! Reads every file that a configuration names, once, with limits, and remembers a digest of it all.
//!
//! Whoever builds something from files takes the bytes from here and never opens a file again, so what was compared,
//! checked and loaded is the same. A file that cannot be read is remembered with the reason, so that all such problems
//! are reported together with the others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringward_config::{Disk, FileKind, IncludedFiles};
use ringward_tls::KEY_RING_BYTES_MAX;
use sha2::{Digest, Sha256};

use crate::background;
use crate::reload::FileDigests;

/// What a path of the configuration led to.
#[derive(Debug, Default)]
pub(crate) struct Files {
    /// By the path as the configuration has it: one entry for a file, any number for a directory.
    entries: BTreeMap<(PathBuf, FileKind), Vec<Entry>>,
    /// Directories that were listed, and the paths themselves.
    visited: BTreeSet<PathBuf>,
    /// What is taken to be there, whatever is.
    staged: Staged,
}

/// Files that are not written yet, by path.
pub(crate) type Staged = BTreeMap<PathBuf, Vec<u8>>;

/// A file that was read, or not.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its path, as far as the configuration says and the directory goes on.
    pub(crate) path: PathBuf,
    /// Its content.
    pub(crate) content: Result<Content, FileError>,
}

/// What a file holds. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub(crate) bytes: Arc<Vec<u8>>,
    pub(crate) sha256: [u8; 32],
}

/// Why a file is not there for us.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// The file system says no.
    #[error("`{}` cannot be read: {reason}", .path.display())]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// What the kernel said.
        reason: String,
        /// Whether it does not exist, and what is there instead.
        missing: bool,
    },
    /// A directory, device, or pipe where a file is needed.
    #[error("`{}` is not a file", .0.display())]
    NotAFile(PathBuf),
    /// Above the limit of its kind.
    #[error("`{}` has more than {bytes_max} bytes", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        bytes_max: u64,
    },
    /// The directory is not what it is taken for.
    #[error("`{}` holds more than {FILES_MAX} files, or directories more than {DEPTH_MAX} deep", .0.display())]
    TooMany(PathBuf),
    /// A directory without anything to use.
    #[error("`{}` holds no {endings}", .path.display())]
    Nothing {
        /// The directory.
        path: PathBuf,
        /// What was looked for.
        endings: &'static str,
    },
    /// Others than the owner can get at a secret.
    #[error("`{}` is a secret and is accessible to others than its owner (mode {mode:04o})", .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
}

impl FileError {
    /// What to do about it.
    pub(crate) fn help(&self) -> Option<String> {
        match self {
            FileError::Unreadable { missing: true, .. } => {
                Some("paths are relative to the directory of the configuration file".to_owned())
            }
            FileError::Unreadable { path, .. } => {
                Some(format!("`namei -l {}` shows where the permission is missing", path.display()))
            }
            FileError::NotAFile(_) => Some("name a file".to_owned()),
            FileError::TooLarge { .. } => Some("is it the right file?".to_owned()),
            FileError::TooMany(_) => Some("name a directory that holds nothing else".to_owned()),
            FileError::Nothing { .. } => Some("put the files there, or name the right directory".to_owned()),
            FileError::Exposed { path, .. } => Some(format!(
                "take the permissions away: `chmod 0600 {}`, and replace the secret if others may have read it",
                path.display()
            )),
        }
    }

    fn unreadable(path: &Path, error: &io::Error) -> FileError {
        let missing = error.kind() == io::ErrorKind::NotFound;
        FileError::Unreadable { path: path.to_owned(), reason: error.to_string(), missing }
    }
}

impl Files {
    /// Those on disk, and these.
    pub(crate) fn beside(staged: Staged) -> Files {
        Files { staged, ..Files::default() }
    }

    /// Reads what `path` leads to, unless it was read already.
    pub(crate) fn read(&mut self, path: &Path, kind: FileKind) {
        let key = (path.to_owned(), kind);
        if self.entries.contains_key(&key) {
            return;
        }
        self.visited.insert(path.to_owned());
        let rules = Rules::of(kind);
        if let Some(bytes) = self.staged.get(path) {
            let content = Content { bytes: Arc::new(bytes.clone()), sha256: Sha256::digest(bytes).into() };
            self.entries.insert(key, vec![Entry { path: path.to_owned(), content: Ok(content) }]);
            return;
        }
        let entries = match fs::metadata(path) {
            Err(error) => {
                vec![Entry { path: path.to_owned(), content: Err(FileError::unreadable(path, &error)) }]
            }
            Ok(metadata) if metadata.is_dir() && !rules.endings.is_empty() => self.list(path, &rules),
            Ok(_) => vec![Entry { path: path.to_owned(), content: read_file(path, &rules) }],
        };
        self.entries.insert(key, entries);
    }

    /// What [`Files::read`] found.
    pub(crate) fn entries(&self, path: &Path, kind: FileKind) -> &[Entry] {
        self.entries.get(&(path.to_owned(), kind)).map_or(&[], Vec::as_slice)
    }

    /// The content of a path that leads to one file.
    pub(crate) fn content(&self, path: &Path, kind: FileKind) -> Result<&[u8], FileError> {
        match self.entries(path, kind) {
            [entry] => {
                entry.content.as_ref().map(|content| content.bytes.as_slice()).map_err(FileError::clone)
            }
            _ => Err(FileError::NotAFile(path.to_owned())),
        }
    }

    /// SHA-256 over all paths and the digests of all contents, and over what could not be read and why.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        for entry in self.entries.values().flatten() {
            part(entry.path.as_os_str().as_encoded_bytes());
            match &entry.content {
                Ok(content) => {
                    part(b"content");
                    part(&content.sha256);
                }
                Err(error) => {
                    part(b"error");
                    part(error.to_string().as_bytes());
                }
            }
        }
        hash.finalize().into()
    }

    /// SHA-256 over the contents of the files of these kinds, whatever they are called: equal where the files are.
    pub(crate) fn digest_of(&self, kinds: &[FileKind]) -> [u8; 32] {
        let mut hash = Sha256::new();
        for ((_, kind), entries) in &self.entries {
            if kinds.contains(kind) {
                entries
                    .iter()
                    .flat_map(|entry| &entry.content)
                    .for_each(|content| hash.update(content.sha256));
            }
        }
        hash.finalize().into()
    }

    /// The files that could be read, each with the SHA-256 of its content.
    pub(crate) fn digests(&self) -> FileDigests {
        let entries = self.entries.values().flatten();
        entries.filter_map(|entry| Some((entry.path.clone(), entry.content.as_ref().ok()?.sha256))).collect()
    }

    /// Everything whose change may matter.
    pub(crate) fn visited(&self) -> impl Iterator<Item = &Path> {
        let files = self.entries.values().flatten().map(|entry| entry.path.as_path());
        self.visited.iter().map(PathBuf::as_path).chain(files)
    }

    fn list(&mut self, path: &Path, rules: &Rules) -> Vec<Entry> {
        let mut found = Vec::new();
        let result = self.walk(path, rules, 0, &mut found);
        // In the order of names, so that two readings are equal.
        found.sort();
        let mut entries: Vec<Entry> =
            found.into_iter().map(|path| Entry { content: read_file(&path, rules), path }).collect();
        let failed = match result {
            Err(error) => Some(error),
            Ok(()) if entries.is_empty() => {
                Some(FileError::Nothing { path: path.to_owned(), endings: rules.endings_text })
            }
            Ok(()) => None,
        };
        entries.extend(failed.map(|error| Entry { path: path.to_owned(), content: Err(error) }));
        entries
    }

    fn walk(
        &mut self,
        path: &Path,
        rules: &Rules,
        depth: usize,
        found: &mut Vec<PathBuf>,
    ) -> Result<(), FileError> {
        self.visited.insert(path.to_owned());
        for entry in fs::read_dir(path).map_err(|error| FileError::unreadable(path, &error))? {
            let entry = entry.map_err(|error| FileError::unreadable(path, &error))?;
            // Editors and Kubernetes keep what is not meant under names with a dot.
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let below = entry.path();
            let is_dir = fs::metadata(&below).is_ok_and(|metadata| metadata.is_dir());
            if is_dir && rules.recursive {
                if depth == DEPTH_MAX {
                    return Err(FileError::TooMany(below));
                }
                self.walk(&below, rules, depth + 1, found)?;
            } else if !is_dir && rules.takes(&below) {
                found.push(below);
            }
            if found.len() > FILES_MAX {
                return Err(FileError::TooMany(path.to_owned()));
            }
        }
        Ok(())
    }
}

/// Files that a configuration includes are read once, and watched, as all others.
impl IncludedFiles for Files {
    fn names(&mut self, directory: &Path) -> Result<Vec<String>, String> {
        // Also if it is not there: it may come.
        self.visited.insert(directory.to_owned());
        let mut names = Disk.names(directory)?;
        let staged = self.staged.keys().filter(|path| path.parent() == Some(directory));
        names.extend(staged.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())));
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn text(&mut self, file: &Path) -> Result<String, String> {
        self.read(file, FileKind::Configuration);
        let reason = |error| match error {
            FileError::Unreadable { reason, .. } => reason,
            FileError::NotAFile(_) => "is not a file".to_owned(),
            other => other.to_string(),
        };
        let bytes = self.content(file, FileKind::Configuration).map_err(reason)?;
        let text = str::from_utf8(bytes).map_err(|error| format!("is not UTF-8 text ({error})"))?;
        Ok(text.to_owned())
    }
}

/// How files of one kind are read.
struct Rules {
    bytes_max: u64,
    secret: bool,
    /// Of files taken from a directory; none if a directory is not good enough.
    endings: &'static [&'static str],
    endings_text: &'static str,
    recursive: bool,
}

impl Rules {
    fn of(kind: FileKind) -> Rules {
        let file = Rules {
            bytes_max: PEM_BYTES_MAX,
            secret: false,
            endings: &[],
            endings_text: "",
            recursive: false,
        };
        match kind {
            FileKind::Configuration => Rules { bytes_max: CONFIGURATION_BYTES_MAX, ..file },
            FileKind::CertificateChain | FileKind::CrlIssuers => file,
            FileKind::PrivateKey => Rules { secret: true, ..file },
            FileKind::TrustAnchors => {
                Rules { endings: &["pem", "crt", "cer"], endings_text: "*.pem, *.crt or *.cer", ..file }
            }
            FileKind::Crl => Rules {
                bytes_max: CRL_BYTES_MAX,
                endings: &["crl", "pem", "der"],
                endings_text: "*.crl, *.pem or *.der",
                ..file
            },
            FileKind::StapleFile => Rules { bytes_max: STAPLE_BYTES_MAX, ..file },
            FileKind::KeyRing => Rules { bytes_max: KEY_RING_BYTES_MAX as u64, secret: true, ..file },
            FileKind::Passphrase => Rules { bytes_max: PASSPHRASE_BYTES_MAX, secret: true, ..file },
            FileKind::MatcherTable => Rules {
                bytes_max: POLICY_BYTES_MAX,
                endings: &["toml"],
                endings_text: "*.toml",
                recursive: true,
                ..file
            },
            FileKind::CedarPolicy => Rules {
                bytes_max: POLICY_BYTES_MAX,
                endings: &["cedar", "json", "cedarschema", "toml"],
                endings_text: "*.cedar, *.json, *.cedarschema or *.test.toml",
                recursive: true,
                ..file
            },
            FileKind::Policy => Rules {
                bytes_max: POLICY_BYTES_MAX,
                endings: &["rego", "json", "yaml", "yml"],
                endings_text: "*.rego, *.json or *.yaml",
                recursive: true,
                ..file
            },
        }
    }

    fn takes(&self, path: &Path) -> bool {
        path.extension().is_some_and(|ending| self.endings.iter().any(|taken| ending == *taken))
    }
}

/// Reads a file that somebody named on a command line, of at most the size of a revocation list.
///
/// # Errors
/// If it cannot be read, is no file, or is larger.
pub(crate) fn read_named(path: &Path) -> Result<Vec<u8>, FileError> {
    read_file(path, &Rules::of(FileKind::Crl)).map(|content| Arc::unwrap_or_clone(content.bytes))
}

/// Reads a file of endpoints.
///
/// # Errors
/// If it cannot be read, is no file, or is larger than one with all the endpoints that a cluster may have.
pub(crate) fn read_endpoints(path: &Path) -> Result<Vec<u8>, FileError> {
    let rules = Rules { bytes_max: ENDPOINTS_BYTES_MAX, ..Rules::of(FileKind::Configuration) };
    read_file(path, &rules).map(|content| Arc::unwrap_or_clone(content.bytes))
}

fn read_file(path: &Path, rules: &Rules) -> Result<Content, FileError> {
    let unreadable = |error: io::Error| FileError::unreadable(path, &error);
    // Asked before opening too, since opening a pipe waits for its other end.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(FileError::NotAFile(path.to_owned()));
    }
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if rules.secret && is_exposed(path, &metadata) {
        let mode = metadata.permissions().mode() & 0o7777;
        return Err(FileError::Exposed { path: path.to_owned(), mode });
    }
    // The size is a hint only: a file may grow, and those of some file systems have none.
    let mut content = Vec::with_capacity(metadata.len().min(rules.bytes_max) as usize + 1);
    let mut hash = Sha256::new();
    let mut file = file.take(rules.bytes_max + 1);
    loop {
        let read = file.by_ref().take(PIECE_BYTES).read_to_end(&mut content).map_err(unreadable)?;
        if read == 0 {
            break;
        }
        hash.update(&content[content.len() - read..]);
        background::pause();
    }
    if content.len() as u64 > rules.bytes_max {
        return Err(FileError::TooLarge { path: path.to_owned(), bytes_max: rules.bytes_max });
    }
    Ok(Content { bytes: Arc::new(content), sha256: hash.finalize().into() })
}

/// systemd hands credentials over as files of root that an access list opens to the service's user, which shows as a group
/// permission (systemd.exec(5), `LoadCredential=`); its directory is closed to everybody else.
fn is_exposed(path: &Path, metadata: &Metadata) -> bool {
    let mode = metadata.permissions().mode();
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY");
    let is_credential =
        credentials.is_some_and(|directory| path.starts_with(directory)) && metadata.uid() == 0;
    let forbidden = if is_credential { 0o037 } else { 0o077 };
    mode & forbidden != 0
}

/// What is read and hashed at a stretch, about a tenth of a millisecond's work.
const PIECE_BYTES: u64 = 128 << 10;
/// Configurations with thousands of routes stay below.
const CONFIGURATION_BYTES_MAX: u64 = 16 << 20;
/// 1024 endpoints with all that can be said of them and a comment each take a quarter of it.
const ENDPOINTS_BYTES_MAX: u64 = 1 << 20;
/// Thousands of CAs in one file.
const PEM_BYTES_MAX: u64 = 8 << 20;
/// As the largest data document that a policy may have, see `ringward_policy::Limits`.
const POLICY_BYTES_MAX: u64 = 64 << 20;
/// As the largest list that is parsed. What a bundle takes is configured and usually less.
const CRL_BYTES_MAX: u64 = ringward_tls::CRL_BYTES_MAX as u64;
/// A response with the certificate of its signer has a few kilobytes.
const STAPLE_BYTES_MAX: u64 = 64 << 10;
/// Nobody types more.
const PASSPHRASE_BYTES_MAX: u64 = 4 << 10;
/// Files taken from one directory.
const FILES_MAX: usize = 4096;
/// Directories below a policy directory; links that lead in a circle end here.
const DEPTH_MAX: usize = 8;

#[cfg(test)]
mod tests;
