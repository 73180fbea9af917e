"""Regular expressions in linear time: RE2's, as CEL's language definition asks for. Python's own may take forever."""

from __future__ import annotations

from collections.abc import Callable

import re2

from mixer_py.expressions import limits


def pattern(text: str) -> Callable[[bytes], object | None]:
    """A search for the pattern in UTF-8; it gives None where the pattern is not found.

    Raises:
        ValueError: RE2 does not take the pattern, or it would need too much memory.
    """
    options = re2.Options()
    options.max_mem = limits.PATTERN_MEMORY
    options.log_errors = False
    options.never_capture = True
    try:
        search: Callable[[bytes], object | None] = re2.compile(text.encode(), options).search
    except re2.error as error:
        said = error.args[0]
        raise ValueError(
            f"RE2 does not take this pattern: {said.decode() if isinstance(said, bytes) else said}"
        ) from error
    return search
