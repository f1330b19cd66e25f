//! The ways to lose trust that are a change: of files, of the configuration, of the deny list, or of the time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ringward_testkit::{Authority, Client, Crl, DEADLINE, Leaf, eventually};
use rustls::AlertDescription;

use super::holdings::CACHE;
use super::{GRACE, Row};
use crate::support::{Builder, Gateway, HOST, Host, publish};

/// Two listeners with these hosts, one for each way to keep sessions.
fn listeners(builder: Builder, hosts: Vec<Host>) -> Builder {
    with_grace(builder, hosts, GRACE)
}

fn with_grace(builder: Builder, hosts: Vec<Host>, grace: Duration) -> Builder {
    let builder = builder.server(&format!("trust_grace = \"{}s\"", grace.as_secs()));
    // No exchange is to end for anything else.
    let builder = builder
        .cluster("response_timeout = \"5m\"")
        .limits("handshake_timeout = \"5m\", header_timeout = \"5m\"");
    hosts.into_iter().fold(builder, Builder::host).same_listener(CACHE, "resumption = \"cache\"\n")
}

fn strict() -> Vec<Host> {
    vec![Host::new(&[HOST])]
}

fn client(root: &Authority, issuer: &Authority, leaf: &Leaf) -> Client {
    Client::new(HOST, root).identity(&issuer.issue(leaf))
}

/// A gateway with a list of `root` and of an authority below it, and that authority.
fn with_lists(driver: &str) -> (Gateway, Authority) {
    let builder = Gateway::builder().io(driver).stateful();
    let (root, issuing) = (builder.root().clone(), builder.root().intermediate("Issuing"));
    builder.pki().write_authorities("issuing.pem", &[&issuing]);
    publish(builder.pki(), "root", &root, &Crl::new().number(1));
    publish(builder.pki(), "issuing", &issuing, &Crl::new().number(1));
    let builder = builder.trust_key("crl = [\"crl/\"]").trust_key("crl_issuers = [\"issuing.pem\"]");
    (listeners(builder, strict()).start(), issuing)
}

pub(crate) fn leaf_revoked_by_crl(driver: &str) -> Row {
    let (gateway, issuing) = with_lists(driver);
    let root = gateway.root.clone();
    let leaf = issuing.issue(&Leaf::client("victim"));
    let serial = leaf.serial().to_vec();
    Row {
        name: "leaf revoked by CRL",
        victim: Client::new(HOST, &root).identity(&leaf),
        bystander: client(&root, &issuing, &Leaf::client("bystander")),
        withdraw: Box::new(move |gateway| {
            since_now(|| {
                gateway.change(|gateway| {
                    publish(&gateway.pki, "issuing", &issuing, &Crl::new().number(2).revoke(&serial));
                })
            })
        }),
        gateway,
        grace: GRACE,
        reason: "revoked",
        alert: AlertDescription::CertificateRevoked,
        closed: "revoked",
    }
}

pub(crate) fn intermediate_revoked_by_crl() -> Row {
    let (gateway, issuing) = with_lists("auto");
    let root = gateway.root.clone();
    Row {
        name: "intermediate revoked by CRL",
        victim: client(&root, &issuing, &Leaf::client("victim")),
        bystander: client(&root, &root, &Leaf::client("bystander")),
        withdraw: Box::new(move |gateway| {
            since_now(|| {
                gateway.change(|gateway| {
                    publish(
                        &gateway.pki,
                        "root",
                        &gateway.root,
                        &Crl::new().number(2).revoke(issuing.serial()),
                    );
                })
            })
        }),
        gateway,
        grace: GRACE,
        reason: "revoked",
        alert: AlertDescription::CertificateRevoked,
        closed: "revoked",
    }
}

