"""Rego: a module is refused by file and line, or loads. Evaluations that stall are the supervisor's business."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from mixer_py.errors import PolicyLoadError
from mixer_py.policy.policy import Policy
from mixer_py.policy.settings import PolicySettings
from tests.fuzz.target import CASES


@cache
def place() -> tuple[tempfile.TemporaryDirectory[str], Path]:
    folder = tempfile.TemporaryDirectory(prefix="mixer-fuzz-")
    return folder, Path(folder.name, "policy.rego")


def check(data: bytes) -> None:
    _, path = place()
    path.write_bytes(data[1:])
    version = "v0" if data[:1] == b"0" else "v1"
    try:
        policy = Policy.load(PolicySettings(bundles=(str(path),), rego_version=version, cache={"entries": 0}))
    except PolicyLoadError as error:
        assert error.faults and all(str(fault) for fault in error.faults), "a refusal without a reason"
        return
    assert policy.describe()["modules"] == [str(path)]


def seeds() -> Iterator[bytes]:
    for file in sorted(CASES.glob("ext_authz/*/policy.rego"))[::8]:
        yield b"1" + file.read_bytes()
    for file in sorted((CASES.parents[1] / "policies").rglob("*.rego")):
        yield b"1" + file.read_bytes()
    yield (
        b"0package envoy.authz\n\nimport input.attributes.request.http as http\n\n"
        b'default allow = false\n\nallow { http.method == "GET" }\n'
    )
    yield b"1package a\n\nf(x) := g(x)\n\ng(x) := f(x)\n\nallow if f(1)\n"
