"""What the Python of an expression calls: arithmetic and texts as CEL defines them.

Everything here either returns or raises ExpressionError, whatever the arguments are, as long as their types are right.
No message repeats a value: it may come from a request. Not for: times (`times.py`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, NoReturn

from mixer_py.errors import ExpressionBudgetError, ExpressionError
from mixer_py.expressions import limits

LEAST: Final = -(1 << 63)
MOST: Final = (1 << 63) - 1
_INTEGER: Final = re.compile(r"[+-]?[0-9]+", re.ASCII)
_DOUBLE: Final = re.compile(
    r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|inf|infinity|nan)", re.IGNORECASE | re.ASCII
)
_DIGITS_OF_INTEGER: Final = 20
_PLAIN_DIGITS: Final = 6  # from there on Go writes an exponent
_TRUTHS: Final = {"1": True, "t": True, "T": True, "true": True, "TRUE": True, "True": True,
                  "0": False, "f": False, "F": False, "false": False, "FALSE": False, "False": False}  # fmt: skip
"""Go's strconv.ParseBool, which CEL's conformance cases follow."""
_LOWER: Final = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
_UPPER: Final = {code: code - 32 for code in range(ord("a"), ord("z") + 1)}
_BLANKS: Final = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
"""Unicode's White_Space, which is not quite what str.strip takes."""


def absent(message: str) -> NoReturn:
    """An attribute, or an entry of a map, is not there."""
    raise ExpressionError(message, "absent")


def again(message: str, reason: str) -> NoReturn:
    """Raises anew what `&&`, `||` or a macro had put aside."""
    raise ExpressionError(message, reason)


def exhausted() -> NoReturn:
    """The loops of this evaluation have used up their steps."""
    raise ExpressionBudgetError(f"the expression took more than {limits.STEPS:,} steps in loops", "budget")


def overflow() -> NoReturn:
    """An integer left 64 bits."""
    raise ExpressionError("the result does not fit into 64 bits", "arithmetic")


def quotient(dividend: int, divisor: int) -> int:
    """Integer division, towards zero."""
    if divisor == 0:
        raise ExpressionError("division by zero", "arithmetic")
    result = abs(dividend) // abs(divisor)
    if (dividend < 0) != (divisor < 0):
        return -result
    return result if result <= MOST else overflow()


def remainder(dividend: int, divisor: int) -> int:
    """What integer division leaves, with the sign of the dividend."""
    if divisor == 0:
        raise ExpressionError("remainder of a division by zero", "arithmetic")
    result = abs(dividend) % abs(divisor)
    return -result if dividend < 0 else result


def ratio(dividend: float, divisor: float) -> float:
    """Division of doubles (IEEE 754): by zero it is infinite, or no number."""
    if divisor:
        return dividend / divisor
    if dividend == 0 or math.isnan(dividend) or math.isnan(divisor):
        return math.nan
    return math.copysign(math.inf, dividend) * math.copysign(1.0, divisor)


def int_of_double(value: float) -> int:
    """The integer without the fraction."""
    if not LEAST < value < -LEAST:  # also false for what is no number
        raise ExpressionError("the double does not fit into an int", "conversion")
    return int(value)


def int_of_text(text: str) -> int:
    """A decimal integer, perhaps signed."""
    if _INTEGER.fullmatch(text) is None or len(text.lstrip("+-0")) > _DIGITS_OF_INTEGER:
        raise ExpressionError("the string is no int", "conversion")
    sign = -1 if text[0] == "-" else 1
    value = sign * int("0" + text.lstrip("+-0"))
    if not LEAST <= value <= MOST:
        raise ExpressionError("the string is no int of 64 bits", "conversion")
    return value


def double_of_text(text: str) -> float:
    """A decimal number."""
    if _DOUBLE.fullmatch(text) is None:
        raise ExpressionError("the string is no double", "conversion")
    return float(text)


def bool_of_text(text: str) -> bool:
    """A truth value."""
    value = _TRUTHS.get(text)
    if value is None:
        raise ExpressionError("the string is no bool", "conversion")
    return value


