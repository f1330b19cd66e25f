use super::*;

fn pattern(text: &str) -> HostPattern {
    HostPattern::parse(text).unwrap()
}

fn table(patterns: &[&'static str]) -> HostTable<&'static str> {
    let mut table = HostTable::new();
    for text in patterns {
        table.insert(&pattern(text), *text).unwrap();
    }
    table
}

#[test]
fn names_are_normalised() {
    for (text, normal) in [
        ("api.example.com", "api.example.com"),
        ("API.Example.COM.", "api.example.com"),
        ("localhost", "localhost"),
        ("my_service.internal", "my_service.internal"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("1password.example", "1password.example"),
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("::1", "[::1]"),
        ("[2001:DB8:0:0::1]", "[2001:db8::1]"),
    ] {
        assert_eq!(HostName::parse(text).unwrap().as_str(), normal, "{text}");
    }
}

#[test]
fn what_is_no_name_is_refused_with_its_reason() {
    let long_label = format!("{}.example.com", "a".repeat(64));
    let long_name = format!("{}com", "abcdefghi.".repeat(26));
    for (text, why) in [
        ("", "it is empty"),
        (".", "it is empty"),
        ("a..b", "a label is empty"),
        (".a", "a label is empty"),
        ("a.b..", "a label is empty"),
        (long_label.as_str(), "a label is longer than 63 characters"),
        (long_name.as_str(), "it is longer than 253 characters"),
        ("-a.example", "a label begins or ends with '-'"),
        ("a-.example", "a label begins or ends with '-'"),
        ("a b", "it has other characters than letters, digits, '-', '_' and '.'"),
        ("a\0b", "it has other characters than letters, digits, '-', '_' and '.'"),
        ("bücher.example", "it has characters that are not ASCII"),
        ("1.2.3", "its last label is a number, but it is no IPv4 address"),
        ("127.0.0.256", "its last label is a number, but it is no IPv4 address"),
        ("127.0.0.01", "its last label is a number, but it is no IPv4 address"),
        ("example.com:8443", "it looks like a URL or has a port"),
        ("https://example.com", "it looks like a URL or has a port"),
        ("[::1", "it looks like a URL or has a port"),
        ("[fe80::1%eth0]", "it looks like a URL or has a port"),
        ("*", "'*' alone would take every name"),
        ("*.", "'*' alone would take every name"),
        ("*.*.example.com", "'*' may only stand for the whole first label"),
        ("api-*.example.com", "'*' may only stand for the whole first label"),
        ("api.*.com", "'*' may only stand for the whole first label"),
        ("*.10.0.0.1", "'*.' in front of an IP address means nothing"),
    ] {
        let error = HostPattern::parse(text).unwrap_err().to_string();
        assert_eq!(error, format!("{text:?} is not a host name: {why}"));
    }
}

#[test]
fn lengths_at_the_limit() {
    let label = "a".repeat(63);
    let name = format!("{label}.{label}.{label}.{}", "a".repeat(61));
    assert_eq!(name.len(), 253);
    assert_eq!(table(&[]).lookup(&name), None);
    let mut names = HostTable::new();
    names.insert(&pattern(&name), 1).unwrap();
    assert_eq!(names.lookup(&name), Some(&1));
    assert_eq!(names.lookup(&format!("{name}.")), Some(&1));
    assert_eq!(names.lookup(&format!("{name}a")), None);
    assert!(HostName::parse(&format!("{name}a")).is_err());
    assert!(HostPattern::parse(&format!("*.{}", &name[2..])).is_ok());
    assert!(HostPattern::parse(&format!("*.{}", &name[1..])).is_err());
}

#[test]
fn case_trailing_dot_and_port_make_no_difference() {
    let table = table(&["api.example.com", "*.example.org", "127.0.0.1", "[::1]"]);
    for (name, found) in [
        ("api.example.com", "api.example.com"),
        ("API.EXAMPLE.COM", "api.example.com"),
        ("api.example.com.", "api.example.com"),
        ("Api.Example.com.:8443", "api.example.com"),
        ("api.example.com:1", "api.example.com"),
        ("A.example.ORG.", "*.example.org"),
        ("a.example.org:443", "*.example.org"),
        ("127.0.0.1:8443", "127.0.0.1"),
        ("[::1]", "[::1]"),
        ("[0:0:0:0:0:0:0:1]:8443", "[::1]"),
        ("[::0001]", "[::1]"),
    ] {
        assert_eq!(table.lookup(name), Some(&found), "{name}");
    }
}

#[test]
fn a_wildcard_takes_exactly_one_label() {
    let table = table(&["*.example.com"]);
    assert_eq!(table.lookup("a.example.com"), Some(&"*.example.com"));
    for name in
        ["example.com", ".example.com", "a.b.example.com", "aexample.com", "a.example.com.evil.test", "com"]
    {
        assert_eq!(table.lookup(name), None, "{name}");
        assert!(!pattern("*.example.com").matches(name), "{name}");
    }
}

#[test]
fn exact_comes_before_wildcard_and_deeper_wildcards_are_their_own() {
    let table = table(&["*.example.com", "api.example.com", "*.api.example.com"]);
    assert_eq!(table.lookup("api.example.com"), Some(&"api.example.com"));
    assert_eq!(table.lookup("web.example.com"), Some(&"*.example.com"));
    assert_eq!(table.lookup("v1.api.example.com"), Some(&"*.api.example.com"));
}

#[test]
fn what_is_no_name_matches_nothing() {
    let table = table(&["api.example.com", "*.example.com"]);
    for name in [
        "",
        ".",
        ":8443",
        "api.example.com..",
        "api.example.com:",
        "api.example.com:x",
        "api.example.com:123456",
        "api.example.com:1:2",
        "*.example.com",
        "a b.example.com",
        "ä.example.com",
        "a\0.example.com",
        "[::1].example.com",
        "[api.example.com]",
        "[::1]x",
        "[",
    ] {
        assert_eq!(table.lookup(name), None, "{name:?}");
    }
}

#[test]
fn a_pattern_is_taken_once() {
    let mut table = HostTable::new();
    assert_eq!(table.insert(&pattern("a.test"), 1), Ok(()));
    assert_eq!(table.insert(&pattern("A.test."), 2), Err(2));
    assert_eq!(table.insert(&pattern("*.test"), 3), Ok(()));
    assert_eq!(table.insert(&pattern("*.TEST"), 4), Err(4));
    assert_eq!(table.lookup("a.test"), Some(&1));
    assert_eq!(table.values().count(), 2);
}
