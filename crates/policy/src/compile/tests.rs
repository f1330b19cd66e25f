use std::time::{Duration, Instant};

use super::*;
use crate::set::Limits;

fn set(sources: &[(&str, &str)]) -> PolicySet {
    let sources = sources.iter().map(|(path, text)| Source::new(*path, text.as_bytes())).collect();
    // Patient: nothing here may depend on how busy the machine is.
    let limits = Limits { time_budget: Duration::from_secs(10), ..Limits::default() };
    PolicySet::new(sources, "data.p.allow", limits)
}

fn problems(set: &PolicySet) -> Vec<String> {
    match compile(set) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.problems().iter().map(ToString::to_string).collect(),
    }
}

const GOOD: (&str, &str) =
    ("p.rego", "package p\ndefault allow := false\nallow if input.request.method == \"GET\"\n");

#[test]
fn problems_of_all_files_are_reported_together_in_order() {
    let found = problems(&set(&[
        ("b.rego", "package b\nx := [[[[[[[[[1]]]]]]]]]\n"),
        ("a.rego", "package a\n\nx :=\n"),
        ("d.json", "{"),
        ("c.yaml", "- 1"),
        GOOD,
    ]));
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(found[0].starts_with("a.rego:4:1: error: "), "{found:?}");
    assert!(found[1].starts_with("b.rego:2:14: error: brackets nested deeper than 8"), "{found:?}");
    assert!(found[2].starts_with("c.yaml:1:1: error: data document is not an object"), "{found:?}");
    assert!(found[3].starts_with("d.json:1:1: error: invalid JSON"), "{found:?}");
}

/// CPU time of this thread, which a busy machine does not stretch.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

#[test]
fn bombs_are_refused_at_once() {
    let refused = |text: String| {
        let set = set(&[("p.rego", &text)]);
        let started = cpu_time();
        assert!(!problems(&set).is_empty());
        let taken = cpu_time() - started;
        assert!(taken < Duration::from_millis(100), "{taken:?}: {}", &text[..60]);
    };
    let head = "package p\ndefault allow := false\n";
    for depth in [9, 12, 20, 1_000, 100_000] {
        refused(format!("{head}x := {}1{}", "[".repeat(depth), "]".repeat(depth)));
        refused(format!("{head}x := {}1{}", "{\"a\": ".repeat(depth / 2 + 5), "}".repeat(depth / 2 + 5)));
        refused(format!("{head}x := {}1{}", "[y | y := ".repeat(depth / 2 + 5), "]".repeat(depth / 2 + 5)));
        refused(format!("{head}x := {}1{}", "(".repeat(depth), ")".repeat(depth)));
        refused(format!("{head}x := {}", "set(\n".repeat(depth.min(50_000))));
    }
    refused(format!("{head}x := {}1", "-\n".repeat(100_000)));
    refused(format!("{head}x := 1{}", "+\n1".repeat(80_000)));
    refused(format!("{head}x := a{}", "[\n0]".repeat(60_000)));
    refused(format!("{head}x := {}1{}", "f(\n".repeat(60_000), ")".repeat(60_000)));
    refused(format!("{head}{}", "x := 1\n".repeat(60_000)));
}

/// What the scan still lets through takes the parser a bounded time.
#[test]
fn the_worst_accepted_source_parses_in_bounded_time() {
    let literal = format!("{}1{},\n", "[".repeat(6), "]".repeat(6));
    let most = (1..).step_by(50).find(|count| {
        let text = format!("package p\nx := [{}]\n", literal.repeat(*count));
        !scan::scan("p.rego", &text).is_empty()
    });
    let text = format!("package p\ndefault allow := false\nx := [{}]\n", literal.repeat(most.unwrap() - 100));
    let started = Instant::now();
    assert_eq!(problems(&set(&[("p.rego", &text)])), [""; 0]);
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}

#[test]
fn sizes_are_limited() {
    let limits = Limits { files_max: 2, policy_bytes_max: 200, data_bytes_max: 10, ..Limits::default() };
    let sized = |sources: &[(&str, &str)]| {
        let sources = sources.iter().map(|(path, text)| Source::new(*path, text.as_bytes())).collect();
        problems(&PolicySet::new(sources, "data.p.allow", limits))
    };
    let padded = |bytes: usize| format!("{}{}", GOOD.1, " ".repeat(bytes - GOOD.1.len()));
    assert_eq!(sized(&[("p.rego", &padded(200)), ("d.json", "{\"a\":1234}")]), [""; 0]);
    assert!(sized(&[("p.rego", &padded(201))])[0].contains("201 bytes, more than 200"));
    assert!(sized(&[GOOD, ("d.json", "{\"a\":12345}")])[0].contains("11 bytes, more than 10"));
    assert!(sized(&[GOOD, ("a.json", "{}"), ("b.json", "{}")])[0].contains("3 files, more than 2"));
    assert!(problems(&set(&[GOOD, GOOD]))[0].contains("given twice"));
    assert!(problems(&set(&[GOOD, ("README.md", "x")]))[0].contains("unknown kind of file"));
}

