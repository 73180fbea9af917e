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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

from mixer_py.policy.builtins.table import LACKING, SUPPORTED
from mixer_py.policy.rego.calls import module_imports, package_path
from mixer_py.policy.rego.reads_references import (
    REFERENCES,
    Path,
    Reference,
    constant_keys,
    head_of,
    kind_of,
    read_reference,
    replaces_input,
)

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
class _Argument:
    """A reference handed to a function: the function as called, and the place among its arguments, from 0."""

    function: Reference
    index: int
    reference: Reference


Uses = frozenset[Path] | None
"""The parts of an argument that a function uses; None when it may use all of it."""


def read_rules(trees: Sequence[Any]) -> Iterator[RuleFacts]:
    """The facts of every definition in all modules."""
    readers = list(_collect(trees))
    mocked = frozenset(chain.from_iterable(reader.mocked for reader in readers))
    functions: dict[Path, tuple[Uses, ...]] = {}
    for reader in readers:
        uses = reader.uses()
        if uses is not None and not any(_related(reader.path, target) for target in mocked):
            functions[reader.path] = _joined(functions.get(reader.path, uses), uses)
    for reader in readers:
        yield reader.facts(functions)


def _related(path: Path, target: Path) -> bool:
    """Whether `with` at a target replaces what is at a path, or below or above it."""
    return path[: len(target)] == target[: len(path)]


def _joined(first: tuple[Uses, ...], second: tuple[Uses, ...]) -> tuple[Uses, ...]:
    """What either definition of a function uses of its arguments."""
    if len(first) != len(second):
        return ()
    return tuple(None if one is None or two is None else one | two for one, two in zip(first, second, strict=True))


def _collect(trees: Sequence[Any]) -> Iterator[_RuleReader]:
    heads = [(package_path(tree["ast"]), tree) for tree in trees]
    names = {(*package, head_of(rule).name) for package, tree in heads for rule in tree["ast"]["rules"]}
    mocked = any(_OBJECT_MOCKED.search(tree["source"]["contents"]) for tree in trees)
    for package, tree in heads:
        imports = module_imports(tree)
        follow_get = not mocked and "object" not in imports and (*package, "object") not in names
        for rule in tree["ast"]["rules"]:
            yield _RuleReader(tree, package, imports, rule, follow_get=follow_get)


