use std::os::unix::fs::symlink;

use super::*;

fn read_one(path: &Path, kind: FileKind) -> Result<Vec<u8>, FileError> {
    let mut files = Files::default();
    files.read(path, kind);
    files.content(path, kind).map(<[u8]>::to_vec)
}

fn names(files: &Files, path: &Path, kind: FileKind) -> Vec<String> {
    let name = |entry: &Entry| entry.path.strip_prefix(path).unwrap().display().to_string();
    files.entries(path, kind).iter().map(name).collect()
}

#[test]
fn a_key_is_for_its_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("api.key");
    fs::write(&key, "key").unwrap();
    for (mode, accepted) in [
        (0o600, true),
        (0o400, true),
        (0o700, true),
        (0o640, false),
        (0o620, false),
        (0o604, false),
        (0o601, false),
        (0o666, false),
    ] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        let result = read_one(&key, FileKind::PrivateKey);
        assert_eq!(result.is_ok(), accepted, "{mode:o}");
        if let Err(error) = result {
            assert!(error.help().unwrap().contains("chmod 0600"), "{error}");
        }
        assert!(read_one(&key, FileKind::CertificateChain).is_ok(), "{mode:o}: a certificate is public");
    }
}

#[test]
fn what_is_no_readable_file_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let missing = read_one(&dir.path().join("no"), FileKind::CertificateChain).unwrap_err();
    assert!(matches!(missing, FileError::Unreadable { missing: true, .. }), "{missing}");
    let directory = read_one(dir.path(), FileKind::CertificateChain).unwrap_err();
    assert!(matches!(directory, FileError::NotAFile(_)), "{directory}");
    let device = read_one(Path::new("/dev/zero"), FileKind::CertificateChain).unwrap_err();
    assert!(matches!(device, FileError::NotAFile(_)), "{device}");
    let nothing = read_one(dir.path(), FileKind::TrustAnchors).unwrap_err();
    assert!(nothing.to_string().contains("*.pem"), "{nothing}");
}

#[test]
fn size_has_a_limit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.pem");
    let file = File::create(&path).unwrap();
    file.set_len(PEM_BYTES_MAX).unwrap();
    assert!(read_one(&path, FileKind::CertificateChain).is_ok(), "at the limit");
    file.set_len(PEM_BYTES_MAX + 1).unwrap();
    let error = read_one(&path, FileKind::CertificateChain).unwrap_err();
    assert!(matches!(error, FileError::TooLarge { .. }), "{error}");
}

#[test]
fn directories_give_the_files_of_their_kind() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    fs::create_dir_all(root.join("sub/..hidden")).unwrap();
    for name in [
        "b.pem",
        "a.crt",
        "c.cer",
        "d.txt",
        ".e.pem",
        "sub/f.pem",
        "p.rego",
        "sub/q.rego",
        "sub/..hidden/r.rego",
    ] {
        fs::write(root.join(name), name).unwrap();
    }
    symlink("d.txt", root.join("link.pem")).unwrap();
    let mut files = Files::default();
    files.read(root, FileKind::TrustAnchors);
    files.read(root, FileKind::Policy);
    assert_eq!(names(&files, root, FileKind::TrustAnchors), ["a.crt", "b.pem", "c.cer", "link.pem"]);
    assert_eq!(names(&files, root, FileKind::Policy), ["p.rego", "sub/q.rego"]);
    assert!(files.visited().any(|path| path == root.join("sub")), "new files there have to be noticed");
}

#[test]
fn links_in_a_circle_end() {
    let dir = tempfile::tempdir().unwrap();
    symlink(".", dir.path().join("again")).unwrap();
    fs::write(dir.path().join("p.rego"), "p").unwrap();
    let mut files = Files::default();
    files.read(dir.path(), FileKind::Policy);
    let entries = files.entries(dir.path(), FileKind::Policy);
    assert!(entries.iter().any(|entry| matches!(entry.content, Err(FileError::TooMany(_)))));
}

#[test]
fn the_digest_follows_content_names_and_errors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.pem");
    let digest = || {
        let mut files = Files::default();
        files.read(dir.path(), FileKind::TrustAnchors);
        files.digest()
    };
    let mut seen = vec![digest()];
    fs::write(&path, "1").unwrap();
    assert_ne!(digest(), seen[0]);
    seen.push(digest());
    assert_eq!(digest(), seen[1], "reading changes nothing");
    fs::write(&path, "2").unwrap();
    seen.push(digest());
    fs::rename(&path, dir.path().join("b.pem")).unwrap();
    seen.push(digest());
    let distinct: BTreeSet<_> = seen.iter().collect();
    assert_eq!(distinct.len(), 4);
}
