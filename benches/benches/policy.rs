//! Decisions: what a policy costs each request, and of that, what building its input costs.

use std::hint::black_box;
use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use ringward_benches::policy::{caching_worker, compiled, connection, request};
use ringward_benches::{
    BROWSER_REQUEST, Certificates, CpuTime, Fields, KIT_REQUEST, SERVICE_REQUEST, criterion, parsed,
};
use ringward_policy::bench::InputBuilder;
use ringward_policy::{
    InputShape, Language, Limits, Lookup, PolicySet, RequestView, Source, Subject, SubjectMark, compile,
};
use ringward_testkit::Leaf;

/// Three rules that are tried one after the other; the last allows the request.
const THREE_RULES: &str = r#"package ringward.authz

default decision := {"allowed": false, "rule": "default"}

decision := {"allowed": true, "rule": "health"} if {
	input.request.path == "/health"
}

decision := {"allowed": true, "rule": "monitoring"} if {
	startswith(input.client.spiffe_id, "spiffe://example.com/ns/monitoring/")
	input.request.method == "GET"
}

decision := {"allowed": true, "rule": "orders"} if {
	input.client.spiffe_id == "spiffe://example.com/ns/shop/sa/orders"
	startswith(input.request.path, "/orders/")
}
"#;

/// The claims of a client and what is known of its connection, as values of the evaluator: once for each connection.
fn subject(c: &mut Criterion<CpuTime>) {
    let peer = Certificates::new().peer();
    c.bench_function("policy/subject", |b| {
        b.iter(|| Subject::new(black_box(Some(&*peer)), &connection()));
    });
}

/// The whole input document of one request, as for a policy that reads every part. A policy that reads less pays less.
fn input(c: &mut Criterion<CpuTime>) {
    let subject = Subject::new(Some(&*Certificates::new().peer()), &connection());
    let mut group = c.benchmark_group("policy/input");
    for (name, text) in [("service", SERVICE_REQUEST), ("browser", BROWSER_REQUEST)] {
        let (head, mut builder) = (parsed(text), InputBuilder::whole(InputShape::Native));
        let fields = Fields(&head);
        let request = request(&head, &fields);
        group.bench_function(name, |b| b.iter(|| builder.build(&subject, black_box(&request))));
    }
    // What the policy of the side-by-side kit reads.
    let (head, mut builder) =
        (parsed(KIT_REQUEST), InputBuilder::reading(InputShape::Native, &["client.san.uri", "request.path"]));
    let fields = Fields(&head);
    let request = request(&head, &fields);
    group.bench_function("side_by_side_kit", |b| b.iter(|| builder.build(&subject, black_box(&request))));
    // The same in other shapes.
    for (shape, paths) in [
        (InputShape::EnvoyV3, ["attributes.source.principal", "attributes.request.http.path"]),
        (InputShape::Kong, ["consumer.username", "request.http.path"]),
    ] {
        let mut builder = InputBuilder::reading(shape, &paths);
        let name = format!("side_by_side_kit_{shape}");
        group.bench_function(name, |b| b.iter(|| builder.build(&subject, black_box(&request))));
    }
    group.finish();
}

/// Decisions with the cache around the policy: found again, key included, and missed, evaluation included.
fn cache(c: &mut Criterion<CpuTime>) {
    let subject = Subject::new(Some(&*Certificates::new().peer()), &connection());
    let (head, now) = (parsed(SERVICE_REQUEST), Instant::now());
    let fields = Fields(&head);
    let request = request(&head, &fields);
    let kit = include_str!("../../policies/bench/authz.rego");
    let headers =
        "package ringward.authz\n\ndecision := input.request.headers.accept == \"application/json\"\n";
    let mut group = c.benchmark_group("policy/cache");
    for (name, text) in [("three_rules", THREE_RULES), ("side_by_side_kit", kit), ("one_header", headers)] {
        let mut worker = caching_worker(&*compiled(text));
        let mut mark = SubjectMark::default();
        let mut decide = |request: &RequestView<'_>| {
            worker.decide(&mut mark, &mut || subject.clone(), request, now).lookup
        };
        (0..3).for_each(|_| assert!(decide(&request).is_some()));
        assert_eq!(decide(&request), Some(Lookup::Hit), "{name}");
        group.bench_function(format!("hit/{name}"), |b| b.iter(|| decide(black_box(&request))));
    }
    // As many decisions as there may be, each hit another one.
    let paths: Vec<String> = (0..8000).map(|number| format!("/orders/{number}")).collect();
    let mut requests = paths.iter().map(|path| RequestView { path, ..request }).cycle();
    let (mut worker, mut mark) = (caching_worker(&*compiled(THREE_RULES)), SubjectMark::default());
    let mut decide =
        |request: &RequestView<'_>| worker.decide(&mut mark, &mut || subject.clone(), request, now).lookup;
    requests.by_ref().take(8 * paths.len()).for_each(|request| assert!(decide(&request).is_some()));
    group.bench_function("hit/of_8000", |b| {
        b.iter(|| decide(&requests.next().expect("a cycle has no end")));
    });
    let mut number = 0_u64;
    let (mut worker, mut mark) = (caching_worker(&*compiled(THREE_RULES)), SubjectMark::default());
    let mut path = String::new();
    group.bench_function("miss/three_rules", |b| {
        b.iter(|| {
            use std::fmt::Write;
            number += 1;
            path.clear();
            write!(path, "/orders/{number}").expect("a string takes everything");
            // A second each, so that it looks up again whenever it has paused.
            let now = now + std::time::Duration::from_secs(number);
            worker.decide(&mut mark, &mut || subject.clone(), &RequestView { path: &path, ..request }, now)
        });
    });
    group.finish();
}

