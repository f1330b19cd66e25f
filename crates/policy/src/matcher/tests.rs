use ringward_config::{HostPattern, Method, PathPattern};

use super::*;
use crate::input::sample;
use crate::input::subject::Claims;
use crate::input::view::RouteView;
use crate::matcher::rule::{Claim, ClientCondition, Words};
use crate::set::{Language, Limits, Source};

fn set(table: &str) -> PolicySet {
    PolicySet::without_rule(
        Language::Matcher,
        vec![Source::new("t.toml", table.as_bytes())],
        Limits::default(),
    )
}

fn matcher(table: &str) -> Matcher {
    prepare(&set(table)).unwrap_or_else(|problems| panic!("{problems:?}")).0
}

/// What the table is refused for.
fn errors(table: &str) -> String {
    crate::check(&set(table)).expect_err("the table is bad").to_string()
}

fn warnings(table: &str) -> Vec<String> {
    crate::check(&set(table)).unwrap().warnings.iter().map(ToString::to_string).collect()
}

/// The rule that decides about a request, which would otherwise be the sample's.
fn decide(
    table: &str,
    client: &Claims<'_>,
    change: impl FnOnce(&mut RequestView<'static>),
) -> Option<(Effect, String)> {
    let mut request = sample::request();
    change(&mut request);
    let matcher = matcher(table);
    let rule = matcher.find(&Facts::of(client), &request)?;
    Some((rule.effect, rule.name.to_string()))
}

fn allowed(table: &str, client: &Claims<'_>, change: impl FnOnce(&mut RequestView<'static>)) -> bool {
    decide(table, client, change).is_some_and(|(effect, _)| effect == Effect::Allow)
}

/// A rule that allows with these conditions.
fn allow(conditions: &str) -> String {
    format!("[[rule]]\nname = \"a\"\neffect = \"allow\"\n{conditions}\n")
}

fn deny(name: &str, conditions: &str) -> String {
    format!("[[rule]]\nname = {name:?}\neffect = \"deny\"\n{conditions}\n")
}

/// Each condition, with values that the sample has and values that it has not.
#[test]
fn every_condition_holds_for_its_values_only() {
    let fingerprint = sample::claims().fingerprint_sha256.to_ascii_uppercase();
    let (fingerprint, other_fingerprint) = (format!("{fingerprint:?}"), format!("\"{}\"", "ab".repeat(32)));
    for (key, holds, fails) in [
        ("verified", "true", "false"),
        (
            "spiffe_id",
            "\"spiffe://example.com/ns/sample/sa/client\"",
            "\"spiffe://example.com/ns/sample/sa/other\"",
        ),
        ("spiffe_id", "\"spiffe://example.com/ns/*\"", "\"spiffe://example.com/ns/sam/*\""),
        ("spiffe_id", "\"spiffe://example.com/*\"", "\"spiffe://example.com\""),
        (
            "spiffe_id",
            "\"spiffe://example.com/ns/sample/sa/*\"",
            "\"spiffe://example.com/ns/sample/sa/client/*\"",
        ),
        ("spiffe_id", "[\"spiffe://a.com/b\", \"spiffe://example.com/*\"]", "\"spiffe://example.co/*\""),
        ("tenant", "[\"other\", \"example\"]", "\"exampl\""),
        ("dns", "\"Client.Example.com\"", "\"example.com\""),
        ("uri", "\"spiffe://example.com/ns/sample/sa/client\"", "\"spiffe://example.com\""),
        ("email", "\"client@example.com\"", "\"client\""),
        ("common_name", "\"client\"", "\"Client\""),
        ("organization", "\"Example\"", "\"example\""),
        ("ou", "\"Engineering\"", "\"Engineer\""),
        ("fingerprint", &fingerprint, &other_fingerprint),
        ("methods", "[\"GET\", \"HEAD\"]", "[\"HEAD\", \"POST\"]"),
        ("path", "\"/orders/{id}\"", "\"/orders\""),
        ("path", "\"/orders/{rest...}\"", "\"/orders/\""),
        ("path", "\"/{rest...}\"", "\"/ord\""),
        ("path", "\"/orders/17\"", "\"/orders/17/\""),
        ("path", "\"/{a}/17\"", "\"/{a}/{b}/{c}\""),
        ("host", "\"API.example.com\"", "\"example.com\""),
        ("host", "[\"x.com\", \"*.example.com\"]", "\"*.com\""),
        ("route", "\"orders\"", "\"order\""),
        ("headers", "{ accept = \"application/json\" }", "{ accept = \"application\" }"),
        (
            "headers",
            "{ Accept = [\"a\", \"application/json\"], user-agent = \"sample/1.0\" }",
            "{ x-none = \"\" }",
        ),
    ] {
        for (value, expected) in [(holds, true), (fails, false)] {
            let condition = format!("{key} = {value}");
            assert_eq!(allowed(&allow(&condition), &sample::claims(), |_| {}), expected, "{condition}");
            // Beside others that hold, none of which it is found by.
            let beside = format!(
                "{condition}\nmethods = [\"GET\"]\npath = \"/orders/{{id}}\"\nhost = \"api.example.com\"\n"
            );
            if !beside[condition.len()..].contains(&format!("{key} =")) {
                assert_eq!(allowed(&allow(&beside), &sample::claims(), |_| {}), expected, "{beside}");
            }
            let denied = matches!(
                decide(&format!("{}{}", allow(""), deny("d", &condition)), &sample::claims(), |_| {}),
                Some((Effect::Deny, _))
            );
            assert_eq!(denied, expected, "{condition}");
        }
    }
    let identity =
        |tenant: &str| allow(&format!("tenant = {tenant:?}\nidentity = {:?}", sample::claims().identity));
    assert!(allowed(&identity("example"), &sample::claims(), |_| {}));
    assert!(
        !allowed(&identity("other"), &sample::claims(), |_| {}),
        "another tenant's client of the same name"
    );
}

