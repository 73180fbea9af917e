"""Runs OPA's conformance cases in every tier and writes docs/conformance.md: `make conformance`.

Exits with 1 when a case that loads is answered wrongly, or an error of OPA's is answered at all.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.conformance.cases import cases_folder, read_cases
from tests.conformance.judging import Judgement, Verdict, judge
from tests.parts.opa_module import find_opa_module, opa_version
from tests.parts.presence import ROOT, WAYS, find_server

BAD: Final = (Verdict.WRONG, Verdict.MISSED)
_PAGE: Final = ROOT / "docs" / "conformance.md"
_VERSIONS: Final = ("v1", "v0")
_COLUMNS: Final = (
    Verdict.PASS,
    Verdict.REFUSED,
    Verdict.FAILED,
    Verdict.WRONG,
    Verdict.MISSED,
    Verdict.UNASKABLE,
)
_TEXT: Final = """\
# Conformance of the embedded engine

<!-- Written by `make conformance`; do not edit. -->

OPA's own cases ({version}, which travel in its Go module) were asked of mixer's embedded engine as decisions. Each case
was evaluated by the interpreter, and by the virtual machine (RVM) as well where the policy is one that it takes.

{summary}

What the columns say:

- **pass**: the same value as OPA, undefined where OPA is undefined, an error where OPA has one, in every tier.
- **refused at load**: `mixer validate` and `mixer serve` say what the engine lacks, with file, line and a way out;
  with `engine: opa` such a policy runs.
- **failed**: the evaluation fails where OPA has an answer or is undefined; `policy.on_error` decides then.
- **wrong answer**, **missed error**: another answer than OPA's, or one where OPA has an error. There must be none.
- **cannot be asked**: a query for all of `data`, or one without an input, which a check always has.

Cases that OPA runs with `strict-builtin-errors` are held against what this OPA answers without, as in a server: there
a builtin's error is undefined. Those in Rego v0 are read as with `policy.rego_version: v0`.

{tables}"""


def main() -> int:
    """Run all cases and write the page."""
    module, opa = find_opa_module(), find_server("opa")
    if module is None or opa is None:
        sys.stderr.write(f"OPA's module is not here: {WAYS['opa_module']}\n")
        return 1
    judged = {version: judge_all(cases_folder(module, version), opa) for version in _VERSIONS}
    _PAGE.write_text(page(judged), encoding="utf-8")
    bad = [one for results in judged.values() for one in results if one.verdict in BAD]
    for one in bad:
        sys.stderr.write(f"{one.verdict}: {one.case.name} ({one.tier}): {one.why}\n")
    return 1 if bad else 0


def judge_all(folder: Path, opa: Path) -> list[Judgement]:
    """The judgements of all cases below a folder."""
    return [judgement for case in read_cases(folder) for judgement in judge(case, opa)]


def page(judged: Mapping[str, Sequence[Judgement]]) -> str:
    """The page's text."""
    tables = "\n".join(f"## Rego {version}\n\n{_table(results)}" for version, results in judged.items())
    summary = "\n".join(f"- {_summary(version, results)}" for version, results in judged.items())
    return _TEXT.format(version=opa_version(), summary=summary, tables=tables)


def _summary(version: str, results: Sequence[Judgement]) -> str:
    worst = Counter(_worst(results).values())
    total, tiers = worst.total(), Counter(one.tier for one in results if one.verdict is Verdict.PASS)
    loaded = total - worst[Verdict.REFUSED] - worst[Verdict.UNASKABLE]
    return (
        f"Rego {version}: {total} cases, {loaded} of them load and can be asked; {worst[Verdict.PASS]} pass"
        f" ({_share(worst[Verdict.PASS], total)} of all, {_share(worst[Verdict.PASS], loaded)} of those), "
        f"{sum(worst[verdict] for verdict in BAD)} are answered wrongly. The RVM passed {tiers['rvm']}."
    )


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def _worst(results: Iterable[Judgement]) -> dict[tuple[str, str], Verdict]:
    """The worst verdict of each case over its tiers, by family and name."""
    verdicts: dict[tuple[str, str], Verdict] = {}
    for one in results:
        key = (one.case.family, one.case.name)
        verdicts[key] = max(verdicts.get(key, one.verdict), one.verdict, key=_SEVERITY.index)
    return verdicts


_SEVERITY: Final = (
    Verdict.PASS,
    Verdict.UNASKABLE,
    Verdict.REFUSED,
    Verdict.REFUSED_INPUT,
    Verdict.FAILED,
    Verdict.MISSED,
    Verdict.WRONG,
)


def _table(results: Sequence[Judgement]) -> str:
    by_family: dict[str, Counter[Verdict]] = {}
    for (family, _), verdict in _worst(results).items():
        shown = Verdict.FAILED if verdict is Verdict.REFUSED_INPUT else verdict
        by_family.setdefault(family, Counter())[shown] += 1
    by_family["**all**"] = sum(by_family.values(), Counter())
    lines = [
        "| family | cases | " + " | ".join(map(str, _COLUMNS)) + " |",
        "|---|" + "--:|" * (len(_COLUMNS) + 1),
    ]
    lines += [
        f"| {family} | {counts.total()} | " + " | ".join(str(counts[column] or "") for column in _COLUMNS) + " |"
        for family, counts in by_family.items()
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
