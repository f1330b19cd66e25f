//! Revocation lists: which certificates they concern, what their absence means, and where they come from.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::time::{Duration, SystemTime};

use ringward_testkit::{
    Authority, Closing, Crl, DEADLINE, Issued, Leaf, RevocationReason, Script, Upstream, eventually,
};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use self::support::{Builder, Gateway, HOST, Host, publish};

/// A gateway whose root has a list, with an intermediate.
fn gateway(keys: &[&str]) -> (Builder, Authority) {
    let builder = Gateway::builder().stateful().trust_key("crl = [\"crl/\"]");
    let builder = keys.iter().fold(builder, |builder, key| builder.trust_key(key));
    let issuing = builder.root().intermediate("Issuing");
    builder.pki().write_authorities("issuing.pem", &[&issuing]);
    let builder = builder.trust_key("crl_issuers = [\"issuing.pem\"]");
    publish(builder.pki(), "root", builder.root(), &Crl::new());
    (builder, issuing)
}

fn admits(gateway: &Gateway, identity: &Issued) -> bool {
    let client = gateway.client().identity(identity);
    client.connect(gateway.edge).and_then(|mut connection| connection.get("/")).is_ok()
}

#[track_caller]
fn assert_refused(gateway: &Gateway, identity: &Issued, reason: &str) {
    let labels = [("outcome", "failed"), ("reason", reason)];
    let before = gateway.metric("ringward_handshakes_finished_total", &labels);
    let reached = gateway.reached().len();
    assert!(!admits(gateway, identity), "{reason}");
    gateway.wait_for_metric("ringward_handshakes_finished_total", &labels, before + 1.0);
    assert_eq!(gateway.reached().len(), reached);
}

#[test]
fn a_missing_list_refuses_unless_lists_are_used_where_there_are_some() {
    for (keys, admitted) in [
        (&[][..], false),
        (&["revocation = { crl = \"required\" }"], false),
        (&["revocation = { crl = \"if_present\" }"], true),
        (&["revocation = { crl = \"required\", depth = \"leaf\" }"], false),
    ] {
        let (builder, issuing) = gateway(keys);
        let gateway = builder.start();
        let (direct, below) = (gateway.partner.clone(), issuing.issue(&Leaf::client("below")));
        assert!(admits(&gateway, &direct), "{keys:?}");
        match admitted {
            true => assert!(admits(&gateway, &below), "{keys:?}"),
            false => {
                assert_refused(&gateway, &below, "revocation_unknown");
                gateway.wait_for_metric("ringward_revocation_refusals_total", &[("source", "missing")], 1.0);
            }
        }
        let crl = Crl::new().number(2).revoke_for(direct.serial(), RevocationReason::KeyCompromise);
        gateway.change(|gateway| drop(publish(&gateway.pki, "root", &gateway.root, &crl)));
        assert_refused(&gateway, &direct, "revoked");
    }
}

/// A list that is left over when its CA goes must not keep the CA in force, whatever the lack of a list means: neither where
/// the other CAs have lists nor where they have none.
#[test]
fn a_ca_is_removed_although_its_list_stays() {
    for (mode, is_listed, is_kept) in [
        ("required", true, true),
        ("required", false, false),
        ("if_present", true, true),
        ("if_present", false, true),
    ] {
        let leaving = Authority::root("Leaving Root");
        let builder = Gateway::builder().stateful();
        let root = builder.root().clone();
        let (kept, revoked) = (root.issue(&Leaf::client("kept")), root.issue(&Leaf::client("revoked")));
        publish(builder.pki(), "leaving", &leaving, &Crl::new());
        if is_listed {
            publish(builder.pki(), "root", &root, &Crl::new().revoke(revoked.serial()));
        }
        let mut gateway = builder
            .trust("both", &[&root, &leaving])
            .bundle_key("both", "crl = [\"crl/\"]")
            .bundle_key("both", &format!("revocation = {{ crl = {mode:?} }}"))
            .host(Host::new(&[HOST]).client_auth("mode = \"required\", trust = \"both\""))
            .start();
        let victim = leaving.issue(&Leaf::client("victim"));
        let mut open = gateway.client().identity(&victim).connect(gateway.edge).unwrap();
        assert_eq!(open.get("/before").unwrap().status, 200);
        assert_eq!(admits(&gateway, &kept), is_kept, "{mode} {is_listed}");

        gateway.change(|gateway| drop(gateway.pki.write_authorities("trust/both.pem", &[&root])));
        let (rest, closing) = open.wait_closed();
        assert!(rest.is_empty() && closing == Closing::Notified, "{mode} {is_listed}: {closing:?}");
        gateway.wait_for_closed("trust_changed", 1);
        eventually(DEADLINE, &format!("{mode} {is_listed}: a warning"), || {
            let warnings = gateway.messages("the configuration deserves a look");
            warnings.iter().any(|line| line.to_string().contains("leaving.crl"))
        });
        // Nor does it keep the program from starting.
        for is_first in [true, false] {
            assert_refused(&gateway, &victim, "unknown_issuer");
            assert_eq!(admits(&gateway, &kept), is_kept, "{mode} {is_listed}");
            assert!(!is_listed || !admits(&gateway, &revoked), "{mode}");
            if is_first {
                gateway.kill_and_start_again();
            }
        }
    }
}

