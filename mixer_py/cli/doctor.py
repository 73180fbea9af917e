"""Look for what is wrong around this mixer, and say how to mend it. Exit 1 when something does not work.

Configuration, addresses, certificates, what is fetched, counter store, ClickHouse, disks, clocks, the running mixer,
and with `--envoy` the settings of the Envoys that ask it. Nothing is changed.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

from mixer_py.cli.options import add_configuration, add_format
from mixer_py.cli.output import print_json, print_line, printable, shorten_paths

if TYPE_CHECKING:
    from mixer_py.doctor.finding import Finding
    from mixer_py.errors import Fault

EXAMPLES = (
    "mixer doctor -c mixer.yaml",
    "mixer doctor --envoy envoy.yaml",
    "mixer doctor --envoy http://127.0.0.1:9901",
)
_WORDS = {"good": "good   ", "warning": "WARNING", "fault": "FAULT  ", "skipped": "skipped"}
_COLOURS = {"good": "green", "warning": "yellow", "fault": "red", "skipped": "bright_black"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_configuration(parser)
    add_format(parser)
    parser.add_argument(
        "--envoy",
        action="append",
        default=[],
        metavar="FILE|URL",
        help="bootstrap file of an Envoy that asks this mixer, or its admin address; may be repeated",
    )


def run(arguments: argparse.Namespace) -> int:
    """Examines, and prints what it found."""
    found = _examine(arguments)
    faults = sum(one.state == "fault" for one in found)
    warnings = sum(one.state == "warning" for one in found)
    if arguments.format == "json":
        print_json({"good": not faults, "findings": [asdict(one) for one in found]})
    else:
        _print(found)
        print_line(f"{faults} faults, {warnings} warnings, {len(found)} looked at")
    return 1 if faults else 0


def _examine(arguments: argparse.Namespace) -> list[Finding]:
    # Imported here: nearly every room takes part, and `--help` needs none of them.
    from mixer_py.cli.options import load_configuration  # noqa: PLC0415
    from mixer_py.cli.validate import validate  # noqa: PLC0415
    from mixer_py.config import find_file  # noqa: PLC0415
    from mixer_py.doctor.examination import examine  # noqa: PLC0415
    from mixer_py.doctor.finding import fault, good, warning  # noqa: PLC0415

    file = find_file(arguments.config)
    subject = "configuration"
    report = validate(arguments)
    found = [fault(subject, one.message, one.way_out, _place(one)) for one in report.faults]
    found += [warning(subject, one.message, one.way_out, _place(one)) for one in report.warnings]
    if report.faults:
        return found  # what is around it cannot be judged by what is wrong itself
    found.insert(0, good(subject, f"{file} has no faults" if file else "there is no file; the defaults hold"))
    return found + examine(load_configuration(arguments), tuple(arguments.envoy))


def _place(one: Fault) -> str:
    return ": ".join(part for part in (one.place, one.field) if part)


def _print(found: list[Finding]) -> None:
    from rich.console import Console  # noqa: PLC0415 (slow to import, and JSON needs none)
    from rich.text import Text  # noqa: PLC0415

    console = Console(highlight=False, soft_wrap=True)
    for one in found:
        line = Text(_WORDS[one.state], style=_COLOURS[one.state])
        line.append(f" {printable(shorten_paths(one.subject))}", style="bold")
        line.append(f": {printable(shorten_paths(one.message))}")
        if one.place and one.state != "good":
            line.append(f" [{printable(shorten_paths(one.place))}]", style="bright_black")
        console.print(line)
        if one.way_out:
            console.print(Text(f"        {printable(shorten_paths(one.way_out))}"))
