"""What became of every row, told when a mixer ends: by then nobody can ask `/metrics` any more."""

from __future__ import annotations

from collections import defaultdict

import structlog

from mixer_py.runtime.metrics import ProcessMetrics
from mixer_py.telemetry.booking import ROWS


def tell_books(log: structlog.typing.FilteringBoundLogger, metrics: ProcessMetrics, *, whole: bool) -> None:
    """Writes one line, once every child has ended.

    Args:
        log: where to.
        metrics: what they counted.
        whole: every worker ended by itself.
    """
    books: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for labels, rows in metrics.values(ROWS):
        if rows:
            books[labels["table"]][" ".join(filter(None, (labels["state"], labels["reason"])))] = int(rows)
    if whole:
        log.info("ended", rows=books)
    else:
        log.error(
            "a worker had to be killed; the rows that it held are counted as dropped",
            way_out="raise server.drain_timeout or server.flush_timeout; runbook MixerRowsLost",
            rows=books,
        )
