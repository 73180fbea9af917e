"""Arguments that are written out in a policy, and by which a builtin would answer otherwise than in OPA.

Only what stands in the text is judged; what a request brings is for docs/rego.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from mixer_py.policy.builtins.corrected import EXTENSIONS
from mixer_py.policy.builtins.table import SPRINTF, SUPPORTED
from mixer_py.policy.rego.calls import Functions, call_nodes
from mixer_py.policy.rego.trees import span_of

_OPA: Final = "use `engine: opa`"
_LONG_EXPONENT: Final = re.compile(r"[eE][+-]?[0-9]{7}")
_ODD_UUID: Final = re.compile(r"[^{].{36}.|.{37}[^}]", re.DOTALL)
_COLLECTIONS: Final = frozenset({"Array", "ArrayCompr", "Object", "ObjectCompr", "Set", "SetCompr"})
_LARGEST: Final = 2**64 - 1

Finding = tuple[int, str, str]
"""Line, message and way out."""


def check_literals(tree: Any, functions: Functions) -> Iterator[Finding]:  # noqa: ANN401 (JSON)
    """What is wrong with arguments that are written out in a module."""
    text = tree["source"]["contents"].encode()
    for call in call_nodes(tree["ast"]["rules"]):
        name = functions.builtin_of(call, tree) or ""
        found = _check_sets(name, call["params"])
        if name in _CHECKS and len(call["params"]) >= SUPPORTED[name]:  # else `rego.calls` has told
            found = found or _CHECKS[name](call["params"], text)
        if found is not None:
            yield (span_of(call["fcn"])["line"], *found)


def _string(node: Any) -> str | None:  # noqa: ANN401 (JSON)
    """The text that a node is, None when it is none that is written out."""
    if "String" in node:
        return str(node["String"]["value"])
    return str(node["RawString"]["value"]) if "RawString" in node else None


def _check_sets(name: str, parameters: Sequence[Any]) -> tuple[str, str] | None:
    """The engine hands no set of collections to Python."""
    if name in EXTENSIONS and any(
        next(iter(item)) in _COLLECTIONS for one in parameters for item in one.get("Set", {}).get("items", ())
    ):
        return f"{name} cannot be given a set of collections here", f"give it an array; or {_OPA}"
    return None


def _check_json(parameters: Sequence[Any], _: bytes) -> tuple[str, str] | None:
    text = _string(parameters[0])
    if text is None:
        return None
    try:
        json.loads(text, parse_float=_representable, parse_int=_representable_integer)
    except OverflowError as error:
        return f"the embedded engine has no such number as {error}", _OPA
    except (ValueError, RecursionError):
        return None
    return None


def _representable(written: str) -> float:
    if float(written) in (float("inf"), float("-inf")):
        raise OverflowError(written)
    return float(written)


def _representable_integer(written: str) -> int:
    if len(written) > len(str(_LARGEST)) or not -(2**63) <= int(written) <= _LARGEST:
        raise OverflowError(written)
    return int(written)


def _check_units(parameters: Sequence[Any], _: bytes) -> tuple[str, str] | None:
    text = _string(parameters[0])
    if text is not None and _LONG_EXPONENT.search(text):
        return f"the amount {text} has too large an exponent", ""
    return None


def _check_uuid(parameters: Sequence[Any], _: bytes) -> tuple[str, str] | None:
    text = _string(parameters[0])
    if text is not None and _ODD_UUID.fullmatch(text):
        return f"the embedded engine reads no UUID in {text}", "write it in braces, or without anything around it"
    return None


def _check_sprintf(parameters: Sequence[Any], text: bytes) -> tuple[str, str] | None:
    """A whole number that is not written as one: Go would print it as one with a fraction."""
    if "Array" not in parameters[1]:
        return None
    for item in parameters[1]["Array"]["items"]:
        span = item.get("Number", {}).get("span")
        written = text[span["start"] : span["end"]].decode() if span is not None else ""
        if written and not written.lstrip("-").isdigit() and float(written).is_integer():
            return f"sprintf prints {written} as a whole number here", f"write {int(float(written))}; or {_OPA}"
    return None


_CHECKS: Final[Mapping[str, Callable[[Sequence[Any], bytes], tuple[str, str] | None]]] = {
    "json.unmarshal": _check_json,
    "sprintf": _check_sprintf,
    SPRINTF: _check_sprintf,
    "units.parse": _check_units,
    "units.parse_bytes": _check_units,
    "uuid.parse": _check_uuid,
}
