"""What a decision reads, by its text: precise where that is common, and never too little."""

from __future__ import annotations

import re

import orjson
import pytest
import regorus

from mixer_py.policy.rego.reads import EVERYTHING, ReadAnalysis, Reads, find_reads

HTTP = "attributes.request.http"


def trees(*modules: str) -> list[object]:
    engine = regorus.Engine()
    for number, module in enumerate(modules):
        engine.add_policy(f"m{number}.rego", module)
    parsed: list[object] = orjson.loads(engine.get_ast_as_json())
    return parsed


def reads_of(body: str, *others: str, decision: str = "t/allow") -> Reads:
    return find_reads(trees(f"package t\nimport rego.v1\n{body}", *others), decision)


def named(*references: str) -> set[tuple[str, ...]]:
    return {tuple(reference.split(".")) for reference in references}


PRECISE = {
    "nothing": ("allow := true", ()),
    "a constant reference": (f'allow if input.{HTTP}.method == "GET"', (f"{HTTP}.method",)),
    "brackets with text": ('allow if input["attributes"].request["http"].method == "GET"', (f"{HTTP}.method",)),
    "a header": (f'allow if input.{HTTP}.headers["x-a"]', (f"{HTTP}.headers.x-a",)),
    "below a number": ("allow if input.parsed_path[0].a", ("parsed_path",)),
    "below a variable": ("allow if { some x; input.attributes[x].y.z }", ("attributes",)),
    "below a reference": ("allow if input.attributes.a[input.parsed_path[0]]", ("attributes.a", "parsed_path")),
    "below a raw text, which is not followed": ("allow if input.attributes[`a`].b", ("attributes",)),
    "the wider of two": ("allow if { input.a.b; input.a.b.c; input.a.bb }", ("a.b", "a.bb")),
    "negation": ("allow if not input.a.b", ("a.b",)),
    "an import": (f"import input.{HTTP}\nallow if http.method", (f"{HTTP}.method",)),
    "an import with another name": (f"import input.{HTTP} as h\nallow if not h.headers.a", (f"{HTTP}.headers.a",)),
    "an import as a whole": (f"import input.{HTTP} as h\nallow if count(h) == 1", (HTTP,)),
    "an import of all": ("import input as i\nallow if i.a.b", ("a.b",)),
    "a variable": (f"allow if {{ h := input.{HTTP}; h.method; h.headers.a }}", (f"{HTTP}.method", f"{HTTP}.headers.a")),
    "a variable of a variable": ("allow if { a := input.a; b := a.b; b.c; a.d }", ("a.b.c", "a.d")),
    "a variable of all": ("allow if { i := input; i.a.b }", ("a.b",)),
    "a variable that nobody uses": ("allow if { a := input.a.b }", ("a.b",)),
    "a variable as a whole": ("allow if { a := input.a; a.b; a }", ("a",)),
    "a variable by another one": ("allow if { a := input.a; some k; a[k] }", ("a",)),
    "a variable in a comprehension": ("allow if { a := input.a; count([x | x := a.b]) == 1 }", ("a.b",)),
    "a variable in the head": ("allow := x if { x := input.a }", ("a",)),
    "a variable assigned twice": ("allow if { x := input.a; x.p } else if { x := input.b; x.q }", ("a", "b")),
    "a variable that is declared elsewhere": ("allow if { x := input.a; x.p; every x in [1] { x } }", ("a",)),
    "a variable that is unified": ("allow if { x = input.a; x.p }", ("a",)),
    "a destructured object": ('allow if { {"b": x} := input.a; x }', ("a",)),
    "some in": ("allow if { some k, v in input.a.b; v == k }", ("a.b",)),
    "every": ("allow if every x in input.a.b { x == input.c }", ("a.b", "c")),
    "membership": ("allow if input.a in input.b", ("a", "b")),
    "comprehensions": (
        "allow if { [x | x := input.a[_]]; {x | input.b[x]}; {k: v | some k, v in input.c} }",
        ("a", "b", "c"),
    ),
    "a composite": ('allow := {"a": input.a, "b": [input.b, {input.c}], input.d: 1}', ("a", "b", "c", "d")),
    "arithmetic": ("allow if -input.a + input.b * 2 > input.c | input.d", ("a", "b", "c", "d")),
    "an argument": ("allow if f(input.a)\nf(x) if x.b", ("a.b",)),
    "arguments": ("allow if f(input.a, input.b)\nf(x, y) if { x.p == y; not x.q.r }", ("a.p", "a.q.r", "b")),
    "an argument as a whole": ("allow if f(input.a)\nf(x) if { x.b; x }", ("a",)),
    "an argument by a name that varies": ("allow if f(input.a)\nf(x) if x[input.b].c", ("a", "b")),
    "an argument that nobody uses": ("allow if f(input.a)\nf(x) if true", ("a",)),
    "an argument that is compared": ("allow if f(input.a, 1)\nf(x, x) if x.b", ("a",)),
    "an argument that is assigned": ("allow if f(input.a)\nf(x) if { y := x.b; y.c }", ("a.b",)),
    "an argument that is iterated": ("allow if f(input.a)\nf(x) if { some y in x.b; y }", ("a.b",)),
    "an argument that is handed on": ("allow if f(input.a)\nf(x) if g(x.b)\ng(x) if x.c", ("a.b",)),
    "an argument that is handed on as it is": ("allow if f(input.a)\nf(x) if g(x)\ng(x) if x.c", ("a",)),
    "an argument's pattern": ('allow if f(input.a)\nf({"b": x}) if x.c', ("a",)),
    "an argument of two definitions": (
        'allow if f(input.a, input.k)\nf(x, "p") if x.b\nf(x, "q") if x.c',
        ("a.b", "a.c", "k"),
    ),
    "… one of which uses all of it": ("allow if f(input.a, 1)\nf(x, 1) if x.b\nf(x, 2) if x", ("a",)),
    "an argument by an import": ("import input.a.b as h\nallow if f(h)\nf(x) if x.c", ("a.b.c",)),
    "an argument by a variable": ("allow if { h := input.a; f(h.b); h.c }\nf(x) if x.d", ("a.b.d", "a.c")),
    "an argument that is all": ("allow if f(input)\nf(x) if x.a.b", ("a.b",)),
    "an argument of a function that stands in": ("allow if f(input.a) with f as g\nf(x) if x.b\ng(x) if x", ("a",)),
    "… of one that is replaced elsewhere": (
        "allow if f(input.a)\nf(x) if x.b\nother if data.t.f(1) with data.t.f as g\ng(x) if x",
        ("a",),
    ),
    "an argument of a builtin": ("allow if count(input.a) == 1\ncount_(x) if x.b", ("a",)),
    "an argument in a comprehension": ("allow if [x | x := f(input.a)]\nf(x) := [x.b | x.c]", ("a.b", "a.c")),
    "a function's own reads": ("allow if f(1)\nf(x) if input.a == x", ("a",)),
    "a call's result": ("allow if f(input.a).b\nf(x) := x", ("a",)),
    "a rule": ("allow if r\nr if s\ns contains input.a if input.b\nother if input.c", ("a", "b")),
    "a rule's parts": ("allow if r.x\nr[k] := v if { some k, v in input.a }", ("a",)),
    "a rule that is another name": (f"h := input.{HTTP}\nallow if h.method", (f"{HTTP}.method",)),
    "… as a whole": (f"h := input.{HTTP}\nallow if count(h) > 1", (HTTP,)),
    "… with a default": (f"default h := {{}}\nh := input.{HTTP}\nallow if h.method", (HTTP,)),
    "… defined twice": ("h := input.a if input.b\nh := input.c if input.d\nallow if h.x", ("a", "b", "c", "d")),
    "an else": ("allow := input.a if { input.b } else := input.c if { input.d }", ("a", "b", "c", "d")),
    "a default": ("default allow := false\nallow if input.a", ("a",)),
    "the key of a rule": ("allow if r\nr[input.a] := 1", ("a",)),
    "with a part of the input": ("allow if r with input.a.b as input.c\nr if input.d", ("a.b", "c", "d")),
    "with another input": ('allow if r with input as {"a": input.c}\nr if input.a', ("c", "a")),
    "with data": ("allow if r with data.x as input.c\nr if data.x", ("c",)),
    "a function in another's place": ("allow if f(1) with f as g\nf(x) := x\ng(x) := input.a", ("a",)),
    "object.get of a key": (f'allow if object.get(input.{HTTP}.headers, "x-a", "") == ""', (f"{HTTP}.headers.x-a",)),
    "object.get of a path": ('allow if object.get(input.a, ["b", "c"], input.d)', ("a.b.c", "d")),
    "object.get of a variable": ('allow if { h := input.a; object.get(h, "b", 1) == 1 }', ("a.b",)),
    "object.get of a key that varies": ("allow if object.get(input.a, input.b, 1)", ("a", "b")),
    "print": ("allow if print(input.a)", ("a",)),
    "walk": ("allow if walk(input.a, [_, 1])", ("a",)),
    "an undeclared rule of another package": ("allow if data.u.x", ()),
}


