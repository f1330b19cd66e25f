//! Scenarios against a server in the test's own process.

use std::collections::HashSet;
use std::time::Duration;

use ringward_testkit::Authority;
use tokio::net::TcpListener;

use crate::failure::FailureKind::*;
use crate::fleet::FleetPlan;
use crate::testing::World;

fn fleet() -> FleetPlan {
    FleetPlan { valid: 4, expired: 2, revoked: 2, wrong_ca: 2, ..FleetPlan::default() }
}

const CLASSES: &str = r#"
description = "Right and wrong clients"
[load]
connections = 8
requests = 400
[connection]
requests = 4
client = "next"
[[clients]]
name = "good"
share = 5
class = "valid"
[[clients]]
name = "old"
class = "expired"
outcome = "refused"
[[clients]]
name = "gone"
class = "revoked"
outcome = "refused"
[[clients]]
name = "foreign"
class = "wrong_ca"
outcome = "refused"
"#;

#[tokio::test(flavor = "local")]
async fn each_client_gets_what_it_must_get() {
    let world = World::start_for_fleet(&fleet()).await;
    for version in ["1.2", "1.3"] {
        for protocol in ["http/1.1", "h2"] {
            let scenario = format!(
                "{}\n[tls]\nversion = '{version}'\n[[requests]]\nname = 'r'\npath = '/bytes/5'\n",
                CLASSES.replace("[connection]", &format!("[connection]\nprotocol = '{protocol}'"))
            );
            let report = world.carry_out(&scenario, "").await;
            assert!(report.is_right(), "{version} {protocol}: {}", report.to_text());
            let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
            let clients = json["clients"].as_array().unwrap();
            let (good, bad) = clients.split_first().unwrap();
            assert_eq!((&good["refused"], &good["failed"]), (&0.into(), &0.into()));
            let refused = bad.iter().map(|class| class["refused"].as_u64().unwrap());
            assert!(refused.clone().all(|count| count > 0), "{json}");
            assert_eq!(json["refused"], refused.sum::<u64>());
            for (class, alert) in [(1, "expired"), (2, "revoked"), (3, "unknown")] {
                let told = clients[class]["refusals"].to_string().to_lowercase();
                assert!(told.contains(alert), "{told}");
            }
            assert!(
                bad.iter().all(|class| class["right"] == 0 && class["connections_opened"] == 0),
                "{json}"
            );
            // Those that were there before the first request come on top.
            let all = report.right() + json["refused"].as_u64().unwrap();
            assert!((400..=408).contains(&all), "{json}");
            assert!(json["connections_opened"].as_u64().unwrap() >= report.right() / 4);
        }
    }
}

#[tokio::test(flavor = "local")]
async fn who_is_let_in_wrongly_or_refused_wrongly_is_a_failure() {
    let world = World::start_for_fleet(&fleet()).await;
    let request = "[[requests]]\nname = 'r'\npath = '/bytes/5'\n";
    let usual = "description = 'x'\n[load]\nconnections = 1\nrequests = 3\n[connection]\nrequests = 1\n";
    for (class, outcome, kind) in [("valid", "refused", Admitted), ("expired", "served", Tls)] {
        let clients = format!("[[clients]]\nname = 'c'\nclass = '{class}'\noutcome = '{outcome}'\n");
        let report = world.carry_out(&format!("{usual}{clients}{request}"), "").await;
        assert!(!report.is_right());
        assert_eq!(report.failures(), [(kind, 3)], "{class}: {}", report.to_text());
    }
}

