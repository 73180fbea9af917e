"""Becomes the Valkey server that counts for all workers of a mixer: nothing on disk, no TCP port, ends with its parent.

Started by the supervisor as `python -m mixer_py.runtime.valkey`, so that the kernel is asked for its end before it is
another program. Not for: watching it (`valkey_role.py`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mixer_py.runtime import childhood
from mixer_py.runtime.control import die_with_parent


def main(arguments: Sequence[str] | None = None) -> None:
    """Executes the server.

    Raises:
        SystemExit: the supervisor has ended already.
        OSError: the program cannot be executed.
    """
    die_with_parent()
    parser = childhood.command_line("mixer_py.runtime.valkey")
    parser.add_argument("--parent", type=int, required=True, help="process id of the supervisor")
    parser.add_argument("--program", type=Path, required=True)
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--memory", type=int, required=True, help="bytes that it may use")
    options = parser.parse_args(arguments)
    if os.getppid() != options.parent:  # it died before we asked the kernel
        sys.exit(1)
    os.close(options.control_fd)  # it takes no orders, and counts nothing in its table
    os.setsid()  # Ctrl-C reaches the whole group, and Valkey would end before the workers have
    server = str(options.program)
    os.execv(  # noqa: S606 (becoming that program is what this process is for)
        server,
        [
            server, "--port", "0", "--unixsocket", str(options.socket), "--unixsocketperm", "600",
            "--save", "", "--appendonly", "no", "--dir", str(options.socket.parent),
            "--maxmemory", str(options.memory), "--maxmemory-policy", "noeviction",
            "--loglevel", "warning", "--logfile", str(options.log),
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main()
