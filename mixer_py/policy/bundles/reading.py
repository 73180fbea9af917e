"""Find and read the files of bundles: Rego modules, and data documents rooted by their folder as OPA roots them.

Reads local folders and files; it neither compiles nor evaluates. In a folder, names that start with a dot are
skipped (which also skips the `..data` link of a mounted ConfigMap, whose files are linked beside it), a file that is
reached twice is read once, and `*_test.rego` files are left out: they are what `mixer test` runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
import yaml

from mixer_py.errors import Fault, PolicyLoadError

_DATA_SUFFIXES = frozenset({".json", ".yaml", ".yml"})


@dataclass(frozen=True, slots=True)
class Module:
    """A Rego module: the path a person knows it by, and its text."""

    file: str
    text: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """Everything that bundles hold.

    Attributes:
        modules: in order of their paths.
        data: the base document, one merged object.
        data_files: paths of the data documents, in order.
        digest: hex sha256 over the content, independent of where the files are.
    """

    modules: tuple[Module, ...]
    data: dict[str, object]
    data_files: tuple[str, ...]
    digest: str


def read_bundles(bundles: Sequence[str]) -> Bundle:
    """Read all bundles and merge them.

    Raises:
        PolicyLoadError: with every fault found: missing or unreadable files, folders without policies, documents that
            are no objects or contradict one another.
    """
    reader = _Reader()
    for bundle in bundles:
        reader.add(Path(bundle))
    if reader.faults:
        raise PolicyLoadError(reader.faults)
    return reader.bundle()


class _Reader:
    """Collects modules and data while it walks bundles."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self._modules: dict[str, tuple[str, str]] = {}
        self._data: dict[str, object] = {}
        self._data_files: list[str] = []
        self._sources: dict[tuple[str, ...], str] = {}
        self._contents: list[bytes] = []
        self._seen: set[Path] = set()

    def add(self, path: Path) -> None:
        """Read one bundle: a folder or a file."""
        if path.is_dir():
            found = 0
            for file in _walk(path):
                found += self._read(file, file.parent.relative_to(path).parts)
            if not found:
                self.faults.append(Fault("the folder holds no .rego, .json or .yaml file", str(path)))
        elif path.is_file():
            if path.suffix != ".rego" and path.suffix not in _DATA_SUFFIXES:
                self.faults.append(Fault("is neither a folder nor a .rego, .json or .yaml file", str(path)))
            else:
                self._read(path, ())
        else:
            self.faults.append(Fault("does not exist", str(path), way_out="name a folder or file under policy.bundles"))

    def bundle(self) -> Bundle:
        """What was read."""
        modules = tuple(Module(file, text) for file, text in sorted(self._modules.values()))
        digest = hashlib.sha256(b"\0".join(sorted(self._contents))).hexdigest()
        return Bundle(modules, self._data, tuple(sorted(self._data_files)), digest)

    def _read(self, path: Path, root: tuple[str, ...]) -> bool:
        """Read one file; whether it is one of ours."""
        is_module = path.suffix == ".rego"
        if not is_module and path.suffix not in _DATA_SUFFIXES:
            return False
        try:
            resolved = path.resolve(strict=True)
            if resolved in self._seen:
                return True
            content = path.read_bytes()
            text = content.decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            self.faults.append(Fault(f"cannot be read: {error}", str(path)))
            return True
        self._seen.add(resolved)
        if is_module:
            self._modules[str(resolved)] = (str(path), text)
            self._contents.append(b"module\0" + content)
        else:
            self._read_data(path, text, root)
            self._contents.append(b"data\0" + "/".join(root).encode() + b"\0" + content)
        return True

    def _read_data(self, path: Path, text: str, root: tuple[str, ...]) -> None:
        try:
            document = orjson.loads(text) if path.suffix == ".json" else yaml.load(text, _Loader)  # noqa: S506 (safe)
        except orjson.JSONDecodeError as error:
            self.faults.append(Fault(f"invalid JSON: {error.msg}", str(path), error.lineno))
            return
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = mark.line + 1 if mark is not None else 0
            self.faults.append(Fault(f"invalid YAML: {getattr(error, 'problem', error)}", str(path), line))
            return
        if document is None and not text.strip():
            document = {}
        if not isinstance(document, dict):
            self.faults.append(Fault("a data document must be an object", str(path)))
            return
        self._data_files.append(str(path))
        for part in reversed(root):
            document = {part: document}
        self._merge(self._data, document, (), str(path))

    def _merge(self, into: dict[str, object], document: dict[str, object], where: tuple[str, ...], file: str) -> None:
        """Merge objects key by key; anything else that is given twice is a fault, as in OPA."""
        for key, value in document.items():
            path = (*where, str(key))
            if key not in into:
                into[key] = value
                self._sources[path] = file
                continue
            there = into[key]
            if isinstance(there, dict) and isinstance(value, dict):
                self._merge(there, value, path, file)
                continue
            dotted = ".".join(path)
            self.faults.append(Fault(f"data.{dotted} is also set by {self._source(path)}", file))

    def _source(self, path: tuple[str, ...]) -> str:
        while path and path not in self._sources:
            path = path[:-1]
        return self._sources.get(path, "another document")


def _walk(folder: Path) -> Iterator[Path]:
    """Files of a bundle folder in order; hidden names, tests and the manifest left out; linked folders are entered."""
    pending, entered = [folder], {folder.resolve()}
    while pending:
        current = pending.pop()
        for path in sorted(current.iterdir()):
            if path.name.startswith("."):
                continue
            if path.is_dir():
                resolved = path.resolve()
                if resolved not in entered:
                    entered.add(resolved)
                    pending.append(path)
            elif path.is_file() and not path.name.endswith("_test.rego"):
                yield path


class _Loader(yaml.SafeLoader):
    """YAML with JSON's types: a date stays text, as in OPA."""


_Loader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