#[test]
fn a_client_without_certificate_matches_no_condition_on_clients() {
    let nobody = Claims::default();
    for condition in [
        "verified = true",
        "spiffe_id = \"spiffe://a.com/*\"",
        "tenant = \"a\"",
        "dns = \"a.com\"",
        "ou = \"A\"",
    ] {
        assert!(!allowed(&allow(condition), &nobody, |_| {}), "{condition}");
    }
    assert!(allowed(&allow("verified = false"), &nobody, |_| {}));
    assert!(allowed(&allow("path = \"/orders/{id}\""), &nobody, |_| {}));
}

#[test]
fn a_denial_wins_wherever_it_stands_and_nothing_matched_is_denied() {
    let (a, d) = (allow("path = \"/orders/{id}\""), deny("d", "path = \"/orders/17\""));
    for table in [format!("{a}{d}"), format!("{d}{a}")] {
        assert_eq!(
            decide(&table, &sample::claims(), |_| {}),
            Some((Effect::Deny, "d".to_owned())),
            "{table}"
        );
        assert!(allowed(&table, &sample::claims(), |request| request.path = "/orders/18"));
        assert_eq!(decide(&table, &sample::claims(), |request| request.path = "/"), None);
    }
    let two = format!("{}{}{a}", deny("first", "verified = true"), deny("second", "path = \"/orders/17\""));
    assert_eq!(decide(&two, &sample::claims(), |_| {}), Some((Effect::Deny, "first".to_owned())));
}

/// An encoded slash is a part of its segment, and a path that is none matches no template.
#[test]
fn paths_are_compared_by_segments() {
    let table = allow("path = [\"/files/{name}\", \"/public/{rest...}\"]");
    for (path, expected) in [
        ("/files/a", true),
        ("/files/a%2Fb", true),
        ("/files/a/b", false),
        ("/files/", false),
        ("/files", false),
        ("/files%2Fa", false),
        ("/filesystem/a", false),
        ("/public", false),
        ("/public/", true),
        ("/public/a/b/", true),
        ("/publicity/a", false),
        ("*", false),
        ("", false),
    ] {
        assert_eq!(allowed(&table, &sample::claims(), |request| request.path = path), expected, "{path}");
    }
}

