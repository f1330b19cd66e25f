mod named;

use std::fmt::Write as _;
use std::thread;

use super::*;
use crate::input::sample;
use crate::input::subject::Claims;
use crate::input::view::{HeaderSource, RouteView};
use crate::set::{Language, Limits, Source};

pub(crate) fn set_of(files: &[(&str, &str)]) -> PolicySet {
    let sources = files.iter().map(|(path, text)| Source::new(*path, text.as_bytes())).collect();
    PolicySet::without_rule(Language::Cedar, sources, Limits::default())
}

fn set(text: &str) -> PolicySet {
    set_of(&[("p.cedar", text)])
}

fn errors_of(files: &[(&str, &str)]) -> String {
    let set = set_of(files);
    let refused = crate::check(&set).err();
    let text = refused.map(|errors| errors.to_string()).unwrap_or_default();
    // Tests are run by the check alone.
    assert!(text.is_empty() || text.contains("test `") || crate::compile(&set).is_err(), "{text}");
    text
}

fn errors(text: &str) -> String {
    errors_of(&[("p.cedar", text)])
}

/// A policy with this condition.
fn permit(condition: &str) -> String {
    format!("permit (principal, action, resource) when {{ {condition} }};\n")
}

fn worker(files: &[(&str, &str)]) -> Box<dyn PolicyWorker> {
    crate::compile(&set_of(files)).unwrap_or_else(|errors| panic!("{errors}")).worker()
}

/// What becomes of a request: `allowed`, `denied` or the error, with rule and reason.
fn asked(worker: &mut dyn PolicyWorker, claims: &Claims<'_>, request: &RequestView<'_>) -> String {
    let subject = Subject::from_claims(claims, &sample::connection());
    match worker.decide(&subject, request) {
        Ok(decision) => {
            let mut said = if decision.allowed { "allowed" } else { "denied" }.to_owned();
            for text in [&decision.rule, &decision.reason].into_iter().flatten() {
                let _ = write!(said, ", {text}");
            }
            said
        }
        Err(error) => error.to_string(),
    }
}

const POLICIES: &str = r#"
// The partners.
@id("partners-read")
permit (
    principal in Ringward::Group::"partners",
    action in [Ringward::Action::"GET", Ringward::Action::"HEAD"],
    resource == Ringward::Route::"orders"
);

@id("team")
@reason("the red team")
permit (principal, action, resource)
when { context.request.headers has "x-team" && context.request.headers["x-team"] == "red" };

permit (principal is Ringward::Anonymous, action == Ringward::Action::"GET", resource)
when { context.request.path == "/status" };

@id("no-exports")
@reason("exports are suspended")
forbid (principal, action, resource) when { context.request.path like "/orders/export*" };
@id("no-exports-at-all")
forbid (principal, action, resource) when { context.request.path like "/orders/export*" };
"#;

const ENTITIES: &str = r#"[
    { "uid": { "type": "Ringward::Group", "id": "partners" }, "attrs": {}, "parents": [] },
    { "uid": { "type": "Ringward::Group", "id": "north" }, "attrs": {},
      "parents": [{ "type": "Ringward::Group", "id": "partners" }] },
    { "uid": { "type": "Ringward::Client", "id": "spiffe://example.com/partner/a" }, "attrs": {},
      "parents": [{ "type": "Ringward::Group", "id": "north" }] },
    { "uid": { "type": "Ringward::Client", "id": "acme/importer" }, "attrs": {},
      "parents": [{ "type": "Ringward::Group", "id": "partners" }] }
]"#;

fn partner() -> Claims<'static> {
    Claims { spiffe_id: "spiffe://example.com/partner/a", tenant: "", ..sample::claims() }
}

