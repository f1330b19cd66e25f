//! OpenSSL's client with sessions in files, which it offers as often as it is told to: what one side of a change of trust has
//! given must not open the other side, in TLS 1.3 nor in TLS 1.2.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use ringward_testkit::{Authority, Crl, DEADLINE, Issued, Leaf, SClient, eventually};

use self::support::{Builder, Gateway, HOST, Host, publish};

const OPTIONAL: &str = "mode = \"optional\", trust = \"partners\"";

/// A listener that talks TLS 1.2 too, with each kind of resumption.
fn both_versions(builder: Builder) -> Builder {
    let keys = "tls = { min_version = \"1.2\" }\n";
    let cached = format!("{keys}resumption = \"cache\"\n");
    builder.listener(keys).same_listener("twin", keys).same_listener("cached", &cached)
}

/// A client's way in: listener, version and session.
struct Way {
    what: String,
    client: SClient,
    session: PathBuf,
}

impl Way {
    /// Every way, each with a session that was just begun; in TLS 1.2 no client gets one.
    fn all(gateway: &Gateway, identity: Option<&Issued>, server_name: &str) -> Vec<Way> {
        let mut ways = Vec::new();
        for (listener, address) in &gateway.listeners {
            for version in ["1.3", "1.2"] {
                let mut client = gateway.s_client(*address, server_name);
                if let Some(identity) = identity {
                    client = client.identity(&gateway.client_files("s_client", identity));
                }
                if version == "1.2" {
                    client = client.tls12();
                }
                let session = gateway.pki.path().join(format!("{listener}-{version}-{server_name}.session"));
                let first = client.clone().save(&session).get(server_name, "/begin");
                assert_eq!(first.status(), Some(200), "{}", first.text);
                assert!(
                    !first.resumed() && first.version() == Some(&format!("TLSv{version}")),
                    "{}",
                    first.text
                );
                assert_eq!(session.exists(), version == "1.3", "{listener} {version}");
                ways.push(Way { what: format!("{listener} TLS {version}"), client, session });
            }
        }
        ways
    }

    fn offering(&self, client: &SClient) -> SClient {
        if self.session.exists() { client.clone().offer(&self.session) } else { client.clone() }
    }

    /// Offers the session where `client` goes. With `expected` a request is served, else none may be; `resumed` says whether
    /// the session is of use in TLS 1.3. In TLS 1.2 there is none.
    #[track_caller]
    fn offer(&self, client: &SClient, host: &str, expected: Option<u16>, resumed: bool) {
        let run = self.offering(client).get(host, "/after");
        assert_eq!(run.status(), expected, "{}: {}", self.what, run.text);
        if run.status().is_some() {
            assert_eq!(run.resumed(), resumed && !self.what.ends_with("1.2"), "{}: {}", self.what, run.text);
        }
    }
}

/// The change is in force, and nobody gets in by any way, with the session nor without.
#[track_caller]
fn assert_shut(gateway: &Gateway, ways: &[Way]) {
    for way in ways {
        for _ in 0..2 {
            way.offer(&way.client, HOST, None, false);
        }
        let run = way.client.get(HOST, "/after");
        assert_eq!(run.status(), None, "{}: {}", way.what, run.text);
    }
    assert!(!gateway.has_reached("/after"), "{:?}", gateway.reached());
    assert_eq!(gateway.metric("ringward_worker_panics_total", &[]), 0.0);
}

#[test]
fn without_a_change_tls_1_3_resumes_and_tls_1_2_does_not() {
    for mode in ["mode = \"required\", trust = \"partners\"", OPTIONAL, "mode = \"off\""] {
        let gateway = both_versions(Gateway::builder().host(Host::new(&[HOST]).client_auth(mode))).start();
        for way in Way::all(&gateway, Some(&gateway.partner), HOST) {
            way.offer(&way.client, HOST, Some(200), true);
        }
    }
}

#[test]
fn a_removed_ca() {
    let leaving = Authority::root("Leaving Root");
    let builder = Gateway::builder();
    let root = builder.root().clone();
    let host = Host::new(&[HOST]).client_auth("mode = \"required\", trust = \"both\"");
    let gateway = both_versions(builder.trust("both", &[&root, &leaving]).host(host)).start();
    let ways = Way::all(&gateway, Some(&leaving.issue(&Leaf::client("departing"))), HOST);
    gateway.change(|gateway| drop(gateway.pki.write_authorities("trust/both.pem", &[&gateway.root])));
    assert_shut(&gateway, &ways);
}

