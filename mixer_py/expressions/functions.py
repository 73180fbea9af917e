"""The table of operators and functions: which types they take, and the Python that computes them.

Sources: the standard definitions of CEL's language definition (cel-spec doc/langdef.md), and the strings extension of
cel-go for what is marked so. What a template calls is in `operations.py` and `times.py`. Operators that are generic
(`==`, `in`, `?:`, `[]` and `+` of lists) are typed in `checking.py`: a table of plain types cannot say what they take.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from mixer_py.expressions import limits
from mixer_py.expressions.networks import network
from mixer_py.expressions.operations import LEAST, MOST
from mixer_py.expressions.patterns import pattern
from mixer_py.expressions.times import zone
from mixer_py.expressions.types import BOOL, DOUBLE, DURATION, INT, NETWORK, STRING, TIMESTAMP, Type, list_of


@dataclass(frozen=True, slots=True)
class Overload:
    """One form of a function or operator.

    Attributes:
        parameters: types it takes; a method's own object comes first.
        result: type of its value.
        template: Python in which `{0}`, `{1}` … stand for the arguments, each used once, and `{t}` for a name.
        fails: whether it may raise ExpressionError by itself.
        weighs: whether its cost grows with its arguments, so that in a loop they are charged.
        prepare: what is made of the last argument, which then has to be a literal, when the expression is compiled.
            It gives that, and how many times as much as others its argument costs in a loop. Raises ValueError.
    """

    parameters: tuple[Type, ...]
    result: Type
    template: str
    fails: bool = False
    weighs: bool = False
    prepare: Callable[[str], tuple[object, int]] | None = None


Table = Mapping[str, Sequence[Overload]]


def _bounded(computed: str) -> str:
    """An integer, or a failure when it leaves 64 bits."""
    return f"({{t}} if {LEAST} <= ({{t}} := {computed}) <= {MOST} else overflow())"


def _pattern(text: str) -> tuple[object, int]:
    search, cost = pattern(text)
    return search, cost * limits.STEP_CHARACTERS // limits.PATTERN_CHARACTERS


def _zone(name: str) -> tuple[object, int]:
    return zone(name), 1


def _network(text: str) -> tuple[object, int]:
    return network(text), 1


def _orders() -> Iterator[tuple[str, Overload]]:
    for sign in ("<", "<=", ">", ">="):
        for kind in (INT, DOUBLE, STRING, BOOL, TIMESTAMP, DURATION):
            yield sign, Overload((kind, kind), BOOL, f"({{0}} {sign} {{1}})", weighs=kind == STRING)


def _arithmetic() -> Iterator[tuple[str, Overload]]:
    for sign in ("+", "-", "*"):
        yield sign, Overload((INT, INT), INT, _bounded(f"{{0}} {sign} {{1}}"), fails=True)
        yield sign, Overload((DOUBLE, DOUBLE), DOUBLE, f"({{0}} {sign} {{1}})")
    yield "/", Overload((INT, INT), INT, "quotient({0}, {1})", fails=True)
    yield "%", Overload((INT, INT), INT, "remainder({0}, {1})", fails=True)
    yield "/", Overload((DOUBLE, DOUBLE), DOUBLE, "ratio({0}, {1})")
    yield "-_", Overload((INT,), INT, _bounded("-{0}"), fails=True)
    yield "-_", Overload((DOUBLE,), DOUBLE, "(-{0})")
    yield "!", Overload((BOOL,), BOOL, "(not {0})")
    yield "+", Overload((STRING, STRING), STRING, "({0} + {1})", weighs=True)
    yield "+", Overload((TIMESTAMP, DURATION), TIMESTAMP, "instant({0} + {1})", fails=True)
    yield "+", Overload((DURATION, TIMESTAMP), TIMESTAMP, "instant({0} + {1})", fails=True)
    yield "+", Overload((DURATION, DURATION), DURATION, _bounded("{0} + {1}"), fails=True)
    yield "-", Overload((TIMESTAMP, TIMESTAMP), DURATION, _bounded("{0} - {1}"), fails=True)
    yield "-", Overload((TIMESTAMP, DURATION), TIMESTAMP, "instant({0} - {1})", fails=True)
    yield "-", Overload((DURATION, DURATION), DURATION, _bounded("{0} - {1}"), fails=True)


def _conversions() -> Iterator[tuple[str, Overload]]:
    for name, kind in (("bool", BOOL), ("int", INT), ("double", DOUBLE), ("string", STRING),
                       ("timestamp", TIMESTAMP), ("duration", DURATION)):  # fmt: skip
        yield name, Overload((kind,), kind, "{0}")
        if kind != STRING:
            yield name, Overload((STRING,), kind, f"{name}_of_text({{0}})", fails=True, weighs=True)
    yield "int", Overload((DOUBLE,), INT, "int_of_double({0})", fails=True)
    yield "int", Overload((TIMESTAMP,), INT, "({0} // 1000000000)")
    yield "double", Overload((INT,), DOUBLE, "float({0})")
    yield "timestamp", Overload((INT,), TIMESTAMP, "instant({0} * 1000000000)", fails=True)
    yield "string", Overload((INT,), STRING, "str({0})")
    yield "string", Overload((BOOL,), STRING, "('true' if {0} else 'false')")
    yield "string", Overload((DOUBLE,), STRING, "text_of_double({0})")
    yield "string", Overload((TIMESTAMP,), STRING, "text_of_timestamp({0})")
    yield "string", Overload((DURATION,), STRING, "text_of_duration({0})")
    yield "size", Overload((STRING,), INT, "len({0})")


def _texts() -> Iterator[tuple[str, Overload]]:
    yield "size", Overload((STRING,), INT, "len({0})")
    yield "startsWith", Overload((STRING, STRING), BOOL, "{0}.startswith({1})", weighs=True)
    yield "endsWith", Overload((STRING, STRING), BOOL, "{0}.endswith({1})", weighs=True)
    yield "contains", Overload((STRING, STRING), BOOL, "({1} in {0})", weighs=True)
    yield "matches", Overload((STRING, STRING), BOOL, "{1}({0})", weighs=True, prepare=_pattern)
    # The strings extension:
    yield "lowerAscii", Overload((STRING,), STRING, "lower_ascii({0})", weighs=True)
    yield "upperAscii", Overload((STRING,), STRING, "upper_ascii({0})", weighs=True)
    yield "trim", Overload((STRING,), STRING, "trim({0})", weighs=True)
    yield "charAt", Overload((STRING, INT), STRING, "character({0}, {1})", fails=True)
    yield "substring", Overload((STRING, INT), STRING, "substring({0}, {1})", fails=True, weighs=True)
    yield "substring", Overload((STRING, INT, INT), STRING, "substring({0}, {1}, {2})", fails=True, weighs=True)
    for name, function in (("indexOf", "index_of"), ("lastIndexOf", "last_index_of")):
        yield name, Overload((STRING, STRING), INT, f"{function}({{0}}, {{1}})", weighs=True)
        yield name, Overload((STRING, STRING, INT), INT, f"{function}({{0}}, {{1}}, {{2}})", fails=True, weighs=True)
    yield "replace", Overload((STRING, STRING, STRING), STRING, "replace({0}, {1}, {2})", weighs=True)
    yield "replace", Overload((STRING, STRING, STRING, INT), STRING, "replace({0}, {1}, {2}, {3})", weighs=True)
    yield "split", Overload((STRING, STRING), list_of(STRING), "split({0}, {1})", weighs=True)
    yield "split", Overload((STRING, STRING, INT), list_of(STRING), "split({0}, {1}, {2})", weighs=True)
    yield "join", Overload((list_of(STRING),), STRING, "join({0})", weighs=True)
    yield "join", Overload((list_of(STRING), STRING), STRING, "join({0}, {1})", weighs=True)


def _times() -> Iterator[tuple[str, Overload]]:
    accessors = {
        "getFullYear": "get_full_year", "getMonth": "get_month", "getDate": "get_date",
        "getDayOfMonth": "get_day_of_month", "getDayOfWeek": "get_day_of_week", "getDayOfYear": "get_day_of_year",
        "getHours": "get_hours", "getMinutes": "get_minutes", "getSeconds": "get_seconds",
        "getMilliseconds": "get_milliseconds",
    }  # fmt: skip
    for name, function in accessors.items():
        yield name, Overload((TIMESTAMP,), INT, f"{function}({{0}}, UTC)")
        yield name, Overload((TIMESTAMP, STRING), INT, f"{function}({{0}}, {{1}})", fails=True, prepare=_zone)
    yield "getHours", Overload((DURATION,), INT, "quotient({0}, 3600000000000)")
    yield "getMinutes", Overload((DURATION,), INT, "quotient({0}, 60000000000)")
    yield "getSeconds", Overload((DURATION,), INT, "quotient({0}, 1000000000)")
    yield "getMilliseconds", Overload((DURATION,), INT, "quotient(remainder({0}, 1000000000), 1000000)")


def _extensions() -> Iterator[tuple[str, Overload]]:
    """Of cel-go's extensions math and network what a quota has use for."""
    for name, function in (("math.greatest", "max"), ("math.least", "min")):
        for count in (2, 3, 4):
            slots = ", ".join(f"{{{index}}}" for index in range(count))
            yield name, Overload((INT,) * count, INT, f"{function}({slots})")
    yield "cidr", Overload((STRING,), NETWORK, "{0}", prepare=_network)


