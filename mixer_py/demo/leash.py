"""Run as a script: becomes another program that ends when the process that started it ends, however that ends.

`python -I -S leash.py PARENT SIGNAL PROGRAM ARGUMENT…`. A script of its own, and not `preexec_fn`, because Python
code between fork and exec is unsafe (and warned about) in a process with threads. It imports nothing of this package.
"""

from __future__ import annotations

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(arguments: list[str]) -> None:
    """Asks the kernel for `SIGNAL` on the parent's death, then executes the program."""
    parent, signal_number, *command = arguments
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal_number), 0, 0, 0):
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != int(parent):  # it died before we asked
        sys.exit("the process that started this one has already ended")
    os.execv(command[0], command)  # noqa: S606 (becoming that program is what this script is for)


if __name__ == "__main__":
    main(sys.argv[1:])
