"""Options that several commands share, and what they stand for."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # pydantic is slow to import, and `--help` of most commands needs none
    from mixer_py.config import Configuration


def add_configuration(parser: argparse.ArgumentParser) -> None:
    """`-c` and `--set`."""
    parser.add_argument(
        "-c",
        "--config",
        type=Path,
        metavar="FILE",
        help="configuration file (default: ./mixer.yaml, else /etc/mixer/mixer.yaml, else none)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="KEY=VALUE",
        help="a value that overrides file and environment, as in server.admin=127.0.0.1:15014; may be repeated",
    )


def add_format(parser: argparse.ArgumentParser) -> None:
    """`--format`."""
    parser.add_argument("--format", choices=("table", "json"), default="table", help="for people, or for scripts")


def load_configuration(arguments: argparse.Namespace) -> Configuration:
    """The configuration that the options name.

    Raises:
        ConfigurationError: with every fault.
    """
    from mixer_py.config import load  # noqa: PLC0415 (slow to import)

    return load(arguments.config, os.environ, arguments.overrides)
