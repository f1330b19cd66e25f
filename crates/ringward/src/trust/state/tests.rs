use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

/// A directory that is fit to be a state directory.
fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    (dir, path)
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn it_is_made_for_its_owner_only_and_kept() {
    let (_dir, path) = place();
    let state = StateDir::open(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o700);
    state.write("deny", b"one").unwrap();
    assert_eq!(fs::metadata(path.join("deny")).unwrap().mode() & 0o7777, 0o600);
    drop(state);
    let again = StateDir::open(&path).unwrap();
    assert_eq!(again.read("deny", 3).unwrap().unwrap(), b"one");
    assert!(again.read("crl", 3).unwrap().is_none());
    let nowhere = StateDir::open(&path.join("no/such")).unwrap_err();
    assert!(matches!(nowhere, StateError::Io { what: "created", .. }), "{nowhere}");
}

#[test]
fn a_directory_that_others_may_write_to_is_refused() {
    let (_dir, path) = place();
    fs::create_dir(&path).unwrap();
    for (mode, accepted) in [(0o700, true), (0o755, true), (0o775, false), (0o757, false), (0o1777, false)] {
        chmod(&path, mode);
        let opened = StateDir::open(&path);
        assert_eq!(opened.is_ok(), accepted, "{mode:o}");
        if let Err(error) = opened {
            assert!(error.to_string().contains("chmod go-w"), "{error}");
        }
    }
    chmod(&path, 0o700);
    let file = path.join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(StateDir::open(&file), Err(StateError::WrongType { .. })));
}

#[test]
fn a_directory_of_somebody_else_is_refused() {
    let (_dir, path) = place();
    fs::create_dir(&path).unwrap();
    // Only root can give one away.
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
        assert!(matches!(StateDir::open(&path), Err(StateError::Foreign { owner: 65_534, .. })));
    }
}

#[test]
fn a_second_process_is_kept_out() {
    let (_dir, path) = place();
    let first = StateDir::open(&path).unwrap();
    // Locks belong to the opened file, so a second opening in this process stands for another process.
    let error = StateDir::open(&path).unwrap_err();
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    drop(first);
    StateDir::open(&path).unwrap();
}

#[test]
fn what_was_left_of_an_interrupted_write_does_not_matter() {
    let (dir, path) = place();
    let state = StateDir::open(&path).unwrap();
    state.write("deny", b"old").unwrap();
    // Killed before the rename: the old content is there, the next write goes through.
    fs::write(path.join("deny.new"), "ne").unwrap();
    assert_eq!(state.read("deny", 10).unwrap().unwrap(), b"old");
    assert_eq!(state.names("deny").unwrap(), ["deny"]);
    state.write("deny", b"new").unwrap();
    assert_eq!(state.read("deny", 10).unwrap().unwrap(), b"new");
    // A link in its place is not followed.
    let elsewhere = dir.path().join("elsewhere");
    fs::write(&elsewhere, "precious").unwrap();
    symlink(&elsewhere, path.join("deny.new")).unwrap();
    state.write("deny", b"newer").unwrap();
    assert_eq!(fs::read(&elsewhere).unwrap(), b"precious");
    assert_eq!(state.read("deny", 10).unwrap().unwrap(), b"newer");
}

#[test]
fn a_failed_write_keeps_the_old_content() {
    let (_dir, path) = place();
    let state = StateDir::open(&path).unwrap();
    state.write("deny", b"old").unwrap();
    // Neither a file nor removable as one: the write cannot begin.
    fs::create_dir(path.join("deny.new")).unwrap();
    assert!(state.write("deny", b"new").is_err());
    assert_eq!(state.read("deny", 10).unwrap().unwrap(), b"old");
}

#[test]
fn reading_has_a_limit_and_takes_plain_files_only() {
    let (_dir, path) = place();
    let state = StateDir::open(&path).unwrap();
    state.write("deny", b"12345").unwrap();
    assert!(state.read("deny", 5).is_ok(), "at the limit");
    assert!(matches!(state.read("deny", 4), Err(StateError::Damaged { .. })));
    symlink("deny", path.join("link")).unwrap();
    fs::create_dir(path.join("dir")).unwrap();
    assert!(state.read("link", 5).is_err());
    assert!(matches!(state.read("dir", 5), Err(StateError::WrongType { expected: "file", .. })));
}

#[test]
fn damage_is_noticed_wherever_it_is() {
    let (_dir, path) = place();
    let state = StateDir::open(&path).unwrap();
    let content = b"first\nsecond\nthird\n";
    state.write_sealed("deny", content).unwrap();
    assert_eq!(state.read_sealed("deny", content.len() as u64).unwrap().unwrap(), content);
    assert!(state.read_sealed("none", 10).unwrap().is_none());
    let intact = fs::read(path.join("deny")).unwrap();
    let refused = |bytes: &[u8], what: &str| {
        fs::write(path.join("deny"), bytes).unwrap();
        let error = state.read_sealed("deny", 1000).unwrap_err();
        assert!(matches!(error, StateError::Damaged { .. }), "{what}: {error}");
        assert!(error.to_string().contains("not taken for empty"), "{error}");
    };
    // Also when it is cut between two lines, or before the first.
    (0..intact.len()).for_each(|cut| refused(&intact[..cut], &format!("cut at {cut}")));
    for at in 0..intact.len() {
        let mut flipped = intact.clone();
        flipped[at] ^= 1;
        refused(&flipped, &format!("flipped at {at}"));
    }
    refused(&[&intact[..], b"fourth\n"].concat(), "with a line more");
    fs::write(path.join("deny"), &intact).unwrap();
    assert!(state.read_sealed("deny", 1000).is_ok());
}

#[test]
fn an_empty_list_is_not_a_missing_one() {
    let (_dir, path) = place();
    let state = StateDir::open(&path).unwrap();
    state.write_sealed("deny", b"").unwrap();
    assert_eq!(state.read_sealed("deny", 0).unwrap(), Some(Vec::new()));
    state.remove("deny").unwrap();
    state.remove("deny").unwrap();
    assert_eq!(state.read_sealed("deny", 0).unwrap(), None);
}