def text_of_double(value: float) -> str:
    """The shortest text that is read back as the same double, in the form of Go's strconv, which cel-go uses."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    mantissa, _, power = f"{value!r}".lower().partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    digits = (whole + fraction).lstrip("0")
    exponent = int(power or 0) + len(whole) - 1 - (len(whole + fraction) - len(digits) if digits else 0)
    digits = digits.rstrip("0") or "0"
    if digits == "0":
        return f"{sign}0"
    if -4 <= exponent < _PLAIN_DIGITS:
        return f"{sign}{_plain(digits, exponent)}"
    return f"{sign}{digits[0]}{'.' if len(digits) > 1 else ''}{digits[1:]}e{exponent:+03d}"


def _plain(digits: str, exponent: int) -> str:
    if exponent < 0:
        return "0." + "0" * (-exponent - 1) + digits
    whole = digits[: exponent + 1].ljust(exponent + 1, "0")
    return whole + ("." + digits[exponent + 1 :] if len(digits) > exponent + 1 else "")


def lower_ascii(text: str) -> str:
    """The letters A to Z in lower case."""
    return text.lower() if text.isascii() else text.translate(_LOWER)


def upper_ascii(text: str) -> str:
    """The letters a to z in upper case."""
    return text.upper() if text.isascii() else text.translate(_UPPER)


def trim(text: str) -> str:
    """Without blanks at both ends."""
    return text.strip(_BLANKS)


def _check_index(text: str, index: int) -> None:
    if not 0 <= index <= len(text):
        raise ExpressionError("the index is outside of the string", "range")


def character(text: str, index: int) -> str:
    """The character at an index; empty at the very end."""
    _check_index(text, index)
    return text[index : index + 1]


def substring(text: str, start: int, end: int | None = None) -> str:
    """The characters from `start`, and up to `end` where it is given."""
    _check_index(text, start)
    if end is None:
        return text[start:]
    _check_index(text, end)
    if start > end:
        raise ExpressionError("the part of the string ends before it starts", "range")
    return text[start:end]


def index_of(text: str, part: str, start: int = 0) -> int:
    """Where a part stands first, from `start`; -1 where it does not."""
    _check_index(text, start)
    return text.find(part, start)


def last_index_of(text: str, part: str, start: int | None = None) -> int:
    """Where a part stands last, not beginning behind `start`; -1 where it does not."""
    if start is None:
        return text.rfind(part)
    _check_index(text, start)
    return text.rfind(part, 0, start + len(part))


def _check_length(length: int) -> None:
    if length > limits.CHARACTERS:
        raise ExpressionBudgetError(f"a string would have more than {limits.CHARACTERS:,} characters", "budget")


def replace(text: str, old: str, new: str, count: int = -1) -> str:
    """The text with each `old`, or the first `count`, replaced by `new`."""
    times = text.count(old)
    if 0 <= count < times:
        times = count
    _check_length(len(text) + times * (len(new) - len(old)))
    return text.replace(old, new, times)


def split(text: str, separator: str, count: int = -1) -> list[str]:
    """The parts between separators, `count` at most; an empty separator splits into characters."""
    if count == 0:
        return []
    if separator:
        return text.split(separator, count - 1 if count > 0 else -1)
    if count < 0 or count >= len(text):
        return list(text)
    return [*text[: count - 1], text[count - 1 :]]


def join(parts: Collection[str], separator: str = "") -> str:
    """The parts with a separator between them."""
    _check_length(sum(map(len, parts)) + len(separator) * len(parts))
    return separator.join(parts)


def element(items: Sequence[object], index: int) -> object:
    """One element of a list, counted from 0."""
    if not 0 <= index < len(items):
        raise ExpressionError("the index is outside of the list", "range")
    return items[index]


def concatenate(one: Iterable[object], other: Iterable[object]) -> list[object]:
    """A list behind another."""
    return [*one, *other]


def mapping(entries: Sequence[tuple[object, object]]) -> Mapping[object, object]:
    """A map of the entries written in a literal."""
    made = dict(entries)
    if len(made) != len(entries):
        raise ExpressionError("a map has one key twice", "range")
    return made


def weight(value: object) -> int:
    """How many steps it takes to look at a value as a whole."""
    if isinstance(value, str):
        return len(value) // limits.STEP_CHARACTERS
    if isinstance(value, Mapping):
        return len(value) + sum(map(weight, value)) + sum(map(weight, value.values()))
    if isinstance(value, (list, tuple)):
        return len(value) + sum(map(weight, value))
    return 0
