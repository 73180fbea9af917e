"""Bundle archives: refused, or read within their limits; none of what is changed holds under a signature."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import orjson

from mixer_py.errors import PolicyLoadError
from mixer_py.policy.bundles.bundle import Bundle
from mixer_py.policy.bundles.reading import Terms, read_bundles
from mixer_py.policy.bundles.settings import BundleLimits
from mixer_py.policy.bundles.signatures import Key
from tests.bundles.archives import MODULE, signatures, tar
from tests.fuzz.target import joined, split

SECRET = "a secret that is long enough for every HMAC that there is, which is 64 octets"
SIGNED = {"p.rego": MODULE, "roles/data.json": '{"admins":["ann"],"n":1}', ".manifest": '{"revision":"7"}'}
KEYS = {"k": Key("HS256", SECRET, "")}
LIMITS = BundleLimits(archive=1 << 20, unpacked=1 << 20, entries=100)


@cache
def place() -> tuple[tempfile.TemporaryDirectory[str], Path]:
    folder = tempfile.TemporaryDirectory(prefix="mixer-fuzz-")
    return folder, Path(folder.name, "bundle.tar.gz")


def check(data: bytes) -> None:
    kind, rest = data[:1], data[1:]
    if kind == b"z":
        _read(rest)
    elif kind == b"t":
        _read(gzip.compress(rest, 1, mtime=0))
    else:
        parts = split(rest)
        files = [
            (name.decode("utf-8", "ignore")[:90], content)
            for name, content in zip(parts[::2], parts[1::2], strict=False)
        ]
        archive = gzip.compress(tar(files), 1, mtime=0)
        _read(archive)
        signed = _read(archive, KEYS)
        if signed is not None:
            assert _content(signed) == _content(genuine()), "something else than what was signed was taken"


def _read(archive: bytes, keys: dict[str, Key] | None = None) -> Bundle | None:
    _, path = place()
    path.write_bytes(archive)
    try:
        bundle = read_bundles([str(path)], Terms(keys=keys or {}, limits=LIMITS))
        bundle.data_at([()])
    except PolicyLoadError as error:
        assert error.faults and all(str(fault) for fault in error.faults), "a refusal without a reason"
        return None
    for module in bundle.modules:
        assert ".." not in module.file.removeprefix(str(path)).split("/"), "a file outside of the bundle"
    return bundle


def _content(bundle: Bundle) -> object:
    return [module.text for module in bundle.modules], bundle.data_at([()]), dict(bundle.revisions)


@cache
def genuine() -> Bundle:
    bundle = _read(gzip.compress(tar(_signed()), 1, mtime=0), KEYS)
    assert bundle is not None
    return bundle


def _signed() -> list[tuple[str, bytes]]:
    token = signatures(SIGNED, SECRET, "HS256")
    return [(name, text.encode()) for name, text in {**SIGNED, ".signatures.json": token}.items()]


def _parts(files: list[tuple[str, bytes]]) -> bytes:
    return b"f" + joined(part for name, content in files for part in (name.encode(), content))


def seeds() -> Iterator[bytes]:
    signed = _signed()
    yield _parts(signed)
    yield _parts([*signed, ("extra.rego", b"package x\n")])
    yield b"t" + tar(signed)
    yield b"z" + gzip.compress(tar(signed), mtime=0)
    other = [
        ("a/data.yaml", b"x: &a [1, 1e400, *a]\n"),
        ("b/data.json", b'{"a": 1, "a": 2}'),
        ("p.rego", b"package a.b"),
    ]
    yield _parts([*other, (".manifest", orjson.dumps({"roots": ["a"], "rego_version": 0, "metadata": {}}))])
    yield _parts(
        [("/../x.rego", b"package x"), ("./data.json", b"[]"), ("plan.wasm", b"\0asm"), ("é/data.json", b"{}")]
    )