#[test]
fn text_has_to_be_utf_8_without_nul() {
    let sources = vec![Source::new("p.rego", b"package p\n\n# \xff\n".as_slice())];
    let found = problems(&PolicySet::new(sources, "data.p.allow", Limits::default()));
    assert_eq!(found, ["p.rego:3:1: error: file is not UTF-8"]);
    let found = problems(&set(&[("p.rego", "package p\nallow := true\n\0allow := false if true\n")]));
    assert!(found[0].starts_with("p.rego:3:1: error: NUL"), "{found:?}");
}

#[test]
fn what_the_parser_and_the_analysis_refuse_has_a_place() {
    for (rules, place) in [
        ("allow if {", "p.rego:3:1"),
        ("allow { true }", "p.rego:2:7"),
        ("x := y", "p.rego:2:6"),
        ("x if { y == 1 }", "p.rego:2:8"),
        ("x if { y := 1; y := 2 }", "p.rego:2:8"),
        ("input := 1", "p.rego:2:"),
        ("allow = true\n__target__ := \"x\"", "p.rego:3:1"),
        ("f(x) := 1\nf(x, y) := 2", "p.rego:3:1"),
        ("default x := input.request.path", "p.rego:2:"),
        ("x := \"\\u12\"", "p.rego:2:"),
    ] {
        let found = problems(&set(&[GOOD_ELSEWHERE, ("p.rego", &format!("package q\n{rules}\n"))]));
        assert!(found.iter().any(|problem| problem.starts_with(place)), "{rules}: {found:?}");
    }
}

const GOOD_ELSEWHERE: (&str, &str) = ("a.rego", "package p\ndefault allow := false\n");

#[test]
fn test_files_are_checked_and_run_but_never_decide() {
    let test = (
        "p_test.rego",
        "package p_test\nimport data.p\ntest_get if p.allow with input as {\"request\": {\"method\": \"GET\"}}\ntest_put if not p.allow with input as {\"request\": {\"method\": \"PUT\"}}\ntodo_test_later if false\n",
    );
    let report = check(&set(&[GOOD, test])).unwrap();
    assert_eq!(report.tests.passed(), 2);
    assert_eq!(report.tests.tests.len(), 3);
    assert_eq!(
        (report.packages, report.reads, report.impure),
        (vec!["data.p".to_owned()], vec!["request.method".to_owned()], vec![])
    );
    // Rules of a test file that would change the decision, were they loaded.
    let hostile = ("p_test.rego", "package p\nallow if true\n");
    let policy = compile(&set(&[GOOD, hostile])).unwrap();
    let put = crate::RequestView { method: "PUT", ..crate::input::sample::request() };
    assert!(!policy.worker().decide(&crate::input::sample::subject(), &put).unwrap().allowed);
    assert!(
        problems(&set(&[GOOD, ("p_test.rego", "package p_test\ntest_x if nope(1)\n")]))[0]
            .starts_with("p_test.rego:2:11")
    );
}

#[test]
fn rules_cannot_lean_on_test_files() {
    let helpers = ("p_test.rego", "package p\nhelper(x) := x\nvalue := 1\n");
    for body in ["helper(1) == 1", "value == 1", "data.p.value == 1"] {
        let module = format!("package p\ndefault allow := false\nallow if {body}\n");
        let found = problems(&set(&[("p.rego", &module), helpers]));
        assert!(
            !found.is_empty() && found.iter().all(|problem| problem.starts_with("p.rego:3:10")),
            "{found:?}"
        );
    }
}

#[test]
fn failed_tests_refuse_the_set() {
    let tests = "package p_test\ntest_false := false\ntest_undefined if 1 == 2\ntest_error if to_number(\"x\") == 1\ntest_text := \"true\"\ntest_good if true\n";
    let set = set(&[GOOD, ("p_test.rego", tests)]);
    let errors = check(&set).unwrap_err();
    let found: Vec<String> = errors.problems().iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), 4, "{found:?}");
    assert_eq!(found[0], "p_test.rego:2:1: error: test `test_false` failed");
    assert!(
        found[2].starts_with(
            "p_test.rego:4:1: error: test `test_error`: policy evaluation failed: p_test.rego:4:"
        ),
        "{found:?}"
    );
    // Only the check runs them.
    assert!(compile(&set).is_ok());
    assert_eq!(testing::run_tests(&set, &testing::TestOptions::default()).unwrap().report.passed(), 1);
}

