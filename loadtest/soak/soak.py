#!/usr/bin/env python3
"""Changes everything that may change while clients ask, for as long as is wanted, and judges every answer.

Starts the program of RINGWARD_BIN on loopback with two upstreams. In each period, a minute unless it is said otherwise, the
certificate of the gateway is replaced, the policy edited, a second CA of clients added or removed, the revocation list replaced by one
with or without a certain client, a client put on the deny list or taken off it, and one of the upstreams killed and started again.
Meanwhile clients come with full and with resumed handshakes, stay, multiplex over HTTP/2, talk over WebSockets, and some are
strangers, revoked, or without a certificate.

A wrong answer is one that was right at no moment between question and answer (`clients.py`). Memory, threads, descriptors and
replaced snapshots are sampled; what grows from the second quarter of the time to the last is a failure, too.

    cargo build --release -p ringward
    RINGWARD_BIN=target/release/ringward loadtest/soak/soak.py [--minutes N] [--json FILE]

Exit code 0: nothing was wrong. 1: something was.
"""
import argparse
import hashlib
import json
import pathlib
import random
import re
import signal
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path += [str(HERE.parent / "attack"), str(HERE.parent / "scale")]

import material
from clients import Count, Facts, Multiplexer, Newcomer, Regular, Talker
from process import Ringward
from wire import HOST

CONFIG = f"""\
[server]
state_dir     = "state"
drain_timeout = "2s"

[admin]
metrics = "127.0.0.1:0"
socket  = "admin.sock"

[log]
access = "stdout"

[trust.clients]
ca         = "trust/"
crl        = "crl/"
revocation = {{ crl = "if_present" }}

[policy.main]
path = "policy/"

[cluster.app]
endpoints    = ["127.0.0.1:PORT0", "127.0.0.1:PORT1"]
health_check = {{ tcp = true, interval = "1s", healthy_threshold = 1 }}

[[listener]]
name = "edge"
bind = "127.0.0.1:0"

[[listener.host]]
names       = ["{HOST}"]
certificate = {{ chain = "server.pem", key = "server.key" }}
client_auth = {{ mode = "required", trust = "clients" }}
policy      = "main"
retry       = {{ on = ["connect_failure", "reset_before_response"], attempts = 3 }}

[[listener.host.route]]
match   = {{ path = "/ws" }}
cluster = "app"
upgrade = ["websocket"]

[[listener.host.route]]
match   = {{ path = "/{{rest...}}" }}
cluster = "app"
"""

POLICY = """\
package ringward.authz

default decision := {"allowed": false, "rule": "default"}

decision := {"allowed": true, "rule": "example"} if {
	"Example" in input.client.subject.organizations
	not input.request.path in {CLOSED}
}
"""


