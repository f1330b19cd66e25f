#!/usr/bin/env python3
"""What other clients notice of one that attacks a gateway by means of HTTP/2, and what the attack costs the gateway.

Starts the program of RINGWARD_BIN on loopback, with one worker, on a core of its own. All others share the other core: an
honest client and its upstream at a real-time priority (if the system allows it), so that what the attacker's own process
costs is not seen, and the attacker with an upstream of its own. The honest client asks at a fixed rate, over both protocols;
times count from when a request should have been sent.

Each attack is compared with a client that makes honest requests, as many as cost the gateway the same CPU time. Everything
ends by itself after about 10 seconds for each attack and round.

What else runs on the machine is in the figures. `wait %` says how long the gateway's worker wanted its core while somebody else
had it, and `stolen %` how long the core was another virtual machine's; of several rounds each figure is the median.

    cargo build --release -p ringward
    RINGWARD_BIN=target/release/ringward loadtest/attack/http2.py [ATTACK...]
"""
import argparse
import asyncio
import json
import multiprocessing
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

import attacks
import wire

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

[cluster.attacked]
endpoints = "127.0.0.1:{attacked}"

[[listener]]
name = "edge"
bind = "127.0.0.1:0"
http2 = true

[[listener.host]]
names = "{host}"
certificate = {{ chain = "server.pem", key = "server.key" }}
client_auth = {{ mode = "required", trust = "clients" }}
danger_no_policy = true

[[listener.host.route]]
id = "honest"
match = {{ path = "/honest" }}
cluster = "honest"

