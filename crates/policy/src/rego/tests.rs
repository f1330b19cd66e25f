use std::time::Instant;

use super::*;
use crate::input::sample;
use crate::input::view::RouteView;
use crate::set::{Limits, Source};

fn policy(sources: &[(&str, &str)], limits: Limits) -> Arc<dyn CompiledPolicy> {
    let sources = sources.iter().map(|(path, text)| Source::new(*path, text.as_bytes())).collect();
    crate::compile(&PolicySet::new(sources, "data.p.allow", limits))
        .unwrap_or_else(|errors| panic!("{errors}"))
}

fn patient() -> Limits {
    Limits { time_budget: Duration::from_secs(10), ..Limits::default() }
}

fn decide_with(sources: &[(&str, &str)], request: &RequestView<'_>) -> Result<Decision, DecisionError> {
    policy(sources, patient()).worker().decide(&sample::subject(), request)
}

/// Decides the sample request by the rules of `package p`.
fn decide(rules: &str) -> Result<Decision, DecisionError> {
    decide_with(&[("p.rego", &format!("package p\n{rules}\n"))], &sample::request())
}

/// Whether `allow` holds if its body is `body`.
fn holds(body: &str) -> bool {
    decide(&format!("default allow := false\nallow if {{\n{body}\n}}"))
        .unwrap_or_else(|error| panic!("{body}: {error}"))
        .allowed
}

#[test]
fn allowed_denied_undefined_and_error_are_told_apart() {
    let request = "allow if input.request.method == ";
    assert!(decide(&format!("{request}\"GET\"")).unwrap().allowed);
    let undefined = decide(&format!("{request}\"PUT\"")).unwrap();
    assert!(!undefined.allowed && undefined.undefined);
    let denied = decide(&format!("default allow := false\n{request}\"PUT\"")).unwrap();
    assert!(!denied.allowed && !denied.undefined);
    let error = decide("default allow := false\nallow if to_number(input.request.method) > 1").unwrap_err();
    assert_eq!(error.kind(), "evaluation");
    assert_eq!(error.to_string(), "policy evaluation failed: p.rego:3:19: could not parse string as number");
    assert_eq!(
        decide("allow := x if x := count(input.request.path)"),
        Err(DecisionError::WrongType("a number"))
    );
    assert!(matches!(decide("allow := {\"allowed\": \"yes\"}"), Err(DecisionError::InvalidResult(_))));
}

#[test]
fn errors_of_builtins_never_make_a_negation_hold() {
    for call in [
        "to_number(\"x\") == 1",
        "units.parse(\"x\") == 1",
        "regex.match(concat(\"\", [\"(\"]), \"x\")",
        "glob.match(concat(\"\", [\"[\"]), [], \"x\")",
        "1 / 0 == 1",
        "json.unmarshal(\"{\") == 1",
        "count(1) == 1",
    ] {
        let error = decide(&format!("default allow := false\nallow if not {call}")).expect_err(call);
        assert_eq!(error.kind(), "evaluation", "{call}");
        let in_function = format!("default allow := false\nallow if not f(1)\nf(x) if {{ x == 1; {call} }}");
        assert_eq!(decide(&in_function).expect_err(call).kind(), "evaluation", "{call}");
    }
}

#[test]
fn what_is_undefined_does_not_let_the_body_hold() {
    // regorus' bytecode machine lets the first of these hold.
    assert!(!holds("role := input.request.headers.absent\nnot role in [\"x\"]"));
    assert!(!holds("role := input.request.headers.absent\nnot role == \"x\""));
    assert!(!holds("x := [r | r := input.request.headers.absent][0]\nnot x == 1"));
    assert!(!holds("x := {\"a\": input.request.headers.absent}\nnot x.a == 1"));
    assert!(!holds("count([1 | input.request.headers.absent == \"x\"]) > 0"));
}

