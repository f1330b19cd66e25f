#!/usr/bin/env python3
"""Asks OPA itself for the answers to the cases in `cases/` and writes them to `answers.json`.

The test `differential` of this crate compares Ringward with these answers. Run this script when cases change:

    python3 -m venv target/opa
    target/opa/bin/pip install opa-golib-python-bindings==0.4.4
    target/opa/bin/python crates/policy/tests/opa/generate.py

The package holds OPA as a shared library, called through ctypes. It declares a newer Python than it needs; with an older
one, pip takes it with `--no-deps --ignore-requires-python`. Errors of builtins end an evaluation there, as in Ringward.

A file of cases is Rego in sections. A line `### name` begins a case, `# input {...}` and `# data {...}` give its
documents in JSON, `# shape NAME` the shape of the input for Ringward; everything else is the text of `package p`, up to a line that begins another package. A case asks for
`data.p.value` if it has lines that begin with `value`, else for `data.p.allow`.

An answer is one of `{"value": ...}`, `"undefined"`, `"error"` (the evaluation failed) and `"refused"` (OPA did not load
it), with the SHA-256 of the case's text, so that no answer outlives its question.
"""

import hashlib
import json
import pathlib
import re

import opa_bindings
from opa_bindings import OpaEngine, OpaError, OpaUndefinedError

HERE = pathlib.Path(__file__).parent


def cases():
    """Name and text of every case, in order."""
    for path in sorted((HERE / "cases").glob("*.cases")):
        for section in path.read_text().split("### ")[1:]:
            name, text = section.split("\n", 1)
            yield f"{path.stem}/{name.strip()}", text.strip()


def document(text, kind):
    """The JSON document of the case, `{}` if it has none."""
    found = re.search(rf"^# {kind} (.*)$", text, re.MULTILINE)
    return json.loads(found.group(1)) if found else {}


def modules(text):
    """The modules of a case: `package p` and what follows a `package` line."""
    return re.split(r"^(?=package )", "package p\n" + text, flags=re.MULTILINE)[1:]


def answer(text):
    rule = "p.value" if re.search(r"^value", text, re.MULTILINE) else "p.allow"
    with OpaEngine() as engine:
        try:
            for index, module in enumerate(modules(text)):
                engine.add_policy(f"{index}.rego", module)
            engine.add_data(document(text, "data"))
            return {"answer": {"value": engine.eval_document(rule, document(text, "input"))}}
        except OpaUndefinedError:
            return {"answer": "undefined"}
        except OpaError as error:
            kind = "refused" if error.code in ("parse_error", "prepare_error") else "error"
            message = re.sub(r"\s+", " ", error.message)
            return {"answer": kind, "message": message[:160]}


def version():
    """OPA's version, from the list of modules that Go puts into what it builds."""
    library = pathlib.Path(opa_bindings.__file__).parent / "libopabridge.so"
    found = re.search(rb"dep\tgithub.com/open-policy-agent/opa\tv([0-9.]+)", library.read_bytes())
    return found.group(1).decode()


def main():
    answers = {}
    for name, text in cases():
        assert name not in answers, f"{name} occurs twice"
        answers[name] = answer(text) | {"sha256": hashlib.sha256(text.encode()).hexdigest()}
    lines = [f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in answers.items()]
    body = ",\n".join(lines)
    (HERE / "answers.json").write_text(f'{{"opa": "{version()}", "answers": {{\n{body}\n}}}}\n')
    print(f"{len(answers)} answers")


if __name__ == "__main__":
    main()
