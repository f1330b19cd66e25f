//! Whatever the text is, parsing ends, and with a result or with problems.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use ringward_config::{PathPattern, parse};

/// A small generator (xorshift64*), so that a failure can be repeated by its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap_or(0) % bound
    }
}

fn check(text: &str) {
    if let Err(found) = parse(text, Path::new("r.toml")) {
        assert!(found.has_errors(), "refused without an error: {text}");
        for diagnostic in &found {
            assert!(!diagnostic.message.contains('\n'), "{diagnostic}");
            assert!(diagnostic.line as usize <= text.lines().count() + 1, "{diagnostic}");
        }
        assert!(!found.to_string().chars().any(|c| c.is_control() && c != '\n'), "{found:?}");
    }
}

#[test]
fn mutated_files_never_panic() {
    let sample = include_str!("sample.toml");
    let pieces = [
        "\"",
        "'",
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        "=",
        ".",
        "\n",
        "\r\n",
        "#",
        "\0",
        "\u{1b}",
        "\u{feff}",
        "é",
        "💥",
        "0",
        "-1",
        "99999999999999999999",
        "1e999",
        "nan",
        "true",
        "\"\"",
        "[]",
        "{}",
        "1979-05-27",
        "\"\"\"",
        "'''",
        "\\u0000",
        "\\",
        "*",
        "{rest...}",
        "%",
        "server",
        "listener",
        "host",
        "route",
        "crl",
        "trust",
        "tenant",
        "observe",
        "2027-03-01T18:00:00Z",
        "credential:",
        "http://",
        "sha256/",
        "danger_no_policy",
    ];
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..4000 {
        let mut text: Vec<char> = sample.chars().collect();
        for _ in 0..=random.below(6) {
            let at = random.below(text.len());
            let until = (at + random.below(40)).min(text.len());
            match random.below(4) {
                0 => drop(text.drain(at..until)),
                1 => {
                    let copy: Vec<char> = text[at..until].to_vec();
                    let to = random.below(text.len());
                    text.splice(to..to, copy);
                }
                2 => drop(text.splice(at..until, pieces[random.below(pieces.len())].chars())),
                _ => drop(text.splice(at..at, pieces[random.below(pieces.len())].chars())),
            }
            if text.is_empty() {
                text.push('x');
            }
        }
        check(&text.into_iter().collect::<String>());
    }
}

#[test]
fn cut_files_never_panic() {
    let sample = include_str!("sample.toml");
    for (end, _) in sample.char_indices() {
        check(&sample[..end]);
    }
}

#[test]
fn values_of_every_type_in_every_place_never_panic() {
    let sample = include_str!("sample.toml");
    let values =
        ["1", "-1", "1.5", "true", "\"\"", "\"x\"", "[]", "{}", "[1]", "{ a = 1 }", "1979-05-27", "[[[]]]"];
    let lines: Vec<&str> = sample.lines().collect();
    for (index, line) in lines.iter().enumerate() {
        let Some((key, _)) = line.split_once('=') else { continue };
        for value in values {
            let mut changed: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
            changed[index] = format!("{key}= {value}");
            check(&changed.join("\n"));
        }
    }
}

#[test]
fn deep_nesting_and_long_keys_end_in_an_error() {
    for text in [
        format!("a = {}", "[".repeat(100_000)),
        format!("a = {}{}", "[".repeat(100_000), "]".repeat(100_000)),
        format!("a = {}", "{a=".repeat(100_000)),
        format!("{} = 1", vec!["a"; 100_000].join(".")),
        format!("[{}]", vec!["a"; 100_000].join(".")),
        "[".repeat(200_000),
        format!("{} = 1", "k".repeat(1_000_000)),
        format!("server = \"{}\"", "v".repeat(1_000_000)),
    ] {
        let found = parse(&text, Path::new("r.toml")).unwrap_err();
        assert!(found.has_errors());
        // Messages and snippets stay readable even then.
        for diagnostic in found.iter().take(10) {
            assert!(diagnostic.to_string().len() < 2000, "{}", &diagnostic.to_string()[..2000]);
        }
    }
}

/// Every check is linear or close to it: a generated configuration of this size must not take minutes.
#[test]
fn ten_thousand_routes_are_checked_in_reasonable_time() {
    let mut text = include_str!("sample.toml").to_owned();
    for n in 0..10_000 {
        writeln!(
            text,
            "[[listener.host.route]]\nmatch = {{ path = \"/s{n}/{{id}}\" }}\ncluster = \"orders\""
        )
        .unwrap();
    }
    let start = Instant::now();
    let config = parse(&text, Path::new("r.toml")).unwrap_or_else(|found| panic!("{found}"));
    assert_eq!(config.listeners[1].hosts[0].routes.len(), 10_003);
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}

/// A template is written in the normal form of paths, or no request could ever match it.
#[test]
fn templates_are_what_paths_are_normalised_to() {
    let alphabet = [
        "/", "a", ".", "..", ";", "%2F", "%41", "%C3", "%A9", "%c3", "%5C", "%00", "%3B", "%3A", ":", "@",
        "é", "~",
    ];
    let mut random = Random(7);
    let mut accepted = 0;
    for _ in 0..100_000 {
        let path: String = std::iter::once("/")
            .chain((0..random.below(6)).map(|_| alphabet[random.below(alphabet.len())]))
            .collect();
        let mut out = Vec::new();
        let normal =
            ringward_http::path::normalise(path.as_bytes(), &mut out).is_ok_and(|normal| !normal.rewritten);
        let template = PathPattern::parse(&path);
        assert_eq!(template.is_ok(), normal, "{path}: {template:?}");
        if let Ok(template) = template {
            accepted += 1;
            assert!(template.matches(&path).is_some_and(|params| params.is_empty()), "{path}");
        }
    }
    assert!(accepted > 1000, "{accepted}");
}
