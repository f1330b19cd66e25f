//! What policies cost at scale: hundreds of rules, thousands of tenants in `data`, full caches.
//!
//! Rules cost in proportion to their number, since each of them is evaluated; what is in a table of `data` is looked up by
//! binary search. A decision about a tenant among ten thousand costs what one among ten costs (`tenants/*/miss` differ by less
//! than 20 %), and so do a hit and an evaluator. Only where each decision is about another tenant than the last
//! (`tenants/10000/miss_in_turn`) is the table out of the processor's caches, which costs half as much again, or more
//! beside busy neighbours.

use std::fmt::Write;
use std::hint::black_box;
use std::time::Instant;

use criterion::{BatchSize, BenchmarkGroup, Criterion, criterion_group, criterion_main};
use ringward_benches::policy::{
    caching_worker, caching_worker_of, compiled, compiled_with_data, connection, request,
};
use ringward_benches::{Certificates, CpuTime, Fields, SERVICE_REQUEST, criterion, parsed};
use ringward_policy::{CachingWorker, CompiledPolicy, Lookup, RequestView, Subject, SubjectMark};

/// How many rules, and how many routes in the table that stands for them.
const RULES: usize = 500;

/// 500 rules, each for one host, path and client. A request that the last one allows costs what one costs that none allows:
/// all are evaluated in any case.
fn rules(c: &mut Criterion<CpuTime>) {
    let mut text =
        "package ringward.authz\n\ndefault decision := {\"allowed\": false, \"rule\": \"default\"}\n"
            .to_owned();
    for number in 0..RULES {
        write!(
            text,
            "\ndecision := {{\"allowed\": true, \"rule\": \"{number}\"}} if {{\n\
             \tinput.request.host == \"{host}\"\n\
             \tinput.request.path == \"{path}\"\n\
             \tinput.client.spiffe_id == \"{CLIENT}\"\n}}\n",
            host = host(number),
            path = path(number),
        )
        .expect("a string takes everything");
    }
    let mut group = c.benchmark_group("policy_scale/rules_500");
    measure_last_and_none(&mut group, &*compiled(&text));
    group.finish();
}

/// The same as a table in `data`, and one rule.
fn table(c: &mut Criterion<CpuTime>) {
    let module = "package ringward.authz\n\n\
        default decision := {\"allowed\": false, \"rule\": \"default\"}\n\n\
        decision := {\"allowed\": true, \"rule\": \"table\"} if {\n\
        \tinput.client.spiffe_id in data.routes[input.request.host][input.request.path]\n}\n";
    let routes: Vec<String> = (0..RULES)
        .map(|number| format!("\"{}\": {{\"{}\": [\"{CLIENT}\"]}}", host(number), path(number)))
        .collect();
    let data = format!("{{\"routes\": {{{}}}}}", routes.join(", "));
    let mut group = c.benchmark_group("policy_scale/table_500");
    measure_last_and_none(&mut group, &*compiled_with_data(module, Some(&data)));
    group.finish();
}

/// Decisions about tenants that are found in `data` by the client's tenant and by the host, among ten and among ten thousand:
/// evaluated for one tenant and for all in turn, and found in the cache.
fn tenants(c: &mut Criterion<CpuTime>) {
    let subject = subject();
    let head = parsed(SERVICE_REQUEST);
    let fields = Fields(&head);
    let request = request(&head, &fields);
    for count in [10, 10_000] {
        let policy = compiled_with_data(TENANTS, Some(&tenants_data(count)));
        let mut group = c.benchmark_group(format!("policy_scale/tenants/{count}"));
        let hosts: Vec<String> = (0..count).map(host).collect();
        let last = RequestView { host: &hosts[count - 1], ..request };
        let mut worker = policy.worker();
        assert!(worker.decide(&subject, &last).expect("a decision").allowed);
        group.bench_function("miss", |b| b.iter(|| worker.decide(&subject, black_box(&last))));
        // One after the other, far apart in the table: its entries are not in the processor's caches.
        let mut turn = 0;
        group.bench_function("miss_in_turn", |b| {
            b.iter(|| {
                turn = (turn + 7919) % count;
                worker.decide(&subject, &RequestView { host: &hosts[turn], ..request })
            });
        });
        measure_hit(&mut group, "hit", &*policy, &subject, &last);
        // What each worker does when it adopts the policy.
        group.bench_function("evaluator", |b| b.iter(|| caching_worker(&*policy)));
        group.finish();
    }
}

