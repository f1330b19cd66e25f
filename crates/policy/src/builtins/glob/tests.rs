use super::*;

/// `glob.match(pattern, delimiters, value)` with `-` for `null`.
fn matches(pattern: &str, delimiters: &str, value: &str) -> Result<bool, CallError> {
    let list = match delimiters {
        "-" => Value::Null,
        list => Value::from(list.chars().map(|c| Value::from(c.to_string())).collect::<Vec<_>>()),
    };
    let args = [Value::from(pattern), list, Value::from(value)];
    let found = glob_match(&mut PatternCache::default(), &mut String::new(), &args)?;
    Ok(found == Value::Bool(true))
}

fn check(cases: &[(&str, &str, &str, bool)]) {
    for (pattern, delimiters, value, expected) in cases {
        assert_eq!(
            matches(pattern, delimiters, value),
            Ok(*expected),
            "{pattern:?} {delimiters:?} {value:?}"
        );
    }
}

#[test]
fn stars_respect_delimiters() {
    check(&[
        // OPA's documentation of glob.match.
        ("*.github.com", "", "api.github.com", true),
        ("*.github.com", "", "api.cdn.github.com", false),
        ("*.github.com", "-", "api.cdn.github.com", true),
        ("*hub.com", ".", "api.cdn.github.com", false),
        ("*:github:com", ":", "api:github:com", true),
        ("api.**.com", ".", "api.github.com", true),
        ("api.**.com", ".", "api.cdn.github.com", true),
        ("?at", "", "cat", true),
        ("?at", "", "at", false),
        ("[abc]at", "", "bat", true),
        ("[abc]at", "", "lat", false),
        ("[!abc]at", "", "cat", false),
        ("[!abc]at", "", "lat", true),
        ("[a-c]at", "", "cat", true),
        ("[a-c]at", "", "lat", false),
        ("[!a-c]at", "", "cat", false),
        ("[!a-c]at", "", "lat", true),
        ("{cat,bat,[fr]at}", "", "cat", true),
        ("{cat,bat,[fr]at}", "", "rat", true),
        ("{cat,bat,[fr]at}", "", "at", false),
        // Where regorus' own differs: the colon, `**` within a segment.
        ("a:*", ":", "a:b:c", false),
        ("a:**", ":", "a:b:c", true),
        ("**.json", "/", "a/b.json", true),
        ("/public**", "/", "/public/a/b", true),
        ("/public**", "/", "/publication", true),
        ("/api/*/items", "/", "/api/7/items", true),
        ("/api/*/items", "/", "/api/7/8/items", false),
        ("/api/*", "/", "/api/", true),
        ("/api/*", "/", "/api", false),
        ("/api/*", "", "/api/a/b", true),
        ("/api/*", "", "/api/a.b", false),
        ("a*c", "bd", "axc", true),
        ("a*c", "bd", "abc", false),
        ("*", "/", "", true),
        ("**", "/", "", true),
        ("", "/", "", true),
        ("", "/", "a", false),
    ]);
}

#[test]
fn lists_and_ranges_are_those_of_gobwas() {
    check(&[
        // `^` does not negate.
        ("[^b]", "", "a", false),
        ("[^b]", "", "^", true),
        ("[^b]", "", "b", true),
        ("[!^]", "", "^", false),
        // Lists may hold delimiters, and what means something elsewhere.
        ("[/]", "/", "/", true),
        ("[!a]", "/", "/", true),
        ("[*?{}]", "", "*", true),
        ("[*?{}]", "", "a", false),
        ("[ab-d]", "", "-", true),
        ("[ab-d]", "", "c", false),
        ("[a!]", "", "!", true),
        (r"[\]]", "", "]", true),
        (r"[a\]b]", "", "]", true),
        ("[[]", "", "[", true),
        ("[&&~~]", "", "~", true),
        ("[.-9]", "", "5", true),
    ]);
}

#[test]
fn braces_hold_patterns() {
    check(&[
        ("{a,ab}{bc,f}", "-", "abc", true),
        ("{a*,/b}", "/", "ab", true),
        ("{a*,/b}", "/", "a/b", false),
        ("{*.google.com,yandex.*}", ".", "www.yandex.com", false),
        ("{*.google.com,yandex.*}", ".", "yandex.com", true),
        ("x{a}y", "", "xay", true),
        ("{a,b}", "", "a,b", false),
        ("a,b", "", "a,b", true),
        ("a}", "", "a}", true),
    ]);
}

#[test]
fn other_characters_are_themselves() {
    check(&[
        (r"\*", "", "*", true),
        (r"\*", "", "a", false),
        (r"a\{b\}", "", "a{b}", true),
        (r"\a", "", "a", true),
        ("a.b", "/", "axb", false),
        ("a+(b)|c$^", "", "a+(b)|c$^", true),
        (r"\d", "", "1", false),
        ("<a>", "", "<a>", true),
        (r"\<", "", "<", true),
        ("A", "", "a", false),
        ("*é*", "/", "caféx", true),
        ("a*b", "/", "a\nb", true),
        ("a?b", "/", "a\nb", true),
        ("a", "", "a\n", false),
        ("a*", "é", "abé", false),
        ("sta", "", "stagnation", false),
    ]);
}

