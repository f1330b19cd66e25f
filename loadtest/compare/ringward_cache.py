"""Ringward with its clients' sessions in the cache that all workers share: `ringward.py` in all else."""
import importlib.util
import pathlib

BASE = pathlib.Path(__file__).resolve().with_name("ringward.py")
SPEC = importlib.util.spec_from_file_location("ringward_adapter", BASE)
ringward = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(ringward)

VERSION, CASES = ringward.VERSION, ringward.CASES


def command(b):
    return [b.bin("ringward"), "run", "-c", b.write("ringward.toml", ringward.config(b, resumption="cache"))]
