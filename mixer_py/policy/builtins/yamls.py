"""`yaml.unmarshal` and `yaml.is_valid` as OPA 1.22 has them: YAML as Go's yaml.v3 reads it, dates left as texts."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterator
from typing import Any, Final

import yaml

from mixer_py.policy.builtins.operands import string

_MOST_VALUES: Final = 1_000_000
"""Values that aliases may make of a text."""
_TAG: Final = "tag:yaml.org,2002:"
_MERGE: Final = f"{_TAG}merge"
_PLAIN: Final = "plain"
_TYPED: Final = frozenset({_PLAIN, *(f"{_TAG}{name}" for name in ("int", "float", "bool", "null"))})
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INTEGER: Final = re.compile(r"(?P<sign>[-+]?)(?P<prefix>0[xX]|0[bB]|0[oO]|0(?=[0-7]))?(?P<digits>[0-9a-fA-F]+)")
_BASES: Final = {"0x": 16, "0b": 2, "0o": 8, "0": 8, "": 10}
_WORDS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NO_JSON: Final = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


class _Loader(yaml.SafeLoader):
    """Composes nodes; what plain scalars mean is this module's to say."""

    def resolve(self, kind: type[yaml.Node], value: str, implicit: tuple[bool, bool]) -> str:
        """The tag of a node that has none."""
        if kind is not yaml.ScalarNode:
            return str(super().resolve(kind, value, implicit))  # type: ignore[no-untyped-call]
        if not implicit[0]:
            return f"{_TAG}str"
        return _MERGE if value == "<<" else _PLAIN


def unmarshal(text: object) -> Any:  # noqa: ANN401 (any value)
    """`yaml.unmarshal(x)`: the first document; those after it must be YAML as well."""
    documents = _compose(string(text))
    first = next(documents, None)
    for _ in documents:
        pass
    return None if first is None else _Values().make(first)


def is_valid(text: object) -> bool:
    """`yaml.is_valid(x)`; what is no string is no YAML."""
    if not isinstance(text, str):
        return False
    try:
        unmarshal(text)
    except (ValueError, TypeError, RecursionError, yaml.YAMLError):
        return False
    return True


def _compose(text: str) -> Iterator[yaml.Node]:
    return yaml.compose_all(text, Loader=_Loader)


class _Values:
    """Makes values of nodes, and counts them."""

    def __init__(self) -> None:
        self._left = _MOST_VALUES
        self._open: set[int] = set()

    def make(self, node: yaml.Node) -> Any:  # noqa: ANN401 (any value)
        """The value of a node.

        Raises:
            ValueError: it contains itself, or aliases make too many values, or a tag is not its content's.
        """
        self._left -= 1
        if self._left < 0 or id(node) in self._open:
            raise ValueError("the aliases make too many values")
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node)
        self._open.add(id(node))
        made = (
            self._mapping(node)
            if isinstance(node, yaml.MappingNode)
            else [self.make(element) for element in node.value]
        )
        self._open.discard(id(node))
        return made

    def _mapping(self, node: yaml.MappingNode) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for key, value in node.value:
            if key.tag == _MERGE:
                sources = value.value if isinstance(value, yaml.SequenceNode) else [value]
                for source in reversed(sources):
                    if not isinstance(source, yaml.MappingNode):
                        raise TypeError("only mappings are merged")
                    merged |= self.make(source)
            else:
                own[_key(self.make(key))] = self.make(value)
        return merged | own


def _scalar(node: yaml.ScalarNode) -> str | float | bool | None:
    if node.tag == f"{_TAG}binary":
        return base64.b64decode(node.value).decode(errors="replace")
    if node.tag not in _TYPED:
        return str(node.value)
    value = _plain(node.value)
    if isinstance(value, str) and node.tag != _PLAIN:
        raise ValueError(f"{value} is no {node.tag.removeprefix(_TAG)}")
    return value


def _plain(text: str) -> str | float | bool | None:
    if text in _WORDS:
        return _WORDS[text]
    if _NO_JSON.fullmatch(text):
        raise ValueError(f"{text} is no JSON")
    digits = text.replace("_", "")
    integer = _INTEGER.fullmatch(digits)
    if integer is not None:
        base = _BASES[(integer["prefix"] or "").lower()]
        try:
            return int(integer["sign"] + integer["digits"], base)
        except ValueError:
            pass
    number = float(digits) if _FLOAT.fullmatch(digits) else math.inf
    return text if math.isinf(number) else number


def _key(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"{int(value)}" if float(value).is_integer() else f"{value}"
    raise TypeError("a key is no scalar")
