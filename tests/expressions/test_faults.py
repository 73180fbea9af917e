"""What is refused when it is loaded: where, what, and the way out."""

from __future__ import annotations

import pytest

from mixer_py.errors import ConfigurationError, Fault
from mixer_py.expressions import BOOL, INT, STRING, VOCABULARY, Place, Type, compile_expression, limits


def fault(text: str, wanted: Type | None = None) -> Fault:
    with pytest.raises(ConfigurationError) as raised:
        compile_expression(text, wanted, Place("mixer.yaml", 7, "rate_limit.quotas.0.match"))
    (only,) = raised.value.faults
    assert (only.file, only.line, only.field) == ("mixer.yaml", 7, "rate_limit.quotas.0.match")
    return only


@pytest.mark.parametrize(
    ("text", "message", "way_out"),
    [
        ('request.metod == "GET"', "column 1: no attribute is called request.metod", "did you mean request.method?"),
        ('1 == 1 && metod == "GET"', "column 11: no attribute is called metod", ""),
        ("destination.service == 1", "column 1: destination.service is no attribute by itself", "service.name"),
        ("response.code == 200", "column 1: response.code never has a value here", ""),
        ("request.method == 1", "column 16: == compares a string with an int", "convert one, as in int(…)"),
        ("request.size == 1.0", "column 14: == compares an int with a double", "double(…)"),
        ("request.size + 1.0", "column 14: + does not mix int and double", "double(…)"),
        ('request.size + "1"', "column 14: + takes int, int", ""),
        ("request.method && true", "column 1: what && joins has to be a bool, and this is a string", ""),
        ('request.headers["X-Tenant"]', "column 16: names of headers are in lower case", "write x-tenant"),
        ('"X-Tenant" in request.headers', "column 12: names of headers are in lower case", "write x-tenant"),
        ("request.headers[1]", "column 16: the keys of this map are of type string", ""),
        ("{}[{}]", "column 3: a map(nothing, nothing) is no key of a map", "use a string"),
        ("[1] in {}", "column 5: a list(int) is no key of a map", "use a string"),
        ("request.method.name", "column 16: a string has no fields", ""),
        ('request.method.startswith("a")', "column 16: no method is called startswith", "did you mean startsWith?"),
        ('startsWith(request.method, "a")', "column 1: no function is called startsWith", "write a.startsWith(…)"),
        ("request.method.int()", "column 16: no method is called int", "write int(…)"),
        ('"a" in request.method', "column 5: in looks into a list or a map", "a.contains(b)"),
        ('request.path.matches("(")', "column 22: RE2 does not take this pattern", ""),
        ('request.path.matches("(?=a)")', "column 22: RE2 does not take this pattern", ""),
        ("request.path.matches(request.host)", "column 22: the last argument of matches has to be a literal", ""),
        ('request.time.getHours("Mars/Base")', "column 23: 'Mars/Base' is no time zone", ""),
        ('request.time.getHours("../../etc/passwd")', "column 23: '../../etc/passwd' is no time zone", ""),
        ('has(request.headers["a"])', "column 20: has tests a field, not an index", '"key" in a.map'),
        ("has(true)", "column 5: has tests a field", ""),
        ("request.method == null", "column 19: null is not supported", "has(a.b)"),
        ("request.method = 1", "column 16: '=' is no sign of an expression", "equality is =="),
        ("true and false", "column 6: an operator or the end is expected here, not 'and'", "write &&"),
        ("(true", "column 6: ')' for the '(' before is expected here, not the end", ""),
        ("", "column 1: the expression is empty", ""),
        ('"abc', 'column 1: this string is not closed with "', ""),
        (r'"a\q"', "column 3: no escape begins so", ""),
        (r'"\ud800"', "column 2: \\ud800 is no character of Unicode", ""),
        ("9223372036854775808", "column 1: 9223372036854775808 does not fit into 64 bits", ""),
        ("1e999", "column 1: 1e999 does not fit into a double", ""),
        ("1u", "column 1: unsigned numbers are not supported", "write 1"),
        ('b"a"', "column 1: bytes are not supported", ""),
        ('[1, "a"]', "column 5: the elements of a list are of one type, and this is a string after an int", ""),
        ("[[[1]]]", "column 1: lists and maps nest 2 deep at most", ""),
        ("dyn(1)", "column 1: dyn is not supported", ""),
        ("request.headers.all(1, true)", "column 21: the first argument of all is the name of its variable", ""),
        ("request.size.all(x, true)", "column 14: all runs over a list or the keys of a map, and this is an int", ""),
        ("[1].all(x, x)", "column 12: the condition of all has to be a bool, and this is an int", ""),
        ("true ? 1 : 'a'", "column 6: both values of ?: are of one type", ""),
        ("1 ? 1 : 2", "column 3: what stands before ? has to be a bool", ""),
    ],
)  # fmt: skip
def test_a_fault_says_where_and_what_and_the_way_out(text: str, message: str, way_out: str) -> None:
    found = fault(text)
    assert found.message.startswith(message)
    assert way_out in found.way_out


def test_a_text_of_several_lines_says_the_line() -> None:
    assert fault('request.size > 1 &&\n  request.metod == "GET"').message.startswith("line 2, column 3: no attribute")


@pytest.mark.parametrize(
    ("text", "wanted", "message", "way_out"),
    [
        ("request.method", BOOL, "column 1: a bool is wanted, and this is a string", "convert it by bool(…)"),
        ("request.size > 1", INT, "column 1: an int is wanted, and this is a bool", ""),
        ("request.size", STRING, "column 1: a string is wanted, and this is an int", "convert it by string(…)"),
        ("request.headers", STRING, "column 1: a string is wanted, and this is a map(string, string)", ""),
    ],
)
def test_a_value_of_another_type_than_wanted_is_refused(text: str, wanted: Type, message: str, way_out: str) -> None:
    found = fault(text, wanted)
    assert found.message == message
    assert found.way_out == way_out


@pytest.mark.parametrize(
    "text",
    [
        " " * limits.TEXT + "true",
        "(" * 1_000 + "true" + ")" * 1_000,
        "!" * 1_000 + "true",
        "1 + " * 1_000 + "1",
        "request.method" + ".trim()" * 1_000,
        "[" * 5_000,
        "true ? 1 : " * 1_000 + "1",
        "request.headers.all(a, " * 30 + "a == a" + ")" * 30,
        "[" + "1, " * 5_000 + "1]",
        "(" * 40 + 'request.method == "a" ' + '&& request.host == "b" || request.id == "c")' * 40,
    ],
)
def test_what_is_too_large_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        compile_expression(text, scope=VOCABULARY)
