"""Run mixer: answer Envoy's checks, limits and access logs until SIGTERM. SIGHUP or a changed file reloads."""

from __future__ import annotations

import argparse

from mixer_py.cli.options import add_configuration
from mixer_py.runtime.supervisor import serve

EXAMPLES = ("mixer serve -c mixer.yaml", "mixer serve --set server.admin=127.0.0.1:15015")


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_configuration(parser)


def run(arguments: argparse.Namespace) -> int:
    """Serves until it is told to end."""
    return serve(arguments.config, arguments.overrides)
