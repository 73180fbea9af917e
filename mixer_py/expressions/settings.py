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


def _checked(wanted: Type, *, as_text: bool = False) -> Callable[[str], str]:
    """A validator: the text itself, once it was seen to have no faults."""

    def check(text: str) -> str:
        try:
            check_expression(text, wanted, as_text=as_text)
        except ConfigurationError as error:  # place and key are added by what reads the configuration
            raise ValueError("; ".join(map(str, error.faults))) from error
        return text

    return check


Condition = Annotated[str, AfterValidator(_checked(BOOL))]
"""CEL over the attributes of a check, true or false."""
Key = Annotated[str, AfterValidator(_checked(STRING, as_text=True))]
"""CEL over the attributes of a check, of any type but lists and maps; its value is taken as text."""
Amount = Annotated[str, AfterValidator(_checked(INT))]
"""CEL over the attributes of a check whose value is an int."""
