"""Python's grpcio as a client. Arguments: port, CA, certificate, key. Prints one word per step."""

import hashlib
import os
import queue
import sys
from concurrent import futures

# What it thinks of connections that are refused.
os.environ["GRPC_VERBOSITY"] = "NONE"
import grpc  # noqa: E402

port, ca, cert, key = int(sys.argv[1]), *sys.argv[2:5]
SERVICE = "/ringward.test.Echo/"


def read(path):
    with open(path, "rb") as file:
        return file.read()


def channel(host="api.example.com", certificate=True, *options):
    own = {"private_key": read(key), "certificate_chain": read(cert)} if certificate else {}
    credentials = grpc.ssl_channel_credentials(root_certificates=read(ca), **own)
    return grpc.secure_channel(
        f"127.0.0.1:{port}",
        credentials,
        options=[
            ("grpc.ssl_target_name_override", host),
            ("grpc.default_authority", host),
            ("grpc.enable_http_proxy", 0),
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            *options,
        ],
    )


class Calls:
    """The methods of the server, each of which gives up after a while."""

    def __init__(self, channel):
        def calls(kind, name):
            call = getattr(channel, kind)(SERVICE + name)
            return lambda request, timeout=20, **options: call(request, timeout=timeout, **options)

        self.unary = calls("unary_unary", "Unary")
        self.unknown = calls("unary_unary", "Unknown")
        self.wait_until_gone = calls("unary_unary", "WaitUntilGone")
        self.collect = calls("stream_unary", "Collect")
        self.produce = calls("unary_stream", "Produce")
        self.fail = calls("unary_stream", "Fail")
        self.hang = calls("unary_stream", "Hang")
        self.converse = calls("stream_stream", "Converse")
        self.unary_with_call = channel.unary_unary(SERVICE + "Unary").with_call


def error(call, *arguments, **options):
    """The error with which a call ends, and how many messages came before."""
    messages = 0
    try:
        answer = call(*arguments, **options)
        if not isinstance(answer, bytes):
            for _ in answer:
                messages += 1
    except grpc.RpcError as error:
        return error, messages
    raise AssertionError("no error")


def metadata(partner):
    # The gateway drops what looks like its own.
    given = (("x-asked", "this"), ("x-asked-bin", b"\x00\xff"), ("client-cert", "forged"))
    answer, call = partner.unary_with_call(b"hello", timeout=20, metadata=given)
    first, last = dict(call.initial_metadata()), dict(call.trailing_metadata())
    assert (answer, first["x-asked"]) == (b"hello", "this"), first
    assert (last["x-asked-bin"], last["x-size"]) == (b"\x00\xff", "5"), last
    return first["x-who"]


def streams(partner):
    pieces = [b"%d" % number * number for number in range(300)]
    digest = hashlib.sha256(b"".join(pieces)).hexdigest()
    assert partner.collect(iter(pieces)) == b"300 " + digest.encode()
    assert [len(message) for message in partner.produce(b"300 5000 0")] == [5000] * 300
    assert partner.collect(iter(())).startswith(b"0 ")
    assert list(partner.produce(b"0 0 0")) == []
    # Each answer arrives before the next request leaves.
    requests = queue.Queue()
    answers = partner.converse(iter(requests.get, None))
    for number in range(50):
        requests.put(b"%d" % number)
        assert next(answers) == b"%d" % number
    requests.put(None)
    assert list(answers) == []


def errors(partner):
    for before in (0, 2):
        failed, messages = error(partner.fail, b"%d" % before)
        assert (failed.code(), messages) == (grpc.StatusCode.FAILED_PRECONDITION, before), failed
        assert failed.details() == "nicht möglich: 100 % voll", failed
        assert dict(failed.trailing_metadata())["x-why-bin"] == b"\x00\xff", failed
    failed, _ = error(partner.unknown, b"")
    assert failed.code() == grpc.StatusCode.UNIMPLEMENTED, failed


def deadline(partner):
    """The server is told of the deadline, and stops at it."""
    answers = partner.hang(b"", timeout=0.5)
    given = float(next(answers))
    assert 0 < given < 0.6, given
    failed, _ = error(lambda: answers)
    assert failed.code() == grpc.StatusCode.DEADLINE_EXCEEDED, failed
    assert partner.wait_until_gone(b"") == b"gone"


def cancellation(partner):
    answers = partner.hang(b"", timeout=None)
    assert float(next(answers)) > 1_000_000, "there is no deadline"
    next(answers)
    answers.cancel()
    assert partner.wait_until_gone(b"") == b"gone"


def large(partner):
    message = bytes(range(256)) * (100 << 12)
    assert partner.unary(message, timeout=60) == message
    count, size = 10, 1 << 20
    assert sum(len(answer) for answer in partner.produce(b"%d %d 0" % (count, size))) == count * size


def concurrent(partner):
    with futures.ThreadPoolExecutor(max_workers=40) as pool:
        messages = [b"%d" % number * 1000 for number in range(200)]
        assert list(pool.map(partner.unary, messages)) == messages
        streams = [pool.submit(lambda: sum(1 for _ in partner.produce(b"20 20000 1"))) for _ in range(20)]
        assert [stream.result() for stream in streams] == [20] * 20
    with channel("api.example.com", True) as other:
        zipped = Calls(other).unary(b"x" * 100_000, compression=grpc.Compression.Gzip)
        assert zipped == b"x" * 100_000


def keepalive():
    """Pings while the server is silent, which ends the call if there is no answer."""
    often = (
        ("grpc.keepalive_time_ms", 500),
        ("grpc.keepalive_timeout_ms", 2000),
        ("grpc.http2.max_pings_without_data", 0),
    )
    with channel("api.example.com", True, *often) as pinging:
        calls = Calls(pinging)
        assert [len(message) for message in calls.produce(b"1 10 3000")] == [10]
        assert calls.unary(b"still there") == b"still there"


def main():
    with channel() as connected:
        partner = Calls(connected)
        print(metadata(partner), flush=True)
        for step in (streams, errors, deadline, cancellation, large, concurrent):
            step(partner)
            print(f"{step.__name__}-ok", flush=True)
    keepalive()
    print("keepalive-ok")
    with channel(host="optional.example.com", certificate=False) as anonymous:
        failed, _ = error(Calls(anonymous).unary, b"hello")
        print(failed.code().name, failed.details())
    with channel(certificate=False) as anonymous:
        failed, _ = error(Calls(anonymous).unary, b"hello")
        print(failed.code().name)


main()
