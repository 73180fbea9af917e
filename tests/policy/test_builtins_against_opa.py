"""Builtins and numbers in the embedded engine against a real OPA, by single expressions.

The second table is what is known to differ; an entry that no longer does fails, so that it leaves the table.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from mixer_py.demo.processes import Ports
from mixer_py.errors import EvaluationError, UndefinedDecisionError
from mixer_py.policy.bundles import Bundle, Module
from mixer_py.policy.embedded import EmbeddedEngine
from tests.parts.opa_server import Answer, Opa
from tests.parts.programs import Programs

pytestmark = pytest.mark.opa

ALIKE = r"""
lower("AÉ")
upper("é")
count("é")
split("a,b,,c", ",")
split("é", "")
trim("aba", "a")
trim_space("\u00a0\u2003a\u0085\u200b")
trim_left("aAb", "aA")
trim_prefix("aab", "a")
trim_suffix("baa", "a")
substring("abc", 1, 1)
substring("abc", 0, -1)
substring("abc", -1, 2)
substring("abc", 5, 2)
indexof("caf\u00e9x", "x")
indexof_n("aXbX", "X")
strings.reverse("ab\u00e9")
strings.any_prefix_match("ab", ["a", "c"])
concat("/", ["a", ""])
concat(",", {"b", "a"})
startswith("a", "")
"é" == "e\u0301"
"a" < "b"
"a" in {"k": "a"}
sprintf("%s|%v|%d|%q|%x|%%", ["a", [1, "b"], 3, "c\"d", 255])
sprintf("%v", [{"a": 1, "b": [1, "x"]}])
sprintf("%s", ["%s"])
sprintf("%5d", [42])
base64.decode("YQ==")
base64.decode("YQ")
base64.decode("_-8=")
base64url.decode("YQ")
base64url.decode("YQ==")
base64url.decode("_-8")
hex.decode("6A")
hex.decode("6")
urlquery.decode("a+b%20c")
urlquery.decode_object("a=1&a=2&b")
json.unmarshal("{\"a\":1,\"a\":2}")
json.unmarshal("1 2")
json.unmarshal("01")
json.is_valid("{")
json.marshal({"b": 1, "a": [null]})
1 == 1.0
1 in {1.0}
10 / 4
-7 % 3
7.5 % 2
1 / 0
9223372036854775807 + 1
9007199254740993
round(2.5)
round(-2.5)
floor(-1.2)
to_number("0x10")
to_number("1")
to_number("NaN")
to_number(null)
net.cidr_contains("10.0.0.0/8", "10.1.2.3")
net.cidr_contains("10.0.0.0/8", "10.1.0.0/16")
net.cidr_contains("10.0.0.0/16", "10.0.0.0/8")
net.cidr_contains("10.0.0.0/8", "010.1.2.3")
net.cidr_contains("10.1.2.3/8", "10.9.9.9")
net.cidr_contains("0.0.0.0/0", "::1")
net.cidr_contains("127.0.0.0/8", "127.1")
net.cidr_contains("10.0.0.0/33", "10.1.2.3")
regex.match("^a$", "a\n")
regex.match("a.b", "a\nb")
regex.match("(?i)k", "\u212a")
regex.match("[[:alpha:]]", "é")
regex.match("(?=a)", "a")
regex.match("(", "a")
regex.replace("abc", "(b)", "$1x")
regex.replace("abc", "(?P<x>b)", "${x}y")
regex.find_n("a", "aaa", 2)
regex.split("[,/]", "a,b/c")
glob.match("*.github.com", [], "api.github.com")
glob.match("*.github.com", [], "a.b.github.com")
glob.match("*:*", [":"], "a:b")
glob.match("/a/*", ["/"], "/a/b/c")
glob.match("/a/*", ["/"], "/a/")
glob.match("/a/**", ["/"], "/a/b/c")
glob.match("/*/b", ["/"], "//b")
glob.match("{a,b*}", ["/"], "bcd")
glob.match("[!a]x", [], "bx")
glob.match("A", [], "a")
time.parse_rfc3339_ns("2026-01-02T03:04:05.123456789+02:00")
time.parse_rfc3339_ns("2026-02-30T03:04:05Z")
time.parse_ns("2006-01-02", "2026-03-04")
time.parse_duration_ns("1.5h")
time.date([1700000000000000000, "America/New_York"])
time.clock([1700000000000000000, "Europe/Berlin"])
time.weekday(1700000000000000000)
units.parse("1.5M")
units.parse_bytes("1.5MiB")
semver.compare("1.2.3-a", "1.2.3")
object.get({"a": {"b": 1}}, ["a", "b"], 0)
object.union({"a": {"b": 1}}, {"a": {"c": 2}})
object.subset([1, 2, 3], [2, 3])
json.patch({"a": 1}, [{"op": "add", "path": "/b", "value": 2}])
json.filter({"a": {"b": 1, "c": 2}}, ["a/b"])
array.slice([1, 2, 3], -1, 2)
sort([3, "a", null, true, [1], {"a": 1}])
sum([1, 2.5])
max([])
{1, 2} - {2}
numbers.range(3, 1)
graph.reachable({"a": ["b"]}, ["a", "z"])
yaml.unmarshal("a: yes")
yaml.unmarshal("a: 2026-01-01")
"""
"""Expressions with the same value, or without one, in both engines."""

DIFFERENT = {
    "numbers are 64-bit integers or floats; OPA's are decimal, of any length, and keep the way they were written": r"""