class Upstream:
    """One of the upstreams, which is killed and comes back at the same port."""

    def __init__(self, name):
        self.name, self.port = name, 0
        self.start()

    def start(self):
        command = [sys.executable, str(HERE / "upstream.py"), self.name, str(self.port)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def kill(self):
        self.process.kill()
        self.process.wait()


class Soak:
    """The gateway, its upstreams, and what is in force."""

    def __init__(self, directory, seed):
        self.directory, self.seed, self.random, self.over = directory, seed, random.Random(seed), threading.Event()
        for below in ("state", "trust", "crl", "policy"):
            (directory / below).mkdir(mode=0o700)
        for name in ("servers", "one", "two", "nobody"):
            material.authority(directory, name)
        for name in ("valid", "sometimes", "denied", "never"):
            material.leaf(directory, name, "one")
        material.leaf(directory, "second", "two")
        material.leaf(directory, "stranger", "nobody")
        self.strangers = {"never", "stranger", None}
        self.crl_number, self.changes = 0, {}
        self.install("one.pem", "trust")
        self.rotate()
        self.list_revoked([])
        self.write_policy(True)
        self.upstreams = [Upstream("a"), Upstream("b")]
        ports = [str(upstream.port) for upstream in self.upstreams]
        config = CONFIG.replace("PORT0", ports[0]).replace("PORT1", ports[1])
        (directory / "ringward.toml").write_text(config)
        # For each client, or what it is about: what is right.
        self.facts = Facts(server=self.fingerprint(), flip=True, second=False, sometimes=True, denied=True, upstreams="well")
        self.count = Count()
        self.gateway = Ringward(directory)
        self.gateway.ready()
        self.port = self.gateway.address("listening", "edge")[1]
        self.metrics = "http://127.0.0.1:%d/metrics" % self.gateway.address("admin listening")[1]

    # What is written, each as a whole or not at all.

    def install(self, name, below):
        half_written = self.directory / below / f".{name}"
        half_written.write_bytes((self.directory / name).read_bytes())
        half_written.rename(self.directory / below / name)

    def rotate(self):
        material.leaf(self.directory, "server", "servers", [HOST])

    def fingerprint(self):
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert((self.directory / "server.pem").read_text())).hexdigest()

    def serial(self, name):
        text = material.openssl(self.directory, "x509", "-in", f"{name}.pem", "-noout", "-serial").decode()
        return bytes.fromhex(text.strip().removeprefix("serial="))

    def list_revoked(self, names):
        self.crl_number += 1
        # OpenSSL's serial numbers are positive, so these are the octets of the INTEGER but for a leading zero.
        serials = [self.serial(name) for name in ("never", *names)]
        serials = [b"\0" + serial if serial[0] >= 0x80 else serial for serial in serials]
        material.revocation_list(self.directory, "one.crl", "one", serials, self.crl_number)
        self.install("one.crl", "crl")

    def write_policy(self, is_open):
        closed = '{"/denied"}' if is_open else '{"/denied", "/flip"}'
        (self.directory / "authz.rego").write_text(POLICY.replace("{CLOSED}", closed))
        self.install("authz.rego", "policy")

    # What changes in each period.

    def change(self, fact, value, do):
        """Does it, and waits until the gateway says that it is in force."""
        self.facts.change(fact, value)
        began = time.monotonic()
        do()
        self.facts.settle(fact, value)
        self.changes.setdefault(fact, []).append(time.monotonic() - began)

    def reload_after(self, write):
        def do():
            write()
            # Perhaps it has seen the change by itself; then it says that there is none.
            self.gateway.reload(unchanged_is_good=True)
        return do

    def new_certificate(self, _):
        staged = self.directory / "next"
        staged.mkdir(exist_ok=True)
        for name in ("servers.pem", "servers.key"):
            (staged / name).write_bytes((self.directory / name).read_bytes())
        material.leaf(staged, "server", "servers", [HOST])
        fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert((staged / "server.pem").read_text())).hexdigest()

        def write():
            for name in ("server.key", "server.pem"):
                (staged / name).rename(self.directory / name)
        self.change("server", fingerprint, self.reload_after(write))

    def new_policy(self, turn):
        is_open = turn % 2 == 0
        self.change("flip", is_open, self.reload_after(lambda: self.write_policy(is_open)))

    def other_authorities(self, turn):
        if turn % 2:
            self.change("second", True, self.reload_after(lambda: self.install("two.pem", "trust")))
        else:
            self.change("second", False, self.reload_after((self.directory / "trust" / "two.pem").unlink))

    def new_list(self, turn):
        revoked = ["sometimes"] if turn % 2 else []
        self.change("sometimes", not revoked, self.reload_after(lambda: self.list_revoked(revoked)))

    def deny(self, turn):
        # Ends when all workers have it.
        arguments = ["revoke", "--cert", str(self.directory / "denied.pem")]
        arguments += ["--reason", "soak"] if turn % 2 else ["--remove"]
        self.change("denied", turn % 2 == 0, lambda: self.gateway.command(*arguments))

    def lose_an_upstream(self, turn):
        upstream = self.upstreams[turn % 2]
        self.facts.change("upstreams", "failing")
        upstream.kill()
        self.over.wait(self.pause)
        upstream.start()
        # Until its health check has found it and nothing that began before is under way.
        self.over.wait(min(2.5, self.pause))
        self.facts.settle("upstreams", "well")

    # The whole of it.

    def clients(self, pause):
        yield from (Newcomer(self, "full", "valid", pause) for _ in range(3))
        yield from (Newcomer(self, "resumed", "valid", pause, resumes=True) for _ in range(3))
        yield from (Regular(self, "kept", "valid", pause) for _ in range(3))
        yield from (Multiplexer(self, "http2", "valid", pause) for _ in range(2))
        yield from (Talker(self, "websocket", "valid", pause) for _ in range(2))
        for name in ("second", "sometimes", "denied"):
            yield Newcomer(self, f"{name}, new", name, pause)
            yield Newcomer(self, f"{name}, resumed", name, pause, resumes=True)
            yield Regular(self, f"{name}, kept", name, pause)
        yield Newcomer(self, "revoked", "never", pause, resumes=True)
        yield Newcomer(self, "stranger", "stranger", pause)
        yield Newcomer(self, "no certificate", None, pause)

    def run(self, seconds, period, pause):
        changes = [self.new_certificate, self.new_policy, self.other_authorities, self.new_list, self.deny, self.lose_an_upstream]
        self.pause = period / len(changes)
        clients = list(self.clients(pause))
        for client in clients:
            client.start()
        began, samples, turn = time.monotonic(), [], 0
        sampler = threading.Thread(target=self.sample, args=(samples, began), daemon=True)
        sampler.start()
        while time.monotonic() < began + seconds:
            turn += 1
            for change in changes:
                due = time.monotonic() + self.pause
                change(turn)
                self.over.wait(max(0, due - time.monotonic()))
        self.over.set()
        for thread in [*clients, sampler]:
            thread.join(30)
            if thread.is_alive():
                self.count.mistake(thread.name, "hangs")
        return samples

    def sample(self, samples, began):
        while not self.over.wait(1):
            page = urllib.request.urlopen(self.metrics, timeout=10).read().decode()
            retired = re.search(r"^ringward_snapshots_retired (\d+)", page, re.M)
            samples.append({"second": time.monotonic() - began, "memory": self.gateway.memory(), "threads": self.gateway.threads(),
                            "descriptors": self.gateway.descriptors(), "snapshots": int(retired[1])})

    def stop(self):
        self.over.set()
        for upstream in self.upstreams:
            upstream.kill()
        self.gateway.stop()


