use super::*;
use crate::testing::{NOW, at};

const HOUR: u64 = 60 * 60;
const NOW_UNIX: i64 = NOW as i64;

fn ring() -> KeyRing {
    KeyRing::random(at(NOW), Duration::from_secs(4 * HOUR))
}

fn roles(ring: &KeyRing, now: u64) -> Vec<KeyRole> {
    ring.status(at(now)).iter().map(|key| key.role).collect()
}

fn id_in_role(ring: &KeyRing, role: KeyRole, now: u64) -> Option<String> {
    ring.status(at(now)).into_iter().find(|key| key.role == role).map(|key| key.id)
}

/// A ring file with these lines after the first.
fn file(lines: &[String]) -> Vec<u8> {
    format!("{HEADER}\n{}\n", lines.join("\n")).into_bytes()
}

/// A good line for a key that seals now.
fn line(number: u8) -> String {
    key_line(&format!("{number:016x}"), &format!("{number:02x}").repeat(31), "01", -1, 1)
}

fn key_line(id: &str, secret: &str, rest: &str, from_hours: i64, until_hours: i64) -> String {
    let time = |hours: i64| rfc3339(NOW_UNIX + hours * HOUR as i64);
    format!("key {id} {secret}{rest} {} {}", time(from_hours), time(until_hours))
}

fn refused(lines: &[String]) -> KeyRingError {
    KeyRing::parse(&file(lines), at(NOW)).expect_err("must be refused")
}

#[test]
fn a_new_ring_seals_at_once_and_has_a_key_waiting() {
    let ring = ring();
    assert_eq!(roles(&ring, NOW), [KeyRole::Next, KeyRole::Current]);
    assert_eq!(ring.rotation_due_unix(), NOW_UNIX + 4 * HOUR as i64);
    for key in ring.keys() {
        assert_eq!(key.not_after - key.not_before, 8 * HOUR as i64, "seals for one interval, opens for two");
    }
    assert_ne!(ring.keys()[0].secret, ring.keys()[1].secret);
    assert_ne!(ring.keys()[0].id, ring.keys()[1].id);
}

#[test]
fn on_the_clock_each_key_seals_for_one_interval_and_opens_for_another() {
    let mut ring = ring();
    let mut now = NOW;
    for _ in 0..10 {
        let waiting = id_in_role(&ring, KeyRole::Next, now).unwrap();
        let current = id_in_role(&ring, KeyRole::Current, now).unwrap();
        now += 4 * HOUR;
        assert_eq!(ring.rotation_due_unix(), now as i64);
        // What was waiting seals although nobody has rotated yet.
        assert_eq!(id_in_role(&ring, KeyRole::Current, now).as_ref(), Some(&waiting));
        ring = ring.rotated(at(now));
        assert_eq!(id_in_role(&ring, KeyRole::Current, now), Some(waiting));
        assert_eq!(id_in_role(&ring, KeyRole::Previous, now), Some(current.clone()));
        assert_eq!(roles(&ring, now), [KeyRole::Next, KeyRole::Current, KeyRole::Previous]);
        // What the previous one sealed last can be used for one interval.
        assert_eq!(id_in_role(&ring, KeyRole::Previous, now + 4 * HOUR - 1), Some(current));
    }
}

#[test]
fn by_hand_the_waiting_key_takes_over_at_once() {
    let ring = ring();
    let (now, waiting) = (NOW + 60, id_in_role(&ring, KeyRole::Next, NOW).unwrap());
    let rotated = ring.rotated(at(now));
    assert_eq!(id_in_role(&rotated, KeyRole::Current, now), Some(waiting));
    assert_eq!(roles(&rotated, now), [KeyRole::Next, KeyRole::Current, KeyRole::Previous]);
    assert_eq!(roles(&rotated, now + 4 * HOUR), [KeyRole::Current, KeyRole::Previous, KeyRole::Expired]);
    // However often: the ring stays bounded and usable.
    let mut ring = rotated;
    for _ in 0..100 {
        ring = ring.rotated(at(now));
        assert!(roles(&ring, now).contains(&KeyRole::Current));
        assert!(ring.keys().len() <= KEY_RING_KEYS_MAX);
    }
    assert!(KeyRing::parse(ring.serialize().as_bytes(), at(now)).is_ok());
}

#[test]
fn a_ring_that_slept_seals_with_a_fresh_key() {
    for late in [4 * HOUR + 1, 7 * HOUR, 100 * HOUR] {
        let (ring, now) = (ring(), NOW + 4 * HOUR + late);
        let known: Vec<_> = ring.status(at(NOW)).into_iter().map(|key| key.id).collect();
        let rotated = ring.rotated(at(now));
        let current = id_in_role(&rotated, KeyRole::Current, now).unwrap();
        assert!(!known.contains(&current), "{late} s late");
        assert_eq!(rotated.rotation_due_unix(), (now + 4 * HOUR) as i64);
        assert!(!roles(&rotated, now).contains(&KeyRole::Expired));
    }
}