/// A client that repeats a field must not get by what it may not have said once, nor hide what is denied behind something else.
#[test]
fn repeated_header_fields_neither_allow_nor_hide() {
    const TWICE: [(&str, &str); 2] = [("x-team", "red"), ("x-team", "blue")];
    let red = allow("headers = { x-team = \"red\" }");
    assert!(allowed(&red, &sample::claims(), |request| request.headers = &[("x-team", "red")]));
    assert!(!allowed(&red, &sample::claims(), |request| request.headers = &TWICE));
    let both = allow("headers = { x-team = [\"red\", \"blue\"] }");
    assert!(allowed(&both, &sample::claims(), |request| request.headers = &TWICE));
    for denied in ["red", "blue"] {
        let table = format!("{}{}", allow(""), deny("d", &format!("headers = {{ x-team = {denied:?} }}")));
        assert!(!allowed(&table, &sample::claims(), |request| request.headers = &TWICE), "{denied}");
        // Which is the same as both in one field (RFC 9110 §5.3).
        let in_one = |request: &mut RequestView<'_>| request.headers = &[("x-team", "red ,\tblue")];
        assert!(!allowed(&table, &sample::claims(), in_one), "{denied}");
    }
    assert!(!allowed(&red, &sample::claims(), |request| request.headers = &[("x-team", "red, blue")]));
}

#[test]
fn one_of_several_common_names_allows_nothing_and_denies_all() {
    let client = Claims { common_names: vec!["a".to_owned(), "b".to_owned()].into(), ..sample::claims() };
    for name in ["a", "b"] {
        let condition = format!("common_name = {name:?}");
        assert!(!allowed(&allow(&condition), &client, |_| {}));
        assert!(!allowed(&format!("{}{}", allow(""), deny("d", &condition)), &client, |_| {}));
    }
}

#[test]
fn a_decision_says_which_rule_and_why() {
    let table = format!(
        "{}reason = \"they may\"\n{}reason = \"suspended\"\nstatus = 451\n",
        allow("path = \"/orders/{id}\""),
        deny("no exports", "path = \"/exports\"")
    );
    let policy = crate::compile(&set(&table)).unwrap();
    let mut worker = policy.worker();
    let mut ask = |path| {
        let request = RequestView { path, ..sample::request() };
        worker.decide(&sample::subject(), &request).unwrap()
    };
    for _ in 0..2 {
        let decision = ask("/orders/17");
        assert!(decision.allowed && !decision.undefined);
        assert_eq!((decision.rule.as_deref(), decision.reason.as_deref()), (Some("a"), Some("they may")));
        let decision = ask("/exports");
        assert!(!decision.allowed && decision.status == Some(451));
        assert_eq!(
            (decision.rule.as_deref(), decision.reason.as_deref()),
            (Some("no exports"), Some("suspended"))
        );
        let decision = ask("/other");
        assert!(!decision.allowed && !decision.undefined && decision.rule.is_none());
        assert_eq!(decision.reason.as_deref(), Some("no rule allows the request"));
    }
    assert!(policy.projection().is_err_and(|reasons| reasons.len() == 1), "it is not cached");
}

