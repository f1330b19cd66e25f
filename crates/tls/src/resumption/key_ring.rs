//! The secrets that session tickets are sealed with, and which of them is used when.
//!
//! Hides the form of the ring file and the rules of rotation. Several nodes that hold the same ring open each
//! other's tickets. It reads and writes bytes, never files, and never shows a secret except in
//! [`KeyRing::serialize`].
//!
//! A ring holds a key that waits (*next*), one that seals (*current*), and those that only open what they have
//! sealed (*previous*). A key is in the ring one interval before it seals, so every node has it by then, and one
//! interval after, so what it sealed last is still of use.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::rand;
use rustls_pki_types::UnixTime;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use zeroize::Zeroizing;

use crate::certificate::{format_unix, hex, unix_seconds};

/// Most bytes of a ring file.
pub const KEY_RING_BYTES_MAX: usize = 16 * 1024;
/// Most keys of a ring. Three are in use; more lie in it after rotations by hand.
pub const KEY_RING_KEYS_MAX: usize = 16;

/// Keys for session tickets. Immutable: a rotation makes a new ring.
#[derive(Clone)]
pub struct KeyRing {
    /// The one that seals last comes first.
    keys: Vec<RingKey>,
    rotate_every: Duration,
}

/// One key of a ring.
#[derive(Clone)]
pub(crate) struct RingKey {
    /// Tells the keys of a ring apart. Every ticket begins with it; it is no secret.
    pub(crate) id: [u8; 8],
    pub(crate) secret: Zeroizing<[u8; 32]>,
    /// From then on it seals, unless a newer key does; seconds since 1970.
    pub(crate) not_before: i64,
    /// From then on it opens nothing; seconds since 1970.
    pub(crate) not_after: i64,
}

/// What an operator may see of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyStatus {
    /// The key's name in the ring file, 16 hexadecimal digits.
    pub id: String,
    /// What the key is used for.
    pub role: KeyRole,
    /// When it begins to seal, seconds since 1970.
    pub not_before_unix: i64,
    /// When it ceases to open, seconds since 1970.
    pub not_after_unix: i64,
}

/// What a key is used for at a given time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRole {
    /// It will seal, and opens already: the clock of another node may be ahead.
    Next,
    /// It seals and opens.
    Current,
    /// It opens what it has sealed.
    Previous,
    /// It is of no more use.
    Expired,
}

/// Why a ring cannot be used. Numbers of lines count from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyRingError {
    /// The file is something else.
    #[error("not a key ring: the first line must be `{HEADER}`; make one with `ringward keys new`")]
    NotARing,
    /// The file is too large to be one.
    #[error("the key ring has {0} bytes, at most {KEY_RING_BYTES_MAX} are read; is it another file?")]
    TooLarge(usize),
    /// More keys than a ring may have.
    #[error("line {line}: more than {KEY_RING_KEYS_MAX} keys; remove those that have expired")]
    TooManyKeys {
        /// The line of the first one too many.
        line: usize,
    },
    /// A line that cannot be read. Its content may be a secret and is not repeated.
    #[error("line {line}: {expected}")]
    BadLine {
        /// The line.
        line: usize,
        /// What should be there.
        expected: &'static str,
    },
    /// A secret that anybody could guess.
    #[error(
        "line {line}: the secret of key {id} is no random number, but one byte repeated; \
         make a ring with `ringward keys new`"
    )]
    WeakSecret {
        /// The line.
        line: usize,
        /// The key.
        id: String,
    },
    /// Two keys of one name, or two names of one key.
    #[error("line {line}: key {id} repeats the {what} of line {earlier}; remove one of them")]
    Repeated {
        /// The line.
        line: usize,
        /// The key.
        id: String,
        /// `id` or `secret`.
        what: &'static str,
        /// Where it was seen first.
        earlier: usize,
    },
    /// A key that would never be used, or for longer than any ticket may live.
    #[error(
        "line {line}: key {id} is used for {seconds} s; \
         it must be more than none and at most {KEY_LIFE_SECONDS_MAX} (7 days)"
    )]
    BadPeriod {
        /// The line.
        line: usize,
        /// The key.
        id: String,
        /// How long it would be used.
        seconds: i64,
    },
    /// No ticket could be sealed.
    #[error(
        "no key of the ring is in use at {}; set the clock right or rotate with `ringward keys rotate`",
        format_unix(*.now_unix)
    )]
    NoCurrentKey {
        /// The time of the check, seconds since 1970.
        now_unix: i64,
    },
}