#[test]
fn depth_says_which_certificates_are_looked_up() {
    for (depth, admitted) in [("chain", false), ("leaf", true)] {
        let (builder, issuing) = gateway(&[&format!("revocation = {{ depth = \"{depth}\" }}")]);
        publish(builder.pki(), "issuing", &issuing, &Crl::new());
        publish(builder.pki(), "root", builder.root(), &Crl::new().revoke(issuing.serial()));
        let gateway = builder.start();
        assert_eq!(admits(&gateway, &issuing.issue(&Leaf::client("below"))), admitted, "{depth}");
        let leaf = issuing.issue(&Leaf::client("revoked"));
        let crl = Crl::new().number(2).revoke(leaf.serial());
        gateway.change(|gateway| drop(publish(&gateway.pki, "issuing", &issuing, &crl)));
        assert!(!admits(&gateway, &leaf), "{depth}");
    }
}

#[test]
fn a_stale_list_refuses_everybody_or_counts_for_its_grace() {
    for (stale, admitted) in [("deny", false), ("7d", true), ("1h", false)] {
        let (builder, _) = gateway(&[&format!("revocation = {{ stale = \"{stale}\" }}")]);
        let revoked = builder.root().issue(&Leaf::client("revoked"));
        // Since a day.
        publish(builder.pki(), "root", builder.root(), &Crl::new().stale().revoke(revoked.serial()));
        let gateway = builder.start();
        match admitted {
            true => assert!(admits(&gateway, &gateway.partner), "{stale}"),
            false => {
                assert_refused(&gateway, &gateway.partner, "revocation_stale");
                gateway.wait_for_metric("ringward_revocation_refusals_total", &[("source", "stale")], 1.0);
            }
        }
        assert!(!admits(&gateway, &revoked), "{stale}");
    }
}

#[test]
fn deltas_count_with_the_list_that_they_change() {
    let (builder, _) = gateway(&[]);
    let (first, second) =
        (builder.root().issue(&Leaf::client("first")), builder.root().issue(&Leaf::client("second")));
    let hold = Crl::new().number(7).revoke_for(first.serial(), RevocationReason::CertificateHold);
    publish(builder.pki(), "root", builder.root(), &hold);
    let gateway = builder.start();
    assert!(!admits(&gateway, &first) && admits(&gateway, &second));
    let delta =
        |crl: &Crl| gateway.change(|gateway| drop(publish(&gateway.pki, "delta", &gateway.root, crl)));
    delta(&Crl::new().number(8).delta_of(7).revoke(second.serial()));
    assert!(!admits(&gateway, &first) && !admits(&gateway, &second));
    let released =
        Crl::new().number(9).delta_of(7).revoke_for(first.serial(), RevocationReason::RemoveFromCrl);
    delta(&released.revoke(second.serial()));
    assert!(admits(&gateway, &first) && !admits(&gateway, &second));
    // Of a list that is not there.
    let line = gateway.refused_change(|gateway| {
        drop(publish(&gateway.pki, "delta", &gateway.root, &Crl::new().number(40).delta_of(39)));
    });
    assert!(line.to_string().contains("delta"), "{line}");
    assert!(admits(&gateway, &first) && !admits(&gateway, &second));
}

/// The list of a CA is published by a server, which may be slow, dead, or lie.
#[test]
fn lists_are_fetched_kept_and_verified() {
    let builder = Gateway::builder().stateful();
    let (root, server) = (builder.root().clone(), Upstream::start());
    let revoked = root.issue(&Leaf::client("revoked"));
    let serve = |list: Vec<u8>| {
        server.on(
            "/root.crl",
            Script::new().respond_bytes(200, &[("content-type", "application/pkix-crl")], &list),
        );
    };
    serve(root.sign_crl(&Crl::new().number(3).revoke(revoked.serial())));
    let url = format!("http://{}/root.crl", server.address());
    let mut gateway = builder.trust_key(&format!("crl_urls = [{url:?}]")).start();
    eventually(DEADLINE, "the list is fetched", || admits(&gateway, &gateway.partner));
    assert_refused(&gateway, &revoked, "revoked");
    gateway.wait_for_metric("ringward_crl_fetches_finished_total", &[("outcome", "updated")], 1.0);
    assert_eq!(gateway.metric("ringward_crl_entries", &[("bundle", "partners")]), 1.0);

    // What was fetched is kept. A server that answers with an older or a forged list gets nobody in.
    let forged = Authority::root("Test Root").sign_crl(&Crl::new().number(9));
    let older = root.sign_crl(&Crl::new().number(2));
    for lie in [forged, older, b"noise".to_vec()] {
        serve(lie);
        gateway.kill_and_start_again();
        assert!(admits(&gateway, &gateway.partner));
        assert_refused(&gateway, &revoked, "revoked");
    }
    drop(server);
    gateway.kill_and_start_again();
    assert!(admits(&gateway, &gateway.partner));
    assert_refused(&gateway, &revoked, "revoked");
    let status = gateway.ask_json(&["trust", "status", "--json"]);
    assert!(
        status["crls"][0]["source"].as_str().is_some_and(|source| source.contains("root.crl")),
        "{status}"
    );
}