pub(crate) fn ca_removed() -> Row {
    let builder = Gateway::builder();
    let (root, leaving) = (builder.root().clone(), Authority::root("Leaving Root"));
    let host = Host::new(&[HOST]).client_auth("mode = \"required\", trust = \"both\"");
    let gateway = listeners(builder.trust("both", &[&root, &leaving]), vec![host]).start();
    Row {
        name: "CA removed",
        victim: client(&root, &leaving, &Leaf::client("victim")),
        bystander: client(&root, &root, &Leaf::client("bystander")),
        withdraw: Box::new(|gateway| {
            since_now(|| {
                gateway
                    .change(|gateway| drop(gateway.pki.write_authorities("trust/both.pem", &[&gateway.root])))
            })
        }),
        gateway,
        grace: GRACE,
        reason: "unknown_issuer",
        alert: AlertDescription::UnknownCA,
        closed: "trust_changed",
    }
}

pub(crate) fn deny_listed_by_command(driver: &str) -> Row {
    let gateway = listeners(Gateway::builder().io(driver).stateful(), strict()).start();
    let root = gateway.root.clone();
    let leaf = root.issue(&Leaf::client("victim"));
    let files = gateway.client_files("victim", &leaf);
    Row {
        name: "deny-listed by `ringward revoke`",
        victim: Client::new(HOST, &root).identity(&leaf),
        bystander: client(&root, &root, &Leaf::client("bystander")),
        withdraw: Box::new(move |gateway| {
            since_now(|| {
                gateway.ask(&["revoke", "--cert", files.chain.to_str().unwrap(), "--reason", "lost laptop"])
            })
        }),
        gateway,
        grace: GRACE,
        reason: "deny_listed",
        alert: AlertDescription::AccessDenied,
        closed: "revoked",
    }
}

pub(crate) fn intermediate_deny_listed() -> Row {
    let gateway = listeners(Gateway::builder().stateful(), strict()).start();
    let root = gateway.root.clone();
    let issuing = root.intermediate("Issuing");
    let file = gateway.pki.write_authorities("issuing.pem", &[&issuing]);
    Row {
        name: "intermediate deny-listed",
        victim: client(&root, &issuing, &Leaf::client("victim")),
        bystander: client(&root, &root, &Leaf::client("bystander")),
        withdraw: Box::new(move |gateway| {
            since_now(|| gateway.ask(&["revoke", "--ca", file.to_str().unwrap(), "--reason", "key found"]))
        }),
        gateway,
        grace: GRACE,
        reason: "deny_listed",
        alert: AlertDescription::AccessDenied,
        closed: "revoked",
    }
}

pub(crate) fn leaf_expired() -> Row {
    let gateway = listeners(Gateway::builder(), strict()).start();
    let root = gateway.root.clone();
    let ends = SystemTime::now() + LIFETIME;
    let short = Leaf::client("victim").valid_between(ends - Duration::from_secs(3600), ends);
    Row {
        name: "leaf expired",
        victim: client(&root, &root, &short),
        bystander: client(&root, &root, &Leaf::client("bystander")),
        withdraw: Box::new(move |gateway| {
            // RFC 5280 §4.1.2.5: it is valid through the whole of its last second.
            wait_until(gateway, ends + Duration::from_secs(1))
        }),
        gateway,
        grace: GRACE,
        reason: "expired",
        alert: AlertDescription::CertificateExpired,
        closed: "certificate_expired",
    }
}

pub(crate) fn client_authentication_made_required() -> Row {
    let host = Host::new(&[HOST]).client_auth("mode = \"optional\", trust = \"partners\"");
    let gateway = listeners(Gateway::builder(), vec![host]).start();
    let root = gateway.root.clone();
    Row {
        name: "client authentication made required",
        victim: Client::new(HOST, &root),
        bystander: client(&root, &root, &Leaf::client("bystander")),
        withdraw: Box::new(|gateway| {
            since_now(|| gateway.reconfigure("mode = \"optional\"", "mode = \"required\""))
        }),
        gateway,
        grace: GRACE,
        reason: "no_certificate",
        alert: AlertDescription::CertificateRequired,
        closed: "trust_changed",
    }
}