#[test]
fn intervals_are_kept_within_the_life_of_a_ticket() {
    for (wanted, kept) in [(0, 1), (1, 1), (302_400, 302_400), (302_401, 302_400)] {
        let ring = KeyRing::random(at(NOW), Duration::from_secs(wanted));
        assert_eq!(ring.rotate_every(), Duration::from_secs(kept));
        assert!(KeyRing::parse(ring.serialize().as_bytes(), at(NOW)).is_ok());
    }
    assert_eq!(ring().rotating_every(Duration::from_secs(60)).rotate_every(), Duration::from_secs(60));
}

#[test]
fn a_file_tells_all_that_a_ring_is() {
    let ring = ring().rotated(at(NOW + 10)).rotating_every(Duration::from_secs(7200));
    let file = ring.serialize();
    let read = KeyRing::parse(file.as_bytes(), at(NOW + 10)).unwrap();
    assert_eq!(read.status(at(NOW + 10)), ring.status(at(NOW + 10)));
    assert_eq!(read.rotate_every(), Duration::from_secs(7200));
    for (read, written) in read.keys().iter().zip(ring.keys()) {
        assert_eq!(read.secret, written.secret);
    }
    assert_eq!(*read.serialize(), *file);
    assert!(file.capacity() >= file.len() && file.len() < 512 + ring.keys().len() * KEY_LINE_BYTES_MAX);
}

#[test]
fn what_an_operator_writes_is_read() {
    let lines = ["", "  # a comment", &line(2), "\t", &line(3), "rotate-every 3600"].map(str::to_owned);
    let ring = KeyRing::parse(&file(&lines), at(NOW)).unwrap();
    assert_eq!(ring.rotate_every(), Duration::from_secs(3600));
    assert_eq!(ring.keys().len(), 2);
    let crlf = String::from_utf8(file(&[line(2)])).unwrap().replace('\n', "\r\n");
    assert!(KeyRing::parse(crlf.as_bytes(), at(NOW)).is_ok());
    assert_eq!(
        KeyRing::parse(&file(&[line(2)]), at(NOW)).unwrap().rotate_every(),
        ROTATE_EVERY_DEFAULT,
        "without a word about it"
    );
}

#[test]
fn order_is_that_of_time_whatever_that_of_the_file() {
    let (old, new) = (key_line(&"1".repeat(16), &"ab".repeat(31), "01", -3, 1), line(2));
    let newest_first = |lines: [&String; 2]| {
        let ring = KeyRing::parse(&file(&lines.map(String::clone)), at(NOW)).unwrap();
        ring.status(at(NOW)).into_iter().map(|key| (key.id, key.role)).collect::<Vec<_>>()
    };
    assert_eq!(newest_first([&old, &new]), newest_first([&new, &old]));
    assert_eq!(newest_first([&old, &new])[0].1, KeyRole::Current);
    // Keys that begin together are in one order on every node.
    assert_eq!(newest_first([&line(4), &line(5)]), newest_first([&line(5), &line(4)]));
}

#[test]
fn a_key_that_anyone_could_guess_is_refused() {
    for byte in ["00", "ff", "41"] {
        let weak = key_line("0123456789abcdef", &byte.repeat(32), "", -1, 1);
        let error = refused(&[line(2), weak]);
        assert_eq!(error, KeyRingError::WeakSecret { line: 3, id: "0123456789abcdef".to_owned() });
        assert!(error.to_string().contains("0123456789abcdef"), "{error}");
    }
}

#[test]
fn a_short_key_is_refused() {
    for secret in ["", "ab", &"ab".repeat(31), &"ab".repeat(33), &"ab".repeat(31)[1..]] {
        let error = refused(&[key_line("0123456789abcdef", "0", secret, -1, 1)]);
        assert!(matches!(error, KeyRingError::BadLine { line: 2, .. }), "{error}");
        assert!(secret.is_empty() || !error.to_string().contains(secret), "{error}");
    }
    for id in ["0", "0123456789abcde", "0123456789abcdef0", "0123456789abcdeg", "０123456789abcdef"] {
        let error = refused(&[key_line(id, &"ab".repeat(31), "01", -1, 1)]);
        assert!(matches!(error, KeyRingError::BadLine { line: 2, .. }), "{error}");
    }
}

