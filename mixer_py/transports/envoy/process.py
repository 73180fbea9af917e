"""Become Envoy with this Python inside: the process goes on as Envoy, with its descriptors and its leash.

Not for: what the Python inside does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from mixer_py.envoy_parts import find_parts
from mixer_py.errors import ProcessError
from mixer_py.transports.envoy.data_plane import joined, left_to_python
from mixer_py.transports.envoy.files import HostFiles
from mixer_py.transports.envoy.resources import NOBODY, Application, bootstrap

_OWN = ("PYTHONPATH", "PYTHONHOME", "LD_PRELOAD")
_BEFORE = "MIXER_BEFORE_"


def become_envoy(
    files: HostFiles,
    applications: str,
    node: str,
    environment: Mapping[str, str],
    data_plane: Mapping[str, Any] | None = None,
    threads: int = 1,
) -> NoReturn:
    """Goes on as Envoy. Nothing secret stands on its command line or in its environment.

    Args:
        files: for Envoy's configuration; the folder is made.
        applications: name of the Python module that it loads.
        node: what it is called, also on its command line.
        environment: for that module, besides what this process has.
        data_plane: bootstrap of the traffic that this Envoy carries as well; each of its listeners has a name.
        threads: Envoy's worker threads.

    Raises:
        ProcessError: a part is missing, or the configuration cannot be written.
    """
    parts = find_parts()
    try:
        own = bootstrap(files, Application(parts.module, f"{applications}:{NOBODY}"), node)
        if data_plane is None:
            files.make(own)
        else:
            files.make(joined(own, data_plane), left_to_python(data_plane))
    except OSError as error:
        raise ProcessError(f"no folder for Envoy's configuration: {error}") from error
    variables = {
        "PYTHONPATH": os.pathsep.join((str(_stand_in()), *filter(None, sys.path))),
        "PYTHONHOME": f"{sys.base_prefix}{os.pathsep}{sys.base_exec_prefix}",
        "LD_PRELOAD": str(parts.python),
    }
    os.chdir(files.folder)  # pyvoy puts the current folder before all others that modules are taken from
    before = {f"{_BEFORE}{name}": os.environ[name] for name in _OWN if name in os.environ}
    arguments = [
        "envoy", "--config-path", str(files.bootstrap), "--concurrency", str(threads), "--disable-hot-restart",
        "--drain-strategy", "immediate", *(_alone(node) if data_plane is None else _with_traffic(node)),
    ]  # fmt: skip
    os.execve(parts.binary, arguments, {**os.environ, **before, **variables, **environment})  # noqa: S606 (as itself)


def _alone(node: str) -> list[str]:
    return ["--service-node", node, "--log-level", "error"]


def _with_traffic(node: str) -> list[str]:
    # --service-node would take the place of the node that the bootstrap names. The socket of hot restarts, which there
    # are none of, is where `ps` shows whose process this is.
    return ["--socket-path", node, "--log-level", "warning"]


def restore_environment() -> None:
    """Takes back, inside Envoy, what only its start needed."""
    for name in _OWN:
        before = os.environ.pop(f"{_BEFORE}{name}", None)
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before


def _stand_in() -> Path:
    """The folder whose `pyvoy` stands before the real one."""
    spec = find_spec("mixer_py.transports.envoy")
    assert spec is not None  # noqa: S101 (this module is in it)
    assert spec.origin is not None  # noqa: S101 (it is a package with a file)
    return Path(spec.origin).parent / "python"
