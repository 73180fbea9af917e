"""Regular expressions in linear time: RE2's, as CEL's language definition asks for. Python's own may take forever.

Linear has a factor: a pattern such as `(a|b)*a(a|b){50}` takes RE2 its whole program for each character. So what a
search may cost is bounded by the product of both.
"""

from __future__ import annotations

from collections.abc import Callable

import re2

from mixer_py.errors import ExpressionBudgetError
from mixer_py.expressions import limits


def pattern(text: str) -> tuple[Callable[[str], bool], int]:
    """A search for the pattern, and what it costs for each character in sixteenths of a step.

    Raises:
        ValueError: RE2 does not take the pattern, or it is too large.
    """
    options = re2.Options()
    options.max_mem = limits.PATTERN_MEMORY
    options.log_errors = False
    options.never_capture = True
    try:
        compiled = re2.compile(text.encode(), options)
    except re2.error as error:
        said = error.args[0]
        raise ValueError(
            f"RE2 does not take this pattern: {said.decode() if isinstance(said, bytes) else said}"
        ) from error
    size: int = compiled.programsize
    if size > limits.PATTERN_SIZE:
        raise ValueError(f"this pattern is too large: {size:,} instructions of RE2, {limits.PATTERN_SIZE:,} at most")
    search: Callable[[bytes], object | None] = compiled.search
    longest = limits.STEPS * limits.PATTERN_CHARACTERS // size

    def found(subject: str) -> bool:
        if len(subject) > longest:
            raise ExpressionBudgetError(
                f"a string is longer than {longest:,} characters, too long for its pattern", "budget"
            )
        return search(subject.encode("utf-8", "surrogatepass")) is not None

    return found, size