/// Negations on which regorus and OPA agree; `check::negation` refuses the others.
#[test]
fn negations_over_missing_entries() {
    assert!(holds("not input.request.headers.absent"));
    assert!(holds("not input.request.headers.absent == \"x\""));
    // What the documentation recommends.
    assert!(!holds("header := input.request.headers.absent\nnot startswith(header, \"x\")"));
    assert!(holds("not startswith(object.get(input.request.headers, \"absent\", \"\"), \"x\")"));
}

#[test]
fn header_reads_the_request_and_is_empty_without_the_field() {
    assert!(holds("header(\"accept\") == \"application/json\""));
    assert!(holds("header(\"Accept\") == \"application/json\""));
    assert!(holds("header(\"absent\") == \"\""));
    assert!(holds("not startswith(header(\"absent\"), \"x\")"));
    assert!(holds("some name in [\"cookie\"]; header(name) == \"session=sample\""));
    assert!(holds("f(\"accept\")\n}\nf(name) if {\nheader(name) != \"\""));
    assert!(decide("default allow := false\nallow if header(1) == \"\"").is_err());
}

#[test]
fn header_reads_each_request_and_no_other() {
    let rules = "package p\ndefault allow := false\nallow if header(\"x-role\") == \"admin\"\n\
        allow if { header(\"x-role\") == \"broken\"; to_number(input.request.path) > 1 }\n";
    let policy = policy(&[("p.rego", rules)], patient());
    let (mut first, mut second) = (policy.worker(), policy.worker());
    let request =
        |headers: &'static [(&'static str, &'static str); 1]| RequestView { headers, ..sample::request() };
    let admin = request(&[("x-role", "admin")]);
    let guest = request(&[("x-role", "guest")]);
    let broken = request(&[("x-role", "broken")]);
    for _ in 0..2 {
        assert!(first.decide(&sample::subject(), &admin).unwrap().allowed);
        assert!(!second.decide(&sample::subject(), &guest).unwrap().allowed);
        assert!(!first.decide(&sample::subject(), &guest).unwrap().allowed);
        // An error makes the evaluator new, and it still sees requests.
        assert!(first.decide(&sample::subject(), &broken).is_err());
        assert!(first.decide(&sample::subject(), &admin).unwrap().allowed);
    }
}

#[test]
fn header_follows_the_input_of_a_test() {
    let rules = "package p.q\ndefault allow := false\nallow if header(\"X-Role\") == \"admin\"\n";
    let tests = "package p.q_test\ntest_admin if data.p.q.allow with input.request.headers as {\"x-role\": \"admin\"}\n\
        test_none if not data.p.q.allow with input.request.headers as {}\n\
        test_without_input if header(\"x-role\") == \"\"\n";
    let sources = [("p.rego", rules), ("p_test.rego", tests)];
    let sources = sources.iter().map(|(path, text)| Source::new(*path, text.as_bytes())).collect();
    let set = PolicySet::new(sources, "data.p.q.allow", patient());
    let report = crate::run_tests(&set, &crate::TestOptions::default()).unwrap().report;
    assert_eq!(report.passed(), 3, "{report:?}");
}

#[test]
fn a_header_function_of_the_policy_is_its_own() {
    let own = "default allow := false\nallow if header(\"accept\") == \"own\"\nheader(_) := \"own\"";
    assert!(decide(own).unwrap().allowed);
    let library = "package lib\nheader(_) := \"lib\"\n";
    let module =
        "package p\nimport data.lib.header\ndefault allow := false\nallow if header(\"accept\") == \"lib\"\n";
    assert!(decide_with(&[("p.rego", module), ("lib.rego", library)], &sample::request()).unwrap().allowed);
    // A package whose name needs brackets.
    let odd = "package p[\"x-y\"].z\nok if header(\"accept\") != \"\"\n";
    let module = "package p\ndefault allow := false\nallow if data.p[\"x-y\"].z.ok\n";
    assert!(decide_with(&[("p.rego", module), ("odd.rego", odd)], &sample::request()).unwrap().allowed);
}