/// Every mistake, with its place.
#[test]
fn bad_tables_are_refused() {
    let rule = |lines: &str| format!("[[rule]]\nname = \"a\"\neffect = \"allow\"\n{lines}\n");
    for (table, expected) in [
        ("", "t.toml: error: there is no rule"),
        ("rule = 1", "t.toml:1:8: error: `rule`: expected a list"),
        ("[[rule]\n", "t.toml:1:8: error: not valid TOML"),
        ("[[rule]]\neffect = \"allow\"", "t.toml:1:1: error: `name` is missing in [[rule]]"),
        ("[[rule]]\nname = \"a\"", "t.toml:1:1: error: `effect` is missing in [[rule]]"),
        (
            "[[rule]]\nname = \"a\"\neffect = \"permit\"",
            "t.toml:3:10: error: `effect`: unknown value \"permit\"",
        ),
        (
            "[[rule]]\nname = \"\"\neffect = \"allow\"",
            "t.toml:2:8: error: `name` has to be one line of 1 to 128 bytes",
        ),
        (
            &rule("tenants = \"a\""),
            "t.toml:4:1: error: unknown key `tenants` in [[rule]]\n  help: did you mean `tenant`?",
        ),
        (&rule("[[rules]]"), "t.toml:4:3: error: unknown key `rules` in a matcher table"),
        (&rule("ou = []"), "t.toml:4:6: error: `ou` is an empty list"),
        (&rule("ou = [\"\"]"), "t.toml:4:7: error: `ou`: \"\" is no name"),
        (&rule("ou = 1"), "t.toml:4:6: error: `ou`: expected"),
        (&rule("path = \"orders\""), "it does not begin with '/'"),
        (
            &rule("path = [\"/a\", \"/orders/*\"]"),
            "t.toml:4:15: error: `path`: \"/orders/*\" is not a path template",
        ),
        (&rule("methods = \"get\""), "\"get\" is not a method"),
        (&rule("host = \"*\""), "`host`: \"*\" is not a host name"),
        (&rule("spiffe_id = \"example.com/a\""), "`spiffe_id`: \"example.com/a\""),
        (&rule("spiffe_id = \"spiffe://example.com/a*\""), "`spiffe_id`: \"spiffe://example.com/a*\""),
        (&rule("spiffe_id = \"spiffe://example.com/*/b\""), "`spiffe_id`: \"spiffe://example.com/*/b\""),
        (&rule("dns = \"*.example.com\""), "`*` has no meaning here"),
        (&rule("fingerprint = \"abcd\""), "is not a SHA-256 in hexadecimal"),
        (&rule("identity = \"orders\""), "`identity` without `tenant`"),
        (&rule("verified = false\nou = \"A\""), "rule `a` can never match"),
        (&rule("status = 404"), "t.toml:4:10: error: `status` belongs to rules that deny"),
        (&deny("d", "status = 302"), "`status` 302 does not deny"),
        (&rule("headers = { \"x team\" = \"a\" }"), "\"x team\" is not the name of a header field"),
        (
            &rule("headers = { x-forwarded-client-cert = \"a\" }"),
            "`x-forwarded-client-cert` is removed from every request",
        ),
        (&rule("headers = { x-a = \"a\", X-A = \"b\" }"), "`x-a` is given twice"),
        (
            &format!("{}{}", rule(""), rule("")),
            "t.toml:5:1: error: rule `a` is named like the one at line 1 of t.toml",
        ),
        (&rule("[[test]]\nname = \"t\""), "t.toml:4:1: error: `expect` is missing in [[test]]"),
        (
            &rule("[[test]]\nname = \"t\"\nexpect = \"allow\"\npath = \"/a/../b\""),
            "t.toml:7:8: error: `path`",
        ),
        (&rule("[[test]]\nname = \"t\"\nexpect = \"allow\"\npath = \"/{a}\""), "is a template, write a path"),
        (&rule("[[test]]\nname = \"t\"\nexpect = \"allow\"\nhost = \"a b\""), "t.toml:7:8: error: `host`"),
    ] {
        let found = errors(table);
        assert!(found.contains(expected), "{table}\n--- says\n{found}\n--- not\n{expected}");
    }
    let source = Source::new("t.rego", &b"package a"[..]);
    let set = PolicySet::without_rule(Language::Matcher, vec![source], Limits::default());
    assert!(crate::check(&set).unwrap_err().to_string().contains("t.rego: error: unknown kind of file"));
}

#[test]
fn tests_of_a_table_are_run_and_refuse_it() {
    let table = |expect: &str, rule: &str| {
        format!(
            "{}[[test]]\nname = \"partners. read\"\nclient = {{ ou = \"P\" }}\npath = \"/orders/1\"\nexpect = {expect:?}\n{rule}\n",
            allow("ou = \"P\"\npath = \"/orders/{id}\"")
        )
    };
    let report = crate::check(&set(&table("allow", "rule = \"a\""))).unwrap();
    assert_eq!((report.tests.passed(), report.tests.tests[0].line), (1, 6));
    assert_eq!(report.reads, ["client.subject.organizational_units", "request.path"]);
    let found = errors(&table("deny", ""));
    assert_eq!(found, "t.toml:6:1: error: test `partners. read` failed: rule `a` allows it");
    assert!(errors(&table("allow", "rule = \"b\"")).contains("failed"));
    // Found by the name of the client, and by the host alone.
    let spelt = ["dns = \"a.example.com\"\nhost = \"h.example.com\"", "host = \"h.example.com\""];
    let test = "[[test]]\nname = \"t\"\nclient = { dns = \"A.example.com\" }\nhost = \"H.example.com.\"\nexpect = \"allow\"";
    for spelt in spelt {
        assert!(
            crate::check(&set(&format!("{}{test}", allow(spelt)))).is_ok(),
            "{spelt}: as requests have it"
        );
    }
    assert!(
        errors(&table("deny", "").replace("\"P\" }", "\"Q\" }").replace("\"deny\"", "\"allow\""))
            .contains("no rule allows it")
    );
}

