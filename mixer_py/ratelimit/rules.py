"""The compiled rules: what every domain limits, and which rule a descriptor matches.

Matching a descriptor costs two dictionary look-ups an entry, however many rules there are; only the patterns (`*`) of
one key are tried in turn. Not for: counting (`limiter.py`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import orjson

from mixer_py.errors import ConfigurationError, Fault
from mixer_py.ratelimit import files
from mixer_py.ratelimit.algorithms import UNIT_SECONDS
from mixer_py.ratelimit.parsing import DescriptorDeclaration, DomainDeclaration, parse
from mixer_py.ratelimit.settings import RateLimitSettings

_BARE = re.compile(r"[^\s\"/=()\x00-\x1f\x7f]+")
_MAX_NAME_BYTES = 2048
"""Longest rule name as dynamic metadata carries it, whose whole is 4 KiB at most (DESIGN 3.4)."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One limit.

    Attributes:
        index: its place among all rules.
        name: domain and path, as in `shop/tenant=gold/path="/cart"`; different for different rules.
        domain: its domain.
        path: key and value (empty for any) of each level.
        limit_name: `rate_limit.name`; may be empty.
        requests_per_unit: hits that a window takes; meaningless when unlimited.
        unit: key of UNIT_SECONDS; empty when unlimited.
        seconds: length of the window; 0 when unlimited.
        unlimited: matched, but never counted.
        shadow_mode: counted, but answered OK.
        place: `file:line`.
    """

    index: int
    name: str
    domain: str
    path: tuple[tuple[str, str], ...]
    limit_name: str
    requests_per_unit: int
    unit: str
    seconds: int
    unlimited: bool
    shadow_mode: bool
    place: str


class Entry(Protocol):
    """`RateLimitDescriptor.Entry`."""

    @property
    def key(self) -> str:
        """Descriptor key."""

    @property
    def value(self) -> str:
        """Descriptor value."""


@dataclass(slots=True)
class _Node:
    """A level's descriptor: its rule, and by key what lies below."""

    rule: Rule | None = None
    below: dict[str, _Branch] = field(default_factory=dict)


@dataclass(slots=True)
class _Branch:
    """The descriptors of one level that have the same key."""

    key: str
    exact: dict[str, _Node] = field(default_factory=dict)
    patterns: list[tuple[tuple[str, ...], _Node]] = field(default_factory=list)
    otherwise: _Node | None = None


class Domain:
    """The rules of one domain."""

    __slots__ = ("_root", "name")

    def __init__(self, name: str, root: _Node) -> None:
        self.name = name
        self._root = root

    def match(self, entries: Iterable[Entry]) -> tuple[Rule | None, tuple[str, ...]]:
        """The rule for a descriptor, level by level: exact value, then patterns in file order, then any value.

        Returns:
            The rule whose path is as deep as the entries, or None; and keys and values in turn (of no use without a
            rule).
        """
        node = self._root
        flat: list[str] = []
        for entry in entries:
            branch = node.below.get(entry.key)
            if branch is None:
                return None, ()
            value = entry.value
            found = branch.exact.get(value)
            if found is None:
                found = _first_pattern(branch.patterns, value) if branch.patterns else None
                if found is None:
                    found = branch.otherwise
                    if found is None:
                        return None, ()
            flat += (branch.key, value)
            node = found
        return node.rule, tuple(flat)


def _first_pattern(patterns: Sequence[tuple[tuple[str, ...], _Node]], value: str) -> _Node | None:
    for parts, node in patterns:
        if matches(parts, value):
            return node
    return None


def matches(parts: Sequence[str], value: str) -> bool:
    """Whether a value fits a pattern that was split at its stars; linear in the value for each part."""
    first, *middle, last = parts
    if len(value) < len(first) + len(last) or not value.startswith(first) or not value.endswith(last):
        return False
    position, end = len(first), len(value) - len(last)
    for part in middle:
        position = value.find(part, position, end)
        if position < 0:
            return False
        position += len(part)
    return True


