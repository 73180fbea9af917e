"""Find tests: the modules that hold them, and their rules. Evaluates nothing.

As in OPA, a test is any rule with a name that begins with `test_`, in whatever module; `todo_test_` is one that is to
be skipped. Rules of one name are several tests. A rule with a variable in its name, `test_x[name]`, is a table of
cases, each of which passes when it is true.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mixer_py.errors import Fault, PolicyLoadError
from mixer_py.policy.bundles.bundle import Bundle, Module
from mixer_py.policy.bundles.reading import Terms, read_bundles
from mixer_py.policy.explaining.interpreter import tree_file
from mixer_py.policy.explaining.marking import (
    CASE,
    Body,
    Insertion,
    bodies_of,
    full_references,
    insert,
    mark_body,
    places_of,
)
from mixer_py.policy.reference import reference
from mixer_py.policy.rego.calls import package_path
from mixer_py.policy.rego.nesting import check_nesting
from mixer_py.policy.rego.trees import objects_below
from mixer_py.policy.rego.version_zero import as_version_one

PREFIXES: Final = ("test_", "todo_test_")
TEST_FILE: Final = "_test.rego"


@dataclass(frozen=True, slots=True)
class Suite:
    """What was read to be tested.

    Attributes:
        bundle: policies and data, without the modules below.
        tests: modules that only tests load, named `…_test.rego`.
    """

    bundle: Bundle
    tests: tuple[Module, ...]


@dataclass(frozen=True, slots=True)
class PolicyTest:
    """One test.

    Attributes:
        package: its package, `data.rbac_test`.
        name: its rule, `test_admin`; `test_admin#01` is the second of that name.
        file: the module's path.
        line: 1-based line of the rule.
        question: reference of the rule in the modules with marks.
        todo: it is to be skipped.
        table: its value is an object of cases.
        function: it takes arguments, and so is none that can be run.
        bodies: numbers of its bodies.
    """

    package: str
    name: str
    file: str
    line: int
    question: str
    todo: bool
    table: bool
    function: bool
    bodies: tuple[int, ...]

    @property
    def full_name(self) -> str:
        """Package and name."""
        return f"{self.package}.{self.name}"


@dataclass(frozen=True, slots=True)
class MarkedSuite:
    """Modules with marks in the bodies of tests, the tests, and their bodies by number."""

    modules: tuple[Module, ...]
    tests: tuple[PolicyTest, ...]
    bodies: tuple[Body, ...]


@dataclass(frozen=True, slots=True)
class _Part:
    """One part of the reference that a rule's head is.

    Attributes:
        name: the part; empty when it is not constant.
        key: its text as an expression.
        end: where its name ends, in bytes of the module's text.
        variables: names that its expression needs.
        bracket: it stands in brackets.
    """

    name: str
    key: str
    end: int
    variables: frozenset[str]
    bracket: bool


def read_suite(paths: Sequence[str], rego_version: int = 1) -> Suite:
    """Read policies, data and tests.

    Args:
        paths: folders and files.
        rego_version: of all modules whose bundle does not say it.

    Raises:
        PolicyLoadError: with every fault found.
    """
    bundles, files = [], []
    for path in map(Path, paths):
        if path.is_dir():
            tests, others = _files_of(path)
            files += tests
            bundles += [str(path)] if others or not tests else []
        elif path.name.endswith(TEST_FILE):
            files.append(path)
        else:
            bundles.append(str(path))
    bundle = read_bundles(bundles, Terms(rego_version=rego_version))
    faults, modules = [], {}
    for file in files:
        try:
            text = file.read_text(encoding="utf-8")
            check_nesting(text, str(file))
            modules[file.resolve()] = Module(str(file), text if rego_version else as_version_one(text, str(file)))
        except (OSError, UnicodeDecodeError) as error:
            faults.append(Fault(f"cannot be read: {error}", str(file)))
        except PolicyLoadError as error:
            faults.extend(error.faults)
    if faults:
        raise PolicyLoadError(faults)
    return Suite(bundle, tuple(modules.values()))


def mark_tests(trees: Sequence[Any]) -> MarkedSuite:
    """Find the tests of modules and mark their bodies; the second test of a name gets a name of its own."""
    counted: Counter[str] = Counter()
    bodies: list[Body] = []
    tests: list[PolicyTest] = []
    modules = []
    for tree in sorted(trees, key=tree_file):
        source = tree["source"]["contents"]
        text = source.encode()
        package = package_path(tree["ast"])
        insertions: list[Insertion] = []
        for entry in tree["ast"]["rules"]:
            parts = _head_parts(entry, text)
            length = _name_length(parts)
            if not length:
                continue
            path = tuple(part.name for part in parts[:length])
            full = ".".join((*package, *path))
            todo = path[-1].startswith(PREFIXES[1])
            suffix = f"__{counted[full]:02}" if counted[full] and not todo else ""
            counted[full] += 1
            if suffix:
                insertions.append(Insertion(parts[length - 1].end, suffix))
            first = len(bodies)
            insertions += _mark_entry(entry, tree, parts[length:], bodies)
            test = PolicyTest(
                reference("/".join(package[1:])),
                ".".join(path) + suffix.replace("__", "#"),
                tree_file(tree),
                next(iter(entry.values()))["span"]["line"],
                reference("/".join((*package[1:], *path[:-1], path[-1] + suffix))),
                todo,
                _is_table(entry, parts[length:]),
                "Func" in entry.get("Spec", {}).get("head", {}),
                tuple(range(first, len(bodies))),
            )
            tests.append(test)
        insertions += full_references(tree)
        modules.append(Module(tree_file(tree), insert(source, insertions)))
    return MarkedSuite(tuple(modules), tuple(tests), tuple(bodies))


def _files_of(folder: Path) -> tuple[list[Path], bool]:
    """The tests of a folder in order, names that begin with a dot left out; whether it has anything else."""
    tests, others = [], False
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if name.endswith(TEST_FILE) and not name.startswith("."):
                tests.append(Path(parent, name))
            else:
                others = others or name.endswith((".rego", ".json", ".yaml", ".yml"))
    return tests, others


def _head_parts(entry: Any, text: bytes) -> list[_Part]:  # noqa: ANN401 (the engine's syntax tree, which is JSON)
    ((_, rule),) = entry.items()
    head = next(iter(rule["head"].values())) if "head" in rule else rule
    parts: list[_Part] = []
    node = head["refr"]
    while "Var" not in node:
        ((kind, content),) = node.items()
        if kind == "RefDot":
            span, name = content["field"]
            parts.append(_Part(name, json.dumps(name), span["end"], frozenset(), bracket=False))
        else:
            (index,) = content["index"].values()
            constant = index["value"] if "String" in content["index"] else ""
            variables = frozenset(_variables(content["index"]))
            key = json.dumps(constant) if constant else text[index["span"]["start"] : index["span"]["end"]].decode()
            parts.append(_Part(constant, key, index["span"]["end"], variables, bracket=True))
        node = content["refr"]
    var = node["Var"]
    parts.append(_Part(var["value"], "", var["span"]["end"], frozenset(), bracket=False))
    return parts[::-1]


def _name_length(parts: Sequence[_Part]) -> int:
    """How many parts a test's name has; 0 when the rule is none."""
    for length, part in enumerate(parts, start=1):
        if part.variables or not part.name:
            return 0
        if part.name.startswith(PREFIXES):
            return length
    return 0


