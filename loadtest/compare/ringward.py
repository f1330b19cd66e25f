"""Ringward: one worker, access log off, no metrics, session tickets; the policy is the Rego of `policies/bench`.

Adapter of the side-by-side kit, which finds it through BENCH_ADAPTERS. The program comes from
RINGWARD_BIN or PATH.
"""
import pathlib

VERSION = ["ringward", "--version"]
CASES = ["idle", "keepalive", "policy", "h2", "handshake-full", "handshake-resumed", "download", "upload"]

POLICY = pathlib.Path(__file__).resolve().parents[2] / "policies" / "bench"

CONFIG = """\
[server]
workers = 1

{admin}[log]
access = {access}
level = "error"

[trust.bench]
ca = "{pki}/root.pem"
{policy}
[cluster.up]
endpoints = "127.0.0.1:{upstream}"
idle_timeout = "10m"
pool_idle_max = 1024

[[listener]]
name = "bench"
bind = "127.0.0.1:{port}"
resumption = "{resumption}"
http2 = true

[listener.limits]
connections_max = 16000
body_bytes_max = "unlimited"
idle_timeout = "10m"

[[listener.host]]
names = "bench.local"
certificate = {{ chain = "{pki}/server.pem", key = "{pki}/server.key" }}
client_auth = {{ mode = "required", trust = "bench" }}
{decides}

[[listener.host.route]]
id = "all"
match = {{ path = "/{{rest...}}" }}
cluster = "up"
"""


def config(b, access='"off"', admin="", resumption="tickets"):
    """The configuration file's text; `access` is the value of `log.access`, `admin` a whole section."""
    policy = f'\n[policy.main]\npath = "{POLICY}"\n' if b.policy else ""
    decides = 'policy = "main"' if b.policy else "danger_no_policy = true"
    return CONFIG.format(admin=admin, access=access, pki=b.pki, policy=policy, upstream=b.upstream,
                         port=b.port, resumption=resumption, decides=decides)


def command(b):
    return [b.bin("ringward"), "run", "-c", b.write("ringward.toml", config(b))]