#[test]
fn rules_without_effect_are_warned_of() {
    let second = |conditions: &str| deny("d", conditions);
    for (table, expected) in [
        (allow(""), Some("rule `a` allows every request of every client")),
        (allow("ou = \"A\""), None),
        (
            format!("{}{}", allow("ou = \"A\""), second("ou = [\"A\", \"B\"]")),
            Some("rule `a` never decides: rule `d` (t.toml:5) denies all"),
        ),
        (format!("{}{}", allow("ou = [\"A\", \"B\"]"), second("ou = \"A\"")), None),
        (
            format!(
                "{}{}",
                allow("path = \"/a/{b}\"\nmethods = \"GET\""),
                second("path = [\"/a\", \"/a/{rest...}\"]")
            ),
            Some("rule `a` never decides"),
        ),
        (
            format!("{}{}", allow("path = \"/a/{b}\""), second("path = \"/a/{rest...}\"\nmethods = \"GET\"")),
            Some("denies what is below /a, and not /a itself\n  help: add \"/a\""),
        ),
        (
            format!(
                "{}{}",
                allow("spiffe_id = \"spiffe://a.com/b/c\""),
                second("spiffe_id = \"spiffe://a.com/b/*\"")
            ),
            Some("rule `a` never decides"),
        ),
        (
            format!(
                "{}{}",
                allow("spiffe_id = \"spiffe://a.com/b\""),
                second("spiffe_id = \"spiffe://a.com/b/*\"")
            ),
            None,
        ),
        (
            format!("{}{}", allow("host = \"a.b.com\""), second("host = \"*.b.com\"")),
            Some("rule `a` never decides"),
        ),
        (
            format!("{}{}", allow("ou = \"A\""), allow("ou = \"A\"").replace("\"a\"", "\"z\"")),
            Some("rule `z` never decides: rule `a` (t.toml:1) allows all"),
        ),
    ] {
        let found = warnings(&table);
        match expected {
            Some(expected) => assert!(found.len() == 1 && found[0].contains(expected), "{table}\n{found:?}"),
            None => assert!(found.is_empty(), "{table}\n{found:?}"),
        }
    }
}

/// Numbers that follow from a seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % bound
    }

    fn some<T: Clone>(&mut self, of: &[T]) -> Vec<T> {
        let count = self.below(3);
        (0..count).map(|_| of[self.below(of.len())].clone()).collect()
    }
}

