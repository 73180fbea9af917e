"""What commands print: JSON for scripts, tables for people, and never a control character from somebody's data."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

# What a terminal obeys: C0 (a tab too, which would break a table), DEL, C1, and what turns the direction of text.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029\ud800-\udfff]")


def printable(text: str) -> str:
    r"""The text with control characters as `\xNN`, so that data cannot move the cursor or hide itself."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode(), text)


def shorten_paths(text: str) -> str:
    """The text with files below the working directory as a person would type them."""
    folder = Path.cwd()
    return text if folder == Path(folder.root) else text.replace(f"{folder}{os.sep}", "")


def print_line(text: str) -> None:
    """One line on stdout."""
    sys.stdout.write(f"{text}\n")


# JSON leaves these as they are; a terminal would obey them.
_JSON_CONTROL = {
    code: f"\\u{code:04x}"
    for span in ((0x7F, 0xA0), (0x200E, 0x2010), (0x2028, 0x202F), (0x2066, 0x206A))
    for code in range(*span)
}


def print_json(document: object) -> None:
    """One JSON document on one line of stdout."""
    print_json_text(json.dumps(document, ensure_ascii=False, separators=(",", ":")))


def print_json_text(text: str) -> None:
    """JSON that is already text: between its strings there is nothing to escape, inside them an escape is the same."""
    print_line(text.translate(_JSON_CONTROL).encode("utf-8", "backslashreplace").decode())


def print_table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on stdout; never cut where stdout is no terminal."""
    from rich.console import Console  # noqa: PLC0415 (slow to import, and JSON needs none)
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in headers:
        table.add_column(Text(printable(header)), overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable("" if cell is None else str(cell))) for cell in row))
    Console(width=None if sys.stdout.isatty() else 100_000, highlight=False).print(table)
