"""`sprintf` as OPA 1.22 has it, which is as Go's fmt prints texts, whole numbers and fractions.

It takes the engine's place for formats with more in them than `%v` and `%s`: see `rego.outputs`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from mixer_py.policy.builtins.documents import order
from mixer_py.policy.builtins.operands import string

_VERB: Final = re.compile(
    r"%(?P<flags>[-+# 0]*)(?P<width>[0-9]*)(?:(?P<dot>\.)(?P<precision>[0-9]*))?(?P<verb>.?)", re.DOTALL
)
_BASES: Final = {"b": "b", "o": "o", "x": "x", "X": "X", "d": "d", "v": "d"}
_PREFIXES: Final = {"b": "0b", "o": "0", "x": "0x", "X": "0X"}
_SHORTEST_EXPONENT: Final = 6
_MOST_PADDING: Final = 1_000_000

Verb = re.Match[str]


def sprintf(template: object, values: object) -> str:
    """`sprintf(format, values)`; what does not fit its verb is said in the text, as Go does.

    Raises:
        ValueError: the format takes widths from the values, or values by number.
    """
    if not isinstance(values, list):
        raise TypeError("values are an array")
    given = iter(values)

    def put(found: Verb) -> str:
        verb = found["verb"]
        padding = max(int(found["width"] or 0), int(found["precision"] or 0))
        if verb in {"*", "["} or padding > _MOST_PADDING:
            raise ValueError("a format that is not known here")
        if verb == "%":
            return "%"
        if not verb:
            return "%!(NOVERB)"
        try:
            value = next(given)
        except StopIteration:
            return f"%!{verb}(MISSING)"
        return _format(found, verb, value)

    text = _VERB.sub(put, string(template))
    extra = ", ".join(f"{_type(one)}={sprintf('%v', [one])}" for one in given)
    return f"{text}%!(EXTRA {extra})" if extra else text


def write_rego(value: object) -> str:
    """A value as Rego writes it."""
    if isinstance(value, Mapping):
        items = sorted(value.items(), key=lambda item: order(item[0]))
        return "{" + ", ".join(f"{write_rego(key)}: {write_rego(item)}" for key, item in items) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(write_rego, value)) + "]"
    if isinstance(value, set | frozenset):
        return "{" + ", ".join(map(write_rego, sorted(value, key=order))) + "}" if value else "set()"
    return json.dumps(value, ensure_ascii=False)


def _type(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return "int64"
    return "float64" if isinstance(value, float) and not value.is_integer() else "string"


def _format(found: Verb, verb: str, value: object) -> str:
    kind = _type(value)
    if verb == "T":
        return _text(found, "s", kind) or ""
    if kind == "int64" or isinstance(value, float):
        number = value if isinstance(value, int | float) else 0
        text = _whole(found, verb, int(number)) if kind != "float64" else _fraction(found, verb, float(number))
    else:
        text = _text(found, verb, value if isinstance(value, str) else write_rego(value))
    if text is not None:
        return text
    return f"%!{verb}({kind}={_format(found, 'v', value)})"


def _text(found: Verb, verb: str, text: str) -> str | None:
    precision = int(found["precision"] or 0) if found["dot"] else None
    match verb:
        case "s":
            return _pad_text(found, text[:precision])
        case "v":
            return _pad_text(found, json.dumps(text, ensure_ascii=False) if "#" in found["flags"] else text[:precision])
        case "q":
            return _pad_text(found, json.dumps(text[:precision], ensure_ascii=False))
        case "x" | "X":
            digits = text.encode()[:precision].hex()
            digits = ("0x" if "#" in found["flags"] and digits else "") + digits
            return _pad_text(found, digits.upper() if verb == "X" else digits)
    return None


def _whole(found: Verb, verb: str, number: int) -> str | None:
    flags = found["flags"]
    if verb in {"c", "q", "U"}:
        if verb == "U":
            return _pad(found, f"U+{number & (2**64 - 1):04X}")
        character = chr(number) if 0 <= number <= 0x10FFFF and not 0xD800 <= number < 0xE000 else "\ufffd"
        return _pad(found, character if verb == "c" else _quoted_character(character))
    if verb not in _BASES:
        return f"{_pad(found, _sign(flags, number) + '0o' + format(abs(number), 'o'))}" if verb == "O" else None
    digits = format(abs(number), _BASES[verb])
    if found["dot"]:
        digits = "" if number == 0 and not int(found["precision"] or 0) else digits.zfill(int(found["precision"] or 0))
    prefix = _PREFIXES.get(verb, "") if "#" in flags else ""
    sign = _sign("" if verb == "v" else flags, number)
    if "0" in flags and "-" not in flags and not found["dot"]:
        digits = digits.zfill(int(found["width"] or 0) - len(sign))
    return _pad(found, sign + prefix + digits)


def _quoted_character(character: str) -> str:
    if character in {"'", "\\"}:
        return f"'\\{character}'"
    if character.isprintable():
        return f"'{character}'"
    code = ord(character)
    return f"'\\x{code:02x}'" if code < 0x80 else f"'\\u{code:04x}'" if code < 0x10000 else f"'\\U{code:08x}'"


def _fraction(found: Verb, verb: str, number: float) -> str | None:
    flags, magnitude = found["flags"], abs(number)
    precision = int(found["precision"] or 0) if found["dot"] else None
    match verb:
        case "e" | "E" | "f" | "F":
            digits = format(magnitude, f".{6 if precision is None else precision}{verb}")
        case "g" | "G" | "v" if precision is None:
            digits = _shortest(magnitude, "E" if verb == "G" else "e")
        case "g" | "G" | "v":
            digits = format(magnitude, f".{precision or 1}{'G' if verb == 'G' else 'g'}")
        case "b" | "x" | "X":
            raise ValueError("a format that is not known here")
        case _:
            return None
    sign = _sign("" if verb == "v" else flags, -1 if number < 0 else 1)
    if "0" in flags and "-" not in flags:
        digits = digits.zfill(int(found["width"] or 0) - len(sign))
    return _pad(found, sign + digits)


def _shortest(magnitude: float, letter: str) -> str:
    """The fewest digits that tell the number from others; with an exponent where it is small or large."""
    _, figures, exponent = Decimal(repr(magnitude)).as_tuple()
    digits = "".join(map(str, figures)).rstrip("0") or "0"
    power = len(figures) + int(exponent) - 1
    if -4 <= power < _SHORTEST_EXPONENT:
        return format(Decimal(repr(magnitude)), "f")
    return f"{digits[0]}{'.' if digits[1:] else ''}{digits[1:]}{letter}{'-' if power < 0 else '+'}{abs(power):02d}"


def _sign(flags: str, number: int) -> str:
    if number < 0:
        return "-"
    return "+" if "+" in flags else " " if " " in flags else ""


def _pad(found: Verb, text: str) -> str:
    width = int(found["width"] or 0)
    return text.ljust(width) if "-" in found["flags"] else text.rjust(width)


def _pad_text(found: Verb, text: str) -> str:
    zeros = "0" in found["flags"] and "-" not in found["flags"]
    return text.rjust(int(found["width"] or 0), "0") if zeros else _pad(found, text)
