"""YAML that remembers its lines: mappings, lists and scalars read node by node, each fault with its place.

It reads scalars as Go's yaml.v2 does where envoyproxy/ratelimit relies on it (a number is good for a text, a text is
not good for a number). Not for: what the keys of a rate-limit file mean (`parsing.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import yaml

from mixer_py.errors import Fault

_LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's, where PyYAML was built with it
_TAG = "tag:yaml.org,2002:"
_TEXT_TAGS = frozenset({_TAG + name for name in ("str", "int", "bool", "null", "timestamp")})
_MAX_UINT32 = 2**32 - 1
_MAX_FAULTS = 1000
_MAX_DEPTH = 500
"""Nested nodes; libyaml's composer calls itself for each, and the process would end when its stack does."""

_MAX_JSON_DEPTH = 16
"""Nested values: each is three messages in a `google.protobuf.Struct`, and parsers stop at a hundred."""

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
"""A value fit for JSON."""

Fields = dict[str, tuple[yaml.Node, yaml.Node]]
"""The key node and value node of each key of a mapping."""


def kind(node: yaml.Node) -> str:
    """What a node is, as a fault says it."""
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return f"{node.tag.rpartition(':')[2]} {node.value!r}"


def is_null(node: yaml.Node) -> bool:
    """Whether the node is there but holds nothing."""
    return bool(node.tag == _TAG + "null")