#[test]
fn policies_permit_and_forbid() {
    let mut worker = worker(&[("d/entities.json", ENTITIES), ("d/policies.cedar", POLICIES)]);
    let red = [("x-team", "red"), ("x-team-b", "1")];
    let twice = [("x-team", "red"), ("x-team", "blue")];
    let none: [(&str, &str); 0] = [];
    let request = |method, path, headers| RequestView { method, path, headers, ..sample::request() };
    let importer = Claims { spiffe_id: "", tenant: "acme", identity: "importer", ..sample::claims() };
    let others = Claims { tenant: "globex", ..importer.clone() };
    let anonymous = Claims::default();
    let nothing = "denied, no policy permits the request";
    let (red, twice, none): (&dyn HeaderSource, &dyn HeaderSource, &dyn HeaderSource) = (&red, &twice, &none);
    for (claims, method, path, headers, expected) in [
        (&partner(), "GET", "/orders/7", none, "allowed, partners-read"),
        (&partner(), "HEAD", "/orders/7", none, "allowed, partners-read"),
        (&partner(), "POST", "/orders/7", none, nothing),
        (&partner(), "get", "/orders/7", none, nothing),
        (&importer, "GET", "/orders/7", none, "allowed, partners-read"),
        (&others, "GET", "/orders/7", none, nothing),
        (&anonymous, "GET", "/orders/7", none, nothing),
        (&others, "POST", "/", red, "allowed, team, the red team"),
        // Both would do; the first that is written names the decision.
        (&partner(), "GET", "/", red, "allowed, partners-read"),
        (&others, "POST", "/", twice, nothing),
        (&anonymous, "GET", "/status", none, "allowed, policies.cedar:15"),
        (&others, "GET", "/status", none, nothing),
        (&partner(), "GET", "/orders/export/all", red, "denied, no-exports, exports are suspended"),
    ] {
        let said = asked(&mut *worker, claims, &request(method, path, headers));
        assert_eq!(said, expected, "{method} {path}");
    }
    let elsewhere =
        RequestView { route: RouteView { id: "other", ..RouteView::default() }, ..request("GET", "/", none) };
    assert_eq!(asked(&mut *worker, &partner(), &elsewhere), nothing);
}

/// Cedar leaves a policy out whose evaluation fails, and a `forbid` with it.
#[test]
fn an_evaluation_error_of_any_policy_is_no_decision() {
    let forbid = "@id(\"late\") forbid (principal, action, resource) when { context.time.unix_s * 9223372036854775807 > 0 };\n";
    let fails =
        "policy evaluation failed: p.cedar:1:1: policy `late`: integer overflow while attempting to multiply";
    let mut worker = worker(&[("p.cedar", &format!("{forbid}{}", permit("true")))]);
    let request = sample::request();
    let said = asked(&mut *worker, &partner(), &request);
    assert!(said.starts_with(fails), "{said}");
    assert_eq!(asked(&mut *worker, &partner(), &RequestView { now_unix: 1, ..request }), "denied, late");
    assert_eq!(
        asked(&mut *worker, &partner(), &RequestView { now_unix: 0, ..request }),
        "allowed, p.cedar:2"
    );
    // A permit that fails is none either, and stands for nothing.
    let (first, second) =
        (permit("context.request.path == \"/orders/17\""), permit("ip(context.request.host).isIpv4()"));
    let refused = errors(&second);
    assert!(refused.contains("p.cedar:1"), "{refused}");
    let second = permit("context.time.unix_s * 9223372036854775807 > 0");
    let mut worker = self::worker(&[("p.cedar", &format!("{first}{second}"))]);
    let said = asked(&mut *worker, &partner(), &request);
    assert!(said.contains("p.cedar:2:1: policy `p.cedar:2`: integer overflow"), "{said}");
}

#[test]
fn other_methods_are_one_action() {
    let mut worker = worker(&[(
        "p.cedar",
        "@id(\"other\") permit (principal, action == Ringward::Action::\"OTHER\", resource);\n\
         @id(\"get\") permit (principal, action == Ringward::Action::\"GET\", resource);",
    )]);
    for (method, expected) in [
        ("GET", "allowed, get"),
        ("PURGE", "allowed, other"),
        ("OTHER", "allowed, other"),
        ("get", "allowed, other"),
        ("POST", "denied, no policy permits the request"),
    ] {
        let request = RequestView { method, ..sample::request() };
        assert_eq!(asked(&mut *worker, &partner(), &request), expected, "{method}");
    }
    assert!(
        errors("permit (principal, action == Ringward::Action::\"PURGE\", resource);").contains("p.cedar:1:")
    );
}

