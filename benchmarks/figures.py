"""The figures of a report as JSON beside it, so that two runs can be compared and an index be written.

Not for: what a figure means; its report says so.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from circumstances import circumstances


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of a report.

    Attributes:
        name: the same in every run, and different for every figure of a report, as in `check.cached`.
        title: for people.
        unit: `floors`, `ms`, `MiB`, …
        value: what the report says.
        rounds: what each round of the run gave; the value alone where there was one.
        section: heading of the report under which it stands.
        more_is_better: whether a larger one is welcome; else a smaller one is.
    """

    name: str
    title: str
    unit: str
    value: float
    rounds: tuple[float, ...]
    section: str
    more_is_better: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of a benchmark gave.

    Attributes:
        benchmark: which, as in `main-job`.
        summary: the report's, in a sentence or more.
        circumstances: of `circumstances.py`.
        figures: by name.
    """

    benchmark: str
    summary: str
    circumstances: dict[str, str]
    figures: dict[str, Figure]


def figure(
    name: str, title: str, unit: str, rounds: Sequence[float], section: str, *, more_is_better: bool = False
) -> Figure:
    """A figure whose value is the median of its rounds."""
    return Figure(name, title, unit, statistics.median(rounds), tuple(rounds), section, more_is_better)


def beside(report: Path) -> Path:
    """Where the figures of a report stand."""
    return report.with_suffix(".json")


def write(report: Path, benchmark: str, summary: str, figures: Iterable[Figure], *further_parts: str) -> None:
    """Writes them beside their report.

    Args:
        report: the report's file.
        benchmark: which, as in `main-job`.
        summary: of it.
        figures: of it.
        further_parts: see `circumstances`.
    """
    document = {
        "benchmark": benchmark,
        "summary": summary,
        "circumstances": circumstances(*further_parts),
        "figures": [asdict(one) for one in figures],
    }
    beside(report).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read(path: Path) -> Run:
    """Reads what `write` wrote.

    Raises:
        SystemExit: the file is none of these.
    """
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        figures = [Figure(**{**one, "rounds": tuple(one["rounds"])}) for one in document["figures"]]
        return Run(
            document["benchmark"], document["summary"], document["circumstances"], {one.name: one for one in figures}
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SystemExit(f"{path} holds no figures of a benchmark: {error!r}") from error
