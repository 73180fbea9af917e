"""Show the main job on this machine: a real Envoy before two services, traffic, policies, limits and ClickHouse."""

from __future__ import annotations

import argparse

from mixer_py import demo

EXAMPLES = ("mixer demo", "mixer demo --once")


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--once", action="store_true", help="end by itself; exit 0 only if every kind of row was found")


def run(arguments: argparse.Namespace) -> int:
    """Runs the demo."""
    return demo.run(once=arguments.once)
