use crate::plan::Plan;
use crate::testing::{HOST, World, parse};

fn plan_error(arguments: &str) -> String {
    let arguments =
        parse(&format!("--server-name {HOST} --ca missing.pem --requests 1 {arguments}")).unwrap();
    Plan::new(&arguments).err().unwrap().to_string()
}

#[test]
fn remote_targets_need_leave() {
    for target in ["192.0.2.1:443", "[2001:db8::1]:443", "[::ffff:192.0.2.1]:443", "0.0.0.0:443"] {
        let error = plan_error(&format!("--target {target}"));
        assert!(error.contains("not on this machine"), "{error}");
        // The next thing that is wrong.
        let error = plan_error(&format!("--target {target} --allow-remote"));
        assert!(error.contains("missing.pem"), "{error}");
    }
    for target in ["127.0.0.1:443", "127.9.9.9:443", "[::1]:443", "[::ffff:127.0.0.1]:443", "localhost:443"] {
        let error = plan_error(&format!("--target {target}"));
        assert!(error.contains("missing.pem"), "{target}: {error}");
    }
    assert!(plan_error("--target 127.0.0.1").contains("--target 127.0.0.1: "));
}

#[tokio::test(flavor = "local")]
async fn arguments_fit_the_mode() {
    let world = World::start().await;
    for (arguments, wanted) in [
        ("", "keepalive needs --requests or --duration"),
        ("--mode handshake", "handshake needs --requests or --duration"),
        ("--requests 1 --hold 1", "keepalive has no use for --hold"),
        ("--requests 1 --body-bytes 1", "keepalive has no use for --body-bytes"),
        ("--requests 1 --resume", "keepalive has no use for --resume"),
        ("--mode idle --fresh-paths 1", "idle has no use for --fresh-paths"),
        ("--mode idle --resume", "idle has no use for --resume"),
        ("--mode idle --requests 1", "idle has no use for --requests"),
        ("--mode idle --duration 1", "idle has no use for --duration"),
        ("--requests 1 --streams 2", "no use for --streams"),
        ("--mode handshake --http2 --requests 1 --streams 2", "no use for --streams"),
        ("--mode idle --rate 10", "idle has no use for --rate"),
        ("--rate 10", "keepalive needs --requests or --duration"),
        ("--rate 10:1 --duration 1", "say how long each of them lasts"),
        ("--mode upload --requests 1", "upload needs --body-bytes"),
        ("--mode download --requests 1", "download needs --expect-bytes"),
        ("--mode download --requests 1 --expect-bytes any", "download needs --expect-bytes"),
        ("--mode grpc --requests 1", "grpc needs --grpc"),
        ("--mode grpc --grpc unary --requests 1", "grpc needs --body-bytes"),
        ("--mode grpc --grpc server-stream --body-bytes 3 --requests 1", "needs --body-bytes of at least 4"),
        ("--mode websocket --body-bytes 67108865 --requests 1", "needs --body-bytes of up to 64 MiB"),
        ("--mode websocket --http2 --body-bytes 1 --resume --requests 1", "no use for --resume"),
        ("--messages 2 --requests 1", "no use for --messages"),
        ("--requests 1 --server-pid 4194304", "--server-pid 4194304: there is no such process"),
        ("--requests 1 --path x", "--path \"x\" must begin with `/`"),
        ("--requests 1 --path /a\rb", "--path \"/a"),
        ("--requests 1 --server-name a..b", "a..b is no host name"),
    ] {
        let arguments = arguments.replace('\r', "\u{7f}");
        let error = world.refusal(&arguments).to_string();
        assert!(error.contains(wanted), "{arguments}: {error}");
    }
}

#[test]
fn numbers_are_bounded() {
    let usual = format!("--target 127.0.0.1:1 --server-name {HOST} --ca x");
    for (argument, good, bad) in [
        ("--connections", ["1", "60000"], ["0", "60001"]),
        ("--requests", ["1", "1000000000"], ["0", "1000000001"]),
        ("--duration", ["0.01", "3600"], ["0.009", "3600.1"]),
        ("--timeout", ["0.01", "3600"], ["-1", "inf"]),
        ("--fresh-paths", ["1", "100"], ["0", "101"]),
        ("--hold", ["0.01", "3600"], ["0", "NaN"]),
        ("--body-bytes", ["1", "17179869184"], ["0", "17179869185"]),
        ("--expect-status", ["200", "599"], ["199", "600"]),
        ("--expect-bytes", ["0", "any"], ["-1", "all"]),
    ] {
        for value in good {
            assert!(parse(&format!("{usual} {argument} {value}")).is_ok(), "{argument} {value}");
        }
        for value in bad {
            assert!(parse(&format!("{usual} {argument}={value}")).is_err(), "{argument} {value}");
        }
    }
    assert!(parse(&format!("{usual} --cert x")).is_err(), "a certificate needs its key");
}
