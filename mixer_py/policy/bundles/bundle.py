"""What bundles hold once they are read: modules, data documents, and what their manifests say. Reads nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mixer_py.policy.bundles.documents import parse_json

Path = tuple[str, ...]
"""Where something is below `data`, segment by segment."""


@dataclass(frozen=True, slots=True)
class Module:
    """A Rego module: the path a person knows it by, and its text."""

    file: str
    text: str


@dataclass(frozen=True, slots=True)
class Document:
    """One data document, kept as text: text is loaded as it is, and keeps its numbers exact.

    Attributes:
        text: JSON, an object that begins at `data` itself.
        root: where its content begins below `data`.
        keys: what its content holds there at the first level; None for too many to tell.
    """

    text: bytes
    root: Path
    keys: frozenset[str] | None

    def may_reach(self, path: Path) -> bool:
        """Whether it can hold something at `path`, above it or below it."""
        common = min(len(path), len(self.root))
        if path[:common] != self.root[:common]:
            return False
        return len(path) <= len(self.root) or self.keys is None or path[len(self.root)] in self.keys


@dataclass(frozen=True, slots=True)
class Bundle:
    """Everything that bundles hold. The base document is `data` and all `documents` together.

    Attributes:
        modules: in order of their paths.
        data: a base document as values; empty when it was read, because then it is text in `documents`.
        data_files: paths of the data documents, in order.
        digest: hex sha256 over the content, independent of where the files are.
        documents: base documents as JSON text, which do not contradict one another.
        revisions: the revision that each archive's manifest tells, by the archive's name.
        missing: sources that were never fetched, so that nothing can be decided.
        proto_descriptor: content of the FileDescriptorSet by which gRPC bodies are parsed; empty without one.
    """

    modules: tuple[Module, ...]
    data: Mapping[str, Any]
    data_files: tuple[str, ...]
    digest: str
    documents: tuple[Document, ...] = ()
    revisions: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    proto_descriptor: bytes = b""

    def data_at(self, paths: Iterable[Path]) -> dict[str, Any]:
        """The base document, as far as it can hold something at these paths; the rest may be left out.

        Args:
            paths: the empty path stands for everything.
        """
        wanted = list(paths)
        found: dict[str, Any] = dict(self.data)
        for document in self.documents:
            if any(document.may_reach(path) for path in wanted):
                _merge(found, parse_json(document.text))
        return found


def _merge(into: dict[str, Any], document: Mapping[str, Any]) -> None:
    """Adds a document that contradicts nothing."""
    for key, value in document.items():
        there = into.get(key)
        if isinstance(there, Mapping) and isinstance(value, Mapping):
            merged = dict(there)
            _merge(merged, value)
            into[key] = merged
        else:
            into[key] = value
