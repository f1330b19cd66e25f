#!/usr/bin/env python3
"""What clients notice of a flood of TLS handshakes, at twice what the gateway could do.

Starts the program of RINGWARD_BIN on loopback, with one worker, on a core of its own; all others share the other core, those
who are honest at a real-time priority. Three of them watch: a client whose connections are open asks at a fixed rate; a client
that was seen before comes again and again with full handshakes; another one resumes its session each time.

The flood is of ClientHellos: the gateway's part of a handshake is most of its cost and comes before the client has to compute
anything, so that one core can send more than another one can answer. They come at twice the rate of full handshakes with
client certificates that the gateway's core could do, which is measured first, as CPU time for each. The limits are those that
deploy/overload.md recommends: three quarters of what the core can do, and a rate for each network.

    cargo build --release -p ringward
    RINGWARD_BIN=target/release/ringward loadtest/attack/handshakes.py [--rounds N]
"""
import argparse
import errno
import multiprocessing
import os
import pathlib
import socket
import ssl
import struct
import tempfile
import time

import wire
from gateway import OTHER_CORE, Gateway, at, honest, median, settle, start_upstream

CONFIG = """\
[server]
workers = 1

[admin]
metrics = "127.0.0.1:0"

[log]
access = "off"

[trust.clients]
ca = "root.pem"

[cluster.honest]
endpoints = "127.0.0.1:{honest}"

[[listener]]
name = "edge"
bind = "127.0.0.1:0"
http2 = true
limits = {{ connections_max = 15000 }}
{handshakes}

[[listener.host]]
names = "{host}"
certificate = {{ chain = "server.pem", key = "server.key" }}
client_auth = {{ mode = "required", trust = "clients" }}
danger_no_policy = true

[[listener.host.route]]
id = "honest"
match = {{ path = "/honest" }}
cluster = "honest"
"""

LIMITS = """
[listener.handshakes]
full_per_second = {rate}
per_source      = {{ full_per_second = {source} }}
"""

# How often clients that were seen before come, per second.
KNOWN_RATE = 20
# From how many networks strangers come, and how many seconds they stay: those who stay take places, those who leave let others begin.
FLOODS = {
    "the known one's address": (0, 0.05),
    "one network, staying": (1, 3),
    "one network, leaving": (1, 0.05),
    "many networks, staying": (10_000, 3),
    "many networks, leaving": (10_000, 0.05),
}
OPEN_MAX = 12_000
FINISHED = "ringward_handshakes_finished_total"
CLOSED = "ringward_connections_closed_total"


def context():
    made = ssl.create_default_context(cafile=wire.directory / "root.pem")
    made.load_cert_chain(wire.directory / "client.pem", wire.directory / "client.key")
    return made


def hello():
    """A ClientHello, as it is on the wire."""
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        context().wrap_bio(into, out, server_hostname=wire.HOST).do_handshake()
    except ssl.SSLWantReadError:
        return out.read()


def address(number, networks):
    """The address of a stranger, of one out of so many networks (/24); with none that of those who are known."""
    if not networks:
        return "127.0.0.1"
    number = number % networks + 1
    return f"127.{1 + number // 250}.{1 + number % 250}.7"


def strangers(port, seconds, rate, networks, patience, results):
    """Opens connections at a rate and sends a ClientHello on each; nothing follows."""
    settle(0)
    data, reset = hello(), struct.pack("ii", 1, 0)
    opened, tried, sent, began = [], 0, 0, time.monotonic()
    while (now := time.monotonic()) < began + seconds:
        while opened and (opened[0][0] < now or len(opened) > OPEN_MAX):
            opened.pop(0)[1].close()
        for _ in range(min(50, int((now - began) * rate) - tried)):
            stream = socket.socket()
            stream.setblocking(False)
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            try:
                stream.bind((address(tried, networks), 0))
                if stream.connect_ex(("127.0.0.1", port)) not in (0, errno.EINPROGRESS):
                    raise OSError
                stream.send(data)
                opened.append((now + patience, stream))
                sent += 1
            except OSError:
                stream.close()
            tried += 1
        if (time.monotonic() - began) * rate < tried + 1:
            time.sleep(0.001)
    results.send(sent / (time.monotonic() - began))


def known(port, seconds, resumes, results):
    """Comes at a rate with new connections, makes a request on each, and sends back how long each took; `None` if it was not served."""
    settle(30)
    tls, session, times = context(), None, []
    ask(port, tls, None)
    for _ in range(2 if resumes else 0):
        session = ask(port, tls, session)[1]
    results.send("ready")
    began = time.monotonic()
    for count in range(int(KNOWN_RATE * seconds)):
        time.sleep(max(0, began + count / KNOWN_RATE - time.monotonic()))
        try:
            took, next_session, resumed = ask(port, tls, session)
            times.append(took if resumed == resumes else None)
            session = next_session if resumes else None
        except OSError:
            times.append(None)
    results.send(times)


