//! The body of a request as a policy sees it: its content type, JSON and text, up to the decision.
//!
//! The input is a content type and, behind the first line break, a body.
#![no_main]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};

use libfuzzer_sys::fuzz_target;
use ringward_policy::{
    BodyView, CompiledPolicy, ConnectionView, DecisionError, Limits, PolicySet, RequestView, RouteView,
    Source, compile,
};

const POLICY: &str =
    "package p\ndecision if {\n\tis_object(input.request.body.json)\n\tinput.request.body.text != \"\"\n}\n";

fn policy() -> &'static Arc<dyn CompiledPolicy> {
    static POLICY_ONCE: OnceLock<Arc<dyn CompiledPolicy>> = OnceLock::new();
    POLICY_ONCE.get_or_init(|| {
        let source = Source::new("p.rego", POLICY.as_bytes());
        compile(&PolicySet::new(vec![source], "data.p.decision", Limits::default())).expect("a good policy")
    })
}

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(2, |byte| *byte == b'\n');
    let content_type = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let bytes = parts.next().unwrap_or_default();
    let mut worker = policy().worker();
    let connection = ConnectionView {
        remote: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        local_port: 0,
        sni: "",
        alpn: "",
        tls_version: "",
        cipher: "",
        resumed: false,
        auth_time_unix: 0,
    };
    let request = RequestView {
        method: "POST",
        path: "/",
        raw_path: "/",
        query: None,
        host: "",
        scheme: "https",
        protocol: "HTTP/1.1",
        id: "",
        headers: &[("content-type", &*content_type)],
        body: Some(BodyView { bytes, truncated: false }),
        route: RouteView::default(),
        now_unix: 0,
    };
    match worker.decide(&worker.subject(None, &connection), &request) {
        // Nothing is taken for an object that does not begin as one, or that another reader refuses.
        Ok(decision) if decision.allowed => {
            let start = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
            assert!(start == Some(&b'{') && str::from_utf8(bytes).is_ok(), "decided about what is no object");
        }
        Ok(_) | Err(DecisionError::Body(_) | DecisionError::TimeBudget) => {}
        Err(error) => panic!("{error}"),
    }
});
