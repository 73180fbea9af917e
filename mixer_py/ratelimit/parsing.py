"""envoyproxy/ratelimit's files, from bytes to declarations, with every fault and its line.

What the original refuses is refused here, and so is what it drops in silence: keys in a wrong place, a key given
twice, a second document. Keys whose meaning comes with a later version are refused by name, never ignored.
Not for: finding the files (`files.py`) or matching (`rules.py`).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

import yaml

from mixer_py.errors import Fault
from mixer_py.ratelimit.algorithms import UNIT_SECONDS
from mixer_py.ratelimit.yaml_tree import Fields, YamlTree, is_null, join

_PLACES: Mapping[str, frozenset[str]] = {
    "the file": frozenset({"domain", "descriptors"}),
    "a descriptor": frozenset(
        {
            "key",
            "value",
            "rate_limit",
            "descriptors",
            "shadow_mode",
            "quota_mode",
            "share_threshold",
            "detailed_metric",
            "value_to_metric",
            "metadata",
        }
    ),
    "rate_limit": frozenset({"unit", "requests_per_unit", "unlimited", "name", "replaces"}),
}
_FLAGS_NOT_BUILT = ("quota_mode", "share_threshold", "detailed_metric", "value_to_metric")
_MAX_DEPTH = 64
_MAX_DESCRIPTORS = 250_000
"""Descriptors of one file after its YAML aliases are followed: a few lines of aliases can stand for billions."""


@dataclass(frozen=True, slots=True)
class LimitDeclaration:
    """A `rate_limit` block.

    Attributes:
        requests_per_unit: hits that a window takes.
        unit: upper case name of the unit, a key of UNIT_SECONDS; empty when unlimited.
        unlimited: matched, but never counted.
        name: the author's name for it; may be empty.
    """

    requests_per_unit: int
    unit: str
    unlimited: bool
    name: str


@dataclass(frozen=True, slots=True)
class DescriptorDeclaration:
    """One entry of a `descriptors` list.

    Attributes:
        key: descriptor key, not empty.
        value: exact value, a pattern with `*`, or empty for every value that nothing else matches.
        limit: its limit; None when it only leads to the level below.
        shadow_mode: counted, but answered OK.
        descriptors: the level below.
        line: where it starts.
    """

    key: str
    value: str
    limit: LimitDeclaration | None
    shadow_mode: bool
    descriptors: tuple[DescriptorDeclaration, ...]
    line: int


@dataclass(frozen=True, slots=True)
class DomainDeclaration:
    """One file.

    Attributes:
        domain: its domain, not empty.
        descriptors: the first level.
        file: its path.
        line: where the domain stands.
    """

    domain: str
    descriptors: tuple[DescriptorDeclaration, ...]
    file: str
    line: int


def parse(file: str, content: bytes) -> tuple[DomainDeclaration | None, list[Fault]]:
    """Reads one file.

    Args:
        file: its path, for faults.
        content: its bytes.

    Returns:
        What it declares, and everything that is wrong with it; with faults the declaration is not to be used.
    """
    parser = _Parser(file)
    return parser.domain(content), parser.tree.faults


class _TooManyDescriptorsError(Exception):
    """The aliases of a file stand for more descriptors than can be meant."""


class _Parser:
    def __init__(self, file: str) -> None:
        self.tree = YamlTree(file)
        self._read = 0

    def domain(self, content: bytes) -> DomainDeclaration | None:
        tree = self.tree
        root = tree.compose(content)
        if tree.faults:
            return None
        fields = self._fields(root, "", "the file") if root is not None and not is_null(root) else {}
        domain = tree.text(fields, "domain", "")
        node = fields["domain"][1] if "domain" in fields else root
        if not domain and not any(fault.field == "domain" for fault in tree.faults):
            tree.fault(node, "domain", "the file has an empty domain", "write domain: and its name")
        try:
            descriptors = self._descriptors(fields, "", domain, ())
        except _TooManyDescriptorsError:
            tree.fault(root, "descriptors", f"its aliases stand for more than {_MAX_DESCRIPTORS} descriptors")
            return None
        return DomainDeclaration(domain, descriptors, tree.file, node.start_mark.line + 1 if node is not None else 1)

    def _fields(self, node: yaml.Node, path: str, place: str) -> Fields:
        """The keys of a mapping that belong into `place`; a fault for every other one."""
        fields = self.tree.fields(node, path, place)
        for name in [name for name in fields if name not in _PLACES[place]]:
            key, _ = fields.pop(name)
            home = next((home for home, names in _PLACES.items() if name in names), None)
            if home is not None:
                message = f"{name!r} does not belong into {place}, where the original drops it in silence"
                self.tree.fault(key, join(path, name), message, f"move it into {home}")
                continue
            near = difflib.get_close_matches(name, sorted(_PLACES[place]), n=1)
            way_out = f"did you mean {near[0]}?" if near else f"known here: {', '.join(sorted(_PLACES[place]))}"
            self.tree.fault(key, join(path, name), f"unknown key {name!r}", way_out)
        return fields

    def _descriptors(
        self, above: Fields, path: str, composite: str, ancestors: tuple[yaml.Node, ...]
    ) -> tuple[DescriptorDeclaration, ...]:
        declared: dict[tuple[str, str], DescriptorDeclaration] = {}
        for position, node in enumerate(self.tree.items(above, "descriptors", path)):
            place = f"{join(path, 'descriptors')}[{position}]"
            self._read += 1
            if self._read > _MAX_DESCRIPTORS:
                raise _TooManyDescriptorsError
            if node in ancestors or len(ancestors) >= _MAX_DEPTH:
                self.tree.fault(node, place, f"descriptors are nested deeper than {_MAX_DEPTH} levels")
                continue
            descriptor = self._descriptor(node, place, composite, (*ancestors, node))
            if descriptor is None:
                continue
            first = declared.setdefault((descriptor.key, descriptor.value), descriptor)
            if first is not descriptor:
                name = f"{composite}.{_composite(descriptor.key, descriptor.value)}"
                message = f"duplicate descriptor composite key {name!r}, first in line {first.line}"
                self.tree.fault(node, place, message, "keep one of them")
        return tuple(declared.values())

    def _descriptor(
        self, node: yaml.Node, path: str, above: str, ancestors: tuple[yaml.Node, ...]
    ) -> DescriptorDeclaration | None:
        tree = self.tree
        if not isinstance(node, yaml.MappingNode):
            tree.fault(node, path, f"a list must hold mappings only, not {node.value!r}", "write - key: and its name")
            return None
        fields = self._fields(node, path, "a descriptor")
        faults = len(tree.faults)
        key, value = tree.text(fields, "key", path), tree.text(fields, "value", path)
        if not key and len(tree.faults) == faults:
            tree.fault(
                fields["key"][1] if "key" in fields else node, join(path, "key"), "the descriptor has an empty key"
            )
        self._refuse_what_is_not_built(fields, path)
        limit = self._limit(fields, path)
        shadow_mode = tree.flag(fields, "shadow_mode", path)
        below = self._descriptors(fields, path, f"{above}.{_composite(key, value)}", ancestors)
        return DescriptorDeclaration(key, value, limit, shadow_mode, below, node.start_mark.line + 1) if key else None

    def _refuse_what_is_not_built(self, fields: Fields, path: str) -> None:
        for name in _FLAGS_NOT_BUILT:
            if self.tree.flag(fields, name, path):
                self.tree.fault(fields[name][0], join(path, name), f"{name} is not built yet in this version")
        if "metadata" in fields and not is_null(fields["metadata"][1]):
            self.tree.fault(fields["metadata"][0], join(path, "metadata"), "metadata is not built yet in this version")

    def _limit(self, above: Fields, path: str) -> LimitDeclaration | None:
        tree = self.tree
        if "rate_limit" not in above or is_null(above["rate_limit"][1]):
            return None
        node, path = above["rate_limit"][1], join(path, "rate_limit")
        fields = self._fields(node, path, "rate_limit")
        if tree.items(fields, "replaces", path):
            tree.fault(fields["replaces"][0], join(path, "replaces"), "replaces is not built yet in this version")
        unlimited = tree.flag(fields, "unlimited", path)
        written = tree.text(fields, "unit", path)
        unit = written.upper()
        place = fields["unit"][1] if "unit" in fields else node
        if unlimited:
            if unit in UNIT_SECONDS:
                tree.fault(place, join(path, "unit"), "a limit that is unlimited has no unit", "remove one of the two")
            unit = ""
        elif unit not in UNIT_SECONDS and isinstance(node, yaml.MappingNode):
            units = ", ".join(map(str.lower, UNIT_SECONDS))
            tree.fault(place, join(path, "unit"), f"invalid rate limit unit {written!r}", f"write one of {units}")
        requests = tree.uint32(fields, "requests_per_unit", path)
        return LimitDeclaration(requests, unit, unlimited, tree.text(fields, "name", path))


def _composite(key: str, value: str) -> str:
    """A key and its value as the original writes them, for people who know its messages."""
    return f"{key}_{value}" if value else key
