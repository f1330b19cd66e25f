//! The matrix: however a client loses our trust, and whatever it holds at that moment, it is served no further request.
//!
//! Each row is a way to lose trust, each cell something that a client may hold: nothing but its certificate, a session in a
//! ticket, a session in the cache, a handshake under way, idle connections, half a request, requests in flight. A row prints
//! what the client saw and how long it took: run with `--nocapture` to read it.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]
#![allow(clippy::print_stdout, reason = "the times are for whoever asks for them")]

#[path = "../support/mod.rs"]
mod support;

mod elsewhere;
mod holdings;
mod rows;

use std::time::{Duration, Instant};

use ringward_testkit::{Client, Closing, DEADLINE, eventually};
use rustls::AlertDescription;

use self::holdings::{CACHE, Ending, Holdings, Seen, TICKETS, attempt};
use self::support::{Gateway, on_both_drivers};

/// A way to lose trust, ready to happen.
struct Row {
    name: &'static str,
    gateway: Gateway,
    /// Who will lose it.
    victim: Client,
    /// Whom it does not concern.
    bystander: Client,
    /// Lets it happen, and returns once it is in force: when it began.
    withdraw: Box<dyn FnOnce(&Gateway) -> Instant>,
    /// How long an exchange in flight may go on from then.
    grace: Duration,
    /// Why new handshakes fail from then on, as counted, and with which alert.
    reason: &'static str,
    alert: AlertDescription,
    /// Why open connections end, as counted.
    closed: &'static str,
}

on_both_drivers!(leaf_revoked_by_crl, deny_listed_by_command);

fn leaf_revoked_by_crl(driver: &str) {
    check(rows::leaf_revoked_by_crl(driver));
}

fn deny_listed_by_command(driver: &str) {
    check(rows::deny_listed_by_command(driver));
}

#[test]
fn intermediate_revoked_by_crl() {
    check(rows::intermediate_revoked_by_crl());
}

#[test]
fn ca_removed() {
    check(rows::ca_removed());
}

#[test]
fn intermediate_deny_listed() {
    check(rows::intermediate_deny_listed());
}

#[test]
fn leaf_expired() {
    check(rows::leaf_expired());
}

#[test]
fn client_authentication_made_required() {
    check(rows::client_authentication_made_required());
}

#[test]
fn trust_rules_tightened() {
    check(rows::trust_rules_tightened());
}

#[test]
fn tenant_no_longer_admitted() {
    check(rows::tenant_no_longer_admitted());
}

#[test]
fn revocation_list_gone_stale() {
    check(rows::revocation_list_gone_stale());
}

/// All cells of a row.
fn check(row: Row) {
    let Row { name, gateway, victim, bystander, withdraw, grace, reason, alert, closed } = row;
    let mut held = Holdings::of(&gateway, &victim, "victim");
    let kept = Holdings::of(&gateway, &bystander, "bystander");
    let labels = [("outcome", "failed"), ("reason", reason)];
    let handshakes = gateway.metric("ringward_handshakes_finished_total", &labels);
    let watched = held.watch();
    let began = withdraw(&gateway);
    let in_force = began.elapsed();

    // Requests first and at once: nothing but the gate may stand between them and the upstream.
    let asked = held.ask_on_idle("/after/idle");
    let halved = held.end_request();
    let new = attempt(&victim, gateway.listener(TICKETS), "/after/new");
    let ticket = held.attempt_with_ticket("/after/ticket");
    let cache = held.attempt_with_cache("/after/cache");
    for (cell, ending) in [
        ("idle, asks", asked),
        ("half a request", halved),
        ("new", new),
        ("ticket", ticket),
        ("cache", cache),
    ] {
        assert!(ending.is_refusal(), "{name}, {cell}: {ending:?}");
    }
    let greeted = held.end_handshakes("/after/greeted");
    assert!(greeted.iter().all(|(_, ending)| ending.is_refusal()), "{name}: {greeted:?}");
    let finished = held.finish_exchange();
    // Nobody is left in the dark who does not ask.
    assert_eq!(victim.refusal(gateway.listener(TICKETS)).alert(), Some(alert), "{name}");
    assert_eq!(held.ticketed.refusal(gateway.listener(TICKETS)).alert(), Some(alert), "{name}");
    assert_eq!(held.cached.refusal(gateway.listener(CACHE)).alert(), Some(alert), "{name}");
    let (idle, hanging) = watched.endings();
    let after = |ending: &Seen| ending.at.saturating_duration_since(began);
    println!(
        "{name:36}| in force {in_force:8.1?} | new {new:?} | ticket {ticket:?} | cache {cache:?} | handshakes {greeted:?} | idle, asks {asked:?} | half a request {halved:?} \
         | idle {:?} {:8.1?} | in flight {finished:?} | hangs {:?} {:8.1?}",
        idle.closing,
        after(&idle),
        hanging.closing,
        after(&hanging)
    );
    assert_eq!(idle.closing, Closing::Notified, "{name}");
    assert!(after(&idle) < in_force + GENEROUS && after(&hanging) < in_force + grace + GENEROUS, "{name}");

    for target in ["/after", "/behind/victim", "/halved/victim"] {
        assert!(!gateway.has_reached(target), "{name}: {:?}", gateway.reached());
    }
    eventually(DEADLINE, "every refused handshake is counted", || {
        gateway.metric("ringward_handshakes_finished_total", &labels) >= handshakes + 6.0
    });
    // Two that were idle, one with half a request, one with an exchange that has ended, and those of the handshakes that were completed.
    let completed = greeted.iter().filter(|(_, ending)| matches!(ending, Ending::Closed(_))).count();
    gateway.wait_for_closed(closed, 4 + completed);
    gateway.wait_for_closed("trust_grace", 1);
    let enforced = |how| gateway.metric("ringward_trust_enforcement_seconds_count", &[("how", how)]);
    for (how, least) in [("idle", 1.0), ("exchange", 2.0), ("request", 1.0), ("handshake", 1.0)] {
        assert!(enforced(how) >= least, "{name}: {how}");
    }
    kept.goes_on();
    assert_eq!(gateway.upstream.errors(), Vec::<String>::new());
    assert_eq!(gateway.metric("ringward_worker_panics_total", &[]), 0.0);
}

/// How long an exchange in flight may go on. Long enough for the test to let one end by itself.
const GRACE: Duration = Duration::from_secs(10);
/// More than it takes on a machine that does ten other things.
const GENEROUS: Duration = Duration::from_secs(10);