def _networks() -> Iterator[tuple[str, Overload]]:
    yield "containsIP", Overload((NETWORK, STRING), BOOL, "contains_ip({0}, {1})", fails=True)


def _table(*rows: Iterator[tuple[str, Overload]]) -> Table:
    table: dict[str, list[Overload]] = {}
    for name, overload in (row for group in rows for row in group):
        table.setdefault(name, []).append(overload)
    return MappingProxyType({name: tuple(overloads) for name, overloads in table.items()})


OPERATORS: Final = _table(_orders(), _arithmetic())
"""Operators by their sign."""
FUNCTIONS: Final = _table(_conversions(), _extensions())
"""Functions by name; a name may have a dot."""
METHODS: Final = _table(_texts(), _times(), _networks())
"""Methods by name; the object they belong to is their first parameter."""

EQUAL: Final = Overload((), BOOL, "({0} == {1})", weighs=True)
"""`==` of two values of one type."""
UNEQUAL: Final = Overload((), BOOL, "({0} != {1})", weighs=True)
"""`!=` of two values of one type."""
WITHIN: Final = Overload((), BOOL, "({0} in {1})", weighs=True)
"""`in` of a list."""
SIZE: Final = Overload((), INT, "len({0})")
"""`size` of a list or a map."""


def element_of(kind: Type) -> Overload:
    """`[]` of a list with elements of that type."""
    return Overload((), kind, "element({0}, {1})", fails=True)


def concatenation_of(kind: Type) -> Overload:
    """`+` of two lists of that type."""
    return Overload((), kind, "concatenate({0}, {1})", weighs=True)
