"""Finds and reads the files that `rate_limit.config` names. Not for: what stands in them (`parsing.py`)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from mixer_py.errors import Fault

_SUFFIXES = frozenset({".yaml", ".yml"})


def _in_folder(folder: Path) -> Iterator[Path]:
    """The YAML files of a folder, sorted, at any depth.

    Names with a leading dot are left out: Kubernetes mounts a ConfigMap as `..data` and `..<time>` folders with links
    to their files beside them, and only the links are meant.
    """
    for parent, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in _SUFFIXES:
                yield Path(parent, name)


def _raise(error: OSError) -> None:
    raise error


def read(paths: Sequence[str]) -> tuple[list[tuple[str, bytes]], list[Fault]]:
    """Reads files and folders in the order they are named; a file that is reached twice is read once.

    Args:
        paths: files of any name, and folders.

    Returns:
        Path and content of each file, and a fault for each path that gives none.
    """
    contents: dict[Path, tuple[str, bytes]] = {}
    faults: list[Fault] = []
    for path in map(Path, paths):
        try:
            files = list(_in_folder(path)) if path.is_dir() else [path]
            if not files:
                faults.append(Fault("the folder holds no .yaml or .yml file", str(path), field="rate_limit.config"))
            for file in files:
                place = file.resolve()
                if place not in contents:
                    contents[place] = (str(file), file.read_bytes())
        except OSError as error:
            where = str(error.filename or path)
            faults.append(Fault(f"cannot be read: {error.strerror}", where, field="rate_limit.config"))
    return list(contents.values()), faults