#[test]
fn mistakes_are_found_with_their_places() {
    for (text, expected) in [
        (permit("context.request.mehtod == \"GET\""), "p.cedar:1:45: error: attribute `request.mehtod` in context not found\n  help: did you mean `method`?"),
        (permit("context.request has mehtod"), "p.cedar:1:1: error: `context.request` has no field `mehtod`\n  help: did you mean `method`?"),
        (permit("context.request.method == 1"), "p.cedar:1:45: error: "),
        (permit("context.request.headers.team == \"red\""), "p.cedar:1:45: error: unable to guarantee safety"),
        (permit("context.request.headers.Team == \"red\""), "header `Team` is never there, since names are in lower case"),
        (
            permit("context.request.headers has \"x-forwarded-client-cert\""),
            "header `x-forwarded-client-cert` is never there, since clients cannot say who they are by it",
        ),
        (permit("context.request.query.page.contains(\"1\")"), "unable to guarantee safety"),
        (permit("context.request.body.json == 1"), "look at `text`, or write the policy in Rego"),
        (permit("context.request.path"), "p.cedar:1:45: error: "),
        (permit("principal.level > 1"), "attribute `level`"),
        (
            permit("ip(context.connection.remote_addr).isInRange(ip(\"10.0.0.0/8\"))"),
            "p.cedar:1:45: error: extension constructors may not be called with non-literal expressions\n  help: `context.connection.remote_ip` is",
        ),
        (format!("\n{}", permit("context.request.method = \"GET\"")), "p.cedar:2:"),
        (permit("\"a\" =="), "p.cedar:1:"),
        (permit("context.request.path like 'a'"), "p.cedar:1:"),
        ("permit (principal == ?principal, action, resource);".to_owned(), "p.cedar:1:1: error: templates (`?principal`"),
        ("permit (principal in User::\"a\", action, resource);".to_owned(), "p.cedar:1:"),
        ("".to_owned(), "p.cedar:1:1: error: there is no policy, so nothing would be allowed"),
        ("@id(\"a\") permit (principal, action, resource);\n@id(\"a\") permit (principal, action, resource);".to_owned(),
            "p.cedar:2:1: error: policy `a` is named like the one at line 1 of p.cedar"),
        ("@id(\"\") permit (principal, action, resource);".to_owned(), "`@id` has to be one line of 1 to 128 bytes"),
        ("@reason(\"a\\nb\") permit (principal, action, resource);".to_owned(), "`@reason` has to be one line of 1 to 1024 bytes"),
    ] {
        let found = errors(&text);
        assert!(found.contains(expected), "{text}--- says\n{found}\n--- not\n{expected}");
    }
}

#[test]
fn files_are_told_apart_by_their_names() {
    let good = ("p.cedar", "permit (principal, action, resource);");
    for (file, text, expected) in [
        ("p.rego", "", "p.rego:1:1: error: unknown kind of file"),
        ("p.toml", "", "p.toml:1:1: error: unknown kind of file"),
        ("e.json", "{", "e.json:1:1: error: entities are no JSON"),
        ("e.json", "{}", "e.json:1:1: error: "),
        (
            "e.json",
            r#"[{ "uid": { "type": "Ringward::Client", "id": "a" }, "attrs": { "level": 1 }, "parents": [] }]"#,
            "e.json:1:47: error: ",
        ),
        ("e.json", r#"[{ "uid": { "type": "User", "id": "a" }, "attrs": {}, "parents": [] }]"#, "User"),
        ("s.cedarschema", "entity User", "s.cedarschema:1:12: error: "),
        (
            "s.cedarschema",
            "action \"x\" appliesTo { principal: [Ringward::Client], resource: [Ringward::Route] };",
            "s.cedarschema:1:1: error: the schema declares an `action`",
        ),
        (
            "s.cedarschema",
            "namespace Ringward::X { entity A; }",
            "`Ringward::X` is a namespace of Ringward's",
        ),
        (
            "s.cedarschema",
            "namespace Ringward { entity Anonymous; }",
            "`Ringward::Anonymous` is no type that can be declared",
        ),
        (
            "s.cedarschema",
            "namespace Ringward { type A = Long; }",
            "common types cannot be declared in `Ringward`",
        ),
        (
            "s.cedarschema",
            "namespace Ringward { entity Client { level: Long }; }",
            "attribute `level` of `Ringward::Client` is required",
        ),
        (
            "s.cedarschema",
            "namespace Ringward { entity Client enum [\"a\"]; }",
            "is not declared by its attributes",
        ),
        (
            "s.cedarschema",
            "namespace Ringward { entity Client in [Nothing]; }",
            "s.cedarschema:1:40: error: ",
        ),
        (
            "t.test.toml",
            "[[test]]\nexpect = \"allow\"",
            "t.test.toml:1:1: error: `name` is missing in [[test]]",
        ),
        (
            "t.test.toml",
            "[[test]]\nname = \"a\"\nexpect = \"allow\"\ninput.request.mehtod = \"GET\"",
            "`input.request` has no field `mehtod`; did you mean `method`?",
        ),
        ("t.test.toml", "[[tests]]", "unknown key `tests`"),
        (
            "t.test.toml",
            "[[test]]\nname = \"a\"\nexpect = \"deny\"",
            "t.test.toml:1:1: error: test `a` failed: policy `p.cedar:1` allows it",
        ),
    ] {
        let found = errors_of(&[good, (file, text)]);
        assert!(found.contains(expected), "{file}: {text}\n--- says\n{found}\n--- not\n{expected}");
    }
    let two = errors_of(&[good, ("a.cedarschema", "entity A;"), ("b.cedarschema", "entity B;")]);
    assert!(two.contains("b.cedarschema:1:1: error: there is another schema, a.cedarschema"), "{two}");
}

#[test]
fn a_schema_of_the_operator_gives_attributes_to_entities() {
    let schema = "entity Contract { limit: Long };\n\
        namespace Ringward { entity Client in [Group] { level?: Long, contract?: Contract }; entity Group { open: Bool }; }";
    let entities = r#"[
        { "uid": { "type": "Contract", "id": "c" }, "attrs": { "limit": 3 }, "parents": [] },
        { "uid": { "type": "Ringward::Group", "id": "g" }, "attrs": { "open": true }, "parents": [] },
        { "uid": { "type": "Ringward::Client", "id": "spiffe://example.com/partner/a" },
          "attrs": { "level": 2, "contract": { "__entity": { "type": "Contract", "id": "c" } } },
          "parents": [{ "type": "Ringward::Group", "id": "g" }] }
    ]"#;
    let files = |policy| [("e.json", entities), ("p.cedar", policy), ("s.cedarschema", schema)];
    let policy = "@id(\"level\") permit (principal is Ringward::Client, action, resource) when { principal has level && principal.level > 1\n\
        && principal has contract && principal.contract.limit == 3 && Ringward::Group::\"g\".open };";
    let mut worker = worker(&files(policy));
    assert_eq!(asked(&mut *worker, &partner(), &sample::request()), "allowed, level");
    // Whoever is not among the entities has no attributes, which is no error.
    assert_eq!(
        asked(&mut *worker, &sample::claims(), &sample::request()),
        "denied, no policy permits the request"
    );
    let unguarded = errors_of(&files(
        "permit (principal is Ringward::Client, action, resource) when { principal.level > 1 };",
    ));
    assert!(unguarded.contains("p.cedar:1:65: error: unable to guarantee safety"), "{unguarded}");
    let wrong = entities.replace("\"level\": 2", "\"level\": \"2\"");
    let wrong = errors_of(&[("e.json", &wrong), ("p.cedar", policy), ("s.cedarschema", schema)]);
    assert!(wrong.contains("e.json:4:54: error: ") && wrong.contains("level"), "{wrong}");
}

