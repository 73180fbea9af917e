"""The `rate_limit` block of a descriptor: envoyproxy/ratelimit's keys, and ours beyond them.

Every wrong combination is a fault that says how to get out of it; what the original refuses is refused. Not for: the
descriptor around it (`parsing.py`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, get_args

import yaml

from mixer_py.ratelimit.algorithms import FIXED_WINDOW, SECOND, TOKEN_BUCKET, UNIT_SECONDS, Algorithm
from mixer_py.ratelimit.files.keys import RATE_LIMIT, REPLACES, known_fields
from mixer_py.ratelimit.files.yaml_tree import Fields, YamlTree, is_null, join, kind
from mixer_py.settings import parse_duration

_SHORTEST_WINDOW: Final = SECOND
"""Resets and `Retry-After` are told in whole seconds, so a shorter window could not be told."""
_LONGEST_WINDOW: Final = 10 * UNIT_SECONDS["YEAR"] * SECOND
_UNIT_OF_WINDOW = {seconds * SECOND: unit for unit, seconds in UNIT_SECONDS.items()}
_PERCENT = re.compile(r"(\d{1,3}(?:\.\d{1,3})?)\s*%")
_ALGORITHMS: tuple[Algorithm, ...] = get_args(Algorithm)
_COUNTING = ("unit_multiplier", "window", "algorithm", "burst", "lease", "overdraw")
"""Keys that mean nothing where nothing is counted."""


@dataclass(frozen=True, slots=True)
class LimitDeclaration:
    """A `rate_limit` block.

    Attributes:
        requests_per_unit: hits that a window takes.
        unit: upper case name of the unit that is as long as the window, a key of UNIT_SECONDS; else empty.
        window_us: length of the window in microseconds; 0 when unlimited.
        unlimited: matched, but never counted.
        name: the author's name for it; may be empty.
        replaces: names of the limits that it switches off in a request that both match.
        algorithm: how hits are counted.
        burst: hits that may come at once; `requests_per_unit` but for token buckets that say otherwise.
        lease: hits that a worker takes ahead; 0 for none.
        overdraw: hits that do not fit are counted too.
    """

    requests_per_unit: int
    unit: str
    window_us: int
    unlimited: bool
    name: str
    replaces: frozenset[str]
    algorithm: Algorithm
    burst: int
    lease: int
    overdraw: bool


def read_limit(tree: YamlTree, above: Fields, path: str) -> LimitDeclaration | None:
    """The `rate_limit` block of a descriptor's keys; None without one.

    Args:
        tree: gets the faults, with which the declaration is not to be used.
        above: the descriptor's keys.
        path: the descriptor's place in its file.
    """
    if "rate_limit" not in above or is_null(above["rate_limit"][1]):
        return None
    return _Block(tree, above["rate_limit"][1], join(path, "rate_limit")).read()


class _Block:
    def __init__(self, tree: YamlTree, node: yaml.Node, path: str) -> None:
        self._tree = tree
        self._node = node
        self._path = path
        self._fields = known_fields(tree, node, path, RATE_LIMIT)

    def read(self) -> LimitDeclaration:
        tree, fields, path = self._tree, self._fields, self._path
        requests = tree.uint32(fields, "requests_per_unit", path)
        name = tree.text(fields, "name", path)
        replaces = self._replaces(name)
        if tree.flag(fields, "unlimited", path):
            self._refuse_what_unlimited_lacks()
            return LimitDeclaration(
                requests_per_unit=requests,
                unit="",
                window_us=0,
                unlimited=True,
                name=name,
                replaces=replaces,
                algorithm=FIXED_WINDOW,
                burst=requests,
                lease=0,
                overdraw=False,
            )
        window = self._window()
        algorithm = self._algorithm()
        burst = self._burst(algorithm, requests)
        return LimitDeclaration(
            requests_per_unit=requests,
            unit=_UNIT_OF_WINDOW.get(window, ""),
            window_us=window,
            unlimited=False,
            name=name,
            replaces=replaces,
            algorithm=algorithm,
            burst=burst,
            lease=self._lease(burst),
            overdraw=self._overdraw(algorithm),
        )

    def _fault(self, name: str, message: str, way_out: str = "") -> None:
        """Notes what is wrong at a key, or at the block when the key is not there."""
        node = self._fields[name][1] if name in self._fields else self._node
        self._tree.fault(node, join(self._path, name), message, way_out)

    def _given(self, name: str) -> bool:
        return name in self._fields and not is_null(self._fields[name][1])

    def _refuse_what_unlimited_lacks(self) -> None:
        if self._tree.text(self._fields, "unit", self._path).upper() in UNIT_SECONDS:
            self._fault("unit", "a limit that is unlimited has no unit", "remove one of the two")
        for name in filter(self._given, _COUNTING):
            self._fault(name, f"a limit that is unlimited counts nothing and has no {name}", "remove one of the two")

    def _replaces(self, own_name: str) -> frozenset[str]:
        tree, names = self._tree, set()
        for position, node in enumerate(tree.items(self._fields, "replaces", self._path)):
            path = f"{join(self._path, 'replaces')}[{position}]"
            if not isinstance(node, yaml.MappingNode):
                tree.fault(node, path, f"a list must hold mappings only, not {kind(node)}", "write - name: and a name")
                continue
            faults = len(tree.faults)
            fields = known_fields(tree, node, path, REPLACES)
            name = tree.text(fields, "name", path)
            if len(tree.faults) > faults:
                continue
            place = fields["name"][1] if "name" in fields else node
            if not name:
                tree.fault(place, join(path, "name"), "an entry of replaces has an empty name", "name a limit")
            elif name == own_name:
                message = f"the limit {name!r} replaces itself"
                tree.fault(place, join(path, "name"), message, "name another limit, or remove the entry")
            names.add(name)
        return frozenset(names)

    def _window(self) -> int:
        """Microseconds; 1 with a fault."""
        if self._given("window"):
            return self._window_of_any_length()
        written = self._tree.text(self._fields, "unit", self._path)
        seconds = UNIT_SECONDS.get(written.upper())
        if seconds is None:
            if isinstance(self._node, yaml.MappingNode):
                units = ", ".join(map(str.lower, UNIT_SECONDS))
                self._fault("unit", f"invalid rate limit unit {written!r}", f"write one of {units}, or window: 90s")
            return 1
        multiplier = self._tree.uint32(self._fields, "unit_multiplier", self._path, 1)
        if not multiplier:
            self._fault("unit_multiplier", "unit_multiplier must be at least 1", "remove it for one unit")
            return 1
        return self._bounded("unit_multiplier", seconds * SECOND * multiplier)

    def _window_of_any_length(self) -> int:
        for name in ("unit", "unit_multiplier"):
            if self._given(name):
                self._fault(name, f"window and {name} both say how long the window is", "remove one of the two")
        node = self._fields["window"][1]
        written = node.value if isinstance(node, yaml.ScalarNode) else ""
        try:
            return self._bounded("window", round(parse_duration(written) * SECOND))
        except ValueError as error:
            self._fault("window", str(error))
            return 1

    def _bounded(self, name: str, window: int) -> int:
        if self._given(name) and window < _SHORTEST_WINDOW:
            way_out = "algorithm: token_bucket spreads the hits of a longer one"
            self._fault(name, "a window must be at least 1 second long", way_out)
        elif window > _LONGEST_WINDOW:
            years = _LONGEST_WINDOW // SECOND // UNIT_SECONDS["YEAR"]
            self._fault(name, f"a window must be at most {years} years long")
        return window

    def _algorithm(self) -> Algorithm:
        faults = len(self._tree.faults)
        written = self._tree.text(self._fields, "algorithm", self._path)
        for algorithm in _ALGORITHMS:
            if algorithm == written:
                return algorithm
        if self._given("algorithm") and len(self._tree.faults) == faults:
            self._fault("algorithm", f"unknown algorithm {written!r}", f"write one of {', '.join(_ALGORITHMS)}")
        return FIXED_WINDOW

    def _burst(self, algorithm: Algorithm, requests: int) -> int:
        if not self._given("burst"):
            return requests
        burst = self._tree.uint32(self._fields, "burst", self._path, 1)
        if algorithm != TOKEN_BUCKET:
            message = f"{algorithm} has no burst: its window takes requests_per_unit hits, also at once"
            self._fault("burst", message, "remove burst, or write algorithm: token_bucket")
        elif not burst:
            self._fault(
                "burst", "burst must be at least 1: an empty bucket lets nothing in", "remove burst, or raise it"
            )
        elif not requests:
            self._fault("burst", "tokens never come back with requests_per_unit: 0", "remove burst, or raise the limit")
        return burst

    def _overdraw(self, algorithm: Algorithm) -> bool:
        if not self._tree.flag(self._fields, "overdraw", self._path):
            return False
        if algorithm == FIXED_WINDOW:
            self._fault("overdraw", f"a {FIXED_WINDOW} always counts hits that do not fit", "remove overdraw")
        elif self._given("lease"):
            self._fault("overdraw", "hits of a lease always fit, so it cannot be overdrawn", "remove one of the two")
        return True

    def _lease(self, most: int) -> int:
        """Hits, from a number or a share of what may come at once."""
        if not self._given("lease"):
            return 0
        node = self._fields["lease"][1]
        percent = _PERCENT.fullmatch(node.value) if isinstance(node, yaml.ScalarNode) else None
        faults = len(self._tree.faults)
        lease = 0 if percent is not None else self._tree.uint32(self._fields, "lease", self._path)
        if len(self._tree.faults) > faults:
            return 0
        if not most:
            self._fault(
                "lease", "a limit that lets nothing in has nothing to lease", "remove lease, or raise the limit"
            )
        elif percent is not None:
            share = float(percent[1]) / 100
            if not 0 < share <= 1:
                self._fault("lease", f"a lease of {node.value} is no part of a limit", "write 1% to 100%")
            return max(int(most * share), 1)
        elif not 1 <= lease <= most:
            what = "burst" if self._given("burst") else "requests_per_unit"
            message = f"a lease must be from 1 hit to as many as {what} lets in at once, {most}, not {lease}"
            self._fault("lease", message, "change it, or write a share such as 10%")
        return lease
