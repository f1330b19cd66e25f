use super::*;

fn call(function: Call, args: &[&str]) -> Result<Value, CallError> {
    let args: Vec<Value> = args.iter().map(|arg| Value::from_json_str(arg).unwrap()).collect();
    function(&mut PatternCache::default(), &args)
}

fn matches(pattern: &str, value: &str) -> Result<bool, CallError> {
    let args = [Value::from(pattern), Value::from(value)];
    regex_match(&mut PatternCache::default(), &args).map(|found| found == Value::Bool(true))
}

fn check(cases: &[(&str, &str, bool)]) {
    for (pattern, value, expected) in cases {
        assert_eq!(matches(pattern, value), Ok(*expected), "{pattern:?} {value:?}");
    }
}

#[test]
fn perl_classes_are_ascii() {
    check(&[
        (r"^\d+$", "123", true),
        (r"^\d+$", "١٢٣", false),
        (r"^\D$", "١", true),
        (r"^\w+$", "aZ_9", true),
        (r"^\w+$", "é", false),
        (r"^\W$", "é", true),
        (r"^\s$", "\u{a0}", false),
        (r"^\s$", "\u{b}", false),
        (r"^\s+$", " \t\n\r\u{c}", true),
        (r"^\S$", "\u{b}", true),
        (r"^[\d]+$", "١", false),
        (r"^[\w.]+$", "é", false),
        (r"^[^\d]$", "١", true),
        (r"^[\D]$", "1", false),
        (r"^[\Da]$", "١", true),
        (r"^[\W1]+$", "1é-", true),
        (r"^[\s\S]$", "x", true),
        (r"a\b", "aé", true),
        (r"\bé", "aé", true),
        (r"a\B", "aé", false),
        (r"a\B", "ab", true),
        ("^[[:alpha:]]+$", "ab", true),
        ("^[[:alpha:]]+$", "é", false),
        ("^[[:^alpha:]1]+$", "1é", true),
        ("^[[:word:]-]+$", "a-b", true),
        (r"^\pL$", "é", true),
        (r"^\p{Greek}+$", "αβ", true),
        (r"^[\p{Greek}a]+$", "αa", true),
        (r"^\PL$", "é", false),
        ("(?i)^é$", "É", true),
        ("(?i)^[k]$", "\u{212a}", true),
    ]);
}

#[test]
fn brackets_are_those_of_re2() {
    check(&[
        ("^[a&&b]+$", "&ab", true),
        ("^[a&&b]$", "&", true),
        ("^[[a]b$", "[b", true),
        ("^[[]$", "[", true),
        ("^[^[]$", "a", true),
        ("^[]a]$", "]", true),
        ("^[^]a]$", "]", false),
        ("^[^]a]$", "b", true),
        ("^[a~~b]$", "~", true),
        ("^[--a]$", "A", true),
        ("^[a-]$", "-", true),
        ("^[-a]$", "-", true),
        ("^[a^]$", "^", true),
        (r"^[\]]$", "]", true),
        (r"^[\-a]$", "-", true),
        (r"^[\^]$", "^", true),
        ("^[a-c-]$", "-", true),
        ("^[.]$", "x", false),
        ("^[{]$", "{", true),
        ("^[é-ü]$", "ö", true),
        ("^[[:]$", ":", true),
    ]);
}

#[test]
fn what_the_crate_adds_means_nothing() {
    check(&[
        (r"^\<a\>$", "<a>", true),
        (r"^[\<]$", "<", true),
        (r"^a\b{start}$", "a{start}", true),
        ("^a{,2}$", "a{,2}", true),
        ("^a{,2}$", "aa", false),
        ("^a{2}$", "aa", true),
        ("^a{1,2}$", "aa", true),
        ("^a{1,}$", "aaa", true),
        ("^{a}$", "{a}", true),
        ("^a{x}$", "a{x}", true),
        ("^a}]$", "a}]", true),
        (r"^\Qa.b[\E.$", "a.b[x", true),
        (r"^\Qa.b", "a.bc", true),
        (r"^\x41\x{42}$", "AB", true),
        (r"^\/\.\-\:$", "/.-:", true),
        ("^a b # c$", "a b # c", true),
    ]);
    for pattern in [
        "(?x)a b",
        "(?u)\\d",
        "(?R)a",
        "(?-u:a)",
        "(?iu)a",
        "(?=a)",
        "(?!a)",
        "(?<=a)b",
        "(?<!a)b",
        "(?P=n)",
        "(?#c)",
        r"(a)\1",
        r"\h",
        r"\Z",
        r"\é",
        r"\C",
        "(",
        ")",
        "a**",
        "[",
        "[a",
        "[]",
        "[^]",
        "[b-a]",
        "*a",
        r"\",
        r"[\",
        r"a{2,1}",
        "a*+",
        "a{2}{3}",
        "a+?*",
        "a???",
        "a**?",
        r"\p{Nope}",
        r"\p{Greek",
        "[[:nope:]]",
        r"[\A]",
        r"[\b]",
        "(?P<>a)",
        "(?<n>a)(?<n>b)",
    ] {
        assert!(matches(pattern, "a").is_err(), "{pattern}");
    }
}

