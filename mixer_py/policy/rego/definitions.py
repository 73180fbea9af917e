"""Definitions that OPA refuses and the engine takes: it would print a line to nobody, or let one of them win.

Not for: rules that need their own value (`recursion.py`), or what is answered otherwise than by OPA (`refusals.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mixer_py.errors import Fault
from mixer_py.policy.rego.calls import module_imports, package_path
from mixer_py.policy.rego.reads_references import head_of
from mixer_py.policy.rego.scopes import declared_in, parts_of, unbound_terms

Path = tuple[str, ...]


def check_definitions(trees: Sequence[Any]) -> list[Fault]:
    """Faults of rules: names in a head that nothing gives a value, kinds that do not go together, several defaults.

    Args:
        trees: the modules' syntax trees.
    """
    return [*_conflicts(trees), *_unsafe_heads(trees)]


def _conflicts(trees: Sequence[Any]) -> Iterator[Fault]:
    kinds: dict[Path, str] = {}
    defaults: set[Path] = set()
    for tree in trees:
        package, file = package_path(tree["ast"]), tree["source"]["file"]
        for rule in tree["ast"]["rules"]:
            ((form, content),) = rule.items()
            head = head_of(rule)
            path, line = (*package, head.name, *head.parts), content["span"]["line"]
            name = ".".join(path)
            kind = _kind(rule, exact=head.exact)
            if kinds.setdefault(path, kind) != kind:
                way_out = "give them different names"
                yield Fault(f"{name} is {kinds[path]} and {kind}", file, line, way_out=way_out)
            if form == "Default":
                if path in defaults:
                    yield Fault(f"{name} has several defaults", file, line, way_out="leave one")
                defaults.add(path)


def _kind(rule: Any, *, exact: bool) -> str:  # noqa: ANN401 (JSON)
    default = rule.get("Default")
    form = next(iter(rule["Spec"]["head"])) if default is None else ""
    if form == "Func" or (default is not None and default["args"]):
        return "a function"
    if form == "Set":
        return "a set"
    return "a rule with one value" if exact else "an object"


def _unsafe_heads(trees: Sequence[Any]) -> Iterator[Fault]:
    names: dict[Path, set[str]] = {}
    for tree in trees:
        package = package_path(tree["ast"])
        names.setdefault(package, set()).update(head_of(rule).name for rule in tree["ast"]["rules"])
    for tree in trees:
        contents, file = tree["source"]["contents"].encode(), tree["source"]["file"]
        known = {"_", "input", "data", *names[package_path(tree["ast"])], *module_imports(tree)}
        collects = b"|" in contents  # as every comprehension does
        for rule in tree["ast"]["rules"]:
            found = set(unbound_terms(rule)) if collects else set()
            if found:
                declared = set(declared_in(rule, contents))
                found = {one for one in found if one[0] not in declared}
            for part in parts_of(rule):
                found.update(part.unbound())
            for name, line in sorted(found):
                if name not in known:
                    way_out = f"give it one in the body, or define the rule {name}"
                    yield Fault(f"the variable {name} has no value", file, line, way_out=way_out)