impl KeyRing {
    /// A ring that no other process has, with a key that seals from `now` on and one for the time after.
    ///
    /// `rotate_every` is cut to between a second and three and a half days, as a key is used for twice as long
    /// and no ticket may live longer than seven days (RFC 8446 §4.6.1).
    ///
    /// # Panics
    ///
    /// If the system has no random numbers.
    pub fn random(now: UnixTime, rotate_every: Duration) -> Self {
        Self { keys: Vec::new(), rotate_every: bounded(rotate_every) }.rotated(now)
    }

    /// The same keys, to be rotated at another pace from the next rotation on.
    #[must_use]
    pub fn rotating_every(mut self, rotate_every: Duration) -> Self {
        self.rotate_every = bounded(rotate_every);
        self
    }

    /// The ring after a rotation: the waiting key seals from `now` on, a new one waits, those of before open
    /// for one more interval, and expired ones are gone.
    ///
    /// If the waiting key seals already, because its time has come, it merely gets a successor.
    ///
    /// # Panics
    ///
    /// If the system has no random numbers.
    #[must_use]
    pub fn rotated(&self, now: UnixTime) -> Self {
        let (now, interval) = (unix_seconds(now), seconds(self.rotate_every));
        let mut keys: Vec<_> = self.keys.iter().filter(|key| now < key.not_after).cloned().collect();
        let waiting = keys.iter().filter(|key| now < key.not_before).count();
        // The first of those that wait.
        if let Some(promoted) = waiting.checked_sub(1).and_then(|index| keys.get_mut(index)) {
            promoted.not_before = now;
            promoted.not_after = now + 2 * interval;
        } else if keys.first().is_none_or(|key| key.not_before + interval <= now) {
            // Nothing waited, and what seals has done so for its whole interval.
            keys.insert(0, RingKey::random(now, interval));
        }
        let current = waiting.saturating_sub(1);
        for retired in &mut keys[current + 1..] {
            retired.not_after = retired.not_after.min(now + interval);
        }
        if current == 0 {
            keys.insert(0, RingKey::random(keys[0].not_before + interval, interval));
        }
        keys.truncate(KEY_RING_KEYS_MAX);
        Self { keys, rotate_every: self.rotate_every }
    }

    /// When the last waiting key begins to seal, so that the ring needs [`rotated`](Self::rotated); seconds
    /// since 1970.
    pub fn rotation_due_unix(&self) -> i64 {
        self.keys.first().map_or(i64::MIN, |key| key.not_before)
    }

    /// How long each key seals.
    pub fn rotate_every(&self) -> Duration {
        self.rotate_every
    }

    /// What the keys are used for at `now`, the newest first.
    pub fn status(&self, now: UnixTime) -> Vec<KeyStatus> {
        let now = unix_seconds(now);
        let sealing = self.keys.iter().position(|key| key.seals_at(now));
        let role = |index: usize, key: &RingKey| match () {
            () if now >= key.not_after => KeyRole::Expired,
            () if now < key.not_before => KeyRole::Next,
            () if Some(index) == sealing => KeyRole::Current,
            () => KeyRole::Previous,
        };
        let status = |(index, key): (usize, &RingKey)| KeyStatus {
            id: hex(&key.id),
            role: role(index, key),
            not_before_unix: key.not_before,
            not_after_unix: key.not_after,
        };
        self.keys.iter().enumerate().map(status).collect()
    }

