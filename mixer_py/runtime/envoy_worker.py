"""What becomes a worker inside an Envoy: started like a worker, as `python -m mixer_py.runtime.envoy_worker`.

It is still the same process when Envoy runs: with the supervisor's control channel, and with its leash, so that no
Envoy outlives mixer. What runs inside is `inside_envoy`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from mixer_py.errors import ProcessError
from mixer_py.runtime import childhood
from mixer_py.runtime.control import die_with_parent
from mixer_py.runtime.data_plane import DataPlane
from mixer_py.runtime.orders import read_private
from mixer_py.transports.envoy.files import HostFiles
from mixer_py.transports.envoy.process import become_envoy

INSIDE = "mixer_py.runtime.inside_envoy"
CONTROL, TABLE = "MIXER_CONTROL_FD", "MIXER_TABLE"
"""Variables in the environment of what runs inside: there is no command line for it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Becomes Envoy; the exit code when that fails."""
    die_with_parent()  # it holds for what this process becomes
    parser = childhood.command_line("mixer_py.runtime.envoy_worker")
    parser.add_argument("--data-plane", type=Path, help="file with what else this Envoy carries")
    options = parser.parse_args(arguments)
    files = HostFiles(options.table.with_suffix(".files"))
    environment = {CONTROL: str(options.control_fd), TABLE: str(options.table)}
    try:
        data_plane = None if options.data_plane is None else read_private(options.data_plane, DataPlane)
        if data_plane is None:
            become_envoy(files, INSIDE, "mixer_py.runtime.worker", environment)
        become_envoy(files, INSIDE, "mixer_py.runtime.worker", environment, data_plane.bootstrap, data_plane.threads)
    except ProcessError as error:
        print(f"mixer: {error}", file=sys.stderr)  # noqa: T201 (the last word of a process that has no log yet)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
