"""Read back what telemetry wrote: checked SQL, bound by limits, answered as JSON lines."""

from mixer_py.queries.reader import Reader, open_reader
from mixer_py.queries.sql import check_query

__all__ = ["Reader", "check_query", "open_reader"]