/// A certificate says where the list of its issuer is. That is asked only once the certificate has been verified, and only if
/// the host is one that the operator has named.
#[test]
fn distribution_points_of_verified_certificates_are_asked() {
    let server = Upstream::start();
    let url = format!("http://{}/issuing.crl", server.address());
    let (builder, issuing) = gateway(&["crl_distribution_points = [\"127.0.0.1\"]"]);
    let crl = issuing.sign_crl(&Crl::new());
    server.on("/issuing.crl", Script::new().respond_bytes(200, &[], &crl));
    let gateway = builder.start();
    // Of somebody else's making.
    let stranger = Authority::root("Stranger").issue(&Leaf::client("stranger").crl_url(&url));
    assert!(!admits(&gateway, &stranger));
    let elsewhere = format!("http://localhost:{}/issuing.crl", server.address().port());
    assert!(!admits(&gateway, &issuing.issue(&Leaf::client("other").crl_url(&elsewhere))));
    assert!(server.requests().is_empty());
    let client = issuing.issue(&Leaf::client("client").crl_url(&url));
    assert!(!admits(&gateway, &client), "the list is not there yet");
    eventually(DEADLINE, "the list is fetched", || admits(&gateway, &client));
    assert!(!server.requests().is_empty());
}

/// For the day on which a CA publishes nothing: bounded, said, and never over the deny list.
#[test]
fn a_list_that_is_gone_is_missed_where_certificates_pass_without_one() {
    let (builder, issuing) = gateway(&["revocation = { crl = \"if_present\" }"]);
    let revoked = issuing.issue(&Leaf::client("revoked"));
    let list = publish(builder.pki(), "issuing", &issuing, &Crl::new().revoke(revoked.serial()));
    let gateway = builder.start();
    assert_refused(&gateway, &revoked, "revoked");
    let mentions = || {
        let warnings = gateway.messages("the configuration deserves a look");
        let problems = warnings.iter().filter_map(|warning| warning["problem"].as_str());
        problems.filter(|problem| problem.contains("no file holds a list of `CN=Issuing` any more")).count()
    };
    assert_eq!(mentions(), 0);
    gateway.change(|_| std::fs::remove_file(&list).unwrap());
    eventually(DEADLINE, "it is missed", || mentions() == 1);
}

#[test]
fn a_suspension_lets_a_tenant_pass_until_it_ends() {
    let ends = SystemTime::now() + Duration::from_secs(15);
    let ends_text = OffsetDateTime::from(ends).replace_nanosecond(0).unwrap().format(&Rfc3339).unwrap();
    let (builder, _) = gateway(&[]);
    let tenants = format!(
        "[tenant.acme]\ntrust = [\"partners\"]\nmatch = [{{ organization = \"Acme\" }}]\n\
         danger_suspend_revocation_until = {ends_text}\n\
         [tenant.globex]\ntrust = [\"partners\"]\nmatch = [{{ organization = \"Globex\" }}]\n"
    );
    let client = |name: &str| builder.root().issue(&Leaf::client(&name.to_lowercase()).organization(name));
    let (acme, denied, globex) = (client("Acme"), client("Acme"), client("Globex"));
    let crl = [&acme, &denied, &globex].iter().fold(Crl::new(), |crl, issued| crl.revoke(issued.serial()));
    publish(builder.pki(), "root", builder.root(), &crl);
    let gateway = builder.section(&tenants).start();
    assert!(admits(&gateway, &acme));
    assert_refused(&gateway, &globex, "revoked");
    let file = gateway.client_files("denied", &denied).chain;
    gateway.ask(&["revoke", "--cert", file.to_str().unwrap(), "--reason", "test"]);
    assert_refused(&gateway, &denied, "deny_listed");
    assert!(
        gateway.metric("ringward_revocation_suspended_until_timestamp_seconds", &[("tenant", "acme")]) > 0.0
    );
    let mut open = gateway.client().identity(&acme).connect(gateway.edge).unwrap();
    assert_eq!(open.get("/").unwrap().status, 200);
    // It ends by itself, also for those who are connected.
    eventually(DEADLINE, "its time is over", || SystemTime::now() > ends + Duration::from_secs(1));
    assert_refused(&gateway, &acme, "revoked");
    let (rest, _) = open.wait_closed();
    assert!(rest.is_empty());
}
