//! What the process says of itself to whoever watches it: its limits, how its workers share the work, which files are in force, and
//! announced work.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::time::{Duration, UNIX_EPOCH};

use ringward_testkit::{DEADLINE, eventually, scrape};

use self::support::{Gateway, HOST, Host};

const POLICY: &str = "package ringward.authz\n\ndecision := {\"allowed\": true, \"rule\": \"all\"}\n";

#[test]
fn the_work_of_workers_is_that_of_listeners_and_routes() {
    let gateway = Gateway::builder().workers(2).open_files_max(300).start();
    for _ in 0..20 {
        let mut connection = gateway.connect();
        assert_eq!(connection.get("/").unwrap().status, 200);
    }
    gateway.wait_for_no_connections();
    let samples = scrape(gateway.admin);
    for (of_workers, of_others, count) in [
        ("ringward_worker_connections_accepted_total", "ringward_connections_accepted_total", 20.0),
        ("ringward_worker_requests_finished_total", "ringward_requests_finished_total", 20.0),
        ("ringward_worker_connections_active", "ringward_connections_active", 0.0),
    ] {
        assert_eq!(
            (samples.sum(of_workers, &[]), samples.sum(of_others, &[])),
            (count, count),
            "{of_workers}"
        );
        assert!(samples.get(&format!("{of_workers}{{worker=\"1\"}}")).is_some(), "{of_workers}");
    }
    assert_eq!(samples.get("ringward_process_max_fds"), Some(300.0));
    assert!(
        samples.sum("ringward_metrics_series_active", &[]) < samples.sum("ringward_metrics_series_max", &[])
    );
}

/// The digest of a part moves with its files and with no others, and is the same for the same files elsewhere.
#[test]
fn digests_tell_nodes_apart_that_run_with_other_files() {
    let start = || {
        let host = Host::new(&[HOST]).policy("main");
        Gateway::builder().policy("main", POLICY).host(host).start()
    };
    let digest = |gateway: &Gateway, part: &str| {
        let samples = scrape(gateway.admin);
        let series: Vec<&str> = samples
            .iter()
            .map(|(series, _)| series)
            .filter(|series| series.starts_with("ringward_config_info"))
            .collect();
        let of_part: Vec<&&str> =
            series.iter().filter(|series| series.contains(&format!("part=\"{part}\""))).collect();
        assert_eq!((series.len(), of_part.len()), (3, 1), "{series:?}");
        (*of_part[0]).to_owned()
    };
    let (gateway, other) = (start(), start());
    let parts = ["configuration", "policies", "trust"];
    let before = parts.map(|part| digest(&gateway, part));
    assert_eq!(before[1], digest(&other, "policies"), "the same policies");
    assert_ne!(before[2], digest(&other, "trust"), "each has a CA of its own");
    gateway.change(|gateway| {
        gateway.pki.write("policies/main/policy.rego", POLICY.replace("\"all\"", "\"everybody\""));
    });
    let after = parts.map(|part| digest(&gateway, part));
    assert_eq!([0, 1, 2].map(|part| before[part] == after[part]), [true, false, true]);
}

#[test]
fn work_is_announced_by_the_file_until_it_says_no_more() {
    let now = UNIX_EPOCH.elapsed().unwrap().as_secs();
    let end = time::OffsetDateTime::from_unix_timestamp(i64::try_from(now + 3600).unwrap()).unwrap();
    let until = end.format(&time::format_description::well_known::Rfc3339).unwrap();
    let announced = format!("maintenance = {{ until = {until}, reason = \"a new kernel\" }}");
    let gateway = Gateway::builder().admin(&announced).start();
    let metric = || gateway.metric("ringward_maintenance_until_timestamp_seconds", &[]);
    assert_eq!(metric(), Duration::from_secs(now + 3600).as_secs_f64());
    let said = || gateway.messages("maintenance is announced: alerts about what it causes are silent");
    eventually(DEADLINE, "it is said", || said().len() == 1);
    assert_eq!(said()[0]["reason"], "a new kernel");
    gateway.reconfigure(&announced, "");
    assert_eq!((metric(), said().len()), (0.0, 1));
    gateway.assert_serves();
}

/// The last check before the upstream finds nothing that those before it have let through, whatever clients try.
#[test]
fn nobody_unverified_gets_to_a_route_for_verified_clients() {
    let host = Host::new(&[HOST])
        .client_auth("mode = \"optional\", trust = \"partners\"")
        .route("path = \"/open\"", "id = \"open\"")
        .route("path = \"/strict\"", "id = \"strict\"\nclient_auth = \"required\"")
        .route("path = \"/off\"", "id = \"off\"\nclient_auth = \"off\"");
    let gateway = Gateway::builder().host(host).start();
    for (client, statuses) in [(gateway.anonymous(), [200, 403, 200]), (gateway.client(), [200, 200, 200])] {
        let mut connection = client.connect(gateway.edge).unwrap();
        let answers = ["/open", "/strict", "/off"].map(|path| connection.get(path).unwrap().status);
        assert_eq!(answers, statuses);
    }
    let counted = scrape(gateway.admin).get("ringward_requests_unverified_total{listener=\"edge\"}");
    assert_eq!(counted, Some(0.0));
}
