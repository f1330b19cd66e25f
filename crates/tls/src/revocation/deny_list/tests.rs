use ringward_testkit::{Authority, AuthorityOptions, Issued, Leaf};

use super::*;
use crate::revocation::testing::{Client, HOUR, issuer, mutate, now, serial};
use crate::testing::Noise;

fn entry(target: DenyTarget) -> DenyEntry {
    DenyEntry {
        target,
        reason: "key found in a public repository".to_owned(),
        added_unix: 1_700_000_000,
        by: "uid 0".to_owned(),
        expires_unix: None,
    }
}

fn list(targets: impl IntoIterator<Item = DenyTarget>) -> DenyList {
    let mut list = DenyList::new();
    for target in targets {
        assert_eq!(list.add(entry(target)), Ok(None));
    }
    list
}

fn identity(name: &str) -> DenyTarget {
    DenyTarget::Identity(name.into())
}

fn refuses(list: &DenyList, client: &Client) -> bool {
    list.find(&client.path, &client.peer, now()).is_some()
}

/// A root, two intermediates, and a client below both.
struct Hierarchy {
    root: Authority,
    upper: Authority,
    lower: Authority,
    issued: Issued,
}

impl Hierarchy {
    fn new(leaf: &Leaf) -> Self {
        let root = Authority::root("Root");
        let upper = root.intermediate("Upper");
        let lower = upper.intermediate("Lower");
        let issued = lower.issue(leaf);
        Self { root, upper, lower, issued }
    }

    fn client(&self) -> Client {
        Client::new(&self.issued, &self.root)
    }
}

#[test]
fn certificates_keys_and_authorities_are_refused_wherever_they_are_in_the_path() {
    let it = Hierarchy::new(&Leaf::client("a"));
    let client = it.client();
    let id = |authority: &Authority| issuer(authority).id();
    let number = |issuer, octets: &[u8]| DenyTarget::Serial { issuer, serial: serial(octets) };
    for target in [
        number(id(&it.lower), it.issued.serial()),
        number(id(&it.upper), it.lower.serial()),
        number(id(&it.root), it.upper.serial()),
        DenyTarget::Fingerprint(it.issued.fingerprint_sha256()),
        DenyTarget::Fingerprint(it.lower.fingerprint_sha256()),
        DenyTarget::Fingerprint(it.upper.fingerprint_sha256()),
        DenyTarget::Fingerprint(it.root.fingerprint_sha256()),
        DenyTarget::Spki(it.issued.spki_sha256()),
        DenyTarget::Spki(it.lower.spki_sha256()),
        DenyTarget::Spki(it.upper.spki_sha256()),
        DenyTarget::Spki(it.root.spki_sha256()),
        DenyTarget::Ca(id(&it.lower)),
        DenyTarget::Ca(id(&it.upper)),
        DenyTarget::Ca(id(&it.root)),
    ] {
        assert!(refuses(&list([target.clone()]), &client), "{target}");
        // Beside others of all kinds, and not after it is taken out.
        let mut many =
            list([number(id(&it.root), &[1]), DenyTarget::Spki([1; 32]), DenyTarget::Fingerprint([1; 32])]);
        for other in [DenyTarget::Ca(IssuerId([1; 32])), identity("nobody")] {
            many.add(entry(other)).unwrap();
        }
        assert!(!refuses(&many, &client));
        many.add(entry(target.clone())).unwrap();
        assert_eq!(many.find(&client.path, &client.peer, now()).unwrap().target, target);
        assert_eq!(many.remove(&target), Some(entry(target.clone())));
        assert!(!refuses(&many, &client), "{target}");
        assert_eq!(many.remove(&target), None);
    }
    // Nearly the same.
    for target in [
        number(id(&it.upper), it.issued.serial()),
        number(id(&it.lower), it.lower.serial()),
        DenyTarget::Fingerprint(it.issued.spki_sha256()),
        DenyTarget::Spki(it.issued.fingerprint_sha256()),
        DenyTarget::Ca(id(&Authority::root("Root"))),
        DenyTarget::Ca(IssuerId(it.lower.fingerprint_sha256())),
    ] {
        assert!(!refuses(&list([target.clone()]), &client), "{target}");
    }
}

