"""Read one data document, JSON or YAML, with the types that OPA gives to its values. Merges nothing."""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Callable
from typing import Any, Final

import orjson
import yaml

from mixer_py.errors import Fault, PolicyLoadError

YAML_NAMES: Final = frozenset({"data.yaml", "data.yml"})
_LOADER: Final[type] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's, where PyYAML was built with it
_TAG: Final = "tag:yaml.org,2002:"
_UINT64_MAX: Final = (1 << 64) - 1
_LARGE: Final = 1 << 20
_MAX_DEPTH: Final = 500
_EXPANSION: Final = 10
"""Values for each octet of YAML, above which its aliases make more of it than anybody means."""


def read_document(content: bytes, file: str, *, is_json: bool) -> tuple[Any, bytes]:
    """One document's value, and the same as JSON text.

    Args:
        content: JSON or YAML.
        file: the path that people know.
        is_json: which of the two.

    Raises:
        PolicyLoadError: it is neither.
    """
    try:
        if is_json:
            text = content.removeprefix(b"\xef\xbb\xbf")
            return parse_json(text), text
        value = read_yaml(content)
        return value, as_json(value)
    except orjson.JSONDecodeError as error:
        fault = Fault(f"invalid JSON: {error.msg}", file, error.lineno)
    except UnicodeDecodeError as error:
        fault = Fault(f"cannot be read: {error}", file)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = min(mark.line + 1, content.rstrip().count(b"\n") + 1) if mark is not None else 0
        fault = Fault(f"invalid YAML: {getattr(error, 'problem', None) or error}", file, line)
    except (ValueError, RecursionError) as error:
        fault = Fault(f"cannot be read: {error}", file)
    raise PolicyLoadError([fault])


def parse_json(text: bytes) -> Any:  # noqa: ANN401 (JSON)
    """The value of JSON, however large it is.

    Raises:
        orjson.JSONDecodeError: it is no JSON.
    """
    if len(text) < _LARGE or not gc.isenabled():
        return orjson.loads(text)
    gc.disable()  # it would go through a growing heap again and again, for three quarters of the time
    try:
        return orjson.loads(text)
    finally:
        gc.enable()


def as_json(value: object) -> bytes:
    """JSON text of values, integers of any size as they are.

    Raises:
        ValueError: infinity or NaN.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def read_yaml(content: bytes) -> Any:  # noqa: ANN401 (JSON values)
    """The value of a YAML document, `{}` when it is empty.

    Raises:
        yaml.YAMLError: it is no YAML.
        ValueError: it is no text, or holds what JSON has not.
    """
    text = content.decode("utf-8")
    if not text.strip():
        return {}
    if _too_deep(content):
        raise ValueError(f"is nested more than {_MAX_DEPTH} deep")
    try:
        value = yaml.load(text, _Loader)  # noqa: S506 (a safe loader)
    except (TypeError, OverflowError) as error:
        raise ValueError(str(error)) from None
    _check(value, _EXPANSION * len(content) + _LARGE)
    return value


def _too_deep(content: bytes) -> bool:
    """Whether nodes are nested so deeply that libyaml would use up its stack, and the process with it."""
    depth = 0
    for event in yaml.parse(content, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _MAX_DEPTH:
                return True
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return False


def _check(value: Any, most: int) -> None:  # noqa: ANN401 (JSON)
    """Refuses what JSON has not, which explicit tags make, and more than `most` values, which aliases make.

    Raises:
        ValueError: it is found.
    """
    pending = [value]
    while pending:
        found = pending.pop()
        most -= 1
        if most < 0:
            raise ValueError("its aliases make it far larger than it is written")
        if isinstance(found, dict):
            pending += found.values()
        elif isinstance(found, list):
            pending += found
        elif found is not None and not isinstance(found, (str, int, float)):
            raise ValueError(f"{type(found).__name__} is nothing that JSON has")


def _key(key: object) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, (bool, int, float)):
        return as_json(key).decode()
    if key is None:
        return "null"
    raise ValueError("a key must be text")


class _Loader(_LOADER):  # type: ignore[misc]  # one of two classes
    """YAML as OPA reads it: dates and `yes` stay text, `0o17` and `1e3` are numbers."""


def _construct_mapping(loader: Any, node: yaml.MappingNode) -> dict[str, Any]:  # noqa: ANN401 (PyYAML's)
    """Keys are texts; one that is written twice is a fault, as in OPA."""
    seen: set[str] = set()
    for key_node, _ in node.value:
        if key_node.tag != f"{_TAG}merge":
            key = _key(loader.construct_object(key_node, deep=True))
            if key in seen:
                problem = f"the key {key!r} is there twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            seen.add(key)
    loader.flatten_mapping(node)
    return {
        _key(loader.construct_object(key_node, deep=True)): loader.construct_object(value_node, deep=True)
        for key_node, value_node in node.value
    }


def _construct_bool(_loader: object, node: yaml.ScalarNode) -> bool:
    return str(node.value).lower() == "true"


def _construct_int(_loader: object, node: yaml.ScalarNode) -> int | float:
    text = str(node.value).replace("_", "")
    digits = text.lstrip("+-")
    is_octal = len(digits) > 1 and digits[0] == "0" and digits.isdecimal()
    number = int(digits, 8 if is_octal else 0) * (-1 if text.startswith("-") else 1)
    return number if -(1 << 63) <= number <= _UINT64_MAX else float(number)


def _construct_float(_loader: object, node: yaml.ScalarNode) -> float:
    return float(str(node.value).replace("_", ""))


_RESOLVED: Final[tuple[tuple[str, str, str, Callable[..., Any] | None], ...]] = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF", _construct_bool),
    ("null", r"~|null|Null|NULL|", "~nN\0", None),
    ("int", r"[-+]?(?:0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)", "-+0123456789", _construct_int),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789", _construct_float),
    ("merge", r"<<", "<", None),
)
_Loader.add_constructor(f"{_TAG}map", _construct_mapping)
_Loader.yaml_implicit_resolvers = {}
for _name, _pattern, _first, _construct in _RESOLVED:
    _firsts = ["" if letter == "\0" else letter for letter in _first]
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_pattern})$"), _firsts)
    if _construct is not None:
        _Loader.add_constructor(_TAG + _name, _construct)
