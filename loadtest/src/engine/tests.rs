use std::collections::HashSet;

use tokio::net::TcpSocket;

use crate::failure::FailureKind::*;
use crate::testing::World;

#[tokio::test(flavor = "local")]
async fn keepalive_makes_exactly_the_requests_on_its_connections() {
    let world = World::start().await;
    for path in ["/bytes/100", "/chunked/100"] {
        let report =
            world.run(&format!("--requests 103 --connections 4 --path {path} --expect-bytes 100")).await;
        assert!(report.is_right(), "{}", report.to_text());
        assert_eq!((report.right(), report.connections_opened(), report.bytes()), (103, 4, (10_300, 0)));
    }
    assert_eq!(world.accepted.get(), 8);
}

#[tokio::test(flavor = "local")]
async fn as_many_paths_as_asked_for_are_asked_for_once() {
    for (percent, fresh) in [(100, 50), (50, 25), (10, 5), (3, 1)] {
        let world = World::start().await;
        let arguments =
            format!("--requests 50 --connections 3 --path /bytes/1?page=2 --fresh-paths {percent}");
        let report = world.run(&arguments).await;
        assert!(report.is_right(), "{}", report.to_text());
        let paths = world.paths.borrow();
        let (usual, own): (Vec<_>, Vec<_>) = paths.iter().partition(|path| *path == "/bytes/1?page=2");
        assert_eq!((usual.len(), own.len()), (50 - fresh, fresh), "{percent}");
        assert!(own.iter().all(|path| path.starts_with("/bytes/1/") && path.ends_with("?page=2")), "{own:?}");
        assert_eq!(own.iter().collect::<HashSet<_>>().len(), fresh, "{own:?}");
    }
}

#[tokio::test(flavor = "local")]
async fn a_run_ends_by_time_too() {
    let world = World::start().await;
    let report = world.run("--duration 0.05 --connections 2 --path /bytes/1").await;
    assert!(report.is_right() && report.right() >= 2, "{}", report.to_text());
}

#[tokio::test(flavor = "local")]
async fn handshake_opens_a_connection_for_each_request() {
    let world = World::start().await;
    let report = world.run("--mode handshake --requests 9 --connections 2 --path /bytes/1").await;
    assert!(report.is_right(), "{}", report.to_text());
    assert_eq!((report.right(), report.connections_opened(), world.accepted.get()), (9, 9, 9));
}

#[tokio::test(flavor = "local")]
async fn clients_resume_from_their_second_connection_on_if_they_are_to() {
    let world = World::start().await;
    let handshakes = "--mode handshake --requests 9 --connections 2 --path /bytes/1";
    let report = world.run(&format!("{handshakes} --resume")).await;
    assert!(report.is_right(), "{}", report.to_text());
    assert_eq!((report.right(), report.connections_opened(), report.connections_resumed()), (9, 9, Some(7)));
    assert!(report.to_text().contains("7 of them, 77.8 %"), "{}", report.to_text());
    // The same target, which would let them.
    assert_eq!(world.resumed.get(), 7);
    let report = world.run(handshakes).await;
    assert_eq!((report.connections_opened(), report.connections_resumed()), (9, None));
    assert_eq!(world.resumed.get(), 7, "full handshakes only");
}

#[tokio::test(flavor = "local")]
async fn http_2_makes_exactly_the_requests_on_its_connections() {
    let world = World::start().await;
    for (mode, opened) in [
        (
            "--mode keepalive --requests 103 --connections 3 --streams 5 --path /bytes/100 --expect-bytes 100",
            3,
        ),
        ("--mode handshake --requests 9 --connections 2 --path /bytes/1", 9),
        ("--mode idle --connections 20 --hold 0.01 --path /bytes/1", 20),
        (
            "--mode download --requests 3 --connections 2 --streams 2 --path /bytes/300000 --expect-bytes 300000",
            2,
        ),
        ("--mode upload --requests 5 --connections 1 --streams 3 --path /upload --body-bytes 300000", 1),
    ] {
        let before = world.accepted.get();
        let report = world.run(&format!("--http2 {mode}")).await;
        assert!(report.is_right() && report.to_text().contains(" h2\n"), "{mode}: {}", report.to_text());
        assert_eq!((report.connections_opened(), world.accepted.get() - before), (opened, opened), "{mode}");
    }
    let report = world.run("--http2 --requests 50 --streams 4 --path /bytes/1?page=2 --fresh-paths 50").await;
    assert!(report.is_right(), "{}", report.to_text());
    assert_eq!(world.paths.borrow().iter().filter(|path| path.ends_with("?page=2")).count(), 50);
    assert_eq!(world.paths.borrow().iter().filter(|path| *path == "/bytes/1?page=2").count(), 25);
}

