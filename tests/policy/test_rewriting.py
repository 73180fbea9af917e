"""Where the virtual machine answers otherwise than OPA, rules written anew answer as OPA, or nobody does.

What is wanted here is what OPA 1.22 says; test_tiers.py asks it.
"""

from __future__ import annotations

import json

import pytest

from mixer_py.errors import PolicyLoadError
from mixer_py.policy.bundles.bundle import Bundle, Module
from mixer_py.policy.engines.interpreter import Interpreter
from mixer_py.policy.engines.rvm import Machine, MachineStoppedError
from mixer_py.policy.explaining.interpreter import parse
from mixer_py.policy.rego.rewriting import write_decisions

DECISION = "p/value"
UNDEFINED = "<undefined>"
STOPPED = "stopped"
INPUT = {"a": 1, "b": 2, "s": "Text", "l": [1, 2, 3], "o": {"k": "v"}, "false": False, "u": "ann", "n": 1}
DATA = {"users": {"ann": ["admin"], "1": ["numbered"]}, "list": ["x", "y"]}


def compile_both(text: str, data: object = DATA) -> tuple[Interpreter, Machine]:
    modules = (Module("p.rego", f"package p\n{text}\n"), Module("other.rego", "package other.a\n\nx := 1\n"))
    interpreter = Interpreter(Bundle(modules, data, (), ""), [DECISION], lambda _: None)  # type: ignore[arg-type]
    return interpreter, Machine(interpreter.trees, [DECISION], interpreter.read_data)


def run(machine: Machine, document: object = INPUT) -> object:
    assert machine.has(DECISION), machine.kept_off
    try:
        value = json.loads(machine.evaluate(DECISION, json.dumps(document)))
    except MachineStoppedError:
        return STOPPED
    return value if value == UNDEFINED else value[0]


CASES = [
    # what the machine gets wrong when it is given the rules as they are
    ("value if { x := input.zz; true }", UNDEFINED),
    ("value := true if { not input.s + 1 == 2 }", UNDEFINED),
    ("value := [x | some x in [1, 2]; not input.s == x; not input.s]", []),
    ('value if "k" in input.o', UNDEFINED),
    ('value if "v" in input.o', True),
    ("value := 1 in input.zz", UNDEFINED),
    ("value := [[1 | input.zz], 1]", [[], 1]),
    ("value := [x | x := [1 | input.zz]]", [[]]),
    ("value := x if { y := [1 | some z in []; input.a == z]; x := input.b }", 2),
    ("value := [input.zz | some _ in [1]]", []),
    ("value := {input.a, input.b} - {2}", [1]),
    ("value := f(input.zz)\nf(_) := 1", UNDEFINED),
    ("value := 1 if { some x in [1]; x > 1 } else := 2", 2),
    ("value := input.zz if true else := 3", 3),
    ("value := count({x | some x in input.s})", 0),
    ("value if every x in input.l { x > 0 }", True),
    ("value if every x in input.l { x > 1 }", UNDEFINED),
    ("value if every x in input.s { x > 1 }", UNDEFINED),
    ("value if every i, x in input.l { x > i }", True),
    ("value if { some x in [1]; every y in [1] { y == x } }", True),
    ('value := startswith(input.a, "x")', UNDEFINED),
    ("value := input.a / 0", UNDEFINED),
    ("value := x if [x, _] := {0: 1, 1: 2}[input.zz]", UNDEFINED),
    ("value := x if { o := {0: 1, 1: 2}; [x, _] := o }", UNDEFINED),
    ("value := x if { o := {0: 1, 1: 2}; [x, _] = o }", UNDEFINED),
    ("value := x if { x = [1, y]; y = input.b }", [1, 2]),
    ("value := y if { some x in [{0: 1, 1: 5}, [1, 7]]; [1, y] = x }", 7),
    ("value := [x | some [x, [_, 3]] in [[1, [2, 3]], [2, [2, 4]], {0: 1}, 5, [6]]]", [1]),
    ("value := f([1, 2])\nf([x, y]) := [y, x]", [2, 1]),
    ("value := f({0: 1, 1: 2})\nf([x, y]) := [y, x]", UNDEFINED),
    ('value if input.a < "a"', True),
    # what must not be answered there
    ("value := 1 if input.a\nvalue := 2 if input.b", STOPPED),
    ("value := 1 if input.a\nvalue := 1 if input.b", 1),
    ("value := x if some x in input.l", STOPPED),
    ("value := f(3)\nf(x) := 1 if x > 1\nf(x) := 2 if x > 2", STOPPED),
    ("value[k] := v if { some k in [1]; some v in [1, 2] }", STOPPED),
    ("value := {k: v | some k in [1]; some v in [1, 2]}", STOPPED),
    ("value := data.users[input.n]", STOPPED),
    ("value if { x := {1}; x < {2} }", STOPPED),
    ('value := lower("É")', STOPPED),
    ("value := count([x | some x in numbers.range(1, 30000); x > 1])", STOPPED),
    # partial objects
    ('value["a"] := 1 if input.a\nvalue.b := 2 if input.zz\nvalue.c := 3', {"a": 1, "c": 3}),
    ('value["a"] := input.zz', {}),
    ('value["a"] := 1 if input.a\nvalue["a"] := 1 if input.b', {"a": 1}),
    ('value["a"] := 1 if input.a\nvalue["a"] := 2 if input.b', STOPPED),
    ('value["a"] := 1 if input.zz else := 2 if input.a else := 3', {"a": 2}),
    ('value[k] := v if some k, v in input.o\nvalue["z"] := input.l', {"k": "v", "z": [1, 2, 3]}),
    ('value := r.a\nr["a"] := input.a\nr["b"] := input.b', 1),
    ('value["a"] if input.a', {"a": True}),
    # the rest of the language
    ("value contains x if some x in input.l\nvalue contains 9", [1, 2, 3, 9]),
    ('value := data.users[u][0] if u := "ann"', "admin"),
    ('value := u if data.users[u][_] == "admin"', "ann"),
    ("value := [x, y] if [x, y] := [input.b, input.a]", [2, 1]),
    ('value := t if ["Bearer", t] := split("Bearer abc", " ")', "abc"),
    ('default value := "no"\nvalue := "yes" if input.zz', "no"),
    ("value := f(1, 2)\nf(x, y) := z if z := x + y", 3),
    ('value := f("b")\nf("a") := 1\nf("b") := 2', 2),
    ("value := upper(lower(input.s))", "TEXT"),
    ("value := [x | x := input.l[i]; i > 0]", [2, 3]),
    ("import input.o as other\nvalue := other.k", "v"),
    ("value := data.p.inner\ninner := data.list[1]", "y"),
    ("value := {2: `raw`, 1: [null, -1, 1.5]}", {"1": [None, -1, 1.5], "2": "raw"}),
]

