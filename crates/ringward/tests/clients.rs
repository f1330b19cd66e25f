//! Clients that we did not write, in HTTP/1.1: curl, `openssl s_client`, Python's standard library and requests, and Node, each
//! with and without a certificate; curl and nghttp in HTTP/2, too.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::io::{Read as _, Write as _};
use std::process::{Command, Output, Stdio};

use ringward_testkit::{DEADLINE, Pattern, sha256_hex};
use serde_json::Value;

use self::support::{Gateway, HOST, Host, OPTIONAL, STRICT, Setting, node, program, python};

impl Setting {
    /// curl, knowing the gateway under all of its names. Options come first, then the URL.
    fn curl(&self, certificate: bool, host: &str, path: &str, options: &[&str]) -> Output {
        let port = self.gateway.edge.port();
        let mut curl = program("curl", "curl");
        curl.args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "20", "--cacert"])
            .arg(&self.ca);
        curl.arg("--resolve").arg(format!("{host}:{port}:127.0.0.1"));
        if certificate {
            curl.arg("--cert").arg(&self.cert).arg("--key").arg(&self.key);
        }
        curl.args(options).arg(format!("https://{host}:{port}{path}"));
        curl.output().expect("run curl")
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn curl_with_a_certificate_is_served_and_named() {
    let setting = Setting::new();
    let output = setting.curl(true, STRICT, "/orders?page=2", &["--fail", "--header", "client-cert: forged"]);
    assert!(output.status.success(), "{output:?}");
    let echo: Value = serde_json::from_slice(&output.stdout).expect("an echo");
    assert_eq!(echo["target"], "/orders?page=2");
    let fields = echo["headers"].as_array().expect("fields");
    let certs: Vec<_> = fields.iter().filter(|field| field[0] == "client-cert").collect();
    assert!(certs.len() == 1 && certs[0][1].as_str().expect("text").starts_with(":MII"), "{certs:?}");
    let record = setting.gateway.wait_for_record("path", "/orders");
    assert_eq!(
        (&record["rule"], &record["peer.id"]),
        (&"partner".into(), &"CN=partner-a".into()),
        "{record}"
    );
}

#[test]
fn curl_without_a_certificate_is_refused_or_judged_by_policy() {
    let setting = Setting::new();
    let output = setting.curl(false, STRICT, "/public", &[]);
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    setting.gateway.wait_for_failed_handshakes("no_certificate", 1);
    let code = ["--output", "/dev/null", "--write-out", "%{http_code}"];
    for (path, status) in [("/public", "200"), ("/orders", "403")] {
        assert_eq!(stdout(&setting.curl(false, OPTIONAL, path, &code)), status, "{path}");
    }
    assert_eq!(stdout(&setting.curl(false, OPTIONAL, "/orders", &[])), "not for you\n");
    assert_eq!(
        stdout(&setting.curl(false, OPTIONAL, "/public", &["--header", &format!("host: {STRICT}")])),
        "misdirected request\n"
    );
}

#[test]
fn curl_talks_http_1_0_and_1_1_and_reuses_its_connection() {
    let setting = Setting::of(Gateway::builder().listener("http2 = false"));
    let shown = ["--output", "/dev/null", "--write-out", "%{http_version} %{http_code} %{num_connects}\n"];
    for options in [&["--http1.1"][..], &["--http2"], &["--http1.0"], &["--http1.0", "--no-alpn"]] {
        let output = setting.curl(true, STRICT, "/a", &[&shown[..], options].concat());
        assert_eq!(stdout(&output), "1.1 200 1\n", "{options:?}: {output:?}");
    }
    let port = setting.gateway.edge.port();
    let second = format!("https://{STRICT}:{port}/b");
    let output =
        setting.curl(true, STRICT, "/c", &[&shown[..], &[&second, "--output", "/dev/null"]].concat());
    assert_eq!(stdout(&output), "1.1 200 1\n1.1 200 0\n", "{output:?}");
    let head = setting.curl(true, STRICT, "/big/1000", &["--head"]);
    assert!(stdout(&head).to_lowercase().contains("content-length: 1000\r\n"), "{head:?}");
}

