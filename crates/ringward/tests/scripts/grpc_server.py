"""A gRPC server in cleartext, to stand behind the gateway. Messages are plain bytes. Prints its port."""

import hashlib
import threading
import time
from concurrent import futures

import grpc

gone = threading.Semaphore(0)


def unary(request, context):
    """Sends the message back, with what the client says of itself, and with who the gateway says it is."""
    given = dict(context.invocation_metadata())
    who = "certificate" if given.get("client-cert", "").startswith(":MII") else "nobody"
    context.send_initial_metadata((("x-who", who), ("x-asked", given.get("x-asked", ""))))
    context.set_trailing_metadata((("x-asked-bin", given.get("x-asked-bin", b"")), ("x-size", str(len(request)))))
    return request


def collect(requests, context):
    """Takes a stream, and says how many messages it had, and what was in them."""
    count, digest = 0, hashlib.sha256()
    for request in requests:
        count += 1
        digest.update(request)
    return b"%d %s" % (count, digest.hexdigest().encode())


def produce(request, context):
    """Sends as many messages as asked for, of as many bytes, and pauses between them for as many milliseconds."""
    count, size, pause = (int(word) for word in request.split())
    for number in range(count):
        yield number.to_bytes(4, "big").ljust(size, b"x")
        time.sleep(pause / 1000)


def converse(requests, context):
    """Answers each message as it comes."""
    for request in requests:
        yield request


def fail(request, context):
    """Fails after as many messages as asked for; after none there are trailers only."""
    for _ in range(int(request)):
        yield b"so far"
    context.set_trailing_metadata((("x-why-bin", b"\x00\xff"),))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "nicht möglich: 100 % voll")


def hang(request, context):
    """Says how many seconds the client gives it, and goes on until the client is gone."""
    context.add_callback(gone.release)
    yield str(context.time_remaining()).encode()
    while context.is_active():
        yield b"still there"
        time.sleep(0.01)


def wait_until_gone(request, context):
    """Waits until a call of `hang` has ended."""
    return b"gone" if gone.acquire(timeout=10) else b"still running"


HANDLERS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Collect": grpc.stream_unary_rpc_method_handler(collect),
    "Produce": grpc.unary_stream_rpc_method_handler(produce),
    "Converse": grpc.stream_stream_rpc_method_handler(converse),
    "Fail": grpc.unary_stream_rpc_method_handler(fail),
    "Hang": grpc.unary_stream_rpc_method_handler(hang),
    "WaitUntilGone": grpc.unary_unary_rpc_method_handler(wait_until_gone),
}

server = grpc.server(
    futures.ThreadPoolExecutor(max_workers=64),
    handlers=[grpc.method_handlers_generic_handler("ringward.test.Echo", HANDLERS)],
    options=[
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        # Connections of the gateway are used by many clients, and pinged by it.
        ("grpc.http2.min_ping_interval_without_data_ms", 10),
    ],
)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
server.wait_for_termination()
