"""What expressions over a check's attributes come to."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer_py.attributes import ATTRIBUTES, Attribute, ValueType
from mixer_py.attributes.bag import Bag
from mixer_py.errors import ExpressionError
from mixer_py.expressions import BOOL, INT, STRING, Reference, compile_expression
from mixer_py.expressions.operations import double_of_text, text_of_double
from tests.expressions.conftest import value


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('request.method == "POST" && destination.service.name == "reviews"', True),
        ('request.method == "GET" && destination.service.name == "reviews"', False),
        ('request.headers["x-tenant"]', "gold"),
        ("request.auth.claims.tier", "free"),
        ('request.auth.claims["sub"] + "@" + request.auth.claims["iss"]', "me@https://issuer"),
        ("destination.labels.app", "reviews"),
        ("destination.port", 9080),
        ("request.size / 1024 + 1", 3),
        ('int(request.headers["x-cost"]) * 2', 14),
        ("source.ip", "10.1.2.3"),
        ('source.ip.startsWith("10.") ? "inside" : "outside"', "inside"),
        ('request.url_path.matches("^/[a-z]+/b$")', True),
        ('request.method in ["POST", "PUT"]', True),
        ('"x-tenant" in request.headers', True),
        ('"x-other" in request.headers', False),
        ("has(source.principal)", True),
        ("has(request.headers.referer)", False),
        ("request.time.getDayOfWeek()", 5),
        ('request.time.getHours("Asia/Kathmandu")', 5),
        ('request.time < timestamp("2010-01-01T00:00:00Z")', True),
        ('request.time + duration("30s") == timestamp("2009-02-13T23:32:00Z")', True),
        ("request.time", 1_234_567_890_000_000_000),
        ('request.headers.exists(name, name.startsWith("x-"))', True),
        ("request.headers.all(name, name.size() < 5)", False),
        ('request.headers.filter(name, name.startsWith("x-")).size()', 2),
        ('request.path.split("/")[1].upperAscii()', "A"),
        ("connection.mtls", True),
        ("!connection.mtls || request.size > 10", True),
        ("[] in []", False),
        ("request.method in []", False),
    ],
)
def test_value_over_a_check(text: str, wanted: Any, bag: Bag) -> None:
    assert compile_expression(text).evaluate(bag) == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("request.referer", "request.referer is absent"),
        ('request.referer == "x"', "request.referer is absent"),
        ('request.headers["x-none"]', "request.headers has no key 'x-none'"),
        ('request.headers[request.method + "x"]', "request.headers has no key of that value"),
        ('request.method == "POST" && request.referer == "x"', "request.referer is absent"),
        ('request.referer == "x" || request.method == "GET"', "request.referer is absent"),
    ],
)
def test_what_is_absent_fails(text: str, message: str, bag: Bag) -> None:
    with pytest.raises(ExpressionError, match=message) as raised:
        compile_expression(text).evaluate(bag)
    assert raised.value.reason == "absent"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('request.referer == "x" && request.method == "GET"', False),
        ('request.method == "GET" && request.referer == "x"', False),
        ('request.referer == "x" || request.method == "POST"', True),
        ('request.method == "POST" || request.referer == "x"', True),
        ('int(request.method) == 1 && request.method == "GET"', False),
        ('1 / 0 == 1 || request.referer == "x" || request.method == "POST"', True),
        ('has(request.referer) && request.referer == "x"', False),
        ('request.headers.exists(n, request.headers[n].startsWith("gol") || int(n) == 1)', True),
        ("request.headers.all(n, int(request.headers[n]) == 8)", False),
        ("has(source.labels.app)", False),
        ('"app" in source.labels', False),
    ],
)
def test_a_failure_counts_for_nothing_where_another_operand_decides(text: str, wanted: bool, bag: Bag) -> None:
    row = {name: bag.get(name) for name in ("request.method", "request.headers")}
    assert value(text, row) is wanted


def test_what_is_read_is_known() -> None:
    expression = compile_expression(
        'request.method == "POST" && has(source.principal) && request.headers["x-tenant"] != "" '
        '&& "a" in request.auth.claims && destination.labels.exists(k, k == request.host)'
    )
    assert expression.reads == {
        Reference("request.method"),
        Reference("source.principal"),
        Reference("request.headers", "x-tenant"),
        Reference("request.auth.claims", "a"),
        Reference("destination.labels"),
        Reference("request.host"),
    }


def test_an_expression_says_its_type() -> None:
    assert compile_expression("request.size > 1").type == BOOL
    assert compile_expression("request.size").type == INT
    assert compile_expression("request.size", as_text=True).type == STRING


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("request.size", "2048"), ("connection.mtls", "true"), ("request.method", "POST"), ("1.5", "1.5"),
     ("request.time", "2009-02-13T23:31:30Z"), ('duration("1m30s")', "90s")],
)  # fmt: skip
def test_a_value_taken_as_text_is_what_string_makes_of_it(text: str, wanted: str, bag: Bag) -> None:
    assert compile_expression(text, STRING, as_text=True).evaluate(bag) == wanted
    assert compile_expression(f"string({text})", STRING).evaluate(bag) == wanted


INT64S = st.integers(-(2**63), 2**63 - 1)
OF_TYPE: dict[ValueType, st.SearchStrategy[Any]] = {
    ValueType.STRING: st.text(),
    ValueType.IP_ADDRESS: st.ip_addresses().map(str),
    ValueType.INT64: INT64S,
    ValueType.BOOL: st.booleans(),
    ValueType.TIMESTAMP: st.integers(0, 2**62),
    ValueType.DURATION: st.integers(0, 10**15).map(lambda nanoseconds: nanoseconds / 1e9),
    ValueType.STRING_MAP: st.dictionaries(st.text(), st.text(), max_size=3),
}


@pytest.mark.parametrize("attribute", ATTRIBUTES, ids=lambda attribute: attribute.name)
@settings(deadline=None, max_examples=5)
@given(data=st.data())
def test_an_attribute_by_itself_is_its_value(attribute: Attribute, data: st.DataObject) -> None:
    held = data.draw(OF_TYPE[attribute.value_type])
    found = value(attribute.name, {attribute.name: held})
    assert type(found) is type(held)
    assert found == (pytest.approx(held, abs=1e-9) if isinstance(held, float) else held)


@settings(deadline=None)
@given(st.text(), INT64S, st.integers(-(10**18), 10**18))
def test_what_string_makes_is_read_back(text: str, number: int, nanoseconds: int) -> None:
    row = {"request.method": text, "request.size": number, "request.time": nanoseconds}
    assert value("string(request.method) == request.method", row)
    assert value("int(string(request.size)) == request.size", row)
    assert value("timestamp(string(request.time)) == request.time", row)
    assert value("duration(string(request.time - timestamp(0))) == request.time - timestamp(0)", row)


@given(st.floats(allow_nan=False))
def test_a_double_as_text_is_the_same_double(number: float) -> None:
    assert double_of_text(text_of_double(number)) == number
