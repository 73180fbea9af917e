"""Decisions that were made already, by what they read: Mixer's check cache.

A key is a decision's path and everything of the input that it reads, absence included, as it stands in the request or
as JSON text, so that equal keys have equal decisions. It holds the Rego result only; identifiers, quotas, logs and
shadow decisions are made anew for every call. It belongs to one revision and goes with it. Errors are not kept.

Not for: which decisions may be kept (`rego/reads.py`), or what the key is made of (`document/projection.py`).
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from mixer_py.instruments import Clock, Registry
from mixer_py.policy.decision import HIT, Ruling
from mixer_py.policy.settings import CacheSettings

Key = tuple[object, ...]
"""Path of the decision, and the text that it read, or a digest of that; or a fingerprint of the request."""

_LONGEST_KEY: Final = 256
_DIGEST_BYTES: Final = 32


@dataclass(slots=True)
class _Entry:
    """A ruling, the monotonic time at which it is too old, and how often it may be used yet (-1: any number)."""

    ruling: Ruling
    expires: float
    uses: int


class DecisionCache:
    """The decisions of one revision, least recently used ones given up first. For one thread."""

    def __init__(self, settings: CacheSettings, registry: Registry, clock: Clock) -> None:
        """Starts empty."""
        self._capacity = settings.entries
        self._ttl = settings.ttl
        self._uses = -1 if settings.uses is None else settings.uses
        self._clock = clock
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        evictions = registry.counter(
            "mixer_decision_cache_evictions_total", "Decisions that left the cache, by reason.", ("reason",)
        )
        self._evicted_full = evictions.labels("capacity")
        self._evicted_old = evictions.labels("ttl")
        self._evicted_used = evictions.labels("uses")
        self._size = registry.gauge("mixer_decision_cache_entries", "Decisions in the cache.").labels()
        self._size.set(0)

    def __len__(self) -> int:
        """How many decisions are held, those too old among them."""
        return len(self._entries)

    def find(self, key: Key) -> Ruling | None:
        """The ruling for a key, marked as a hit; None when there is none that may be used."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if self._clock.monotonic() >= entry.expires:
            self._drop(key)
            self._evicted_old.add()
            return None
        if entry.uses > 0:
            entry.uses -= 1
            if entry.uses == 0:
                self._drop(key)
                self._evicted_used.add()
                return entry.ruling
        self._entries.move_to_end(key)
        return entry.ruling

    def keep(self, key: Key, ruling: Ruling) -> None:
        """Keep a ruling for as long as the settings and its own `cache_ttl` allow."""
        wish = ruling.decision.cache_ttl
        ttl = self._ttl if wish is None or wish > self._ttl else wish
        if ttl <= 0:
            return
        entries = self._entries
        entries[key] = _Entry(
            Ruling(ruling.decision, ruling.tier, HIT, recurs=True), self._clock.monotonic() + ttl, self._uses
        )
        entries.move_to_end(key)
        if len(entries) > self._capacity:
            entries.popitem(last=False)
            self._evicted_full.add()
        self._size.set(len(entries))

    def _drop(self, key: Key) -> None:
        del self._entries[key]
        self._size.set(len(self._entries))


def cache_key(path: str, text: str) -> tuple[str, str | bytes]:
    """The key of what a decision read; a long text is kept as a digest, so that entries stay small."""
    if len(text) <= _LONGEST_KEY:
        return path, text
    return path, hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES).digest()
