"""Regular expressions that are none: written out in a policy, they make their expression undefined for ever.

OPA loads such policies, and so does the server; it is a mistake to tell a person of. What is one and what is none is
RE2's to say, whose syntax is that of Go and so of OPA.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import re2

from mixer_py.errors import Fault
from mixer_py.policy.rego.calls import Functions, call_nodes
from mixer_py.policy.rego.trees import span_of

_PATTERN_AT: Final = {
    "regex.find_all_string_submatch_n": 0,
    "regex.find_n": 0,
    "regex.match": 0,
    "regex.replace": 1,
    "regex.split": 0,
}
"""Which argument is the pattern, from 0."""


def check_patterns(trees: Sequence[Any]) -> list[Fault]:
    """A fault for every pattern that is written out and is none, in the order of files and lines.

    Args:
        trees: the modules' syntax trees.
    """
    functions = Functions(trees)
    faults = [fault for tree in trees for fault in _check(tree, functions)]
    return sorted(faults, key=lambda fault: (fault.file, fault.line))


def _check(tree: Any, functions: Functions) -> Iterator[Fault]:  # noqa: ANN401 (JSON)
    for call in call_nodes(tree["ast"]["rules"]):
        name = functions.builtin_of(call, tree) or ""
        index = _PATTERN_AT.get(name, len(call["params"]))
        if index < len(call["params"]):
            node = call["params"][index].get("String") or call["params"][index].get("RawString")
            why = "" if node is None else _why_not(node["value"])
            if why:
                message = f"{name} is always undefined, because its pattern is none: {why}"
                yield Fault(message, tree["source"]["file"], span_of(call["fcn"])["line"])


def _why_not(pattern: str) -> str:
    """Why a text is no pattern; empty when it is one."""
    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(pattern.encode(), options)
    except re2.error as error:
        said = error.args[0]
        return said.decode(errors="replace") if isinstance(said, bytes) else str(said)
    return ""
