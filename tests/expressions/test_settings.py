"""Settings that hold expressions are refused when one does not compile, and stay the texts that were written."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from mixer_py.attributes.bag import Bag
from mixer_py.errors import ConfigurationError
from mixer_py.expressions import Place
from mixer_py.expressions.settings import Amount, Condition, Key, amount, condition, key
from mixer_py.settings import Settings


class Quota(Settings):
    match: Condition = "true"
    key: tuple[Key, ...] = ()
    cost: Amount = "1"


def test_texts_stay_texts() -> None:
    quota = Quota(match='request.method == "POST"', key=('request.headers["x-tenant"]', "request.size"), cost="2")
    assert quota.model_dump() == {
        "match": 'request.method == "POST"',
        "key": ('request.headers["x-tenant"]', "request.size"),
        "cost": "2",
    }


@pytest.mark.parametrize(
    ("field", "text", "message"),
    [
        ("match", "request.metod", "no attribute is called request.metod (did you mean request.method?)"),
        ("match", "request.size", "a bool is wanted, and this is an int"),
        ("key", "request.headers", "a map(string, string) is no text"),
        ("cost", "request.method", "an int is wanted, and this is a string (convert it by int(…))"),
        ("cost", "1.5", "an int is wanted, and this is a double (convert it by int(…))"),
    ],
)
def test_a_text_that_does_not_compile_is_refused(field: str, text: str, message: str) -> None:
    with pytest.raises(ValidationError, match="column 1") as raised:
        Quota.model_validate({field: [text] if field == "key" else text})
    assert message in str(raised.value)


def test_they_compile_to_what_they_are_for(bag: Bag) -> None:
    assert condition('request.headers["x-tenant"] == "gold"').evaluate(bag) is True
    assert key("destination.port").evaluate(bag) == "9080"
    assert amount('int(request.headers["x-cost"])').evaluate(bag) == 7


def test_a_fault_has_the_place_that_it_is_given() -> None:
    with pytest.raises(ConfigurationError) as raised:
        condition("nothing", Place("limits.yaml", 3, "quotas.0.match"))
    assert str(raised.value).startswith("limits.yaml:3: quotas.0.match: column 1: no attribute is called nothing")
