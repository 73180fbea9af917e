"""Configuration files and variables: refused with every fault and its place, or settings that can be shown."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import yaml

from mixer_py.config.configuration import Configuration
from mixer_py.config.loading import load
from mixer_py.config.redaction import redacted
from mixer_py.errors import ConfigurationError
from tests.fuzz.target import CASES

SECRET = "hunter2-hunter2"


@cache
def folder() -> tempfile.TemporaryDirectory[str]:
    made = tempfile.TemporaryDirectory(prefix="mixer-fuzz-")
    Path(made.name, "empty.yaml").touch()
    return made


def check(data: bytes) -> None:
    file = Path(folder().name, "mixer.yaml")
    file.write_bytes(data)
    name, _, value = data.decode("utf-8", "ignore").partition("=")
    _load(file, {}, data.decode("utf-8", "ignore"))
    if name.isprintable() and "\0" not in value:
        _load(Path(folder().name, "empty.yaml"), {f"MIXER_{name.upper()}": value}, value)


def _load(file: Path, environment: dict[str, str], written: str) -> None:
    try:
        configuration = load(file, environment)
    except ConfigurationError as error:
        assert error.faults and all(str(fault) for fault in error.faults), "a refusal without a reason"
        return
    assert isinstance(configuration, Configuration)
    token = configuration.server.admin_token
    if written.count(SECRET) == 1 and token is not None and token.value == SECRET:
        assert SECRET not in repr(redacted(configuration)) + repr(configuration), "a secret is shown"


def seeds() -> Iterator[bytes]:
    yield b""
    yield yaml.safe_dump(Configuration().model_dump(mode="json")).encode()
    yield f"server: {{admin_token: {SECRET}, listeners: [{{address: 'unix:///x', services: [all]}}]}}\n".encode()
    yield b"SERVER__WORKERS=3"
    yield b"RATE_LIMIT__QUOTAS__0__LIMIT=5 / 1m"
    yield b"telemetry: {clickhouse: {url: 'clickhouse://u@h:9000/m', password: {file: /nowhere}}}\nlog: {level: debug}"
    yield b"a: &a [*a]\nb: !!python/object:os.system x\n? [1]\n: 2\n<<: {c: 1}\n"
    for file in sorted((CASES.parent / "config").rglob("*.yaml")):
        yield file.read_bytes()