pub(crate) fn trust_rules_tightened() -> Row {
    let builder = Gateway::builder().trust_key("profile = { leaf_lifetime_max = \"365d\" }");
    let gateway = listeners(builder, strict()).start();
    let root = gateway.root.clone();
    let short = Leaf::client("bystander").valid_for(Duration::from_secs(3600));
    Row {
        name: "trust rules tightened",
        victim: client(&root, &root, &Leaf::client("victim")),
        bystander: client(&root, &root, &short),
        withdraw: Box::new(|gateway| since_now(|| gateway.reconfigure("\"365d\"", "\"1d\""))),
        gateway,
        grace: GRACE,
        reason: "lifetime_too_long",
        alert: AlertDescription::AccessDenied,
        closed: "trust_changed",
    }
}

pub(crate) fn tenant_no_longer_admitted() -> Row {
    let tenants = "[tenant.acme]\ntrust = [\"partners\"]\nmatch = [{ organization = \"Acme\" }]\n\n\
                   [tenant.globex]\ntrust = [\"partners\"]\nmatch = [{ organization = \"Globex\" }]\n";
    let auth = "mode = \"required\", trust = \"partners\", tenants = [\"acme\", \"globex\"]";
    let host = Host::new(&[HOST]).client_auth(auth);
    let gateway = listeners(Gateway::builder().section(tenants), vec![host]).start();
    let root = gateway.root.clone();
    Row {
        name: "tenant no longer admitted",
        victim: client(&root, &root, &Leaf::client("victim").organization("Globex")),
        bystander: client(&root, &root, &Leaf::client("bystander").organization("Acme")),
        withdraw: Box::new(|gateway| {
            since_now(|| gateway.reconfigure("[\"acme\", \"globex\"]", "[\"acme\"]"))
        }),
        gateway,
        grace: GRACE,
        reason: "no_tenant",
        alert: AlertDescription::AccessDenied,
        closed: "trust_changed",
    }
}

pub(crate) fn revocation_list_gone_stale() -> Row {
    let builder = Gateway::builder().stateful();
    let (root, issuing) = (builder.root().clone(), builder.root().intermediate("Issuing"));
    builder.pki().write_authorities("issuing.pem", &[&issuing]);
    let ends = SystemTime::now() + LIFETIME;
    publish(builder.pki(), "root", &root, &Crl::new());
    publish(builder.pki(), "issuing", &issuing, &Crl::new().next_update(ends));
    let builder = builder.trust_key("crl = [\"crl/\"]").trust_key("crl_issuers = [\"issuing.pem\"]");
    let gateway = with_grace(builder, strict(), LONG_GRACE).start();
    Row {
        name: "revocation list gone stale",
        victim: client(&root, &issuing, &Leaf::client("victim")),
        bystander: client(&root, &root, &Leaf::client("bystander")),
        withdraw: Box::new(move |gateway| {
            // Nothing is published at that moment. Open connections are looked at again every 2 to 4 seconds.
            let began = wait_until(gateway, ends + Duration::from_secs(1));
            wait_until(gateway, ends + LOOK_AGAIN);
            began
        }),
        gateway,
        grace: LONG_GRACE,
        reason: "revocation_stale",
        alert: AlertDescription::AccessDenied,
        closed: "revoked",
    }
}

/// When it began.
fn since_now<T>(change: impl FnOnce() -> T) -> Instant {
    let began = Instant::now();
    change();
    began
}

/// Waits until then, also by the clock of the gateway's worker. When that was.
fn wait_until(gateway: &Gateway, time: SystemTime) -> Instant {
    eventually(LIFETIME + DEADLINE, "its time is over", || SystemTime::now() >= time);
    let then = Instant::now() - SystemTime::now().duration_since(time).unwrap_or_default();
    let seconds = time.duration_since(UNIX_EPOCH).unwrap().as_secs();
    eventually(DEADLINE, "the worker has looked at the time", || {
        gateway.metric("ringward_worker_heartbeat_timestamp_seconds", &[]) >= seconds as f64
    });
    then
}

/// More than the longest time between two looks at an open connection.
const LOOK_AGAIN: Duration = Duration::from_secs(6);
/// Longer than that.
const LONG_GRACE: Duration = Duration::from_secs(16);
/// Long enough to collect what a client may hold, on a slow machine.
const LIFETIME: Duration = Duration::from_secs(15);
