//! Every mistake of an author that is caught when a policy is loaded: a policy that makes it, and what is said.
//!
//! One row for each guard rail, so that what is not caught any more, or caught at another place, shows here. The corners
//! of each are tested beside its check.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use ringward_policy::{
    ConnectionView, DecisionError, HeaderSource, Limits, PolicySet, RequestView, RouteView, Source, Subject,
    check, compile,
};

/// Stands before the text of each row, which so begins in line 3.
const HEAD: &str = "package p\ndefault allow := false\n";

fn set(sources: &[(&str, &str)], rule: &str, limits: Limits) -> PolicySet {
    let sources = sources.iter().map(|(path, text)| Source::new(*path, text.as_bytes())).collect();
    PolicySet::new(sources, rule, limits)
}

/// Nothing but what a row is about may depend on how busy the machine is.
fn patient() -> Limits {
    Limits { time_budget: Duration::from_secs(10), ..Limits::default() }
}

/// Everything that is said of a policy, without the help. An error refuses it, a warning does not.
fn said(set: &PolicySet) -> Vec<String> {
    let (refused, problems) = match check(set) {
        Ok(report) => (false, report.warnings),
        Err(errors) => (true, errors.problems().to_vec()),
    };
    let said: Vec<String> =
        problems.iter().map(|problem| problem.to_string().lines().next().unwrap().to_owned()).collect();
    assert_eq!(refused, said.iter().any(|text| text.contains("error: ")), "{said:?}");
    said
}

