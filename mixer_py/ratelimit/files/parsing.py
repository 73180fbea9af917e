"""envoyproxy/ratelimit's files, from bytes to declarations, with every fault and its line.

What the original refuses is refused here, and so is what it drops in silence: keys in a wrong place, a key given
twice, a second document. Not for: finding the files (`finding.py`), the `rate_limit` block (`limit_block.py`) or
matching (`ratelimit/rules.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import yaml

from mixer_py.errors import Fault
from mixer_py.ratelimit.files.keys import DESCRIPTOR, FILE, known_fields
from mixer_py.ratelimit.files.limit_block import LimitDeclaration, read_limit
from mixer_py.ratelimit.files.yaml_tree import Fields, Json, YamlTree, is_null, join, kind

_MAX_DEPTH = 64
_MAX_DESCRIPTORS = 250_000
"""Descriptors of one file after its YAML aliases are followed: a few lines of aliases can stand for billions."""
_MAX_METADATA_VALUES = 256
"""Values of one descriptor's metadata: every answer carries them."""


@dataclass(frozen=True, slots=True)
class DescriptorDeclaration:
    """One entry of a `descriptors` list.

    Attributes:
        key: descriptor key, not empty.
        value: exact value, a pattern with `*`, or empty for every value that nothing else matches.
        limit: its limit; None when it only leads to the level below.
        shadow_mode: counted, but answered OK.
        quota_mode: over it, a request is refused only when every such limit that it matches is over.
        share_threshold: one counter for all values that match the pattern.
        detailed_metric: counted in a series of its own for each value of every level.
        value_to_metric: the limits from here on are counted in a series of its own for each value of this level.
        metadata: what answers carry that this limit lets pass.
        descriptors: the level below.
        line: where it starts.
    """

    key: str
    value: str
    limit: LimitDeclaration | None
    shadow_mode: bool
    quota_mode: bool
    share_threshold: bool
    detailed_metric: bool
    value_to_metric: bool
    metadata: Mapping[str, Json]
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
        fields = known_fields(tree, root, "", FILE) if root is not None and not is_null(root) else {}
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
            tree.fault(node, path, f"a list must hold mappings only, not {kind(node)}", "write - key: and its name")
            return None
        fields = known_fields(tree, node, path, DESCRIPTOR)
        faults = len(tree.faults)
        key, value = tree.text(fields, "key", path), tree.text(fields, "value", path)
        if not key and len(tree.faults) == faults:
            tree.fault(
                fields["key"][1] if "key" in fields else node, join(path, "key"), "the descriptor has an empty key"
            )
        declared = DescriptorDeclaration(
            key=key,
            value=value,
            limit=read_limit(tree, fields, path),
            shadow_mode=tree.flag(fields, "shadow_mode", path),
            quota_mode=tree.flag(fields, "quota_mode", path),
            share_threshold=self._share_threshold(fields, path, value),
            detailed_metric=tree.flag(fields, "detailed_metric", path),
            value_to_metric=tree.flag(fields, "value_to_metric", path),
            metadata=tree.json_mapping(fields, "metadata", path, _MAX_METADATA_VALUES),
            descriptors=self._descriptors(fields, path, f"{above}.{_composite(key, value)}", ancestors),
            line=node.start_mark.line + 1,
        )
        return declared if key else None

    def _share_threshold(self, fields: Fields, path: str, value: str) -> bool:
        share = self.tree.flag(fields, "share_threshold", path)
        if share and "*" not in value:
            message = "share_threshold is for a value with a star: only a pattern has several values that could share"
            self.tree.fault(fields["share_threshold"][0], join(path, "share_threshold"), message, "add the star")
        return share


def _composite(key: str, value: str) -> str:
    """A key and its value as the original writes them, for people who know its messages."""
    return f"{key}_{value}" if value else key