#[test]
fn contradictions_are_errors() {
    assert_eq!(decide("allow if true\nallow := false if true").unwrap_err().kind(), "evaluation");
    assert_eq!(
        decide("default allow := false\nallow := f(1)\nf(x) := true if x > 0\nf(x) := false if x < 2")
            .unwrap_err()
            .kind(),
        "evaluation"
    );
    assert_eq!(decide("allow := x if some x in [false, true]").unwrap_err().kind(), "evaluation");
    assert_eq!(
        decide("allow := o.a\no[k] := v if some k, v in [1, 2]\no.a := true\no.a := false")
            .unwrap_err()
            .kind(),
        "evaluation"
    );
}

#[test]
fn globs_and_regular_expressions_are_ours() {
    assert!(!holds("glob.match(\"a:*\", [\":\"], \"a:b:c\")"));
    assert!(!holds("glob.match(\"[^b]\", [], \"a\")"));
    assert!(holds("glob.match(\"**.json\", [\"/\"], \"a/b.json\")"));
    assert!(holds("glob.match(\"/orders/*\", [\"/\"], input.request.path)"));
    assert!(!holds("regex.match(`^\\d+$`, \"\u{661}\u{662}\")"));
    assert!(!holds("regex.match(`^\\w+$`, \"é\")"));
    assert!(holds("regex.match(`^/orders/\\d+$`, input.request.path)"));
    assert!(holds("regex.replace(\"aba\", \"a\", \"x\") == \"xbx\""));
    assert!(holds("glob.quote_meta(\"a*\") == `a\\*`"));
    assert!(holds("count(\"é😀\") == 2"));
    // Also with the result as the last argument, and replaced by `with`.
    assert!(holds("regex.match(`^/`, input.request.path, result); result == true"));
    let mocked = "default allow := false\nallow if f with glob.match as mock\nf if glob.match(\"a\", [], \"b\")\nmock(_, _, _) := true";
    assert!(decide(mocked).unwrap().allowed);
}

#[test]
fn an_import_named_like_a_builtin_is_the_import() {
    let library = "package lib.glob\nmatch(_, _, _) := false\n";
    let module =
        "package p\nimport data.lib.glob\ndefault allow := false\nallow if glob.match(\"*\", [], \"a\")\n";
    assert!(!decide_with(&[("p.rego", module), ("lib.rego", library)], &sample::request()).unwrap().allowed);
}

#[test]
fn loops_end_with_the_time_budget() {
    let rules = "package p\ndefault allow := false\nallow if {\n\tr := numbers.range(1, 5000)\n\tsome a in r\n\tsome b in r\n\ta * b == -1\n}\n";
    let limits = Limits { time_budget: Duration::from_millis(20), ..Limits::default() };
    let policy = policy(&[("p.rego", rules)], limits);
    let mut worker = policy.worker();
    for _ in 0..2 {
        let started = Instant::now();
        assert_eq!(worker.decide(&sample::subject(), &sample::request()), Err(DecisionError::TimeBudget));
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    }
}

#[test]
fn the_time_budget_holds_inside_functions() {
    let rules = "package p\ndefault allow := false\nallow if f(numbers.range(1, 5000))\nf(r) if {\n\tsome a in r\n\tsome b in r\n\ta * b == -1\n}\n";
    let limits = Limits { time_budget: Duration::from_millis(20), ..Limits::default() };
    let policy = policy(&[("p.rego", rules)], limits);
    assert_eq!(
        policy.worker().decide(&sample::subject(), &sample::request()),
        Err(DecisionError::TimeBudget)
    );
}