/// What is slow on one stream holds up no other.
#[tokio::test(flavor = "local")]
async fn streams_of_http_2_run_at_the_same_time() {
    let world = World::start().await;
    let report = world.run("--http2 --requests 40 --connections 1 --streams 40 --path /slow/200").await;
    assert!(report.is_right(), "{}", report.to_text());
    assert!(report.seconds() < 40.0 * 0.2, "one after the other takes eight seconds");
    assert_eq!(report.connections_opened(), 1);
}

#[tokio::test(flavor = "local")]
async fn every_wrong_answer_over_http_2_is_a_failure_of_its_kind() {
    let world = World::start().await;
    for (arguments, kind, words) in [
        ("--path /status/403", Status, "403 where 200 was expected"),
        ("--path /bytes/5 --expect-bytes 6", Length, "5 bytes where 6 were expected"),
        ("--path /lies", Truncated, "internal error"),
        ("--path /silent --timeout 0.1", Timeout, "the exchange took more than 100ms"),
    ] {
        let report = world.run(&format!("--http2 --requests 2 --connections 1 {arguments}")).await;
        assert!(!report.is_right(), "{arguments}");
        assert_eq!(report.failures(), [(kind, 2)], "{arguments}");
        assert!(report.first(kind).contains(words), "{arguments}: {}", report.first(kind));
    }
    // A connection that ends after each answer is opened anew, and that is told.
    let report = world.run("--http2 --requests 5 --connections 1 --path /once").await;
    assert!(report.right() == 5 && report.connections_opened() == 5, "{}", report.to_text());
    let old = World::start_with(|config| config.alpn_protocols.clear()).await;
    let report = old.run("--http2 --requests 1 --connections 1 --path /bytes/1").await;
    assert!(report.first(Malformed).contains("does not agree to HTTP/2"), "{}", report.to_text());
}

