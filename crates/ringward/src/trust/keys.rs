//! Ticket keys: where they come from, and when they are replaced.
//!
//! Either they are this process's own, random, and rotated on a clock, or they are in a ring file that several hosts share,
//! which is watched as every other file and rewritten by whoever is told to: an operator, or the one host that has
//! `rotate = true`. Never shows a secret, and never rewrites a ring that it cannot read whole.

use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringward_config::{FileKind, Keys};
use ringward_tls::{KeyRing, KeyRingError, KeyRole};
use rustls::pki_types::UnixTime;

use super::state::replace_durably;
use super::status::{KeyStatus, KeysStatus};
use super::{RotatedRing, TrustKeeper, TrustVersion};
use crate::load::files::Files;

/// Why a ring cannot be used or replaced.
#[derive(Debug, thiserror::Error)]
#[error("key ring `{}`: {reason}", .path.display())]
pub(crate) struct RingError {
    path: PathBuf,
    reason: String,
}

impl RingError {
    fn new(path: &Path, reason: impl ToString) -> RingError {
        RingError { path: path.to_owned(), reason: reason.to_string() }
    }
}

/// What the time asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Nothing,
    /// The next key, by us.
    Rotation,
    /// The next key, by somebody else: the last one that is known has begun to seal.
    Warning,
}

/// Rotates as asked by an operator, whatever the clock says. Blocks.
///
/// # Errors
/// If the ring file cannot be read or replaced; then nothing has changed.
pub(crate) fn rotate(trust: &TrustKeeper, keys: &Keys, now: UnixTime) -> Result<TrustVersion, RingError> {
    // Until it is in force, too: else of two rotations one could be in the file and the other in use.
    let handed_over = trust.rotating();
    if *handed_over {
        let ring = keys.file.as_ref().map_or(Path::new("of this process"), |file| &file.path);
        return Err(RingError::new(
            ring,
            "an upgrade is under way, and another process takes over; try again in a moment",
        ));
    }
    match &keys.file {
        Some(file) => {
            let ring = Arc::new(rotate_file(&file.path, now)?);
            let rotated = RotatedRing { file: file.path.clone(), ring, at: Instant::now() };
            Ok(trust.update(|state| state.rotated_ring = Some(rotated)))
        }
        None => Ok(trust.update(|state| {
            let ring = (*state.own_ring).clone().rotating_every(keys.rotate_every);
            state.own_ring = Arc::new(ring.rotated(now));
        })),
    }
}

/// Does what the clock asks for, for ever. `warned` is told at most once for each ring.
pub(crate) async fn keep_time(trust: Arc<TrustKeeper>) -> Infallible {
    let mut warned = i64::MIN;
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let Some(loaded) = trust.loaded() else { continue };
        let (_, state) = trust.current();
        let (keys, ring) = (loaded.config.keys.clone(), state.key_ring(&loaded));
        let now = UnixTime::now();
        match due(&keys, &ring, now) {
            Due::Nothing => {}
            Due::Rotation => {
                let (trust, of) = (trust.clone(), keys.clone());
                let rotated = tokio::task::spawn_blocking(move || rotate(&trust, &of, now)).await;
                match rotated {
                    Ok(Ok(_)) => tracing::info!("ticket keys rotated"),
                    Ok(Err(error)) => tracing::error!(%error, "ticket keys cannot be rotated"),
                    Err(error) => tracing::error!(%error, "ticket keys cannot be rotated"),
                }
            }
            Due::Warning if warned == ring.rotation_due_unix() => {}
            Due::Warning => {
                warned = ring.rotation_due_unix();
                let until = ring.status(now).first().map(|key| key.not_after_unix);
                tracing::warn!(
                    until_unix = until,
                    "the key ring has no next key: rotate it with `ringward keys rotate`, or sessions are no longer resumed"
                );
            }
        }
    }
}

fn due(keys: &Keys, ring: &KeyRing, now: UnixTime) -> Due {
    let now_unix = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now_unix < ring.rotation_due_unix() {
        return Due::Nothing;
    }
    if keys.file.is_none() || keys.rotate { Due::Rotation } else { Due::Warning }
}

