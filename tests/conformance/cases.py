"""OPA's own conformance cases, as they travel in its Go module: found, read, and made into policies and decisions.

No case is kept in this repository. A case asks a query; a decision is a rule. So a query that is more than a rule's
path becomes a rule of a module beside the case's own, and so does an input that JSON cannot write.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from mixer_py.policy.bundles.reading import Bundle, Module

_RULE_QUERY: Final = re.compile(r"data(?P<path>(?:\.\w+)+) = x")
_INPUT: Final = re.compile(r"^[^#\n]*\binput\b", re.MULTILINE)
_PACKAGE: Final = "mixer_conformance"


def cases_folder(module: Path, version: str) -> Path:
    """The folder of cases for Rego `v0` or `v1` in OPA's module."""
    return module / "v1/test/cases/testdata" / version


@dataclass(frozen=True, slots=True)
class Wanted:
    """What OPA makes of a case.

    Attributes:
        kind: `value`, `undefined`, or `error`.
        value: as JSON values.
        unordered: whether the order of an array's elements means nothing.
    """

    kind: str
    value: object = None
    unordered: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """One case as something to load and to decide.

    Attributes:
        name: its note.
        family: the folder it lies in, which is a builtin or a part of the language.
        bundle: modules and data.
        rego_version: that the modules are written in, 0 or 1.
        decision: path of the rule to evaluate.
        input_json: the input document.
        wanted: what OPA answers; None when the case says only what OPA answers with `strict-builtin-errors`.
        unaskable: why mixer can never be asked this; empty when it can.
    """

    name: str
    family: str
    bundle: Bundle
    rego_version: int
    decision: str
    input_json: str
    wanted: Wanted | None
    unaskable: str


def read_cases(folder: Path) -> Iterator[Case]:
    """All cases below a folder that `cases_folder` gives, in order of their files."""
    version = int(folder.name.removeprefix("v"))
    for file in sorted(folder.rglob("*.yaml")):
        family = file.relative_to(folder).parts[0]
        document = yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
        for index, entry in enumerate(document["cases"]):
            yield _make_case(f"{file.stem}#{index} {entry['note']}", family, entry, version)


def _make_case(name: str, family: str, entry: dict[str, Any], version: int) -> Case:
    modules = [Module(f"case-{index}.rego", text) for index, text in enumerate(entry.get("modules") or ())]
    query, results = entry["query"].strip(), entry.get("want_result")
    rule = _RULE_QUERY.fullmatch(query)
    term = entry.get("input_term")
    if term is not None and not _is_json(term):
        query, rule, term = f"{query} with input as {term}", None, None
    if rule is not None:
        decision = rule["path"][1:].replace(".", "/")
    else:
        names = sorted({name for result in results or () for name in result if not name.startswith("__local")})
        bindings = ", ".join(f'"{name}": {name}' for name in names)
        text = f"package {_PACKAGE}\n\nimport rego.v1\n\nbindings contains {{{bindings}}} if {{\n{query}\n}}\n"
        modules.append(Module("query.rego", text))
        decision = f"{_PACKAGE}/bindings"
    input_json = term if term is not None else json.dumps(entry.get("input"), default=str)
    return Case(
        name,
        family,
        Bundle(tuple(modules), entry.get("data") or {}, (), ""),
        version,
        decision,
        input_json,
        _wanted(entry, is_rule=rule is not None),
        _why_unaskable(entry),
    )


def _why_unaskable(entry: dict[str, Any]) -> str:
    if entry["query"].strip() == "data = x":
        return "asks for all data, which is no decision"
    texts = [entry["query"], *(entry.get("modules") or ())]
    if "input" not in entry and "input_term" not in entry and any(_INPUT.search(text) for text in texts):
        return "has no input, which a check always has"
    return ""


def _wanted(entry: dict[str, Any], *, is_rule: bool) -> Wanted | None:
    if entry.get("strict_error"):
        return None
    results = entry.get("want_result")
    if results is None:
        return Wanted("error")
    unordered = bool(entry.get("sort_bindings"))
    if not is_rule:
        named = [{k: v for k, v in result.items() if not k.startswith("__local")} for result in results]
        return Wanted("value", named, unordered=True)
    return Wanted("value", results[0]["x"], unordered) if results else Wanted("undefined")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
