//! Clients in HTTP/2 that we did not write: Python's httpx, Node's http2 and Java's HttpClient, each with and without a
//! certificate, with large bodies, many streams at once, and streams that are left in the middle. `clients.rs` has curl and
//! nghttp.

mod support;

use std::path::PathBuf;

use ringward_testkit::{DEADLINE, eventually};

use self::support::{Gateway, OPTIONAL, STRICT, Setting, node, program, python, said, script};

/// What a client says that can send a request to a host over the connection of another one.
const WORDS: &str = "200 200 403 421 refused upload-ok streams-ok";

/// Of Java's key store.
const PASSWORD: &str = "changeit";

fn setting() -> Setting {
    Setting::of(Gateway::builder().listener("http2 = true"))
}

/// That the partner did everything on one connection, in HTTP/2.
#[track_caller]
fn assert_one_connection(setting: &Setting) {
    let mut records = Vec::new();
    eventually(DEADLINE, "most of the records are there", || {
        records = setting.gateway.lines("request");
        records.retain(|record| record["peer.id"] == "CN=partner-a");
        records.len() > 50
    });
    for record in &records {
        assert_eq!(record["connection.id"], records[0]["connection.id"], "{record}");
        assert_eq!(record["protocol"], "HTTP/2", "{record}");
    }
}

#[test]
fn python_httpx_is_served() {
    let setting = setting();
    setting.expect_words(python().arg(script("http2.py")).args(setting.arguments()), WORDS);
    assert_one_connection(&setting);
}

#[test]
fn node_is_served() {
    let setting = setting();
    setting.expect_words(node().arg(script("http2.js")).args(setting.arguments()), WORDS);
    assert_one_connection(&setting);
}

#[test]
fn java_is_served() {
    let setting = setting();
    let store = pkcs12(&setting);
    let hosts = setting.gateway.pki.write("client/hosts", format!("127.0.0.1 {STRICT} {OPTIONAL}\n"));
    let mut java = program("java", "default-jdk-headless");
    java.arg(format!("-Djdk.net.hosts.file={}", hosts.display()));
    java.arg("-Djdk.httpclient.allowRestrictedHeaders=host");
    // Quicker for a program of two seconds.
    java.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]);
    java.arg(script("Http2.java")).arg(setting.gateway.edge.port().to_string());
    java.arg(&setting.ca).args([store.as_os_str(), PASSWORD.as_ref()]);
    setting.expect_words(&mut java, &WORDS.replace("421", "400"));
    assert_one_connection(&setting);
}

/// The partner's certificate and key in one file, as Java wants them.
fn pkcs12(setting: &Setting) -> PathBuf {
    let store = setting.cert.with_extension("p12");
    let mut openssl = program("openssl", "openssl");
    openssl.args(["pkcs12", "-export", "-passout", &format!("pass:{PASSWORD}"), "-out"]).arg(&store);
    openssl.arg("-in").arg(&setting.cert).arg("-inkey").arg(&setting.key);
    said(&mut openssl);
    store
}