18446744073709551616
123456789012345678901234567890 + 1
0.1 + 0.2 == 0.3
json.marshal(1.0)
json.marshal(1e3)
""",
    "letters change case in full (one may become two, a last sigma is its own); OPA maps one letter to one": r"""
lower("BASİC")
lower("ΑΣ")
upper("ß")
""",
    "a character beyond the Basic Multilingual Plane counts twice": 'count("😀")',
    "base64 must be canonical; OPA ignores line breaks and stray bits before the padding": r"""
base64.decode("YR==")
base64.decode("Y\nQ==")
base64.is_valid("YR==")
""",
    "percent escapes that are none, and semicolons, stay as they are; in OPA they are errors": r"""
urlquery.decode("%zz")
urlquery.decode_object("a;b")
""",
    "patterns are of Rust's regex: classes know Unicode, sets have operators, and the syntax is a little wider": r"""
regex.match("\\d", "٣")
regex.match("\\w", "é")
regex.match("\\s", "\u00a0")
regex.match("\\bx", "éx")
regex.match("[a&&b]", "&")
regex.match("[\\w-.]", "-")
regex.match("\\Qa.b\\E", "a.b")
regex.match("a{,2}", "a{,2}")
regex.match("x**", "x")
regex.split("", "abc")
""",
    "two stars cross delimiters only as a whole segment, which may be none; a set may be negated by ^": r"""
glob.match("/a/**/c", ["/"], "/a/c")
glob.match("a**", ["/"], "a/b")
glob.match("[^a]", [], "b")
""",
    "an IPv4 address written as IPv6 is in no IPv4 range": r"""
net.cidr_contains("10.0.0.0/8", "::ffff:10.1.2.3")
""",
    "times are read more leniently, zones by their letters": r"""
time.parse_rfc3339_ns("2026-01-02 03:04:05Z")
time.parse_ns("RFC1123", "Mon, 02 Jan 2006 15:04:05 MST")
""",
    "a month later is never the month after next": "time.add_date(1706659200000000000, 0, 1, 0)",
    "sprintf knows few flags, widths and precisions, and does not write of its errors into the text": r"""
sprintf("%-5d|", [42])
sprintf("%10s|", ["a"])
sprintf("%-10s|", ["a"])
sprintf("%.1s", ["abc"])
sprintf("%f", [1.5])
sprintf("%s", [3])
sprintf("%d", ["x"])
sprintf("%d", [])
sprintf("%v", [1e21])
""",
    "json.marshal escapes nothing for HTML": 'json.marshal("<")',
    "to_number trims": 'to_number(" 1")',
    "replacements see what earlier ones wrote": 'strings.replace_n({"a": "b", "b": "c"}, "ab")',
    "occurrences may overlap": 'strings.count("aaa", "aa")',
    "an empty text is found at the beginning": 'indexof("abc", "")',
    "YAML is of version 1.2": 'yaml.unmarshal("a: 010")',
}
"""Expressions that are known to differ, by what the embedded engine does."""


@pytest.fixture(scope="module")
def opa(module_programs: Programs, ports: Ports) -> Iterator[Opa]:
    server = Opa(module_programs, ports)
    yield server
    server.close()


def lines(text: str) -> list[str]:
    return text.strip().splitlines()


def ask_both(opa: Opa, expression: str) -> tuple[str, str]:
    """What the embedded engine and OPA say; `true` is not `1`, and `1` is `1.0`."""
    module = f"package single\n\nvalue := {expression}\n"
    with opa.holding(module, "{}"):
        theirs = opa.evaluate("single/value", "{}")
    return plain(evaluate(module)), plain(theirs)


def evaluate(module: str) -> Answer:
    engine = EmbeddedEngine(Bundle((Module("single.rego", module),), {}, (), ""), "single/value")
    try:
        return Answer("value", engine.evaluate("{}"))
    except UndefinedDecisionError:
        return Answer("undefined")
    except EvaluationError:
        return Answer("error")


def plain(answer: Answer) -> str:
    value = answer.value
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    return f"{answer.kind} {json.dumps(value, sort_keys=True)}"


@pytest.mark.parametrize("expression", lines(ALIKE))
def test_alike(opa: Opa, expression: str) -> None:
    ours, theirs = ask_both(opa, expression)
    assert ours == theirs


@pytest.mark.parametrize("expression", [line for text in DIFFERENT.values() for line in lines(text)])
def test_known_difference(opa: Opa, expression: str) -> None:
    ours, theirs = ask_both(opa, expression)
    assert ours != theirs, "the engines agree now: take it out of DIFFERENT"
