"""Where the control socket is: for the supervisor that serves it and for the commands that call it."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from mixer_py.config.server import ServerSettings
from mixer_py.errors import ProcessError

_RUN = Path("/run/mixer")


def socket_path(server: ServerSettings, environment: Mapping[str, str]) -> Path:
    """Where to serve the control socket; its folder exists afterwards and is writable for this user.

    `server.socket`, else `mixer-<admin port>.sock` in `$XDG_RUNTIME_DIR`, else in `/run/mixer` where that can be
    made, else in a folder of the user's own (mode 0700) below `$TMPDIR` or `/tmp`.

    Raises:
        ProcessError: no folder can be made that nobody else may write to.
    """
    if server.socket is not None:
        return Path(server.socket)
    name = _name(server)
    runtime = _runtime_folder(environment)
    if runtime is not None and os.access(runtime, os.W_OK | os.X_OK):
        return runtime / name
    if _can_use(_RUN):
        return _RUN / name
    return _own_folder(_temporary_folder(environment)) / name


def socket_candidates(server: ServerSettings, environment: Mapping[str, str]) -> tuple[Path, ...]:
    """Every place where the socket of a mixer with these settings may be, the likeliest first.

    More than one, because a mixer may have been started by another user or without the session's environment.
    """
    if server.socket is not None:
        return (Path(server.socket),)
    runtime = _runtime_folder(environment)
    temporary = _temporary_folder(environment)
    folders = [runtime] if runtime is not None else []
    folders += [_RUN, temporary] if not temporary.exists() or _is_own(temporary) else [_RUN]
    return tuple(folder / _name(server) for folder in folders)


def _name(server: ServerSettings) -> str:
    return f"mixer-{server.admin.port}.sock"


def _runtime_folder(environment: Mapping[str, str]) -> Path | None:
    text = environment.get("XDG_RUNTIME_DIR", "")
    return Path(text) if text.startswith("/") and Path(text).is_dir() else None


def _temporary_folder(environment: Mapping[str, str]) -> Path:
    text = environment.get("TMPDIR", "")
    return Path(text if text.startswith("/") else "/tmp", f"mixer-{os.getuid()}")  # noqa: S108 (made 0700 and checked)


def _can_use(folder: Path) -> bool:
    try:
        folder.mkdir(mode=0o755, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


def _own_folder(folder: Path) -> Path:
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ProcessError(f"no folder for the control socket: {folder}: {error.strerror}; set server.socket") from None
    if not _is_own(folder):
        raise ProcessError(f"{folder} belongs to somebody else, or others may look into it; set server.socket")
    return folder


def _is_own(folder: Path) -> bool:
    """Whether it is a folder, no link, that only this user can use: anybody may make one in a temporary folder."""
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not stat.S_IMODE(found.st_mode) & 0o077
