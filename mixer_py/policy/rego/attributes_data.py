"""References to parts of `data` that no module and no document defines: always undefined, as a misspelt one is.

OPA loads such policies, because documents may come later; so this is something to warn of.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final

from mixer_py.errors import Fault
from mixer_py.policy.reference import join
from mixer_py.policy.rego.calls import module_imports, package_path
from mixer_py.policy.rego.trees import ref_path

Path = tuple[str, ...]

_REFERENCES: Final = frozenset({"RefDot", "RefBrack"})


@dataclass(slots=True)
class _Place:
    """A place below `data`: the names below it, and whether anything may be there."""

    members: dict[str, _Place] = field(default_factory=dict)
    open: bool = False

    def at(self, path: Sequence[str]) -> _Place:
        """The place of a path from here, made when it is not there."""
        place = self
        for part in path:
            place = place.members.setdefault(part, _Place())
        return place


def check_documents(trees: Sequence[Any], data: Mapping[str, object], fetched: Collection[str]) -> list[Fault]:
    """A fault for every constant reference to `data` that nothing defines, with a suggestion when a name is close.

    Args:
        trees: the modules' syntax trees.
        data: the base document.
        fetched: places of documents that are fetched, `jwks` or `keys.jwks`.
    """
    defined = _defined_by(trees, fetched)
    faults: dict[Fault, None] = {}
    for tree in trees:
        for path, line in sorted(_references(tree), key=lambda one: (one[1], one[0])):
            missing = _missing(path, defined, data)
            if missing is not None:
                depth, names = missing
                near = _nearest(path, depth, names)
                way_out = f"did you mean {join('data', near)}?" if near else ""
                message = f"no module and no document defines {join('data', path[: depth + 1])}"
                faults[Fault(message, tree["source"]["file"], line, way_out=way_out)] = None
    return list(faults)


def check_decision(trees: Sequence[Any], data: Mapping[str, object], fetched: Collection[str], path: str) -> str | None:
    """What to say of a decision that nothing defines, so that it is never decided; None when it may be defined.

    Args:
        trees: the modules' syntax trees.
        data: the base document.
        fetched: places of documents that are fetched.
        path: of the decision, `envoy/authz/allow`.
    """
    parts = tuple(path.split("/"))
    missing = _missing(parts, _defined_by(trees, fetched), data)
    if missing is None:
        return None
    near = _nearest(parts, *missing)
    return f"did you mean {'/'.join((*near, *parts[len(near) :]))}?" if near else ""


def _defined_by(trees: Sequence[Any], fetched: Collection[str]) -> _Place:
    defined = _Place()
    for tree in trees:
        package = package_path(tree["ast"])[1:]
        for rule in tree["ast"]["rules"]:
            defined.at((*package, *_head(rule))).open = True
    for place in fetched:
        defined.at(place.replace("/", ".").split(".")).open = True
    return defined


def _nearest(path: Path, depth: int, names: Collection[str]) -> Path:
    """The path up to the missing part, with the name that is nearest in its place; empty when none is near."""
    near = get_close_matches(path[depth], names, n=1)
    return (*path[:depth], near[0]) if near else ()


def _head(rule: Any) -> Path:  # noqa: ANN401 (the engine's syntax tree, which is JSON)
    """The constant part of a rule's reference."""
    ((_, content),) = rule.items()
    return _constant((next(iter(content["head"].values())) if "head" in content else content)["refr"])


def _constant(node: Any) -> Path:  # noqa: ANN401 (JSON)
    """The parts of a reference before the first that is not constant."""
    while (path := ref_path(node)) is None:
        ((_, inner),) = node.items()
        if not isinstance(inner.get("refr"), dict):
            return ()
        node = inner["refr"]
    return path


def _missing(path: Path, place: _Place, data: object) -> tuple[int, set[str]] | None:
    """Index of the first part that nothing defines, and the names that are there; None when it may be there."""
    for depth, part in enumerate(path):
        document = data if isinstance(data, Mapping) else {}
        names = {*place.members, *document}
        if place.open or (depth and not names):
            return None
        if part not in names:
            return depth, names
        place, data = place.members.get(part, _Place()), document.get(part)
    return None


def _references(tree: Any) -> Iterator[tuple[Path, int]]:  # noqa: ANN401 (JSON)
    """Constant references below `data` with their lines; what `with` sets is left out."""
    imports = module_imports(tree)
    for entry in tree["ast"]["imports"]:
        path = _constant(entry["refr"])
        if path[:1] == ("data",) and len(path) > 1:
            yield path[1:], entry["span"]["line"]
    pending: list[Any] = [tree["ast"]["rules"]]
    while pending:
        current = pending.pop()
        if isinstance(current, list):
            pending.extend(current)
        elif isinstance(current, dict):
            kind = next(iter(current), "")
            if kind in _REFERENCES:
                path = _constant(current)
                path = (*imports.get(path[0], path[:1]), *path[1:]) if path else ()
                if path[:1] == ("data",) and len(path) > 1:
                    yield path[1:], current[kind]["span"]["line"]
                pending.extend(_inside(current))
            else:
                pending.extend(value for key, value in current.items() if key != "with_mods")


def _inside(node: Any) -> Iterator[Any]:  # noqa: ANN401 (JSON)
    """What stands in a reference's brackets and at its start, which are references of their own."""
    while True:
        ((kind, value),) = node.items()
        if kind not in _REFERENCES:
            if kind != "Var":
                yield node
            return
        if kind == "RefBrack":
            yield value["index"]
        node = value["refr"]
