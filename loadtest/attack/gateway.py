"""The program under test on a core of its own, and all others on the other one: upstreams, and the honest client."""
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
import time
import urllib.request

import wire

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

    def __init__(self, directory, config):
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

    def counted(self, metric, label="reason"):
        """What a counter says, by the values of one of its labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics") as response:
            text = response.read().decode()
        counts = {}
        for value, count in re.findall(rf'^{metric}\{{.*?\b{label}="(\w+)".*?\}} (\d+)', text, re.M):
            counts[value] = counts.get(value, 0) + int(count)
        return counts

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(10)


def honest(port, seconds, results):
    """Asks at a fixed rate and sends back how long each answer took."""
    settle(30)
    clients = [wire.Honest(port, index % 2 == 0) for index in range(HONEST_CONNECTIONS)]
    results.send("ready")
    results.send(wire.ask_at_rate(clients, HONEST_RATE, seconds))


def at(times, share):
    """In milliseconds, of times that are sorted."""
    return times[min(len(times) - 1, int(len(times) * share))] * 1e3


def median(results):
    """The median of each figure."""
    figures = {name: statistics.median(result[name] for result in results) for name in results[0] if name != "ended"}
    reasons = {reason for result in results for reason in result["ended"]}
    ended = {reason: statistics.median_high(result["ended"].get(reason, 0) for result in results) for reason in reasons}
    return {**figures, "ended": ended}
