//! Trust that was given elsewhere: by another virtual host, to another tenant, by another listener. Nothing changes here; what
//! a client holds of one place is of no use in another.

use ringward_testkit::{Authority, Client, DEADLINE, Gate, Leaf, Script};

use super::holdings::{CACHE, Ending, TICKETS};
use crate::support::{Builder, Gateway, Host, with_sessions};

const HERE: &str = "here.example.com";
const THERE: &str = "there.example.com";

/// Both hosts, `here` and `there`, on two listeners, one for each way to keep sessions.
fn places(builder: Builder, here: &str, there: &str) -> Gateway {
    let host =
        |name, tenants: &str| Host::new(&[name]).client_auth(&format!("mode = \"required\", {tenants}"));
    let builder = builder.host(host(HERE, here)).host(host(THERE, there));
    builder.same_listener(CACHE, "resumption = \"cache\"\n").start()
}

/// A client of `here` gets nowhere with `there`; `reason` is counted for each handshake.
#[track_caller]
fn check(gateway: &Gateway, client: &Client, reason: &str) {
    let client = client.clone().server_name(HERE);
    let mut refused = 0;
    for listener in [TICKETS, CACHE] {
        let address = gateway.listener(listener);
        // The way over: the session of one host is offered to the other.
        let (resuming, sessions) = with_sessions(&client, address, 3);
        let over = resuming.clone().server_name(THERE);
        for connecting in [&client.clone().server_name(THERE), &over] {
            let answer = connecting.connect(address).and_then(|mut connection| connection.get("/after"));
            let ending = Ending::of(answer.map(|response| response.status));
            assert!(ending.is_refusal(), "{listener}: {ending:?}");
            refused += 1;
        }
        assert_eq!(sessions.len(), 2, "one was offered");
        // The same, but the handshake names the host that the session is of, and only the request the other.
        let mut resumed = resuming.connect(address).unwrap();
        let response = resumed.request("GET", "/after", &[("host", THERE)], b"").unwrap();
        assert!(resumed.is_resumed() && response.status == 421, "{listener}: {}", response.status);

        // Connections that are open.
        let mut idle = client.connect(address).unwrap();
        assert_eq!(idle.get("/before").unwrap().status, 200);
        assert_eq!(idle.request("GET", "/after", &[("host", THERE)], b"").unwrap().status, 421);
        let (gate, target) = (Gate::new(), format!("/slow/{listener}"));
        gateway.upstream.on(&target, Script::new().wait(&gate).respond(200, &[], "late"));
        let mut busy = client.connect(address).unwrap();
        let both = [busy.head("GET", &target, &[]), busy.head("GET", "/after", &[("host", THERE)])].concat();
        busy.send(&both).unwrap();
        gate.wait_for_arrivals(1, DEADLINE);
        gate.open();
        assert_eq!(busy.response().unwrap().status, 200);
        assert_eq!(busy.response().unwrap().status, 421);
    }
    gateway.wait_for_failed_handshakes(reason, refused);
    assert!(!gateway.has_reached("/after"), "{:?}", gateway.reached());
}

#[test]
fn trust_in_another_hosts_bundle() {
    let others = Authority::root("Other Root");
    let builder = Gateway::builder().trust("others", &[&others]);
    let gateway = places(builder, "trust = \"partners\"", "trust = \"others\"");
    check(&gateway, &gateway.client(), "unknown_issuer");
    // And back: by a client of the other bundle.
    let stranger = Client::new(THERE, &gateway.root).identity(&others.issue(&Leaf::client("stranger")));
    let answer =
        stranger.server_name(HERE).connect(gateway.edge).and_then(|mut connection| connection.get("/after"));
    assert!(answer.is_err());
}

#[test]
fn laxer_checks_of_another_host() {
    let gateway =
        places(Gateway::builder(), "trust = \"partners\", require_eku = false", "trust = \"partners\"");
    let old = gateway.root.issue(&Leaf::client("old").usages(&[]));
    check(&gateway, &gateway.client().identity(&old), "bad_eku");
}

/// Both tenants have the same CA: whether a chain verifies says nothing about whose it is, and what is remembered of it for
/// one host must not be believed by the other.
#[test]
fn another_tenants_chain_in_the_memo() {
    let tenants = "[tenant.acme]\ntrust = [\"partners\"]\nmatch = [{ organization = \"Acme\" }]\n\n\
                   [tenant.globex]\ntrust = [\"partners\"]\nmatch = [{ organization = \"Globex\" }]\n";
    let gateway = places(
        Gateway::builder().section(tenants),
        "trust = \"partners\", tenants = [\"acme\"]",
        "trust = \"partners\", tenants = [\"globex\"]",
    );
    let acme = gateway.root.intermediate("Issuing").issue(&Leaf::client("a").organization("Acme"));
    check(&gateway, &gateway.client().identity(&acme), "no_tenant");
    let globex = gateway.client().identity(&gateway.root.issue(&Leaf::client("g").organization("Globex")));
    let mut admitted = globex.server_name(THERE).connect(gateway.edge).unwrap();
    assert_eq!(admitted.get("/there").unwrap().status, 200);
}

/// Of one listener's session another one knows nothing, even if their hosts are alike in everything.
#[test]
fn a_session_of_another_listener() {
    let builder = Gateway::builder();
    let gateway = builder
        .host(Host::new(&[HERE]))
        .same_listener("twin", "")
        .same_listener(CACHE, "resumption = \"cache\"\n")
        .same_listener("cached-twin", "resumption = \"cache\"\n")
        .start();
    let client = gateway.client().server_name(HERE);
    for (one, other) in [(TICKETS, "twin"), (CACHE, "cached-twin"), (TICKETS, CACHE), (CACHE, TICKETS)] {
        let (resuming, sessions) = with_sessions(&client, gateway.listener(one), 1);
        let mut connection = resuming.connect(gateway.listener(other)).unwrap();
        assert!(!connection.is_resumed(), "{one} to {other}");
        assert_eq!(connection.get("/").unwrap().status, 200);
        assert_eq!(sessions.received(), 1, "with the session that was offered, and a new one from {other}");
    }
}
