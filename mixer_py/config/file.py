"""A YAML file (or one YAML value) as a tree whose every value knows its file and line.

YAML 1.2's core types only: `true`, `false`, numbers, `null` and text; so `no`, `1:30` and `2026-01-01` are text, as
they look. Not for: which keys exist.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

import yaml

from mixer_py.config.tree import Node, Place, Scalar
from mixer_py.errors import ConfigurationError, Fault

_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"
_MAX_NODES = 100_000  # aliases multiply; a configuration never needs as many values
_TRUE = frozenset({"true", "True", "TRUE"})


class _Loader(yaml.SafeLoader):
    """PyYAML's composer with the implicit types of YAML 1.2 instead of 1.1."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}  # type: ignore[misc]


for _name, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
     "-+.0123456789"),
    ("merge", r"<<", "<"),
):  # fmt: skip
    _Loader.add_implicit_resolver(
        f"{_TAG}{_name}", re.compile(rf"^(?:{_pattern})$"), [*_first] + ([""] if _name == "null" else [])
    )


def read_file(path: Path) -> tuple[Node, list[Fault]]:
    """The tree of a configuration file, with faults for what was left out of it (such as duplicate keys).

    Raises:
        ConfigurationError: the file cannot be read, or is no YAML mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigurationError([Fault("there is no such file", str(path), way_out="name one with -c")]) from None
    except OSError as error:
        raise ConfigurationError([Fault(f"cannot be read: {error.strerror or error}", str(path))]) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigurationError([Fault("is not UTF-8 text", str(path), line)]) from None
    return read_text(text, Place(str(path), 1, path.absolute().parent))


def read_text(text: str, place: Place) -> tuple[Node, list[Fault]]:
    """The tree of one YAML document that must be a mapping; an empty one is an empty mapping.

    Raises:
        ConfigurationError: it is no YAML, or no mapping.
    """
    faults: list[Fault] = []
    node = parse(text, place, faults)
    if node.value is None:
        return Node({}, place), faults
    if not isinstance(node.value, dict):
        raise ConfigurationError([Fault("is not a mapping of keys to values", place.file, node.place.line)])
    return node, faults


def parse(text: str, place: Place, faults: list[Fault]) -> Node:
    """The tree of any one YAML value; `place` is where its first line stands.

    Raises:
        ConfigurationError: it is no YAML.
    """
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 0
        message = " ".join(part for part in (error.context, error.problem) if part)
        begin = error.context_mark.line + 1 if error.context_mark is not None else line
        way_out = f"what is not complete there begins on line {begin}" if begin != line else ""
        fault = Fault(f"is not YAML: {message}", place.file, line if place.line else 0, way_out=way_out)
        raise ConfigurationError([fault]) from None
    except yaml.YAMLError as error:  # a character that YAML forbids
        reason = " ".join(str(error).split())
        raise ConfigurationError([Fault(f"is not YAML: {reason}", place.file)]) from None
    except RecursionError:
        raise ConfigurationError([Fault("is nested too deeply", place.file)]) from None
    return Node(None, place) if root is None else _Builder(place, faults).build(root, root.start_mark.line)


class _Builder:
    """Turns PyYAML's nodes into ours."""

    def __init__(self, place: Place, faults: list[Fault]) -> None:
        self._place = place
        self._faults = faults
        self._open: set[int] = set()
        self._count = 0

    def build(self, node: yaml.Node, line: int) -> Node:
        """The tree under `node`, whose key (or itself) stands on the 0-based `line`."""
        place = self._at(line)
        self._count += 1
        if self._count > _MAX_NODES:
            self._stop("has more values than a configuration may have; its aliases multiply", place)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, place)
        if id(node) in self._open:
            self._stop("refers to itself", place)
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                self._expect_tag(node, "map", place)
                return Node(self._mapping(node), place)
            self._expect_tag(node, "seq", place)
            return Node([self.build(item, item.start_mark.line) for item in node.value], place)
        finally:
            self._open.discard(id(node))

    def _at(self, line: int) -> Place:
        origin = self._place
        return Place(origin.file, origin.line + line if origin.line else 0, origin.base, origin.name)

    def _fault(self, message: str, place: Place, way_out: str = "") -> None:
        self._faults.append(Fault(message, place.file, place.line, place.name, way_out))

    def _stop(self, message: str, place: Place) -> None:
        raise ConfigurationError([*self._faults, Fault(message, place.file, place.line, place.name)])

    def _expect_tag(self, node: yaml.Node, kind: str, place: Place) -> None:
        if node.tag != f"{_TAG}{kind}":
            self._fault(f"the tag {node.tag} is not understood", place, "leave the tag out")

    def _mapping(self, node: yaml.MappingNode) -> dict[str, Node]:
        members: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        for key, value in node.value:
            place = self._at(key.start_mark.line)
            if key.tag == _MERGE:
                self._merge(value, merged, place)
            elif not isinstance(key, yaml.ScalarNode):
                self._fault("a key must be text", place)
            elif key.value in members:
                first = members[key.value].place.line
                self._fault(
                    f"the key {key.value!r} stands here a second time", place, f"it stands first on line {first}"
                )
            else:
                members[key.value] = self.build(value, key.start_mark.line)
        return {**merged, **members}

    def _merge(self, value: yaml.Node, merged: dict[str, Node], place: Place) -> None:
        sources = value.value if isinstance(value, yaml.SequenceNode) else [value]
        for source in sources:
            if not isinstance(source, yaml.MappingNode):
                self._fault("<< takes a mapping or a list of mappings", place)
                continue
            for name, node in (self.build(source, source.start_mark.line).value or {}).items():  # type: ignore[union-attr]
                merged.setdefault(name, node)

    def _scalar(self, node: yaml.ScalarNode, place: Place) -> Node:
        kind = node.tag.removeprefix(_TAG)
        try:
            value = _scalar_value(kind, node.value)
        except ValueError:
            self._fault(f"{node.value!r} is no {kind}", place)
            value = None
        except KeyError:
            self._fault(f"the tag {node.tag} is not understood", place, "leave the tag out")
            value = None
        return Node(value, place, node.value)


def _scalar_value(kind: str, text: str) -> Scalar:
    """The value of `text` as YAML's core type `kind`.

    Raises:
        ValueError: the text is none of that type.
        KeyError: there is no such core type.
    """
    match kind:
        case "str" | "merge":
            return text
        case "null":
            return None
        case "bool":
            return text in _TRUE
        case "int":
            return int(text, 0) if text.startswith(("0o", "0x")) else int(text)
        case "float":
            lowered = text.lower()
            return float(lowered.replace(".inf", "inf").replace(".nan", "nan"))
        case _:
            raise KeyError(kind)
