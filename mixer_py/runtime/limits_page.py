"""The page `/rlconfig`: the limits in force, and what stands in the counters of a descriptor now.

Not for: HTTP (`admin/`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mixer_py.errors import InvalidRequestError
from mixer_py.ratelimit.explaining.descriptors import parse_descriptor
from mixer_py.runtime.workers import Workers

_MOST_DESCRIPTORS = 64


class LimitsPage:
    """Answers for the workers of a mixer."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    def rules(self) -> Mapping[str, object]:
        """The revision in force, its rules, and its quotas on attributes."""
        deployed = self._workers.deployed
        shown = {name: deployed.description.get(name) for name in ("limits", "quotas")}
        return {"revision": deployed.revision, **shown}

    async def counters(self, asked: Mapping[str, Sequence[str]]) -> Mapping[str, object]:
        """The same for the rules of some descriptors, with what is used and what remains.

        Args:
            asked: `domain`, which may be left out when the rules have only one, and any number of `descriptor`, each as
                `parse_descriptor` reads it.

        Raises:
            InvalidRequestError: it asks for something else.
            ProcessError: no worker can be asked now.
            ConfigurationError: the worker cannot tell, as when the store is away.
        """
        unknown = asked.keys() - {"domain", "descriptor"}
        if unknown:
            raise InvalidRequestError(f"{min(unknown)}: ask with domain= and descriptor=key=value,key=value")
        written = asked.get("descriptor", ())
        if not 0 < len(written) <= _MOST_DESCRIPTORS:
            raise InvalidRequestError(f"descriptor: give at least one, and {_MOST_DESCRIPTORS} at most")
        try:
            descriptors = [parse_descriptor(text) for text in written]
        except ValueError as error:
            raise InvalidRequestError(f"descriptor: {error}") from None
        domain = self._domain(asked.get("domain", ()))
        counters = await self._workers.look(domain, descriptors)
        return {"revision": self._workers.deployed.revision, "domain": domain, "counters": counters}

    def _domain(self, named: Sequence[str]) -> str:
        if len(named) == 1 and named[0]:
            return named[0]
        limits = self._workers.deployed.description.get("limits")
        known = {str(rule["domain"]) for rule in limits} if isinstance(limits, list) else set()
        if named or len(known) != 1:
            raise InvalidRequestError(f"domain: name one; known are {', '.join(sorted(known)) or 'none'}")
        return known.pop()