    /// Reads a ring file.
    ///
    /// # Errors
    ///
    /// The first [`KeyRingError`] found. A ring is refused as a whole: with one bad key another node might seal
    /// what this one cannot open, or open what anybody can seal.
    pub fn parse(file: &[u8], now: UnixTime) -> Result<Self, KeyRingError> {
        if file.len() > KEY_RING_BYTES_MAX {
            return Err(KeyRingError::TooLarge(file.len()));
        }
        let text = std::str::from_utf8(file).map_err(|_| KeyRingError::NotARing)?;
        let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
        if lines.next().map(|(_, line)| line) != Some(HEADER) {
            return Err(KeyRingError::NotARing);
        }
        let mut keys: Vec<(usize, RingKey)> = Vec::new();
        let mut rotate_every = None;
        for (line, content) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            let words: Vec<_> = content.split_ascii_whitespace().collect();
            match words[..] {
                ["rotate-every", interval] if rotate_every.is_none() => {
                    rotate_every = Some(parse_interval(line, interval)?);
                }
                ["key", id, secret, not_before, not_after] => {
                    let key = parse_key(line, [id, secret, not_before, not_after])?;
                    check_key(line, &key, &keys)?;
                    keys.push((line, key));
                }
                _ => return Err(KeyRingError::BadLine { line, expected: LINE_FORMAT }),
            }
        }
        let mut keys: Vec<_> = keys.into_iter().map(|(_, key)| key).collect();
        // Every node must come to the same order, so a tie is not left to that of the file.
        keys.sort_by_key(|key| std::cmp::Reverse((key.not_before, key.id)));
        let now_unix = unix_seconds(now);
        if !keys.iter().any(|key| key.seals_at(now_unix)) {
            return Err(KeyRingError::NoCurrentKey { now_unix });
        }
        Ok(Self { keys, rotate_every: rotate_every.unwrap_or(ROTATE_EVERY_DEFAULT) })
    }

    /// The content of a ring file: a secret like a private key.
    pub fn serialize(&self) -> Zeroizing<String> {
        // Of its final size at once: a copy that a growing text leaves behind would keep the secrets.
        let mut text = Zeroizing::new(String::with_capacity(512 + self.keys.len() * KEY_LINE_BYTES_MAX));
        text.push_str(HEADER);
        text.push_str("\n# Keep secret: whoever has this file can read and forge session tickets.\n");
        text.push_str(&format!("rotate-every {}\n", seconds(self.rotate_every)));
        text.push_str("# key ID SECRET SEALS-FROM OPENS-UNTIL\n");
        for key in &self.keys {
            let (id, secret) = (hex(&key.id), Zeroizing::new(hex(&*key.secret)));
            let (from, until) = (rfc3339(key.not_before), rfc3339(key.not_after));
            for word in ["key ", &id, " ", &secret, " ", &from, " ", &until, "\n"] {
                text.push_str(word);
            }
        }
        text
    }

    /// The keys, the one that seals last first.
    pub(crate) fn keys(&self) -> &[RingKey] {
        &self.keys
    }
}

impl fmt::Debug for KeyRing {
    // Never a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<_> = self.keys.iter().map(|key| hex(&key.id)).collect();
        f.debug_struct("KeyRing").field("keys", &ids).finish_non_exhaustive()
    }
}

impl RingKey {
    fn random(not_before: i64, interval: i64) -> Self {
        let (mut id, mut secret) = ([0; 8], Zeroizing::new([0; 32]));
        for bytes in [&mut id[..], &mut secret[..]] {
            rand::fill(bytes).expect("the system has random numbers");
        }
        Self { id, secret, not_before, not_after: not_before + 2 * interval }
    }

    fn seals_at(&self, now: i64) -> bool {
        self.not_before <= now && now < self.not_after
    }
}

fn parse_interval(line: usize, text: &str) -> Result<Duration, KeyRingError> {
    let expected = "`rotate-every` takes a number of seconds, 1 to 302400 (half of 7 days)";
    let interval = text.parse().map(Duration::from_secs).ok();
    interval
        .filter(|interval| bounded(*interval) == *interval)
        .ok_or(KeyRingError::BadLine { line, expected })
}