/// Letting go of a full cache: all of it, and a piece of it as a worker does with each beat.
fn full_cache(c: &mut Criterion<CpuTime>) {
    let policy =
        compiled("package ringward.authz\n\ndecision := {\"allowed\": true, \"rule\": input.request.path}\n");
    let mut group = c.benchmark_group("policy_scale/full_cache");
    group.sample_size(10);
    for entries in [8192, 65_536] {
        group.bench_function(format!("drop/{entries}"), |b| {
            b.iter_batched(|| full(&*policy, entries), drop, BatchSize::PerIteration);
        });
    }
    group.bench_function("piece/4096", |b| {
        let remains = || full(&*policy, 8192).into_remains().expect("it has a cache");
        b.iter_batched_ref(remains, |remains| assert!(remains.shrink(4096)), BatchSize::PerIteration);
    });
    group.finish();
}

fn measure_last_and_none(group: &mut BenchmarkGroup<'_, CpuTime>, policy: &dyn CompiledPolicy) {
    let subject = subject();
    let head = parsed(SERVICE_REQUEST);
    let fields = Fields(&head);
    let request = request(&head, &fields);
    let (host, path) = (host(RULES - 1), path(RULES - 1));
    let last = RequestView { host: &host, path: &path, ..request };
    for (name, request, allowed) in [("last", last, true), ("none", request, false)] {
        let mut worker = policy.worker();
        assert_eq!(worker.decide(&subject, &request).expect("a decision").allowed, allowed, "{name}");
        group.bench_function(name, |b| b.iter(|| worker.decide(&subject, black_box(&request))));
        measure_hit(group, &format!("{name}/hit"), policy, &subject, &request);
    }
}

fn measure_hit(
    group: &mut BenchmarkGroup<'_, CpuTime>,
    name: &str,
    policy: &dyn CompiledPolicy,
    subject: &Subject,
    request: &RequestView<'_>,
) {
    let (mut worker, mut mark, now) = (caching_worker(policy), SubjectMark::default(), Instant::now());
    let mut decide =
        |request: &RequestView<'_>| worker.decide(&mut mark, &mut || subject.clone(), request, now).lookup;
    (0..2).for_each(|_| assert_eq!(decide(request), Some(Lookup::Miss)));
    assert_eq!(decide(request), Some(Lookup::Hit), "{name}");
    group.bench_function(name, |b| b.iter(|| decide(black_box(request))));
}

/// An evaluator whose cache has so many decisions.
fn full(policy: &dyn CompiledPolicy, entries: usize) -> CachingWorker {
    let (mut worker, mut mark, now) =
        (caching_worker_of(policy, entries), SubjectMark::default(), Instant::now());
    let subject = subject();
    let head = parsed(SERVICE_REQUEST);
    let fields = Fields(&head);
    let request = request(&head, &fields);
    for number in 0..entries {
        let path = path(number);
        // What is asked twice is kept, and the third time found: a cache in which nothing is found pauses.
        for _ in 0..3 {
            worker.decide(&mut mark, &mut || subject.clone(), &RequestView { path: &path, ..request }, now);
        }
    }
    assert_eq!(worker.entries(), entries);
    worker
}

fn subject() -> Subject {
    Subject::new(Some(&*Certificates::new().peer()), &connection())
}

fn host(number: usize) -> String {
    format!("tenant-{number}.example.com")
}

fn path(number: usize) -> String {
    format!("/orders/{number}/lines")
}

/// So many tenants, with some 300 bytes each.
fn tenants_data(count: usize) -> String {
    let tenants: Vec<String> = (0..count)
        .map(|number| {
            format!(
                "\"{}\": {{\"id\": {number}, \"name\": \"Tenant number {number}\", \"plan\": \"standard\",\n\
                 \"clients\": {{\"{CLIENT}\": {{\"since\": {number}}}, \"spiffe://example.com/ns/shop/sa/other-{number}\": {{\"since\": 0}}}},\n\
                 \"methods\": [\"GET\", \"POST\"], \"prefixes\": [\"/invoices/\", \"/orders/\"]}}",
                host(number)
            )
        })
        .collect();
    format!("{{\"tenants\": {{{}}}}}", tenants.join(",\n"))
}

const TENANTS: &str = "package ringward.authz\n\n\
    default decision := {\"allowed\": false, \"rule\": \"default\"}\n\n\
    decision := {\"allowed\": true, \"rule\": \"tenant\", \"reason\": tenant.name} if {\n\
    \ttenant := data.tenants[input.request.host]\n\
    \ttenant.clients[input.client.spiffe_id]\n\
    \tinput.request.method in tenant.methods\n\
    \tstrings.any_prefix_match(input.request.path, tenant.prefixes)\n}\n";

const CLIENT: &str = "spiffe://example.com/ns/shop/sa/orders";

criterion_group! {
    name = benches;
    config = criterion();
    targets = rules, table, tenants, full_cache
}
criterion_main!(benches);
