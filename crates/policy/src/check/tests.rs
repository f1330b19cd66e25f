use super::*;
use crate::compile::Prepared;
use crate::input::shape::InputShape;
use crate::problem::PolicyErrors;
use crate::set::{Limits, PolicySet, Source};

fn prepared(sources: &[(&str, &str)], rule: &str) -> Result<Prepared, PolicyErrors> {
    let sources = sources.iter().map(|(path, text)| Source::new(*path, text.as_bytes())).collect();
    Prepared::of(&PolicySet::new(sources, rule, Limits::default()))
}

/// All problems as text, whether they refuse the set or not.
fn found(sources: &[(&str, &str)], rule: &str) -> Vec<String> {
    let problems = match prepared(sources, rule) {
        Ok(prepared) => prepared.warnings().to_vec(),
        Err(errors) => errors.problems().to_vec(),
    };
    problems.iter().map(ToString::to_string).collect()
}

/// The problems of one module whose deciding rule is fine.
fn in_module(text: &str) -> Vec<String> {
    found(&[("p.rego", &format!("package p\ndefault allow := false\n{text}\n"))], "data.p.allow")
}

fn one(text: &str) -> String {
    let found = in_module(text);
    assert_eq!(found.len(), 1, "{text}: {found:?}");
    found[0].clone()
}

#[test]
fn unknown_functions_are_found_where_no_request_reaches() {
    assert_eq!(
        one("allow if {\n\tfalse\n\tstartwith(input.request.path, \"/\")\n}"),
        "p.rego:5:2: error: unknown function `startwith`\n  help: did you mean `startswith`?"
    );
    assert!(one("f(x) := nope(x)").starts_with("p.rego:3:9: error: unknown function `nope`"));
    assert!(one("x := [y | y := nope(1)]").contains("`nope`"));
    assert!(one("x := {\"a\": {nope(1)}}").contains("`nope`"));
    assert!(one("x if { every y in [1] { nope(y) } }").contains("`nope`"));
    assert!(one("x if { 1 == 1 with input.x as nope(1) }").contains("`nope`"));
    assert!(one("x := 1 if false else := nope(1)").contains("`nope`"));
    assert!(one("x := 1 if not nope(1)").contains("`nope`"));
    assert!(one("x := data.other.f(1)").contains("`data.other.f`"));
    assert!(one("default x := 1\nx := [1, 2][nope(1)]").contains("`nope`"));
    assert!(one("x contains nope(1)").contains("`nope`"));
    assert!(one("x[nope(1)] := 1").contains("`nope`"));
    assert!(one("x := count(nope(1))").contains("`nope`"));
}

#[test]
fn all_unknown_functions_are_reported_at_once() {
    let found = in_module("x := nope(1)\ny := nada(nope(2))");
    assert_eq!(found.len(), 3, "{found:?}");
}

#[test]
fn builtins_that_reach_outside_are_refused_by_name() {
    for call in [
        "http.send({\"method\": \"get\", \"url\": \"http://x\"})",
        "opa.runtime()",
        "net.lookup_ip_addr(\"x\")",
        "print(\"x\")",
        "trace(\"x\")",
        "yaml.unmarshal(\"a: 1\")",
        "crypto.sha1(\"x\")",
        "net.cidr_merge([])",
        "io.jwt.decode(\"x\")",
        "walk(input)",
        "rego.parse_module(\"a\", \"b\")",
    ] {
        let found = one(&format!("x if {call}"));
        assert!(found.contains(" is refused\n  help: "), "{found}");
    }
}

#[test]
fn known_functions_are_found_through_every_kind_of_name() {
    let library = "package lib.deep\nf(x) := x\ndefault g(_) := 1\ng(x) := 2 if x == 1\n";
    let module = "package p\nimport data.lib.deep\nimport data.lib.deep as d\nimport data.lib.deep.f as ff\n\
        default allow := false\n\
        own(x) := x\n\
        a := own(1)\nb := deep.f(1)\nc := d.g(1)\ne := data.lib.deep.f(1)\nh := data.p.own(1)\ni := ff(1)\n\
        j := data[\"lib\"][\"deep\"].f(1)\nk := data.lib.deep.g(2)\n\
        l if own(1, 1)\nm if count([1], 1)\n";
    assert_eq!(found(&[("p.rego", module), ("lib.rego", library)], "data.p.allow"), [""; 0]);
}

#[test]
fn a_misspelt_data_document_is_worth_a_word() {
    let data = r#"{"tenants": {"acme": {"limits": {"requests": 1}}}, "t1": 1}"#;
    let one = |reference: &str| {
        let policy =
            format!("package p\ndefault allow := false\nallow if input.request.method == {reference}\n");
        found(&[("p.rego", &policy), ("data.json", data)], "data.p.allow")
    };
    let warning = |path: &str, near: &str| {
        [format!(
            "p.rego:3:34: warning: no data document holds `{path}`\n  help: it is undefined; did you mean `{near}`?"
        )]
    };
    assert_eq!(one("data.tennants.acme"), warning("data.tennants.acme", "data.tenants"));
    assert_eq!(one("data.tennants[input.client.name]"), warning("data.tennants", "data.tenants"));
    let limit = "data.tenants.acme.limit.requests";
    assert_eq!(one(limit), warning(limit, "data.tenants.acme.limits"));
    for meant in ["data.tenants.acme.limits", "data.tenants.globex", "data.maintenance.until", "data.t2"] {
        assert_eq!(one(meant), [""; 0], "{meant}");
    }
}