def growth(samples, seconds):
    """For each figure its median in the second quarter and in the last, its most, and whether that is too much."""
    # What the allocator keeps varies by some megabytes, and in a short soak all of it is warming up.
    slack = {"memory": 4 << 20 if seconds >= 600 else 24 << 20, "threads": 4, "descriptors": 16, "snapshots": 2}
    early = samples[len(samples) // 4:len(samples) // 2]
    late = samples[len(samples) * 3 // 4:]
    for name, allowed in slack.items():
        before, after = (statistics.median(sample[name] for sample in some) for some in (early, late))
        yield name, before, after, max(sample[name] for sample in samples), after > before * 1.05 + allowed


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--period", type=float, default=60, help="seconds in which everything changes once")
    parser.add_argument("--pause", type=float, default=0.02, help="seconds between what one client does")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--json", type=pathlib.Path, help="a file for all figures")
    arguments = parser.parse_args()
    seconds = arguments.minutes * 60
    print(f"seed {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        soak = Soak(pathlib.Path(directory), arguments.seed)
        try:
            samples = soak.run(seconds, arguments.period, arguments.pause)
        finally:
            soak.stop()
        log = [line for line in soak.gateway.lines if line.get("level") == "ERROR"]
    count, failed = soak.count, False
    for (kind, what), number in sorted(count.kinds.items(), key=str):
        print(f"{kind:20} {what!s:26} {number}")
    for fact, times in soak.changes.items():
        after, most = statistics.median(times) * 1e3, max(times) * 1e3
        print(f"{fact:20} changed {len(times)} times, in force after {after:.0f} ms, at most {most:.0f}")
    for name, before, after, most, is_too_much in growth(samples, seconds):
        print(f"{name:20} {before:.0f}, at the end {after:.0f}, at most {most:.0f}" + (": it grows" if is_too_much else ""))
        failed |= is_too_much
    for line in log[:20]:
        print(f"the log says: {line}")
    answers = sum(number for (_, what), number in count.kinds.items() if what not in NO_ANSWERS)
    print(f"{answers} answers, {len(count.wrong)} wrong, {len(log)} errors in the log")
    if arguments.json:
        kinds = {f"{kind}: {what}": number for (kind, what), number in count.kinds.items()}
        report = {"answers": kinds, "wrong": count.wrong, "changes": soak.changes, "samples": samples, "errors": log}
        arguments.json.write_text(json.dumps(report))
    sys.exit(1 if failed or count.wrong or log or not answers else 0)


# What is counted besides answers.
NO_ANSWERS = {"resumed", "ended with its upstream"}

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main()
