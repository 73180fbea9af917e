"""Say which rate limit a descriptor matches, and why, offline: what was tried on each level, and what was taken.

A descriptor is written as key=value,key=value. A part that holds a comma, or begins with a quote, stands in JSON
quotes, as in path="/a,b"; so does a key that holds `=`. Exit 0 also when nothing matches, which means that the
descriptor is not limited; 1 when the rules are faulty.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from typing import Any

from mixer_py.cli.main import BAD, GOOD, USAGE, complain
from mixer_py.cli.options import add_configuration, add_format, load_configuration
from mixer_py.cli.output import print_json, print_line, printable
from mixer_py.ratelimit.explaining.descriptors import WrittenEntry, parse_descriptor, write_descriptor
from mixer_py.ratelimit.explaining.explanation import Attempt, Explanation, Level, explain, replacements
from mixer_py.ratelimit.rules import Rule, Rules

EXAMPLES = (
    "mixer limits explain -c mixer.yaml --descriptor tenant=gold,path=/checkout",
    "mixer limits explain --domain shop --descriptor tenant=gold --descriptor 'path=\"/a,b\"' --format json",
)

_BEYOND = ("lease", "overdraw", "name", "shadow_mode", "quota_mode", "replaces", "metadata")
"""What may be set on a limit, and is told where it is."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("action", choices=("explain",), help="what to do")
    add_configuration(parser)
    parser.add_argument("--domain", help="the request's domain; may be left out when the rules have only one")
    parser.add_argument(
        "--descriptor",
        action="append",
        required=True,
        dest="descriptors",
        type=_descriptor,
        metavar="KEY=VALUE,…",
        help="a descriptor of the request; may be repeated",
    )
    add_format(parser)


def run(arguments: argparse.Namespace) -> int:
    """Explains each descriptor."""
    rules = Rules.load(load_configuration(arguments).rate_limit)
    domain = arguments.domain
    if domain is None:
        if len(rules.domains) != 1:
            known = ", ".join(sorted(rules.domains)) or "none; rate_limit.config names no rules"
            complain(f"name a --domain; known are: {known}")
            return USAGE if rules.domains else BAD
        (domain,) = rules.domains
    explanations = [explain(rules, domain, descriptor) for descriptor in arguments.descriptors]
    descriptions = rules.describe()
    explained = list(zip(arguments.descriptors, explanations, replacements(explanations), strict=True))
    if arguments.format == "json":
        print_json({"domain": domain, "descriptors": [_document(*one, descriptions) for one in explained]})
    else:
        for one in explained:
            for line in _account(*one, descriptions):
                print_line(printable(line))
    return GOOD


def _descriptor(text: str) -> tuple[WrittenEntry, ...]:
    try:
        return parse_descriptor(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _document(
    descriptor: Sequence[WrittenEntry],
    explanation: Explanation,
    replacement: Rule | None,
    descriptions: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    rule = explanation.rule
    return {
        "descriptor": [entry._asdict() for entry in descriptor],
        "rule": None if rule is None else descriptions[rule.index],
        "replaced_by": None if replacement is None else replacement.name,
        "reason": explanation.reason or None,
        "way_out": explanation.way_out or None,
        "levels": [
            {
                "key": level.key,
                "value": level.value,
                "tried": [{"how": one.how, "value": one.value, "taken": one.taken} for one in level.attempts],
            }
            for level in explanation.levels
        ],
        "counter": list(explanation.counter) or None,
    }


def _account(
    descriptor: Sequence[WrittenEntry],
    explanation: Explanation,
    replacement: Rule | None,
    descriptions: Sequence[dict[str, Any]],
) -> Iterator[str]:
    yield f"descriptor  {write_descriptor(descriptor)} in {explanation.domain}"
    for number, level in enumerate(explanation.levels, 1):
        yield f"level {number:<5} {_tried(level)}"
    rule = explanation.rule
    if rule is None:
        yield "rule        none: the descriptor is not limited"
        yield f"why         {explanation.reason}"
        if explanation.way_out:
            yield f"            {explanation.way_out}"
        return
    yield f"rule        {rule.name}"
    yield f"place       {rule.place}"
    yield f"limit       {_limit(descriptions[rule.index])}"
    if replacement is not None:
        yield f"replaced    by {replacement.name}: not counted in a request that has both"
    if explanation.counter:
        yield f"counter     {' | '.join(explanation.counter)}"


def _tried(level: Level) -> str:
    written = write_descriptor((WrittenEntry(level.key, level.value),))
    if not level.attempts:
        return f"{written}: no descriptor with this key"
    return f"{written}: {', '.join(map(_attempt, level.attempts))}"


def _attempt(attempt: Attempt) -> str:
    name = {"exact": "exact value", "pattern": f"pattern {attempt.value!r}", "any": "key without a value"}[attempt.how]
    return f"{name} taken" if attempt.taken else f"no {name}" if attempt.how != "pattern" else f"{name} does not fit"


def _limit(described: dict[str, Any]) -> str:
    """The limit with everything that is set on it."""
    if described["unlimited"]:
        return "unlimited: matched, never counted"
    rate = f"{described['requests_per_unit']} per {described['unit'].lower() or described['window']}"
    beyond = {
        "burst": described["burst"] if described["burst"] != described["requests_per_unit"] else 0,
        **{name: described[name] for name in _BEYOND},
    }
    flags = (name if value is True else f"{name}: {_text(value)}" for name, value in beyond.items() if value)
    return "; ".join((rate, described["algorithm"], *flags))


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
