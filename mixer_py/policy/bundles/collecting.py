"""Collect the modules and documents of all bundles into one, and find what contradicts. Reads no file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import orjson

from mixer_py.errors import Fault, PolicyLoadError
from mixer_py.policy.bundles.bundle import Bundle, Document, Module, Path
from mixer_py.policy.rego.nesting import check_nesting
from mixer_py.policy.rego.version_zero import as_version_one

_MOST_KEYS: Final = 1000
"""Keys of a document that are remembered apart from its text."""


class Collector:
    """Takes what bundles hold, one file after another.

    Attributes:
        faults: whatever was found to be wrong so far; who reads the files adds to it.
    """

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.revisions: dict[str, str] = {}
        self.missing: list[str] = []
        self._modules: dict[str, Module] = {}
        self._documents: list[Document] = []
        self._data: dict[str, Any] = {}
        self._data_files: list[str] = []
        self._sources: dict[Path, str] = {}
        self._digests: list[bytes] = []

    def add_module(self, identity: str, file: str, content: bytes, rego_version: int = 1) -> None:
        """Takes a Rego module.

        Args:
            identity: what tells it from all others, and orders it.
            file: the path that people know.
            content: UTF-8.
            rego_version: in which it is written; one in v0 is taken as v1, see `rego.version_zero`.
        """
        try:
            text = content.decode("utf-8")
            check_nesting(text, file)
            self._modules[identity] = Module(file, text if rego_version else as_version_one(text, file))
        except UnicodeDecodeError as error:
            self.faults.append(Fault(f"cannot be read: {error}", file))
        except PolicyLoadError as error:
            self.faults.extend(error.faults)
        else:
            self._note(b"module" if rego_version else b"module in v0", (), content)

    def add_document(self, value: Any, text: bytes, root: Path, file: str) -> None:  # noqa: ANN401 (JSON)
        """Takes a data document.

        Args:
            value: what it holds.
            text: the same as JSON.
            root: where it begins below `data`.
            file: the path that people know.
        """
        if not root and not isinstance(value, dict):
            self.faults.append(Fault("a data document must be an object", file))
            return
        self._data_files.append(file)
        keys = frozenset(value) if isinstance(value, dict) and len(value) <= _MOST_KEYS else None
        whole = text
        if root:
            before = b"".join(b"{" + orjson.dumps(part) + b":" for part in root)
            whole = b"".join((before, text, b"}" * len(root)))
        self._documents.append(Document(whole, root, keys))
        self._note(b"data", root, text)
        for part in reversed(root):
            value = {part: value}
        self._merge(self._data, value, (), file)

    def bundle(self) -> Bundle:
        """What was collected."""
        modules = tuple(module for _, module in sorted(self._modules.items()))
        for kind, named in (("revision", self.revisions.items()), ("missing", ((name, "") for name in self.missing))):
            self._digests += [hashlib.sha256(f"{kind}\0{name}\0{text}".encode()).digest() for name, text in named]
        digest = hashlib.sha256(b"".join(sorted(self._digests))).hexdigest()
        return Bundle(
            modules, {}, tuple(sorted(self._data_files)), digest, tuple(self._documents), self.revisions,
            tuple(self.missing),
        )  # fmt: skip

    def _note(self, kind: bytes, root: Path, content: bytes) -> None:
        noted = hashlib.sha256(b"\0".join((kind, "/".join(root).encode(), b"")))
        noted.update(content)
        self._digests.append(noted.digest())

    def _merge(self, into: dict[str, Any], document: Mapping[str, Any], where: Path, file: str) -> None:
        """Merge objects key by key; anything else that is given twice is a fault, as in OPA."""
        for key, value in document.items():
            path = (*where, key)
            if key not in into:
                into[key] = value
                self._sources[path] = file
                continue
            there = into[key]
            if isinstance(there, dict) and isinstance(value, dict):
                self._merge(there, value, path, file)
                continue
            self.faults.append(Fault(f"data.{'.'.join(path)} is also set by {self._source(path)}", file))

    def _source(self, path: Path) -> str:
        while path and path not in self._sources:
            path = path[:-1]
        return self._sources.get(path, "another document")
