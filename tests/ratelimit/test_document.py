"""docs/ratelimit.md: its rules match as its table says, and its list of keys is the parser's."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

from mixer_py.ratelimit.files.parsing import parse
from mixer_py.ratelimit.rules import Rules

TEXT = (Path(__file__).parents[2] / "docs" / "ratelimit.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    table = TEXT.partition(heading)[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()[2:]]


def test_descriptors_match_as_the_table_says() -> None:
    block = re.search(r"<!-- run: file limits.yaml -->\n```yaml\n(.*?)```", TEXT, re.DOTALL)
    assert block is not None
    domain = Rules.parse([("limits.yaml", block[1].encode())]).domains["shop"]
    matched = rows("| descriptor | rule that matches (`mixer_limit`) |")
    assert len(matched) == 7
    for descriptor, wanted in matched:
        pairs = [pair.partition("=") for pair in descriptor.strip("`").split(",")]
        rule, _ = domain.match([SimpleNamespace(key=key, value=value) for key, _, value in pairs])
        name = re.match(r"`([^`]+)`", wanted)
        assert (rule.name if rule else None) == (name[1] if name else None), descriptor


def test_keys_of_the_table_are_the_parsers() -> None:
    _, faults = parse("x", b"domain: x\ndescriptors: [{key: a, zzz: 1, rate_limit: {zzz: 1, unit: day}}]\nzzz: 1\n")
    known = {fault.field.rpartition(".")[0]: re.findall(r"[a-z_]+", fault.way_out)[2:] for fault in faults}
    parsed = {*known[""], *known["descriptors[0]"]} - {"rate_limit"}
    parsed |= {f"rate_limit.{key}" for key in known["descriptors[0].rate_limit"]}
    documented = {key.strip("`") for key, *_ in rows("| key | where | meaning |")}
    assert documented == parsed
