"""The place of a listener: what a process holds of it, and no more."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from mixer_py.transports.places import Place


def descriptors() -> set[str]:
    return {descriptor.name for descriptor in Path("/proc/self/fd").iterdir()}


def unix_socket(place: Place) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(place.bound.removeprefix("unix://"))
    listening.listen()
    return listening


def test_taking_a_place_and_leaving_it_costs_no_descriptors(tmp_path):
    (tmp_path / "file").touch()
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as listening, (tmp_path / "file").open():
        place = Place(f"127.0.0.1:{listening.getsockname()[1]}")
        before = descriptors()
        place.publish()
        place.stop_listening()
        assert descriptors() == before


@pytest.mark.parametrize("kind", ["port", "unix"])
async def test_who_gives_way_waits_for_those_that_have_connected_and_are_not_accepted_yet(tmp_path, kind):
    """When a queue is closed, each in it finds its connection reset before its first word."""
    if kind == "unix":
        place = Place(f"unix://{tmp_path}/s")
        listening = unix_socket(place)
    else:
        listening = socket.create_server(("127.0.0.1", 0), reuse_port=True)
        place = Place(f"127.0.0.1:{listening.getsockname()[1]}")
    with listening, socket.socket(listening.family) as client:
        client.connect(listening.getsockname())
        before = descriptors()
        waiting = asyncio.create_task(place.until_empty())
        done, _ = await asyncio.wait({waiting}, timeout=3)
        assert not done
        with listening.accept()[0]:
            await asyncio.wait_for(waiting, 60)
        assert descriptors() == before


async def test_who_gives_way_does_not_wait_for_ever(tmp_path):
    place = Place(f"unix://{tmp_path}/s")
    with unix_socket(place) as listening, socket.socket(socket.AF_UNIX) as client:
        client.connect(listening.getsockname())
        await asyncio.wait_for(place.until_empty(), 60)


def test_who_leaves_takes_the_name_from_no_successor_though_its_socket_has_the_same_number(tmp_path):
    """File systems such as ext4 give the number of what was removed to what is made next."""
    address = f"unix://{tmp_path}/s"
    first, second, third = (Place(address) for _ in range(3))
    with unix_socket(first):
        first.publish()
    with unix_socket(second):
        second.publish()
        with unix_socket(third):
            third.publish()
            first.leave()
            second.leave()
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(f"{tmp_path}/s")
        third.leave()
    assert list(tmp_path.iterdir()) == []
