"""The numbers in docs/algorithms.md and docs/ratelimit.md are what the code computes.

A comment above a table says what it shows, and under what terms:

    <!-- numbers: charges ALGORITHM limit=… window=… burst=… -->   each row a charge, on one counter from row to row
    <!-- numbers: admitted limit=… window=… burst=… -->            hits let in by each algorithm, asked for one by one
    <!-- numbers: spread limit=… window=… -->                      the same, as the most of any stretch of one window
    <!-- numbers: bounds -->                                       what leases move at most
    <!-- numbers: shrinking lease=… -->                            hits taken ahead as less is left

Windows are in seconds, and begin at 0 s. The first columns are given; the test computes the others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from mixer_py.ratelimit.algorithms import COUNT, SECOND, Algorithm, State, Tally, Terms
from mixer_py.ratelimit.lease_bounds import LARGEST_PART, over_admission, under_admission
from tests.parts.presence import ROOT

BEGIN = 1_700_006_400 * SECOND
"""A moment at which windows of up to two hours begin."""
ORDER: tuple[Algorithm, ...] = ("fixed_window", "sliding_window", "token_bucket")
_MARK = re.compile(r"^<!-- numbers: (.+) -->\n(\|.*\n)(\|.*\n)((?:\|.*\n)+)", flags=re.MULTILINE)

Row = list[str]


@dataclass
class Numbers:
    """A table of a document."""

    place: str
    words: list[str]
    columns: Row
    rows: list[Row]

    def terms(self, algorithm: str) -> Terms:
        given = dict(word.split("=") for word in self.words if "=" in word)
        limit = int(given["limit"])
        burst = int(given.get("burst", limit)) if algorithm == "token_bucket" else limit
        return Terms(algorithm, int(given["window"]) * SECOND, limit, burst)  # type: ignore[arg-type]


def tables() -> Iterator[Numbers]:
    for name in ("algorithms", "ratelimit"):
        text = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
        for found in _MARK.finditer(text):
            place = f"{name}.md:{text[: found.start()].count(chr(10)) + 1}"
            yield Numbers(place, found[1].split(), cells(found[2]), [cells(row) for row in found[4].splitlines()])


def cells(row: str) -> Row:
    return [cell.strip() for cell in row.strip().strip("|").split("|")]


def moment(cell: str) -> int:
    """Microseconds of `7.5 s`."""
    return round(float(cell.removesuffix(" s")) * SECOND)


def seconds(microseconds: float) -> str:
    return f"{microseconds / SECOND:.6g} s"


class Counter:
    """One counter, and the time that it is asked at."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.state: State | None = None

    def charge(self, now: int, hits: int) -> Tally:
        count, always = COUNT[self.terms.algorithm], self.terms.always
        self.state, tally = count(self.state, BEGIN + now, self.terms, hits, always=always)
        return tally

    def admitted(self, now: int, hits: int) -> int:
        return sum(self.charge(now, 1).admitted for _ in range(hits))


def charges(numbers: Numbers) -> list[Row]:
    counter, rows = Counter(numbers.terms(numbers.words[1])), []
    for at, hits, *_ in numbers.rows:
        tally = counter.charge(moment(at), int(hits))
        verdict = "yes" if tally.admitted else "no"
        rows.append(
            [at, hits, verdict, str(tally.remaining), str(tally.over), seconds(tally.reset), seconds(tally.retry)]
        )
    return rows


def admitted(numbers: Numbers) -> list[Row]:
    counters = [Counter(numbers.terms(algorithm)) for algorithm in ORDER]
    return [
        [at, hits, *(str(counter.admitted(moment(at), int(hits))) for counter in counters)]
        for at, hits, *_ in numbers.rows
    ]


def spread(numbers: Numbers) -> list[Row]:
    """The most hits in any stretch as long as a window, when a request comes every so often for five windows."""
    rows = []
    for every, *_ in numbers.rows:
        most = []
        for algorithm in ORDER:
            counter = Counter(numbers.terms(algorithm))
            window = counter.terms.window
            hits = [now for now in range(0, 5 * window, moment(every)) if counter.charge(now, 1).admitted]
            most.append(max(sum(end - window < hit <= end for hit in hits) for end in hits))
        rows.append([every, *map(str, most)])
    return rows


def bounds(numbers: Numbers) -> list[Row]:
    rows = []
    for algorithm, limit, burst, lease, workers, *_ in numbers.rows:
        terms = Terms(algorithm.strip("`"), 60 * SECOND, int(limit), int(burst))  # type: ignore[arg-type]
        given = [algorithm, limit, burst, lease, workers]
        rows.append(
            [*given, *(str(bound(terms, int(lease), int(workers))) for bound in (over_admission, under_admission))]
        )
    return rows


def shrinking(numbers: Numbers) -> list[Row]:
    lease = int(numbers.words[1].removeprefix("lease="))
    return [[left, str(min(lease, int(left) // LARGEST_PART))] for left, *_ in numbers.rows]


KINDS: dict[str, Callable[[Numbers], list[Row]]] = {
    "charges": charges,
    "admitted": admitted,
    "spread": spread,
    "bounds": bounds,
    "shrinking": shrinking,
}


@pytest.mark.parametrize("numbers", list(tables()), ids=lambda numbers: numbers.place)
def test_a_table_says_what_the_code_computes(numbers: Numbers) -> None:
    computed = KINDS[numbers.words[0]](numbers)
    wanted = "\n".join(f"| {' | '.join(row)} |" for row in computed)
    assert numbers.rows == computed, f"{numbers.place}: the table is\n{wanted}"


def test_every_kind_of_table_is_shown() -> None:
    assert {numbers.words[0] for numbers in tables()} == KINDS.keys()