#[test]
fn refused_authority_stays_refused_when_it_is_renewed() {
    let root = Authority::root("Root");
    let renewed = Authority::root_with(&AuthorityOptions::named("Root").same_key_as(&root));
    let denied = list([DenyTarget::Ca(issuer(&root).id())]);
    let issued = renewed.issue(&Leaf::client("a"));
    assert!(refuses(&denied, &Client::new(&issued, &renewed)));
    // A key that was reused is the same key.
    let again = renewed.issue(&Leaf::client("b").same_key_as(&issued));
    assert!(refuses(&list([DenyTarget::Spki(issued.spki_sha256())]), &Client::new(&again, &renewed)));
}

#[test]
fn identities_are_refused_exactly() {
    let leaf = Leaf::client("partner-a")
        .dns("api.Example.com")
        .dns("other.example.com")
        .uri("https://example.com/A")
        .email("Admin@example.com")
        .ip("192.0.2.7".parse().unwrap())
        .ip("2001:db8::ff".parse().unwrap());
    let client = Hierarchy::new(&leaf).client().of_tenant("acme");
    assert_eq!(client.peer.identity(), "somebody");
    for name in [
        "https://example.com/A",
        "api.example.com",
        "API.example.com",
        "other.example.com",
        "Admin@example.com",
        "192.0.2.7",
        "2001:db8::ff",
        "2001:DB8:0::00ff",
        "somebody",
    ] {
        assert!(refuses(&list([identity(name)]), &client), "{name}");
    }
    for name in [
        "https://example.com/a",
        "https://example.com/A/",
        "https://example.com",
        "example.com",
        "*.example.com",
        "api.example.com.",
        " api.example.com",
        "admin@example.com",
        "Admin@Example.com",
        "partner-a",
        "192.0.2.70",
        "2001:db8::f",
        "Somebody",
        "acme",
    ] {
        assert!(!refuses(&list([identity(name)]), &client), "{name}");
    }
    let spiffe = Hierarchy::new(&Leaf::client("a").spiffe("spiffe://example.org/a")).client();
    assert!(refuses(&list([identity("spiffe://example.org/a")]), &spiffe));
    assert!(!refuses(&list([identity("spiffe://example.org")]), &spiffe));
    // Of several names of a kind each counts, and not only the one that it is called by.
    let both = Leaf::client("a").uri("https://example.com/1").uri("https://example.com/2");
    let both = Hierarchy::new(&both).client();
    assert_eq!(both.peer.name(), "https://example.com/1");
    assert!(refuses(&list([identity("https://example.com/2")]), &both));
    // Without other names it is called by its subject, also where its tenant calls it otherwise.
    let member = Hierarchy::new(&Leaf::client("member")).client().of_tenant("acme");
    assert_eq!((member.peer.name(), member.peer.identity()), ("CN=member", "somebody"));
    assert!(refuses(&list([identity("CN=member")]), &member));
    let plain = Hierarchy::new(&Leaf::client("plain").organization("O")).client();
    assert!(refuses(&list([identity(plain.peer.name())]), &plain));
}

#[test]
fn spellings_of_one_dns_name_are_entries_of_their_own() {
    let client = Hierarchy::new(&Leaf::client("a").dns("api.example.com")).client();
    let mut denied = list([identity("API.example.com"), identity("Api.example.com")]);
    assert!(refuses(&denied, &client));
    denied.remove(&identity("Api.example.com")).unwrap();
    assert!(refuses(&denied, &client), "the other spelling stands");
    assert!(denied.remove(&identity("api.example.com")).is_none());
    denied.remove(&identity("API.example.com")).unwrap();
    assert!(!refuses(&denied, &client) && denied.is_empty() && denied == DenyList::new());
    // An address has one spelling.
    let mut denied = list([identity("2001:db8:0:0::1")]);
    assert!(denied.get(&identity("2001:DB8::1")).is_some());
    assert!(denied.add(entry(identity("2001:db8::0001"))).unwrap().is_some(), "replaced");
    assert_eq!(denied.len(), 1);
}

