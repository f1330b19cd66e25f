"""Holds two streaming calls of one client, one that receives and one that waits. Arguments: port, CA, certificate, key.

Prints `open`, then `cut` and the status of each when both have been cut, or `alive` if it is told to end (SIGTERM) and both
still work.
"""

import os
import queue
import signal
import sys
import threading

# What it thinks of connections that are cut.
os.environ["GRPC_VERBOSITY"] = "NONE"
import grpc  # noqa: E402

port, ca, cert, key = int(sys.argv[1]), *sys.argv[2:5]
SERVICE = "/ringward.test.Echo/"


def read(path):
    with open(path, "rb") as file:
        return file.read()


def receive(answers, ended):
    try:
        for _ in answers:
            pass
    except grpc.RpcError:
        ended.release()


asked = threading.Event()
ended = threading.Semaphore(0)
signal.signal(signal.SIGTERM, lambda *_: (asked.set(), ended.release(2)))

credentials = grpc.ssl_channel_credentials(read(ca), read(key), read(cert))
options = [("grpc.ssl_target_name_override", "api.example.com"), ("grpc.enable_http_proxy", 0)]
with grpc.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
    busy = channel.unary_stream(SERVICE + "Hang")(b"")
    requests = queue.Queue()
    idle = channel.stream_stream(SERVICE + "Converse")(iter(requests.get, None))
    next(busy)
    requests.put(b"there?")
    assert next(idle) == b"there?"
    for answers in (busy, idle):
        threading.Thread(target=receive, args=(answers, ended), daemon=True).start()
    print("open", flush=True)
    ended.acquire()
    ended.acquire()
    if asked.is_set():
        print("alive" if busy.is_active() and idle.is_active() else "cut before")
    else:
        print("cut", busy.code().name, idle.code().name)
    busy.cancel()
    idle.cancel()
    requests.put(None)
