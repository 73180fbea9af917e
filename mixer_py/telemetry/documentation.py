"""Renders what is generated from the table of columns, and writes it: docs and the projection's .proto text.

Run `python -m mixer_py.telemetry.documentation` in the project's root after changing attributes or columns.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from mixer_py.attributes import documentation as attributes
from mixer_py.telemetry.access_log import projection
from mixer_py.telemetry.attribute_columns import ELSEWHERE, SAME
from mixer_py.telemetry.column import Secrets
from mixer_py.telemetry.columns import TABLES
from mixer_py.telemetry.ddl import VIEW

_HEAD: Final = """# Columns

<!-- Generated from mixer_py/telemetry/columns.py by `python -m mixer_py.telemetry.documentation`; do not edit. -->

What mixer stores in ClickHouse, in the database that `telemetry.clickhouse.url` names (`mesh` unless it does). A
column has its attribute's name with `.` as `_`; attributes are explained in [attributes.md](attributes.md). Text that
is not known is empty.

What `telemetry.mask` masks of a column unasked: secrets `in text`, and in maps also values `by name`
([privacy.md](privacy.md)).
"""

_MASKED: Final[Mapping[Secrets | None, str]] = {
    None: "", "text": "in text", "headers": "by name", "parameters": "by name",
}  # fmt: skip

_VIEW: Final = f"""
## {VIEW}

A view: each row of `requests` with the decision behind it, found by `decision_id`, else by `request_id`. It has the
columns of `requests`, those of `decisions` with the prefix `decided_`, `joined_by` (`decision_id`, `request_id` or
empty) and `disagrees`: true where `decisions`, which is the authority, says something else than the log entry. A
decision whose log entry never came is in `decisions` only.
"""

_OTHERS: Final = """
## Attributes without a column of their name

Every other attribute of [attributes.md](attributes.md) has a column of its name in `requests` or `connections`. Of
these the log tells under another name, in part, or nothing:

"""


def render() -> str:
    """The page of columns."""
    parts = [_HEAD]
    for table in TABLES.values():
        rows = (
            (f"`{c.name}`", f"`{c.kind.clickhouse}`", c.meaning, str(c.source), _MASKED[c.secrets])
            for c in table.columns
        )
        paths = f" Paths are those of `envoy.data.accesslog.v3.{table.entry}`." if table.entry else ""
        parts.append(f"\n## {table.name}\n\n{table.meaning}.{paths}\n")
        parts.append("\n" + attributes.table(("column", "type", "meaning", "from", "masked"), rows))
    same = ((f"`{name}`", f"column `{column}`") for name, column in SAME.items())
    elsewhere = ((f"`{name}`", why) for name, why in ELSEWHERE.items())
    return "".join((*parts, _VIEW, _OTHERS, attributes.table(("attribute", "where"), (*same, *elsewhere))))


def generated() -> Mapping[str, str]:
    """Every generated file: its path below the project's root, and its text."""
    return {
        "docs/attributes.md": attributes.render(),
        "docs/columns.md": render(),
        f"proto/{projection.FILE}": projection.render(projection.build()),
    }


def write(root: Path) -> None:
    """Writes every generated file below `root`."""
    for path, text in generated().items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
