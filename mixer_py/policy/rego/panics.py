"""Call into the engine and survive it: a Rust panic becomes an error that code can name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class PanicError(RuntimeError):
    """The engine panicked; what it leaves behind is not to be trusted."""


def guarded(function: Callable[..., Any], *arguments: object) -> Any:  # noqa: ANN401 (whatever the engine gives)
    """The result of `function`; a panic, which PyO3 raises as a `BaseException` of no importable type, is an error.

    Raises:
        PanicError: the engine panicked.
        RuntimeError: the engine's own error.
    """
    try:
        return function(*arguments)
    except Exception:
        raise
    except BaseException as error:
        if type(error).__name__ == "PanicException":
            raise PanicError(str(error)) from None
        raise
