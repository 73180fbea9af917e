"""Renders the vocabulary for people: docs/attributes.md."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from mixer_py.attributes.vocabulary import ATTRIBUTES

_HEAD: Final = """# Attributes

<!-- Generated from mixer_py/attributes/vocabulary.py by `python -m mixer_py.telemetry.documentation`; do not edit. -->

The vocabulary is Istio Mixer's. The third column says where a check (`CheckRequest.attributes`,
`envoy.service.auth.v3.AttributeContext`) holds an attribute, the fourth where an access-log entry
(`envoy.data.accesslog.v3.HTTPAccessLogEntry`, where it says so `TCPAccessLogEntry`, or the node of its stream) does.
What of it is stored, and under which name, is in [columns.md](columns.md).
"""


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A table in Markdown; a bar inside a cell is escaped."""
    cells = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in (head, *rows)]
    return "\n".join([cells[0], "|" + "---|" * len(head), *cells[1:]]) + "\n"


def render() -> str:
    """The whole page."""
    rows = (
        (
            f"`{attribute.name}`" + (" (deprecated)" if attribute.deprecated else ""),
            attribute.value_type.value.lower(),
            attribute.meaning,
            str(attribute.check),
            str(attribute.log),
        )
        for attribute in ATTRIBUTES
    )
    return f"{_HEAD}\n{table(('attribute', 'type', 'meaning', 'in a check', 'in a log entry'), rows)}"
