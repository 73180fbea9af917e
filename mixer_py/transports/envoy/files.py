"""The files between Envoy and the Python inside it, in a folder that only this user can enter."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class HostFiles:
    """Where they are.

    Attributes:
        folder: that of one Envoy.
    """

    folder: Path

    @property
    def bootstrap(self) -> Path:
        """What Envoy starts with."""
        return self.folder / "bootstrap.json"

    @property
    def listeners(self) -> Path:
        """The listeners that it is to have."""
        return self.folder / "listeners.json"

    @property
    def hurry(self) -> Path:
        """1 when idle connections have to end, else 0."""
        return self.folder / "hurry"

    @property
    def admin(self) -> Path:
        """The socket of its admin pages."""
        return self.folder / "admin"

    @property
    def data_plane(self) -> Path:
        """What of a data plane is left to the Python inside; not there without one."""
        return self.folder / "data-plane.json"

    def make(self, bootstrap: Mapping[str, Any], data_plane: Mapping[str, Any] | None = None) -> None:
        """Makes the folder, with all that Envoy reads at its start.

        Args:
            bootstrap: of this Envoy.
            data_plane: for `read_data_plane`.

        Raises:
            OSError: it cannot be made.
        """
        self.folder.mkdir(mode=0o700)
        write(self.bootstrap, json.dumps(bootstrap))
        self.write_listeners((), 0)
        self.write_hurry(now=False)
        if data_plane is not None:
            write(self.data_plane, json.dumps(data_plane))

    def read_data_plane(self) -> Mapping[str, Any]:
        """What `make` was given of a data plane; nothing without one."""
        if not self.data_plane.exists():
            return {}
        found: Mapping[str, Any] = json.loads(self.data_plane.read_text(encoding="utf-8"))
        return found

    def write_listeners(self, listeners: Sequence[Mapping[str, Any]], version: int) -> None:
        """From now on Envoy is to have these listeners."""
        self.write_resources(self.listeners, listeners, version)

    def write_resources(self, path: Path, resources: Sequence[Mapping[str, Any]], version: int = 0) -> None:
        """What a file that Envoy watches holds from now on (envoy.service.discovery.v3.DiscoveryResponse)."""
        write(path, json.dumps({"version_info": str(version), "resources": list(resources)}))

    def write_hurry(self, *, now: bool) -> None:
        """Whether idle connections have to end."""
        write(self.hurry, "1.0" if now else "0.0")


def write(path: Path, text: str) -> None:
    """Puts a file there at once, so that nobody reads half of it; only its owner can read it."""
    draft = path.with_suffix(".draft")
    draft.touch(mode=0o600)
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