[[listener.host.route]]
id = "attacked"
match = {{ path = "/{{rest...}}" }}
cluster = "attacked"
"""

PROXY_CORE, OTHER_CORE = 1, 0
HONEST_RATE, HONEST_CONNECTIONS = 250, 8
BIG_BYTES = 100_000_000


class Upstream(asyncio.Protocol):
    """Answers each GET with a few bytes, or with very many for `/big`, and nothing for `/never` and other methods."""

    def connection_made(self, transport):
        self.transport, self.received, self.left, self.may_write = transport, b"", 0, True

    def data_received(self, data):
        self.received += data
        while b"\r\n\r\n" in self.received:
            head, self.received = self.received.split(b"\r\n\r\n", 1)
            if head.startswith(b"GET /big"):
                self.left = BIG_BYTES
                self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % BIG_BYTES)
                self.resume_writing()
            elif head.startswith(b"GET ") and b" /never" not in head.split(b"\r\n")[0]:
                self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\n" + bytes(16))
            else:
                # What follows is a body, which nobody wants.
                self.data_received = lambda _: None

    def pause_writing(self):
        self.may_write = False

    def resume_writing(self):
        self.may_write = True
        while self.may_write and self.left > 0 and not self.transport.is_closing():
            piece = min(self.left, 65_536)
            self.left -= piece
            self.transport.write(bytes(piece))


def upstream(ports, priority):
    async def serve():
        server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0, backlog=4096)
        ports.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    settle(priority)
    asyncio.run(serve())


def settle(priority):
    """Puts this process where all but the gateway are; with a real-time priority if one is given and allowed."""
    os.sched_setaffinity(0, {OTHER_CORE})
    if priority:
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
        except PermissionError:
            print("no real-time priority: the attacker's own CPU time is in the figures", file=sys.stderr)


def start_upstream(priority):
    mine, theirs = multiprocessing.Pipe()
    multiprocessing.Process(target=upstream, args=(theirs, priority), daemon=True).start()
    return mine.recv()


class Gateway:
    """The program under test."""

    def __init__(self, directory):
        wire.write_certificates(directory)
        config = CONFIG.format(honest=start_upstream(20), attacked=start_upstream(0), host=wire.HOST)
        (directory / "ringward.toml").write_text(config)
        command = [os.environ["RINGWARD_BIN"], "run", "-c", str(directory / "ringward.toml")]
        self.log = open(directory / "log", "w+")
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=self.log,
                                        preexec_fn=lambda: os.sched_setaffinity(0, {PROXY_CORE}))
        addresses = {line.get("message"): line.get("address") for line in self.log_until("ready")}
        self.edge, self.admin = (int(addresses[what].rsplit(":", 1)[1]) for what in ("listening", "admin listening"))
        names = {task.parent.name: task.read_text() for task in pathlib.Path(f"/proc/{self.process.pid}/task").glob("*/comm")}
        self.worker = next(number for number, name in names.items() if name.startswith("worker"))

    def log_until(self, message):
        for _ in range(200):
            text = pathlib.Path(self.log.name).read_text()
            lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
            if any(line.get("message") == message for line in lines):
                return lines
            time.sleep(0.05)
        sys.exit(f"the gateway does not start:\n{text}")

    def cpu_seconds(self):
        return self.scheduled("*", 0)

    def disturbed_seconds(self):
        """How long the worker would have run, had the core not been somebody else's."""
        return self.scheduled(self.worker, 1)

    def stolen_seconds(self):
        """How long the gateway's core did not run at all."""
        line = re.search(rf"^cpu{PROXY_CORE} .*", pathlib.Path("/proc/stat").read_text(), re.M)[0]
        return int(line.split()[8]) / os.sysconf("SC_CLK_TCK")

    def scheduled(self, task, column):
        tasks = pathlib.Path(f"/proc/{self.process.pid}/task").glob(f"{task}/schedstat")
        return sum(int(task.read_text().split()[column]) for task in tasks) / 1e9

    def memory(self, kind):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{kind}:\s+(\d+) kB", status).group(1)) * 1024

    def forget_peak(self):
        pathlib.Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def closed(self):
        """How many connections have ended, by reason."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics") as response:
            text = response.read().decode()
        found = re.findall(r'^ringward_connections_closed_total\{.*?reason="(\w+)".*?\} (\d+)', text, re.M)
        return {reason: int(count) for reason, count in found}


def honest(port, seconds, results):
    """Asks at a fixed rate and sends back how long each answer took."""
    settle(30)
    clients = [wire.Honest(port, index % 2 == 0) for index in range(HONEST_CONNECTIONS)]
    results.send("ready")
    results.send(wire.ask_at_rate(clients, HONEST_RATE, seconds))


def attacker(name, port, seconds, rate, results):
    settle(0)
    end = time.monotonic() + seconds
    done = attacks.requests(port, end, rate) if name == "requests" else attacks.ATTACKS[name](port, end)
    results.send((done, time.process_time()))


def run(gateway, name, seconds, rate=None):
    """What others noticed during an attack, and what it cost."""
    timings, timings_in = multiprocessing.Pipe()
    outcome, outcome_in = multiprocessing.Pipe()
    watcher = multiprocessing.Process(target=honest, args=(gateway.edge, seconds, timings_in))
    watcher.start()
    timings.recv()
    gateway.forget_peak()
    memory, cpu, closed = gateway.memory("VmRSS"), gateway.cpu_seconds(), gateway.closed()
    disturbed, stolen = gateway.disturbed_seconds(), gateway.stolen_seconds()
    done, own = 0, 0.0
    if name:
        attack = multiprocessing.Process(target=attacker, args=(name, gateway.edge, seconds, rate, outcome_in))
        attack.start()
    times = sorted(timings.recv())
    cpu = gateway.cpu_seconds() - cpu
    disturbed, stolen = gateway.disturbed_seconds() - disturbed, gateway.stolen_seconds() - stolen
    peak = gateway.memory("VmHWM")
    watcher.join()
    if name:
        done, own = outcome.recv() if outcome.poll(20) else (0, 0.0)
        attack.terminate()
        attack.join()
    time.sleep(0.5)
    ended = {reason: count - closed.get(reason, 0) for reason, count in gateway.closed().items()}
    at = lambda share: times[min(len(times) - 1, int(len(times) * share))] * 1e3
    return {"p50": at(0.5), "p99": at(0.99), "max": at(1), "cpu": cpu / seconds, "own": own / seconds,
            "disturbed": disturbed / seconds, "stolen": stolen / seconds, "done": done, "memory": (peak - memory) / 2**20,
            "ended": ended}


def median(results):
    """The median of each figure."""
    figures = {name: statistics.median(result[name] for result in results) for name in results[0] if name != "ended"}
    reasons = {reason for result in results for reason in result["ended"]}
    ended = {reason: statistics.median_high(result["ended"].get(reason, 0) for result in results) for reason in reasons}
    return {**figures, "ended": ended}


def line(what, result, quiet):
    ended = " ".join(f"{reason}={count:.0f}" for reason, count in sorted(result["ended"].items()) if count > 0)
    times = " ".join(f"{result[name]:7.2f}" for name in ("p50", "p99", "max"))
    shares = " ".join(f"{100 * result[name]:8.1f}" for name in ("cpu", "own", "disturbed", "stolen"))
    ratio, done = result["p99"] / quiet["p99"], result["done"]
    print(f"{what:24} {times} {ratio:5.2f} {shares} {result['memory']:7.1f} {done:9.0f}  {ended}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("attacks", nargs="*", default=list(attacks.ATTACKS), metavar="ATTACK",
                        help=f"of {', '.join(attacks.ATTACKS)}; all of them by default")
    parser.add_argument("--seconds", type=float, default=5, help="how long each attack lasts (default: 5)")
    parser.add_argument("--rounds", type=int, default=1, help="how often all of it is done (default: 1)")
    parser.add_argument("--alone", action="store_true", help="leave the honest requests in place of attacks out")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        wire.directory = pathlib.Path(directory)
        os.sched_setaffinity(0, {OTHER_CORE})
        gateway = Gateway(wire.directory)
        try:
            head = f"{'p50 ms':>7} {'p99 ms':>7} {'max ms':>7} {'ratio':>5} {'CPU %':>8} {'own %':>8} {'wait %':>8} {'stolen %':>8}"
            print(f"{'':24} {head} {'MiB':>7} {'done':>9}  ended")
            run(gateway, None, 1)
            busy = run(gateway, "requests", 2)
            results = {}
            for _ in range(arguments.rounds):
                results.setdefault("quiet", []).append(run(gateway, None, arguments.seconds))
                quiet = median(results["quiet"])
                cost = (busy["cpu"] - quiet["cpu"]) * 2 / max(1, busy["done"])
                for name in arguments.attacks:
                    result = run(gateway, name, arguments.seconds)
                    results.setdefault(name, []).append(result)
                    rate = (result["cpu"] - quiet["cpu"]) / cost
                    if rate >= 1 and not arguments.alone:
                        instead = run(gateway, "requests", arguments.seconds * 0.6, rate)
                        results.setdefault(f"{name}, requests instead", []).append(instead)
            line("requests, at full speed", busy, quiet)
            for name in results:
                line("  requests instead" if "," in name else name, median(results[name]), quiet)
        finally:
            gateway.process.send_signal(signal.SIGTERM)
            gateway.process.wait(10)


if __name__ == "__main__":
    main()