#[test]
fn a_spelling_that_has_expired_hides_no_other() {
    let client = Hierarchy::new(&Leaf::client("a").dns("a.example.com")).client();
    let mut denied = list([identity("A.example.com")]);
    let short = DenyEntry { expires_unix: Some(now() + HOUR), ..entry(identity("a.Example.com")) };
    denied.add(short).unwrap();
    assert!(denied.find(&client.path, &client.peer, now() + 2 * HOUR).is_some());
}

#[test]
fn entry_ends_with_the_second_of_its_expiry() {
    let client = Hierarchy::new(&Leaf::client("a").dns("a.example.com")).client();
    let until = now() + HOUR;
    let expiring = |target| DenyEntry { expires_unix: Some(until), ..entry(target) };
    for target in [
        identity("a.example.com"),
        identity("A.example.com"),
        DenyTarget::Fingerprint(client.path.certificates[0].fingerprint_sha256),
        DenyTarget::Spki(client.path.anchor.spki_sha256),
        DenyTarget::Ca(client.path.anchor.issuer),
        DenyTarget::Serial {
            issuer: client.path.certificates[0].issuer,
            serial: client.path.certificates[0].serial,
        },
    ] {
        let mut denied = DenyList::new();
        denied.add(expiring(target.clone())).unwrap();
        let refuses = |denied: &DenyList, at| denied.find(&client.path, &client.peer, at).is_some();
        assert!(refuses(&denied, until - 1), "{target}");
        assert!(!refuses(&denied, until), "{target}");
        assert_eq!((denied.remove_expired(until - 1), denied.len()), (0, 1));
        assert_eq!((denied.remove_expired(until), denied.len()), (1, 0));
    }
    // An expired entry hides no other.
    let mut denied = DenyList::new();
    denied.add(expiring(identity("a.example.com"))).unwrap();
    denied.add(entry(DenyTarget::Ca(client.path.anchor.issuer))).unwrap();
    assert!(denied.find(&client.path, &client.peer, until).is_some());
    let backwards = DenyEntry { expires_unix: Some(1_700_000_000), ..entry(identity("a")) };
    assert!(matches!(denied.add(backwards), Err(DenyListError::Expiry { .. })));
}

#[test]
fn texts_are_bounded_and_printable() {
    let with = |edit: &dyn Fn(&mut DenyEntry)| {
        let mut entry = entry(identity("a"));
        edit(&mut entry);
        DenyList::new().add(entry).map(|_| ())
    };
    let text = |length: usize| "x".repeat(length);
    let wrong = |field, max| Err(DenyListError::Text { field, max });
    assert_eq!(with(&|entry| entry.reason = text(REASON_BYTES_MAX)), Ok(()));
    assert_eq!(with(&|entry| entry.reason = text(REASON_BYTES_MAX + 1)), wrong("reason", REASON_BYTES_MAX));
    assert_eq!(with(&|entry| entry.reason.clear()), wrong("reason", REASON_BYTES_MAX));
    assert_eq!(with(&|entry| entry.reason = "a\nb".into()), wrong("reason", REASON_BYTES_MAX));
    assert_eq!(with(&|entry| entry.by = text(BY_BYTES_MAX)), Ok(()));
    assert_eq!(with(&|entry| entry.by = text(BY_BYTES_MAX + 1)), wrong("author", BY_BYTES_MAX));
    assert_eq!(with(&|entry| entry.target = identity(&text(IDENTITY_BYTES_MAX))), Ok(()));
    let long = with(&|entry| entry.target = identity(&text(IDENTITY_BYTES_MAX + 1)));
    assert_eq!(long, wrong("identity", IDENTITY_BYTES_MAX));
    assert_eq!(with(&|entry| entry.target = identity("")), wrong("identity", IDENTITY_BYTES_MAX));
    assert_eq!(with(&|entry| entry.target = identity("a\0b")), wrong("identity", IDENTITY_BYTES_MAX));
}

