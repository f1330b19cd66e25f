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
import multiprocessing
import os
import pathlib
import tempfile
import time

import attacks
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
    memory, cpu, closed = gateway.memory("VmRSS"), gateway.cpu_seconds(), gateway.counted("ringward_connections_closed_total")
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
    ended = {reason: count - closed.get(reason, 0) for reason, count in gateway.counted("ringward_connections_closed_total").items()}
    return {"p50": at(times, 0.5), "p99": at(times, 0.99), "max": at(times, 1), "cpu": cpu / seconds, "own": own / seconds,
            "disturbed": disturbed / seconds, "stolen": stolen / seconds, "done": done, "memory": (peak - memory) / 2**20,
            "ended": ended}


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
        wire.write_certificates(wire.directory)
        config = CONFIG.format(honest=start_upstream(20), attacked=start_upstream(0), host=wire.HOST)
        gateway = Gateway(wire.directory, config)
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
            gateway.stop()


if __name__ == "__main__":
    main()
