"""What all rules written anew share: their package, functions that they call, and how statements are put together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

PACKAGE: Final = "mixer_rvm"

_ASCII: Final = json.dumps("".join(map(chr, range(128))))

PRELUDE: Final = f"""
trap := count([1 | some _ in numbers.range(1, 30000)])
only(vs) := max(vs) if count(vs) == 1 else := data.{PACKAGE}.trap if count(vs) > 1
object_of(ps) := os if {{ os := {{p[0]: p[1] | some p in ps}}; count(os) == count(ps) }}
else := data.{PACKAGE}.trap if [ps]
plus(a, b) := a + b
minus(a, b) := a - b
times(a, b) := a * b
over(a, b) := a / b
modulo(a, b) := a % b
scalar(a) if {{ [a]; not is_array(a); not is_object(a); not is_set(a) }}
ordered(a, b) if {{ [b]; data.{PACKAGE}.scalar(a) }} else if {{ [a]; data.{PACKAGE}.scalar(b) }}
either(a, b) if data.{PACKAGE}.ordered(a, b) else := data.{PACKAGE}.trap if [a, b]
less(a, b) := a < b if data.{PACKAGE}.either(a, b)
least(a, b) := a <= b if data.{PACKAGE}.either(a, b)
more(a, b) := a > b if data.{PACKAGE}.either(a, b)
most(a, b) := a >= b if data.{PACKAGE}.either(a, b)
member(a, bs) := data.{PACKAGE}.value_of(a, bs) if {{ [a]; is_object(bs) }} else := a in bs if [a, bs]
value_of(a, bs) := a in {{b | some b in bs}}
at(d, k) := d[k] if not is_number(k) else := d[k] if is_array(d) else := data.{PACKAGE}.trap if is_object(d)
ascii_lower(a) := lower(a) if trim_left(a, ascii) == "" else := data.{PACKAGE}.trap if is_string(a)
ascii_upper(a) := upper(a) if trim_left(a, ascii) == "" else := data.{PACKAGE}.trap if is_string(a)
ascii := {_ASCII}
"""
"""Functions that the rules call; `trap` runs into the limit of instructions."""

JOIN: Final = ";\n"
"""Between statements: the engine has a limit on the length of lines."""

LOOP: Final = "some _ in [0]"
"""A loop of one turn. A condition that fails in a comprehension ends the turn of the innermost loop, which the machine
looks for outside of the comprehension as well: so each has one of its own before anything in it can fail."""


def in_loop(statements: Sequence[str]) -> str:
    """The statements of a comprehension, as one text."""
    return JOIN.join([LOOP, *statements])


def local_name(name: str) -> str:
    """A local variable's name in rules written anew; no name of ours looks like it."""
    return name if name == "_" else f"v_{name}"