#[test]
fn curl_speaks_http_2_where_it_is_offered() {
    let setting = Setting::new();
    let shown = ["--output", "/dev/null", "--write-out", "%{http_version} %{http_code} %{num_connects}\n"];
    for (options, expected) in [
        (&[][..], "2 200 1\n"),
        (&["--http2"], "2 200 1\n"),
        (&["--http1.1"], "1.1 200 1\n"),
        (&["--http2", "--http2-prior-knowledge"], "2 200 1\n"),
    ] {
        let output = setting.curl(true, STRICT, "/a", &[&shown[..], options].concat());
        assert_eq!(stdout(&output), expected, "{options:?}: {output:?}");
    }
    let second = format!("https://{STRICT}:{}/b", setting.gateway.edge.port());
    let options = ["--http2", &second, "--output", "/dev/null"];
    let output = setting.curl(true, STRICT, "/c", &[&shown[..], &options].concat());
    assert_eq!(stdout(&output), "2 200 1\n2 200 0\n", "{output:?}");
    let head = setting.curl(true, STRICT, "/big/1000", &["--http2", "--head"]);
    assert!(stdout(&head).contains("content-length: 1000\r\n"), "{head:?}");
    // A host that asks its clients for less.
    let misdirected =
        setting.curl(true, STRICT, "/a", &["--http2", "--header", &format!("host: {OPTIONAL}")]);
    assert_eq!(stdout(&misdirected), "misdirected request\n");
}

#[test]
fn nghttp_and_h2load_are_served() {
    let host = Host::new(&[HOST, "localhost"]).client_auth("mode = \"optional\", trust = \"partners\"");
    let gateway = Gateway::builder().listener("http2 = true").host(host).start();
    let files = gateway.pki.write_pem("client/partner", &gateway.partner);
    let url = |path| format!("https://localhost:{}{path}", gateway.edge.port());
    let mut nghttp = program("nghttp", "nghttp2-client");
    nghttp.args(["--verbose", "--no-verify-peer", "--timeout=20", "--cert"]).arg(&files.chain);
    nghttp.arg("--key").arg(&files.key).args(["--header", "te: trailers"]);
    let seen = stdout(&nghttp.args([url("/trailers"), url("/big/200000")]).output().expect("run nghttp"));
    assert!(seen.contains("The negotiated protocol: h2"), "{seen}");
    assert_eq!(seen.matches(":status: 200").count(), 2, "{seen}");
    assert!(seen.contains("x-checksum: ok"), "the trailer: {seen}");
    let record = gateway.wait_for_record("path", "/trailers");
    assert_eq!(record["peer.id"], "CN=partner-a", "{record}");

    let mut h2load = program("h2load", "nghttp2-client");
    h2load.args(["-n", "2000", "-c", "4", "-m", "50", &url("/big/3000")]);
    let seen = stdout(&h2load.output().expect("run h2load"));
    assert!(seen.contains("2000 succeeded, 0 failed, 0 errored"), "{seen}");
}

#[test]
fn curl_uploads_and_downloads_unchanged() {
    for lines in [&[][..], &["http2 = false"]] {
        curl_moves_bodies(&Setting::of(
            lines.iter().fold(Gateway::builder(), |builder, line| builder.listener(line)),
        ));
    }
}

fn curl_moves_bodies(setting: &Setting) {
    let body = Pattern::new(8 << 20);
    let file = setting.gateway.pki.write("client/body", body.to_vec());
    let data = format!("@{}", file.display());
    // With a length (curl then waits for 100), and in chunks.
    for options in [
        &["--data-binary", &*data][..],
        &["--data-binary", &*data, "--header", "expect: 100-continue"],
        &["--data-binary", &*data, "--header", "transfer-encoding: chunked"],
        &["--upload-file", &data[1..]],
    ] {
        let output = setting.curl(true, STRICT, "/upload", &[&["--fail"][..], options].concat());
        let echo: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{options:?}: {output:?}"));
        assert_eq!(echo["body_sha256"], body.sha256_hex(), "{options:?}");
    }
    for path in ["big", "big-chunked"] {
        let output = setting.curl(true, STRICT, &format!("/{path}/{}", body.len()), &["--fail"]);
        assert_eq!(sha256_hex(&output.stdout), body.sha256_hex(), "{path}");
    }
}

