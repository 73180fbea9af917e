"""The keys of a rate-limit file, and the place where each belongs. Not for: what they mean (`parsing.py`)."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Final

import yaml

from mixer_py.ratelimit.files.yaml_tree import Fields, YamlTree, join

FILE: Final = "the file"
DESCRIPTOR: Final = "a descriptor"
RATE_LIMIT: Final = "rate_limit"
REPLACES: Final = "an entry of replaces"

_PLACES: Mapping[str, frozenset[str]] = {
    FILE: frozenset({"domain", "descriptors"}),
    DESCRIPTOR: frozenset(
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
    RATE_LIMIT: frozenset(
        {
            "unit",
            "requests_per_unit",
            "unlimited",
            "name",
            "replaces",
            "unit_multiplier",
            "window",
            "algorithm",
            "burst",
            "lease",
            "overdraw",
        }
    ),
    REPLACES: frozenset({"name"}),
}


def known_fields(tree: YamlTree, node: yaml.Node, path: str, place: str) -> Fields:
    """The keys of a mapping that belong into `place`; a fault for every other one."""
    fields = tree.fields(node, path, place)
    for name in [name for name in fields if name not in _PLACES[place]]:
        key, _ = fields.pop(name)
        home = next((home for home, names in _PLACES.items() if name in names), None)
        if home is not None:
            message = f"{name!r} does not belong into {place}, where it would mean nothing"
            tree.fault(key, join(path, name), message, f"move it into {home}")
            continue
        near = difflib.get_close_matches(name, sorted(_PLACES[place]), n=1)
        way_out = f"did you mean {near[0]}?" if near else f"known here: {', '.join(sorted(_PLACES[place]))}"
        tree.fault(key, join(path, name), f"unknown key {name!r}", way_out)
    return fields
