"""Rules that need their own value. OPA refuses them, and they would end the process that evaluates them.

Found from the syntax tree before anything runs: the engine finds a recursion only when it runs into it, and runs out of
stack where functions call one another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mixer_py.errors import Fault
from mixer_py.policy.rego.calls import module_imports, package_path
from mixer_py.policy.rego.reads_references import head_of
from mixer_py.policy.rego.scopes import Use, parts_of

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Needed:
    """A reference from `data` on, None for what is not constant of it, and where it stands."""

    reference: tuple[str | None, ...]
    file: str
    line: int


@dataclass(slots=True, eq=False)
class _Rule:
    """All definitions of one path."""

    path: Path
    uses: list[_Needed] = field(default_factory=list)


@dataclass(slots=True)
class _Node:
    """The rule at a path, and what is below it."""

    rule: _Rule | None = None
    children: dict[str, _Node] = field(default_factory=dict)

    def below(self) -> Iterator[_Rule]:
        pending = [self]
        while pending:
            node = pending.pop()
            if node.rule is not None:
                yield node.rule
            pending.extend(node.children.values())


def check_recursion(trees: Sequence[Any]) -> list[Fault]:
    """A fault for each circle of rules, where the first of them needs the second.

    Args:
        trees: the modules' syntax trees.
    """
    root, rules = _collect(trees)
    needed: dict[_Rule, dict[_Rule, _Needed]] = {rule: {} for rule in rules}
    for rule in rules:
        for use in rule.uses:
            for one in _meant(root, use.reference):
                needed[rule].setdefault(one, use)
    faults = []
    for circle in _circles(needed):
        names = " -> ".join(".".join(rule.path) for rule in (*circle, circle[0]))
        message = f"the rule {'.'.join(circle[0].path)} is recursive: {names}"
        place = needed[circle[0]][circle[1 % len(circle)]]
        faults.append(Fault(message, place.file, place.line, way_out="no rule may need its own value"))
    return faults


def _collect(trees: Sequence[Any]) -> tuple[_Node, list[_Rule]]:
    root, rules = _Node(), []
    for tree in trees:
        package, imports = package_path(tree["ast"]), module_imports(tree)
        contents, file = tree["source"]["contents"].encode(), tree["source"]["file"]
        for definition in tree["ast"]["rules"]:
            head = head_of(definition)
            path = (*package, head.name, *head.parts)
            node = root
            for part in path:
                node = node.children.setdefault(part, _Node())
            rule = node.rule
            if rule is None:
                rule = node.rule = _Rule(path)
                rules.append(rule)
            for one in parts_of(definition):
                for use in one.uses(contents):
                    reference = _reference(use, package, imports)
                    if reference is not None:
                        rule.uses.append(_Needed(reference, file, use.line))
    return root, rules


def _reference(use: Use, package: Path, imports: Mapping[str, Path]) -> tuple[str | None, ...] | None:
    """A use as a reference from `data` on; None where it starts at `input`."""
    target = imports.get(use.name)
    if use.name == "data":
        return ("data", *use.parts)
    if target is not None:
        return (*target, *use.parts) if target[0] == "data" else None
    return None if use.name == "input" else (*package, use.name, *use.parts)


def _meant(root: _Node, reference: tuple[str | None, ...]) -> Iterator[_Rule]:
    """The rules whose values a reference needs: those on the way, those at its end, and those below that."""
    nodes = [root]
    for part in reference:
        below: list[_Node] = []
        for node in nodes:
            if node.rule is not None:
                yield node.rule
            if part is None:
                below.extend(node.children.values())
            elif part in node.children:
                below.append(node.children[part])
        nodes = below
    for node in nodes:
        yield from node.below()


def _circles(needed: Mapping[_Rule, Mapping[_Rule, _Needed]]) -> Iterator[list[_Rule]]:
    """A circle of each group of rules that need one another, in the order of the rules. No rule is visited twice."""
    finished: set[_Rule] = set()
    for start in needed:
        if start in finished:
            continue
        way: dict[_Rule, Iterator[_Rule]] = {start: iter(needed[start])}
        while way:
            current = next(reversed(way))
            following = next(way[current], None)
            if following is None:
                finished.add(current)
                del way[current]
            elif following in way:
                on_the_way = list(way)
                circle = on_the_way[on_the_way.index(following) :]
                yield circle
                finished.update(circle)
                for rule in circle:
                    del way[rule]
            elif following not in finished:
                way[following] = iter(needed[following])
