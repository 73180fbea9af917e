"""What is written anew before the engine compiles it, and what is refused because the engine would go wrong."""

from __future__ import annotations

import asyncio

import pytest

from mixer_py.errors import PolicyLoadError
from mixer_py.policy.bundles.bundle import Bundle, Module
from mixer_py.policy.engines.embedded import EmbeddedEngine
from mixer_py.policy.engines.parsing import ready_modules
from mixer_py.policy.engines.protocol import NoWatch
from mixer_py.policy.rego.patterns import translate


def decide(text: str, input_json: str = "{}") -> object:
    engine = EmbeddedEngine(Bundle((Module("p.rego", text),), {}, (), ""), ["p/x"], NoWatch())
    return asyncio.run(engine.evaluate("p/x", input_json)).value


def ready(text: str) -> str:
    (module,) = ready_modules([Module("p.rego", text)])
    return module.text


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ('upper("a", y)', 'upper("a") = y '),
        ('upper("a",\n\ty)', 'upper("a") =\n\ty '),
        ('upper("a, (", # b,\n\t"A",)', 'upper("a, (") = # b,\n\t"A"  '),
        ('strings.count(concat(",", ["a"]), "a", 1)', 'strings.count(concat(",", ["a"]), "a") = 1 '),
        ("[p, v] := walk(input)", "some p, v; walk(input, [p, v] )"),
        ("[p, _] = walk(input)", "walk(input, [p, _] )"),
        ('[\n\t["a"],\n\tv] := walk(input)', 'some v; \n\nwalk(input, [ \t["a"], \tv] )'),
        ('regex.match("\\\\d", "1")', 'regex.match("[0-9]", "1")'),
        ('regex.match(`\\d`, "1")', 'regex.match(`[0-9]`, "1")'),
    ],
)
def test_calls_are_written_as_the_engine_knows_them(written: str, wanted: str) -> None:
    before, after = "package p\n\nx if {\n\t", "\n}\n"
    assert ready(before + written + after) == before + wanted + after


@pytest.mark.parametrize(
    "text",
    [
        'package p\n\nx if {\n\tupper("a") == "A"\n\twalk(input, [_, 1])\n\tregex.match("a", "a")\n}\n',
        "package p\n\nupper(a, b) := a + b\n\nx if {\n\tupper(1, 2)\n}\n",
        'package p\n\nimport data.lib.upper\n\nx if {\n\tlib.upper("a", "b")\n}\n',
        "package p\n\nx if {\n\tlower(\n",
    ],
)
def test_what_needs_no_change_stays(text: str) -> None:
    assert ready(text) == text


def test_a_result_as_an_argument_reaches_the_rule() -> None:
    text = 'package p\n\nx := y if {\n\tio.jwt.decode("eyJhbGciOiJIUzI1NiJ9.eyJhIjoxfQ.", [_, y, _])\n}\n'
    assert decide(text) == {"a": 1}


def test_a_line_may_hold_a_key_set() -> None:
    assert decide(f'package p\n\nx := count("{"a" * 5000}")\n') == 5000


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a[q].r contains 1 if some q in [1]\na.b.r contains 2\nx := 1\n", 3, "has a variable where another"),
        ("a[q].r := 1 if some q in [1]\na.b := {}\nx := 1\n", 3, "has a variable where another"),
        ("default a.b.f(_) := 1\nx := 1\n", 3, "a default for a function"),
        ("import future.keywords.not\nx := 1\n", 3, "lacks the keyword `not`"),
        ("x if {\n\tcount([1]) == 1 with count as f\n}\nf(y) := count(y)\n", 4, "calls it"),
        ("x if {\n\ty := input.a\n\tnot walk(y, [1])\n}\n", 5, "walk cannot be negated"),
        ("x := walk(input)\n", 3, "nothing by walk"),
        ('x if {\n\ts := {"a"}\n\t"a", "a" in s\n}\n', 5, "finds nothing in a set"),
        ("x if input.a > 18446744073709551616\n", 3, "beyond 64 bits"),
        ("x if input.a > -9223372036854775809\n", 3, "beyond 64 bits"),
        ("x if input.a > 0.12345678901234567890\n", 3, "more exact than"),
    ],
)
def test_what_the_engine_would_get_wrong_is_refused_at_its_place(text: str, line: int, message: str) -> None:
    with pytest.raises(PolicyLoadError) as caught:
        decide(f"package p\n\n{text}")
    (fault,) = caught.value.faults
    assert (fault.file, fault.line) == ("p.rego", line)
    assert message in fault.message
    assert fault.way_out


@pytest.mark.parametrize(
    "text",
    [
        "x if {\n\tsome k, v in input\n\tk == v\n}\nx if 0.1 < 1.50\nx if 18446744073709551615 > 1e3\n",
        'x if "a", 1 in {"a": 1}\nx if 0, "b" in input.list\nx if 0, 1 in [1 | true]\n',
        'headers[name] := "v" if some name in ["a"]\nheaders["b"] := "v"\nx if headers.a\n',
        "a[q][r] := 1 if {\n\tq := 1\n\tr := 2\n}\nx if a[1][2]\n",
        "x if count([1]) == 1 with count as 1\nx if count([1]) == 1 with count as f\nf(_) := 1\n",
    ],
)
def test_what_the_engine_gets_right_is_taken(text: str) -> None:
    assert decide(f"package p\n\n{text}") is True


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("", ""),
        ("a", "a"),
        (r"\d[\d]\D[\D]", "[0-9][0-9][^0-9][[^0-9]]"),
        (r"[\w-.]", r"[0-9A-Za-z_\-.]"),
        (r"\\d\.", r"\\d\."),
        ("[]a]b]", r"[\]a]b]"),
        ("[a&&b]", r"[a\&&b]"),
        (r"\Qa.b\E.", r"a\.b."),
        ("a{,2}{1}", r"a\{,2}{1}"),
        ("[", "["),
        ("a\\", "a\\"),
    ],
)
def test_a_pattern_is_translated(pattern: str, wanted: str) -> None:
    assert translate(pattern) == wanted
