//! What the benches of policies share: a connection, a request, and policies made of text.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use ringward_http::RequestHead;
use ringward_policy::{
    BodyView, CacheOptions, CachingWorker, CompiledPolicy, ConnectionView, Limits, PolicySet, RequestView,
    RouteView, Source, compile,
};

use crate::{Fields, HOST};

/// A policy of one module in the package `ringward.authz`.
pub fn compiled(module: &str) -> Arc<dyn CompiledPolicy> {
    compiled_with_data(module, None)
}

/// A policy of one module, with a JSON document for `data`.
pub fn compiled_with_data(module: &str, data: Option<&str>) -> Arc<dyn CompiledPolicy> {
    let mut sources = vec![Source::new("authz.rego", module.as_bytes())];
    sources.extend(data.map(|data| Source::new("data.json", data.as_bytes())));
    // By the clock on the wall, of which neighbours may take much.
    let limits = Limits { time_budget: Duration::from_secs(1), ..Limits::default() };
    let set = PolicySet::new(sources, "data.ringward.authz.decision", limits);
    compile(&set).expect("a policy that is right")
}

/// An evaluator with a cache of the default size that never doubts a hit.
pub fn caching_worker(policy: &dyn CompiledPolicy) -> CachingWorker {
    caching_worker_of(policy, 8192)
}

/// An evaluator with a cache for so many decisions.
pub fn caching_worker_of(policy: &dyn CompiledPolicy, entries: usize) -> CachingWorker {
    let options = CacheOptions {
        entries,
        bytes: entries << 9,
        verify_every: NonZeroU32::MAX,
        misses_per_second: NonZeroU32::new(1_000_000),
    };
    CachingWorker::new(policy, Some(&options))
}

/// What is known of a connection.
pub fn connection() -> ConnectionView<'static> {
    ConnectionView {
        remote: SocketAddr::from(([192, 0, 2, 7], 40_000)),
        local_port: 8443,
        sni: HOST,
        alpn: "http/1.1",
        tls_version: "TLSv1.3",
        cipher: "TLS_AES_128_GCM_SHA256",
        resumed: false,
        auth_time_unix: 1_800_000_000,
    }
}

/// A request on a route, as the policy of the route sees it.
pub fn request<'a>(head: &'a RequestHead, fields: &'a Fields<'a>) -> RequestView<'a> {
    RequestView {
        method: head.method(),
        path: head.path(),
        raw_path: head.raw_target(),
        query: head.query(),
        host: head.host(),
        scheme: "https",
        protocol: "HTTP/1.1",
        id: "000000000000002a-1",
        headers: fields,
        body: Some(BodyView { bytes: &[], truncated: false }),
        route: RouteView {
            id: "orders",
            template: "/orders/{rest...}",
            params: &[("rest", "17")],
            upstream: "orders",
            labels: &[],
        },
        now_unix: 1_800_000_000,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use ringward_identity::{IdentityOptions, PeerIdentity};
    use ringward_policy::{Subject, SubjectMark};
    use ringward_testkit::{Authority, Leaf};

    use super::*;
    use crate::{SERVICE_REQUEST, parsed, thread_time};

    /// How long a worker is held up by a cache at most, in CPU time: when it is made, by any request while it fills with
    /// decisions and while it fills with clients, and when it is let go of.
    ///
    /// `cargo test --release -p ringward-benches --lib -- --ignored --nocapture pauses`
    #[test]
    #[ignore = "measures"]
    #[allow(clippy::print_stdout, reason = "the figures are for whoever asks for them")]
    fn pauses() {
        let policy = compiled(
            "package ringward.authz\n\ndecision := {\"allowed\": true, \"rule\": input.request.path, \
             \"reason\": input.client.name}\n",
        );
        let head = parsed(SERVICE_REQUEST);
        let fields = Fields(&head);
        let request = request(&head, &fields);
        let root = Authority::root("Client Root");
        let subjects = |count: usize| -> Vec<Subject> {
            (0..count)
                .map(|number| {
                    let client = root.issue(&Leaf::client(&format!("client {number}")));
                    let peer = PeerIdentity::from_verified_chain(client.chain(), &IdentityOptions::default());
                    Subject::new(Some(&peer.expect("a certificate that is right")), &connection())
                })
                .collect()
        };
        for entries in [8192, 65_536] {
            let subjects = subjects(2 * entries);
            let started = thread_time();
            let mut worker = caching_worker_of(&*policy, entries);
            println!("{entries}: made in {:?}", thread_time() - started);
            for (what, clients) in [("decisions", 1), ("clients", subjects.len())] {
                let mut slowest = Duration::ZERO;
                for number in 0..3 * entries {
                    let subject = &subjects[number % clients];
                    let path = format!("/orders/{number}/lines");
                    let mut mark = SubjectMark::default();
                    // Kept at the second time, and found at the third: a cache in which nothing is found pauses.
                    for _ in 0..3 {
                        let request = RequestView { path: &path, ..request };
                        let started = thread_time();
                        worker.decide(&mut mark, &mut || subject.clone(), &request, Instant::now());
                        slowest = slowest.max(thread_time() - started);
                    }
                }
                println!(
                    "{entries}: filled with {what}, {} entries, no request took more than {slowest:?}",
                    worker.entries()
                );
            }
            let started = thread_time();
            drop(worker);
            println!("{entries}: let go of in {:?}", thread_time() - started);
        }
    }
}
