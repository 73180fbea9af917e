"""Gives the workers of a mixer a builtin that ends their process or their loop; found through PYTHONPATH.

`semver.is_valid` does what its argument says, as a defect of a native library would; of other arguments it is false.
"""

from __future__ import annotations

import os
import sys
import time
from typing import NoReturn


def _exit() -> NoReturn:
    os._exit(0)


def _sleep() -> NoReturn:
    while True:
        time.sleep(600)


def _spin() -> NoReturn:
    while True:
        pass


def _substitute() -> None:
    from mixer_py.policy.builtins import corrected

    deadly = {"exit": _exit, "sleep": _sleep, "spin": _spin}
    corrected.is_version = lambda word: word in deadly and deadly[word]()


if "mixer_py.runtime.worker" in sys.orig_argv or "MIXER_CONTROL_FD" in os.environ:  # the latter inside an Envoy
    _substitute()