#[test]
fn a_test_that_hangs_ends() {
    let test = "package p_test\ntest_hangs if {\n\tr := numbers.range(1, 9000)\n\tsome a in r\n\tsome b in r\n\ta * b == -1\n}\n";
    let started = Instant::now();
    let errors = check(&set(&[GOOD, ("p_test.rego", test)])).unwrap_err();
    assert!(errors.to_string().contains("time budget"), "{errors}");
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn the_trial_run_warns_of_what_requests_would_meet() {
    let tried = |rules: &str| {
        let text = format!("package p\ndefault allow := false\n{rules}\n");
        let sources = vec![Source::new("p.rego", text.as_bytes())];
        let limits = Limits { time_budget: Duration::from_millis(200), ..Limits::default() };
        check(&PolicySet::new(sources, "data.p.allow", limits))
            .map(|report| report.warnings.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let slow =
        tried("allow if {\n\tr := numbers.range(1, 9000)\n\tsome a in r\n\tsome b in r\n\ta * b == -1\n}")
            .unwrap();
    assert!(slow.iter().any(|warning| warning.contains("time budget of 200ms")), "{slow:?}");
    let failing = tried("allow if to_number(input.request.method) == 1").unwrap();
    assert!(
        failing.iter().any(|warning| warning.contains("could not parse string as number")),
        "{failing:?}"
    );
    let wrong =
        tried("allow := {\"allowed\": true, \"headers\": {\"Client-Cert\": \"x\"}} if true").unwrap_err();
    assert!(wrong.to_string().contains("only ringward may write"), "{wrong}");
}

#[test]
fn impure_functions_are_reported() {
    let report = check(&set(&[(
        "p.rego",
        "package p\ndefault allow := false\nallow if time.now_ns() > rand.intn(\"x\", 5)\n",
    )]))
    .unwrap();
    assert_eq!(report.impure, ["rand.intn", "time.now_ns"]);
}

#[test]
fn an_empty_set_is_refused() {
    assert!(!problems(&set(&[])).is_empty());
    assert!(!problems(&set(&[("p.rego", "")])).is_empty());
    assert!(!problems(&set(&[("d.json", "{}")])).is_empty());
}

#[test]
fn the_parser_gets_along_with_a_small_stack() {
    let unary =
        |operators: usize| format!("package p\ndefault allow := false\nx := {}1\n", "-\n".repeat(operators));
    let nested = "package p\ndefault allow := false\nx := [[[[[[[[1]]]]]]]]\ny := f(f(f(f(f(f(f(f(1))))))))\nf(z) := z\n";
    let mixed = format!(
        "package p\ndefault allow := false\nx := {}1{}\n",
        format!("{}[", "-a*".repeat(32)).repeat(8),
        "]".repeat(8)
    );
    let most = scan::OPERATORS_MAX as usize;
    let compile_all = move || {
        for text in [unary(most).as_str(), nested, mixed.as_str()] {
            assert!(scan::scan("p.rego", text).is_empty());
            // Whether it is accepted does not matter, only that it comes back.
            let _ = problems(&set(&[("p.rego", text)]));
        }
    };
    std::thread::Builder::new().stack_size(1024 * 1024).spawn(compile_all).unwrap().join().unwrap();
}

/// What Envoy says of the body in a header field follows from the body.
#[test]
fn whether_the_body_is_whole_is_read_of_the_body() {
    let policy = |field: &str| {
        let text = format!(
            "package p\ndefault allow := false\nallow if input.attributes.request.http.headers[\"{field}\"] == \"false\"\n"
        );
        let set =
            PolicySet::new(vec![Source::new("p.rego", text.as_bytes())], "data.p.allow", Limits::default());
        compile(&set.with_input(InputShape::EnvoyV3))
    };
    let reads = |field| policy(field).map(|policy| (policy.reads_body(), policy.names_body())).unwrap();
    assert_eq!(reads("x-envoy-auth-partial-body"), (true, true));
    assert_eq!(reads("x-other"), (false, false));
    let host = policy("host").err().unwrap().to_string();
    assert!(host.contains("header `host` is never there"), "{host}");
}
