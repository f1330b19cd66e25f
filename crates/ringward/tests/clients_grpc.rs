//! gRPC that we did not write, on both sides: Python's grpcio.

mod support;

use ringward_testkit::Process;

use self::support::{Builder, Gateway, Host, Setting, python, said, script, start_server};

/// What the client says, step by step.
const WORDS: [&str; 10] = [
    "certificate",
    "streams-ok",
    "errors-ok",
    "deadline-ok",
    "cancellation-ok",
    "large-ok",
    "concurrent-ok",
    "keepalive-ok",
    "PERMISSION_DENIED not for you",
    "UNAVAILABLE",
];

/// A gateway in front of a gRPC server.
fn setting(builder: Builder) -> (Setting, Process) {
    let (server, address) = start_server(python().arg(script("grpc_server.py")));
    let cluster = format!("[cluster.grpc]\nendpoints = [\"{address}\"]\nprotocol = \"http2\"");
    let builder = builder.listener("http2 = true").section(&cluster);
    let route = |host: Host| host.route("path = \"/{rest...}\"", "cluster = \"grpc\"");
    (Setting::routed(builder, route), server)
}

#[test]
fn python_grpcio_is_served() {
    let (setting, _server) = setting(Gateway::builder());
    let said = said(python().arg(script("grpc_client.py")).args(setting.arguments()));
    assert_eq!(said.lines().collect::<Vec<_>>(), WORDS);
    let record = setting.gateway.wait_for_record("path", "/ringward.test.Echo/Fail");
    assert_eq!((&record["status"], &record["grpc_status"]), (&200.into(), &"failed_precondition".into()));
    // Calls that are given up, by deadline or otherwise, end no connection.
    let opened = setting.gateway.metric("ringward_upstream_connections_opened_total", &[("cluster", "grpc")]);
    assert_eq!(opened, 1.0);
}

#[test]
fn revocation_cuts_streams_of_its_client_only() {
    // The default of the grace is longer than a test waits.
    let (setting, _server) = setting(Gateway::builder().stateful().server("trust_grace = \"500ms\""));
    let client = || {
        let mut client = python();
        client.arg(script("grpc_held.py"));
        client
    };
    setting.expect_revocation_cuts(client, &[], "cut UNAVAILABLE UNAVAILABLE");
}
