"""What each rule refers to, by its syntax tree alone: paths of `input`, other rules, builtins whose answers vary.

A value of the input gets into a rule only through a reference that starts at `input`, at an import of a part of it, or
at a variable that was assigned one of these. So every reference counts as reading what it names by constants, with
everything below. Two forms are followed further, because they are common: `http := input.a.http` where `http` is then
only used as `http.method`, and `object.get(input.a.headers, "name", default)`. Names are not resolved by scope: one
that could mean several things means all of them.

Not for: which of the rules a decision needs (`reads.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

from mixer_py.policy.rego.calls import module_imports, package_path

Path = tuple[str, ...]

VARYING: Final = frozenset(
    {
        "crypto.x509.parse_and_verify_certificates",
        "crypto.x509.parse_and_verify_certificates_with_options",
        "http.send",
        "io.jwt.decode_verify",
        "io.jwt.encode_sign",
        "io.jwt.encode_sign_raw",
        "net.lookup_ip_addr",
        "opa.runtime",
        "rand.intn",
        "time.now_ns",
        "uuid.rfc4122",
    }
)
"""Builtins whose answer depends on more than their arguments: OPA's nondeterministic ones, and those which compare a
validity with the present time."""

_REFERENCES: Final = frozenset({"Var", "RefDot", "RefBrack"})
_DECLARATIONS: Final = frozenset({"SomeVars", "Every"})
_OBJECT_GET_ARGUMENTS: Final = 3
_OBJECT_MOCKED = re.compile(r"\bwith\b(?:\s|#[^\n]*\n)*object\b")


@dataclass(frozen=True, slots=True)
class InputRead:
    """A place that reads the input.

    Attributes:
        path: below `input`, with everything under it; empty for the input as a whole.
        file: of the module.
        line: 1-based.
    """

    path: Path
    file: str
    line: int

    @property
    def place(self) -> str:
        """File and line."""
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class VaryingCall:
    """A place that uses a builtin of `VARYING`."""

    builtin: str
    file: str
    line: int

    @property
    def place(self) -> str:
        """File and line."""
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class RuleFacts:
    """What one definition of a rule refers to.

    Attributes:
        path: of the rule, `data` first, as far as it is constant.
        reads: of the input.
        references: paths of rules and data, `data` first, as far as they are constant. A variable's name is among them
            too, because a rule may be called so.
        varying: uses of builtins whose answers vary.
        alias: the rule is nothing but another name for this path of the input.
    """

    path: Path
    reads: tuple[InputRead, ...]
    references: frozenset[Path]
    varying: tuple[VaryingCall, ...]
    alias: Path | None


@dataclass(frozen=True, slots=True)
class _Reference:
    """A reference as written: its first name, its constant parts, whether these are all, and its line."""

    name: str
    parts: Path
    exact: bool
    line: int


def read_rules(trees: Sequence[Any]) -> Iterator[RuleFacts]:
    """The facts of every definition in all modules."""
    heads = [(package_path(tree["ast"]), tree) for tree in trees]
    names = {(*package, _head(rule).name) for package, tree in heads for rule in tree["ast"]["rules"]}
    mocked = any(_OBJECT_MOCKED.search(tree["source"]["contents"]) for tree in trees)
    for package, tree in heads:
        imports = module_imports(tree)
        follow_get = not mocked and "object" not in imports and (*package, "object") not in names
        for rule in tree["ast"]["rules"]:
            yield _RuleReader(tree, package, imports, follow_get=follow_get).read(rule)


def _head(rule: Any) -> _Reference:  # noqa: ANN401 (JSON)
    ((_, content),) = rule.items()
    head = next(iter(content["head"].values())) if "head" in content else content
    reference, _ = _reference(head["refr"])
    if reference is None:
        raise ValueError("a rule's head is no reference")
    return reference


def _reference(node: Any) -> tuple[_Reference | None, list[Any]]:  # noqa: ANN401 (JSON)
    """The reference that a node is (None when it starts at no name), and the nodes in its brackets and at its start."""
    parts: list[str | None] = []
    inner: list[Any] = []
    while True:
        ((kind, value),) = node.items()
        if kind == "RefDot":
            parts.append(value["field"][1])
        elif kind == "RefBrack":
            index = value["index"]
            if "String" in index:
                parts.append(index["String"]["value"])
            else:
                parts.append(None)
                inner.append(index)
        elif kind == "Var":
            break
        else:
            return None, [*inner, node]
        node = value["refr"]
    parts.reverse()
    constant: list[str] = []
    for part in parts:
        if part is None:
            break
        constant.append(part)
    return _Reference(value["value"], tuple(constant), len(constant) == len(parts), value["span"]["line"]), inner


def _only(node: Any) -> str:  # noqa: ANN401 (JSON)
    """The kind of a syntax node; empty for what is none."""
    return next(iter(node)) if isinstance(node, dict) and len(node) == 1 else ""


class _RuleReader:
    """Collects the references of one rule and says what they mean."""

    def __init__(self, tree: Any, package: Path, imports: dict[str, Path], *, follow_get: bool) -> None:  # noqa: ANN401 (JSON)
        self._file: str = tree["source"]["file"]
        self._contents: str = tree["source"]["contents"]
        self._package = package
        self._imports = imports
        self._follow_get = follow_get
        self._found: list[_Reference] = []
        self._assigned: dict[str, list[_Reference]] = {}
        self._declared: set[str] = set()

    def read(self, rule: Any) -> RuleFacts:  # noqa: ANN401 (JSON)
        """The rule's facts."""
        head = _head(rule)
        self._collect(rule)
        aliases = self._aliases()
        reads: dict[InputRead, None] = {}
        references: set[Path] = set()
        varying: list[VaryingCall] = []
        for found in self._found:
            for path in self._input_paths(found, aliases):
                reads[InputRead(path, self._file, found.line)] = None
            references.update(self._data_paths(found))
            name = ".".join((found.name, *found.parts))
            if name in VARYING:
                varying.append(VaryingCall(name, self._file, found.line))
        for assigned in chain.from_iterable(self._assigned.values()):
            references.update(self._data_paths(assigned))
        path = (*self._package, head.name, *head.parts)
        return RuleFacts(path, tuple(reads), frozenset(references), tuple(varying), self._rule_alias(rule, head))

    def _collect(self, rule: Any) -> None:  # noqa: ANN401 (JSON)
        pending = [rule]
        while pending:
            node = pending.pop()
            if isinstance(node, list):
                pending.extend(node)
            elif isinstance(node, dict):
                kind = _only(node)
                if kind in _REFERENCES:
                    self._refer(node, pending)
                elif not (
                    (kind == "Call" and self._collect_get(node["Call"], pending))
                    or (kind == "AssignExpr" and self._collect_assignment(node["AssignExpr"], pending))
                ):
                    if kind in _DECLARATIONS:
                        self._collect_declared(node)
                    for key, value in node.items():
                        if key == "with_mods":
                            pending.extend(
                                modifier["as"] if _replaces_input(modifier) else modifier for modifier in value
                            )
                        elif key != "span" and isinstance(value, (dict, list)):
                            pending.append(value)

    def _refer(self, node: Any, pending: list[Any]) -> None:  # noqa: ANN401 (JSON)
        reference, inner = _reference(node)
        pending.extend(inner)
        if reference is not None:
            self._found.append(reference)

    def _collect_get(self, call: Any, pending: list[Any]) -> bool:  # noqa: ANN401 (JSON)
        """`object.get(reference, "key" or ["path", "of", "keys"], default)`: reads what is at these keys."""
        arguments = call.get("params", ())
        if not self._follow_get or len(arguments) != _OBJECT_GET_ARGUMENTS or _only(arguments[0]) not in _REFERENCES:
            return False
        function, _ = _reference(call["fcn"])
        if function is None or (function.name, function.parts, function.exact) != ("object", ("get",), True):
            return False
        reference, _ = _reference(arguments[0])
        keys = _constant_keys(arguments[1])
        if reference is None or not reference.exact or keys is None:
            return False
        self._found.append(_Reference(reference.name, (*reference.parts, *keys), exact=True, line=reference.line))
        pending.append(arguments[2])
        return True

    def _collect_assignment(self, assignment: Any, pending: list[Any]) -> bool:  # noqa: ANN401 (JSON)
        """`name := reference`."""
        if assignment["op"] != "ColEq" or _only(assignment["lhs"]) != "Var":
            return False
        name = assignment["lhs"]["Var"]["value"]
        if name in {"_", "input", "data"} or _only(assignment["rhs"]) not in _REFERENCES:
            return False
        reference, inner = _reference(assignment["rhs"])
        if reference is None or not reference.exact:
            return False
        pending.extend(inner)
        self._assigned.setdefault(name, []).append(reference)
        return True

    def _collect_declared(self, node: Any) -> None:  # noqa: ANN401 (JSON)
        """Names that `some x` and `every x in` declare; their nodes hold only where these stand in the text."""
        spans = [*node.get("SomeVars", {}).get("vars", ())]
        every = node.get("Every")
        if every is not None:
            spans += [span for span in (every["key"], every["value"]) if span is not None]
        if spans:
            contents = self._contents.encode()
            self._declared.update(contents[span["start"] : span["end"]].decode() for span in spans)

    def _aliases(self) -> dict[str, Path]:
        """Variables that are another name for a path of the input; what cannot be followed is read as a whole."""
        single = {
            name: references[0]
            for name, references in self._assigned.items()
            if len(references) == 1 and name not in self._declared and name not in self._imports
        }
        aliases: dict[str, Path] = {}
        progress = True
        while progress:
            progress = False
            for name in [name for name in single if name not in aliases]:
                reference = single[name]
                base = aliases.get(reference.name, self._imported_input(reference.name))
                if base is not None:
                    aliases[name] = (*base, *reference.parts)
                    progress = True
        used = {reference.name for reference in self._found}
        used.update(single[name].name for name in aliases)
        for name, references in self._assigned.items():
            if name not in aliases or name not in used:
                self._found.extend(references)
        return aliases

    def _imported_input(self, name: str) -> Path | None:
        """Path of the input that a name stands for in the whole module."""
        if name == "input":
            return ()
        target = self._imports.get(name, ())
        return target[1:] if target[:1] == ("input",) else None

    def _input_paths(self, reference: _Reference, aliases: dict[str, Path]) -> Iterator[Path]:
        for base in (self._imported_input(reference.name), aliases.get(reference.name)):
            if base is not None:
                yield (*base, *reference.parts)

    def _data_paths(self, reference: _Reference) -> Iterator[Path]:
        if reference.name == "data":
            yield ("data", *reference.parts)
        elif reference.name != "input":
            target = self._imports.get(reference.name, ())
            if target[:1] == ("data",):
                yield (*target, *reference.parts)
            yield (*self._package, reference.name, *reference.parts)

    def _rule_alias(self, rule: Any, head: _Reference) -> Path | None:  # noqa: ANN401 (JSON)
        """Path of the input that a rule such as `http := input.attributes.request.http` is another name for."""
        spec = rule.get("Spec")
        if spec is None or spec["bodies"] or "Compr" not in spec["head"] or not head.exact:
            return None
        assignment = spec["head"]["Compr"]["assign"]
        if assignment is None or _only(assignment["value"]) not in _REFERENCES:
            return None
        reference, _ = _reference(assignment["value"])
        if reference is None or not reference.exact:
            return None
        base = self._imported_input(reference.name)
        return None if base is None else (*base, *reference.parts)


def _replaces_input(modifier: Any) -> bool:  # noqa: ANN401 (JSON)
    """Whether it is `with input as …`, which reads nothing of what was there before."""
    return _only(modifier["refr"]) == "Var" and modifier["refr"]["Var"]["value"] == "input"


def _constant_keys(node: Any) -> Path | None:  # noqa: ANN401 (JSON)
    """The key, or keys, that an argument of `object.get` is made of."""
    items = node["Array"]["items"] if "Array" in node else [node]
    if all(_only(item) == "String" for item in items):
        return tuple(item["String"]["value"] for item in items)
    return None
