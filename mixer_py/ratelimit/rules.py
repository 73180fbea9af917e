"""The compiled rules: what every domain limits, and which rule a descriptor matches.

Matching a descriptor costs two dictionary look-ups an entry, however many rules there are; only the patterns (`*`) of
one key are tried in turn. Not for: counting (`answering/`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import orjson

from mixer_py.errors import ConfigurationError, Fault
from mixer_py.ratelimit import listing
from mixer_py.ratelimit.algorithms import Algorithm, Terms
from mixer_py.ratelimit.files import finding
from mixer_py.ratelimit.files.parsing import DescriptorDeclaration, DomainDeclaration, parse
from mixer_py.ratelimit.files.yaml_tree import Json
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
        unit: key of UNIT_SECONDS, when one is as long as the window; else empty.
        window_us: length of the window in microseconds; 0 when unlimited.
        algorithm: how hits are counted.
        burst: hits that may come at once; the same as `requests_per_unit` but for token buckets that say otherwise.
        lease: hits that a worker takes ahead; 0 for none.
        overdraw: hits that do not fit are counted too.
        unlimited: matched, but never counted.
        shadow_mode: counted, but answered OK.
        quota_mode: over it, a request is refused only when every such limit that it matches is over.
        share: the levels, counted from 0, whose pattern stands for the value in the counter's identity.
        shared_levels: the same as text; empty for none.
        valued: the levels whose values stand in the rule's place in metrics (`label`); empty for a series as any other.
        metadata: what answers carry that this limit lets pass.
        replaces: limit names that it switches off in a request that matches both.
        place: `file:line`.
    """

    index: int
    name: str
    domain: str
    path: tuple[tuple[str, str], ...]
    limit_name: str
    requests_per_unit: int
    unit: str
    window_us: int
    algorithm: Algorithm
    burst: int
    lease: int
    overdraw: bool
    unlimited: bool
    shadow_mode: bool
    quota_mode: bool
    share: tuple[int, ...]
    valued: tuple[int, ...]
    metadata: Mapping[str, Json]
    replaces: frozenset[str]
    place: str
    shared_levels: str = field(init=False)

    def __post_init__(self) -> None:
        """Writes `share` once."""
        object.__setattr__(self, "shared_levels", f"share {','.join(map(str, self.share))}" if self.share else "")

    @property
    def terms(self) -> Terms:
        """What its hits are held against."""
        return Terms(self.algorithm, self.window_us, self.requests_per_unit, self.burst, self.overdraw)

    def values(self, entries: Sequence[str]) -> tuple[str, ...]:
        """The values of the levels in `valued`, from what `Domain.match` gave."""
        return tuple(entries[2 * level + 1] for level in self.valued)

    def label(self, values: Sequence[str]) -> str:
        """The rule's name with the values of the levels in `valued`."""
        path = list(self.path)
        for level, value in zip(self.valued, values, strict=True):
            path[level] = path[level][0], value
        return rule_name(self.domain, path)


class Entry(Protocol):
    """`RateLimitDescriptor.Entry`."""

    @property
    def key(self) -> str:
        """Descriptor key."""

    @property
    def value(self) -> str:
        """Descriptor value."""


@dataclass(slots=True)
class Node:
    """A level's descriptor: its rule, and by key what lies below."""

    rule: Rule | None = None
    below: dict[str, Branch] = field(default_factory=dict)


@dataclass(slots=True)
class Branch:
    """The descriptors of one level that have the same key."""

    key: str
    exact: dict[str, Node] = field(default_factory=dict)
    patterns: list[tuple[tuple[str, ...], Node]] = field(default_factory=list)
    otherwise: Node | None = None


class Domain:
    """The rules of one domain.

    Attributes:
        name: its name.
        root: the first level.
    """

    __slots__ = ("name", "root")

    def __init__(self, name: str, root: Node) -> None:
        self.name = name
        self.root = root

    def match(self, entries: Iterable[Entry]) -> tuple[Rule | None, tuple[str, ...]]:
        """The rule for a descriptor, level by level: exact value, then patterns in file order, then any value.

        Returns:
            The rule whose path is as deep as the entries, or None; and what makes its counter this one (of no use
            without a rule): keys and values in turn. A level that shares its threshold has its pattern for a value,
            and then one part more says which levels those are, so that no value can be taken for a pattern.
        """
        node = self.root
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
        rule = node.rule
        if rule is not None and rule.share:
            for level in rule.share:
                flat[2 * level + 1] = rule.path[level][1]
            flat.append(rule.shared_levels)
        return rule, tuple(flat)