#[test]
fn openssl_shows_what_was_agreed_on_and_gets_its_response() {
    let setting = Setting::new();
    let s_client = |certificate: bool, server_name: &str, request: &str| {
        let mut openssl = program("openssl", "openssl");
        openssl.args([
            "s_client",
            "-connect",
            &setting.gateway.edge.to_string(),
            "-verify_return_error",
            "-brief",
        ]);
        openssl
            .args(["-ign_eof", "-alpn", "http/1.1", "-servername", server_name, "-CAfile"])
            .arg(&setting.ca);
        openssl.args(["-verify_hostname", server_name.trim_end_matches('.')]);
        if certificate {
            openssl.arg("-cert").arg(&setting.cert).arg("-key").arg(&setting.key);
        }
        let mut child = openssl
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("run openssl");
        // It may have been refused before it reads this.
        let _ = child.stdin.take().expect("stdin is piped").write_all(request.as_bytes());
        child.wait_with_output().expect("openssl ends")
    };
    let request = format!("GET /x HTTP/1.1\r\nhost: {STRICT}\r\nconnection: close\r\n\r\n");
    for server_name in [STRICT.to_owned(), STRICT.to_uppercase(), format!("{STRICT}.")] {
        let output = s_client(true, &server_name, &request);
        let agreed = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(agreed.contains("Protocol version: TLSv1.3"), "{server_name}: {output:?}");
        assert!(agreed.contains("Verification: OK"), "{server_name}: {agreed}");
        assert!(stdout(&output).contains("HTTP/1.1 200 OK\r\n"), "{server_name}: {output:?}");
    }
    let output = s_client(false, STRICT, &request);
    assert!(String::from_utf8_lossy(&output.stderr).contains("certificate required"), "{output:?}");
    assert!(!stdout(&output).contains("HTTP/1.1"), "{output:?}");
    let output = s_client(true, "unknown.example.com", &request);
    assert!(String::from_utf8_lossy(&output.stderr).contains("unrecognized name"), "{output:?}");
    setting.gateway.wait_for_failed_handshakes("no_certificate", 1);
    setting.gateway.wait_for_failed_handshakes("unknown_server_name", 1);
}

#[test]
fn openssl_can_change_its_keys_in_the_middle() {
    let setting = Setting::new();
    let mut openssl = program("openssl", "openssl");
    openssl.args([
        "s_client",
        "-connect",
        &setting.gateway.edge.to_string(),
        "-servername",
        STRICT,
        "-CAfile",
    ]);
    openssl.arg(&setting.ca).arg("-cert").arg(&setting.cert).arg("-key").arg(&setting.key).arg("-crlf");
    let mut child = openssl
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run openssl");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let mut stderr = child.stderr.take().expect("stderr is piped");
    let mut send = |text: &str| stdin.write_all(text.as_bytes()).expect("openssl reads");
    send(&format!("GET /first HTTP/1.1\nhost: {STRICT}\n\n"));
    setting.gateway.upstream.wait_for_requests(1, DEADLINE);
    // Alone in what is read at once, this asks for a key update in both directions (RFC 8446 §4.6.3).
    send("K\n");
    let mut said = Vec::new();
    while !String::from_utf8_lossy(&said).contains("KEYUPDATE") {
        let mut byte = [0];
        assert_eq!(
            stderr.read(&mut byte).expect("read what openssl says"),
            1,
            "{}",
            String::from_utf8_lossy(&said)
        );
        said.push(byte[0]);
    }
    send(&format!("GET /second HTTP/1.1\nhost: {STRICT}\nconnection: close\n\n"));
    let output = child.wait_with_output().expect("openssl ends");
    let shown = stdout(&output);
    assert_eq!(shown.matches("HTTP/1.1 200 OK").count(), 2, "{shown}");
    assert_eq!(setting.gateway.upstream.requests().len(), 2);
}

#[test]
fn python_is_served_by_its_standard_library() {
    let script = r#"
import hashlib, http.client, json, socket, ssl, sys

port, ca, cert, key = int(sys.argv[1]), *sys.argv[2:5]

class Connection(http.client.HTTPSConnection):
    def connect(self):
        plain = socket.create_connection(("127.0.0.1", port), 20)
        self.sock = self._context.wrap_socket(plain, server_hostname=self.host)

def connect(host, certificate):
    context = ssl.create_default_context(cafile=ca)
    if certificate:
        context.load_cert_chain(cert, key)
    return Connection(host, context=context)

def status(host, path, certificate, headers={}):
    connection = connect(host, certificate)
    connection.request("GET", path, headers=headers)
    return connection.getresponse().status

words = [
    status("api.example.com", "/a", True),
    status("optional.example.com", "/public", False),
    status("optional.example.com", "/private", False),
    status("optional.example.com", "/public", False, {"Host": "api.example.com"}),
]
try:
    words.append(status("api.example.com", "/a", False))
except (ssl.SSLError, ConnectionError):
    words.append("refused")

connection = connect("api.example.com", True)
body = bytes(range(256)) * 4096
for chunked in (False, True):
    connection.request("POST", "/upload", body=iter([body]) if chunked else body, encode_chunked=chunked)
    echo = json.loads(connection.getresponse().read())
    assert echo["body_sha256"] == hashlib.sha256(body).hexdigest(), echo
words.append("upload-ok")
first = connection.sock
for path in ("/x", "/big-chunked/100000", "/status/204", "/trailers"):
    connection.request("GET", path)
    connection.getresponse().read()
words.append("keep-alive-ok" if connection.sock is first else "reconnected")
print(*words)
"#;
    run_script(program("python3", "python3"), script);
}

