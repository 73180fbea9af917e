"""The keys of `policy.decisions`: which request is decided by which rule. Faults are found here, before any request.

Not for: choosing (`selection.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Final

from pydantic import AfterValidator, Field, model_validator

from mixer_py.settings import Settings

NAMING_KEY: Final = "decision"
"""The entry of `context_extensions` by which a route names its decision."""
DEFAULT_NAME: Final = "default"
"""What a request calls `policy.decision` when it names its decision."""
UNSELECTED: Final = "unselected"
"""What metrics and rows call the decision of a request for which none could be chosen."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_LABELS: Final = r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*"
_HOST: Final = re.compile(rf"\*|\[[0-9a-f:.]+\]|{_LABELS}|\*\.?{_LABELS}|{_LABELS}\.?\*")
_NAMESPACE: Final = re.compile(r"[A-Za-z0-9._-]+")
# What servers read in more than one way, or what is written in another way within a request.
_UNFIT_FOR_A_PATH: Final = re.compile(r"[\x00-\x20\x7f%;?#\\\ufffd]|//|(?:^|/)\.{1,2}(?:/|$)|\.(?:/|$)")


def check_decision(value: str) -> str:
    """The path of a rule without slashes at its ends.

    Raises:
        ValueError: it is no path of a rule.
    """
    path = value.strip("/")
    if not path or any(not part for part in path.split("/")):
        raise ValueError(f"{value!r} is no path of a rule; write it as envoy/authz/allow")
    return path


DecisionPath = Annotated[str, AfterValidator(check_decision)]
"""The path of a rule, as `envoy/authz/allow`."""


def _check_name(value: str) -> str:
    if value in {DEFAULT_NAME, UNSELECTED}:
        raise ValueError(f"{value!r} is taken by mixer itself; choose another name")
    if _NAME.fullmatch(value) is None:
        raise ValueError(f"{value!r} is no name; write letters, digits, `_`, `.` and `-`, 63 at most")
    return value


def _check_host(value: str) -> str:
    """A host as Envoy's `domains` have it: exact, `*.foo.com`, `foo.*` or `*`."""
    host = value.lower()
    if re.search(r"[^:]:\d*$|\]:\d*$", host) and not _HOST.fullmatch(host):
        raise ValueError(f"{value!r} has a port; write the host alone, it holds for every port")
    if _HOST.fullmatch(host) is None:
        raise ValueError(f"{value!r} is no host; write pay.example.com, *.example.com, pay.*, [::1] or *")
    return host


def _check_prefix(value: str) -> str:
    """A path prefix of whole segments."""
    if not value.startswith("/"):
        raise ValueError(f"{value!r} does not start with a slash; write it as /{value}")
    if _UNFIT_FOR_A_PATH.search(value):
        raise ValueError(
            f"{value!r} has an empty or dotted segment, or one of % ; ? # \\ and blanks, which servers read in more "
            "than one way; write plain, decoded segments, as /pay/cards"
        )
    return value


def _check_namespace(value: str) -> str:
    if _NAMESPACE.fullmatch(value) is None:
        raise ValueError(f"{value!r} is no namespace; write it as it stands behind /ns/ in the SPIFFE id")
    return value


class MatchSettings(Settings):
    """The requests that a decision is for. Every condition that is given has to hold."""

    hosts: tuple[Annotated[str, AfterValidator(_check_host)], ...] = ()
    """Hosts without port, as Envoy's `domains`: `pay.example.com`, `*.example.com`, `pay.*`, `*`."""
    path_prefixes: tuple[Annotated[str, AfterValidator(_check_prefix)], ...] = ()
    """Prefixes of the path, in whole decoded segments: `/pay` is for `/pay` and `/pay/card`, not for `/payment`."""
    namespaces: tuple[Annotated[str, AfterValidator(_check_namespace)], ...] = ()
    """Namespaces of the destination, as its principal's SPIFFE id says."""
    context_extensions: dict[str, str] = Field(default_factory=dict)
    """Entries that the request's `context_extensions` have; Envoy's route sets them."""

    @model_validator(mode="after")
    def _asks_for_something(self) -> MatchSettings:
        if not (self.hosts or self.path_prefixes or self.namespaces or self.context_extensions):
            raise ValueError(
                "an empty match is for no request; give hosts, path_prefixes, namespaces or context_extensions, or "
                "leave match out for a decision that requests name"
            )
        if NAMING_KEY in self.context_extensions:
            raise ValueError(
                f"context_extensions.{NAMING_KEY} names a decision by itself; call this one "
                f"{self.context_extensions[NAMING_KEY]!r} and leave the key out"
            )
        return self


class DecisionSettings(Settings):
    """One decision beside the default."""

    name: Annotated[str, AfterValidator(_check_name)]
    """What metrics, metadata and rows call it, and what a request's `context_extensions.decision` may say."""
    path: DecisionPath
    """Path of the rule whose value is the decision, as `policy.decision`."""
    match: MatchSettings | None = None
    """The requests that it is for; left out, only those that name it."""
    dry_run: bool = False
    """Answer its denials with OK, as `policy.dry_run` does for all."""


def check_names(decisions: Sequence[DecisionSettings]) -> None:
    """Refuses two decisions of one name.

    Raises:
        ValueError: naming them.
    """
    first: dict[str, int] = {}
    for index, decision in enumerate(decisions):
        if decision.name in first:
            raise ValueError(
                f"decisions {first[decision.name]} and {index} are both called {decision.name!r}; "
                "give each a name of its own"
            )
        first[decision.name] = index
