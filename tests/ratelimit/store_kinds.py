"""The stores that the one suite runs over: how each is started, and opened for a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mixer_py.demo.processes import Ports
from tests.parts.programs import Programs
from tests.parts.valkey import Valkey

Settings = dict[str, object]


@dataclass(frozen=True)
class Kind:
    """One kind of store.

    Attributes:
        name: of the kind.
        start: starts its servers; the settings that lead there.
        shared: whether several stores count together.
    """

    name: str
    start: Callable[[Programs, Ports], Settings]
    shared: bool = True


def _single(programs: Programs, ports: Ports) -> Settings:
    return {"store": Valkey(programs, ports).uri}


def _unix(programs: Programs, ports: Ports) -> Settings:
    return {"store": f"unix://{Valkey(programs, ports).socket}?db=3"}


KINDS = (
    Kind("memory", lambda programs, ports: {"store": "memory://"}, shared=False),
    Kind("single", _single),
    Kind("unix", _unix),
)


@contextmanager
def started(kind: Kind, programs: Programs, ports: Ports) -> Iterator[Settings]:
    """The settings of a store whose servers run."""
    yield kind.start(programs, ports)
