"""Functions of texts that the embedded engine lacks or answers otherwise than OPA 1.22."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final

from mixer_py.policy.builtins.globs import compile_glob
from mixer_py.policy.builtins.operands import integer, string

_GLOBS_KEPT: Final = 512


def builtins() -> tuple[tuple[str, int, Callable[..., object]], ...]:
    """Name, number of arguments, and function of each."""
    return (
        ("glob.match", 3, glob_matcher()),
        ("indexof", 2, indexof),
        ("lower", 1, lower),
        ("strings.count", 2, count_text),
        ("strings.replace_n", 2, replace_n),
        ("strings.split_n", 3, split_n),
        ("upper", 1, upper),
    )


def glob_matcher() -> Callable[[object, object, object], bool]:
    """`glob.match(pattern, delimiters, match)` with a memory of its own; no delimiters are null, `[]` means a dot."""
    compiled = lru_cache(maxsize=_GLOBS_KEPT)(compile_glob)

    def glob_match(pattern: object, delimiters: object, text: object) -> bool:
        if delimiters is None:
            separators = ""
        elif isinstance(delimiters, list) and all(isinstance(one, str) and len(one) == 1 for one in delimiters):
            separators = "".join(delimiters) or "."
        else:
            raise TypeError("delimiters are an array of characters, or null")
        return compiled(string(pattern), separators)(string(text))

    return glob_match


def lower(text: object) -> str:
    """`lower(x)`: one letter to one, as Go's unicode.ToLower."""
    whole = string(text)
    # Only the capital I with a dot has two letters as its small one; single letters know of no final sigma.
    return whole.lower() if whole.isascii() else "".join("i" if c == "İ" else c.lower() for c in whole)


def upper(text: object) -> str:
    """`upper(x)`: one letter to one, as Go's unicode.ToUpper."""
    whole = string(text)
    return whole.upper() if whole.isascii() else "".join(map(_upper_letter, whole))


def _upper_letter(letter: str) -> str:
    # Where Unicode's full mapping has several letters, its simple one is the title case, or there is none.
    return next((one for one in (letter.upper(), letter.title()) if len(one) == 1), letter)


def indexof(haystack: object, needle: object) -> int:
    """`indexof(haystack, needle)` in characters; an empty needle is an error."""
    if not string(needle):
        raise ValueError("nothing to look for")
    return string(haystack).find(string(needle))


def count_text(text: object, part: object) -> int:
    """`strings.count(search, substring)`: occurrences that do not overlap."""
    return string(text).count(string(part))


def replace_n(replacements: object, text: object) -> str:
    """`strings.replace_n(patterns, value)`: in one pass, so that what was put in stays; sorted patterns go first.

    An empty pattern is found where no other is, before every byte of UTF-8 and at the end.
    """
    if not isinstance(replacements, Mapping):
        raise TypeError("replacements are an object of texts by texts")
    by_text = {string(old): string(new) for old, new in replacements.items()}
    if not by_text:
        return string(text)
    pattern = "|".join(map(re.escape, sorted(by_text)))
    if "" not in by_text or string(text).isascii():
        return re.sub(pattern, lambda found: by_text[found[0]], string(text))
    replaced = re.sub(pattern.encode(), lambda found: by_text[found[0].decode()].encode(), string(text).encode())
    return replaced.decode(errors="replace")


def split_n(text: object, delimiter: object, count: object) -> list[str]:
    """`strings.split_n(text, delimiter, n)`: the first `n` parts, or the last ones when it is negative."""
    whole, separator, wanted = string(text), string(delimiter), integer(count)
    parts = whole.split(separator) if separator else list(whole)
    return parts[:wanted] if wanted >= 0 else parts[wanted:]
