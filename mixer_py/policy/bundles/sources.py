"""What is fetched, under which name, and where its last good copy is kept. Fetches nothing.

A copy is written by the supervisor (`runtime/fetching`) and read by whoever reads bundles; its signature is verified
at each reading.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from mixer_py.policy.bundles.settings import DataSettings, is_url

_NAME_DIGITS: Final = 32
_STATE: Final = Path("/var/lib/mixer")


@dataclass(frozen=True, slots=True)
class Source:
    """One thing that is fetched.

    Attributes:
        name: for people and metrics: a bundle's URL without its query, or `policy.data.NAME`.
        url: where it is.
        kind: what is expected there.
        key: how copies of it are found.
    """

    name: str
    url: str
    kind: Literal["bundle", "document"]

    @property
    def key(self) -> str:
        """A name of a file that no other source has."""
        digest = hashlib.sha256(f"{self.kind}\0{self.url}".encode()).hexdigest()[:_NAME_DIGITS]
        return f"{digest}{'.tar.gz' if self.kind == 'bundle' else '.json'}"


def bundle_source(url: str) -> Source:
    """The source of a bundle."""
    return Source(urlsplit(url)._replace(query="").geturl(), url, "bundle")


def data_source(name: str, settings: DataSettings) -> Source:
    """The source of a document of `policy.data`."""
    return Source(f"policy.data.{name}", settings.url, "document")


def sources_of(bundles: Iterable[str], data: Mapping[str, DataSettings]) -> Iterator[Source]:
    """Everything that settings say to fetch."""
    for bundle in dict.fromkeys(bundles):
        if is_url(bundle):
            yield bundle_source(bundle)
    for name, settings in data.items():
        yield data_source(name, settings)


def copies_folder(named: str | None, environment: Mapping[str, str]) -> Path:
    """Where copies are kept: `policy.fetch.folder`, or its default. It need not exist yet."""
    if named is not None:
        return Path(named)
    given = environment.get("STATE_DIRECTORY", "").partition(":")[0]
    if given.startswith("/"):
        return Path(given)
    if os.access(_STATE if _STATE.exists() else _STATE.parent, os.W_OK | os.X_OK):
        return _STATE
    home = environment.get("XDG_STATE_HOME", "")
    try:
        return (Path(home) if home.startswith("/") else Path.home() / ".local" / "state") / "mixer"
    except RuntimeError:  # a user whom the system does not know, as in some containers
        return _STATE


def kept_copies(sources: Iterable[Source], folder: Path) -> dict[str, Path]:
    """The copies that there are, by the keys of their sources."""
    copies = {source.key: folder / source.key for source in sources}
    return {key: path for key, path in copies.items() if path.is_file()}
