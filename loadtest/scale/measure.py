#!/usr/bin/env python3
"""How long a start, a reload and a scrape take, and what clients notice of the latter two.

Starts the program of RINGWARD_BIN on loopback, with a small configuration and with a large one: 1,000 hosts with a certificate
each, 1,000 CAs and a revocation list of a million entries, all of which can be said otherwise. The load is that of
`ringward-load` (RINGWARD_LOAD_BIN): a request each millisecond on connections that stay open, at a real-time priority if that is
allowed, so that a late answer was a worker's that did something else or had no core.

    cargo build --release -p ringward -p ringward-load
    RINGWARD_BIN=target/release/ringward RINGWARD_LOAD_BIN=target/release/ringward-load loadtest/scale/measure.py [--runs N]
"""
import argparse
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import material
from process import Ringward

CONFIG = """\
[server]
state_dir = "state"

[admin]
metrics = "127.0.0.1:0"

[log]
access = "off"

[policy.main]
path = "policy.rego"

[cluster.app]
endpoints = "127.0.0.1:9"

[[listener]]
name = "edge"
bind = "127.0.0.1:0"
"""

BUNDLE = """
[trust.{bundle}]
ca = "{bundle}.pem"
"""

LIST = """
crl         = "list.crl"
crl_issuers = "ca-0.pem"
revocation  = { crl = "if_present" }
"""

HOST = """
[[listener.host]]
names       = ["h{number}.example.com"]
certificate = {{ chain = "h{number}.pem", key = "h{number}.key" }}
client_auth = {{ mode = "required", trust = "{bundle}" }}
policy      = "main"

[[listener.host.route]]
id      = "answer-{number}"
match   = {{ path = "/answer" }}
respond = {{ status = 200, body = "{answer}", content_type = "text/plain" }}

[[listener.host.route]]
id      = "rest-{number}"
match   = {{ path = "/{{rest...}}" }}
cluster = "app"
"""

POLICY = """\
package ringward.authz

default decision := {"allowed": false, "rule": "default"}

decision := {"allowed": true, "rule": "example"} if {
	"Example" in input.client.subject.organizations
	input.request.method == "GET"
}
"""


class Configuration:
    """A directory with everything in it. Made once; a reload changes the list and what one route answers."""

    def __init__(self, directory, hosts, authorities, entries, bundles):
        self.directory, self.hosts, self.authorities, self.entries, self.bundles = directory, hosts, authorities, entries, bundles
        self.number = 0
        directory.mkdir(exist_ok=True)
        for number in range(authorities):
            self.make(f"ca-{number}", material.authority)
        for number in range(hosts):
            self.make(f"h{number}", material.leaf, "ca-0", [f"h{number}.example.com"])
        self.make("client", material.leaf, "ca-0")
        for bundle in range(bundles):
            members = range(bundle, authorities, bundles)
            (directory / f"bundle-{bundle}.pem").write_text("".join((directory / f"ca-{number}.pem").read_text() for number in members))
        (directory / "policy.rego").write_text(POLICY)
        (directory / "state").mkdir(mode=0o700, exist_ok=True)
        self.change()

    def make(self, name, kind, *arguments):
        if not (self.directory / f"{name}.pem").exists():
            kind(self.directory, name, *arguments)

    def change(self):
        """Another list, and another answer of the first route."""
        self.number += 1
        if self.entries:
            material.revocation_list(self.directory, "list.crl", "ca-0", material.random_serials(self.entries), int(time.time() * 10))
        text = CONFIG
        for bundle in range(self.bundles):
            text += BUNDLE.format(bundle=f"bundle-{bundle}") + (LIST if self.entries and bundle == 0 else "")
        for number in range(self.hosts):
            answer = f"answer {self.number % 10}" if number == 0 else "answer"
            text += HOST.format(number=number, bundle=f"bundle-{number % self.bundles}", answer=answer)
        (self.directory / "ringward.toml").write_text(text)


class Load:
    """A request each millisecond, for some seconds."""

    def __init__(self, ringward, directory, seconds):
        command = [os.environ["RINGWARD_LOAD_BIN"], "run", "--target", "127.0.0.1:%d" % ringward.address("listening", "edge")[1],
                   "--server-name", "h0.example.com", "--ca", "ca-0.pem", "--cert", "client.pem", "--key", "client.key",
                   "--path", "/answer", "--rate", str(RATE), "--connections", str(CONNECTIONS), "--duration", str(seconds),
                   "--json", "--quiet"]
        self.process = subprocess.Popen(command, cwd=directory, stdout=subprocess.PIPE, preexec_fn=in_real_time)

    def times(self):
        """How long answers took since they were due, in milliseconds."""
        report = json.loads(self.process.communicate()[0])
        if report["failed"]:
            sys.exit(f"requests failed: {report['failures']}")
        return {name: report["due_us"][name] / 1000 for name in ("p50", "p99", "p999", "max")}


def in_real_time():
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(30))
    except PermissionError:
        pass


def start(configuration, runs):
    """Seconds and CPU seconds until it serves, and its memory then."""
    figures = []
    for _ in range(runs):
        ringward = Ringward(configuration.directory)
        try:
            figures.append((*ringward.ready(), ringward.memory()))
        finally:
            ringward.stop()
    return list(zip(*figures))