class _RuleReader:
    """Collects the references of one rule and says what they mean."""

    def __init__(
        self,
        tree: Any,  # noqa: ANN401 (JSON)
        package: Path,
        imports: dict[str, Path],
        rule: Any,  # noqa: ANN401 (JSON)
        *,
        follow_get: bool,
    ) -> None:
        head = head_of(rule)
        self.path: Path = (*package, head.name, *head.parts)
        self.mocked: set[Path] = set()
        self._rule = rule
        self._file: str = tree["source"]["file"]
        self._contents: str = tree["source"]["contents"]
        self._package = package
        self._imports = imports
        self._follow_get = follow_get
        self._found: list[Reference] = []
        self._arguments: list[_Argument] = []
        self._assigned: dict[str, list[Reference]] = {}
        self._declared: set[str] = set()
        self._collect(rule)

    def facts(self, functions: Mapping[Path, tuple[Uses, ...]]) -> RuleFacts:
        """What the rule refers to.

        Args:
            functions: what those of the policies use of their arguments.
        """
        references: set[Path] = set()
        for argument in self._arguments:
            references.update(self._data_paths(argument.reference))
            self._found.extend(self._handed(argument, functions))
        aliases = self._aliases()
        reads: dict[InputRead, None] = {}
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
        return RuleFacts(self.path, tuple(reads), frozenset(references), tuple(varying), self._rule_alias())

    def uses(self) -> tuple[Uses, ...] | None:
        """What the function that this rule defines uses of each argument; None for what is no function."""
        function = self._rule["Spec"]["head"].get("Func") if "Spec" in self._rule else None
        return None if function is None else tuple(self._uses_of(argument) for argument in function["args"])

    def _uses_of(self, argument: Any) -> Uses:  # noqa: ANN401 (JSON)
        name = argument["Var"]["value"] if kind_of(argument) == "Var" else "_"
        if name in {"_", "input", "data"} or name in self._imports or name in self._assigned or name in self._declared:
            return None
        handed = (one.reference for one in self._arguments)
        every = chain(self._found, handed, chain.from_iterable(self._assigned.values()))
        parts = [reference.parts for reference in every if reference.name == name]
        if parts.count(()) != 1 or len(parts) == 1:  # the argument itself; any other use of the name is one of it all
            return None
        return frozenset(path for path in parts if path)

    def _handed(self, argument: _Argument, functions: Mapping[Path, tuple[Uses, ...]]) -> Iterator[Reference]:
        """What is read of a reference that is handed to a function."""
        reference = argument.reference
        meant = [functions[path] for path in self._data_paths(argument.function) if path in functions]
        known = self._imported_input(reference.name) is not None or reference.name in self._assigned
        if known and len(meant) == 1 and argument.index < len(meant[0]):
            uses = meant[0][argument.index]
            if uses is not None:
                for path in uses:
                    yield Reference(reference.name, (*reference.parts, *path), exact=True, line=reference.line)
                return
        yield reference

    def _collect(self, rule: Any) -> None:  # noqa: ANN401 (JSON)
        pending = [rule]
        while pending:
            node = pending.pop()
            if isinstance(node, list):
                pending.extend(node)
            elif isinstance(node, dict):
                kind = kind_of(node)
                if kind in REFERENCES:
                    self._refer(node, pending)
                elif not (
                    (kind == "Call" and self._collect_call(node["Call"], pending))
                    or (kind == "AssignExpr" and self._collect_assignment(node["AssignExpr"], pending))
                ):
                    if kind in _DECLARATIONS:
                        self._collect_declared(node)
                    for key, value in node.items():
                        if key == "with_mods":
                            self._collect_modifiers(value, pending)
                        elif key != "span" and isinstance(value, (dict, list)):
                            pending.append(value)

    def _collect_modifiers(self, modifiers: Any, pending: list[Any]) -> None:  # noqa: ANN401 (JSON)
        """`with … as …`: reads the value, and what is there, because only a part of it may be replaced."""
        for modifier in modifiers:
            pending.append(modifier["as"])
            if not replaces_input(modifier):
                pending.append(modifier["refr"])
                target, _ = read_reference(modifier["refr"])
                if target is not None:
                    self.mocked.update(self._data_paths(target))

    def _refer(self, node: Any, pending: list[Any]) -> None:  # noqa: ANN401 (JSON)
        reference, inner = read_reference(node)
        pending.extend(inner)
        if reference is not None:
            self._found.append(reference)

    def _collect_call(self, call: Any, pending: list[Any]) -> bool:  # noqa: ANN401 (JSON)
        """`f(reference)`, where `f` may be a function of the policies."""
        if self._collect_get(call, pending):
            return True
        function, _ = read_reference(call["fcn"])
        if function is None or not function.exact:
            return False
        name = ".".join((function.name, *function.parts))
        if name in SUPPORTED or name in LACKING:
            return False
        self._found.append(function)
        for index, node in enumerate(call["params"]):
            reference, _ = read_reference(node) if kind_of(node) in REFERENCES else (None, [])
            if reference is not None and reference.exact:
                self._arguments.append(_Argument(function, index, reference))
            else:
                pending.append(node)
        return True

    def _collect_get(self, call: Any, pending: list[Any]) -> bool:  # noqa: ANN401 (JSON)
        """`object.get(reference, "key" or ["path", "of", "keys"], default)`: reads what is at these keys."""
        arguments = call.get("params", ())
        if not self._follow_get or len(arguments) != _OBJECT_GET_ARGUMENTS or kind_of(arguments[0]) not in REFERENCES:
            return False
        function, _ = read_reference(call["fcn"])
        if function is None or (function.name, function.parts, function.exact) != ("object", ("get",), True):
            return False
        reference, _ = read_reference(arguments[0])
        keys = constant_keys(arguments[1])
        if reference is None or not reference.exact or keys is None:
            return False
        self._found.append(Reference(reference.name, (*reference.parts, *keys), exact=True, line=reference.line))
        pending.append(arguments[2])
        return True

    def _collect_assignment(self, assignment: Any, pending: list[Any]) -> bool:  # noqa: ANN401 (JSON)
        """`name := reference`."""
        if assignment["op"] != "ColEq" or kind_of(assignment["lhs"]) != "Var":
            return False
        name = assignment["lhs"]["Var"]["value"]
        if name in {"_", "input", "data"} or kind_of(assignment["rhs"]) not in REFERENCES:
            return False
        reference, inner = read_reference(assignment["rhs"])
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

    def _input_paths(self, reference: Reference, aliases: dict[str, Path]) -> Iterator[Path]:
        for base in (self._imported_input(reference.name), aliases.get(reference.name)):
            if base is not None:
                yield (*base, *reference.parts)

    def _data_paths(self, reference: Reference) -> Iterator[Path]:
        if reference.name == "data":
            yield ("data", *reference.parts)
        elif reference.name != "input":
            target = self._imports.get(reference.name, ())
            if target[:1] == ("data",):
                yield (*target, *reference.parts)
            yield (*self._package, reference.name, *reference.parts)

    def _rule_alias(self) -> Path | None:
        """Path of the input that a rule such as `http := input.attributes.request.http` is another name for."""
        spec = self._rule.get("Spec")
        if spec is None or spec["bodies"] or "Compr" not in spec["head"] or not head_of(self._rule).exact:
            return None
        assignment = spec["head"]["Compr"]["assign"]
        if assignment is None or kind_of(assignment["value"]) not in REFERENCES:
            return None
        reference, _ = read_reference(assignment["value"])
        if reference is None or not reference.exact:
            return None
        base = self._imported_input(reference.name)
        return None if base is None else (*base, *reference.parts)
