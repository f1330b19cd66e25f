//! The file of the keys for session tickets: whatever it is, reading ends, with a ring that can seal or with an error
//! that tells no secret; and what is written of a ring is that ring.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use ringward_tls::{KEY_RING_KEYS_MAX, KeyRing, KeyRole};
use rustls_pki_types::UnixTime;

fuzz_target!(|file: &[u8]| {
    // Always at one moment, so that a finding can be repeated.
    let now = UnixTime::since_unix_epoch(Duration::from_secs(NOW_UNIX));
    let ring = match KeyRing::parse(file, now) {
        Ok(ring) => ring,
        Err(error) => {
            let shown = error.to_string();
            assert!(!shown.chars().any(char::is_control), "fit for a terminal: {shown:?}");
            let words = file.split(|byte| byte.is_ascii_whitespace()).filter(|word| word.len() >= 32);
            assert!(words.into_iter().all(|word| !contains(shown.as_bytes(), word)), "a secret in {shown:?}");
            return;
        }
    };
    let status = ring.status(now);
    assert!(status.len() <= KEY_RING_KEYS_MAX);
    assert_eq!(status.iter().filter(|key| key.role == KeyRole::Current).count(), 1);
    let again = KeyRing::parse(ring.serialize().as_bytes(), now).expect("what was written can be read");
    assert_eq!(again.status(now), status);
    let rotated = ring.rotated(now);
    assert!(KeyRing::parse(rotated.serialize().as_bytes(), now).is_ok(), "a rotation spoils nothing");
});

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

const NOW_UNIX: u64 = 1_800_000_000;
