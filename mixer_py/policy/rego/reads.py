"""What a decision reads: the part of the input document that can change it, and whether more than that can."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Reads:
    """What one decision can read.

    Attributes:
        input: paths of the input document, `("attributes", "request", "http", "method")`, each with everything below
            it; None when it may be any, so that the whole document is needed.
        cacheable: whether equal values at these paths always make an equal decision, within a revision.
        why: why the whole input is needed, or why the decision cannot be cached, with file and line; empty when
            neither is so.
    """

    input: frozenset[tuple[str, ...]] | None
    cacheable: bool
    why: str = ""


EVERYTHING: Final = Reads(None, cacheable=False, why="what the policy reads is not known")


def find_reads(trees: Sequence[Any], decision: str) -> Reads:  # noqa: ARG001 (any policy may read anything)
    """What a decision can read, by the syntax trees of all modules.

    Args:
        trees: of every module that can take part, as the engine gives them.
        decision: path of the rule, as `envoy/authz/allow`.
    """
    return EVERYTHING