class Rules:
    """All domains; immutable once made."""

    def __init__(self, declarations: Iterable[DomainDeclaration]) -> None:
        """Compiles what was declared; two declarations of one domain are the caller's fault."""
        self._rules: list[Rule] = []
        self._domains = {
            declared.domain: Domain(declared.domain, self._compile(declared, declared.descriptors, (), _Node()))
            for declared in declarations
        }
        shape = [{**rule, "place": ""} for rule in self.describe()]
        self.revision = hashlib.sha256(orjson.dumps([sorted(self._domains), shape])).hexdigest()[:12]

    @classmethod
    def load(cls, settings: RateLimitSettings) -> Rules:
        """Reads and compiles the files that the settings name.

        Raises:
            ConfigurationError: every fault of every file.
        """
        contents, faults = files.read(settings.config)
        return cls.parse(contents, faults)

    @classmethod
    def parse(cls, contents: Iterable[tuple[str, bytes]], faults: Iterable[Fault] = ()) -> Rules:
        """Compiles files that were read already.

        Args:
            contents: path and bytes of each.
            faults: what is known to be wrong before.

        Raises:
            ConfigurationError: every fault of every file.
        """
        found = list(faults)
        declared: dict[str, DomainDeclaration] = {}
        for file, content in contents:
            declaration, wrong = parse(file, content)
            found += wrong
            if declaration is None or not declaration.domain:
                continue
            first = declared.setdefault(declaration.domain, declaration)
            if first is not declaration:
                message = f"duplicate domain {declaration.domain!r}, first in {first.file}:{first.line}"
                found.append(Fault(message, file, declaration.line, "domain", "keep a domain in one file"))
        if found:
            raise ConfigurationError(found)
        return cls(declared.values())

    def __len__(self) -> int:
        return len(self._rules)

    def __iter__(self) -> Iterator[Rule]:
        return iter(self._rules)

    @property
    def domains(self) -> Mapping[str, Domain]:
        """Every domain by its name."""
        return self._domains

    def describe(self) -> list[dict[str, object]]:
        """The compiled rules for `/rlconfig`, in file order; each value is fit for JSON."""
        return [
            {
                "rule": rule.name,
                "domain": rule.domain,
                "descriptors": [{"key": key, "value": value} if value else {"key": key} for key, value in rule.path],
                "name": rule.limit_name,
                "unit": rule.unit,
                "requests_per_unit": rule.requests_per_unit,
                "unlimited": rule.unlimited,
                "shadow_mode": rule.shadow_mode,
                "place": rule.place,
            }
            for rule in self._rules
        ]

    def dump(self) -> str:
        """The rules as text, a line each, in the form of the original's `/rlconfig`."""
        return "".join(
            f"{_stat_key(rule)}: unit={rule.unit or 'UNKNOWN'} requests_per_unit={rule.requests_per_unit}, "
            f"shadow_mode: {str(rule.shadow_mode).lower()}{', unlimited: true' if rule.unlimited else ''}\n"
            for rule in self._rules
        )

    def _compile(
        self,
        declared: DomainDeclaration,
        descriptors: Sequence[DescriptorDeclaration],
        above: tuple[tuple[str, str], ...],
        node: _Node,
    ) -> _Node:
        for descriptor in descriptors:
            path = (*above, (descriptor.key, descriptor.value))
            below = _Node(self._rule(declared, descriptor, path))
            branch = node.below.setdefault(descriptor.key, _Branch(descriptor.key))
            if not descriptor.value:
                branch.otherwise = below
            elif "*" in descriptor.value:
                branch.patterns.append((tuple(descriptor.value.split("*")), below))
            else:
                branch.exact[descriptor.value] = below
            self._compile(declared, descriptor.descriptors, path, below)
        return node

    def _rule(
        self, declared: DomainDeclaration, descriptor: DescriptorDeclaration, path: tuple[tuple[str, str], ...]
    ) -> Rule | None:
        limit = descriptor.limit
        if limit is None:
            return None
        rule = Rule(
            index=len(self._rules),
            name=rule_name(declared.domain, path),
            domain=declared.domain,
            path=path,
            limit_name=limit.name,
            requests_per_unit=limit.requests_per_unit,
            unit=limit.unit,
            seconds=UNIT_SECONDS.get(limit.unit, 0),
            unlimited=limit.unlimited,
            shadow_mode=descriptor.shadow_mode,
            place=f"{declared.file}:{descriptor.line}",
        )
        self._rules.append(rule)
        return rule


def rule_name(domain: str, path: Iterable[tuple[str, str]]) -> str:
    """A name that no other rule has, as in `domain/key=value/key`.

    A part with a space or one of `"/=()` stands in JSON quotes. A name above 2 KiB is cut and ends in its hash.
    """
    levels = (f"{_part(key)}={_part(value)}" if value else _part(key) for key, value in path)
    name = "/".join((_part(domain), *levels))
    encoded = name.encode()
    if len(encoded) <= _MAX_NAME_BYTES:
        return name
    return f"{encoded[: _MAX_NAME_BYTES - 64].decode(errors='ignore')}…({hashlib.sha256(encoded).hexdigest()[:32]})"


def _part(text: str) -> str:
    return text if _BARE.fullmatch(text) else orjson.dumps(text).decode()


def _stat_key(rule: Rule) -> str:
    return ".".join((rule.domain, *(f"{key}_{value}" if value else key for key, value in rule.path)))