#[test]
fn a_revoked_leaf() {
    let builder = Gateway::builder().stateful().trust_key("crl = [\"crl/\"]");
    publish(builder.pki(), "root", builder.root(), &Crl::new().number(1));
    let gateway = both_versions(builder.host(Host::new(&[HOST]))).start();
    let ways = Way::all(&gateway, Some(&gateway.partner), HOST);
    let serial = gateway.partner.serial();
    gateway.change(|gateway| {
        publish(&gateway.pki, "root", &gateway.root, &Crl::new().number(2).revoke(serial));
    });
    assert_shut(&gateway, &ways);
    eventually(DEADLINE, "the refusals are counted", || {
        gateway.metric("ringward_revocation_refusals_total", &[("source", "crl")]) >= 12.0
    });
}

#[test]
fn an_expired_leaf() {
    let gateway = both_versions(Gateway::builder().host(Host::new(&[HOST]))).start();
    let ends = SystemTime::now() + Duration::from_secs(15);
    let brief = Leaf::client("brief").valid_between(ends - Duration::from_secs(3600), ends);
    let ways = Way::all(&gateway, Some(&gateway.root.issue(&brief)), HOST);
    eventually(DEADLINE, "its time is over", || SystemTime::now() >= ends + Duration::from_secs(1));
    assert_shut(&gateway, &ways);
}

#[test]
fn an_anonymous_client_once_a_certificate_is_mandatory() {
    let gateway = both_versions(Gateway::builder().host(Host::new(&[HOST]).client_auth(OPTIONAL))).start();
    let ways = Way::all(&gateway, None, HOST);
    gateway.reconfigure("mode = \"optional\"", "mode = \"required\"");
    assert_shut(&gateway, &ways);
}

/// Without a change, but elsewhere: hosts that check clients differently, and other listeners.
#[test]
fn another_host_or_listener() {
    let (open, strict) = ("open.example.com", "strict.example.com");
    let builder = Gateway::builder()
        .host(Host::new(&[open]).client_auth("mode = \"off\""))
        .host(Host::new(&[HOST]).client_auth(OPTIONAL))
        .host(Host::new(&[strict]));
    let gateway = both_versions(builder).start();
    for name in [open, HOST] {
        for way in Way::all(&gateway, None, name) {
            for (_, address) in &gateway.listeners {
                let mut there = gateway.s_client(*address, strict);
                if way.what.ends_with("1.2") {
                    there = there.tls12();
                }
                way.offer(&there, strict, None, false);
            }
            // By the name that the session is of, and then for the strict host.
            let run = way.offering(&way.client).get(strict, "/after");
            assert_eq!(run.status(), Some(421), "{}: {}", way.what, run.text);
        }
    }
    assert!(!gateway.has_reached("/after"), "{:?}", gateway.reached());

    // A session of one listener opens no other, and without one the same client is served.
    let ways = Way::all(&gateway, Some(&gateway.partner), strict);
    for way in &ways {
        for (listener, address) in &gateway.listeners {
            let mut there = gateway.s_client(*address, strict);
            there = there.identity(&gateway.client_files("s_client", &gateway.partner));
            if way.what.ends_with("1.2") {
                there = there.tls12();
            }
            way.offer(&there, strict, Some(200), way.what.starts_with(listener.as_str()));
        }
    }
}

/// RFC 7627: without the extended master secret a TLS 1.2 session can be grafted onto another.
#[test]
fn tls_1_2_without_extended_master_secret_is_refused() {
    let gateway = both_versions(Gateway::builder().host(Host::new(&[HOST]))).start();
    let client = gateway.s_client(gateway.edge, HOST).tls12();
    let client = client.identity(&gateway.client_files("partner", &gateway.partner));
    assert_eq!(client.get(HOST, "/").status(), Some(200));
    let without = "openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\nOptions = -ExtendedMasterSecret\n";
    let run = client.configuration(&gateway.pki.write("openssl.cnf", without)).get(HOST, "/after");
    assert!(run.status().is_none() && run.text.contains("alert"), "{}", run.text);
    assert!(!gateway.has_reached("/after"));
}
