"""Definitions that OPA refuses are refused at load, where they stand; what looks like one and is none is not."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mixer_py.errors import PolicyLoadError
from mixer_py.policy.policy import Policy
from tests.parts.presence import find_server

HEADER = "package envoy.authz\n\ndefault allow := false\n\n"
NO_VALUE = "5: the variable y has no value"

REFUSED = {
    "the value": ("allow := y", NO_VALUE),
    "a part of the value": ('allow := {"a": [y]}', NO_VALUE),
    "the value beside a body": ("allow := y if input.parsed_path", NO_VALUE),
    "the value behind else": ("allow if input.parsed_path\nelse := y", "6: the variable y has no value"),
    "an element": ("s contains y if input.parsed_path", NO_VALUE),
    "a key": ("o[y] := 1 if input.parsed_path", NO_VALUE),
    "a member": ('o["a"] := y', NO_VALUE),
    "a function's value": ("f(a) := y if a", NO_VALUE),
    "what a comprehension collects": ("allow if count([y | input.parsed_path]) > 0", NO_VALUE),
    "a key that a comprehension collects": ("n := count({y: 1 | input.parsed_path})", NO_VALUE),
    "one that some declares and nothing binds": ("allow := y if { some y; input.parsed_path }", NO_VALUE),
    "itself": ("allow if not allow", "5: the rule data.envoy.authz.allow is recursive"),
    "rules in a circle": (
        "allow if a\na if b\nb if a",
        "6: the rule data.envoy.authz.a is recursive: data.envoy.authz.a -> data.envoy.authz.b -> data.envoy.authz.a",
    ),
    "a circle that nothing asks for": ("a if b\nb if a", "5: the rule data.envoy.authz.a is recursive"),
    "functions in a circle": (
        "f(x) := g(x)\ng(x) := f(x)\nallow if f(1)",
        "5: the rule data.envoy.authz.f is recursive",
    ),
    "a circle by a reference that may be any": (
        "allow if data.envoy.authz[input.parsed_path[0]]",
        "5: the rule data.envoy.authz.allow is recursive",
    ),
    "a circle by a set": ("s contains 1 if allow\nallow if s[1]", "6: the rule data.envoy.authz.allow is recursive"),
    "too many arguments": (
        "f(x) := x\nallow if f(1, 2, 3)",
        "6: function data.envoy.authz.f takes 1 argument, 3 are given",
    ),
    "too few arguments": (
        "f(x, y) := x\nallow if f(1)",
        "6: function data.envoy.authz.f takes 2 arguments, 1 is given",
    ),
    "too few arguments of sprintf": ('allow if sprintf("%s")', "5: builtin sprintf takes 2 arguments, 1 is given"),
    "none of json.unmarshal": ("allow if json.unmarshal()", "5: builtin json.unmarshal takes 1 argument, 0 are given"),
    "a set and a value": (
        "s contains 1\ns := 2",
        "6: data.envoy.authz.s is a set and a rule with one value",
    ),
    "a function and a value": ("f(x) := x\nf := 1", "6: data.envoy.authz.f is a function and a rule with one value"),
    "two defaults": ("default allow := true", "5: data.envoy.authz.allow has several defaults"),
}

TAKEN = {
    "bound by unification": "allow := y if y = input.parsed_path",
    "bound by a pattern": "allow := y if [y, _] = input.parsed_path",
    "bound as an index": "o[y] := z if z := input.parsed_path[y]",
    "bound by the output of a call": "allow := y if { count(input.parsed_path, y) }",
    "bound by walk": "s contains y if walk(input.parsed_path, [_, y])",
    "arguments": 'f(a, [b, {"k": c}]) := [a, b, c]\nallow if f(1, [2, {"k": 3}])',
    "another rule": "allow := y if input.parsed_path\ny := 1",
    "an import": "allow := [path, roles]",
    "bound by walk in a comprehension": "n := [y | walk(input.parsed_path, [_, y])]",
    "bound as an index in a comprehension": "n := [[y, z] | z := input.parsed_path[y]]",
    "nested comprehensions": "n := [[[y, z] | some y in input.parsed_path] | z := 1]",
    "bound around a comprehension": "n := count([y | true]) if y := input.parsed_path",
    "declared by every": "allow if every y in input.parsed_path { count([y | true]) == 1 }",
    "declared by some": "allow if { some y in input.parsed_path; count([y | true]) == 1 }",
    "an argument that is called as a rule is": "f(allow) := allow\nallow if f(1)",
    "assigned, and called as a rule is": "user := 1 if { allow := input.parsed_path; allow }\nallow if user",
    "replaced by with": "h if input.parsed_path\nallow if h with input.parsed_path as []",
    "members of one object": 'r["a"] := 1\nr["b"] := 2 if r.a\nallow if r.b',
    "a function with its output": "f(x) := x\nallow if f(1, 1)",
    "rules of another package": "allow if data.envoy.other[input.parsed_path[0]]",
    "a recursion of the documents": "allow if data.tree.tree.tree",
}


def written(policy: str) -> str:
    return HEADER.replace("default", "import data.roles\nimport input.parsed_path as path\n\ndefault") + policy


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_meaning_is_refused_where_it_stands(case: str, load: Callable[..., Policy]) -> None:
    policy, wanted = REFUSED[case]
    with pytest.raises(PolicyLoadError) as caught:
        load(HEADER + policy)
    assert any(f"{fault.line}: {fault.message}".startswith(wanted) for fault in caught.value.faults), (
        caught.value.faults
    )


@pytest.mark.parametrize("case", TAKEN)
def test_what_has_one_is_taken(case: str, load: Callable[..., Policy], capfd: pytest.CaptureFixture[str]) -> None:
    load({"policy.rego": written(TAKEN[case]), "other.rego": "package envoy.other\n\nx := 1\n"})
    assert capfd.readouterr() == ("", "")


def test_a_number_in_brackets_is_a_key_and_not_any_key(load: Callable[..., Policy]) -> None:
    load(HEADER + "allow if data[2]")  # as one of OPA's own cases has it; its type checker knows the packages


def test_every_circle_of_many_is_told_of_once_at_most(load: Callable[..., Policy]) -> None:
    rules = "".join(f"a{number} if a{(number + 1) % 50}\n" for number in range(50))
    with pytest.raises(PolicyLoadError) as caught:
        load(HEADER + rules + "b if c\nc if b\nd if a0\n")
    assert len(caught.value.faults) == 2


@pytest.mark.opa
@pytest.mark.parametrize(("case", "refused"), [*((case, True) for case in REFUSED), *((case, False) for case in TAKEN)])
def test_opa_refuses_the_same(case: str, refused: bool, tmp_path: Path) -> None:
    file = tmp_path / "policy.rego"
    file.write_text(HEADER + REFUSED[case][0] if refused else written(TAKEN[case]), encoding="utf-8")
    program = find_server("opa")
    assert program is not None
    done = subprocess.run([program, "check", str(file)], capture_output=True, text=True, check=False)
    assert (done.returncode != 0) is refused, done.stderr
