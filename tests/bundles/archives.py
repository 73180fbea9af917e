"""Bundle archives and signatures as tests need them: made by hand, also wrong ones, and by a real OPA."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jwt

from mixer_py.errors import PolicyLoadError
from mixer_py.policy.bundles.bundle import Bundle
from mixer_py.policy.bundles.reading import Terms, read_bundles
from tests.parts.presence import find_server

MODULE = "package envoy.authz\n\nallow := true\n"


def tar(files: Iterable[tuple[str, bytes]], extra: Iterable[tarfile.TarInfo] = ()) -> bytes:
    """A tar archive, not packed."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for entry in extra:
            archive.addfile(entry)
    return buffer.getvalue()


def pack(path: Path, files: Mapping[str, str | bytes], extra: Iterable[tarfile.TarInfo] = ()) -> Path:
    """Writes a bundle archive."""
    named = [(name, text if isinstance(text, bytes) else text.encode()) for name, text in files.items()]
    path.write_bytes(gzip.compress(tar(named, extra), mtime=0))
    return path


def read(*paths: Path, **terms: Any) -> Bundle:
    """What is read of these bundles."""
    return read_bundles([str(path) for path in paths], Terms(**terms))


def faults(*paths: Path, **terms: Any) -> list[str]:
    """The faults of these bundles."""
    try:
        read(*paths, **terms)
    except PolicyLoadError as error:
        return [str(fault) for fault in error.faults]
    return []


def whole(bundle: Bundle) -> dict[str, Any]:
    """The whole base document."""
    return bundle.data_at([()])


def signatures(
    files: Mapping[str, str], key: Any, algorithm: str, *, hashing: str = "sha256", kid: str | None = "k", **claims: Any
) -> str:
    """A `.signatures.json` over files that are hashed as they stand."""
    names = {"md5": "MD5", "sha1": "SHA-1", "sha512_256": "SHA-512-256", "sha512_224": "SHA-512-224"}
    listed = [
        {
            "name": name,
            "hash": hashlib.new(hashing, text.encode()).hexdigest(),
            "algorithm": names.get(hashing, hashing.upper().replace("SHA", "SHA-")),
        }
        for name, text in files.items()
    ]
    header = {} if kid is None else {"kid": kid}
    token = jwt.encode({"files": listed, **claims}, key, algorithm, headers=header)
    return json.dumps({"signatures": [token]})


def opa(*arguments: str | Path, cwd: Path) -> None:
    """Runs a command of OPA."""
    program = find_server("opa")
    assert program is not None
    done = subprocess.run([program, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
