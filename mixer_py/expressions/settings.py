"""Settings that hold an expression: texts that are seen to compile when the configuration is read.

So their faults come with file and line. Not for: evaluating; the room whose settings these are compiles the texts by
the functions below.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Annotated

from pydantic import AfterValidator

from mixer_py.errors import ConfigurationError
from mixer_py.expressions.compiling import Expression, check_expression, compile_expression
from mixer_py.expressions.faults import Place
from mixer_py.expressions.scope import CHECK, Scope
from mixer_py.expressions.types import BOOL, INT, STRING, Type

_UNKNOWN = Place()
_REMEMBERED = 1024
"""Expressions of each kind: in a long list of settings, many have the same key and the same cost."""


@lru_cache(_REMEMBERED)
def condition(text: str, place: Place = _UNKNOWN) -> Expression:
    """An expression over a check's attributes that is true or false.

    Raises:
        ConfigurationError: with what is wrong in the text.
    """
    return compile_expression(text, BOOL, place)


@lru_cache(_REMEMBERED)
def key(text: str, place: Place = _UNKNOWN) -> Expression:
    """An expression over a check's attributes whose value, no list and no map, is taken as text by `string(…)`.

    Raises:
        ConfigurationError: with what is wrong in the text.
    """
    return compile_expression(text, STRING, place, as_text=True)


@lru_cache(_REMEMBERED)
def amount(text: str, place: Place = _UNKNOWN) -> Expression:
    """An expression over a check's attributes that counts something; its value is an int, which may be negative.

    Raises:
        ConfigurationError: with what is wrong in the text.
    """
    return compile_expression(text, INT, place)


def checked(
    wanted: Type | None, scope: Callable[[], Scope] = lambda: CHECK, *, as_text: bool = False
) -> Callable[[str], str]:
    """A validator: the text itself, once it was seen to have no faults.

    Args:
        wanted: the type that its value has to have; None for any.
        scope: gives the names that it may use, once there is an expression.
        as_text: its value is taken as text.
    """

    def check(text: str) -> str:
        try:
            check_expression(text, wanted, scope=scope(), as_text=as_text)
        except ConfigurationError as error:  # place and key are added by what reads the configuration
            raise ValueError("; ".join(map(str, error.faults))) from error
        return text

    return check


def as_written(value: object) -> object:
    """The text of an expression, of which YAML makes a boolean or a number where it stands without quotes."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, (int, float)) else value


Condition = Annotated[str, AfterValidator(checked(BOOL))]
"""CEL over the attributes of a check, true or false."""
Key = Annotated[str, AfterValidator(checked(STRING, as_text=True))]
"""CEL over the attributes of a check, of any type but lists and maps; its value is taken as text."""
Amount = Annotated[str, AfterValidator(checked(INT))]
"""CEL over the attributes of a check whose value is an int."""