@pytest.mark.parametrize("case", PRECISE)
def test_what_is_read(case: str) -> None:
    body, wanted = PRECISE[case]
    found = reads_of(body)
    assert found == Reads(frozenset(named(*wanted)), cacheable=True)


OTHER = "package u.v\nimport rego.v1\nx if input.x\ny if input.y\nf(a) if a.b\n"


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ("allow if data.u.v.x", ("x",)),
        ('allow if data["u"].v.x', ("x",)),
        ("import data.u.v\nallow if v.x", ("x",)),
        ("import data.u.v.x\nallow if x", ("x",)),
        ("import data.u.v.x as z\nallow if z", ("x",)),
        ("allow if data.u.v[input.name]", ("x", "y", "name")),
        ("allow if data.u", ("x", "y")),
        ("allow if { some p; data[p].v }", ("x", "y")),
        ("allow if { d := data.u; d.v.x }", ("x", "y")),
        ("allow if data.u.v.f(input.a)", ("a.b",)),
        ("import data.u.v\nallow if v.f(input.a.c)", ("a.c.b",)),
        ("import data.u.v.f\nallow if f(input.a)", ("a.b",)),
        ("import data.u.v.f\nallow if f(input.a) with data.u.v.f as g\ng(x) := x", ("a",)),
        ("import data.u.v.f\nallow if f(input.a) with data.u as 1", ("a", "x", "y")),
    ],
)
def test_rules_of_other_packages(body: str, wanted: tuple[str, ...]) -> None:
    assert reads_of(body, OTHER).input == named(*wanted)