def reload(configuration, runs):
    """What clients notice without a reload and with some, of the same length, and how long a reload took."""
    quiet, during, lasted, waited = [], [], [], []
    ringward = Ringward(configuration.directory)
    try:
        ringward.ready()
        for _ in range(runs):
            load = Load(ringward, configuration.directory, SECONDS)
            quiet.append(load.times())
            configuration.change()
            load, before = Load(ringward, configuration.directory, SECONDS), ringward.waited_seconds()
            time.sleep(1)
            lasted.append(ringward.reload())
            if lasted[-1] > SECONDS - 1.5:
                sys.exit(f"a reload took {lasted[-1]:.1f} s, longer than the load")
            during.append(load.times())
            after = ringward.waited_seconds()
            waited.append(max(after[name] - before[name] for name in before))
    finally:
        ringward.stop()
    return quiet, during, lasted, waited


def scrape(configuration, runs):
    """How long a page took, in milliseconds, its series, and what clients notice without scrapes and with ten per second."""
    quiet, during, took = [], [], []
    ringward = Ringward(configuration.directory)
    try:
        ringward.ready()
        where = ringward.address("admin listening")
        series = 0
        for _ in range(runs):
            quiet.append(Load(ringward, configuration.directory, SECONDS).times())
            load = Load(ringward, configuration.directory, SECONDS)
            for _ in range(int(SECONDS * SCRAPES_PER_SECOND)):
                began = time.monotonic()
                page = get(where, "/metrics")
                took.append((time.monotonic() - began) * 1000)
                time.sleep(1 / SCRAPES_PER_SECOND)
            during.append(load.times())
            series = sum(not line.startswith(b"#") for line in page.splitlines() if line)
    finally:
        ringward.stop()
    return series, len(page), took, quiet, during


def get(where, path):
    """The body of a page, on a connection of its own."""
    with socket.create_connection(where, timeout=10) as stream:
        stream.sendall(f"GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".encode())
        pieces = []
        while piece := stream.recv(1 << 20):
            pieces.append(piece)
    head, _, body = b"".join(pieces).partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        sys.exit(f"{path}: {head}")
    return body


def spread(values, unit, factor=1):
    """The median, with the least and the most."""
    least, most = min(values) * factor, max(values) * factor
    return f"{statistics.median(values) * factor:.1f} {unit} ({least:.1f} to {most:.1f})"


def noticed(runs):
    """Of several runs: the median p50, p99 and p99.9, and the longest of all in the median run and in the worst."""
    typical = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    worst = max(run["max"] for run in runs)
    return "p50 {p50:.2f}  p99 {p99:.2f}  p99.9 {p999:.2f}  longest {max:.2f}".format(**typical) + f" (worst run {worst:.2f}) ms"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--authorities", type=int, default=1000)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--bundles", type=int, default=1, help="trust bundles that the authorities are spread over")
    parser.add_argument("--series", type=int, default=10_000, help="about how many the page has that is scraped")
    parser.add_argument("--keep", type=pathlib.Path, help="a directory for certificates, to be used again")
    parser.add_argument("what", nargs="*", choices=[[], "start", "reload", "scrape"], help="all of it by default")
    arguments = parser.parse_args()
    what = arguments.what or ["start", "reload", "scrape"]
    with tempfile.TemporaryDirectory() as temporary:
        directory = arguments.keep or pathlib.Path(temporary)
        directory.mkdir(exist_ok=True)
        small = Configuration(directory / "small", 1, 1, 0, 1)
        large = None
        if "start" in what or "reload" in what:
            large = Configuration(directory / "large", arguments.hosts, arguments.authorities, arguments.entries, arguments.bundles)
            print(f"large: {large.hosts} hosts, {large.authorities} CAs in {large.bundles} bundles, {large.entries} entries")
        if "start" in what:
            for name, configuration in (("small", small), ("large", large)):
                seconds, cpu, memory = start(configuration, arguments.runs)
                print(f"start, {name}: {spread(seconds, 'ms', 1e3)}, CPU {spread(cpu, 'ms', 1e3)}, memory {spread(memory, 'MiB', 2**-20)}")
        if "reload" in what:
            quiet, during, lasted, waited = reload(large, arguments.runs)
            print(f"reload, large: {spread(lasted, 'ms', 1e3)}; a worker waited for a core {spread(waited, 'ms', 1e3)}")
            print(f"  without: {noticed(quiet)}\n  during:  {noticed(during)}")
        if "scrape" in what:
            hosts = max(1, (arguments.series - SERIES_OF_ALL) // SERIES_PER_HOST)
            series, size, took, quiet, during = scrape(Configuration(directory / "many", hosts, 1, 0, 1), arguments.runs)
            took.sort()
            print(f"scrape, {series} series of {size} bytes: median {statistics.median(took):.2f} ms, "
                  f"p95 {took[int(len(took) * 0.95)]:.2f}, longest {took[-1]:.2f}")
            print(f"  without: {noticed(quiet)}\n  during:  {noticed(during)}")


# Requests per second, and the connections for them: enough that each worker has some.
RATE, CONNECTIONS = 1000, 16
# Of a run of the load: longer than a reload, which begins after the first.
SECONDS = 6
# A hundred times as often as usual.
SCRAPES_PER_SECOND = 10
# What a configuration without hosts has, and what a host with two routes adds.
SERIES_OF_ALL, SERIES_PER_HOST = 700, 53

if __name__ == "__main__":
    main()