def _first_pattern(patterns: Sequence[tuple[tuple[str, ...], Node]], value: str) -> Node | None:
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
        """Compiles what was declared; several declarations of one domain are one, and must not overlap."""
        self._rules: list[Rule] = []
        roots: dict[str, Node] = {}
        outline: list[object] = []
        for declared in declarations:
            outline.append([declared.domain, _outline(declared.descriptors)])
            self._compile(declared, declared.descriptors, _Way(), roots.setdefault(declared.domain, Node()))
        self._domains = {name: Domain(name, root) for name, root in roots.items()}
        limits = [{**rule, "place": ""} for rule in self.describe()]
        # A descriptor without a limit counts too: it takes what would else fall to another one, and exempts it.
        shape = orjson.dumps([outline, limits])
        self.revision = hashlib.sha256(shape).hexdigest()[:12]

    @classmethod
    def load(cls, settings: RateLimitSettings) -> Rules:
        """Reads and compiles the files that the settings name.

        Raises:
            ConfigurationError: every fault of every file.
        """
        contents, faults = finding.read(settings.config)
        return cls.parse(contents, faults, merge_domains=settings.merge_domains)

    @classmethod
    def parse(
        cls, contents: Iterable[tuple[str, bytes]], faults: Iterable[Fault] = (), *, merge_domains: bool = False
    ) -> Rules:
        """Compiles files that were read already.

        Args:
            contents: path and bytes of each.
            faults: what is known to be wrong before.
            merge_domains: whether several files may declare parts of one domain.

        Raises:
            ConfigurationError: every fault of every file.
        """
        found = list(faults)
        declared: list[DomainDeclaration] = []
        for file, content in contents:
            declaration, wrong = parse(file, content)
            found += wrong
            if declaration is not None and declaration.domain:
                declared.append(declaration)
        found += _overlaps(declared) if merge_domains else _duplicates(declared)
        if found:
            raise ConfigurationError(found)
        return cls(declared)

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
        return [listing.describe(rule) for rule in self._rules]

    def dump(self) -> str:
        """The rules as text, a line each, in the form of the original's `/rlconfig`."""
        return "".join(map(listing.dump, self._rules))

    def _compile(
        self, declared: DomainDeclaration, descriptors: Sequence[DescriptorDeclaration], above: _Way, node: Node
    ) -> None:
        for descriptor in descriptors:
            way = above.down(descriptor)
            below = Node(self._rule(declared, descriptor, way))
            branch = node.below.setdefault(descriptor.key, Branch(descriptor.key))
            if not descriptor.value:
                branch.otherwise = below
            elif "*" in descriptor.value:
                branch.patterns.append((tuple(descriptor.value.split("*")), below))
            else:
                branch.exact[descriptor.value] = below
            self._compile(declared, descriptor.descriptors, way, below)

    def _rule(self, declared: DomainDeclaration, descriptor: DescriptorDeclaration, way: _Way) -> Rule | None:
        limit = descriptor.limit
        if limit is None:
            return None
        rule = Rule(
            index=len(self._rules),
            name=rule_name(declared.domain, way.path),
            domain=declared.domain,
            path=way.path,
            limit_name=limit.name,
            requests_per_unit=limit.requests_per_unit,
            unit=limit.unit,
            window_us=limit.window_us,
            algorithm=limit.algorithm,
            burst=limit.burst,
            lease=limit.lease,
            overdraw=limit.overdraw,
            unlimited=limit.unlimited,
            shadow_mode=descriptor.shadow_mode,
            quota_mode=descriptor.quota_mode,
            share=way.share,
            valued=way.open if descriptor.detailed_metric else way.valued,
            metadata=descriptor.metadata,
            replaces=limit.replaces,
            place=f"{declared.file}:{descriptor.line}",
        )
        self._rules.append(rule)
        return rule


@dataclass(frozen=True, slots=True)
class _Way:
    """From a domain down to a descriptor.

    Attributes:
        path: key and value (empty for any) of each level.
        share: levels whose values share one threshold.
        open: levels that take several values and do not share, so that `detailed_metric` shows them.
        valued: those of them that `value_to_metric` asks for.
    """

    path: tuple[tuple[str, str], ...] = ()
    share: tuple[int, ...] = ()
    open: tuple[int, ...] = ()
    valued: tuple[int, ...] = ()

    def down(self, descriptor: DescriptorDeclaration) -> _Way:
        """One level further."""
        level = (len(self.path),)
        several = not descriptor.value or "*" in descriptor.value
        is_open = several and not descriptor.share_threshold
        return _Way(
            path=(*self.path, (descriptor.key, descriptor.value)),
            share=self.share + level if descriptor.share_threshold else self.share,
            open=self.open + level if is_open else self.open,
            valued=self.valued + level if is_open and descriptor.value_to_metric else self.valued,
        )


def _outline(descriptors: Iterable[DescriptorDeclaration]) -> list[object]:
    """Key and value of every descriptor, nested as they are."""
    return [[descriptor.key, descriptor.value, _outline(descriptor.descriptors)] for descriptor in descriptors]


def _duplicates(declared: Iterable[DomainDeclaration]) -> Iterator[Fault]:
    """A fault for every file whose domain another one declared before."""
    places: dict[str, DomainDeclaration] = {}
    for declaration in declared:
        first = places.setdefault(declaration.domain, declaration)
        if first is not declaration:
            message = f"duplicate domain {declaration.domain!r}, first in {first.file}:{first.line}"
            way_out = "keep a domain in one file, or set rate_limit.merge_domains"
            yield Fault(message, declaration.file, declaration.line, "domain", way_out)


def _overlaps(declared: Iterable[DomainDeclaration]) -> Iterator[Fault]:
    """A fault for every descriptor that another file of the domain declared before."""
    places: dict[tuple[str, str, str], str] = {}
    for declaration in declared:
        for position, descriptor in enumerate(declaration.descriptors):
            place = f"{declaration.file}:{descriptor.line}"
            first = places.setdefault((declaration.domain, descriptor.key, descriptor.value), place)
            if first != place:
                level = ((descriptor.key, descriptor.value),)
                name = rule_name(declaration.domain, level)
                message = f"duplicate descriptor {name} of a merged domain, first in {first}"
                way_out = "merge what stands below both in one file"
                yield Fault(message, declaration.file, descriptor.line, f"descriptors[{position}]", way_out)


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
