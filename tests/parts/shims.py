"""Libraries of C that stand between a program and the system."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


def compiled(source: Path, work: Path) -> Path:
    """The library of a source file, for `LD_PRELOAD`; needs gcc.

    Args:
        source: the C file.
        work: a folder in which the library is made.
    """
    library = work / f"{source.stem}.so"
    compiler = shutil.which("gcc")
    assert compiler is not None
    command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return library