#[tokio::test(flavor = "local")]
async fn requests_are_mixed_by_their_shares_and_clients() {
    let world = World::start_for_fleet(&fleet()).await;
    let scenario = r#"
        description = "Known clients and others"
        [load]
        connections = 4
        requests = 2000
        [[clients]]
        name = "known"
        class = "valid"
        [[clients]]
        name = "others"
        anonymous = true
        [[requests]]
        name = "often"
        share = 9
        path = "/bytes/{1..3}"
        [[requests]]
        name = "rarely"
        path = "/bytes/9"
        expect = { body = "9B" }
        [[requests]]
        name = "upload"
        share = 5
        clients = ["others"]
        method = "POST"
        path = "/upload"
        headers = { X-Test = "1" }
        body = { min = "1B", max = "100B" }
        [[requests]]
        name = "refused"
        clients = ["others"]
        path = "/status/403"
        expect = { status = 200, status_for = { others = 403 } }
    "#;
    let report = world.carry_out(scenario, "").await;
    assert!(report.is_right(), "{}", report.to_text());
    let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
    let right = |part: &str, index: usize| json[part][index]["right"].as_u64().unwrap();
    let [often, rarely, upload, refused] = [0, 1, 2, 3].map(|index| right("requests", index));
    assert_eq!(often + rarely + upload + refused, 2000);
    assert_eq!(right("clients", 0) + right("clients", 1), 2000);
    assert_eq!(json["statuses"]["403"], refused);
    // Half of all requests are of those who make all kinds; each by its share.
    for (count, wanted) in [(often / 10, 146), (rarely, 163), (upload / 5, 62), (refused, 62)] {
        assert!(count.abs_diff(wanted) < wanted / 2, "{count} of about {wanted}: {json}");
    }
    let sizes: HashSet<_> =
        world.paths.borrow().iter().filter(|path| path.starts_with("/bytes/")).cloned().collect();
    assert_eq!(sizes.len(), 4);
    // The same seed draws the same, another one does not.
    let again = world.carry_out(scenario, "--connections 1").await;
    let same = world.carry_out(scenario, "--connections 1").await;
    let other = world.carry_out(scenario, "--connections 1 --seed 2").await;
    assert_eq!(again.bytes(), same.bytes());
    assert_ne!(again.bytes(), other.bytes());
}

#[tokio::test(flavor = "local")]
async fn bodies_are_checked_by_their_hash() {
    let world = World::start_for_fleet(&fleet()).await;
    // Of "xxxxx".
    let other = "f4c16e7c6ecb1e3bc7e2ee4a9b8f84ec5ee6ee1bd9f2d0bb0b3d5eaab7b3a7b5";
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"xxxxx");
    let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    for protocol in ["http/1.1", "h2"] {
        for (hash, is_right) in [(hash.as_str(), true), (other, false)] {
            let scenario = format!(
                "description = 'x'\n[load]\nconnections = 1\nrequests = 3\n[connection]\nprotocol = '{protocol}'\n\
                 [[requests]]\nname = 'r'\npath = '/bytes/5'\nexpect = {{ sha256 = '{hash}' }}\n"
            );
            let report = world.carry_out(&scenario, "").await;
            assert_eq!(report.is_right(), is_right, "{}", report.to_text());
            if !is_right {
                assert_eq!(report.failures(), [(Body, 3)]);
            }
        }
    }
}

#[tokio::test(flavor = "local")]
async fn connections_live_as_long_as_they_are_to() {
    let world = World::start_for_fleet(&fleet()).await;
    let request = "[[requests]]\nname = 'r'\npath = '/bytes/5'\n";
    for (protocol, streams) in [("http/1.1", 1), ("h2", 1), ("h2", 5)] {
        let before = world.accepted.get();
        let scenario = format!(
            "description = 'x'\n[load]\nconnections = 2\nrequests = 100\nstreams = {streams}\n\
             [connection]\nprotocol = '{protocol}'\nrequests = 10\nresume = true\n{request}"
        );
        let report = world.carry_out(&scenario, "").await;
        assert!(report.is_right(), "{}", report.to_text());
        let opened = report.connections_opened();
        assert!((10..=11).contains(&opened), "{protocol}: {opened}");
        assert_eq!(world.accepted.get() - before, opened);
        // Each client comes with a session from its second connection on.
        assert_eq!(report.connections_resumed(), Some(opened - 2), "{protocol} {streams}");
    }
}

#[tokio::test(flavor = "local")]
async fn in_a_storm_all_come_again() {
    let world = World::start_for_fleet(&fleet()).await;
    for (protocol, think_time) in [("http/1.1", "1h"), ("h2", "1h"), ("http/1.1", "1ms"), ("h2", "1ms")] {
        let scenario = format!(
            "description = 'x'\n[load]\nconnections = 5\nduration = '1s'\n[connection]\nprotocol = '{protocol}'\n\
             think_time = '{think_time}'\nstorm_every = '300ms'\n[[requests]]\nname = 'r'\npath = '/bytes/5'\n"
        );
        let report = world.carry_out(&scenario, "").await;
        assert!(report.failures().is_empty(), "{}", report.to_text());
        let opened = report.connections_opened();
        assert!((6..=20).contains(&opened), "{protocol} {think_time}: {opened}");
        assert_eq!(report.right() == 0, think_time == "1h", "{}", report.to_text());
    }
}