/// The ring in a file. `content` was read with the care that a secret needs.
///
/// # Errors
/// If it is no sound ring.
pub(crate) fn parse(path: &Path, content: &[u8]) -> Result<KeyRing, RingError> {
    KeyRing::parse(content, UnixTime::now()).map_err(|error| RingError::new(path, error))
}

/// Makes a ring file, which must not be there yet.
///
/// # Errors
/// If it is there, or cannot be written.
pub(crate) fn new_file(path: &Path, rotate_every: Duration) -> Result<KeyRing, RingError> {
    if path.symlink_metadata().is_ok() {
        return Err(RingError::new(
            path,
            "exists already; `ringward keys rotate --file` replaces its keys one by one",
        ));
    }
    let ring = KeyRing::random(UnixTime::now(), rotate_every);
    replace_durably(path, ring.serialize().as_bytes()).map_err(|error| RingError::new(path, error))?;
    Ok(ring)
}

/// Rotates a ring file.
///
/// # Errors
/// If it cannot be read or written; then it is as it was.
pub(crate) fn rotate_file(path: &Path, now: UnixTime) -> Result<KeyRing, RingError> {
    let content = read_file(path)?;
    let ring = KeyRing::parse(&content, now).map_err(|error| match error {
        // Not replaced by itself: if it is the clock that is wrong, every other host would lose the ring.
        KeyRingError::NoCurrentKey { .. } => {
            let help = "if the clock is right, move the file away and make a ring with `ringward keys new`";
            RingError::new(path, format!("{error}; {help}"))
        }
        error => RingError::new(path, error),
    })?;
    let content = ring.rotated(now).serialize();
    // As every other host will read it, so that all agree on which key seals.
    let rotated = KeyRing::parse(content.as_bytes(), now).map_err(|error| RingError::new(path, error))?;
    // Behind a link is the file that others see too.
    let target = fs::canonicalize(path).map_err(|error| RingError::new(path, error))?;
    replace_durably(&target, content.as_bytes()).map_err(|error| RingError::new(path, error))?;
    Ok(rotated)
}

/// Reads a ring file, with the same care as a private key.
///
/// # Errors
/// If it cannot be read, or by others than its owner too.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, RingError> {
    let mut files = Files::default();
    files.read(path, FileKind::KeyRing);
    let failed = |error: crate::load::files::FileError| {
        let help = error.help().map_or_else(String::new, |help| format!("; {help}"));
        RingError::new(path, format!("{error}{help}"))
    };
    let content = files.content(path, FileKind::KeyRing).map_err(failed)?;
    Ok(content.to_vec())
}

/// What may be seen of a ring.
pub(crate) fn status(ring: &KeyRing, file: Option<&Path>, now: UnixTime) -> KeysStatus {
    let keys = ring.status(now).into_iter().map(|key| KeyStatus {
        id: key.id,
        not_before_unix: key.not_before_unix,
        not_after_unix: key.not_after_unix,
        role: role_name(key.role).to_owned(),
    });
    KeysStatus { file: file.map(|file| file.display().to_string()), keys: keys.collect() }
}

fn role_name(role: KeyRole) -> &'static str {
    match role {
        KeyRole::Next => "next",
        KeyRole::Current => "current",
        KeyRole::Previous => "previous",
        KeyRole::Expired => "expired",
    }
}