/// The index finds what a search from the first rule to the last would find, and only saves the search.
#[test]
fn the_index_leaves_no_rule_out() {
    let paths = ["/", "/a", "/a/{x}", "/a/{rest...}", "/{x}/b", "/{x}/{y}", "/{rest...}", "/a/b/c", "/a/"];
    let asked = ["/", "/a", "/a/", "/a/b", "/a/b/c", "/b/b", "/c", "*"];
    let hosts = ["h.com", "g.com", "*.com", "a.h.com", "[::1]"];
    let spiffe = ["spiffe://t/a", "spiffe://t/a/b", "spiffe://t/", "spiffe://t/a/"];
    let strings = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut numbers = Numbers(7);
    let mut matched = 0;
    for _ in 0..400 {
        let rules: Vec<Rule> = (0..12)
            .map(|number| {
                let (under, exact): (Vec<_>, Vec<_>) =
                    strings(&numbers.some(&spiffe)).into_iter().partition(|value| value.ends_with('/'));
                let mut client = Vec::new();
                if !(under.is_empty() && exact.is_empty()) {
                    client.push(ClientCondition {
                        claim: Claim::SpiffeId,
                        exact: Words::new(exact),
                        under: Words::new(under),
                    });
                }
                for claim in [Claim::Tenant, Claim::OrganizationalUnit] {
                    let values = strings(&numbers.some(&["x", "y"]));
                    if !values.is_empty() && numbers.below(3) == 0 {
                        client.push(ClientCondition {
                            claim,
                            exact: Words::new(values),
                            under: Words::default(),
                        });
                    }
                }
                let methods = numbers
                    .some(&["GET", "PUT"])
                    .into_iter()
                    .map(|name| Method::parse(name).unwrap().to_string());
                Rule {
                    name: number.to_string().into(),
                    effect: if numbers.below(4) == 0 { Effect::Deny } else { Effect::Allow },
                    reason: None,
                    status: None,
                    conditions: Conditions {
                        client,
                        methods: Words::new(methods),
                        paths: numbers
                            .some(&paths)
                            .into_iter()
                            .map(|path| PathPattern::parse(path).unwrap())
                            .collect(),
                        hosts: numbers
                            .some(&hosts)
                            .into_iter()
                            .map(|host| HostPattern::parse(host).unwrap())
                            .collect(),
                        routes: Words::new(strings(&numbers.some(&["r", "s"]))),
                        ..Conditions::default()
                    },
                    at: Place::default(),
                }
            })
            .collect();
        let matcher = Matcher { index: Index::of(&rules), rules };
        for _ in 0..40 {
            let client = Claims {
                verified: true,
                spiffe_id: ["", "spiffe://t/a", "spiffe://t/a/b"][numbers.below(3)],
                tenant: ["", "x", "y"][numbers.below(3)],
                organizational_units: strings(&numbers.some(&["x", "y"])).into(),
                ..Claims::default()
            };
            let request = RequestView {
                method: ["GET", "PUT", "POST"][numbers.below(3)],
                path: asked[numbers.below(asked.len())],
                host: ["h.com", "a.h.com", "[::1]", "[0::1]", ""][numbers.below(5)],
                route: RouteView { id: ["r", "s", "t"][numbers.below(3)], ..RouteView::default() },
                ..sample::request()
            };
            let facts = Facts::of(&client);
            let first = |effect| {
                matcher.rules.iter().find(|rule| {
                    let Conditions { paths, .. } = &rule.conditions;
                    rule.effect == effect
                        && (paths.is_empty() || paths.iter().any(|path| path.matches(request.path).is_some()))
                        && rule.matches_beside_path(&facts, &request)
                })
            };
            let expected = first(Effect::Deny).or_else(|| first(Effect::Allow));
            let found = matcher.find(&facts, &request);
            matched += usize::from(found.is_some());
            assert_eq!(
                found.map(|rule| &rule.name),
                expected.map(|rule| &rule.name),
                "{client:?} {:?}",
                request.path
            );
        }
    }
    assert!(matched > 4000, "{matched}");
}

#[test]
fn a_table_of_thousands_of_rules_is_bounded() {
    let rules: String = (0..3000)
        .map(|number| format!("[[rule]]\nname = \"{number}\"\neffect = \"allow\"\npath = \"/t{number}\"\ntenant = \"t{number}\"\n"))
        .collect();
    let report = crate::check(&set(&rules)).unwrap();
    assert!(report.warnings.is_empty());
    let many =
        |count: usize, of: &str| (0..count).map(|number| format!("\"{of}{number}\",")).collect::<String>();
    let wide = allow(&format!("tenant = [{}]\npath = [{}]", many(2000, "t"), many(1000, "/p")));
    assert!(errors(&wide).contains("would not fit into memory"));
    let too_many: String =
        (0..=RULES_MAX).map(|number| format!("[[rule]]\nname = \"{number}\"\neffect = \"deny\"\n")).collect();
    assert!(errors(&too_many).contains("policy has 20001 rules, more than 20000"));
}

/// What is there for Rego says so.
#[test]
fn a_table_is_not_evaluated_as_rego() {
    let error = crate::run_tests(&set(&allow("")), &crate::TestOptions::default()).unwrap_err();
    assert!(error.to_string().contains("only policies in Rego can be evaluated here"));
}