#[test]
fn list_is_bounded() {
    let target = |number: usize| {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&number.to_be_bytes());
        DenyTarget::Spki(hash)
    };
    let mut full = list((0..DENY_ENTRIES_MAX).map(target));
    assert_eq!(full.add(entry(target(DENY_ENTRIES_MAX))), Err(DenyListError::Full));
    assert!(full.add(entry(target(0))).unwrap().is_some(), "replacing one is no more");
    let text = full.serialize();
    assert_eq!(DenyList::parse(text.as_bytes()).unwrap(), full);
    let beyond = format!("{text}{}", entry(target(DENY_ENTRIES_MAX)).to_line());
    assert!(
        matches!(DenyList::parse(beyond.as_bytes()), Err(DenyListError::Line { line, .. }) if line == DENY_ENTRIES_MAX + 2)
    );
}

fn one_of_each() -> DenyList {
    let mut all = list([
        DenyTarget::Serial { issuer: IssuerId([0xab; 32]), serial: serial(&[0x0a, 0x1b]) },
        DenyTarget::Spki([1; 32]),
        DenyTarget::Fingerprint([2; 32]),
        DenyTarget::Ca(IssuerId([3; 32])),
        identity("Ünï \"quoted\" \\ name"),
        identity("API.example.com"),
    ]);
    all.add(DenyEntry { expires_unix: Some(1_900_000_000), ..entry(identity("expiring")) }).unwrap();
    all
}