#[test]
fn no_builtin_runs_away_with_what_a_client_sends() {
    let long = ",".repeat(10_001);
    let headers = [
        ("x-number", "1000000000000"),
        ("x-net", "0.0.0.0/0"),
        ("x-exponent", "1e999999999"),
        ("x-long", long.as_str()),
    ];
    let request = RequestView { headers: &headers, ..sample::request() };
    for expression in [
        "numbers.range(1, to_number(input.request.headers[\"x-number\"]))",
        "numbers.range_step(1, to_number(input.request.headers[\"x-number\"]), 1)",
        "net.cidr_expand(input.request.headers[\"x-net\"])",
        "to_number(input.request.headers[\"x-exponent\"])",
        "bits.lsh(1, to_number(input.request.headers[\"x-number\"]))",
        "sprintf(concat(\"\", [\"%\", input.request.headers[\"x-number\"], \"d\"]), [1])",
        "split(input.request.headers[\"x-long\"], \",\")",
        "split(input.request.headers[\"x-long\"], \"\")",
        "regex.split(\",\", input.request.headers[\"x-long\"])",
        "regex.find_n(\",\", input.request.headers[\"x-long\"], -1)",
        "regex.find_all_string_submatch_n(\",\", input.request.headers[\"x-long\"], -1)",
    ] {
        let rules =
            format!("package p\ndefault allow := false\nallow if {{\n\tx := {expression}\n\tx != 0\n}}\n");
        let started = Instant::now();
        let error = decide_with(&[("p.rego", &rules)], &request).expect_err(expression);
        assert_eq!(error.kind(), "evaluation", "{expression}");
        assert!(started.elapsed() < Duration::from_secs(2), "{expression}");
    }
}

