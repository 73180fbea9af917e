"""Go modules in the cache of Go's modules that carry what other projects' objects look like: schemas and protos.

`scripts/install-servers` downloads them; nothing of them is built.
"""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

_INSTALLER: Final = Path(__file__).resolve().parents[2] / "scripts" / "install-servers"
_DESCRIBING: Final = re.compile(r"^    (?P<path>[a-z0-9./-]+)@(?P<version>v[0-9.]+)$", re.MULTILINE)


@functools.cache
def describing_modules() -> dict[str, str]:
    """Versions of the modules of the list `describing_modules` in scripts/install-servers, by path."""
    versions = {
        found["path"]: found["version"] for found in _DESCRIBING.finditer(_INSTALLER.read_text(encoding="utf-8"))
    }
    assert versions, "scripts/install-servers has no list of describing modules"
    return versions


@functools.cache
def _cache() -> Path | None:
    go = shutil.which("go")
    if go is None:
        return None
    return Path(subprocess.run((go, "env", "GOMODCACHE"), check=True, capture_output=True, text=True).stdout.strip())


def module_folder(path: str) -> Path:
    """Where a module is."""
    cache = _cache()
    assert cache is not None, "Go is not installed"
    return cache / f"{path}@{describing_modules()[path]}"


def are_here() -> bool:
    """Whether all of them are in the cache."""
    return _cache() is not None and all(module_folder(path).is_dir() for path in describing_modules())
