"""Says which rule a descriptor matches, and why: what was tried on each level, what was taken, and what was missing.

For people, offline. It walks the same tree as `Domain.match`, which is made to be quick and tells nothing; a test holds
the two together. Not for: how that is shown (`cli/limits.py`).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from mixer_py.ratelimit.identity import counter_identity, window_name
from mixer_py.ratelimit.rules import Branch, Entry, Node, Rule, Rules, matches

How = Literal["exact", "pattern", "any"]

_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Attempt:
    """One descriptor of the file that an entry was held against.

    Attributes:
        how: by its exact value, by a pattern, or with any value.
        value: that value or pattern; empty for any.
        taken: whether it fitted; the one that did is the last.
    """

    how: How
    value: str
    taken: bool


@dataclass(frozen=True, slots=True)
class Level:
    """One entry of the descriptor.

    Attributes:
        key: its key.
        value: its value.
        attempts: what it was held against, in order; empty when no descriptor has its key there.
    """

    key: str
    value: str
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a descriptor found its rule, or why it found none.

    Attributes:
        domain: as it was asked for.
        levels: its entries, down to the one where nothing fitted.
        rule: the rule; None when the descriptor is not limited.
        reason: why there is none; empty with a rule.
        way_out: what was perhaps meant; may be empty.
        counter: the parts of the counter's identity; empty for a rule that counts nothing.
    """

    domain: str
    levels: tuple[Level, ...]
    rule: Rule | None
    reason: str = ""
    way_out: str = ""
    counter: tuple[str, ...] = ()


def explain(rules: Rules, domain_name: str, entries: Sequence[Entry]) -> Explanation:
    """Follows a descriptor through the rules.

    Args:
        rules: what is limited.
        domain_name: as in a request.
        entries: the descriptor's, in order.
    """
    domain = rules.domains.get(domain_name)
    if domain is None:
        reason = f"there is no domain {domain_name!r}"
        return Explanation(domain_name, (), None, reason, _near(domain_name, rules.domains))
    node, levels = domain.root, []
    for depth, entry in enumerate(entries, 1):
        branch = node.below.get(entry.key)
        if branch is None:
            levels.append(Level(entry.key, entry.value, ()))
            reason, way_out = _no_key(node, entry.key, depth)
            return Explanation(domain_name, tuple(levels), None, reason, way_out)
        attempts, found = _try(branch, entry.value)
        levels.append(Level(entry.key, entry.value, attempts))
        if found is None:
            reason = f"level {depth}: no descriptor with the key {entry.key!r} takes the value {entry.value!r}"
            way_out = _near(entry.value, (*branch.exact, *("*".join(parts) for parts, _ in branch.patterns)))
            return Explanation(domain_name, tuple(levels), None, reason, way_out)
        node = found
    if node.rule is None:
        reason = f"level {len(entries)}: the descriptor that was taken has no rate_limit of its own"
        way_out = f"its limits are a level deeper, at {_named(node.below)}" if node.below else ""
        return Explanation(domain_name, tuple(levels), None, reason, way_out)
    counter: tuple[str, ...] = ()
    if not node.rule.unlimited:
        _, flat = domain.match(entries)
        identity = counter_identity(domain_name, window_name(node.rule.terms), flat)
        counter = tuple(part.hex() if isinstance(part, bytes) else part for part in identity)
    return Explanation(domain_name, tuple(levels), node.rule, counter=counter)


def replacements(explanations: Iterable[Explanation]) -> list[Rule | None]:
    """For each descriptor of one request, the rule of another one that switches its rule off; None for most."""
    rules = [explanation.rule for explanation in explanations]
    return [
        None
        if rule is None or rule.unlimited
        else next((other for other in rules if other is not None and rule.limit_name in other.replaces), None)
        for rule in rules
    ]


def _try(branch: Branch, value: str) -> tuple[tuple[Attempt, ...], Node | None]:
    """What an entry is held against on its level, and what it takes."""
    exact = branch.exact.get(value)
    if exact is not None:
        return (Attempt("exact", value, taken=True),), exact
    attempts = [Attempt("exact", value, taken=False)]
    for parts, node in branch.patterns:
        fits = matches(parts, value)
        attempts.append(Attempt("pattern", "*".join(parts), taken=fits))
        if fits:
            return tuple(attempts), node
    attempts.append(Attempt("any", "", taken=branch.otherwise is not None))
    return tuple(attempts), branch.otherwise


def _no_key(node: Node, key: str, depth: int) -> tuple[str, str]:
    """Why a level has no descriptor with a key, and what was perhaps meant."""
    if not node.below:
        reason = f"level {depth}: the rules end a level above, and a descriptor has to be exactly as deep as its rule"
        return reason, f"ask without {key!r}" if node.rule is not None else ""
    return f"level {depth}: no descriptor has the key {key!r}", _near(key, node.below)


def _near(name: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known here: {_named(names)}" if names else ""


def _named(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = len(ordered) - _MOST_NAMED
    return ", ".join(map(repr, ordered[:_MOST_NAMED])) + (f" and {more} more" if more > 0 else "")
