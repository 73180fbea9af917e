"""Read requests and decisions with one SELECT, from the running mixer or from the ClickHouse server it writes to.

Tables without a database are those of the configured one: requests, connections, decisions, and the view
request_decisions.
"""

from __future__ import annotations

import argparse
import json

from mixer_py.cli.options import add_configuration, add_format, load_configuration
from mixer_py.cli.output import print_json_text, print_table
from mixer_py.cli.rows import rows_of

EXAMPLES = (
    "mixer query 'SELECT timestamp, verdict, response_code FROM requests ORDER BY timestamp DESC LIMIT 10'",
    "mixer query -c mixer.yaml --format json 'SELECT verdict, count() AS n FROM requests GROUP BY verdict'",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("sql", metavar="SQL", help="one SELECT")
    add_configuration(parser)
    add_format(parser)


def run(arguments: argparse.Namespace) -> int:
    """Asks, and prints the rows."""
    configuration = load_configuration(arguments)
    lines = rows_of(configuration, arguments.sql)
    if arguments.format == "json":
        for line in lines:
            print_json_text(line)
        return 0
    rows = [json.loads(line) for line in lines]
    if rows:
        print_table(tuple(rows[0]), ([_cell(value) for value in row.values()] for row in rows))
    else:
        print_table(("no rows",), ())
    return 0


def _cell(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