INTERPRETER_DIFFERS = {
    "value := 1 in input.zz",  # false
    "value := count({x | some x in input.s})",  # an error
    'value if input.a < "a"',  # an error
}
"""What only the machine has right."""

SAID = [case for case in CASES if case[1] != STOPPED and case[0] not in INTERPRETER_DIFFERS]


@pytest.mark.parametrize(("text", "wanted"), CASES, ids=range(len(CASES)))
def test_a_rule_written_anew_says_what_opa_says(text: str, wanted: object) -> None:
    assert run(compile_both(text)[1]) == wanted


@pytest.mark.parametrize(("text", "wanted"), SAID)
def test_the_interpreter_says_the_same(text: str, wanted: object) -> None:
    value = json.loads(compile_both(text)[0].evaluate(DECISION, json.dumps(INPUT)))
    assert (value if value == UNDEFINED else value[0]) == wanted


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("value := x if x := input.a with input.a as 7", "p.rego:2: the rule data.p.value uses `with`"),
        ("value if {\n  print(input)\n}", "p.rego:3: the rule data.p.value calls print"),
        ('value := glob.match("a", [], "a")', "calls glob.match, a function in Python"),
        ('value if rand.intn("x", 2) == 1', "calls rand.intn"),
        ("value := data.p.q\nq.r.s := 1", "has a name of several parts"),
        ("value := object.keys(data.other)", "reads data.other, a document made of rules"),
        ("value := f(2)\ndefault f(_) := 1\nf(1) := 2", "is a default of a function"),
        ("value := input.a if { other := 1; other == 1 }\nother := 2", "variable other, which is also"),
        ("value if 0, 1 in input.l", "asks for a key and a value by `in`"),
        ("value if input.o[[1, input.n]]", "looks up a composite key"),
        ('value if { {"a": x} = input.o; x }', "unifies an object or a set by `=`"),
    ],
)  # fmt: skip
def test_what_is_not_written_anew_says_where_and_why(text: str, why: str) -> None:
    machine = compile_both(text)[1]
    assert not machine.has(DECISION)
    assert why in machine.kept_off[DECISION]


def test_a_rule_that_needs_itself_does_not_reach_the_machine() -> None:
    """It would end the process; it is refused before, and would be kept off if it were not."""
    text = "value if { input.zz; other }\nother if { input.zz; value }"
    with pytest.raises(PolicyLoadError, match="recursive"):
        compile_both(text)
    written = write_decisions(parse([Module("p.rego", f"package p\n{text}\n")]), [DECISION], lambda _: False)
    assert written.kept_off == {DECISION: "the rule data.p.value needs itself"}


def test_a_program_too_large_stays_with_the_interpreter() -> None:
    rules = "\n".join(f"value if {{ input.a == {n}; input.b == {n} }}" for n in range(6000))
    machine = compile_both(rules)[1]
    assert "exceeds max instructions" in machine.kept_off[DECISION]


def test_only_data_that_rules_read_is_loaded() -> None:
    interpreter = compile_both("value := data.list")[0]
    asked: list[object] = []

    def read(names: object) -> str:
        asked.append(names)
        return interpreter.read_data(names)  # type: ignore[arg-type]

    assert run(Machine(interpreter.trees, [DECISION], read)) == ["x", "y"]
    assert asked == [["list"]]
    assert json.loads(interpreter.read_data(["list", "nothing"])) == {"list": ["x", "y"]}