/// Compares all that was said, a line each, with what was to be said.
fn compare(rows: impl IntoIterator<Item = (&'static str, Vec<String>, &'static str)>) {
    let differing = rows.into_iter().filter(|(_, found, expected)| found.join("\n") != *expected);
    let differing: Vec<String> =
        differing.map(|(rail, found, expected)| format!("{rail}: {expected:?}, but {found:#?}")).collect();
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

fn of_module(text: &str) -> Vec<String> {
    said(&set(&[("p.rego", &format!("{HEAD}{text}\n"))], "data.p.allow", patient()))
}

/// What is said of one module, and nothing else, by what it guards against.
const OF_MODULES: &[(&str, &str, &str)] = &[
    // Functions: known, available, and with the right number of arguments, wherever the call stands.
    (
        "unknown function",
        "allow if {\n\tfalse\n\tstartwith(input.request.path, \"/\")\n}",
        "p.rego:5:2: error: unknown function `startwith`",
    ),
    (
        "missing builtin",
        "allow if io.jwt.decode(header(\"x-a\"))",
        "p.rego:3:10: error: function `io.jwt.decode` is refused",
    ),
    (
        "missing builtin",
        "x := crypto.hmac.sha256(\"a\", \"b\")",
        "p.rego:3:6: error: function `crypto.hmac.sha256` is refused",
    ),
    ("missing builtin", "x := net.cidr_merge([])", "p.rego:3:6: error: function `net.cidr_merge` is refused"),
    ("missing builtin", "x if walk(input)", "p.rego:3:6: error: function `walk` is refused"),
    (
        "missing builtin",
        "x if graphql.is_valid(\"a\", \"b\")",
        "p.rego:3:6: error: function `graphql.is_valid` is refused",
    ),
    (
        "number of arguments",
        "x := count(1, 2, 3)",
        "p.rego:3:6: error: `count` takes 1 arguments, here are 3",
    ),
    (
        "number of arguments",
        "x := header(\"x-a\", \"\", 1)",
        "p.rego:3:6: error: `header` takes 1 arguments, here are 3",
    ),
    // What waits or reaches outside, in every form.
    (
        "http.send",
        "allow if http.send({\"url\": \"http://x\"}).status_code == 200",
        "p.rego:3:10: error: function `http.send` is refused",
    ),
    (
        "http.send",
        "allow if { every x in [1] { http.send({}) == x } }",
        "p.rego:3:29: error: function `http.send` is refused",
    ),
    ("http.send", "x := [y | y := http.send({})]", "p.rego:3:16: error: function `http.send` is refused"),
    ("http.send", "f(x) := http.send(x)", "p.rego:3:9: error: function `http.send` is refused"),
    (
        "http.send",
        "x if {\n\thttp.send({}) == 1 with http.send as f\n}\nf(_) := 1",
        "p.rego:4:2: error: function `http.send` is refused",
    ),
    (
        "network",
        "x := net.lookup_ip_addr(\"x\")",
        "p.rego:3:6: error: function `net.lookup_ip_addr` is refused",
    ),
    ("environment", "x := opa.runtime().env", "p.rego:3:6: error: function `opa.runtime` is refused"),
    (
        "output per request",
        "x if print(input.request.path)",
        "p.rego:3:6: error: function `print` is refused",
    ),
    (
        "unbounded parser",
        "x := yaml.unmarshal(\"a: 1\")",
        "p.rego:3:6: error: function `yaml.unmarshal` is refused",
    ),
    // The input.
    (
        "input path",
        "allow if input.request.mehtod == \"GET\"",
        "p.rego:3:10: error: `input.request.mehtod` is not part of the input",
    ),
    (
        "input path",
        "allow if not input.client.verifed",
        "p.rego:3:14: error: `input.client.verifed` is not part of the input",
    ),
    (
        "input path of OPA-Envoy",
        "allow if input.attributes.source.principal == \"x\"",
        "p.rego:3:10: error: `input.attributes` is not part of the input",
    ),
    (
        "header name",
        "allow if not input.request.headers[\"X-Blocked\"]",
        "p.rego:3:14: error: header `X-Blocked` is never there, since names are in lower case",
    ),
    (
        "identity header",
        "allow if input.request.headers[\"x-forwarded-client-cert\"] == \"x\"",
        "p.rego:3:10: error: header `x-forwarded-client-cert` is never there, since clients cannot say who they are by it",
    ),
    // Where the interpreter would allow and OPA would not.
    (
        "negation over what may be missing",
        "allow if not startswith(input.request.headers[\"x-a\"], \"1\")",
        "p.rego:3:14: error: negation would hold when `input.request.headers.x-a` is missing; in OPA it would not",
    ),
    (
        "negation over a rule that may be missing",
        "allow if {\n\tinput.request.method == \"GET\"\n\tnot count(roles) == 1\n}\nroles := data.roles if input.client.verified",
        "p.rego:5:6: error: negation would hold when `roles` is missing; in OPA it would not",
    ),
    (
        "glob",
        "allow if glob.match(\"/a/***\", [\"/\"], input.request.path)",
        "p.rego:3:22: error: `glob.match` pattern `/a/***` is invalid: more than two stars in a row",
    ),
    (
        "regex",
        "allow if regex.match(`^(?=/a)`, input.request.path)",
        "p.rego:3:23: error: regular expression `^(?=/a)` is invalid: unknown group flags",
    ),
    (
        "regex",
        "allow if regex.match(`a{1001}`, input.request.path)",
        "p.rego:3:23: error: regular expression `a{1001}` is invalid: repeat count above 1000",
    ),
    (
        "object as a pattern",
        "allow if {\"role\": _} = data.user",
        "p.rego:3:10: error: object as a pattern would fit objects with further fields; in OPA it would not",
    ),
    (
        "arithmetic with fractions",
        "allow if input.connection.local_port * 0.1 > 3",
        "p.rego:3:10: error: arithmetic may round otherwise than OPA's, since `0.1` gives fractions",
    ),
    (
        "long number",
        "x := 18446744073709551616",
        "p.rego:3:6: error: number `18446744073709551616` has more digits than are kept",
    ),
    (
        "field of a certificate",
        "c := crypto.x509.parse_certificates(header(\"x-a\"))[0]\nallow if not c.PermittedDNSDomains",
        "p.rego:4:14: error: field `PermittedDNSDomains` of a parsed certificate is not available",
    ),
    // Names.
    ("undefined name", "grant := 1\nx := grnat", "p.rego:4:6: error: undefined variable `grnat`"),
    (
        "undefined name",
        "allow if grnat == 1",
        "p.rego:3:10: error: use of undefined variable `grnat` is unsafe",
    ),
    (
        "undefined reference",
        "denied if true\nallow if not data.p.dneied",
        "p.rego:4:14: error: nothing is defined at `data.p.dneied`",
    ),
    (
        "default that is not constant",
        "default x := input.request.path",
        "p.rego:3:14: error: default value is not a constant",
    ),
    // What would take the process down or the worker's time.
    (
        "recursion",
        "f(x) := g(x)\ng(x) := f(x)",
        "p.rego:3:1: error: recursion: data.p.f -> data.p.g -> data.p.f",
    ),
    (
        "recursion",
        "allow if data.p[input.request.method]",
        "p.rego:2:9: error: recursion: data.p.allow -> data.p.allow",
    ),
    ("brackets", "x := [[[[[[[[[1]]]]]]]]]", "p.rego:3:14: error: brackets nested deeper than 8"),
    ("NUL", "x := 1\0", "p.rego:3:7: error: NUL character in source"),
    (
        "range of unknown length",
        "allow if count(numbers.range(1, count(input.request.segments))) > 3",
        "p.rego:3:16: warning: length of `numbers.range` is not known before the evaluation",
    ),
    (
        "many parameters",
        "f(a, b, c, d, e, g, h, i, j) := 1",
        "p.rego:3:1: warning: function has 9 parameters, more than 8",
    ),
    // Syntax.
    ("syntax", "allow if {", "p.rego:4:1: error: expecting expression"),
    ("rego v0", "allow { true }", "p.rego:3:7: error: `if` keyword is required before rule body"),
    (
        "extension of the interpreter",
        "__target__ := \"x\"",
        "p.rego:3:1: error: __target__ must be defined before any rules",
    ),
    // What requests would meet.
    (
        "error of evaluation",
        "allow if to_number(input.request.method) == 1",
        "p.rego:2:9: warning: tried on an invented request: policy evaluation failed: p.rego:3:19: could not parse string as number",
    ),
    (
        "identity header in a result",
        "allow := {\"allowed\": true, \"headers\": {\"Client-Cert\": \"x\"}} if true",
        "p.rego:2:9: error: tried on an invented request: policy result is invalid: `headers` names header `Client-Cert`, which only ringward may write",
    ),
];

#[test]
fn every_mistake_in_a_module_is_named_with_its_line() {
    compare(OF_MODULES.iter().map(|(rail, text, expected)| (*rail, of_module(text), *expected)));
}

#[test]
fn so_is_every_mistake_about_the_deciding_rule() {
    let rows = [
        ("no such rule", "default alow := false", "error: no rule `data.p.allow`"),
        (
            "a function",
            "allow(x) := x",
            "p.rego:2:1: error: deciding rule `data.p.allow` is a function\np.rego:2:1: warning: deciding rule `data.p.allow` has no default",
        ),
        (
            "a set",
            "allow contains \"x\"",
            "p.rego:2:1: error: deciding rule `data.p.allow` is a set (`contains`)\np.rego:2:1: warning: deciding rule `data.p.allow` has no default",
        ),
        (
            "wrong type",
            "default allow := \"no\"",
            "p.rego:2:19: error: deciding rule `data.p.allow` gives a string",
        ),
        (
            "no default",
            "allow if input.client.verified",
            "p.rego:2:1: warning: deciding rule `data.p.allow` has no default",
        ),
        (
            "allows by default",
            "default allow := true",
            "p.rego:2:9: warning: deciding rule `data.p.allow` allows by default",
        ),
    ];
    let of_rule =
        |text| said(&set(&[("p.rego", &format!("package p\n{text}\n"))], "data.p.allow", patient()));
    compare(rows.map(|(rail, text, expected)| (rail, of_rule(text), expected)));
}

#[test]
fn so_is_what_is_too_large() {
    let repeated = |text: &str, count: usize| {
        (0..count).map(|number| text.replace('N', &number.to_string())).collect::<String>()
    };
    let chain = repeated("fN(x) := [y | y := gN(x)][0]\n", 300);
    let chain =
        (0..300).fold(chain, |text, link| text.replace(&format!("g{link}("), &format!("f{}(", link + 1)));
    let rows = [
        (
            "statements of a body",
            format!("x if {{\n{}}}", "\ttrue\n".repeat(501)),
            "p.rego:3:1: error: body has 501 statements, more than 500",
        ),
        (
            "parameters",
            format!("f({}) := 1", repeated("aN, ", 33).trim_end_matches(", ")),
            "p.rego:3:1: error: function has 33 parameters, more than 32",
        ),
        (
            "operators",
            format!("x := 1{}", "\n+ 1".repeat(200)),
            "p.rego:68:1: error: expression has more than 64 operators",
        ),
        (
            "chain of rules",
            format!("{chain}f300(x) := x"),
            "p.rego:239:1: error: `data.p.f236` depends on a chain of rules too long for the stack",
        ),
        (
            "rules with literals",
            repeated("allow if input.request.path == \"/N\"\n", 51),
            "p.rego:3:1: warning: `data.p.allow` has 51 definitions that compare with literals",
        ),
    ];
    compare(rows.map(|(rail, text, expected)| (rail, of_module(&text), expected)));
    let small = Limits { files_max: 1, policy_bytes_max: 60, data_bytes_max: 10, ..patient() };
    let good = ("p.rego", HEAD);
    let rows = [
        (
            "file",
            vec![("p.rego", "package p\ndefault allow := false\n# a long comment, which counts as well\n")],
            "p.rego: error: file has 72 bytes, more than 60",
        ),
        ("document", vec![("d.json", "{\"a\": 12345}")], "d.json: error: file has 12 bytes, more than 10"),
        ("files", vec![good, ("q.rego", "package q")], "error: policy has 2 files, more than 1"),
    ];
    compare(
        rows.map(|(rail, sources, expected)| (rail, said(&set(&sources, "data.p.allow", small)), expected)),
    );
}

#[test]
fn so_is_every_mistake_in_the_files_around_it() {
    let good = ("p.rego", HEAD);
    let rows = [
        (
            "document instead of a rule",
            vec![good, ("d.json", r#"{"p": {"allow": true}}"#)],
            "p.rego:2:9: error: a data document gives `data.p.allow`, where this rule is",
        ),
        (
            "key given twice",
            vec![good, ("a.json", r#"{"k": 1}"#), ("b.yaml", "k: 2")],
            "b.yaml: error: `data.k` is already given by a.json",
        ),
        ("no object", vec![good, ("d.json", "[1]")], "d.json:1:1: error: data document is not an object"),
        ("JSON", vec![good, ("d.json", "{\n\"a\": }")], "d.json:2:6: error: invalid JSON: expected value"),
        (
            "YAML",
            vec![good, ("d.yaml", "a: 1\nb: [")],
            "d.yaml:3:1: error: invalid YAML: did not find expected node content",
        ),
        ("kind of file", vec![good, ("notes.txt", "x")], "notes.txt: error: unknown kind of file"),
        (
            "failed test",
            vec![good, ("p_test.rego", "package p_test\nimport data.p\ntest_allows if p.allow\n")],
            "p_test.rego:3:1: error: test `test_allows` failed",
        ),
        (
            "unknown function in a test",
            vec![good, ("p_test.rego", "package p_test\ntest_x if nope(1)\n")],
            "p_test.rego:2:11: error: unknown function `nope`",
        ),
        (
            "rule of a test",
            vec![
                ("p.rego", "package p\ndefault allow := false\nallow if helper\n"),
                ("p_test.rego", "package p\nhelper := true\n"),
            ],
            "p.rego:3:10: error: use of undefined variable `helper` is unsafe",
        ),
    ];
    compare(
        rows.map(|(rail, sources, expected)| {
            (rail, said(&set(&sources, "data.p.allow", patient())), expected)
        }),
    );
    let not_text = vec![Source::new("p.rego", b"package p\n# \xff\n".as_slice())];
    assert_eq!(
        said(&PolicySet::new(not_text, "data.p.allow", patient())),
        ["p.rego:2:1: error: file is not UTF-8"]
    );
}

/// What is said helps, where the likely fix is known.
#[test]
fn a_slip_is_named_with_what_was_probably_meant() {
    for (text, help) in [
        ("x if startwith(input.request.path, \"/\")", "did you mean `startswith`?"),
        ("x := input.request.mehtod", "did you mean `method`?"),
        ("x := input.requets.method", "did you mean `request`?"),
        (
            "x := input.parsed_path",
            "other gateways have it; here it is `input.request.segments`, or choose their input (`envoy-v3`, `kong`)",
        ),
        ("x := input.request.headers[\"X-Team\"]", "write \"x-team\""),
        ("x := regex.globs_match(\"a\", \"b\")", "use `glob.match`"),
        ("grant := 1\nx := grnat", "did you mean `grant`?"),
        ("denied if true\nx := data.p.dneied", "did you mean `data.p.denied`?"),
    ] {
        let set = set(&[("p.rego", &format!("{HEAD}{text}\n"))], "data.p.allow", patient());
        let errors = check(&set).unwrap_err();
        assert_eq!(errors.problems()[0].help.as_deref(), Some(help), "{text}");
    }
}

/// Functions that Ringward adds are known, and do what they are for.
#[test]
fn own_functions_are_no_mistake() {
    for text in [
        "allow if header(\"X-Team\") == \"a\"",
        "allow if not startswith(header(\"x-team\"), \"a\")",
        "allow if crypto.sha256(input.request.path) == \"x\"",
        "allow if crypto.x509.parse_certificates(header(\"x-chain\"))[0].Subject.CommonName == \"a\"",
        "allow if net.cidr_intersects(\"10.0.0.0/8\", \"10.1.0.0/16\")",
        "allow if count(net.cidr_contains_matches([\"10.0.0.0/8\"], [input.connection.remote_addr])) > 0",
    ] {
        assert_eq!(of_module(text), [""; 0], "{text}");
    }
}

const ENDLESS: &str =
    "allow if {\n\tr := numbers.range(1, 9000)\n\tsome a in r\n\tsome b in r\n\ta * b == -1\n}";

/// Said when it is loaded, and kept when a request comes: no decision, so no allow.
#[test]
fn a_decision_has_a_time_budget() {
    let limits = Limits { time_budget: Duration::from_millis(50), ..Limits::default() };
    let set = set(&[("p.rego", &format!("{HEAD}{ENDLESS}\n"))], "data.p.allow", limits);
    assert_eq!(
        said(&set),
        ["p.rego:2:9: warning: evaluating an invented request took longer than the time budget of 50ms"]
    );
    let mut worker = compile(&set).unwrap().worker();
    let subject = Subject::new(
        None,
        &ConnectionView {
            remote: ([127, 0, 0, 1], 1).into(),
            local_port: 443,
            sni: "a.test",
            alpn: "http/1.1",
            tls_version: "TLSv1.3",
            cipher: "TLS13_AES_128_GCM_SHA256",
            resumed: false,
            auth_time_unix: 0,
        },
    );
    let request = RequestView {
        method: "GET",
        path: "/",
        raw_path: "/",
        query: None,
        host: "a.test",
        scheme: "https",
        protocol: "HTTP/1.1",
        id: "1",
        headers: &NoHeaders,
        body: None,
        route: RouteView { id: "r", template: "/", params: &[], upstream: "u", labels: &[] },
        now_unix: 0,
    };
    assert_eq!(worker.decide(&subject, &request), Err(DecisionError::TimeBudget));
}

struct NoHeaders;

impl HeaderSource for NoHeaders {
    fn for_each(&self, _: &mut dyn FnMut(&str, &str)) {}
}
