"""CEL's Go module in the cache of Go's modules: it carries CEL's conformance cases."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

_INSTALLER: Final = Path(__file__).resolve().parents[2] / "scripts" / "install-servers"
_VERSION: Final = re.compile(r"^cel_version=(?P<version>v[0-9.]+)$", re.MULTILINE)


@functools.cache
def find_cel_module() -> Path | None:
    """The module's folder; None where it is not."""
    go = shutil.which("go")
    if go is None:
        return None
    cache = subprocess.run((go, "env", "GOMODCACHE"), check=True, capture_output=True, text=True).stdout.strip()
    version = _VERSION.search(_INSTALLER.read_text(encoding="utf-8"))
    assert version is not None
    folder = Path(cache) / f"cel.dev/expr@{version['version']}"
    return folder if folder.is_dir() else None
