"""What a bundle's `.manifest` says: which part of `data` it owns, its revision, the version of Rego.

Source of the rules: OPA v1.22 bundle/bundle.go. Metadata is ignored.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import product
from typing import Any, Final

import orjson

from mixer_py.errors import Fault

FILE: Final = ".manifest"
REGO_VERSIONS: Final = frozenset({0, 1})
"""Those that are evaluated."""
_BRACES: Final = re.compile(r"\{([^{}]*)\}")
_MOST_ALTERNATIVES: Final = 64
_KNOWN: Final = {"revision": str, "roots": list, "rego_version": int, "file_rego_versions": dict}

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """One manifest.

    Attributes:
        roots: paths below `data` that the bundle owns; the empty path is everything.
        revision: as whoever built the bundle named it.
        rego_version: of all modules but those of `file_rego_versions`; None when it is not said.
        file_rego_versions: by patterns of their paths.
    """

    roots: tuple[Path, ...] = ((),)
    revision: str = ""
    rego_version: int | None = None
    file_rego_versions: Mapping[str, int] = field(default_factory=dict)

    def owns(self, path: Path) -> bool:
        """Whether a path lies within one of the roots."""
        return any(path[: len(root)] == root for root in self.roots)

    def leads_to_root(self, path: Path) -> bool:
        """Whether a path is above one of the roots."""
        return any(root[: len(path)] == path for root in self.roots)

    def overlaps(self, other: Manifest) -> Path | None:
        """A path that both own, if there is one."""
        for one in self.roots:
            for two in other.roots:
                if one[: len(two)] == two or two[: len(one)] == one:
                    return max(one, two, key=len)
        return None

    def version_of(self, name: str, default: int) -> int:
        """The version of Rego that a module is written in.

        Args:
            name: the module's path in the bundle, from its root and without a first `/`.
            default: the version where the manifest says none.
        """
        patterns = sorted(self.file_rego_versions)
        pattern = next((one for one in patterns if _matches(one, name)), None)
        version = self.rego_version if pattern is None else self.file_rego_versions[pattern]
        return default if version is None else version


def read_manifest(content: bytes, file: str) -> tuple[Manifest, list[Fault]]:
    """Read one manifest.

    Args:
        content: JSON.
        file: the path that people know.

    Returns:
        The manifest, which is worth nothing when there are faults.
    """
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        return Manifest(), [Fault(f"invalid JSON: {error.msg}", file, error.lineno)]
    if not isinstance(document, dict):
        return Manifest(), [Fault("a manifest must be an object", file)]
    faults = _wrong_kinds(document, file)
    if faults:
        return Manifest(), faults
    if document.get("wasm"):
        faults.append(_no_wasm(file))
    roots = document.get("roots")
    manifest = Manifest(
        tuple(_segments(root) for root in roots) if roots is not None else ((),),
        document.get("revision") or "",
        document.get("rego_version"),
        document.get("file_rego_versions") or {},
    )
    return manifest, faults + _overlapping(manifest.roots, file)


def _no_wasm(file: str) -> Fault:
    way_out = "build the bundle with `opa build --target rego`"
    return Fault("names policies in WebAssembly, which are not evaluated", file, field="wasm", way_out=way_out)


def _wrong_kinds(document: Mapping[str, Any], file: str) -> list[Fault]:
    faults = [
        Fault(f"is {document[name]!r}, which is no {kind.__name__}", file, field=name)
        for name, kind in _KNOWN.items()
        if document.get(name) is not None and (not isinstance(document[name], kind) or isinstance(document[name], bool))
    ]
    if not faults and not all(isinstance(root, str) for root in document.get("roots") or []):
        faults.append(Fault("must be a list of texts", file, field="roots"))
    return faults + _wrong_versions(document.get("file_rego_versions"), file)


def _wrong_versions(versions: object, file: str) -> list[Fault]:
    if not isinstance(versions, dict):
        return []
    field = "file_rego_versions"
    if not all(type(version) is int for version in versions.values()):
        return [Fault("must map patterns of paths to 0 or 1", file, field=field)]
    faults = []
    for pattern in versions:
        try:
            _alternatives(pattern)
        except ValueError as error:
            faults.append(Fault(str(error), file, field=field))
    return faults


def _segments(root: str) -> Path:
    trimmed = root.strip("/")
    return tuple(trimmed.split("/")) if trimmed else ()


def _overlapping(roots: tuple[Path, ...], file: str) -> list[Fault]:
    faults = []
    for index, one in enumerate(roots):
        for two in roots[index + 1 :]:
            if Manifest((one,)).overlaps(Manifest((two,))) is not None:
                message = f"the roots {'/'.join(one)!r} and {'/'.join(two)!r} overlap"
                faults.append(Fault(message, file, field="roots"))
    return faults


def _matches(pattern: str, name: str) -> bool:
    """Whether a module's path matches a glob; in OPA `*` crosses `/` there, because it is given no separators."""
    return any(fnmatchcase(path, plain) for plain in _alternatives(pattern) for path in (name, f"/{name}"))


def _alternatives(pattern: str) -> list[str]:
    """The patterns without braces that one with braces stands for.

    Raises:
        ValueError: there are too many of them.
    """
    parts = _BRACES.split(pattern)
    count = math.prod(len(options.split(",")) for options in parts[1::2])
    if count > _MOST_ALTERNATIVES:
        raise ValueError(f"the pattern {pattern!r} stands for too many others")
    choices = [part.split(",") if index % 2 else [part] for index, part in enumerate(parts)]
    return ["".join(choice) for choice in product(*choices)]
