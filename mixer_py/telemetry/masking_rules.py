"""The masks that `data.system.log.mask` gives, read and applied as OPA does (its plugin decision_logs).

A rule is a path, whose value is removed, or `{op: remove | upsert, path, value}`. Paths begin with `/input`,
`/result` or `/nd_builtin_cache`; one that leads nowhere is passed over. Nothing is changed in place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson

from mixer_py.errors import ResultError
from mixer_py.telemetry.json_places import Segments, index_in, key_in, segments_of, thawed

_PARTS: Final = ("input", "result", "nd_builtin_cache")
_NOWHERE: Final = object()


@dataclass(frozen=True, slots=True)
class MaskRule:
    """One mask.

    Attributes:
        op: `remove`, or `upsert` to put `value` there.
        path: as the policy wrote it.
        part: `input`, `result` or `nd_builtin_cache`.
        segments: the keys below that.
        value: JSON value of an upsert.
    """

    op: Literal["remove", "upsert"]
    path: str
    part: str
    segments: Segments
    value: object = None


@dataclass(frozen=True, slots=True)
class Masking:
    """What rules made of an input.

    Attributes:
        input: what is left; None when all of it was removed.
        erased: paths that were removed, in OPA's field of that name.
        masked: paths that were set.
    """

    input: Any
    erased: tuple[str, ...]
    masked: tuple[str, ...]


def read_rules(value: object) -> list[MaskRule]:
    """The rules in a value of `data.system.log.mask`.

    Raises:
        ResultError: it is no list or set of rules; the message names what is wrong.
    """
    if not isinstance(value, list):
        raise ResultError(f"system.log.mask: must be a set or an array, but is {_shown(value)}")
    return [_read_rule(item) for item in value]


def apply_rules(rules: list[MaskRule], document: Any) -> Masking:  # noqa: ANN401 (JSON)
    """The document after the rules, in their order.

    A rule for `/result` changes nothing here and is listed all the same, as far as it removes or sets the whole or
    `reasons`: the caller keeps only that of a result.
    """
    erased: list[str] = []
    masked: list[str] = []
    for rule in rules:
        listed = erased if rule.op == "remove" else masked
        if rule.part == "input" and document is not None:
            new = _changed(document, rule, rule.segments)
            if new is not _NOWHERE:
                document = new
                listed.append(rule.path)
        elif rule.part == "result" and rule.segments[:1] in {(), ("reasons",)}:
            listed.append(rule.path)
    return Masking(document, tuple(erased), tuple(masked))


def _read_rule(item: object) -> MaskRule:
    if isinstance(item, str):
        return _rule("remove", item, None)
    if not isinstance(item, dict):
        raise ResultError(f"system.log.mask: a rule must be a string or an object, but is {_shown(item)}")
    return _rule(item.get("op"), item.get("path"), item.get("value"))


def _rule(op: object, path: object, value: object) -> MaskRule:
    if op != "remove" and op != "upsert":  # noqa: PLR1714 (tells the type)
        raise ResultError(f"system.log.mask: op must be remove or upsert, but is {_shown(op)}")
    if not isinstance(path, str) or not path.startswith("/"):
        raise ResultError(f"system.log.mask: path must begin with a slash, but is {_shown(path)}")
    part = path[1:].partition("/")[0]
    if part not in _PARTS:
        raise ResultError(f"system.log.mask: path must begin with /input or /result, but is {_shown(path)}")
    return MaskRule(op, path, part, segments_of(path), value)


def _shown(value: object) -> str:
    return orjson.dumps(value).decode()[:80]


def _changed(value: Any, rule: MaskRule, segments: Segments) -> Any:  # noqa: ANN401 (JSON)
    """A copy of the value with the rule done; `_NOWHERE` when its path leads nowhere."""
    if not segments:
        return rule.value if rule.op == "upsert" else None
    if isinstance(value, orjson.Fragment):
        value = thawed(value)
    if isinstance(value, dict):
        return _changed_members(value, rule, segments)
    if isinstance(value, list):
        return _changed_items(value, rule, segments)
    return _NOWHERE


def _changed_members(members: dict[str, Any], rule: MaskRule, segments: Segments) -> Any:  # noqa: ANN401 (JSON)
    first, rest = segments[0], segments[1:]
    key = key_in(members, first)
    if not rest and rule.op == "remove":
        return _NOWHERE if key is None else {name: item for name, item in members.items() if name != key}
    if key is None:
        if rule.op == "remove":
            return _NOWHERE
        key = first  # an upsert makes what is missing on its way
    new = _changed(members.get(key, {}), rule, rest)
    return _NOWHERE if new is _NOWHERE else members | {key: new}


def _changed_items(items: list[Any], rule: MaskRule, segments: Segments) -> Any:  # noqa: ANN401 (JSON)
    first, rest = segments[0], segments[1:]
    for index in index_in(items, first):
        if not rest and rule.op == "remove":
            return [*items[:index], *items[index + 1 :]]
        new = _changed(items[index], rule, rest)
        return _NOWHERE if new is _NOWHERE else [*items[:index], new, *items[index + 1 :]]
    return _NOWHERE
