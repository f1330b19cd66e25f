"""Ringward as it runs in production: `ringward.py` with the access log in a file and metrics on."""
import importlib.util
import pathlib
import socket

BASE = pathlib.Path(__file__).resolve().with_name("ringward.py")
SPEC = importlib.util.spec_from_file_location("ringward_adapter", BASE)
ringward = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(ringward)

VERSION, CASES = ringward.VERSION, ringward.CASES


def command(b):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        metrics = s.getsockname()[1]
    text = ringward.config(b, access=f'{{ file = "{b.dir}/access.json" }}',
                           admin=f'[admin]\nmetrics = "127.0.0.1:{metrics}"\n\n')
    return [b.bin("ringward"), "run", "-c", b.write("ringward.toml", text)]