#[test]
fn file_says_what_the_list_says() {
    let all = one_of_each();
    let text = all.serialize();
    assert_eq!(text.lines().next(), Some(r#"{"ringward_deny_list":1}"#));
    assert_eq!(text.lines().count(), 8);
    assert!(text.ends_with('\n'));
    let line = format!(
        r#"{{"deny":{{"serial":{{"issuer":"{}","serial":"0a1b"}}}},"reason":"key found in a public repository","added":1700000000,"by":"uid 0"}}"#,
        "ab".repeat(32)
    );
    assert!(text.contains(&line), "{text}");
    assert_eq!(DenyList::parse(text.as_bytes()), Ok(all.clone()));
    assert_eq!(all.clone().serialize(), text, "in the same order each time");
    // Continued line by line.
    let appended = format!("{text}{}", entry(identity("late")).to_line());
    assert_eq!(DenyList::parse(appended.as_bytes()).unwrap().len(), 8);
    assert_eq!(DenyList::parse(DenyList::new().serialize().as_bytes()), Ok(DenyList::new()));
}

#[test]
fn line_that_is_not_understood_is_an_error_and_never_skipped() {
    let head = r#"{"ringward_deny_list":1}"#;
    let good = entry(identity("a")).to_line();
    let other = entry(identity("b")).to_line();
    let parse = |text: &str| DenyList::parse(text.as_bytes());
    for text in ["", "\n", head, "{}\n", "{\"ringward_deny_list\":2}\n", &good, &format!(" {head}\n")] {
        assert_eq!(parse(text), Err(DenyListError::Head), "{text:?}");
    }
    assert_eq!(parse(&format!("{head}\n{good}")).unwrap().len(), 1);
    for bad in [
        "\n".to_owned(),
        "# comment\n".to_owned(),
        "null\n".to_owned(),
        other.trim_end().to_owned(),
        good[..good.len() / 2].to_owned(),
        format!("{}\n", &good[..good.len() / 2]),
        good.replace('\n', " {}\n"),
        good.replace("identity", "identities"),
        good.replace("\"by\"", "\"author\""),
        good.replace("\"by\":\"uid 0\"", "\"by\":\"uid 0\",\"by\":\"uid 1\""),
        good.replace("\"by\":\"uid 0\"", "\"by\":\"uid 0\",\"more\":1"),
        good.replace(",\"by\":\"uid 0\"", ""),
        good.replace("1700000000", "1.8e9"),
        good.replace("1700000000", "99999999999999999999"),
        good.replace("\"a\"", "\"\\u0000\""),
        good.replace("\"a\"", "\"\""),
        good.replace("{\"identity\":\"a\"}", "{\"identity\":\"a\",\"spki\":\"00\"}"),
        good.replace("{\"identity\":\"a\"}", "{\"spki\":\"00\"}"),
        good.replace("{\"identity\":\"a\"}", &format!("{{\"spki\":\"{}\"}}", "AB".repeat(32))),
        good.replace("{\"identity\":\"a\"}", &format!("{{\"ca\":\"{}0\"}}", "ab".repeat(32))),
        good.replace(
            "{\"identity\":\"a\"}",
            &format!("{{\"serial\":{{\"issuer\":\"{}\",\"serial\":\"x\"}}}}", "ab".repeat(32)),
        ),
        good.replace("uid 0", &"x".repeat(20_000)),
        good.replace("uid 0", "\u{7f}"),
        // The same once more.
        good.clone(),
    ] {
        let error = parse(&format!("{head}\n{good}{bad}"));
        assert!(matches!(error, Err(DenyListError::Line { line: 3, .. })), "{bad:?}: {error:?}");
    }
    let invalid = [head.as_bytes(), b"\n\xff\n"].concat();
    assert!(matches!(DenyList::parse(&invalid), Err(DenyListError::Line { line: 2, .. })));
}

#[test]
fn problem_is_told_in_one_short_line() {
    for field in ["a\\nb\\u0000".to_owned(), "x".repeat(10_000)] {
        let line = entry(identity("a")).to_line().replace("\"by\"", &format!("\"{field}\""));
        let error = DenyList::parse(format!("{}\n{line}", file::HEAD).as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("line 2: unknown field") && error.len() < 500, "{error}");
        assert!(!error.chars().any(char::is_control), "{error:?}");
    }
}

#[test]
fn longest_line_is_read() {
    // Every character of the texts escaped, in six octets.
    let widest = DenyEntry {
        target: identity(&"\"".repeat(IDENTITY_BYTES_MAX)),
        reason: "\\".repeat(REASON_BYTES_MAX),
        by: "\"".repeat(BY_BYTES_MAX),
        added_unix: i64::MIN,
        expires_unix: Some(i64::MAX),
    };
    let text = format!("{}{}", DenyList::new().serialize(), widest.to_line());
    assert_eq!(DenyList::parse(text.as_bytes()).unwrap().entries(), [&widest]);
    // Blanks are no part of an entry, and count all the same.
    let padded = |length: usize| {
        let line = entry(identity("a")).to_line();
        let blanks = " ".repeat(length - (line.len() - 1));
        DenyList::parse(format!("{}\n{}", file::HEAD, line.replace('\n', &format!("{blanks}\n"))).as_bytes())
    };
    assert_eq!(padded(file::LINE_BYTES_MAX).unwrap().len(), 1);
    assert!(matches!(padded(file::LINE_BYTES_MAX + 1), Err(DenyListError::Line { line: 2, .. })));
}

#[test]
fn mutated_files_are_read_without_harm() {
    let mut noise = Noise(0x5eed_0005);
    let seed = one_of_each().serialize().into_bytes();
    let mut read = 0;
    for _ in 0..5000 {
        let mut bytes = seed.clone();
        for _ in 0..=noise.below(3) {
            mutate(&mut bytes, &mut noise);
        }
        if let Ok(list) = DenyList::parse(&bytes) {
            // What was read is what is written.
            assert_eq!(DenyList::parse(list.serialize().as_bytes()), Ok(list));
            read += 1;
        }
    }
    assert!(read > 100, "some changes are within texts: {read}");
}
