"""SPIFFE ids: who a workload is, as its certificate says.

Istio's form is `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`. Mixer dropped the prefix `spiffe://`;
we keep it, as Istio's metrics do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

SCHEME: Final = "spiffe://"
# SPIFFE-ID standard, 2: a trust domain has lower-case letters, digits, dots, dashes, underscores; segments are not
# empty, nor `.` or `..`, and know no escapes.
_TRUST_DOMAIN: Final = re.compile(r"[a-z0-9._-]{1,255}")
_SEGMENT: Final = re.compile(r"[A-Za-z0-9._-]+")
_LONGEST: Final = 2048  # bytes; SPIFFE-ID standard, 2.3


@dataclass(frozen=True, slots=True)
class SpiffeId:
    """One id in its parts.

    Attributes:
        trust_domain: who vouches for it.
        path: segments behind the trust domain.
    """

    trust_domain: str
    path: tuple[str, ...] = ()

    @property
    def namespace(self) -> str:
        """The segment behind `ns`, where Istio puts the namespace; empty when there is none."""
        return self._behind("ns")

    @property
    def service_account(self) -> str:
        """The segment behind `sa`, where Istio puts the service account; empty when there is none."""
        return self._behind("sa")

    def _behind(self, key: str) -> str:
        # Keys stand at even places only: a namespace may itself be called `sa`.
        for index in range(0, len(self.path) - 1, 2):
            if self.path[index] == key:
                return self.path[index + 1]
        return ""

    def __str__(self) -> str:
        return SCHEME + "/".join((self.trust_domain, *self.path))


def parse(principal: str) -> SpiffeId | None:
    """The parts of a SPIFFE id, with its prefix; None for any other name."""
    if not principal.startswith(SCHEME) or len(principal) > _LONGEST:
        return None
    trust_domain, *path = principal[len(SCHEME) :].split("/")
    if _TRUST_DOMAIN.fullmatch(trust_domain) is None:
        return None
    if any(_SEGMENT.fullmatch(segment) is None or segment in {".", ".."} for segment in path):
        return None
    return SpiffeId(trust_domain, tuple(path))