/// Keys live for hours, and the wall clock may jump.
const TICK: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    fn ids(ring: &KeyRing, role: KeyRole, now: UnixTime) -> Vec<String> {
        ring.status(now).into_iter().filter(|key| key.role == role).map(|key| key.id).collect()
    }

    fn keys(file: Option<&Path>, rotate: bool) -> Keys {
        let file = file.map_or_else(String::new, |file| format!("file = {file:?}\n"));
        let text = format!(
            "[keys]\n{file}rotate_every = \"1h\"\nrotate = {rotate}\n[cluster.c]\nendpoints = [\"127.0.0.1:1\"]\n\
             [[listener]]\nname = \"l\"\nbind = [\"127.0.0.1:0\"]\n[[listener.host]]\nnames = [\"a.example.com\"]\n\
             certificate = {{ chain = \"a.pem\", key = \"a.key\" }}\nclient_auth = {{ mode = \"off\" }}\n\
             danger_no_policy = true\n[[listener.host.route]]\nmatch = {{ path = \"/\" }}\ncluster = \"c\"\n"
        );
        let config = ringward_config::parse(&text, Path::new("/ringward.toml"));
        config.unwrap_or_else(|problems| panic!("{problems}")).keys
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_new_file_is_for_its_owner_only_and_never_replaces_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tickets.ring");
        new_file(&path, HOUR).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let content = read_file(&path).unwrap();
        assert!(parse(&path, &content).is_ok());
        assert!(new_file(&path, HOUR).unwrap_err().to_string().contains("exists already"));
        assert_eq!(read_file(&path).unwrap(), content);
    }

    #[test]
    fn a_rotation_puts_the_next_key_in_use_behind_links_too() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("tickets.ring"), dir.path().join("link"));
        let before = new_file(&path, HOUR).unwrap();
        symlink(&path, &link).unwrap();
        // Keys that begin to seal in the same second have no order.
        let now = at(UnixTime::now().as_secs() + 60);
        let after = rotate_file(&link, now).unwrap();
        assert_eq!(ids(&after, KeyRole::Current, now), ids(&before, KeyRole::Next, now));
        assert_eq!(ids(&after, KeyRole::Previous, now), ids(&before, KeyRole::Current, now));
        assert!(link.is_symlink());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let read = KeyRing::parse(&read_file(&path).unwrap(), now).unwrap();
        assert_eq!(read.status(now), after.status(now));
    }

    #[test]
    fn rotations_at_the_same_time_take_their_turns() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tickets.ring");
        new_file(&path, HOUR).unwrap();
        let (trust, keys, now) = (TrustKeeper::for_test(None), keys(Some(&path), true), UnixTime::now());
        std::thread::scope(|scope| {
            let rotations: Vec<_> =
                (0..8).map(|_| scope.spawn(|| rotate(&trust, &keys, now).map(drop))).collect();
            for rotation in rotations {
                rotation.join().unwrap().unwrap();
            }
        });
        let in_use = trust.current().1.rotated_ring.unwrap().ring;
        let file = KeyRing::parse(&read_file(&path).unwrap(), now).unwrap();
        assert_eq!(in_use.status(now), file.status(now));
    }

    #[test]
    fn a_ring_that_others_may_read_is_no_ring() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tickets.ring");
        new_file(&path, HOUR).unwrap();
        for (mode, accepted) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read_file(&path).is_ok(), accepted, "{mode:o}");
            assert_eq!(rotate_file(&path, UnixTime::now()).is_ok(), accepted, "{mode:o}");
        }
    }

    #[test]
    fn a_ring_that_cannot_be_read_whole_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tickets.ring");
        new_file(&path, HOUR).unwrap();
        let mut text = String::from_utf8(read_file(&path).unwrap()).unwrap();
        text.push_str("key 0000000000000000 ");
        text.push_str(&"00".repeat(32));
        text.push_str(" 2026-01-01T00:00:00Z 2026-01-02T00:00:00Z\n");
        fs::write(&path, &text).unwrap();
        let error = rotate_file(&path, UnixTime::now()).unwrap_err().to_string();
        assert!(error.contains("one byte repeated"), "{error}");
        assert!(
            !error.contains(&"00".repeat(8)[..]) || !error.contains(&"00".repeat(32)),
            "never the secret"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        let late = rotate_file(&path, at(u64::from(u32::MAX))).unwrap_err().to_string();
        assert!(!late.is_empty());
    }

    #[test]
    fn the_clock_rotates_what_is_ours_and_warns_of_what_is_not() {
        let start = 1_000_000;
        let ring = KeyRing::random(at(start), HOUR);
        let (before, then) = (at(start + 3599), at(start + 3600));
        for (keys, expected) in [
            (keys(None, false), Due::Rotation),
            (keys(Some(Path::new("ring")), true), Due::Rotation),
            (keys(Some(Path::new("ring")), false), Due::Warning),
        ] {
            assert_eq!(due(&keys, &ring, before), Due::Nothing);
            assert_eq!(due(&keys, &ring, then), expected);
        }
        assert_eq!(due(&keys(None, false), &ring.rotated(then), then), Due::Nothing, "for another hour");
    }
}