#[test]
fn extensions_work_on_literals_of_policies_and_the_clients_address() {
    let by_address = "context.connection.remote_ip.isInRange(ip(\"192.0.2.0/24\")) && !context.connection.remote_ip.isLoopback()";
    for condition in
        [by_address.to_owned(), format!("{by_address} && context.connection == context.connection")]
    {
        let policy = crate::compile(&set(&permit(&condition))).unwrap();
        let projection = format!("{:?}", policy.projection().unwrap());
        assert!(projection.contains("\"connection\"") && !projection.contains("remote_ip"), "{projection}");
        assert_eq!(asked(&mut *policy.worker(), &partner(), &sample::request()), "allowed, p.cedar:1");
    }
    let other = by_address.replace("192.0.2", "192.0.3");
    let mut elsewhere = worker(&[("p.cedar", &permit(&other))]);
    assert_eq!(
        asked(&mut *elsewhere, &partner(), &sample::request()),
        "denied, no policy permits the request"
    );

    let mut worker = worker(&[(
        "p.cedar",
        &permit(
            "ip(\"10.1.2.3\").isInRange(ip(\"10.0.0.0/8\")) && decimal(\"1.5\").lessThan(decimal(\"2.0\")) && datetime(\"2026-01-01\") < datetime(\"2027-01-01\")",
        ),
    )]);
    assert_eq!(asked(&mut *worker, &partner(), &sample::request()), "allowed, p.cedar:1");
}

