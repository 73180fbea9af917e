"""Empty engines, which parse and hold modules. Nothing is compiled or evaluated here."""

from __future__ import annotations

from typing import Any, Final

import regorus

_NO_LIMIT: Final = 2**31


def new_engine(*, version_zero: bool = False) -> Any:  # noqa: ANN401 (regorus has no types)
    """An empty engine that takes modules of any length, and lines: a key set may stand in one line of policy.

    Args:
        version_zero: whether its modules are written in Rego v0.
    """
    engine = regorus.Engine()
    engine.set_policy_length_config(max_col=_NO_LIMIT, max_file_bytes=_NO_LIMIT, max_lines=_NO_LIMIT)
    if version_zero:
        engine.set_rego_v0(True)
    return engine