#[tokio::test(flavor = "local")]
async fn what_is_offered_is_agreed_on() {
    let world = World::start().await;
    for (offer, agreed) in [
        ("--tls-version 1.2", "TLSv1_2"),
        ("--tls-version 1.3 --tls-group secp256r1", "secp256r1"),
        ("--tls-group x25519mlkem768,X25519", "TLSv1_3 TLS13_AES_256_GCM_SHA384 X25519MLKEM768"),
        (
            "--tls-suite TLS_CHACHA20_POLY1305_SHA256 --tls-group X25519",
            "TLS13_CHACHA20_POLY1305_SHA256 X25519",
        ),
        (
            "--tls-suite TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            "TLSv1_2 TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        ),
    ] {
        let report = world.run(&format!("--requests 2 --connections 1 --path /bytes/1 {offer}")).await;
        assert!(report.is_right() && report.to_text().contains(agreed), "{offer}: {}", report.to_text());
    }
    for (offer, wanted) in [
        ("--tls-suite TLS_NULL", "--tls-suite TLS_NULL: not one of TLS_AES_256_GCM_SHA384, "),
        ("--tls-group P-256", "--tls-group P-256: not one of X25519"),
        ("--tls-version 1.2 --tls-suite TLS_AES_128_GCM_SHA256", "TLS cannot be set up"),
    ] {
        let error = world.refusal(&format!("--requests 1 {offer}")).to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

#[tokio::test(flavor = "local")]
async fn what_a_target_does_not_resume_is_told() {
    let world = World::start_without_resumption().await;
    let report = world.run("--mode handshake --resume --requests 4 --connections 1 --path /bytes/1").await;
    assert!(report.is_right(), "{}", report.to_text());
    assert_eq!((report.connections_opened(), report.connections_resumed()), (4, Some(0)));
}

#[tokio::test(flavor = "local")]
async fn an_open_loop_sends_what_is_due() {
    let world = World::start().await;
    for mode in ["--mode keepalive", "--mode handshake"] {
        let report =
            world.run(&format!("{mode} --rate 100:0.1,200:0.1 --connections 8 --path /bytes/1")).await;
        assert!(report.is_right(), "{}", report.to_text());
        assert_eq!((report.right(), report.due()), (30, Some(30)), "{mode}");
        assert!(report.to_text().contains("30   at 100:0.1,200:0.1 per second"), "{}", report.to_text());
    }
    let report = world.run("--rate 1000 --requests 7 --connections 2 --path /bytes/1").await;
    assert_eq!((report.right(), report.due()), (7, Some(7)));
    let report = world.run("--rate 100 --duration 0.1 --connections 2 --path /bytes/1").await;
    assert_eq!((report.right(), report.due()), (10, Some(10)));
}

/// A closed loop sends less when the target is slow, and each of its requests is answered soon. Clients do not wait for one another.
#[tokio::test(flavor = "local")]
async fn an_open_loop_shows_the_queue_that_a_closed_one_hides() {
    let world = World::start().await;
    // Twice what one connection can carry.
    let report = world.run("--rate 100:0.5 --connections 1 --path /slow/20").await;
    assert!(report.is_right(), "{}", report.to_text());
    assert_eq!(report.right(), 50);
    let [exchange, due] = report.medians_and_longest();
    assert!(due.1 > 10.0 * exchange.0, "{exchange:?} {due:?}");
    assert!(
        due.1 >= 450_000.0,
        "the last one is due after half a second, and the 49 before it take one: {due:?}"
    );
    assert!(due.0 > exchange.0, "{exchange:?} {due:?}");
}

#[tokio::test(flavor = "local")]
async fn what_is_due_and_never_sent_is_told() {
    let world = World::start().await;
    let report = world.run("--rate 100:0.3 --connections 1 --path /slow/200 --timeout 0.4").await;
    assert!(!report.is_right());
    let [(Unsent, unsent)] = report.failures()[..] else { panic!("{}", report.to_text()) };
    assert_eq!(report.right() + unsent, 30, "each has an outcome");
    assert!(report.first(Unsent).contains("no connection was free"), "{}", report.first(Unsent));
}

/// The target is this process here.
#[tokio::test(flavor = "local")]
async fn what_the_target_uses_is_told() {
    let world = World::start().await;
    let own = std::process::id();
    let report = world.run(&format!("--requests 300 --path /bytes/1000 --server-pid {own}")).await;
    let server = report.server().unwrap();
    assert!(server.cpu_seconds > 0.0, "{server:?}");
    assert_eq!(server.cpu_us_per_right, Some(server.cpu_seconds * 1e6 / 300.0));
    assert!(server.memory_max >= server.memory_begin.max(server.memory_end), "{server:?}");
    assert!(report.to_text().contains("of CPU time") && report.to_text().contains("MiB at the most"));
    assert_eq!(world.run("--requests 1 --path /bytes/1").await.server(), None);
}

#[tokio::test(flavor = "local")]
async fn idle_connections_answer_again() {
    let world = World::start().await;
    let report = world.run("--mode idle --connections 100 --hold 0.01 --path /bytes/1").await;
    assert!(report.is_right(), "{}", report.to_text());
    let idle = report.idle().unwrap();
    assert_eq!((idle.held, idle.answered_again, report.right(), world.accepted.get()), (100, 100, 200, 100));
}

#[tokio::test(flavor = "local")]
async fn idle_connections_that_were_closed_are_told() {
    let world = World::start().await;
    let report = world.run("--mode idle --connections 3 --hold 0.01 --path /once").await;
    assert!(!report.is_right());
    let idle = report.idle().unwrap();
    assert_eq!((idle.held, idle.answered_again), (3, 0));
    assert_eq!(report.failures(), [(Closed, 3)]);
}

#[tokio::test(flavor = "local")]
async fn bodies_go_up_and_down_whole() {
    let world = World::start().await;
    let size = 300_000;
    let report = world
        .run(&format!("--mode upload --requests 3 --body-bytes {size} --path /upload --connections 2"))
        .await;
    assert!(report.is_right(), "{}", report.to_text());
    // It answers with as many bytes as it got.
    assert_eq!(report.bytes(), (3 * size, 3 * size));
    let report =
        world.run(&format!("--mode download --requests 3 --path /bytes/{size} --expect-bytes {size}")).await;
    assert!(report.is_right(), "{}", report.to_text());
    assert_eq!(report.bytes(), (3 * size, 0));
}

#[tokio::test(flavor = "local")]
async fn every_wrong_answer_is_a_failure_of_its_kind() {
    let world = World::start().await;
    for (arguments, kind, words) in [
        ("--path /status/403", Status, "403 where 200 was expected"),
        ("--path /bytes/1 --expect-status 403", Status, "200 where 403 was expected"),
        ("--path /bytes/5 --expect-bytes 6", Length, "5 bytes where 6 were expected"),
        ("--path /lies/5", Truncated, "closed after 5 bytes"),
        ("--path /junk", Malformed, "head"),
        ("--path /silent --timeout 0.1", Timeout, "the exchange took more than 100ms"),
    ] {
        let report = world.run(&format!("--requests 2 --connections 1 {arguments}")).await;
        assert!(!report.is_right(), "{arguments}");
        assert_eq!(report.failures(), [(kind, 2)], "{arguments}");
        assert!(report.first(kind).contains(words), "{arguments}: {}", report.first(kind));
    }
}

#[tokio::test(flavor = "local")]
async fn an_expected_refusal_is_right() {
    let world = World::start().await;
    let report = world.run("--requests 5 --path /status/403 --expect-status 403").await;
    assert!(report.is_right(), "{}", report.to_text());
    assert_eq!(report.statuses()[&403], 5);
}

#[tokio::test(flavor = "local")]
async fn bodies_have_the_length_of_the_first_unless_told_otherwise() {
    let world = World::start().await;
    let report = world.run("--requests 3 --connections 1 --path /growing").await;
    assert_eq!((report.right(), report.failures()), (1, vec![(Length, 2)]));
    let report = world.run("--requests 3 --connections 1 --path /growing --expect-bytes any").await;
    assert!(report.is_right(), "{}", report.to_text());
}

#[tokio::test(flavor = "local")]
async fn a_connection_that_was_closed_while_idle_is_replaced() {
    let world = World::start().await;
    let report = world.run("--requests 5 --connections 1 --path /once").await;
    assert!(report.is_right(), "{}", report.to_text());
    assert_eq!((report.stale_connections(), report.connections_opened()), (4, 5));
}

#[tokio::test(flavor = "local")]
async fn clients_without_trust_get_nothing() {
    let world = World::start().await;
    let stranger = |name: &str| world.pki.path().join(name).display().to_string();
    let (cert, key) = (stranger("stranger.pem"), stranger("stranger.key"));
    let report =
        world.run(&format!("--requests 2 --connections 1 --path /bytes/1 --cert {cert} --key {key}")).await;
    assert_eq!(report.right(), 0);
    assert!(report.failures().iter().all(|(kind, _)| *kind == Tls), "{}", report.to_text());
}

#[tokio::test(flavor = "local")]
async fn a_target_that_is_not_there_is_a_failure_for_each_request() {
    let world = World::start().await;
    // Bound, so that nobody else gets the port, and not listening.
    let silent = TcpSocket::new_v4().unwrap();
    silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let gone = silent.local_addr().unwrap();
    let report = world.run(&format!("--requests 3 --connections 1 --path /bytes/1 --target {gone}")).await;
    // One for the connection that was to be there at the beginning.
    assert_eq!(report.failures(), [(Connect, 4)]);
    assert!(!report.is_right());
}

#[tokio::test(flavor = "local")]
async fn the_report_says_the_same_as_json() {
    let world = World::start().await;
    let report = world.run("--requests 10 --path /bytes/7").await;
    let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
    assert_eq!(json["right"], 10);
    assert_eq!(json["received_bytes"], 70);
    assert_eq!(json["statuses"]["200"], 10);
    let p50 = |phase: &str| json[phase]["p50"].as_f64().unwrap();
    assert!(p50("connect_us") < p50("handshake_us"), "TLS comes on top: {json}");
    assert!(0.0 < p50("first_byte_us") && p50("first_byte_us") <= p50("exchange_us"), "{json}");
    assert!(json["tls"].as_str().unwrap().contains("TLSv1_3"));
    let text = report.to_text();
    assert!(text.contains("right") && text.contains("exchange") && text.contains("TLSv1_3"), "{text}");
}

#[tokio::test(flavor = "local")]
async fn a_target_that_had_the_request_is_not_asked_again() {
    let world = World::start().await;
    let report = world.run("--requests 3 --connections 1 --path /works/300").await;
    assert_eq!((report.right(), report.stale_connections()), (0, 0), "{}", report.to_text());
    assert_eq!(report.failures(), [(Closed, 3)]);
    assert_eq!(world.paths.borrow().len(), 3);
}

#[tokio::test(flavor = "local")]
async fn a_request_that_took_too_long_has_waited_since_it_was_due() {
    let world = World::start().await;
    let report = world.run("--requests 4 --rate 20 --connections 4 --path /silent --timeout 0.3").await;
    assert_eq!(report.failures(), [(Timeout, 4)]);
    assert!(report.due_us.is_some_and(|times| times.p50 >= 299_000.0), "{}", report.to_text());
}
