"""The last good copy of everything that is fetched, on disk: what a start uses while a source is away.

A copy is replaced whole or not at all, and only this user can read it. Whether it may be used is for whoever reads it:
its signature is verified anew each time.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import stat
from pathlib import Path

from mixer_py.policy.bundles.sources import Source


def keep(folder: Path, source: Source, content: Path, etag: str) -> None:
    """Makes this content the copy of a source.

    Args:
        folder: where copies are kept; made when it is not there.
        source: what it is a copy of.
        content: a file, which stays as it is.
        etag: by which its server knows it; empty for none.

    Raises:
        OSError: it could not be written; what was there before is there still.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    octets = content.read_bytes()
    about = {"source": source.name, "etag": etag, "sha256": hashlib.sha256(octets).hexdigest()}
    _replace(folder / source.key, octets)
    _replace(_about(folder, source), json.dumps(about).encode())


def find(folder: Path, source: Source) -> Path | None:
    """The copy of a source; None where there is none that this user, or root, has written."""
    path = folder / source.key
    try:
        found = path.lstat()
    except OSError:
        return None
    return path if stat.S_ISREG(found.st_mode) and found.st_uid in {os.geteuid(), 0} else None


def known(folder: Path, source: Source) -> tuple[str, str]:
    """The ETag and the hex sha256 of the copy that is there; both empty when they are not known for certain."""
    try:
        about = json.loads(_about(folder, source).read_bytes())
        digest = hashlib.sha256((folder / source.key).read_bytes()).hexdigest()
        return (str(about["etag"]), digest) if about["sha256"] == digest else ("", "")
    except (OSError, ValueError, KeyError, TypeError):
        return "", ""


def _about(folder: Path, source: Source) -> Path:
    return folder / f"{source.key}.about"


def _replace(path: Path, octets: bytes) -> None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(draft, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(octets)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)  # so that the new name outlives a loss of power
    finally:
        os.close(descriptor)
