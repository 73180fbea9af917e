"""Show requests as they end, live, until Ctrl-C.

The filter is CEL over the columns of `requests`, by their names or by those of the attributes behind them.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING

from mixer_py.cli.options import add_configuration, add_format, load_configuration
from mixer_py.cli.output import print_json, printable
from mixer_py.cli.rows import rows_of

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from mixer_py.queries.tail import Row

EXAMPLES = (
    "mixer tail",
    "mixer tail --filter 'verdict == \"deny\"'",
    "mixer tail --filter 'response.code >= 500 && destination.service.name == \"reviews\"' --format json",
)
_SECONDS = 1.0
"""Between two looks: rows are written once a second."""
_COLOURS = {"allow": "green", "deny": "red", "error": "magenta", "bypassed": "yellow"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--filter", metavar="CEL", help="show only rows for which this holds")
    parser.add_argument(
        "-n",
        "--lines",
        type=int,
        default=10,
        metavar="N",
        help="rows that are there already to begin with (default 10)",
    )
    add_configuration(parser)
    add_format(parser)


def run(arguments: argparse.Namespace) -> int:
    """Asks again and again, and shows what is new."""
    from rich.console import Console  # noqa: PLC0415 (slow to import)

    from mixer_py.queries.tail import Tail, compile_filter, matches  # noqa: PLC0415 (imports Arrow)

    configuration = load_configuration(arguments)
    expression = compile_filter(arguments.filter) if arguments.filter else None
    console = Console(highlight=False, soft_wrap=True)
    tail = Tail(lambda sql: [json.loads(line) for line in rows_of(configuration, sql)], arguments.lines)
    while True:
        rows, more = tail.look()
        for row in rows:
            if matches(expression, row):
                _show(row, console, as_json=arguments.format == "json")
        if more and arguments.format != "json":
            console.print(f"… {more} more in this second", style="dim")
        console.file.flush()
        time.sleep(_SECONDS)


def _show(row: Row, console: Console, *, as_json: bool) -> None:
    if as_json:
        print_json(row)
    else:
        console.print(_line(row))


def _line(row: Row) -> Text:
    """One request on one line: when, verdict, status, who, what, how long, and why not."""
    from rich.text import Text  # noqa: PLC0415 (slow to import)

    status = int(row["response_code"])
    source = row["source_workload_name"] or row["source_ip"] or "unknown"
    target = row["destination_service_name"] or row["destination_ip"] or row["request_host"]
    line = Text(str(row["timestamp"])[11:23] + "  ", style="dim")
    line.append(f"{row['verdict']:<9}", style=_COLOURS.get(row["verdict"], "dim"))
    line.append(f"{status or '---':<5}", style="green" if 0 < status < 400 else "yellow" if 0 < status < 500 else "red")
    line.append(printable(f"{source} → {target}  {row['request_method']} {row['request_url_path']}"))
    line.append(f"  {int(row['response_duration']) / 1000:.1f} ms", style="dim")
    why = [] if row["response_flags"] in {"", "-"} else [str(row["response_flags"])]
    if row["limit_code"] == "OVER_LIMIT":
        why.append(f"over {row['limit_name']}")
    if row["verdict"] in {"deny", "error"} and row["reasons"]:
        why.append(str(row["reasons"]))
    if why:
        line.append(printable("  " + ", ".join(why)), style="bold")
    return line
