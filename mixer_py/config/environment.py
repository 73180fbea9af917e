"""Values from the environment and the command line, laid over those of the file.

`MIXER_SERVER__ADMIN` is `server.admin`; `MIXER_SERVER__LISTENERS__0__ADDRESS` is the address of the first listener.
Values are YAML, so `["a", "b"]` is a list. A value takes the place of what stood there. Not for: whether it fits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mixer_py.config.definition import Shape, suggest
from mixer_py.config.file import parse
from mixer_py.config.tree import Node, Place, from_plain
from mixer_py.errors import ConfigurationError, Fault

PREFIX = "MIXER_"
_AS_IN = "as in server.admin=127.0.0.1:15014"

# Kubernetes puts such variables into every container beside a Service named `mixer` or `mixer-…`.
_SERVICE_LINKS = re.compile(
    r"MIXER(_[A-Z0-9_]+)?_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)


@dataclass(frozen=True, slots=True)
class Override:
    """One value that is laid over the tree.

    Attributes:
        path: names and indexes down to the key.
        text: the value as it was written.
        place: where it was written.
        shown: the whole name as the person writes it there.
    """

    path: tuple[str, ...]
    text: str
    place: Place
    shown: str


def from_environment(environment: Mapping[str, str], base: Path) -> list[Override]:
    """The overrides that the environment holds; variables that Kubernetes sets for a Service are none of ours."""
    found = []
    for name in sorted(environment):
        if not name.startswith(PREFIX) or ("__" not in name and _SERVICE_LINKS.fullmatch(name)):
            continue
        path = tuple(name.removeprefix(PREFIX).lower().split("__"))
        found.append(Override(path, environment[name], Place("environment", 0, base, name), name))
    return found


def from_command_line(overrides: Mapping[str, str] | Sequence[str], base: Path, faults: list[Fault]) -> list[Override]:
    """The overrides of `--set key=value`, as a mapping or as they were written; a later one wins."""
    pairs: Iterable[tuple[str, str]]
    if isinstance(overrides, Mapping):
        pairs = overrides.items()
    else:
        pairs = [(key, value if equals else "\0") for key, equals, value in (text.partition("=") for text in overrides)]
    found = []
    for key, value in pairs:
        if value == "\0" or not key:
            faults.append(Fault("an override is key=value", "command line", 0, key, _AS_IN))
            continue
        found.append(Override(tuple(key.split(".")), value, Place("command line", 0, base, key), key))
    return found


def lay_over(root: Node, shape: Shape, overrides: Sequence[Override], defaults: object, faults: list[Fault]) -> None:
    """Puts each override into the tree, the shorter paths first so that a longer one refines them.

    Args:
        root: the tree, which is changed.
        shape: the shape of the whole.
        overrides: of one source.
        defaults: the whole of the defaults as plain data, for an index into a list that nobody wrote.
        faults: gets what does not fit.
    """
    for override in sorted(overrides, key=lambda one: (len(one.path), [(len(step), step) for step in one.path])):
        fault = _unknown(override, shape) or _put(root, shape, override, defaults)
        if fault is not None:
            faults.append(fault)


def _unknown(override: Override, root: Shape) -> Fault | None:
    shape = root
    for depth, step in enumerate(override.path):
        child = shape.child(step)
        if child is None:
            way_out = suggest(override.path[: depth + 1], root)
            if override.place.name.startswith(PREFIX):
                way_out = _as_variable(override, root) or way_out
            return Fault("there is no such key", override.place.file, 0, override.shown, way_out)
        shape = child
    return None


def _as_variable(override: Override, root: Shape) -> str:
    """The suggestion as a variable: also where single underscores stand for double ones."""
    section = ("_".join(override.path)).split("_", 1)
    if len(section) == 2 and (members := root.child(section[0])) is not None and members.child(section[1]) is not None:
        return f"did you mean {PREFIX}{section[0].upper()}__{section[1].upper()}?"
    meant = re.fullmatch(r"did you mean ([\w.]+)\?", suggest(override.path, root))
    return f"did you mean {PREFIX}{meant[1].upper().replace('.', '__')}?" if meant else ""


def _put(root: Node, shape: Shape, override: Override, defaults: object) -> Fault | None:
    node = root
    for depth, step in enumerate(override.path):
        child_shape = shape.child(step)
        assert child_shape is not None, "unknown paths were refused before"  # noqa: S101
        defaults = _step_into(defaults, step)
        last = depth == len(override.path) - 1
        existing = node.child(step)
        if last:
            return _assign(node, step, _value(override, child_shape), override)
        if existing is None or not isinstance(existing.value, (dict, list)):
            existing = _container(child_shape, defaults, override.place)
            fault = _assign(node, step, existing, override)
            if fault is not None:
                return fault
        if (child_shape.kind == "list") != isinstance(existing.value, list):  # the file wrote the wrong kind there
            existing.value = [] if child_shape.kind == "list" else {}
        node, shape = existing, child_shape
    return None


def _step_into(defaults: object, step: str) -> object:
    if isinstance(defaults, dict):
        return defaults.get(step)
    if isinstance(defaults, list) and step.isdecimal() and int(step) < len(defaults):
        return defaults[int(step)]
    return None


def _container(shape: Shape, defaults: object, place: Place) -> Node:
    """An empty section, or the default list so that an index counts from what holds."""
    if shape.kind == "list":
        return from_plain(defaults if isinstance(defaults, list) else [], place)
    return Node({}, place)


def _assign(node: Node, step: str, child: Node, override: Override) -> Fault | None:
    if isinstance(node.value, dict):
        node.value[step] = child
        return None
    assert isinstance(node.value, list)  # noqa: S101
    index = int(step)
    if index > len(node.value):
        message = f"index {index} leaves a gap: the list has {len(node.value)} items"
        return Fault(message, override.place.file, 0, override.shown, f"the next index is {len(node.value)}")
    node.value[index : index + 1] = [child]
    return None


def _value(override: Override, shape: Shape) -> Node:
    """The value as YAML; as text where it is no YAML, or where it is a secret and not written as `{file: path}`."""
    text = Node(override.text, override.place, override.text)
    if shape.secret and not override.text.startswith("{"):
        return text
    faults: list[Fault] = []
    try:
        node = parse(override.text, override.place, faults)
    except ConfigurationError:
        return text
    if faults:
        return text
    node.text = node.text or override.text
    return node