#[test]
fn the_rest_is_as_written() {
    check(&[
        ("^/partner/[a-z0-9-]{1,8}/data$", "/partner/a-1/data", true),
        ("^/partner/[a-z0-9-]{1,8}/data$", "/partner/a-1/data\n", false),
        ("a.c", "a\nc", false),
        ("(?s)a.c", "a\nc", true),
        ("(?m)^b$", "a\nb", true),
        ("^b$", "a\nb", false),
        ("(?i:A)b", "ab", true),
        ("(?i:A)b", "aB", false),
        ("(?U)a+", "aa", true),
        ("^a+?a*?a??a{1,2}?$", "aaaa", true),
        ("^(a+)+(?:b*)*$", "aab", true),
        ("(?is)a.B", "A\nb", true),
        ("^(?:a|b)+$", "abba", true),
        ("^(?P<x>a)(?<y>b)$", "ab", true),
        ("b", "abc", true),
        ("", "", true),
        ("^.$", "é", true),
        ("^.$", "😀", true),
        (r"\Aab\z", "ab", true),
    ]);
}

#[test]
fn finding_splitting_and_replacing_are_those_of_go() {
    let gives = |function: Call, args: &[&str], expected: &str| {
        assert_eq!(call(function, args), Ok(Value::from_json_str(expected).unwrap()), "{args:?}");
    };
    gives(find_n, &[r#""a.""#, r#""paranormal""#, "-1"], r#"["ar", "an", "al"]"#);
    gives(find_n, &[r#""a.""#, r#""paranormal""#, "2"], r#"["ar", "an"]"#);
    gives(find_n, &[r#""x""#, r#""paranormal""#, "-1"], "[]");
    gives(find_n, &[r#""a.""#, r#""paranormal""#, "0"], "[]");
    gives(find_n, &[r#""a*""#, r#""baaac""#, "-1"], r#"["", "aaa", ""]"#);
    gives(
        find_all_string_submatch_n,
        &[r#""a(x*)b""#, r#""-axxb-ab-""#, "-1"],
        r#"[["axxb", "xx"], ["ab", ""]]"#,
    );
    gives(find_all_string_submatch_n, &[r#""a(x)?b""#, r#""-ab-axb-""#, "1"], r#"[["ab", ""]]"#);
    gives(replace, &[r#""-ab-axxb-""#, r#""a(x*)b""#, r#""${1}W""#], r#""-W-xxW-""#);
    gives(replace, &[r#""-ab-axxb-""#, r#""a(x*)b""#, r#""$1W""#], r#""---""#);
    gives(replace, &[r#""foo""#, r#""x""#, r#""y""#], r#""foo""#);
    gives(replace, &[r#""aé""#, r#""""#, r#""-""#], r#""-a-é-""#);
    gives(split, &[r#""/""#, r#""foo/bar//baz""#], r#"["foo", "bar", "", "baz"]"#);
    gives(split, &[r#""a""#, r#""banana""#], r#"["b", "n", "n", ""]"#);
    gives(split, &[r#""z+""#, r#""pizza""#], r#"["pi", "a"]"#);
    gives(split, &[r#""""#, r#""abc""#], r#"["a", "b", "c"]"#);
    gives(split, &[r#""x""#, r#""""#], r#"[""]"#);
    gives(split, &[r#""a*""#, r#""abaabaccadaaae""#], r#"["", "b", "b", "c", "c", "d", "e"]"#);
    gives(is_valid, &[r#""a+""#], "true");
    gives(is_valid, &[r#""a(""#], "false");
    gives(is_valid, &["1"], "false");
}

#[test]
fn wrong_types_are_errors() {
    for (function, args) in [
        (regex_match as Call, ["1", "\"a\"", "1"]),
        (regex_match, ["\"a\"", "null", "1"]),
        (find_n, ["\"a\"", "\"a\"", "1.5"]),
        (find_n, ["\"a\"", "\"a\"", "\"x\""]),
        (replace, ["\"a\"", "\"a\"", "1"]),
        (split, ["\"a\"", "[]", "1"]),
    ] {
        assert!(call(function, &args).is_err(), "{args:?}");
    }
}

#[test]
fn size_is_limited() {
    let padded = |length: usize| matches(&format!("a|{}", "[a]".repeat((length - 2) / 3)), "a");
    assert_eq!(padded(PATTERN_BYTES_MAX), Ok(true));
    assert!(padded(PATTERN_BYTES_MAX + 3).unwrap_err().0.contains("4096 bytes"));
    assert!(matches("(a{100}){100}", "a").unwrap_err().0.contains("too large"));
    assert!(matches("(((a{10}){10}){10}){10}", "a").unwrap_err().0.contains("too large"));
    let nested = |depth: usize| format!("{}a{}", "(".repeat(depth), ")".repeat(depth));
    assert!(matches(&nested(40), "a").is_ok());
    assert!(matches(&nested(60), "a").is_err());
    let (many, long) = ("a".repeat(30_000), "b".repeat(30_000));
    let args = [Value::from(many), Value::from("a"), Value::from(long)];
    assert!(replace(&mut PatternCache::default(), &args).is_err());
}

#[test]
fn adversarial_patterns_take_linear_time() {
    let started = std::time::Instant::now();
    assert_eq!(matches("^(a+)+$", &format!("{}b", "a".repeat(10_000))), Ok(false));
    assert_eq!(matches("(a|a)*c", &"a".repeat(10_000)), Ok(false));
    assert!(started.elapsed() < std::time::Duration::from_secs(5));
}