#[test]
fn wrong_numbers_of_arguments_are_reported() {
    assert_eq!(one("x := count(1, 2, 3)"), "p.rego:3:6: error: `count` takes 1 arguments, here are 3");
    assert_eq!(one("f(x) := x\ny := f()"), "p.rego:4:6: error: `data.p.f` takes 1 arguments, here are 0");
}

#[test]
fn recursion_is_found_in_every_form() {
    for (text, cycle) in [
        ("f(x) := f(x)", "data.p.f -> data.p.f"),
        ("f(x) := g(x)\ng(x) := f(x)", "data.p.f -> data.p.g -> data.p.f"),
        ("f(x) := data.p.f(x)", "data.p.f -> data.p.f"),
        ("f(x) := data[\"p\"].f(x)", "data.p.f -> data.p.f"),
        ("f(x) := [y | y := f(x)]", "data.p.f -> data.p.f"),
        ("f(x) := 1 if not f(x)", "data.p.f -> data.p.f"),
        ("f(x) := 1 if false else := f(x)", "data.p.f -> data.p.f"),
        ("f(x) if { every y in x { f(y) } }", "data.p.f -> data.p.f"),
        ("f(x) if { some y in f(x); y }", "data.p.f -> data.p.f"),
        ("f(x) := {\"a\": f(x)}", "data.p.f -> data.p.f"),
        ("f(x) if { 1 == 1 with input as f(x) }", "data.p.f -> data.p.f"),
        ("f(x) if { count([x]) == 1 with count as f }", "data.p.f -> data.p.f"),
        ("default f(_) := 1\nf(x) := f(x)", "data.p.f -> data.p.f"),
        ("r := r", "data.p.r -> data.p.r"),
        ("r := s\ns := r", "data.p.r -> data.p.s -> data.p.r"),
        ("r contains x if some x in r", "data.p.r -> data.p.r"),
        ("r[x] := 1 if x := r.a", "data.p.r -> data.p.r"),
        ("r := data.p[input.request.method]", "data.p.r -> data.p.r"),
        ("r := data.p", "data.p.r -> data.p.r"),
        ("r := count(data)", "data.p.r -> data.p.r"),
        ("r := f(1)\nf(x) := r", "data.p.f -> data.p.r -> data.p.f"),
        ("r.a := r.b\nr.b := r.a", "data.p.r.a -> data.p.r.b -> data.p.r.a"),
        ("r.a := s\ns := r", "data.p.r.a -> data.p.s -> data.p.r.a"),
    ] {
        let found = in_module(text);
        let cycles: Vec<&String> = found.iter().filter(|problem| problem.contains("recursion: ")).collect();
        assert!(cycles.iter().any(|problem| problem.contains(cycle)), "{text}: {found:?}");
    }
}

#[test]
fn recursion_is_found_across_modules_and_imports() {
    let a = "package a\nimport data.b.g\nimport data.b as bb\ndefault allow := false\nf(x) := g(x)\nh(x) := bb.k(x)\n";
    let b = "package b\nimport data.a\ng(x) := a.f(x)\nk(x) := a.h(x)\n";
    let found = found(&[("a.rego", a), ("b.rego", b)], "data.a.allow");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("data.a.f -> data.b.g -> data.a.f"), "{found:?}");
    assert!(found[1].contains("data.a.h -> data.b.k -> data.a.h"), "{found:?}");
}

#[test]
fn what_is_no_recursion_is_accepted() {
    for text in [
        "f(x) := x\ng(x) := f(f(x))",
        "role := \"x\" if has(\"x\")\nhas(role) := role == \"x\"",
        "user := input.client.name\nok if { user := \"x\"; is(user) }\nis(user) if user == data.users",
        "r := data.roles[input.request.method]",
        "f(x) := x\nr := [f(x) | some x in [1]]\ns := f(r)",
        "a := b\nb := c\nc := 1\nd := [a, b, c]",
    ] {
        assert_eq!(in_module(text), [""; 0], "{text}");
    }
}

