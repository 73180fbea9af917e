"""Files of rate limits: refused with their places, or rules that can be matched, listed and explained."""

from __future__ import annotations

from collections.abc import Iterator

from mixer_py.errors import ConfigurationError
from mixer_py.ratelimit.explaining.descriptors import WrittenEntry
from mixer_py.ratelimit.explaining.explanation import explain
from mixer_py.ratelimit.rules import Rules
from tests.fuzz.target import CASES
from tests.fuzz.targets.rate_limit_request import RULES

DESCRIPTORS = (
    (WrittenEntry("tenant", "gold"),),
    (WrittenEntry("tenant", "gold"), WrittenEntry("path", "/api/x")),
    (WrittenEntry("", ""),),
)


def check(data: bytes) -> None:
    try:
        rules = Rules.parse([("rules.yaml", data)])
    except ConfigurationError as error:
        assert error.faults and all(str(fault) for fault in error.faults), "a refusal without a reason"
        return
    assert len(list(rules)) == len(rules)
    for name, domain in rules.domains.items():
        for entries in DESCRIPTORS:
            rule, _ = domain.match(entries)
            found = explain(rules, name, entries)
            assert found.rule is rule, "the explanation tells of another rule than the one that matches"


def seeds() -> Iterator[bytes]:
    yield RULES.encode()
    yield b"domain: &d shop\ndescriptors: [{key: *d, rate_limit: {unit: day, requests_per_unit: 1}}]\n"
    yield b'{"domain": "a", "descriptors": [{"key": "k", "value": "v*", "share_threshold": true}]}'
    for file in sorted((*CASES.glob("rate_limit_files/*/*.yaml"), *CASES.glob("rate_limit/*/*.yaml"))):
        yield file.read_bytes()
