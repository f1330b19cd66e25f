//! WebSockets that we did not write, on both sides: clients are Node's ws and Python's websockets, and either is the server, too:
//! websockets over HTTP/1.1, and ws over HTTP/2, on Node's http2.

mod support;

use std::process::Command;

use ringward_testkit::{DEADLINE, Process, eventually};

use self::support::{Builder, Gateway, Setting, node, python, script, start_server};

/// What each client says.
const WORDS: &str =
    "certificate this, echo-ok, fragments-ok, pong, 4001 enough of it, 4002, concurrent-ok, 403, refused";

/// A gateway in front of a WebSocket server.
fn setting(builder: Builder) -> (Setting, Process) {
    before(builder, python().arg(script("websocket_server.py")), "http1")
}

/// A gateway in front of this WebSocket server.
fn before(builder: Builder, server: &mut Command, protocol: &str) -> (Setting, Process) {
    let (server, address) = start_server(server);
    let builder = builder
        .section(&format!("[cluster.websocket]\nendpoints = [\"{address}\"]\nprotocol = \"{protocol}\""));
    let lines = "cluster = \"websocket\"\nupgrade = [\"websocket\"]";
    (Setting::routed(builder, |host| host.route("path = \"/ws/{rest...}\"", lines)), server)
}

#[track_caller]
fn assert_served(client: &mut Command, further: &[&str], builder: Builder) {
    assert_carried(client, further, setting(builder));
}

#[track_caller]
fn assert_carried(client: &mut Command, further: &[&str], (setting, server): (Setting, Process)) {
    setting.expect_words(client.args(setting.arguments()).args(further), WORDS);
    // Codes and reasons have reached the server as well.
    for line in ["/ws/close 4001 enough of it", "/ws/echo 4002 had enough"] {
        server.wait_for_line(DEADLINE, |seen| seen == line);
    }
    setting.gateway.wait_for_no_connections();
}

#[test]
fn python_websockets_is_served() {
    assert_served(python().arg(script("websocket.py")), &[], Gateway::builder());
}

#[test]
fn node_ws_is_served() {
    assert_served(node().arg(script("websocket.js")), &[], Gateway::builder());
}

#[test]
fn node_ws_is_served_over_one_connection_of_http_2() {
    assert_served(node().arg(script("websocket.js")), &["h2"], Gateway::builder().listener("http2 = true"));
}

#[test]
fn where_http_2_is_offered_too_they_choose_what_they_can() {
    assert_served(python().arg(script("websocket.py")), &[], Gateway::builder().listener("http2 = true"));
}

/// RFC 8441 on the upstream's side, from clients of either protocol.
#[test]
fn nodes_http_2_is_an_upstream_for_all_of_them() {
    type Client<'a> = (fn() -> Command, &'a str, &'a [&'a str]);
    let clients: [Client<'_>; 3] =
        [(python, "websocket.py", &[]), (node, "websocket.js", &[]), (node, "websocket.js", &["h2"])];
    for (program, client, further) in clients {
        let builder = Gateway::builder().listener("http2 = true");
        let setting = before(builder, node().arg(script("websocket_server.js")), "http2");
        assert_carried(program().arg(script(client)), further, setting);
    }
}

#[test]
fn revocation_cuts_websockets_of_its_client_only() {
    assert_cut(&[]);
}

#[test]
fn revocation_cuts_websockets_over_http_2() {
    assert_cut(&["h2"]);
}

#[track_caller]
fn assert_cut(further: &[&str]) {
    // The default of the grace is longer than a test waits.
    let builder = Gateway::builder().stateful().server("trust_grace = \"500ms\"");
    let (setting, server) = setting(builder.listener("http2 = true"));
    let client = || {
        let mut client = node();
        client.arg(script("websocket_held.js"));
        client
    };
    setting.expect_revocation_cuts(client, further, "cut 1006 1006");
    let cut = || server.stdout().lines().filter(|line| line.trim_end() == "/ws/echo 1006").count();
    eventually(DEADLINE, "the server learns of both ends", || cut() == 2);
}