#[test]
fn tests_are_run_and_refuse_the_policy() {
    let tests = |rule: &str| {
        format!(
            "[[test]]\nname = \"partners read\"\ninput.client.spiffe_id = \"spiffe://example.com/partner/a\"\n\
             input.route.id = \"orders\"\nexpect = \"allow\"\nrule = \"{rule}\"\n\
             [[test]]\nname = \"nobody does\"\ninput.route.id = \"orders\"\nexpect = \"deny\"\n\
             [[test]]\nname = \"teams\"\ninput.request.headers.x-team = \"red\"\nexpect = \"allow\"\n\
             [[test]]\nname = \"a name of two\"\ninput.client = {{ name = \"/a\" }}\nexpect = \"error\"\n"
        )
    };
    let files =
        |tests| [("entities.json", ENTITIES), ("policies.cedar", POLICIES), ("policies.test.toml", tests)];
    let (good, bad) = (tests("partners-read"), tests("team"));
    let report = crate::check(&set_of(&files(&good))).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!((report.tests.passed(), report.tests.tests[1].line), (4, 7));
    assert_eq!(
        report.mentions.iter().map(|found| (&*found.name, &*found.rule, found.line)).collect::<Vec<_>>(),
        [("orders", "partners-read", 3), ("acme", "", 7)]
    );
    assert_eq!(report.warnings, []);
    assert_eq!(report.uncacheable, []);
    let read = ["request.headers.x-team", "request.method", "request.path", "route.id"];
    let of_request: Vec<_> = report.reads.iter().filter(|path| !path.starts_with("client.")).collect();
    assert_eq!(of_request, read.iter().collect::<Vec<_>>());
    let found = errors_of(&files(&bad));
    assert_eq!(
        found,
        "policies.test.toml:1:1: error: test `partners read` failed: policy `partners-read` allows it"
    );
}