#[test]
fn repetitions_are_refused() {
    let error = refused(&[line(2), line(3), key_line(&format!("{:016x}", 2), &"cd".repeat(31), "01", -1, 1)]);
    let repeated = |what| KeyRingError::Repeated { line: 4, id: format!("{:016x}", 2), what, earlier: 2 };
    assert_eq!(error, repeated("id"));
    let secret = "02".repeat(31);
    let error = refused(&[line(2), line(3), key_line(&format!("{:016x}", 9), &secret, "01", -1, 1)]);
    assert!(matches!(error, KeyRingError::Repeated { line: 4, what: "secret", earlier: 2, .. }), "{error}");
    assert!(!error.to_string().contains(&secret));
}

#[test]
fn a_ring_without_a_key_for_now_is_refused() {
    let (past, future) = (line(2), line(3));
    let at_hours = |line: &str, from, until| {
        let words: Vec<_> = line.split(' ').collect();
        key_line(words[1], words[2], "", from, until)
    };
    let (past, future) = (at_hours(&past, -2, 0), at_hours(&future, 1, 2));
    for lines in [vec![], vec![past.clone()], vec![future.clone()], vec![past, future]] {
        assert_eq!(refused(&lines), KeyRingError::NoCurrentKey { now_unix: NOW_UNIX });
    }
}

#[test]
fn periods_are_bounded() {
    let period = |from, until| {
        KeyRing::parse(&file(&[key_line(&"1".repeat(16), &"ab".repeat(31), "01", from, until)]), at(NOW))
    };
    assert!(period(0, 7 * 24).is_ok());
    assert!(matches!(period(0, 7 * 24 + 1), Err(KeyRingError::BadPeriod { line: 2, .. })));
    assert!(matches!(period(0, 0), Err(KeyRingError::BadPeriod { line: 2, seconds: 0, .. })));
    assert!(matches!(period(1, 0), Err(KeyRingError::BadPeriod { line: 2, seconds: -3600, .. })));
}

#[test]
fn size_and_number_are_bounded() {
    let lines = |count: u8| (2..2 + count).map(line).collect::<Vec<_>>();
    assert!(KeyRing::parse(&file(&lines(16)), at(NOW)).is_ok());
    assert_eq!(refused(&lines(17)), KeyRingError::TooManyKeys { line: 18 });
    let mut file = file(&lines(2));
    file.resize(KEY_RING_BYTES_MAX - 1, b'#');
    file.push(b'\n');
    assert!(KeyRing::parse(&file, at(NOW)).is_ok());
    file.push(b'\n');
    assert!(matches!(KeyRing::parse(&file, at(NOW)), Err(KeyRingError::TooLarge(_))));
}

#[test]
fn other_files_are_told_apart() {
    for content in [&b""[..], b"\n", b"ringward key ring 2\n", b"-----BEGIN PRIVATE KEY-----\n", b"\xff\xfe"]
    {
        assert_eq!(KeyRing::parse(content, at(NOW)).unwrap_err(), KeyRingError::NotARing);
    }
    let bad = [
        "key",
        "keys a b c d",
        "rotate-every",
        "rotate-every 0",
        "rotate-every 4h",
        "rotate-every -1",
        "rotate-every 302401",
        "rotate-every 1\nrotate-every 2",
        "key 0123456789abcdef 00 2027-01-15 2027-01-16",
        &key_line("0123456789abcdef", &"ab".repeat(31), "01", -1, 1).replace('Z', "+00:00"),
        &key_line("0123456789abcdef", &"ab".repeat(31), "01", -1, 1).replace('Z', "-23:59"),
    ];
    for content in bad {
        let error = refused(&[line(2), content.to_owned()]);
        assert!(matches!(error, KeyRingError::BadLine { line: 3 | 4, .. }), "{content}: {error}");
    }
}

#[test]
fn damaged_files_never_panic_and_errors_never_tell_a_secret() {
    let ring = ring().rotated(at(NOW));
    let file = ring.serialize();
    let secrets: Vec<_> = ring.keys().iter().map(|key| hex(&*key.secret)).collect();
    let mut noise = crate::testing::Noise(3);
    for _ in 0..5000 {
        let mut bytes = file.as_bytes().to_vec();
        for _ in 0..=noise.below(3) {
            let position = noise.below(bytes.len());
            match noise.below(3) {
                0 => bytes[position] = noise.next() as u8,
                1 => bytes.truncate(position.max(1)),
                _ => bytes.insert(position, b"\n #k0z"[noise.below(6)]),
            }
        }
        if let Err(error) = KeyRing::parse(&bytes, at(NOW)) {
            assert!(secrets.iter().all(|secret| !error.to_string().contains(&secret[..16])), "{error}");
        }
    }
    let shown = format!("{ring:?} {:?}", ring.status(at(NOW)));
    assert!(secrets.iter().all(|secret| !shown.contains(&secret[..8])));
}