fn parse_key(line: usize, [id, secret, from, until]: [&str; 4]) -> Result<RingKey, KeyRingError> {
    let bad = |expected| KeyRingError::BadLine { line, expected };
    // In UTC alone: what lies beyond the year 9999 there could not be written again.
    let utc = |text: &str| text.strip_suffix('Z').and_then(|_| OffsetDateTime::parse(text, &Rfc3339).ok());
    let time = |text| utc(text).map(OffsetDateTime::unix_timestamp);
    let times = "a key's times are written as 2026-01-31T23:59:59Z";
    let (mut id_bytes, mut secret_bytes) = ([0; 8], Zeroizing::new([0; 32]));
    unhex(id, &mut id_bytes).ok_or_else(|| bad("a key's id has 16 hexadecimal digits"))?;
    unhex(secret, &mut secret_bytes[..]).ok_or_else(|| bad("a key's secret has 64 hexadecimal digits"))?;
    Ok(RingKey {
        id: id_bytes,
        secret: secret_bytes,
        not_before: time(from).ok_or_else(|| bad(times))?,
        not_after: time(until).ok_or_else(|| bad(times))?,
    })
}

fn check_key(line: usize, key: &RingKey, earlier: &[(usize, RingKey)]) -> Result<(), KeyRingError> {
    let id = hex(&key.id);
    // All zero is what a key that was never filled in looks like (CVE-2020-13777); any byte repeated is no
    // better.
    if key.secret.iter().all(|byte| *byte == key.secret[0]) {
        return Err(KeyRingError::WeakSecret { line, id });
    }
    for (earlier, other) in earlier {
        let what = match () {
            () if other.id == key.id => "id",
            () if other.secret == key.secret => "secret",
            () => continue,
        };
        return Err(KeyRingError::Repeated { line, id, what, earlier: *earlier });
    }
    let seconds = key.not_after.saturating_sub(key.not_before);
    if !(1..=KEY_LIFE_SECONDS_MAX).contains(&seconds) {
        return Err(KeyRingError::BadPeriod { line, id, seconds });
    }
    if earlier.len() == KEY_RING_KEYS_MAX {
        return Err(KeyRingError::TooManyKeys { line });
    }
    Ok(())
}

/// Reads exactly as many bytes as `bytes` holds.
fn unhex(text: &str, bytes: &mut [u8]) -> Option<()> {
    if text.len() != bytes.len() * 2 {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
        *byte = digit(digits[0])? << 4 | digit(digits[1])?;
    }
    Some(())
}

fn rfc3339(unix: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(unix).ok().and_then(|time| time.format(&Rfc3339).ok());
    time.expect("the times of a ring were read, or lie within a few days of one that was")
}

fn bounded(interval: Duration) -> Duration {
    let max = Duration::from_secs(KEY_LIFE_SECONDS_MAX.unsigned_abs() / 2);
    Duration::from_secs(interval.as_secs()).clamp(Duration::from_secs(1), max)
}

fn seconds(interval: Duration) -> i64 {
    i64::try_from(interval.as_secs()).unwrap_or(i64::MAX)
}

/// The first line of a ring file.
const HEADER: &str = "ringward key ring 1";
/// What any further line may be.
const LINE_FORMAT: &str =
    "expected `key ID SECRET SEALS-FROM OPENS-UNTIL`, one `rotate-every SECONDS` or a comment";
/// More than a line with a key takes.
const KEY_LINE_BYTES_MAX: usize = 192;
/// RFC 8446 §4.6.1: no ticket may be used for longer.
const KEY_LIFE_SECONDS_MAX: i64 = 7 * 24 * 60 * 60;
/// How often a ring is rotated whose file does not say.
const ROTATE_EVERY_DEFAULT: Duration = Duration::from_secs(4 * 60 * 60);

#[cfg(test)]
mod tests;