/// Whole decisions, input included: the three rules above, the policy of the side-by-side kit for what its load generator
/// sends, and the sample policy of `policies/` for a request that it allows and one that it denies.
fn decide(c: &mut Criterion<CpuTime>) {
    let subject = |certificates: Certificates| Subject::new(Some(&*certificates.peer()), &connection());
    let service = subject(Certificates::new());
    let kit_client = Leaf::client("client-a").organization("bench").spiffe("spiffe://bench/client-a");
    let kit_client = subject(Certificates::of_client(&kit_client));
    let stranger = Subject::new(None, &connection());
    let three_rules = vec![Source::new("three_rules.rego", THREE_RULES.as_bytes())];
    let kit = vec![Source::new("authz.rego", &include_bytes!("../../policies/bench/authz.rego")[..])];
    let sample = vec![
        Source::new("authz.rego", &include_bytes!("../../policies/authz.rego")[..]),
        Source::new("data.json", &include_bytes!("../../policies/data.json")[..]),
    ];
    let mut group = c.benchmark_group("policy/decide");
    for (name, sources, subject, text, allowed) in [
        ("three_rules", three_rules, &service, SERVICE_REQUEST, true),
        ("side_by_side_kit", kit, &kit_client, KIT_REQUEST, true),
        ("sample_allowed", sample.clone(), &service, SERVICE_REQUEST, true),
        ("sample_denied", sample, &stranger, SERVICE_REQUEST, false),
    ] {
        let head = parsed(text);
        let fields = Fields(&head);
        let request = request(&head, &fields);
        let set = PolicySet::new(sources, "data.ringward.authz.decision", Limits::default());
        let mut worker = compile(&set).expect("a policy that is right").worker();
        assert_eq!(worker.decide(subject, &request).expect("a decision").allowed, allowed, "{name}");
        group.bench_function(name, |b| b.iter(|| worker.decide(subject, black_box(&request))));
    }
    group.finish();
}

/// Decisions of the matcher, which should cost the same whether a table has a hundred rules or thousands: rules for a path each,
/// and rules for a client each on the same path. The last one allows.
fn matcher(c: &mut Criterion<CpuTime>) {
    let subject = Subject::new(Some(&*Certificates::new().peer()), &connection());
    let head = parsed(SERVICE_REQUEST);
    let fields = Fields(&head);
    let request = request(&head, &fields);
    let mut group = c.benchmark_group("policy/matcher");
    for rules in [100, 1000, 5000] {
        let table = |conditions: &dyn Fn(usize) -> String| {
            let rule = |number| {
                format!("[[rule]]\nname = \"r{number}\"\neffect = \"allow\"\n{}\n", conditions(number))
            };
            let last = "spiffe_id = \"spiffe://example.com/ns/*\"\nmethods = [\"GET\", \"POST\"]\npath = \"/{rest...}\"";
            let denied =
                "[[rule]]\nname = \"d\"\neffect = \"deny\"\npath = [\"/admin\", \"/admin/{rest...}\"]\n";
            let last = format!("[[rule]]\nname = \"last\"\neffect = \"allow\"\n{last}\n");
            (0..rules).map(rule).collect::<String>() + denied + &last
        };
        let paths = table(&|number| format!("tenant = \"t{number}\"\npath = \"/service{number}/{{id}}\""));
        let clients = table(&|number| {
            format!(
                "spiffe_id = \"spiffe://example.com/ns/shop/sa/other{number}\"\npath = \"{}\"",
                head.path()
            )
        });
        for (name, table) in [("paths", paths), ("clients", clients)] {
            let sources = vec![Source::new("table.toml", table.as_bytes())];
            let set = PolicySet::without_rule(Language::Matcher, sources, Limits::default());
            let mut worker = compile(&set).expect("a table that is right").worker();
            assert!(worker.decide(&subject, &request).expect("a decision").allowed, "{name}");
            group.bench_function(format!("{name}/{rules}"), |b| {
                b.iter(|| worker.decide(&subject, black_box(&request)));
            });
        }
    }
    group.finish();
}

/// Decisions of Cedar that no cache knows: three policies as people write them, a hundred, and a thousand of them.
fn cedar(c: &mut Criterion<CpuTime>) {
    let subject = Subject::new(Some(&*Certificates::new().peer()), &connection());
    let head = parsed(SERVICE_REQUEST);
    let fields = Fields(&head);
    let request = request(&head, &fields);
    let policy = |number: usize| {
        format!(
            "@id(\"r{number}\") permit (principal, action in [Ringward::Action::\"GET\", Ringward::Action::\"POST\"], resource)\n\
             when {{ context.client.spiffe_id == \"spiffe://example.com/ns/shop/sa/other{number}\" && context.request.path like \"/service{number}/*\" }};\n"
        )
    };
    let last = "@id(\"last\") permit (principal, action, resource)\n\
        when { context.client.spiffe_id like \"spiffe://example.com/ns/*\" && context.request.path like \"/*\" };\n\
        @id(\"admin\") forbid (principal, action, resource) when { context.request.path like \"/admin/*\" };\n";
    let mut group = c.benchmark_group("policy/cedar");
    for policies in [3, 100, 1000] {
        let text = (2..policies).map(policy).collect::<String>() + last;
        let sources = vec![Source::new("p.cedar", text.as_bytes())];
        let set = PolicySet::without_rule(Language::Cedar, sources, Limits::default());
        let mut worker = compile(&set).expect("policies that are right").worker();
        assert!(worker.decide(&subject, &request).expect("a decision").allowed, "{policies}");
        group.bench_function(format!("policies/{policies}"), |b| {
            b.iter(|| worker.decide(&subject, black_box(&request)));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = criterion();
    targets = subject, input, cache, decide, matcher, cedar
}
criterion_main!(benches);
