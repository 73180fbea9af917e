"""What the processes hand one another, as files in their private folder.

A pickle, because it is written and read by the same program and user within a folder that nobody else can enter; a
command line or the environment would show secrets.
"""

from __future__ import annotations

import pickle
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from mixer_py.config.configuration import Configuration
from mixer_py.config.log import LogSettings
from mixer_py.config.server import ServerSettings
from mixer_py.credentials import Credentials
from mixer_py.errors import ProcessError
from mixer_py.policy.settings import PolicySettings

Content = TypeVar("Content")


@dataclass(frozen=True, slots=True)
class WorkerOrder:
    """What a worker begins with, or prepares itself for.

    Attributes:
        configuration: the settings.
        store_socket: where the store process answers; None without one.
        sources: file of what a worker has read before; None to read what the settings name. With it, a worker that
            replaces another decides as that one did, whatever stands on disk by then.
        fetched: files of what was fetched, by the keys of their sources.
        credentials: of the listeners with TLS, by their addresses.
    """

    configuration: Configuration
    store_socket: Path | None = None
    sources: Path | None = None
    fetched: Mapping[str, Path] = field(default_factory=dict)
    credentials: Mapping[str, Credentials] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TlsOrder:
    """What a worker's listeners show and whom they let in from now on.

    Attributes:
        server: whose lists of peers hold.
        credentials: of the listeners with TLS, by their addresses.
    """

    server: ServerSettings
    credentials: Mapping[str, Credentials]


@dataclass(frozen=True, slots=True)
class ShadowOrder:
    """What the process of a candidate policy begins with.

    Attributes:
        policy: the settings by which it decides.
        log: how it logs.
        socket: where it listens.
        bundle: file of what another has read before; None to read what the settings name.
        fetched: files of what was fetched, by the keys of their sources.
    """

    policy: PolicySettings
    log: LogSettings
    socket: Path
    bundle: Path | None = None
    fetched: Mapping[str, Path] = field(default_factory=dict)


def shadow_socket(folder: Path) -> Path:
    """Where the process of a candidate policy listens, in the private folder of a mixer."""
    return folder / "shadow.sock"


def write_private(content: object, folder: Path, kind: str) -> Path:
    """Writes something for another of our processes, where only this user reads it; the file's path."""
    path = folder / f"{kind}-{secrets.token_hex(8)}"
    with path.open("xb") as file:
        path.chmod(0o600)
        pickle.dump(content, file)
    return path


def read_private(path: Path, kind: type[Content]) -> Content:
    """Reads what `write_private` wrote.

    Raises:
        ProcessError: it is gone, as when mixer ends meanwhile, or holds something else.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ProcessError(f"{path} cannot be read: {error.strerror}") from error
    content = pickle.loads(text)  # noqa: S301 (our own file in our own folder, see above)
    if not isinstance(content, kind):
        raise ProcessError(f"{path} holds no {kind.__name__}")
    return content