/// What is broken has refused nobody.
#[tokio::test(flavor = "local")]
async fn only_an_alert_refuses_a_client() {
    let world = World::start_for_fleet(&fleet()).await;
    let stranger = Authority::root("Stranger");
    let wrong = world.pki.write_authorities("wrong.pem", &[&stranger]);
    let closing = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = closing.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        loop {
            drop(closing.accept().await);
        }
    });
    for protocol in ["http/1.1", "h2"] {
        let scenario = format!(
            "description = 'x'\n[load]\nconnections = 1\nrequests = 3\n[connection]\nrequests = 1\nprotocol = '{protocol}'\n\
             [[clients]]\nname = 'old'\nclass = 'expired'\noutcome = 'refused'\n\
             [[requests]]\nname = 'r'\npath = '/bytes/5'\n"
        );
        let refused = world.carry_out(&scenario, "").await;
        assert!(refused.is_right(), "{}", refused.to_text());
        assert!(refused.to_text().to_lowercase().contains("expired"), "{}", refused.to_text());
        for more in [format!("--target {closed}"), format!("--ca {}", wrong.display())] {
            let report = world.carry_out(&scenario, &more).await;
            assert!(!report.is_right() && report.right() == 0, "{more}: {}", report.to_text());
            assert_eq!(report.failures().iter().map(|(_, count)| count).sum::<u64>(), 3, "{more}");
        }
    }
}

/// However many streams see that their connection was refused.
#[tokio::test(flavor = "local")]
async fn a_refused_connection_counts_once() {
    let world = World::start_for_fleet(&fleet()).await;
    let scenario = "description = 'x'\n[load]\nconnections = 2\nrequests = 200\nstreams = 4\n[connection]\nprotocol = 'h2'\n\
                    [[clients]]\nname = 'good'\nclass = 'valid'\n\
                    [[clients]]\nname = 'gone'\nclass = 'revoked'\noutcome = 'refused'\n\
                    [[requests]]\nname = 'r'\npath = '/bytes/5'\n";
    let before = world.accepted.get();
    let report = world.carry_out(scenario, "").await;
    assert!(report.is_right(), "{}", report.to_text());
    assert_eq!(report.connections_opened(), 1, "the good one's: {}", report.to_text());
    let refused = report.refused.unwrap();
    assert!(refused > 0 && refused == world.accepted.get() - before - 1, "{}", report.to_text());
}

/// Also where coming back takes longer than the next storm is away, and a storm is no reason to begin to think anew.
#[tokio::test(flavor = "local")]
async fn a_run_with_storms_ends_and_gets_on() {
    let world = World::start_for_fleet(&fleet()).await;
    let request = "[[requests]]\nname = 'r'\npath = '/bytes/5'\n";
    let endless = format!(
        "description = 'x'\n[load]\nconnections = 40\nduration = '300ms'\n[connection]\nstorm_every = '1ms'\n\
         handshakes_max = 1\n{request}"
    );
    let report = tokio::time::timeout(Duration::from_secs(120), world.carry_out(&endless, "")).await.unwrap();
    assert!(report.connections_opened() > 40, "{}", report.to_text());
    let thinking = format!(
        "description = 'x'\n[load]\nconnections = 2\nduration = '2s'\n[connection]\nstorm_every = '300ms'\n\
         think_time = '600ms'\n{request}"
    );
    let report = world.carry_out(&thinking, "").await;
    assert!(report.right() > 0, "{}", report.to_text());
}

#[tokio::test(flavor = "local")]
async fn a_fleet_has_as_many_clients_as_a_scenario_takes() {
    let world = World::start_for_fleet(&fleet()).await;
    let scenario = "description = 'x'\n[load]\nconnections = 1\nrequests = 1\n[[clients]]\nname = 'c'\nclass = 'valid'\n\
                    count = 5\n[[requests]]\nname = 'r'\npath = '/bytes/5'\n";
    let error = world.refusal_of(scenario).to_string();
    assert!(error.ends_with("has 4 clients of class `valid`, and the scenario takes 5 (`count`)"), "{error}");
}
