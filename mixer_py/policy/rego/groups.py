"""The rules of all modules by the path that they define together, read off the syntax trees."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from mixer_py.policy.rego.calls import module_imports, package_path
from mixer_py.policy.rego.trees import ref_path

Path = tuple[str, ...]

_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class KeptOffError(Exception):
    """A rule stays with the interpreter; the text says where and why."""


@dataclass(frozen=True, slots=True)
class Definition:
    """One definition of a rule.

    Attributes:
        tree: its module.
        text: the module's, in UTF-8.
        line: 1-based.
        rule: its name as people know it, for messages.
        key: of a partial rule; None where there is none.
        value: None means `true`.
        arguments: a function's.
        bodies: the first and its `else`s.
    """

    tree: Any
    text: bytes
    line: int
    rule: str
    key: Any = None
    value: Any = None
    arguments: Sequence[Any] = ()
    bodies: Sequence[Any] = ()

    def value_of(self, index: int) -> Any:  # noqa: ANN401 (a node of the syntax tree, which is JSON)
        """The value that the definition has when its body `index` holds."""
        if index == 0 or index >= len(self.bodies):
            return self.value
        assign = self.bodies[index].get("assign")
        return None if assign is None else assign["value"]

    def source(self, span: Any) -> str:  # noqa: ANN401 (JSON)
        """The module's text at a place."""
        return self.text[span["start"] : span["end"]].decode()

    def kept_off(self, why: str, line: int | None = None) -> KeptOffError:
        """The error that names this place."""
        return KeptOffError(f"{self.tree['source']['file']}:{line or self.line}: the rule {self.rule} {why}")


@dataclass(slots=True)
class Group:
    """All definitions of one path.

    Attributes:
        path: with `data`.
        name: the rule's in the module of rules written anew.
        kind: complete, set, object or function.
        fault: why none of it can be written anew.
    """

    path: Path
    name: str
    kind: str
    definitions: list[Definition] = field(default_factory=list)
    default: Definition | None = None
    fault: str | None = None


class Groups:
    """What the modules define.

    Attributes:
        by_path: the groups.
        packages: paths of all packages.
    """

    def __init__(self, trees: Sequence[Any]) -> None:
        self.by_path: dict[Path, Group] = {}
        self.packages = {package_path(tree["ast"]) for tree in trees}
        self.imports = {id(tree): module_imports(tree) for tree in trees}
        self._inner: set[Path] = set(self.packages)
        for package in self.packages:
            self._inner.update(package[:length] for length in range(1, len(package)))
        for tree in trees:
            text = tree["source"]["contents"].encode()
            for rule in tree["ast"]["rules"]:
                self._add(tree, text, rule)
        for path in self.by_path:
            self._inner.update(path[:length] for length in range(1, len(path)))

    def find(self, path: Path) -> Group | None:
        """The group at a path or above it."""
        for length in range(len(path), 1, -1):
            group = self.by_path.get(path[:length])
            if group is not None:
                return group
        return None

    def is_above(self, path: Path) -> bool:
        """Whether rules or packages are below a path, so that it is a document of rules."""
        return path in self._inner

    def _add(self, tree: Any, text: bytes, rule: Any) -> None:  # noqa: ANN401 (JSON)
        ((form, content),) = rule.items()
        line = content["span"]["line"]
        head = content if form == "Default" else next(iter(content["head"].values()))
        kind = "default" if form == "Default" else next(iter(content["head"]))
        name, keys = _head_path(head["refr"])
        package = package_path(tree["ast"])
        if kind == "Func" or (kind == "default" and content["args"]):
            path, keys = (*package, *(ref_path(head["refr"]) or (name,))), []
        else:
            path = (*package, name)
        kind = {"Func": "function", "Set": "set", "default": "function" if content.get("args") else "complete"}.get(
            kind, "object" if keys else "complete"
        )
        definition = Definition(
            tree,
            text,
            line,
            ".".join(path),
            head.get("key") if kind == "set" else (keys[0] if keys else None),
            content["value"] if form == "Default" else (head.get("assign") or {}).get("value"),
            content["args"] if form == "Default" else head.get("args", ()),
            content.get("bodies", ()),
        )
        group = self.by_path.setdefault(path, Group(path, f"r{len(self.by_path)}_{_plain(name)}", kind))
        if group.kind != kind:
            group.fault = str(definition.kept_off(f"is defined as {group.kind} and as {kind}"))
        elif len(keys) > 1 or (kind == "set" and keys) or (form == "Default" and keys):
            group.fault = str(definition.kept_off("has a name of several parts"))
        elif form == "Default":
            group.default = definition
        else:
            group.definitions.append(definition)


def _plain(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else "rule"


def _head_path(node: Any) -> tuple[str, list[Any]]:  # noqa: ANN401 (JSON)
    """A head's first name, and the keys after it as nodes."""
    keys: list[Any] = []
    while True:
        ((kind, value),) = node.items()
        if kind == "Var":
            keys.reverse()
            return value["value"], keys
        if kind == "RefDot":
            keys.append({"String": {"value": value["field"][1], "span": value["span"]}})
        else:
            keys.append(value["index"])
        node = value["refr"]
