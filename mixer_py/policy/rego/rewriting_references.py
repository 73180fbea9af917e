"""References of one rule, written anew for the engine's virtual machine. See `rewriting.py`, `rewriting_terms.py`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

from mixer_py.policy.rego.calls import package_path
from mixer_py.policy.rego.groups import Definition, Groups, KeptOffError, Path
from mixer_py.policy.rego.rewriting_names import NO_NAMES, Names
from mixer_py.policy.rego.rewriting_prelude import PACKAGE, local_name

_NAMED: Final = {"input": "[input]", "data": 'not data["mixer: none"]'}
"""Statements that hold, and make the machine look up a document."""


class References:
    """Writes references of one definition, and tells what was met on the way.

    Attributes:
        needs: groups of rules that the terms refer to.
        data: names below `data` of the base documents that they read.
        iterates: whether a body met so far can hold in several ways.
    """

    def __init__(
        self,
        groups: Groups,
        replaced: Callable[[str], bool],
        definition: Definition | None,
        names: Names = NO_NAMES,
    ) -> None:
        """Takes the definition that the terms are of, with its names; None for an expression of no rule."""
        self.needs: set[Path] = set()
        self.data: set[str] = set()
        self.iterates = False
        self._reads: set[str] = set()
        self._indexes: dict[str, str] = {}
        self._groups = groups
        self._replaced = replaced
        self._definition = definition
        self._bound: set[str] = set()
        self._some: set[str] = set()
        self._unified: set[str] = set()
        if definition is not None:
            self._imports = groups.imports[id(definition.tree)]
            self._package = package_path(definition.tree["ast"])
            self._bound, self._some, self._unified = names.declared, names.by_some, names.unified
            for name in self._bound:
                if name in {"data", "input"} or name in self._imports or (*self._package, name) in groups.by_path:
                    raise definition.kept_off(
                        f"has a local variable {name}, which is also a rule's or an import's name"
                    )

    def _no(self, why: str, node: Any = None) -> KeptOffError:  # noqa: ANN401 (JSON)
        if self._definition is None:
            return KeptOffError(f"it {why}")
        span = node.get("span") if isinstance(node, dict) else None
        return self._definition.kept_off(why, span["line"] if span else None)

    def lead(self) -> list[str]:
        """Statements to stand before all others, once they are written."""
        return [_NAMED[root] for root in sorted(self._reads)]

    def _source(self, span: Any) -> str:  # noqa: ANN401 (JSON)
        return self._definition.source(span) if self._definition is not None else ""

    def expression(self, node: Any) -> str:  # noqa: ANN401 (JSON)
        """Any expression, as may stand in a reference."""
        raise NotImplementedError

    def _reference(self, node: Any) -> str:  # noqa: ANN401 (JSON)
        steps: list[tuple[str, Any]] = []
        current = node
        while True:
            ((kind, value),) = current.items()
            if kind == "RefDot":
                steps.append(("name", value["field"][1]))
            elif kind == "RefBrack" and "String" in value["index"]:
                steps.append(("name", value["index"]["String"]["value"]))
            elif kind == "RefBrack":
                steps.append(("term", value["index"]))
            else:
                break
            current = value["refr"]
        steps.reverse()
        if kind != "Var":
            text = self.expression(current)
            return self._walk(text, steps, base=False)
        path = self._root(value["value"])
        if path is None:
            return self._walk(local_name(value["value"]), steps, base=False)
        names = 0
        while names < len(steps) and steps[names][0] == "name":
            names += 1
        constant = (*path, *(step for _, step in steps[:names]))
        if constant[0] == "input":
            self._reads.add("input")
            text = "input" + "".join(_name(name) for name in constant[1:])
            return self._walk(text, steps[names:], base=False)
        return self.document(constant, steps[names:])

    def _root(self, name: str) -> Path | None:
        """The path that a name stands for; None for a local variable."""
        if name in self._bound or name == "_":
            return None
        if name in {"input", "data"}:
            return (name,)
        if self._definition is None:
            return None
        if (*self._package, name) in self._groups.by_path:
            return (*self._package, name)
        return self._imports.get(name)

    def document(self, path: Path, steps: list[tuple[str, Any]]) -> str:
        """A reference into `data`: a rule's value or a base document."""
        group = self._groups.find(path)
        if group is not None and group.kind == "function":
            raise self._no(f"names the function {'.'.join(group.path)} without calling it")
        if self._groups.is_above(group.path if group is not None else path):
            raise self._no(f"reads {'.'.join(path)}, a document made of rules")
        if group is None:
            if len(path) == 1:
                raise self._no("reads data as a whole")
            self._reads.add("data")
            self.data.add(path[1])
            return self._walk("data" + "".join(map(_name, path[1:])), steps, base=True)
        self.needs.add(group.path)
        rest = "".join(_name(name) for name in path[len(group.path) :])
        return self._walk(f"data.{PACKAGE}.{group.name}{rest}", steps, base=False)

    def _walk(self, text: str, steps: Sequence[tuple[str, Any]], *, base: bool) -> str:
        """A reference's steps; `base` says that they go into a base document."""
        for kind, value in steps:
            if kind == "name":
                text += _name(value)
                continue
            ((form, content),) = value.items()
            if form in {"Array", "Object", "Set"}:
                raise self._no("looks up a composite key", content)
            if form == "Var" and self._root(content["value"]) is None and self._may_iterate(content["value"]):
                self._iterate(content["value"], text, content, base=base)
                text += f"[{local_name(content['value'])}]"
            elif base and form not in {"String", "RawString"}:
                text = f"data.{PACKAGE}.at({text}, {self.expression(value)})"
            else:
                text += f"[{self.expression(value)}]"
        return text

    def _may_iterate(self, name: str) -> bool:
        return name not in self._bound or name in self._some

    def _iterate(self, name: str, place: str, node: Any, *, base: bool) -> None:  # noqa: ANN401 (JSON)
        """A variable as an index of what it may iterate over: one place, if a base document is among them."""
        self.iterates = True
        if name == "_":
            return
        place = f"base {place}" if base else place
        before = self._indexes.setdefault(name, place)
        if before != place and (base or before.startswith("base ")):
            raise self._no(f"looks up {name} in a data document and elsewhere", node)
        if base and name in self._unified:
            raise self._no(f"looks up {name}, which `=` may bind, in a data document", node)


def _name(name: str) -> str:
    return f"[{json.dumps(name)}]"