@pytest.mark.parametrize(
    "body",
    [
        "allow if input",
        "allow if count(input) > 1",
        "allow if { i := input; i == 1 }",
        "allow if { some x; input[x] }",
        "allow if input[data.key]",
        "allow if f(input)\nf(x) if { x.a; x }",
        "allow if walk(input, [_, _])",
        "allow := input",
        'allow := {"all": input}',
        "allow if some x in input",
        "allow if every x in input { x }",
        "allow if [x | x := input[_]]",
        "allow if print(input)",
        "import input as i\nallow if i",
        'allow if object.get(input, input.a, "")',
        'allow if r with input as object.union(input, {"a": 1})\nr if input.a',
        "allow if r\nr if s\ns if input",
        'allow if object.get(input, "a", 1) with object.get as f\nf(x, y, z) := x',
    ],
)
def test_the_whole_input(body: str) -> None:
    found = reads_of(body)
    assert found.input is None
    assert not found.cacheable
    line = next(number for number, text in enumerate(body.split("\n"), 3) if re.search(r"\b(input|i)\b(?!\.)", text))
    assert f"m0.rego:{line}: reads `input` as a whole" in found.why or "import" in body


@pytest.mark.parametrize(
    ("expression", "builtin"),
    [
        ("time.now_ns() > input.a", "time.now_ns"),
        ('rand.intn("x", 3) == input.a', "rand.intn"),
        ('http.send({"url": input.a})', "http.send"),
        ("opa.runtime().env", "opa.runtime"),
        ("count([1]) == 1 with count as time.now_ns", "time.now_ns"),
        ("io.jwt.decode_verify(input.a, {})", "io.jwt.decode_verify"),
        ("uuid.rfc4122(input.a)", "uuid.rfc4122"),
        ("crypto.x509.parse_and_verify_certificates(input.a)", "crypto.x509.parse_and_verify_certificates"),
    ],
)
def test_varying_builtins_are_not_cached(expression: str, builtin: str) -> None:
    found = reads_of(f"allow if r\nr if {expression}\n")
    assert found.input is not None
    assert not found.cacheable
    assert found.why == f"m0.rego:4: the answer of {builtin} is not always the same"


def test_only_what_the_decision_reaches_counts() -> None:
    body = "allow if input.a\nother if time.now_ns() > input.b\nall if input\n"
    analysis = ReadAnalysis(trees(f"package t\nimport rego.v1\n{body}", OTHER))
    assert analysis.reads("t/allow") == Reads(frozenset({("a",)}), cacheable=True)
    assert analysis.reads("t/other").input == {("b",)}
    assert analysis.reads("/t/all/").input is None
    assert analysis.reads("u").input == {("x",), ("y",)}
    both = analysis.reads("t")
    assert both.why.startswith("m0.rego:5: reads `input`")
    assert both.why.endswith("; m0.rego:4: the answer of time.now_ns is not always the same")
    assert not EVERYTHING.cacheable


def test_every_place_that_reads_is_known() -> None:
    body = "allow if {\n  h := input.a\n  h.b\n}\nf(x) := input.c"
    places = {(".".join(read.path), read.place) for read in ReadAnalysis(trees(f"package t\n{body}".replace(
        "package t\n", "package t\nimport rego.v1\n"
    ))).input_reads()}  # fmt: skip
    assert places == {("a.b", "m0.rego:5"), ("c", "m0.rego:7")}
