"""The place of a listener: what a process holds of it, and no more."""

from __future__ import annotations

import socket
from pathlib import Path

from mixer_py.transports.places import Place


def descriptors() -> set[str]:
    return {descriptor.name for descriptor in Path("/proc/self/fd").iterdir()}


def test_taking_a_place_and_leaving_it_costs_no_descriptors(tmp_path):
    (tmp_path / "file").touch()
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as listening, (tmp_path / "file").open():
        place = Place(f"127.0.0.1:{listening.getsockname()[1]}")
        before = descriptors()
        place.publish()
        place.stop_listening()
        assert descriptors() == before