#[test]
fn python_requests_is_served() {
    let script = r#"
import hashlib, socket, sys
import requests

port, ca, cert, key = int(sys.argv[1]), *sys.argv[2:5]
resolve = socket.getaddrinfo
socket.getaddrinfo = lambda host, *rest, **more: resolve("127.0.0.1", *rest, **more)

def session(certificate):
    session = requests.Session()
    session.trust_env = False
    session.verify = ca
    session.cert = (cert, key) if certificate else None
    return session

url = lambda host, path: f"https://{host}:{port}{path}"
partner, anonymous = session(True), session(False)
words = [
    partner.get(url("api.example.com", "/a"), timeout=20).status_code,
    anonymous.get(url("optional.example.com", "/public"), timeout=20).status_code,
    anonymous.get(url("optional.example.com", "/private"), timeout=20).status_code,
    anonymous.get(url("optional.example.com", "/public"), headers={"Host": "api.example.com"}, timeout=20).status_code,
]
try:
    words.append(anonymous.get(url("api.example.com", "/a"), timeout=20).status_code)
except requests.exceptions.ConnectionError:
    words.append("refused")
body = bytes(range(256)) * 4096
for data in (body, iter([body])):
    echo = partner.post(url("api.example.com", "/upload"), data=data, timeout=20).json()
    assert echo["body_sha256"] == hashlib.sha256(body).hexdigest(), echo
words.append("upload-ok")
for path in ("/x", "/big-chunked/100000", "/status/204", "/trailers"):
    partner.get(url("api.example.com", path), timeout=20)
pools = partner.get_adapter("https://").poolmanager.pools
pool = pools[list(pools.keys())[0]]
words.append("keep-alive-ok" if pool.num_connections == 1 else f"{pool.num_connections} connections")
print(*words)
"#;
    run_script(python(), script);
}

#[test]
fn node_is_served_by_its_https_module() {
    let script = r#"
const fs = require('fs'), https = require('https'), crypto = require('crypto');
const [port, ca, cert, key] = process.argv.slice(2);
const agents = {
  true: new https.Agent({ keepAlive: true, maxSockets: 1, ca: fs.readFileSync(ca), cert: fs.readFileSync(cert), key: fs.readFileSync(key) }),
  false: new https.Agent({ ca: fs.readFileSync(ca) }),
};
const ask = (host, path, certificate, { method = 'GET', headers = {}, body, chunked } = {}) => new Promise((resolve, reject) => {
  const request = https.request({ host: '127.0.0.1', port, servername: host, path, method, agent: agents[certificate],
    headers: { Host: host, ...(body && !chunked ? { 'Content-Length': body.length } : {}), ...headers } }, response => {
    const parts = [];
    response.on('data', part => parts.push(part));
    response.on('end', () => resolve({ status: response.statusCode, text: Buffer.concat(parts).toString(), reused: request.reusedSocket }));
    response.on('error', reject);
  });
  request.on('error', reject);
  request.end(body);
});
(async () => {
  const words = [
    (await ask('api.example.com', '/a', true)).status,
    (await ask('optional.example.com', '/public', false)).status,
    (await ask('optional.example.com', '/private', false)).status,
    (await ask('optional.example.com', '/public', false, { headers: { Host: 'api.example.com' } })).status,
    await ask('api.example.com', '/a', false).then(response => response.status, () => 'refused'),
  ];
  const body = Buffer.alloc(1 << 20, 'ringward');
  for (const chunked of [false, true]) {
    const echo = JSON.parse((await ask('api.example.com', '/upload', true, { method: 'POST', body, chunked })).text);
    if (echo.body_sha256 !== crypto.createHash('sha256').update(body).digest('hex')) throw new Error(JSON.stringify(echo));
  }
  words.push('upload-ok');
  let reused = true;
  for (const path of ['/x', '/big-chunked/100000', '/status/204', '/trailers']) {
    reused = (await ask('api.example.com', path, true)).reused && reused;
  }
  words.push(reused ? 'keep-alive-ok' : 'reconnected');
  console.log(words.join(' '));
  agents[true].destroy();
})().catch(error => { console.error(error); process.exit(1); });
"#;
    run_script(node(), script);
}

/// Runs a scripted client, which gets port, CA, certificate and key, and prints one word per step.
#[track_caller]
fn run_script(mut interpreter: Command, script: &str) {
    let setting = Setting::new();
    let script = setting.gateway.pki.write("client/script", script);
    setting.expect_words(
        interpreter.arg(script).args(setting.arguments()),
        "200 200 403 421 refused upload-ok keep-alive-ok",
    );
}
