#!/usr/bin/env python3
"""CPU time of Ringward per request at several hit rates of the decision cache, with the cache and without it.

    cargo build --release -p ringward -p ringward-load
    BENCH_KIT=path/of/the/kit RINGWARD_BIN=target/release/ringward RINGWARD_LOAD_BIN=target/release/ringward-load \\
        loadtest/compare/hit_rates.py

Uses the side-by-side kit's certificates, upstream and way of measuring, and the configuration of `ringward.py`. The load is
`ringward-load --fresh-paths`: so many of a hundred requests ask for a path that nobody has asked for, and miss. One worker,
pinned to core 0; all else runs on core 1.
"""
import argparse, contextlib, importlib.machinery, importlib.util, json, os, pathlib, statistics, subprocess, sys, tempfile

HERE = pathlib.Path(__file__).resolve().parent


def module(name, path):
    loader = importlib.machinery.SourceFileLoader(name, str(path))
    made = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(made)
    return made


def load(kit, bench, core, fresh, requests):
    """One run of `ringward-load`. Its report."""
    files = {"ca": "root.pem", "cert": "client-a.pem", "key": "client-a.key"}
    argv = [bench.bin("ringward-load"), "run", "--target", f"127.0.0.1:{bench.port}", "--server-name", "bench.local",
            "--path", "/api/v1/items", "--connections", "64", "--requests", str(requests), "--json"]
    for option, name in files.items():
        argv += [f"--{option}", str(bench.pki / name)]
    argv += ["--fresh-paths", str(fresh)] if fresh else []
    process = kit.spawn(argv, core, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, err = process.communicate(timeout=600)
    finally:
        kit.stop(process)
    if process.returncode:
        raise RuntimeError(f"ringward-load: {err.strip() or out.strip()}")
    return json.loads(out)


def measure(kit, adapter, pki, upstream, cache, hits, options):
    """CPU time in microseconds per request, over the fixed work of one run on a fresh process."""
    with tempfile.TemporaryDirectory(prefix="hit-rates-") as directory:
        bench = kit.Bench("ringward", pki, directory, upstream, True)
        text = config(adapter, bench, cache, options)
        adapter.command = lambda b: [b.bin("ringward"), "run", "-c", b.write("ringward.toml", text)]
        with kit.running(adapter, bench, options.proxy_core) as process:
            load(kit, bench, options.load_core, 0, 5000)
            before = sum(kit.cpu(process.pid))
            load(kit, bench, options.load_core, 100 - hits, options.requests)
            return (sum(kit.cpu(process.pid)) - before) / options.requests * 1e6


def config(adapter, bench, cache, options):
    text = adapter.config(bench)
    path = f'path = "{adapter.POLICY}"'
    assert path in text
    return text.replace(path, f'path = "{options.policy or adapter.POLICY}"\ncache = "{cache}"')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", type=pathlib.Path, help="directory of the policy, in place of policies/bench")
    parser.add_argument("--hits", default="100,90,50,0", help="hit rates in percent: %(default)s")
    parser.add_argument("--requests", type=int, default=100_000, help="of each run: %(default)s")
    parser.add_argument("--runs", type=int, default=3, help="of which the median counts: %(default)s")
    parser.add_argument("--proxy-core", type=int, default=0)
    parser.add_argument("--load-core", type=int, default=1)
    options = parser.parse_args()
    if not (place := os.environ.get("BENCH_KIT")):
        sys.exit("BENCH_KIT must name the directory of the side-by-side kit")
    kit = module("kit", pathlib.Path(place) / "run")
    adapter = module("ringward_adapter", HERE / "ringward.py")
    rates = [int(rate) for rate in options.hits.split(",")]
    with contextlib.ExitStack() as stack:
        work = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hit-rates-")))
        kit.make_pki(work / "pki")
        upstream = kit.loadgen("upstream", options, options.load_core, limit=24 * 3600)
        stack.callback(kit.stop, upstream)
        port = int(upstream.stdout.readline().split()[1])
        found = {}
        for run in range(options.runs):
            for hits in rates:
                for cache in ("auto", "off"):
                    used = measure(kit, adapter, work / "pki", port, cache, hits, options)
                    found.setdefault((hits, cache), []).append(used)
                    print(f"# run {run + 1}: {hits} % hits, cache {cache}: {used:.2f}", file=sys.stderr, flush=True)
    print("CPU µs per request, median (smallest to largest)")
    print(f"{'hits %':>8}{'with the cache':>26}{'without':>26}{'saved %':>10}")
    for hits in rates:
        cells, medians = [], []
        for cache in ("auto", "off"):
            values = found[hits, cache]
            medians.append(statistics.median(values))
            cells.append(f"{medians[-1]:.2f} ({min(values):.2f} to {max(values):.2f})")
        print(f"{hits:>8}{cells[0]:>26}{cells[1]:>26}{100 * (1 - medians[0] / medians[1]):>10.1f}")


if __name__ == "__main__":
    main()
