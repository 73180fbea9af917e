"""Where nodes of the engine's syntax trees stand in a module's text."""

from __future__ import annotations

from typing import Any


def span_of(node: Any) -> Any:  # noqa: ANN401 (a node of the engine's syntax tree, which is JSON)
    """`line`, `col`, and `start` and `end` in bytes of UTF-8; a string's are those without its quotes."""
    (content,) = node.values()
    return content["span"]
