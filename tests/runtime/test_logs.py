"""What processes write on the standard error that they share."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

EVENTS = """
import structlog
from mixer_py.config.log import LogSettings
from mixer_py.runtime.logs import configure_logs

configure_logs(LogSettings(format="{format}"), "worker")
structlog.get_logger().warning("first", way_out="none")
structlog.get_logger().warning("second", way_out="none")
"""


@pytest.mark.parametrize("options", [(), ("-u",)], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("kind", ["json", "console"])
def test_a_line_is_one_write_so_that_lines_of_several_processes_do_not_mix(kind: str, options: tuple[str, ...]):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # which keeps writes apart
    with ours, theirs:
        subprocess.run([sys.executable, *options, "-c", EVENTS.format(format=kind)], stderr=theirs, check=True)
        theirs.close()
        writes = [ours.recv(1 << 16).decode(), ours.recv(1 << 16).decode()]
        assert ours.recv(1 << 16) == b""
    for write, event in zip(writes, ("first", "second"), strict=True):
        assert event in write
        assert write.index("\n") == len(write) - 1