def _is_table(entry: Any, tail: Sequence[_Part]) -> bool:  # noqa: ANN401 (JSON)
    """Whether OPA takes a rule for a table: a part is no constant, or it sets a member as `test_x["a"] := …` does."""
    if any(not part.name for part in tail):
        return True
    head = entry.get("Spec", {}).get("head", {}).get("Compr", {})
    return bool(tail) and tail[-1].bracket and head.get("assign") is not None


def _mark_entry(entry: Any, tree: Any, tail: Sequence[_Part], bodies: list[Body]) -> Iterator[Insertion]:  # noqa: ANN401 (JSON)
    """Marks of a test's bodies, which are added to `bodies`, and the call that names each case of a table."""
    if "Spec" not in entry:
        return
    text = tree["source"]["contents"].encode()
    for body, node in bodies_of((), entry["Spec"], tree):
        number = len(bodies)
        bodies.append(body)
        marks = list(mark_body(number, node, text))
        if not tail or node["is_else"]:
            yield from marks
            continue
        keys = ", ".join(f"json.marshal({part.key})" for part in tail)
        call = f"{CASE}({number}, [{keys}])"
        statements = node["query"]["stmts"]
        bound = _bound_by(statements, frozenset[str]().union(*(part.variables for part in tail)))
        places = places_of(node["query"], text)
        if bound < 0:
            yield from [*marks, Insertion(places[0][0], f"{call}; ")]
        else:
            yield from [Insertion(places[bound][1], f"; {call}"), *marks]


def _bound_by(statements: Sequence[Any], names: frozenset[str]) -> int:
    """Index of the statement after which all names have been seen; -1 when none of them is in any."""
    seen = [set(_variables(statement)) for statement in statements]
    return max((next((i for i, there in enumerate(seen) if name in there), -1) for name in names), default=-1)


def _variables(node: Any) -> Iterator[str]:  # noqa: ANN401 (JSON)
    """Every name in a node; `some` and `every` declare theirs by places in the text, which count as well."""
    for found in objects_below(node):
        var = found.get("Var")
        if isinstance(var, dict) and "value" in var:
            yield var["value"]