#[test]
fn what_is_no_pattern_is_an_error() {
    for pattern in ["[", "[a", "[a-", "[a-c", "[a-cx]", "[c-a]", "[]", "[!]", "{a", "{a,{b}", r"a\", r"[\"] {
        assert!(matches(pattern, "", "a").is_err(), "{pattern}");
    }
    assert!(matches(&"{".repeat(1000), "", "a").is_err());
    assert!(matches(&"a".repeat(PATTERN_BYTES_MAX), "", "a").is_ok());
    assert!(matches(&"a".repeat(PATTERN_BYTES_MAX + 1), "", "a").is_err());
    let call = |delimiters: Value| {
        let args = [Value::from("a"), delimiters, Value::from("a")];
        glob_match(&mut PatternCache::default(), &mut String::new(), &args)
    };
    assert!(call(Value::from("/")).is_err());
    assert!(call(Value::from(vec![Value::from("ab")])).is_err());
    assert!(call(Value::from(vec![Value::from("")])).is_err());
    assert!(call(Value::from(vec![Value::from("\0")])).is_err());
    assert!(call(Value::from(vec![Value::from(1)])).is_err());
    assert_eq!(call(Value::from(vec![Value::from("é")])), Ok(Value::Bool(true)));
}

/// gobwas, and so OPA, gives results for these that no description of it covers, which differ from those of a regular
/// expression. An error is neither.
#[test]
fn what_gobwas_is_mistaken_about_is_an_error() {
    for (pattern, delimiters, value) in [
        ("***", "/", ""),
        ("a***b", "/", "ab"),
        ("?", "", ""),
        ("[!a]", "", ""),
        ("?", "", "é"),
        ("[é]", "", "é"),
        ("a?", "", "aé"),
        ("{é}a", "", "éa"),
        ("*?", "/.", "a.b"),
        ("?*", "/.", "a.b"),
        ("??", "/.", "/b"),
        ("*{ab,/}", "/.", "b.ab/"),
        ("{a*,b}c", ".", "abc"),
        ("{a*,b*}", "-", "ab"),
        ("{/?,/}", "/", "/a"),
        ("{/a/**/b,c*}", "/", "/a/b"),
        ("{*.google.*,yandex.*}", ".", "www.google.com"),
        ("{{a,b},c}", "", "b"),
        ("{,a}", "", ""),
        ("{a,}", "", "a"),
        ("{}", "", ""),
        ("*//{,*.}example.com", "-", "https://www.example.com"),
    ] {
        assert!(matches(pattern, delimiters, value).is_err(), "{pattern:?} {delimiters:?} {value:?}");
    }
}

/// Also a peculiarity of gobwas, but one that patterns in the field may rely on.
#[test]
fn both_ends_of_a_pattern_may_overlap() {
    check(&[
        ("/a/**/b", "/", "/a/b", true),
        ("/a/**/b", "/", "/a/x/b", true),
        ("/a/**/b", "/", "/ab", false),
        ("aba**aba", "/", "aba", true),
        ("aba**aba", "/", "ababa", true),
        ("aba*aba", "-", "ababa", true),
        ("aba*aba", "/", "ababa", false),
        (r"\*a**a", "/", "*a", true),
        ("[a]**ab", "/", "ab", true),
    ]);
}

#[test]
fn one_cache_keeps_patterns_of_different_delimiters_apart() {
    let (mut cache, mut key) = (PatternCache::default(), String::new());
    let mut call = |delimiters: Value, value: &str| {
        glob_match(&mut cache, &mut key, &[Value::from("a*"), delimiters, Value::from(value)]).unwrap()
    };
    let slash = || Value::from(vec![Value::from("/")]);
    for _ in 0..2 {
        assert_eq!(call(slash(), "a/b"), Value::Bool(false));
        assert_eq!(call(Value::Null, "a/b"), Value::Bool(true));
        assert_eq!(call(Value::new_array(), "a/b"), Value::Bool(true));
        assert_eq!(call(Value::new_array(), "a.b"), Value::Bool(false));
    }
}

#[test]
fn adversarial_patterns_take_linear_time() {
    let started = std::time::Instant::now();
    assert_eq!(matches(&format!("{}b", "a*".repeat(50)), "/", &"a".repeat(5_000)), Ok(false));
    assert_eq!(matches(&"{a,aa}".repeat(20), "/", &format!("{}b/", "a".repeat(5_000))), Ok(false));
    assert!(started.elapsed() < std::time::Duration::from_secs(5));
}

#[test]
fn quoted_text_matches_itself_only() {
    let quoted = quote_meta(&[Value::from(r"*?\[]{}a")]).unwrap();
    assert_eq!(quoted, Value::from(r"\*\?\\\[\]\{\}a"));
    assert_eq!(matches(r"\*\?\\\[\]\{\}a", "", r"*?\[]{}a"), Ok(true));
}
