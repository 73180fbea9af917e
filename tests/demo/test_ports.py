"""The ports that the demo, tests and benchmarks listen on: nobody else's, and nobody's a moment ago."""

from __future__ import annotations

import socket

import pytest

from mixer_py.demo.processes import Ports, listening_ports


def test_two_takers_of_ports_never_share_one():
    first, second = Ports(), Ports()
    try:
        taken = [ports.take() for _ in range(20) for ports in (first, second)]
        assert len(set(taken)) == 40
    finally:
        first.close()
        second.close()


@pytest.mark.parametrize(
    ("lowest", "highest", "ports"),
    [
        (32768, 60999, range(10_000, 32_000)),
        (16000, 65535, range(10_000, 16_000)),
        (1024, 60999, range(61_000, 65_536)),
        (1024, 65535, range(10_000, 32_000)),
    ],
)
def test_ports_are_none_that_the_kernel_gives_to_connections_where_others_are_left(lowest, highest, ports):
    assert listening_ports(lowest, highest) == ports


def test_a_port_whose_connections_ended_lately_is_not_handed_out_again():
    first, second = Ports(), Ports()
    port = first.take()
    with socket.create_server(("127.0.0.1", port)) as listener:
        client = socket.create_connection(("127.0.0.1", port))
        served, _ = listener.accept()
        served.close()  # first, so that it is this end that waits
        client.close()
    first.close()
    again = second.take()
    second.close()
    assert again != port
