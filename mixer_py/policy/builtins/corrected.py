"""Which of the embedded engine's builtins are functions in Python, and how they are put into an engine.

They are those that the engine lacks, and those that it answers differently from OPA where it may decide who gets in.
What they answer is what OPA 1.22 does, by its reference of builtins and by tests against it. An exception means that
OPA's is an error there, which makes the expression undefined. What still differs is listed in docs/rego.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from mixer_py.policy.builtins import digests, networks, texts, uris, yamls
from mixer_py.policy.builtins.cryptographic import Cryptographic
from mixer_py.policy.builtins.documents import is_valid_json
from mixer_py.policy.builtins.formats import sprintf
from mixer_py.policy.builtins.numbers import is_version, range_step
from mixer_py.policy.builtins.sequences import flatten
from mixer_py.policy.builtins.table import SPRINTF
from mixer_py.policy.builtins.times import add_date, parse_duration

Builtin = tuple[str, int, Callable[..., object]]
"""Name, number of arguments, and function."""


def add_corrected(engine: Any) -> None:  # noqa: ANN401 (regorus has no types)
    """Put the functions in the place of an engine's own, or beside them."""
    for name, arity, function in python_builtins():
        engine.add_extension(name, arity, function)


def python_builtins() -> tuple[Builtin, ...]:
    """All of them; each call gives functions with memories of their own."""
    return (
        ("array.flatten", 1, flatten),
        ("json.is_valid", 1, is_valid_json),
        (SPRINTF, 2, sprintf),
        ("numbers.range_step", 3, range_step),
        ("semver.is_valid", 1, is_version),
        ("time.add_date", 4, add_date),
        ("time.parse_duration_ns", 1, parse_duration),
        ("yaml.is_valid", 1, yamls.is_valid),
        ("yaml.unmarshal", 1, yamls.unmarshal),
        *Cryptographic().builtins(),
        *digests.builtins(),
        *networks.builtins(),
        *texts.builtins(),
        *uris.builtins(),
    )


EXTENSIONS: Final = {name: arity for name, arity, _ in python_builtins()}
"""Number of arguments by name, for those who must know which calls leave the engine: its RVM knows none of them."""
