"""The result document: what is read, what is refused, and which headers HTTP forbids."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer_py.errors import ResultError
from mixer_py.policy.decision import Decision, QuotaAsked
from mixer_py.policy.headers import name_fault, value_fault
from mixer_py.policy.result import STATUSES, read_result

RULE = "data.envoy.authz.allow"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    [
        "headers",
        "response_headers_to_add",
        "request_headers_to_remove",
        "query_parameters_to_set",
        "query_parameters_to_remove",
        "http_status",
        "body",
        "dynamic_metadata",
        "reasons",
        "quotas",
        "cache_ttl",
    ]
)


def read(value: Any) -> Decision | str:
    """A decision, or what is wrong."""
    try:
        return read_result(value, RULE)
    except ResultError as error:
        return str(error)


@given(JSON)
def test_any_value_is_a_decision_or_a_result_error(value: Any) -> None:
    outcome = read(value)
    if isinstance(outcome, str):
        assert outcome.startswith("result")
    else:
        assert outcome.allowed is (value if isinstance(value, bool) else value["allowed"])


@given(st.booleans(), st.dictionaries(FIELDS, JSON, max_size=4))
def test_a_wrong_field_is_named_and_never_changes_the_verdict(allowed: bool, fields: dict[str, Any]) -> None:
    outcome = read({"allowed": allowed, **fields})
    if isinstance(outcome, str):
        assert outcome.removeprefix("result.").startswith(tuple(fields))
        return
    assert outcome.allowed is allowed
    assert outcome.rule == RULE
    for name, value in (*outcome.headers, *outcome.response_headers_to_add):
        assert not set(name) & set("\r\n\0 ")
        assert not set(value) & set("\r\n\0")


def test_a_field_that_does_not_apply_is_not_even_looked_at() -> None:
    wrong = object()
    assert read_result({"allowed": True, "body": wrong, "http_status": wrong}, RULE).body == ""
    denied = read_result({"allowed": False, "query_parameters_to_set": wrong, "response_headers_to_add": wrong}, RULE)
    assert denied.query_parameters_to_set == ()


@pytest.mark.parametrize("name", ["x", "X-Request-Id", "a!#$%&'*+-.^_`|~9"])
def test_tokens_are_names(name: str) -> None:
    assert name_fault(name) == ""


@pytest.mark.parametrize("name", ["", "a b", "a:", "é", "a\n", "a\0", "(a)", ":", "::path", ":status", ":path"])
def test_anything_else_is_no_name(name: str) -> None:
    assert name_fault(name) != ""


@pytest.mark.parametrize(
    ("name", "allowed"), [(":path", True), (":authority", True), (":status", False), (":x", False)]
)
def test_pseudo_headers_of_a_request_may_be_set_upstream(name: str, allowed: bool) -> None:
    assert (name_fault(name, pseudo=True) == "") is allowed


@pytest.mark.parametrize("value", ["", "a", "a b", "a\tb", "é", '"x", y=z'])
def test_field_values(value: str) -> None:
    assert value_fault(value) == ""


@given(st.text(max_size=6), st.sampled_from("\r\n\0\x01\x1f\x7f\x0b"), st.text(max_size=6))
def test_a_control_character_is_no_field_value(before: str, control: str, after: str) -> None:
    assert value_fault(before + control + after) != ""


@pytest.mark.parametrize("value", [" a", "a ", "\ta", "a\t", " "])
def test_space_at_an_end_is_no_field_value(value: str) -> None:
    assert value_fault(value) != ""


def test_statuses_are_those_that_go_and_envoy_know() -> None:
    assert {200, 401, 403, 404, 429, 503} <= STATUSES
    assert not {0, 99, 101, 103, 306, 418, 425, 451, 509, 600} & STATUSES


def test_quotas_are_read_when_the_request_is_allowed() -> None:
    quotas = [{"name": "a"}, {"name": "b", "key": "acme", "hits": 3}, {"name": "b", "key": ["acme", ""], "hits": 2.0}]
    assert read_result({"allowed": True, "quotas": quotas}, RULE).quotas == (
        QuotaAsked("a"), QuotaAsked("b", ("acme",), 3), QuotaAsked("b", ("acme", ""), 2),
    )  # fmt: skip
    assert read_result({"allowed": False, "quotas": "anything"}, RULE).quotas == ()


@pytest.mark.parametrize(
    ("quotas", "message"),
    [
        ("a", "result.quotas: must be a list of objects {name, key, hits}, but is of type string"),
        (["a"], "result.quotas[0]: must be an object {name, key, hits}, but is of type string"),
        ([{"name": "a"}, {"nme": "a"}], "result.quotas[1]: 'nme' is none of name, key and hits"),
        ([{"key": "a"}], "result.quotas[0].name: must be a string, but is of type null"),
        (
            [{"name": "a", "key": 7}],
            "result.quotas[0].key: must be a string or a list of strings, but is of type number",
        ),
        ([{"name": "a", "key": ["x", None]}], "result.quotas[0].key: must be a string or a list of strings"),
        ([{"name": "a", "hits": True}], "result.quotas[0].hits: must be an integer, but is of type boolean"),
        ([{"name": "a", "hits": 1.5}], "result.quotas[0].hits: must be an integer, but is of type number"),
        ([{"name": "a", "hits": -1}], "result.quotas[0].hits: -1 is not between 0 and 4294967295"),
        ([{"name": "a", "hits": 1 << 32}], "result.quotas[0].hits: 4294967296 is not between 0 and 4294967295"),
        ([{"name": "a"}] * 65, "result.quotas: 65 are more than 64"),
    ],
)
def test_quotas_of_a_wrong_shape_are_named(quotas: object, message: str) -> None:
    assert str(read({"allowed": True, "quotas": quotas})).startswith(message)