#[test]
fn sizes_are_bounded() {
    let policies = |count: usize| permit("true").repeat(count);
    assert!(errors(&policies(1001)).contains("p.cedar:1001:1: error: there are more than 1000 policies"));
    let wide = permit(&format!("[{}].contains(context.request.path)", vec!["\"a\""; 20_000].join(", ")));
    assert!(errors(&wide).contains("expressions, more than 20000"));
    let entities: Vec<_> = (0..=20_000)
        .map(|number| format!(r#"{{ "uid": {{ "type": "Ringward::Group", "id": "{number}" }}, "attrs": {{}}, "parents": [] }}"#))
        .collect();
    let found = errors_of(&[("e.json", &format!("[{}]", entities.join(","))), ("p.cedar", &permit("true"))]);
    assert!(found.contains("there are 20001 entities, more than 20000"), "{found}");
    let large = " ".repeat(256 * 1024 + 1);
    assert!(errors(&large).contains("file has 262145 bytes, more than 262144"));
}

/// The deepest policy that is accepted is evaluated within three quarters of the stack that engines may count on, and a deeper one is refused.
#[test]
fn the_deepest_policy_fits_on_a_workers_stack() {
    let chain = |count: usize| {
        permit(&format!("context.request.path == \"x\"{}", " || context.request.path == \"x\"".repeat(count)))
    };
    let nots = |count: usize| {
        permit(&format!("{}context.request.path == \"x\"{}", "!(".repeat(count), ")".repeat(count)))
    };
    let ifs = |count: usize| {
        permit(&format!("{}true", "if context.request.path == \"x\" then false else ".repeat(count)))
    };
    let sets = |count: usize| {
        permit(&format!(
            "{}context.request.path{} == {}\"x\"{}",
            "[".repeat(count),
            "]".repeat(count),
            "[".repeat(count),
            "]".repeat(count)
        ))
    };
    let whens = |count: usize| {
        let clauses = "when { context.request.path != \"x\" }\n".repeat(count);
        format!("permit (principal, action, resource) {clauses};")
    };
    // An inequality is a negated equality: two levels.
    let unequal = |count: usize| {
        permit(&format!("{}(context.request.path == \"x\"){}", "(".repeat(count), " != true)".repeat(count)))
    };
    for (policy, deepest) in [
        (&chain as &dyn Fn(usize) -> String, 98),
        (&ifs, 98),
        (&whens, 99),
        // Brackets are counted before.
        (&nots, 30),
        (&sets, 30),
        (&unequal, 29),
    ] {
        let text = policy(deepest);
        let policy_set = set(&text);
        crate::check(&policy_set).unwrap_or_else(|errors| panic!("{errors}"));
        let compiled = crate::compile(&policy_set).unwrap();
        let decide = move || {
            let subject = Subject::from_claims(&sample::claims(), &sample::connection());
            compiled.worker().decide(&subject, &sample::request())
        };
        let decided = thread::Builder::new().stack_size(3 << 18).spawn(decide).unwrap().join().unwrap();
        assert!(decided.is_ok(), "{decided:?} {text}");
        assert!(!errors(&policy(deepest + 2)).is_empty());
    }
    assert!(errors(&chain(101)).contains("p.cedar:1:1: error: the policy is nested deeper than 100 levels"));
}

#[test]
fn attributes_of_entities_are_no_longer_than_what_looks_at_them_allows() {
    let schema = "namespace Ringward { entity Client in [Group] { note?: String }; }";
    let policy = "permit (principal is Ringward::Client, action, resource) when { principal has note && principal.note like \"*aaaaaaaaab*\" };";
    let entities = |bytes| {
        let note = "a".repeat(bytes);
        format!(
            r#"[{{ "uid": {{ "type": "Ringward::Client", "id": "a" }}, "attrs": {{ "note": "{note}" }}, "parents": [] }}]"#
        )
    };
    let found =
        |bytes| errors_of(&[("e.json", &entities(bytes)), ("p.cedar", policy), ("s.cedarschema", schema)]);
    assert_eq!(found(200_000), "");
    assert!(
        found(300_000)
            .contains("e.json:1:1: error: an entity has 300011 bytes and 2 values of attributes, too many"),
        "{}",
        found(300_000)
    );
}

/// Comparing sets takes as long as the client makes them.
#[test]
fn sets_are_walked_for_a_bounded_time() {
    let walks = permit(
        "context.request.headers_all has x && [context.request.headers_all.x].contains(context.request.segments)",
    );
    let mut worker = worker(&[("p.cedar", &walks.repeat(100))]);
    let path = "/a".repeat(2000);
    let short = RequestView { headers: &[("x", "1")], ..sample::request() };
    assert_eq!(asked(&mut *worker, &partner(), &short), "denied, no policy permits the request");
    let long = RequestView { path: &path, ..short };
    assert_eq!(asked(&mut *worker, &partner(), &long), "policy evaluation exceeded its time budget");
    let looks_up =
        permit("[\"a\", \"b\"].contains(context.request.path) || context.request.segments.contains(\"b\")");
    let mut worker = self::worker(&[("p.cedar", &looks_up.repeat(100))]);
    assert_eq!(asked(&mut *worker, &partner(), &long), "denied, no policy permits the request");
}

/// Patterns are searched for anew behind each `*`: their time grows with pattern and text alike.
#[test]
fn patterns_look_at_texts_of_bounded_length() {
    let pattern = "*aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab*";
    let text: String =
        (0..200).map(|_| permit(&format!("context.request.path like \"{pattern}\""))).collect();
    let mut worker = worker(&[("p.cedar", &text)]);
    let path = format!("/{}", "a".repeat(1000));
    let request = RequestView { path: &path, ..sample::request() };
    assert_eq!(asked(&mut *worker, &partner(), &sample::request()), "denied, no policy permits the request");
    assert_eq!(asked(&mut *worker, &partner(), &request), "policy evaluation exceeded its time budget");
    // A beginning is compared once.
    let text: String = (0..200)
        .map(|_| permit("context.request.path like \"/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab*\""))
        .collect();
    let mut worker = self::worker(&[("p.cedar", &text)]);
    assert_eq!(asked(&mut *worker, &partner(), &request), "denied, no policy permits the request");
}

#[test]
fn all_of_a_record_is_looked_at_if_all_of_it_is_used() {
    let policy =
        crate::compile(&set(&permit("context.client == context.client && context.route.labels has team")))
            .unwrap();
    assert!(policy.projection().is_ok());
    let mut worker = policy.worker();
    assert_eq!(asked(&mut *worker, &partner(), &sample::request()), "denied, no policy permits the request");
    let policy = crate::compile(&set(&permit("context.request == context.request"))).unwrap();
    let reasons = policy.projection().unwrap_err();
    assert!(
        reasons[0].to_string().contains("p.cedar:1:1: warning: the whole `context.request` is read"),
        "{}",
        reasons[0]
    );
    assert!(policy.reads_body() && !policy.names_body());
    // The body of the invented request is JSON, with an integer in it; of one that has none there is nothing to say.
    let mut worker = policy.worker();
    assert_eq!(asked(&mut *worker, &partner(), &sample::request()), "allowed, p.cedar:1");
    let body = crate::BodyView { bytes: b"{\"a\":0.5}", truncated: false };
    let request = RequestView { body: Some(body), ..sample::request() };
    let said = asked(&mut *worker, &partner(), &request);
    assert!(
        said.ends_with("the policy looks at a number that is no integer of 64 bits, which Cedar has not"),
        "{said}"
    );
    let policy = crate::compile(&set(&permit("context.request.body.text like \"*x*\""))).unwrap();
    assert!(policy.names_body() && policy.projection().is_err());
}

/// What is there for Rego says so.
#[test]
fn cedar_is_not_evaluated_as_rego() {
    let error = crate::run_tests(&set(&permit("true")), &crate::TestOptions::default()).unwrap_err();
    assert!(error.to_string().contains("only policies in Rego can be evaluated here"));
}

/// What is taken as a whole has the client's address, too: a `forbid` that asks for it by `has` would not hold else.
#[test]
fn parts_of_the_context_decide_as_the_whole_does() {
    // All of these hold for the request.
    let conditions = [
        "{ \"c\": context }.c.version == 1",
        "{ \"c\": context.connection }.c has remote_ip",
        "context.connection == context.connection",
        "context.connection has remote_ip && context.connection.remote_ip.isInRange(ip(\"192.0.2.0/24\"))",
        "context.connection.remote_addr like \"192.0.2.*\"",
        "{ \"c\": context }.c.connection.remote_ip.isIpv4()",
    ];
    for chosen in 1..1_u32 << conditions.len() {
        let of_set: Vec<_> =
            (0..).zip(conditions).filter(|(bit, _)| chosen >> bit & 1 == 1).map(|(_, text)| text).collect();
        let forbids: String = of_set
            .iter()
            // Some hold for every request, as Cedar's checker knows; with the version in front nobody knows.
            .map(|condition| {
                format!(
                    "forbid (principal, action, resource) unless {{ context.version == 1 && {condition} }};\n"
                )
            })
            .collect();
        let last = of_set.last().expect("one is chosen");
        let denied = format!("@id(\"last\") forbid (principal, action, resource) when {{ {last} }};\n");
        let mut worker = worker(&[("p.cedar", &format!("{forbids}{}", permit("true")))]);
        let said = asked(&mut *worker, &partner(), &sample::request());
        assert!(said.starts_with("allowed"), "{forbids}{said}");
        let mut worker = self::worker(&[("p.cedar", &format!("{forbids}{}{denied}", permit("true")))]);
        assert_eq!(asked(&mut *worker, &partner(), &sample::request()), "denied, last", "{forbids}{denied}");
    }
}

#[test]
fn literals_and_patterns_are_bounded() {
    let (text, pattern) = ("a".repeat(10_000), "a".repeat(2000));
    let found =
        errors(&format!("{}{}", permit("true"), permit(&format!("\"{text}\" like \"*{pattern}b*\""))));
    assert!(
        found.contains(
            "p.cedar:2:1: error: there are 20020000 comparisons of literals with patterns, more than 3000000"
        ),
        "{found}"
    );
    // However the literal comes to the pattern.
    let hidden = format!(
        "(if context.request.path == \"/\" then {{ \"a\": \"{text}\" }}.a else \"\") like \"*{pattern}b*\""
    );
    assert!(errors(&permit(&hidden)).contains("comparisons of literals with patterns"));
    assert_eq!(errors(&permit(&format!("context.request.path == \"{text}\""))), "");
    let long = permit(&format!("context.request.path == \"{}\"", "a".repeat(200_000)));
    let found = errors_of(&[("a.cedar", &long), ("b.cedar", &long)]);
    assert!(
        found.contains(
            "b.cedar:1:1: error: there are 400000 bytes of literals and patterns, more than 262144"
        ),
        "{found}"
    );
    let stars = permit(&format!("context.request.path like \"{}b\"", "*".repeat(200_000)));
    let found = errors_of(&[("a.cedar", &stars), ("b.cedar", &stars)]);
    assert!(found.contains("bytes of literals and patterns, more than"), "{found}");
}

/// Sets of entities are as long as operators make them, and some operators walk all of their items.
#[test]
fn sets_of_entities_are_no_longer_than_what_walks_them_allows() {
    let schema =
        "namespace Ringward { entity Route in [Group] { owners?: Set<Client>, teams?: Set<String> }; }";
    let entities = |owners: usize| {
        let listed: Vec<_> = (0..owners)
            .map(|number| format!(r#"{{ "type": "Ringward::Client", "id": "{number}" }}"#))
            .collect();
        format!(
            r#"[{{ "uid": {{ "type": "Ringward::Route", "id": "orders" }}, "attrs": {{ "owners": [{}] }}, "parents": [] }}]"#,
            listed.join(",")
        )
    };
    let few = entities(100);
    let many = entities(20_000);
    for (condition, walks) in [
        ("principal in resource.owners", true),
        ("principal is Ringward::Client in resource.owners", true),
        ("[resource.owners, resource.owners].isEmpty()", true),
        ("resource.owners.containsAll(resource.owners)", true),
        ("resource.owners.containsAny([principal, principal])", true),
        ("resource.owners == resource.owners", true),
        ("resource.owners.contains(principal)", false),
    ] {
        let policies = format!(
            "permit (principal is Ringward::Client, action, resource) when {{ resource has owners && {condition} }};\n"
        ).repeat(20);
        let files =
            |entities| [("e.json", entities), ("p.cedar", policies.as_str()), ("s.cedarschema", schema)];
        assert_eq!(errors_of(&files(&few)), "", "{condition}");
        let found = errors_of(&files(&many));
        assert_eq!(found.contains("e.json:1:1: error: an entity has "), walks, "{condition}: {found}");
    }
}

#[test]
fn what_nests_without_brackets_is_refused_before_it_is_read() {
    let indexed = |count: usize| permit(&format!("{{}}{}", "[\"a\"]".repeat(count)));
    for count in [4000, 8000] {
        assert!(
            errors(&indexed(count))
                .contains("p.cedar:1:5042: error: the policy has more than 1000 operators"),
            "{}",
            errors(&indexed(count))
        );
    }
    let path = |count: usize| permit(&format!("context.request.headers{}", "[\"a\"]".repeat(count)));
    assert!(errors(&path(200)).contains("p.cedar:1:1: error: the policy is nested deeper than 100 levels"));
    let commented = format!(
        "permit (principal, action, resource) when {{ // \r{}true{} }};",
        "(".repeat(8000),
        ")".repeat(8000)
    );
    assert!(errors(&commented).contains("error: brackets are nested deeper than 32"));
    for schema in [
        format!("entity A {{ a: {}Long{} }};", "Set<".repeat(20_000), ">".repeat(20_000)),
        format!("entity A {{ a: {}Long{} }};", "{ a: ".repeat(5000), "}".repeat(5000)),
    ] {
        let found = errors_of(&[("p.cedar", &permit("true")), ("s.cedarschema", &schema)]);
        assert!(
            found.starts_with("s.cedarschema:1:") && found.contains("types are nested deeper than 32"),
            "{found}"
        );
    }
    let doubled: String =
        (1..40).map(|number| format!("type A{number} = {{ a: A{0}, b: A{0} }};", number - 1)).collect();
    let found =
        errors_of(&[("p.cedar", &permit("true")), ("s.cedarschema", &format!("type A0 = Long;{doubled}"))]);
    assert!(found.contains("s.cedarschema:1:21: error: type `A1` is made of type `A0`"), "{found}");
    let entities: String = (0..257).map(|number| format!("entity E{number} in [E0];")).collect();
    let found = errors_of(&[("p.cedar", &permit("true")), ("s.cedarschema", &entities)]);
    assert!(found.contains("there are 257 types of entities, more than 256"), "{found}");
}

#[test]
fn groups_are_nested_so_deep_and_no_deeper() {
    let group = |id: usize, parents: &[usize]| {
        let parents: Vec<_> =
            parents.iter().map(|id| format!(r#"{{ "type": "Ringward::Group", "id": "g{id}" }}"#)).collect();
        format!(
            r#"{{ "uid": {{ "type": "Ringward::Group", "id": "g{id}" }}, "attrs": {{}}, "parents": [{}] }}"#,
            parents.join(",")
        )
    };
    let chain = |count: usize| {
        let groups: Vec<_> = (0..count).map(|id| group(id, &[id + 1])).collect();
        format!("[{}]", groups.join(",\n"))
    };
    let found = |entities: &str| errors_of(&[("e.json", entities), ("p.cedar", &permit("true"))]);
    assert_eq!(found(&chain(16)), "");
    assert!(
        found(&chain(17)).starts_with(
            "e.json:1:46: error: `Ringward::Group::\"g0\"` is in groups that are nested deeper than 16 levels"
        ),
        "{}",
        found(&chain(17))
    );
    let wide: Vec<_> = (1..=257).collect();
    let found = found(&format!("[{}]", group(0, &wide)));
    assert!(found.contains("`Ringward::Group::\"g0\"` is in more than 256 groups"), "{found}");
}

#[test]
fn fields_that_policies_name_are_bounded() {
    let has = |number: usize| permit(&format!("context.request.headers has \"x-{number}\""));
    let policies: String = (0..260).map(has).collect();
    let found = errors(&policies);
    assert!(
        found.contains("p.cedar:257:1: error: there are 260 fields, headers and parameters of the context that policies name, more than 256"),
        "{found}"
    );
}
