use crate::failure::FailureKind::{self, GrpcStatus, Length, Malformed, Status};
use crate::testing::World;

async fn upstream() -> World {
    let world = World::start().await;
    world.as_upstream.set(true);
    world
}

#[tokio::test(flavor = "local")]
async fn calls_are_made_and_judged() {
    let world = upstream().await;
    for (arguments, opened, received, sent) in [
        ("--path /s/Unary --body-bytes 100 --requests 50 --streams 4 --connections 2", 2, 5000, 5000),
        (
            "--grpc server-stream --path /s/ServerStream --messages 20 --body-bytes 4 --requests 5 --connections 1",
            1,
            400,
            20,
        ),
        (
            "--grpc client-stream --path /s/ClientStream --messages 20 --body-bytes 9 --requests 5 --connections 1",
            1,
            45,
            900,
        ),
        ("--grpc bidi --path /s/Bidi --messages 20 --body-bytes 9 --requests 5 --connections 1", 1, 900, 900),
        (
            "--grpc bidi --path /s/Bidi --messages 3 --body-bytes 300000 --requests 2 --connections 1",
            1,
            1_800_000,
            1_800_000,
        ),
        // What messages are made of, taken as a number.
        (
            "--path /s/Fail --body-bytes 4 --expect-grpc-status 2021161080 --requests 3 --connections 1",
            1,
            0,
            12,
        ),
    ] {
        let report = world.run(&format!("--mode grpc --http2 --grpc unary {arguments}")).await;
        assert!(report.is_right(), "{arguments}: {}", report.to_text());
        assert_eq!((report.connections_opened(), report.bytes()), (opened, (received, sent)), "{arguments}");
    }
    assert_failures(
        &world,
        &[
            ("--mode grpc --http2 --grpc unary --path /s/Other --body-bytes 4", GrpcStatus, "grpc-status 12 where 0 was expected"),
            (
                "--mode grpc --http2 --grpc unary --path /s/Bidi --grpc bidi --body-bytes 4 --expect-grpc-status 5",
                GrpcStatus,
                "grpc-status 0 where 5",
            ),
            // One message is answered with one.
            (
                "--mode grpc --http2 --grpc unary --path /s/Unary --grpc server-stream --messages 3 --body-bytes 4",
                Length,
                "1 messages where 3 were",
            ),
            (
                "--mode grpc --http2 --grpc unary --path /s/Bidi --grpc client-stream --messages 3 --body-bytes 4",
                Length,
                "3 messages where 1 were",
            ),
            (
                "--mode grpc --http2 --grpc unary --path /s/Unary --body-bytes 4 --expect-bytes 5",
                Length,
                "a body of 4 bytes where 5",
            ),
        ],
    )
    .await;
    // This one speaks HTTP/2, and no gRPC.
    world.as_upstream.set(false);
    assert_failures(
        &world,
        &[
            (
                "--mode grpc --http2 --grpc unary --path /status/403 --body-bytes 4",
                Status,
                "403 where 200 was expected",
            ),
            (
                "--mode grpc --http2 --grpc unary --path /bytes/4 --body-bytes 4",
                FailureKind::Grpc,
                "content-type",
            ),
            (
                "--mode grpc --http2 --grpc unary --path /silent --body-bytes 4 --timeout 0.1",
                FailureKind::Timeout,
                "the exchange took",
            ),
        ],
    )
    .await;
    let report =
        world.run("--mode grpc --http2 --grpc unary --path /status/403 --body-bytes 4 --expect-status 403 --requests 2").await;
    assert!(report.is_right(), "{}", report.to_text());
}

#[tokio::test(flavor = "local")]
async fn websockets_are_had_and_judged() {
    let world = upstream().await;
    for (arguments, status, opened) in [
        ("--messages 5 --body-bytes 100 --requests 9 --connections 2", 101, 9),
        ("--messages 1 --body-bytes 300000 --requests 3 --connections 1", 101, 3),
        ("--messages 5 --body-bytes 100 --requests 9 --connections 2 --http2 --streams 2", 200, 2),
        ("--messages 1 --body-bytes 300000 --requests 3 --connections 1 --http2", 200, 1),
    ] {
        let report = world.run(&format!("--mode websocket --path /chat {arguments}")).await;
        assert!(report.is_right(), "{arguments}: {}", report.to_text());
        assert_eq!(report.connections_opened(), opened, "{arguments}");
        assert_eq!(report.statuses().keys().copied().collect::<Vec<_>>(), [status], "{arguments}");
        assert!(report.to_text().contains("round trip "), "{}", report.to_text());
        let (received, sent) = report.bytes();
        assert!(received == sent && received >= 4500, "{arguments}: {received} and {sent}");
    }
    world.as_upstream.set(false);
    assert_failures(
        &world,
        &[
            (
                "--mode websocket --path /status/403 --messages 1 --body-bytes 4",
                Status,
                "403 where 101 was expected",
            ),
            (
                "--mode websocket --path /bytes/3 --messages 1 --body-bytes 4 --http2",
                Malformed,
                "offers no WebSockets",
            ),
            (
                "--mode websocket --path /silent --messages 1 --body-bytes 4 --timeout 0.1",
                FailureKind::Timeout,
                "the exchange took",
            ),
        ],
    )
    .await;
    // What must be refused is, and the connection is left in time.
    let refused =
        "--mode websocket --path /status/403 --messages 1 --body-bytes 4 --requests 3 --expect-status 403";
    let report = world.run(refused).await;
    assert!(report.is_right() && report.seconds() < 15.0, "{}", report.to_text());
}

async fn assert_failures(world: &World, cases: &[(&str, FailureKind, &str)]) {
    for (arguments, kind, words) in cases {
        let report = world.run(&format!("{arguments} --requests 2 --connections 1")).await;
        assert!(!report.is_right(), "{arguments}");
        assert_eq!(report.failures(), [(*kind, 2)], "{arguments}: {}", report.to_text());
        assert!(report.first(*kind).contains(words), "{arguments}: {}", report.first(*kind));
    }
}