def _line_too_deep(content: bytes) -> int:
    """The line where nodes are nested deeper than _MAX_DEPTH; 0 when they never are."""
    depth = 0
    for event in yaml.parse(content, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _MAX_DEPTH:
                return event.start_mark.line + 1 if event.start_mark is not None else 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return 0


class YamlTree:
    """One file's nodes, and the faults found while they are read."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.faults: list[Fault] = []

    def fault(self, node: yaml.Node | None, field: str, message: str, way_out: str = "") -> None:
        """Notes what is wrong at a node."""
        line = node.start_mark.line + 1 if node is not None else 1
        if len(self.faults) < _MAX_FAULTS:
            self.faults.append(Fault(message, self.file, line, field, way_out))
        elif len(self.faults) == _MAX_FAULTS:
            self.faults.append(Fault(f"there are more than {_MAX_FAULTS} faults in this file", self.file, line))

    def compose(self, content: bytes) -> yaml.Node | None:
        """The root node; None for an empty document, or with a fault when this is no YAML."""
        try:
            line = _line_too_deep(content)
            if line:
                self.faults.append(Fault(f"it is nested deeper than {_MAX_DEPTH} levels", self.file, line))
                return None
            root: yaml.Node | None = yaml.compose(content, Loader=_LOADER)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            problem = ", ".join(part for part in (error.context, error.problem) if part)
            self.faults.append(Fault(f"this is not YAML: {problem}", self.file, mark.line + 1 if mark else 1))
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            self.faults.append(Fault(f"this is not YAML: {reason}", self.file, 1))
        else:
            return root
        return None

    def fields(self, node: yaml.Node, path: str, what: str) -> Fields:
        """The keys of a mapping, those of `<<` included; a fault for each key that is no string or comes twice."""
        if not isinstance(node, yaml.MappingNode):
            self.fault(node, path, f"{what} must be a mapping, not {kind(node)}")
            return {}
        fields: Fields = {}
        for key, value in node.value:
            if key.tag == _TAG + "merge":
                continue
            if key.tag != _TAG + "str":
                self.fault(key, path, f"a key must be a string, not {kind(key)}", "put it in quotes")
            elif key.value in fields:
                first = fields[key.value][0].start_mark.line + 1
                self.fault(key, join(path, key.value), f"the key {key.value!r} is given twice, first in line {first}")
            else:
                fields[key.value] = (key, value)
        for key, value in self._merged(node, path, {node}):
            fields.setdefault(key.value, (key, value))
        return fields

    def _merged(self, node: yaml.MappingNode, path: str, seen: set[yaml.Node]) -> Iterator[tuple[yaml.Node, yaml.Node]]:
        """What `<<` adds, the nearest first; a mapping in `seen` has nothing to add a second time."""
        for key, value in node.value:
            if key.tag != _TAG + "merge":
                continue
            for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if not isinstance(source, yaml.MappingNode):
                    self.fault(key, path, "only a mapping, or a list of mappings, can be merged with `<<`")
                elif source not in seen:
                    seen.add(source)
                    yield from ((name, node) for name, node in source.value if name.tag == _TAG + "str")
                    yield from self._merged(source, path, seen)

    def items(self, fields: Fields, name: str, path: str) -> Sequence[yaml.Node]:
        """The items of the list at key `name`; none when the key is absent or null."""
        _, node = fields.get(name, (None, None))
        if node is None or is_null(node):
            return ()
        if not isinstance(node, yaml.SequenceNode):
            self.fault(node, join(path, name), f"{name} must be a list, not {kind(node)}")
            return ()
        items: Sequence[yaml.Node] = node.value
        return items

    def text(self, fields: Fields, name: str, path: str) -> str:
        """The scalar at key `name` as it is written; empty when absent, null or (with a fault) not good for a text."""
        _, node = fields.get(name, (None, None))
        if node is None or is_null(node):
            return ""
        if not isinstance(node, yaml.ScalarNode) or node.tag not in _TEXT_TAGS:
            way_out = "put it in quotes" if isinstance(node, yaml.ScalarNode) else ""
            self.fault(node, join(path, name), f"{name} must be a string, not {kind(node)}", way_out)
            return ""
        return str(node.value)

    def uint32(self, fields: Fields, name: str, path: str, default: int = 0) -> int:
        """The number at key `name`; `default` when absent, null or (with a fault) no number from 0 to 4294967295."""
        _, node = fields.get(name, (None, None))
        if node is None or is_null(node):
            return default
        number = _integer(node.value) if node.tag == _TAG + "int" else None
        if number is None or not 0 <= number <= _MAX_UINT32:
            self.fault(
                node, join(path, name), f"{name} must be a whole number from 0 to {_MAX_UINT32}, not {kind(node)}"
            )
            return default
        return number

    def flag(self, fields: Fields, name: str, path: str) -> bool:
        """The boolean at key `name`; false when absent, null or (with a fault) neither true nor false."""
        _, node = fields.get(name, (None, None))
        if node is None or is_null(node):
            return False
        if node.tag != _TAG + "bool":
            self.fault(node, join(path, name), f"{name} must be true or false, not {kind(node)}")
            return False
        return _boolean(node.value)

    def json_mapping(self, fields: Fields, name: str, path: str, most: int) -> dict[str, Json]:
        """The mapping at key `name` as a JSON object; empty when absent or null; a fault for what JSON lacks.

        Args:
            fields: the keys of a mapping.
            name: one of them.
            path: the mapping's place.
            most: how many values it may hold at any depth, its aliases followed.
        """
        _, node = fields.get(name, (None, None))
        if node is None or is_null(node):
            return {}
        path = join(path, name)
        if not isinstance(node, yaml.MappingNode):
            self.fault(node, path, f"{name} must be a mapping, not {kind(node)}")
            return {}
        faults = len(self.faults)
        left = [most]
        value = self._json(node, path, 0, left)
        if left[0] < 0:
            self.fault(node, path, f"{name} holds more than {most} values")
        return value if isinstance(value, dict) and len(self.faults) == faults else {}

    def _json(self, node: yaml.Node, path: str, depth: int, left: list[int]) -> Json:
        """One value; `left` holds how many more may be read, and nothing is read once it is below zero."""
        left[0] -= 1
        if left[0] < 0:
            return None
        if depth > _MAX_JSON_DEPTH:
            self.fault(node, path, f"values are nested deeper than {_MAX_JSON_DEPTH} levels")
            return None
        if isinstance(node, yaml.MappingNode):
            below = self.fields(node, path, "a value").items()
            return {name: self._json(value, join(path, name), depth + 1, left) for name, (_, value) in below}
        if isinstance(node, yaml.SequenceNode):
            return [self._json(value, f"{path}[{index}]", depth + 1, left) for index, value in enumerate(node.value)]
        return self._json_scalar(node, path)

    def _json_scalar(self, node: yaml.Node, path: str) -> Json:
        tag, text = node.tag.removeprefix(_TAG), str(node.value)
        if tag in {"str", "timestamp"}:
            return text
        if tag in {"null", "bool"}:
            return None if tag == "null" else _boolean(text)
        number = _integer(text) if tag == "int" else _real(text) if tag == "float" else None
        if number is None:
            self.fault(node, path, f"a value must be fit for JSON, not {kind(node)}", "put it in quotes")
        return number


def join(path: str, name: str) -> str:
    """The dotted name of a key below `path`."""
    return f"{path}.{name}" if path else name


def _boolean(text: str) -> bool:
    return text.lower() in {"true", "yes", "on"}


def _real(text: str) -> float | None:
    """A finite YAML 1.1 float; None for any other."""
    try:
        number = float(text.replace("_", ""))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _integer(text: str) -> int | None:
    """A YAML 1.1 integer: decimal, 0x…, 0b…, or octal with a leading 0; None for base 60, which yaml.v2 lacks."""
    digits = text.replace("_", "")
    try:
        return int(digits, 0)
    except ValueError:
        try:
            return int(digits, 8)
        except ValueError:
            return None