#[test]
fn chains_are_limited_and_fit_the_stack() {
    let chain = |links: usize| {
        let mut text = String::new();
        for link in 0..links {
            let body = "some z in [x]\n every q in [z] { q == z }\n y := [w | some w in [z]][0]";
            text.push_str(&format!("f{link}(x) := r if {{\n {body}\n r := f{}(y)\n}}\n", link + 1));
        }
        text.push_str(&format!("f{links}(x) := x\nallow if f0(1) == 1\n"));
        text
    };
    let longest = (1..).find(|links| !in_module(&chain(*links)).is_empty()).unwrap() - 1;
    assert!((20..200).contains(&longest), "{longest}");
    let found = in_module(&chain(longest + 1));
    assert!(found.len() == 1 && found[0].contains("too long for the stack"), "{found:?}");
    // The longest that is accepted runs on a stack that no worker is smaller than.
    let policy = format!("package p\ndefault allow := false\n{}", chain(longest));
    let evaluate = move || {
        let set = PolicySet::new(vec![Source::new("p.rego", policy.as_bytes())], "data.p.allow", roomy());
        let policy = crate::compile(&set).unwrap();
        policy
            .worker()
            .decide(&crate::input::sample::subject(), &crate::input::sample::request())
            .unwrap()
            .allowed
    };
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(evaluate).unwrap();
    assert!(thread.join().unwrap());
}

/// Half of what a thread has by default.
const STACK_BYTES: usize = 1024 * 1024;

fn roomy() -> Limits {
    Limits { time_budget: std::time::Duration::from_secs(10), ..Limits::default() }
}

#[test]
fn wide_and_deep_rules_are_refused() {
    let statements = |count: usize| format!("x if {{\n{}}}", "true\n".repeat(count));
    assert_eq!(in_module(&statements(500)), [""; 0]);
    assert!(one(&statements(501)).contains("body has 501 statements"));
    let parameters = |count: usize| {
        let names: Vec<String> = (0..count).map(|n| format!("a{n}")).collect();
        format!("f({}) := 1", names.join(", "))
    };
    assert!(one(&parameters(32)).contains("warning: function has 32 parameters"));
    assert!(one(&parameters(33)).contains("error: function has 33 parameters"));
    let deep =
        format!("x := {}1{}", "[".repeat(7), " + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1]".repeat(7));
    let found = in_module(&deep);
    assert!(found.len() == 1 && found[0].contains("expressions deep, more than 80"), "{found:?}");
}

#[test]
fn the_deciding_rule_has_to_exist() {
    let module = (
        "p.rego",
        "package p.q\ndefault allow := false\nother := 1\nf(x) := x\ns contains 1\nd.allowed := true\n",
    );
    let at = |rule: &str| found(&[module], rule);
    assert_eq!(at("data.p.q.allow"), [""; 0]);
    assert_eq!(
        at("data.p.q.alow"),
        ["error: no rule `data.p.q.alow`\n  help: did you mean `data.p.q.allow`?"]
    );
    assert!(at("data.p.q.d")[0].contains("`data.p.q.d.allowed` gives a part of it only"));
    assert!(at("data.p.q")[0].contains("gives a part of it only"));
    assert!(at("data.p.q.f")[0].contains("p.rego:4:1: error: deciding rule `data.p.q.f` is a function"));
    assert!(at("data.p.q.s")[0].contains("is a set"));
    for rule in ["", "allow", "data", "data.p", "p.q.allow", "data.p.q.allow[0]", "data..allow", "data.p.1x"]
    {
        assert_eq!(at(rule).len(), 1, "{rule}");
    }
    assert!(found(&[], "data.p.q.allow")[0].contains("no `.rego` file"));
    // A rule of a test file decides nothing.
    let test = ("p_test.rego", "package p.t\ndefault allow := true\n");
    assert!(found(&[module, test], "data.p.t.allow")[0].contains("no rule `data.p.t.allow`"));
}

#[test]
fn results_of_a_wrong_type_are_seen_in_the_text() {
    let at = |text: &str| found(&[("p.rego", &format!("package p\n{text}\n"))], "data.p.allow");
    for (value, name) in [
        ("\"yes\"", "a string"),
        ("`yes`", "a string"),
        ("1", "a number"),
        ("null", "null"),
        ("[true]", "an array"),
        ("{1, 2}", "a set"),
        ("{x | some x in [1]}", "a set"),
    ] {
        let found = at(&format!("default allow := false\nallow := {value}"));
        assert!(found.iter().any(|problem| problem.contains(&format!("error: deciding rule `data.p.allow` gives {name}"))), "{found:?}");
    }
    assert!(at("default allow := \"no\"")[0].contains("gives a string"));
    assert!(
        at("default allow := false\nallow := true if false else := 1")
            .iter()
            .any(|problem| problem.contains("gives a number"))
    );
    assert_eq!(at("default allow := {\"allowed\": false}\nallow := {\"allowed\": true} if true"), [""; 0]);
}

#[test]
fn a_missing_or_allowing_default_is_told() {
    let at = |text: &str| found(&[("p.rego", &format!("package p\n{text}\n"))], "data.p.allow");
    assert!(
        at("allow if input.client.verified")[0]
            .starts_with("p.rego:2:1: warning: deciding rule `data.p.allow` has no default")
    );
    assert_eq!(at("allow := true"), [""; 0]);
    assert!(at("default allow := true")[0].contains("allows by default"));
    assert!(at("default allow := {\"allowed\": true}")[0].contains("allows by default"));
    assert!(at("default allow := {\"rule\": \"x\", \"allow\": true}")[0].contains("allows by default"));
}