#[test]
fn nothing_of_a_failed_evaluation_reaches_the_next() {
    // The evaluation fails while `with` has replaced the input and a function, in the middle of a rule.
    let rules = "package p
default allow := false
allow if input.request.path == \"/good\"
allow if {
	input.request.path == \"/bad\"
	failing with input.request.path as \"/good\" with is_string as yes
}
failing if { is_string(1); to_number(\"x\") == 1 }
yes(_) := true
";
    let policy = policy(&[("p.rego", rules)], patient());
    let mut worker = policy.worker();
    let at = |path| RequestView { path, ..sample::request() };
    for _ in 0..3 {
        assert_eq!(worker.decide(&sample::subject(), &at("/bad")).unwrap_err().kind(), "evaluation");
        assert!(!worker.decide(&sample::subject(), &at("/other")).unwrap().allowed);
        assert!(worker.decide(&sample::subject(), &at("/good")).unwrap().allowed);
        assert!(!worker.decide(&sample::subject(), &at("/other")).unwrap().allowed);
    }
}

#[test]
fn workers_and_subjects_are_independent() {
    let by_method = policy(
        &[("p.rego", "package p\ndefault allow := false\nallow if input.request.method == \"GET\"\n")],
        patient(),
    );
    let by_name = policy(
        &[(
            "p.rego",
            "package p\ndefault allow := false\nallow if input.client.name == \"spiffe://example.com/ns/sample/sa/client\"\n",
        )],
        patient(),
    );
    let (mut one, mut two) = (by_method.worker(), by_method.worker());
    let put = RequestView { method: "PUT", ..sample::request() };
    // A subject made for one policy serves another, and another worker.
    let subject = one.subject(None, &sample::connection());
    let known = sample::subject();
    assert!(one.decide(&subject, &sample::request()).unwrap().allowed);
    assert!(!two.decide(&subject, &put).unwrap().allowed);
    assert!(one.decide(&known, &sample::request()).unwrap().allowed);
    let mut three = by_name.worker();
    assert!(!three.decide(&subject, &sample::request()).unwrap().allowed);
    assert!(three.decide(&known, &put).unwrap().allowed);
    assert!(!three.decide(&subject, &put).unwrap().allowed);
    // Policies are shared between threads, workers are made on their own.
    let policy = Arc::clone(&by_method);
    let thread = std::thread::spawn(move || {
        policy.worker().decide(&sample::subject(), &sample::request()).unwrap().allowed
    });
    assert!(thread.join().unwrap());
    assert_ne!(by_method.digest(), by_name.digest());
}

#[test]
fn a_panic_is_contained_and_the_evaluator_rebuilt() {
    let mut engine = new_engine();
    let panics = Box::new(|args: Vec<Value>| -> Result<Value, _> {
        if args[0] == Value::from("/panic") {
            panic!("a builtin panicked")
        }
        Ok(Value::Bool(true)).map_err(|error: builtins::CallError| error.into())
    });
    engine.add_extension("test.panic".to_owned(), 1, panics).unwrap();
    let module = "package p\ndefault allow := false\nallow if test.panic(input.request.path)\n";
    engine.add_policy("p.rego".to_owned(), module.to_owned()).unwrap();
    engine.compile_with_entrypoint(&"data.p.allow".into()).unwrap();
    let set = PolicySet::new(vec![], "data.p.allow", patient());
    let mut worker = RegoPolicy::new(engine, Reads::everything(), Err(Vec::new()), &set).worker();
    let at = |path| RequestView { path, ..sample::request() };
    for _ in 0..2 {
        assert_eq!(worker.decide(&sample::subject(), &at("/panic")), Err(DecisionError::Panic));
        assert!(worker.decide(&sample::subject(), &at("/fine")).unwrap().allowed);
    }
}

#[test]
fn a_panicking_header_source_is_contained() {
    struct Broken;
    impl crate::input::view::HeaderSource for Broken {
        fn for_each(&self, _: &mut dyn FnMut(&str, &str)) {
            panic!("headers");
        }
    }
    let policy = policy(&[("p.rego", "package p\nallow if input.request.headers.a == \"1\"\n")], patient());
    let mut worker = policy.worker();
    let broken = RequestView { headers: &Broken, ..sample::request() };
    assert_eq!(worker.decide(&sample::subject(), &broken), Err(DecisionError::Panic));
    assert!(worker.decide(&sample::subject(), &sample::request()).unwrap().undefined);
}

#[test]
fn address_ranges_match_mapped_addresses() {
    let connection =
        crate::ConnectionView { remote: "[::ffff:10.1.2.3]:1".parse().unwrap(), ..sample::connection() };
    let policy = policy(
        &[(
            "p.rego",
            "package p\nallow if net.cidr_contains(\"10.0.0.0/8\", input.connection.remote_addr)\n",
        )],
        patient(),
    );
    let mut worker = policy.worker();
    let subject = worker.subject(None, &connection);
    assert!(worker.decide(&subject, &sample::request()).unwrap().allowed);
}

#[test]
fn unread_parts_of_the_input_do_not_change_decisions() {
    let rules = "package p\nallow := {\"allowed\": true, \"reason\": concat(\" \", parts)}\nparts := [input.request.method, input.route.params.id, input.request.query.tag[1], input.request.headers.accept]\n";
    let decision = decide_with(&[("p.rego", rules)], &sample::request()).unwrap();
    assert_eq!(decision.reason.as_deref(), Some("GET 17 b application/json"));
    let bare = RequestView { route: RouteView::default(), ..sample::request() };
    assert!(decide_with(&[("p.rego", rules)], &bare).unwrap().undefined);
}

/// It is built only where it is read, so every way of reading it has to be seen.
#[test]
fn the_age_of_a_proof_is_there_however_it_is_read() {
    for age in [
        "input.connection.auth_age_seconds",
        "input.connection[\"auth_age_seconds\"]",
        "input[\"connection\"].auth_age_seconds",
        "object.get(input.connection, \"auth_age_seconds\", 0)",
        "object.get(input, [\"connection\", \"auth_age_seconds\"], 0)",
        "[age | some name, age in input.connection; name == \"auth_age_seconds\"][0]",
    ] {
        let rules = format!("package p\ndefault allow := false\nallow if {age} == 1000\n");
        let decision = decide_with(&[("p.rego", &rules)], &sample::request()).unwrap();
        assert!(decision.allowed, "{age}");
    }
    let imported = "package p\nimport input.connection as c\nallow if c.auth_age_seconds == 1000\n";
    assert!(decide_with(&[("p.rego", imported)], &sample::request()).unwrap().allowed);
}

#[test]
fn reports_of_the_engine_are_taken_apart() {
    let report = EngineReport::parse("\n--> dir/p.rego:3:19\n  |\n3 | x\n  | ^\nerror: it failed");
    assert_eq!((report.place, report.message), (Some(("dir/p.rego", 3, 19)), "it failed"));
    let report = EngineReport::parse("it failed without a place");
    assert_eq!((report.place, report.message), (None, "it failed without a place"));
    assert_eq!(
        evaluation_error("x execution exceeded time limit (elapsed=1ns, limit=1ns)"),
        DecisionError::TimeBudget
    );
}

/// As in the binary, so that what `cost` tells holds there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `cargo test --release -p ringward-policy -- --ignored --nocapture cost` tells what a decision costs here.
#[test]
#[ignore = "measures"]
fn cost() {
    let best = |name: &str, run: &mut dyn FnMut()| {
        let batch = |run: &mut dyn FnMut()| {
            let started = Instant::now();
            (0..100).for_each(|_| run());
            started.elapsed().as_nanos() / 100
        };
        let nanoseconds = (0..300).map(|_| batch(run)).min().unwrap();
        println!("{name:40} {nanoseconds:>7} ns");
    };
    let (subject, request) = (sample::subject(), sample::request());
    best("subject", &mut || drop(sample::subject()));
    for shape in InputShape::ALL {
        let mut builder = Builder::whole(shape);
        best(&format!("input {shape}, everything"), &mut || drop(builder.build(&subject, &request)));
    }
    for (shape, paths) in [
        (InputShape::Native, ["request.method", "request.path"]),
        (InputShape::EnvoyV3, ["attributes.request.http.method", "attributes.request.http.path"]),
        (InputShape::Kong, ["request.http.method", "request.http.path"]),
    ] {
        let mut builder = Builder::reading(shape, &Reads::from_dotted(&paths));
        best(&format!("input {shape}, method and path"), &mut || drop(builder.build(&subject, &request)));
    }
    let mut builder = Builder::whole(InputShape::Native);
    let mut other = sample::HEADERS;
    other.iter_mut().for_each(|(_, value)| *value = "another value");
    let (mut turn, other) = (false, RequestView { headers: &other, ..request });
    best("input, everything, headers changing", &mut || {
        turn = !turn;
        drop(builder.build(&subject, if turn { &request } else { &other }));
    });
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies");
    let file = |path: &str| Source::new(path, std::fs::read(root.join(path)).unwrap());
    for (name, sources) in [
        ("sample policy", vec![file("authz.rego"), file("data.json")]),
        ("benchmark policy", vec![file("bench/authz.rego")]),
        ("constant", vec![Source::new("c.rego", b"package ringward.authz\ndecision := true\n".as_slice())]),
    ] {
        let policy =
            crate::compile(&PolicySet::new(sources, "data.ringward.authz.decision", patient())).unwrap();
        let mut worker = policy.worker();
        best(&format!("{name}, denied"), &mut || drop(worker.decide(&subject, &request).unwrap()));
        let claims = crate::input::subject::Claims {
            uris: vec!["spiffe://bench/client-a".to_owned()].into(),
            ..sample::claims()
        };
        let known = Subject::from_claims(&claims, &sample::connection());
        let api = RequestView { path: "/api/x", ..request };
        best(&format!("{name}, client-a"), &mut || drop(worker.decide(&known, &api).unwrap()));
    }
    let glob = "package ringward.authz\ndecision if glob.match(\"/orders/*\", [\"/\"], input.request.path)\n";
    let regex = "package ringward.authz\ndecision if regex.match(`^/orders/\\d+$`, input.request.path)\n";
    let plain = "package ringward.authz\ndecision if startswith(input.request.path, \"/orders/\")\n";
    for (name, text) in [("one startswith", plain), ("one glob.match", glob), ("one regex.match", regex)] {
        let set = PolicySet::new(
            vec![Source::new("p.rego", text.as_bytes())],
            "data.ringward.authz.decision",
            patient(),
        );
        let mut worker = crate::compile(&set).unwrap().worker();
        assert!(worker.decide(&subject, &request).unwrap().allowed);
        best(name, &mut || drop(worker.decide(&subject, &request).unwrap()));
    }
}
