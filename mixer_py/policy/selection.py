"""Which of several decisions a request asks for: by name, host, path prefix, namespace or context extensions.

A request must not choose a laxer decision by how it spells itself. So a condition has three answers: it holds, it does
not, or it cannot be told, because servers read such a host or path in more than one way (`spelling.py`) or because the
request lacks what is asked for. The first decision whose conditions all hold is taken; where a decision before it
cannot be told, the request is denied, and the reason says why.

Everything is compiled when it is made. Not for: what a decision decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from envoy.service.auth.v3.attribute_context_pb2 import AttributeContext
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest

from mixer_py.attributes import spiffe
from mixer_py.errors import RequestParseError
from mixer_py.policy.decision import Ruling
from mixer_py.policy.point import DecisionPoint, Refusal
from mixer_py.policy.selection_settings import (
    DEFAULT_NAME,
    NAMING_KEY,
    UNSELECTED,
    DecisionSettings,
    MatchSettings,
)
from mixer_py.policy.spelling import NO, YES, Hosts, Match, PathPrefixes, RequestPath

_REMEMBERED_HOSTS: Final = 4096
_NOTHING: Final[frozenset[tuple[str, str]]] = frozenset()
_LONGEST_SHOWN: Final = 63
"""Characters of a name that are shown: as many as a name may have."""


class Unparsable:
    """Stands for the decision on a request whose path cannot be parsed, and so for none.

    Attributes:
        path: empty.
        name: as that of any request without a decision.
        dry_run: False.
        tier: `none`.
        reads: nothing.
    """

    __slots__ = ("_error",)
    path = ""
    name = UNSELECTED
    dry_run = False
    tier = "none"
    reads: tuple[str, ...] = ()

    def __init__(self, error: RequestParseError) -> None:
        self._error = error

    async def decide(self, request: CheckRequest) -> Ruling:  # noqa: ARG002 (whatever is asked)
        """Decides nothing.

        Raises:
            RequestParseError: always.
        """
        raise self._error


Point = DecisionPoint | Refusal | Unparsable


@dataclass(frozen=True, slots=True)
class _Rule:
    """One decision with its conditions, compiled; a condition that is not given is None or empty."""

    point: Point
    hosts: Hosts | None
    prefixes: PathPrefixes | None
    namespaces: frozenset[str]
    extensions: frozenset[tuple[str, str]]
    host_doubt: Refusal
    path_doubt: Refusal
    namespace_doubt: Refusal


Candidate = tuple[_Rule, Match]
"""A rule that a host does not rule out, and whether the host holds for certain."""


class Selection:
    """Chooses among the decisions of one revision."""

    __slots__ = ("_by_host", "_by_name", "_default", "_dry_run", "_rules")

    def __init__(
        self, decisions: Sequence[DecisionSettings], points: Sequence[Point], default: Point, *, dry_run: bool
    ) -> None:
        """Compiles the conditions.

        Args:
            decisions: in the order in which they are tried.
            points: theirs, in the same order.
            default: decides what none of them is for.
            dry_run: denials for want of a decision are only noted.
        """
        self._default = default
        self._dry_run = dry_run
        self._by_name: dict[str, Point] = {DEFAULT_NAME: default}
        self._by_name.update((one.name, point) for one, point in zip(decisions, points, strict=True))
        self._rules = tuple(
            _compile(one.match, point, one.name, dry_run=dry_run)
            for one, point in zip(decisions, points, strict=True)
            if one.match is not None
        )
        self._by_host: dict[str, tuple[Candidate, ...]] = {}

    def select(self, request: CheckRequest) -> Point:
        """The decision that a request asks for, or a refusal."""
        attributes = request.attributes
        extensions = attributes.context_extensions
        if extensions:
            name = extensions.get(NAMING_KEY)
            if name is not None:
                return self._by_name.get(name) or self._unknown(name)
        http = attributes.request.http
        host = http.host
        candidates = self._by_host.get(host)
        if candidates is None:
            candidates = self._candidates(host)
        if not candidates:
            return self._default
        try:
            return self._first(candidates, attributes, set(extensions.items()) if extensions else _NOTHING)
        except RequestParseError as error:
            return Unparsable(error)

    def _first(
        self, candidates: tuple[Candidate, ...], attributes: AttributeContext, extensions: AbstractSet[tuple[str, str]]
    ) -> Point:
        path = namespace = None
        for rule, by_host in candidates:
            if rule.extensions and not rule.extensions <= extensions:
                continue
            by_path = YES
            if rule.prefixes is not None:
                path = path or RequestPath(attributes.request.http.path)
                by_path = path.match(rule.prefixes)
                if by_path is NO:
                    continue
            if rule.namespaces:
                if namespace is None:
                    namespace = _namespace(attributes.destination.principal)
                if not namespace:
                    return rule.namespace_doubt
                if namespace not in rule.namespaces:
                    continue
            if by_host is not YES:
                return rule.host_doubt
            return rule.point if by_path is YES else rule.path_doubt
        return self._default

    def _candidates(self, host: str) -> tuple[Candidate, ...]:
        """The rules that a host does not rule out, remembered for the next request to it."""
        found = []
        for rule in self._rules:
            match = YES if rule.hosts is None else rule.hosts.match(host)
            if match is not NO:
                found.append((rule, match))
        if len(self._by_host) >= _REMEMBERED_HOSTS:
            self._by_host.clear()  # hosts come from the wire: remembering them is bounded
        candidates = self._by_host[host] = tuple(found)
        return candidates

    def _unknown(self, name: str) -> Refusal:
        reason = f"policy.decisions has no decision {name[:_LONGEST_SHOWN]!r}, which context_extensions names"
        return _refusal(reason, dry_run=self._dry_run)


def _compile(match: MatchSettings, point: Point, name: str, *, dry_run: bool) -> _Rule:
    def doubt(reason: str) -> Refusal:
        return _refusal(f"whether decision {name!r} is asked for cannot be told: {reason}", dry_run=dry_run)

    return _Rule(
        point,
        Hosts(match.hosts) if match.hosts else None,
        PathPrefixes(match.path_prefixes) if match.path_prefixes else None,
        frozenset(match.namespaces),
        frozenset(match.context_extensions.items()),
        doubt("the host is malformed"),
        doubt("the path can be read in more than one way"),
        doubt("the destination has no principal with a namespace"),
    )


def _refusal(reason: str, *, dry_run: bool) -> Refusal:
    return Refusal("", reason, dry_run=dry_run, name=UNSELECTED)


def _namespace(principal: str) -> str:
    name = spiffe.parse(principal)
    return name.namespace if name is not None else ""