def ask(port, tls, session):
    """A connection with one request: how long until its answer, the session for the next one, and whether it has resumed one."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=5) as stream:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with tls.wrap_socket(stream, server_hostname=wire.HOST, session=session) as encrypted:
            encrypted.sendall(f"GET /honest HTTP/1.1\r\nhost: {wire.HOST}\r\nconnection: close\r\n\r\n".encode())
            answer = b""
            while data := encrypted.recv(4096):
                answer += data
            if not answer.startswith(b"HTTP/1.1 200"):
                raise OSError("it was not served")
            return time.monotonic() - began, encrypted.session, encrypted.session_reused


def cost(gateway, count):
    """CPU seconds of the gateway for a full handshake with a request."""
    tls = context()
    ask(gateway.edge, tls, None)
    before = gateway.cpu_seconds()
    for _ in range(count):
        ask(gateway.edge, tls, None)
    return (gateway.cpu_seconds() - before) / count


def started(target, *arguments):
    mine, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=target, args=(*arguments, theirs))
    process.start()
    return mine, process


def run(gateway, seconds, flood=None):
    """What all notice while strangers come, if there are any: (how many per second, from how many networks, for how long)."""
    watchers = [started(honest, gateway.edge, seconds), started(known, gateway.edge, seconds, False),
                started(known, gateway.edge, seconds, True)]
    for results, _ in watchers:
        results.recv()
    gateway.forget_peak()
    memory, cpu, finished = gateway.memory("VmRSS"), gateway.cpu_seconds(), gateway.counted(FINISHED)
    closed, disturbed, stolen = gateway.counted(CLOSED), gateway.disturbed_seconds(), gateway.stolen_seconds()
    flood = started(strangers, gateway.edge, seconds, *flood) if flood else None
    times, full, resumed = (results.recv() for results, _ in watchers)
    figures = {"cpu": gateway.cpu_seconds() - cpu, "disturbed": gateway.disturbed_seconds() - disturbed,
               "stolen": gateway.stolen_seconds() - stolen}
    figures = {name: figure / seconds for name, figure in figures.items()}
    figures["offered"] = flood[0].recv() if flood else 0
    for _, process in [*watchers, *([flood] if flood else [])]:
        process.join()
    # The last of them are gone.
    time.sleep(0.5)
    for name, came in (("full", full), ("resumed", resumed)):
        served = sorted(time for time in came if time is not None)
        figures |= {f"{name} served": 100 * len(served) / len(came), f"{name} p50": at(served, 0.5) if served else 0,
                    f"{name} max": at(served, 1) if served else 0}
    times.sort()
    counts = [(gateway.counted(FINISHED), finished), (gateway.counted(CLOSED), closed)]
    shed = {reason: count - before.get(reason, 0) for now, before in counts for reason, count in now.items()
            if "source" in reason or "overload" in reason}
    return figures | {"p50": at(times, 0.5), "p99": at(times, 0.99), "max": at(times, 1), "ended": shed,
                      "memory": (gateway.memory("VmHWM") - memory) / 2**20}


COLUMNS = [("p50", 7, 2), ("p99", 7, 2), ("max", 7, 2), ("ratio", 6, 2), ("full served", 8, 1), ("full p50", 7, 1), ("full max", 7, 1),
           ("resumed served", 8, 1), ("resumed p50", 7, 1), ("resumed max", 7, 1), ("cpu %", 6, 1), ("wait %", 7, 1),
           ("stolen %", 9, 1), ("memory", 7, 1), ("offered", 8, 0)]


def line(what, result, quiet):
    result = result | {"ratio": result["p99"] / quiet["p99"], "cpu %": 100 * result["cpu"], "wait %": 100 * result["disturbed"],
                       "stolen %": 100 * result["stolen"]}
    figures = " ".join(f"{result[name]:{width}.{digits}f}" for name, width, digits in COLUMNS)
    shed = " ".join(f"{reason}={count:.0f}" for reason, count in sorted(result["ended"].items()) if count > 0)
    print(f"{what:24} {figures}  {shed}", flush=True)


def measure(directory, upstream, seconds, rounds):
    """Prints a line for each flood."""
    gateway = Gateway(directory, CONFIG.format(honest=upstream, host=wire.HOST, handshakes=""))
    try:
        each = cost(gateway, 300)
    finally:
        gateway.stop()
    capacity = 1 / each
    rate = int(capacity * 3 / 4)
    print(f"a full handshake with its request: {each * 1e6:.0f} us, so the core can do {capacity:.0f} per second; limit {rate}, "
          f"flood {2 * capacity:.0f}")
    limits = LIMITS.format(rate=rate, source=max(1, rate // 20))
    gateway = Gateway(directory, CONFIG.format(honest=upstream, host=wire.HOST, handshakes=limits))
    try:
        names = ["p50 ms", "p99 ms", "max ms", "ratio", "full %", "p50 ms", "max ms", "resum. %", "p50 ms", "max ms", "CPU %", "wait %",
                 "stolen %", "MiB", "offered"]
        heads = " ".join(f"{name:>{width}}" for name, (_, width, _) in zip(names, COLUMNS))
        print(f"{'':24} {heads}  shed")
        run(gateway, 1)
        results = {}
        for _ in range(rounds):
            results.setdefault("quiet", []).append(run(gateway, seconds))
            for name, (networks, patience) in FLOODS.items():
                results.setdefault(name, []).append(run(gateway, seconds, (2 * capacity, networks, patience)))
        for name in results:
            line(name, median(results[name]), median(results["quiet"]))
    finally:
        gateway.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=5, help="how long each flood lasts (default: 5)")
    parser.add_argument("--rounds", type=int, default=1, help="how often all of it is done (default: 1)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        wire.directory = pathlib.Path(directory)
        os.sched_setaffinity(0, {OTHER_CORE})
        wire.write_certificates(wire.directory)
        measure(wire.directory, start_upstream(20), arguments.seconds, arguments.rounds)


if __name__ == "__main__":
    main()