#[test]
fn documents_may_not_stand_where_rules_are() {
    let module = ("p.rego", "package p.q\ndefault allow := false\nr.s := 1\n");
    let with = |json: &'static str| found(&[module, ("data.json", json)], "data.p.q.allow");
    assert_eq!(with(r#"{"p": {"roles": 1, "q": {"table": {}}}}"#), [""; 0]);
    let hidden = with(r#"{"p": {"q": {"allow": true}}}"#);
    assert_eq!(
        hidden,
        [
            "p.rego:2:9: error: a data document gives `data.p.q.allow`, where this rule is\n  help: rename the key in the document"
        ]
    );
    assert_eq!(with(r#"{"p": {"q": 1}}"#).len(), 2);
    assert_eq!(with(r#"{"p": {"q": {"r": {"s": 2}}}}"#).len(), 1);
}

#[test]
fn misspelt_inputs_are_errors() {
    assert_eq!(
        one("x := input.request.mehtod"),
        "p.rego:3:6: error: `input.request.mehtod` is not part of the input\n  help: did you mean `method`?"
    );
    assert!(one("x := input.requets.method").contains("did you mean `request`?"));
    assert!(one("x := input.client.san.urls").contains("known are: dns, email, ip, uri"));
    assert!(one("x := input.request.path.x").contains("`input.request.path` has no fields"));
    assert!(one("x if not input.client.verifed").contains("did you mean `verified`?"));
    assert!(
        found(
            &[("p.rego", "package p\nimport input.request as r\ndefault allow := false\nx := r.nope")],
            "data.p.allow"
        )[0]
        .contains("`input.request.nope`")
    );
    assert!(
        found(
            &[("p.rego", "package p\nimport input.nope\ndefault allow := false\nx := nope.a")],
            "data.p.allow"
        )[0]
        .contains("`input.nope`")
    );
    for text in [
        "x := input.request.headers[\"x-a\"]",
        "x := input.request.headers.anything",
        "x := input.request[input.request.method]",
        "x := input.request.segments[0]",
        "x := input.client.san.uri[_]",
        "x := input.route.labels.team",
        "x := input.client.extensions[\"1.2.3\"]",
        "x := input",
    ] {
        assert_eq!(in_module(text), [""; 0], "{text}");
    }
}

#[test]
fn header_fields_that_no_request_has_are_refused() {
    assert_eq!(
        one("x if not input.request.headers[\"X-Team\"]"),
        "p.rego:3:10: error: header `X-Team` is never there, since names are in lower case\n  help: write \"x-team\""
    );
    for text in [
        "x if input.request.headers_all.Accept[0] == \"a\"",
        "x if object.get(input.request.headers, \"X-Team\", \"\") == \"a\"",
        "x if [y | y := input.request.headers[\"X-Team\"]] == []",
        "x if {\"a\": 1}[input.request.headers[\"X-Team\"]]",
    ] {
        assert!(one(text).contains("since names are in lower case"), "{text}");
    }
    let imported =
        "package p\nimport input.request.headers as h\ndefault allow := false\nx := h[\"X-Team\"]\n";
    assert!(
        found(&[("p.rego", imported)], "data.p.allow")[0].starts_with("p.rego:4:6: error: header `X-Team`")
    );
    // What a client says about its certificate is hidden from policies.
    for text in [
        "x if input.request.headers[\"client-cert\"] == \"a\"",
        "x if input.request.headers[\"X_Forwarded_Client_Cert\"]",
        "x if object.get(input.request.headers_all, \"x-ssl-client-dn\", []) == []",
        "x if header(\"Client-Cert\") == \"\"",
    ] {
        assert!(one(text).contains("since clients cannot say who they are by it"), "{text}");
    }
    for text in [
        "x if input.request.headers[\"x-team\"] == \"A\"",
        "x if header(\"X-Team\") == \"a\"",
        "x if object.get(input.request.query, \"Team\", []) == []",
        "x if input.request.query.Team[0] == \"a\"",
        "x if input.request.headers[input.request.method] == \"a\"",
        "x if object.get({\"A\": 1}, \"A\", 0) == 1",
    ] {
        assert_eq!(in_module(text), [""; 0], "{text}");
    }
}

#[test]
fn negations_over_what_may_be_missing_are_refused() {
    for text in [
        "x if not startswith(input.request.headers[\"x-a\"], \"1\")",
        "x if not input.request.headers.a > 3",
        "x if not \"a\" in input.request.headers_all.a",
        "x if not input.request.query.q[0] != \"1\"",
        "x if not f(input.route.params.id)\nf(y) := y",
        "x if not lower(input.request.headers[input.request.method]) == \"x\"",
    ] {
        let found = one(text);
        // `not a == b` agrees with OPA only if neither side is a call.
        assert!(found.contains("error: negation would hold when `input."), "{text}: {found}");
    }
    assert_eq!(
        one("x if {\n\ttrue\n\tnot startswith(role, \"a\")\n}\nrole := \"a\" if input.request.path == \"/\""),
        "p.rego:5:6: error: negation would hold when `role` is missing; in OPA it would not\n  help: bind the value in a \
         statement before it (`x := ...`), or give what is missing a value: `header(\"x-a\")` for a header field, `object.get` for \
         others"
    );
    for (text, missing) in [
        ("x if not f(g(1))\nf(y) := y\ng(y) := y if y > 1", "the result of `g`"),
        ("x if not max(input.client.san.uri) > 3", "the result of `max`"),
        ("x if not startswith(data.absent.y, \"a\")", "`data.absent.y`"),
        ("x if not startswith(input.client.san.uri[0], \"a\")", "`input.client.san.uri[...]`"),
        (
            "x if { is_object(input.request.body.json); not startswith(input.request.body.json.a, \"b\") }",
            "`input.request.body.json.a`",
        ),
        ("x if not {\"a\": 1}[input.request.headers.a]", "`input.request.headers.a`"),
        ("x if { y := {}; not startswith(y.z, \"a\") }", "`y.z`"),
        ("x if { y := f(1); not startswith(y[0], \"a\") }\nf(y) := [y]", "`y[...]`"),
        ("x if not startswith(input.request.path, \"a\")\ny if x with input as {}", "`input.request.path`"),
        ("x if not r.y > 1\nr := {\"y\": 1}", "`r.y`"),
    ] {
        let found = one(text);
        assert!(
            found.contains(&format!("error: negation would hold when {missing} is missing")),
            "{text}: {found}"
        );
    }
    for text in [
        "x if not input.request.headers[\"x-a\"]",
        "x if not startswith(input.request.body.text, \"a\")",
        "x if not input.request.body.size > 3",
        "x if not input.request.headers[\"x-a\"] == \"1\"",
        "x if not startswith(object.get(input.request.headers, \"x-a\", \"\"), \"1\")",
        "x if not startswith(input.request.path, \"/a\")",
        "x if startswith(input.request.headers[\"x-a\"], \"1\")",
        "x if { y := input.request.headers.a; not startswith(y, \"1\") }",
        "x if not count([y | y := input.request.headers.a]) > 1",
        "x if not startswith(r, \"a\")\ndefault r := \"\"\nr := input.request.headers.a",
        "x if not f(1) > 1\ndefault f(_) := 0\nf(y) := y if y > 1",
        "x if not f(input.request.path) == \"a\"\nf(y) := lower(y)",
        "x if not input.request.method in methods\nmethods := {\"GET\", other}\nother := \"PUT\"",
        "x if not \"a\" in names\nnames contains y if some y in input.client.san.dns",
        "x if not names[input.request.method]\nnames contains \"a\"",
        "x if { some y in [1]; not y > 1 }",
        "f(y) if not startswith(y, \"a\")",
    ] {
        assert_eq!(in_module(text), [""; 0], "{text}");
    }
}

#[test]
fn a_negation_that_a_client_can_make_hold_is_warned_about() {
    let warned = "warning: negation holds also when the body is not JSON, or not all of it was read";
    for text in [
        "x if not input.request.body.json.admin",
        "x if { input.request.method == \"POST\"; not input.request.body.json.role == \"admin\" }",
        "x if { y := [1 | not input.request.body.json.admin]; count(y) == 0 }",
        "x if count([role | role := input.request.body.json.roles[_]; role == \"admin\"]) == 0",
        "x if not r\nr if input.request.body.json.role == \"admin\"",
        "x if not r\nr if f(1)\nf(y) if input.request.body.json.role == y",
    ] {
        assert!(one(text).contains(warned), "{text}");
    }
    let import = "package p\nimport input.request.body.json as order\ndefault allow := false\nallow if not order.express\n";
    let imported = found(&[("p.rego", import)], "data.p.allow");
    assert!(imported.len() == 1 && imported[0].contains(warned), "{imported:?}");
    for text in [
        "x if { is_object(input.request.body.json); not input.request.body.json.admin }",
        "x if { order := input.request.body.json; not order.admin }",
        "x if { input.request.body.json.type == \"order\"; not input.request.body.json.express }",
        "x if { r; not input.request.body.json.express }\nr if input.request.body.json.type == \"order\"",
        "x if not input.request.body.truncated",
    ] {
        assert_eq!(in_module(text), [""; 0], "{text}");
    }
}

#[test]
fn arithmetic_with_fractions_is_refused() {
    assert_eq!(
        one("x if input.connection.local_port * 0.1 > 3"),
        "p.rego:3:6: error: arithmetic may round otherwise than OPA's, since `0.1` gives fractions\n  help: reckon in whole \
         numbers of a smaller unit (milliseconds, cents), or round each operand with `floor`, `ceil` or `round`"
    );
    for text in [
        "x if { y := 0.1; y + 1 > 3 }",
        "x if to_number(input.request.headers.a) * 3 > 1",
        "x if { y := json.unmarshal(input.request.headers.a); y + 1 > 3 }",
        "x if count([1]) / 3 + 1 > 3",
        "x if sum([y | y := to_number(input.request.headers.a)]) > 3",
        "x := 1 + 1e1",
        "x if input.request.body.json.amount * 3 > 1",
        "x if { y := input.request.body; y.json.amount + 1 > 3 }",
        "x if sum(input.request.body.json.amounts) > 3",
        "x if input.request[input.request.method].json.amount + 1 > 3",
    ] {
        assert!(one(text).contains("arithmetic may round"), "{text}");
    }
    for (text, number) in [
        ("x := 18446744073709551616", "18446744073709551616"),
        ("x if input.connection.local_port == 0.1000000000000000000001", "0.1000000000000000000001"),
        ("x := 9007199254740993.0", "9007199254740993.0"),
    ] {
        assert!(one(text).contains(&format!("number `{number}` has more digits than are kept")), "{text}");
    }
    for text in [
        "x if { y := count([1]); y + 1 > 3 }",
        "x if floor(to_number(input.request.headers.a)) * 3 > 1",
        "x if to_number(input.request.headers.a) > 0.1",
        "x := 1.5",
        "x := -1",
        "x := 18446744073709551615",
        "x := {1, 2} - {y | y := round(0.5)}",
        "x if input.time.unix_s - 3600 > 10.5",
        "x if { input.request.body.json.amount > 0.1; input.request.body.size + 1 > 3 }",
        "x if floor(input.request.body.json.amount) * 3 > 1",
    ] {
        assert_eq!(in_module(text), [""; 0], "{text}");
    }
    let module = ("p.rego", "package p\ndefault allow := false\nallow if data.rate * 2 > 1\n");
    assert_eq!(found(&[module, ("d.json", r#"{"rate": 3}"#)], "data.p.allow"), [""; 0]);
    let fraction = found(&[module, ("d.json", r#"{"rate": 0.3}"#)], "data.p.allow");
    assert!(fraction[0].contains("since a data document has fractions"), "{fraction:?}");
}

#[test]
fn names_of_other_gateways_are_told_apart_from_typos() {
    assert_eq!(
        one("x if input.attributes.request.http.path == \"/\""),
        "p.rego:3:6: error: `input.attributes` is not part of the input\n  help: other gateways have it; here it is \
         `input.request, input.connection`, or choose their input (`envoy-v3`, `kong`)"
    );
    assert!(one("x if input.parsed_path[0] == \"a\"").contains("here it is `input.request.segments`"));
}

#[test]
fn patterns_that_are_none_are_refused() {
    assert_eq!(
        one("x if glob.match(\"/a/***\", [\"/\"], input.request.path)"),
        "p.rego:3:18: error: `glob.match` pattern `/a/***` is invalid: more than two stars in a row\n  help: every request that \
         reaches it would be denied; `DIFFERENCES.md` says what differs from OPA"
    );
    for text in [
        "x if glob.match(\"[a\", null, input.request.path)",
        "x if glob.match(\"{a*,b}c\", [], input.request.path)",
        "x if glob.match(\"*?\", [\"/\", \".\"], input.request.path)",
        "x if regex.match(`(?=a)`, input.request.path)",
        "x if regex.match(`a{1001}`, input.request.path)",
        "x := regex.split(`(`, input.request.path)",
        "x := regex.find_n(`(`, input.request.path, 1)",
        "x := regex.replace(input.request.path, `(`, \"\")",
        "x := regex.find_all_string_submatch_n(`(`, input.request.path, 1)",
    ] {
        assert!(one(text).contains("error: "), "{text}");
    }
    for text in [
        "x if glob.match(\"*?\", [\"/\"], input.request.path)",
        "x if glob.match(input.request.path, [], \"[\")",
        "x if regex.match(`^/a/\\d+$`, input.request.path)",
        "x := regex.is_valid(`(`)",
    ] {
        assert_eq!(in_module(text), [""; 0], "{text}");
    }
}

#[test]
fn omitted_fields_of_certificates_are_refused() {
    let parsed = "c := crypto.x509.parse_certificates(input.request.headers.a)[0]";
    assert_eq!(
        one(&format!("{parsed}\nx if not c.PermittedDNSDomains")),
        "p.rego:4:10: error: field `PermittedDNSDomains` of a parsed certificate is not available\n  help: compare another field"
    );
    assert!(one(&format!("{parsed}\nx if c[\"URIs\"][0]")).contains("field `URIs`"));
    assert!(one(&format!("{parsed}\nx if object.get(c, \"Raw\", 1) == 1")).contains("field `Raw`"));
    assert_eq!(in_module(&format!("{parsed}\nx if c.Subject.CommonName == \"a\"")), [""; 0]);
    assert_eq!(in_module("x if data.Raw"), [""; 0]);
}

#[test]
fn many_literal_rules_are_told() {
    let rules = |count: usize, condition: &str| {
        (0..count).map(|n| format!("x if {}\n", condition.replace('N', &n.to_string()))).collect::<String>()
    };
    for condition in [
        "input.request.path == \"/N\"",
        "\"/N\" == input.request.path",
        "startswith(input.request.path, \"/N\")",
        "glob.match(\"/N/*\", [\"/\"], input.request.path)",
        "input.request.path in {\"/N\", \"/\"}",
    ] {
        assert_eq!(in_module(&rules(50, condition)), [""; 0], "{condition}");
        assert_eq!(
            one(&rules(51, condition)),
            "p.rego:3:1: warning: `data.p.x` has 51 definitions that compare with literals\n  help: each is tried for each \
             request: put what differs into a table in a data document and look it up"
        );
    }
    assert_eq!(in_module(&rules(60, "input.request.path == data.paths[N]")), [""; 0]);
}

#[test]
fn ranges_of_unknown_length_and_many_parameters_are_told() {
    assert_eq!(
        one("x if count(numbers.range(1, count(input.request.segments))) > 3"),
        "p.rego:3:12: warning: length of `numbers.range` is not known before the evaluation\n  help: more than 10000 elements \
         are an error, which denies; bound the number first"
    );
    assert_eq!(in_module("x if count(numbers.range(1, 10)) > 3"), [""; 0]);
    assert_eq!(
        one("f(a, b, c, d, e, g, h, i, j) := 1"),
        "p.rego:3:1: warning: function has 9 parameters, more than 8\n  help: pass an object"
    );
    assert_eq!(in_module("f(a, b, c, d, e, g, h, i) := 1"), [""; 0]);
}

#[test]
fn objects_as_patterns_are_refused() {
    for text in [
        "x if {\"role\": y} := data.user",
        "x if [{\"role\": \"a\"}, _] := data.users",
        "x if some {\"role\": \"a\"} in data.users",
        "x if some [_, {\"role\": y}] in data.users",
        "f({\"role\": y}) := y",
        "f([{\"role\": y}]) := y",
        "x if {\"role\": _} = data.user",
        "x if data.user = {\"role\": [y]}",
    ] {
        assert!(one(text).contains("error: object as a pattern would fit"), "{text}");
    }
    for text in [
        "x if {\"role\": \"a\"} == data.user",
        "x if {\"role\": \"a\"} = data.user",
        "x if { y := {\"role\": input.request.method}; y.role == \"a\" }",
        "x if [_, y] := data.pair",
        "x if { some y in [{\"role\": 1}]; y.role == 1 }",
    ] {
        assert_eq!(in_module(text), [""; 0], "{text}");
    }
}

#[test]
fn undefined_names_are_found_where_no_request_reaches() {
    assert_eq!(
        one("grant := 1\nx := grnat"),
        "p.rego:4:6: error: undefined variable `grnat`\n  help: did you mean `grant`?"
    );
    for text in [
        "x := y",
        "x := [y]",
        "x := {\"a\": y}",
        "x := count(y)",
        "x := y.z.w",
        "x := y[0]",
        "f(a) := y",
        "f(a) := [a, y]",
        "x contains y",
        "x contains y if true",
        "x := 1 if false else := y",
        "x := [z | some z in y]",
        "x if y",
        "x if not y",
        "x if not count(y) == 1",
    ] {
        let found = in_module(text);
        assert!(found.len() == 1 && found[0].contains("undefined variable `y`"), "{text}: {found:?}");
    }
    for text in [
        "x := y if y := 1",
        "x := y if some y in [1]",
        "x := y if input.client.san.uri[y] == \"\"",
        "x := [1, 2][i]",
        "x := [y | y := 1]",
        "x := [y | some y in [1]]",
        "x := {k: v | some k, v in input.request.headers}",
        "x contains y if some y in [1]",
        "x[y] := 1 if some y in [1]",
        "f([a, [b]]) := [a, b]",
        "x := 1 if false else := y if y := 2",
        "x := y\ny := 1",
        "x := y.z\ny.z := 1",
        "x := input.request.method",
        "x if every v in [1] { v == 1 }",
    ] {
        assert_eq!(in_module(text), [""; 0], "{text}");
    }
}

#[test]
fn references_into_packages_lead_somewhere() {
    assert_eq!(
        one("denied if true\nx if not data.p.dneied"),
        "p.rego:4:10: error: nothing is defined at `data.p.dneied`\n  help: did you mean `data.p.denied`?"
    );
    let library = ("lib.rego", "package lib.a\nr.s := 1\nf(x) := x\n");
    let with = |text: &str| {
        let module = format!("package p\n{text}\ndefault allow := false\n");
        found(
            &[library, ("p.rego", &module), ("d.json", r#"{"lib": {"a": {"table": {"k": 1}}, "b": 1}}"#)],
            "data.p.allow",
        )
    };
    assert!(with("import data.lib.a.t\nx := t")[0].contains("nothing is defined at `data.lib.a.t`"));
    assert!(with("x := data.lib.a.q")[0].contains("nothing is defined"));
    assert!(with("x if count(data.lib.a[\"q\"]) == 1")[0].contains("nothing is defined"));
    for text in [
        "import data.lib.a\nx := a.r.s",
        "x := data.lib.a.r",
        "x := data.lib.a.r.s.more",
        "x := data.lib.a.table.k",
        "x := data.lib.a.table[input.request.method]",
        "x := data.lib.a[input.request.method]",
        "x := data.lib",
        "x := data.lib.b",
        "x := data.absent.anything",
        "x := data.lib.a.f(1)",
    ] {
        assert_eq!(with(text), [""; 0], "{text}");
    }
}

#[test]
fn edit_distance() {
    for (a, b, expected) in
        [("", "", 0), ("a", "", 1), ("method", "mehtod", 1), ("abc", "abd", 1), ("abc", "xyz", 3)]
    {
        assert_eq!(distance(a, b), expected);
    }
    assert_eq!(nearest("zzz", ["method"].into_iter()), None);
}

#[test]
fn following_rules_ends() {
    let mut text = String::from("x if not f0(1) > 1\n");
    for link in 0..40 {
        let calls = vec![format!("f{}(y)", link + 1); 20].join(", ");
        text.push_str(&format!("f{link}(y) := [{calls}]\n"));
    }
    text.push_str("f40(y) := y\n");
    assert!(in_module(&text).iter().any(|found| found.contains("the result of `f0` is missing")));
    // Also where rules turn in a circle, which is reported elsewhere.
    assert!(in_module("x if not f(1) > 1\nf(y) := f(y)").len() == 2);
}

fn in_shape(shape: InputShape, body: &str) -> Vec<String> {
    let text = format!("package p\ndefault allow := false\nallow if {{ {body} }}\n");
    let set = PolicySet::new(vec![Source::new("p.rego", text.as_bytes())], "data.p.allow", Limits::default());
    match Prepared::of(&set.with_input(shape)) {
        Ok(prepared) => prepared.warnings().iter().map(ToString::to_string).collect(),
        Err(errors) => errors.problems().iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn what_a_shape_does_not_have_is_told() {
    for (shape, path, help) in [
        (InputShape::EnvoyV3, "attributes.request.http.mehtod", "did you mean `method`?"),
        (
            InputShape::EnvoyV3,
            "attributes.request.http.query",
            "Envoy never fills it: use `input.parsed_query`",
        ),
        (InputShape::EnvoyV3, "attributes.source.certificate", "use the claims in"),
        (InputShape::EnvoyV3, "source_principal", "here it is `input.attributes.source.principal`"),
        (InputShape::EnvoyV3, "client.tenant", "filterMetadata.ringward.client`"),
        (
            InputShape::EnvoyV3,
            "attributes.metadataContext.filterMetadata.ringward.client.tenan",
            "did you mean `tenant`?",
        ),
        (InputShape::Kong, "request.http.querystrin.a", "did you mean `querystring`?"),
        (InputShape::Kong, "consumer.custom_id", "use `input.ringward.client`"),
        (InputShape::Kong, "client.tenant", "here it is `input.ringward.client`"),
    ] {
        let found = in_shape(shape, &format!("input.{path} == \"a\""));
        assert_eq!(found.len(), 1, "{path}: {found:?}");
        assert!(
            found[0].contains(&format!("is not part of the input `{shape}`")) && found[0].contains(help),
            "{found:?}"
        );
    }
}

/// Each of these can be missing, and OPA would take the body for undefined.
#[test]
fn a_negation_over_what_a_shape_may_lack_is_refused() {
    for (shape, path) in [
        (InputShape::EnvoyV3, "attributes.source.principal"),
        (InputShape::EnvoyV3, "attributes.tlsSession.sni"),
        (InputShape::EnvoyV3, "attributes.contextExtensions.team"),
        (InputShape::EnvoyV3, "attributes.request.http.body"),
        (InputShape::EnvoyV3, "attributes.request.http.headers[\"x-a\"]"),
        (InputShape::EnvoyV3, "parsed_body.name"),
        (InputShape::Kong, "consumer.username"),
        (InputShape::Kong, "request.http.querystring.a"),
        (InputShape::Kong, "request.http.parsed_body.name"),
    ] {
        let found = in_shape(shape, &format!("not startswith(input.{path}, \"a\")"));
        assert!(found[0].contains("negation would hold when"), "{path}: {found:?}");
    }
    for (shape, path) in [
        (InputShape::EnvoyV3, "attributes.request.http.method"),
        (InputShape::EnvoyV3, "attributes.request.http.headers[\":path\"]"),
        (InputShape::EnvoyV3, "attributes.metadataContext.filterMetadata.ringward.client.tenant"),
        (InputShape::Kong, "client_ip"),
        (InputShape::Kong, "route.name"),
    ] {
        assert_eq!(in_shape(shape, &format!("not startswith(input.{path}, \"a\")")), [""; 0], "{path}");
    }
}

#[test]
fn numbers_of_a_body_may_be_fractions() {
    for (shape, path) in
        [(InputShape::EnvoyV3, "parsed_body"), (InputShape::Kong, "request.http.parsed_body")]
    {
        for body in [
            format!("input.{path}.price * 3 > 1"),
            format!("price := input.{path}.price; price + 1 > 1"),
            format!("sum(input.{path}.prices) > 1"),
        ] {
            let found = in_shape(shape, &body);
            assert!(
                found.len() == 1 && found[0].contains("since the body of a request may have fractions"),
                "{body}: {found:?}"
            );
        }
        assert_eq!(in_shape(shape, &format!("input.{path}.price > 1")), [""; 0]);
    }
}
