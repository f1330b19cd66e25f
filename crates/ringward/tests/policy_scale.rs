//! Policies with many rules and tenants, and full decision caches, exchanged while clients keep sending: nobody is refused or
//! cut, and the workers are not held up.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]
#![allow(clippy::print_stdout, reason = "the figures are for whoever asks for them")]

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ringward_testkit::eventually;

use self::support::{Gateway, HOST, Host};

/// How much there is.
struct Size {
    rules: usize,
    tenants: usize,
    /// Decisions about paths of `many_rules`, and of `one_rule`.
    entries: (u64, u64),
    swaps: usize,
}

/// So many rules that do not match, and one that does and looks a tenant up.
fn many_rules(size: &Size) -> (String, String) {
    let mut rules = "package ringward.authz\n\ndefault decision := false\n\n\
        decision if data.tenants[input.request.host].paths[input.route.id]\n"
        .to_owned();
    for number in 0..size.rules {
        rules += &format!(
            "\ndecision if {{\n\tinput.request.host == \"tenant-{number}.example.com\"\n\
             \tinput.request.path == \"/orders/{number}\"\n\tinput.client.name == \"client {number}\"\n}}\n"
        );
    }
    let tenant =
        |name: &str| format!("\"{name}\": {{\"plan\": \"standard\", \"paths\": {{\"rules\": true}}}}");
    let mut tenants: Vec<_> =
        (0..size.tenants).map(|number| tenant(&format!("tenant-{number}.example.com"))).collect();
    tenants.push(tenant(HOST));
    (rules, format!("{{\"tenants\": {{{}}}}}", tenants.join(",\n")))
}

const ONE_RULE: &str = "package ringward.authz\n\n\
    decision := {\"allowed\": true, \"rule\": concat(\" \", [\"of\", input.request.path])}\n";

/// What the clients ask for: each path three times before the next, so that the caches fill and are of use.
struct Paths {
    next: AtomicU64,
    entries: (u64, u64),
}

impl Paths {
    fn next(&self) -> String {
        let (of_rules, of_one) = self.entries;
        let number = self.next.fetch_add(1, Ordering::Relaxed) / 3;
        let number = number % (of_rules + of_one);
        if number < of_rules { format!("/rules/{number}") } else { format!("/one/{number}") }
    }
}

/// What a client has met.
#[derive(Default)]
struct Served {
    failures: Vec<String>,
    requests: u64,
    slowest: Duration,
}

fn client(gateway: &Gateway, paths: &Paths, done: &AtomicBool) -> Served {
    let mut served = Served::default();
    let mut connection = gateway.connect();
    while !done.load(Ordering::Relaxed) {
        let started = Instant::now();
        match connection.get(&paths.next()) {
            Ok(response) if response.status == 200 && response.keeps_alive() => {}
            other => {
                served.failures.push(format!("{other:?}"));
                return served;
            }
        }
        served.slowest = served.slowest.max(started.elapsed());
        served.requests += 1;
    }
    served
}

fn swap_under_load(size: &Size) {
    let (rules, data) = many_rules(size);
    let (of_rules, of_one) = size.entries;
    let gateway = {
        let builder =
            Gateway::builder().log("access = \"off\"").policy("rules", &rules).policy("one", ONE_RULE);
        builder.pki().write("policies/rules/data.json", &data);
        builder
            .host(
                Host::new(&[HOST])
                    .route("path = \"/rules/{rest...}\"", "id = \"rules\"\npolicy = \"rules\"")
                    .route("path = \"/one/{rest...}\"", "id = \"one\"\npolicy = \"one\""),
            )
            .start()
    };
    for (policy, entries) in [("rules", of_rules), ("one", of_one)] {
        let path = format!("path = [\"policies/{policy}/\"]\n");
        let cache = format!("cache = {{ entries = {entries}, bytes = \"128MiB\" }}\n");
        gateway.reconfigure(&path, &(path.clone() + &cache));
    }
    let paths = Paths { next: AtomicU64::new(0), entries: size.entries };
    let (done, adoptions) = (AtomicBool::new(false), Adoptions::of(&gateway));
    thread::scope(|scope| {
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(|| client(&gateway, &paths, &done))).collect();
        let stop = Stop(&done);
        for swap in 0..size.swaps {
            wait_until_full(&gateway, "rules", of_rules);
            wait_until_full(&gateway, "one", of_one);
            let took = gateway.change(|gateway| {
                gateway.pki.write("policies/one/policy.rego", format!("{ONE_RULE}# {swap}\n"));
                gateway.pki.write("policies/rules/policy.rego", format!("{rules}# {swap}\n"));
            });
            println!("swap {swap} is in force {} ms after it was written", took.as_millis());
        }
        // What was full is let go of meanwhile.
        wait_until_full(&gateway, "rules", of_rules);
        drop(stop);
        let served: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
        let failures: Vec<_> = served.iter().flat_map(|served| &served.failures).collect();
        assert!(failures.is_empty(), "{failures:?}");
        let requests: u64 = served.iter().map(|served| served.requests).sum();
        let slowest = served.iter().map(|served| served.slowest).max().unwrap();
        println!("{requests} requests, of which the slowest took {} us", slowest.as_micros());
    });
    let Adoptions { count, seconds, brief } = Adoptions::of(&gateway).since(&adoptions);
    println!(
        "{count} times a worker took a snapshot up, in {seconds:.6} s altogether, {brief} of them within 5 ms"
    );
    assert!(count >= size.swaps as f64);
    assert_eq!(gateway.metric("ringward_policy_cache_mismatches_total", &[]), 0.0);
}

fn wait_until_full(gateway: &Gateway, policy: &str, entries: u64) {
    eventually(Duration::from_secs(300), "the cache is full", || {
        gateway.metric("ringward_policy_cache_entries", &[("policy", policy)]) == entries as f64
    });
}

/// How long workers were held up by taking up a snapshot, and letting go of the one before.
struct Adoptions {
    count: f64,
    seconds: f64,
    /// Those of them that took no more than 5 ms.
    brief: f64,
}

impl Adoptions {
    fn of(gateway: &Gateway) -> Adoptions {
        let of = |suffix: &str, labels: &[(&str, &str)]| {
            gateway.metric(&format!("ringward_worker_snapshot_adoption_seconds_{suffix}"), labels)
        };
        Adoptions {
            count: of("count", &[]),
            seconds: of("sum", &[]),
            brief: of("bucket", &[("le", "0.005")]),
        }
    }

    fn since(&self, before: &Adoptions) -> Adoptions {
        Adoptions {
            count: self.count - before.count,
            seconds: self.seconds - before.seconds,
            brief: self.brief - before.brief,
        }
    }
}

/// Lets the clients end, also when something fails.
struct Stop<'d>(&'d AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn policies_swapped_under_load_with_full_caches_disturb_nobody() {
    swap_under_load(&Size { rules: 20, tenants: 100, entries: (64, 64), swaps: 3 });
}

/// Prints what clients and workers were held up; the bound of 5 ms is for a release build on an idle machine.
///
/// `cargo test --release -p ringward --test policy_scale -- --ignored --nocapture`
#[test]
#[ignore = "takes minutes without optimisation; to be run with --release and --nocapture"]
fn five_hundred_rules_with_ten_thousand_tenants_swapped_under_load_disturb_nobody() {
    swap_under_load(&Size { rules: 500, tenants: 10_000, entries: (8192, 65_536), swaps: 3 });
}
