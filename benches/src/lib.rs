//! What the benches share: requests as clients send them, a client's certificates, the allocator of the product, and a clock
//! that neighbours do not disturb.
//!
//! Everything is made from fixed texts or fresh keys; nothing is read at run time and nothing touches the network.
#![forbid(unsafe_code)]
#![allow(clippy::missing_panics_doc, reason = "a bench that cannot be set up ends")]

mod clock;
pub mod policy;
pub mod tls;

use std::sync::Arc;

use ringward_http::{HeadLimits, RequestHead};
use ringward_identity::{IdentityOptions, PeerIdentity};
use ringward_policy::HeaderSource;
use ringward_testkit::{Authority, Issued, Leaf};

pub use crate::clock::{CpuTime, criterion, thread_time};

/// As in the `ringward` program, so that what allocates costs what it costs there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The name of the virtual host.
pub const HOST: &str = "api.example.com";

/// The limits that listeners have by default.
pub const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 32 << 10, fields_max: 100 };

/// What a service sends to another: four fields.
pub const SERVICE_REQUEST: &str = "GET /orders/17?page=2 HTTP/1.1\r\n\
    Host: api.example.com\r\n\
    User-Agent: orders/1.4\r\n\
    Accept: application/json\r\n\
    X-Request-Id: 01J9Z3M4N5P6Q7R8S9T0V1W2X3\r\n\r\n";

/// What the load generator of the side-by-side kit sends: three fields.
pub const KIT_REQUEST: &str = "GET /api/v1/items HTTP/1.1\r\n\
    host: bench.local\r\n\
    user-agent: loadgen\r\n\
    accept: */*\r\n\r\n";

/// What a browser sends: sixteen fields, 0.9 KiB.
pub const BROWSER_REQUEST: &str = "GET /orders/17/files/a%20report.pdf?download=true&token=6f1ed002ab5595859014ebf0951522d9 HTTP/1.1\r\n\
    Host: api.example.com\r\n\
    Connection: keep-alive\r\n\
    Cache-Control: max-age=0\r\n\
    sec-ch-ua: \"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\"\r\n\
    sec-ch-ua-mobile: ?0\r\n\
    sec-ch-ua-platform: \"Linux\"\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
    Sec-Fetch-Site: same-origin\r\n\
    Sec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-Dest: document\r\n\
    Referer: https://api.example.com/orders?status=open&sort=created&direction=descending\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-GB,en;q=0.9,de-AT;q=0.8,de;q=0.7\r\n\
    Cookie: session=eyJhbGciOiJFZERTQSIsImtpZCI6IjEifQ.eyJzdWIiOiIxNyIsImV4cCI6MTgwMDAwMDAwMH0.c2lnbmF0dXJlLXdvdWxkLWJlLWhlcmUtb2YtYWJvdXQtdGhpcy1sZW5ndGg; theme=dark\r\n\r\n";

/// A parsed head.
pub fn parsed(request: &str) -> RequestHead {
    let mut head = RequestHead::new();
    let taken = head.parse(request.as_bytes(), &LIMITS).expect("a request that is right");
    assert_eq!(taken, Some(request.len()));
    head
}

/// Two hierarchies of root, intermediate and leaf with P-256 keys, as most private CAs are built.
pub struct Certificates {
    /// Signs servers.
    pub server_root: Authority,
    /// Our certificate.
    pub server: Issued,
    /// Signs who signs clients.
    pub client_root: Authority,
    /// Signs clients.
    pub client_issuing: Authority,
    /// The certificate of a client: leaf and intermediate.
    pub client: Issued,
}

impl Certificates {
    /// Fresh ones, for a client that is a workload of a shop.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Certificates {
        let client = Leaf::client("orders")
            .organization("Example")
            .organizational_unit("Shop")
            .spiffe("spiffe://example.com/ns/shop/sa/orders")
            .dns("orders.shop.example.com");
        Certificates::of_client(&client)
    }

    /// Fresh ones, for this client.
    pub fn of_client(client: &Leaf) -> Certificates {
        let (server_root, client_root) = (Authority::root("Server Root"), Authority::root("Client Root"));
        let server = server_root.intermediate("Server Issuing CA").issue(&Leaf::server(HOST));
        let client_issuing = client_root.intermediate("Client Issuing CA");
        let client = client_issuing.issue(client);
        Certificates { server_root, server, client_root, client_issuing, client }
    }

    /// The client as policies and upstreams see it.
    pub fn peer(&self) -> Arc<PeerIdentity> {
        let peer = PeerIdentity::from_verified_chain(self.client.chain(), &IdentityOptions::default());
        Arc::new(peer.expect("a certificate that is right"))
    }
}

/// The fields of a request as policies get them.
pub struct Fields<'a>(pub &'a RequestHead);

impl HeaderSource for Fields<'_> {
    fn for_each(&self, each: &mut dyn FnMut(&str, &str)) {
        let mut name = String::new();
        for field in self.0.fields() {
            name.clear();
            name.push_str(field.name);
            name.make_ascii_lowercase();
            each(&name, &String::from_utf8_lossy(field.value));
        }
    }

    fn values(&self, name: &str, each: &mut dyn FnMut(&str)) {
        for field in self.0.fields().filter(|field| field.name.eq_ignore_ascii_case(name)) {
            each(&String::from_utf8_lossy(field.value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_what_their_descriptions_say() {
        assert_eq!(parsed(SERVICE_REQUEST).fields().count(), 4);
        assert_eq!(parsed(BROWSER_REQUEST).fields().count(), 16);
        assert!((900..1000).contains(&BROWSER_REQUEST.len()), "{} bytes", BROWSER_REQUEST.len());
        assert_eq!(Certificates::new().peer().name(), "spiffe://example.com/ns/shop/sa/orders");
    }
}
