//! An invented request, to try a policy on before it meets real ones, and to test with.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::input::subject::{Claims, Subject};
use crate::input::view::{BodyView, ConnectionView, RequestView, RouteView};

/// Header fields of the invented request.
pub(crate) const HEADERS: [(&str, &str); 9] = [
    ("host", "api.example.com"),
    ("content-type", "application/json"),
    ("user-agent", "sample/1.0"),
    ("accept", "application/json"),
    ("accept-encoding", "gzip"),
    ("authorization", "Bearer sample"),
    ("cookie", "session=sample"),
    ("x-request-id", "sample"),
    ("traceparent", "00-00000000000000000000000000000001-0000000000000001-01"),
];

/// The claims of an invented client with one of everything.
pub(crate) fn claims() -> Claims<'static> {
    Claims {
        verified: true,
        name: "spiffe://example.com/ns/sample/sa/client",
        tenant: "example",
        identity: "spiffe://example.com/ns/sample/sa/client",
        spiffe_id: "spiffe://example.com/ns/sample/sa/client",
        trust_domain: "example.com",
        subject: "CN=client,OU=Engineering,O=Example",
        issuer: "CN=Example CA,O=Example",
        common_names: vec!["client".to_owned()].into(),
        organizations: vec!["Example".to_owned()].into(),
        organizational_units: vec!["Engineering".to_owned()].into(),
        organization_identifiers: vec!["NTRXX-0000001".to_owned()].into(),
        uris: vec!["spiffe://example.com/ns/sample/sa/client".to_owned()].into(),
        dns: vec!["client.example.com".to_owned()].into(),
        emails: vec!["client@example.com".to_owned()].into(),
        ips: vec![IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7))].into(),
        serial: "0a1b2c3d",
        fingerprint_sha256: "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
        not_before_unix: 1_700_000_000,
        not_after_unix: 1_900_000_000,
        chain_depth: 2,
        extended_key_usages: vec!["1.3.6.1.5.5.7.3.2".to_owned()].into(),
        policy_oids: vec!["1.3.6.1.4.1.99999.1".to_owned()].into(),
        extensions: vec![("1.3.6.1.4.1.99999.2", "sample")],
    }
}

/// The invented client's connection.
pub(crate) fn connection() -> ConnectionView<'static> {
    ConnectionView {
        remote: SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)), 40_000),
        local_port: 8443,
        sni: "api.example.com",
        alpn: "http/1.1",
        tls_version: "TLSv1.3",
        cipher: "TLS_AES_128_GCM_SHA256",
        resumed: true,
        auth_time_unix: 1_799_999_000,
    }
}

/// The subject of both.
pub(crate) fn subject() -> Subject {
    Subject::from_claims(&claims(), &connection())
}

/// The invented request.
pub(crate) fn request() -> RequestView<'static> {
    RequestView {
        method: "GET",
        path: "/orders/17",
        raw_path: "/orders/17?page=2&tag=a&tag=b",
        query: Some("page=2&tag=a&tag=b"),
        host: "api.example.com",
        scheme: "https",
        protocol: "HTTP/1.1",
        id: "01J000000000000000000000000",
        headers: &HEADERS,
        body: Some(BodyView { bytes: br#"{"quantity":2}"#, truncated: false }),
        route: RouteView {
            id: "orders",
            template: "/orders/{id}",
            params: &[("id", "17")],
            upstream: "orders",
            labels: &[],
        },
        now_unix: 1_800_000_000,
    }
}
