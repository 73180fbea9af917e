"""Lets the workers of a mixer write to Debian's ClickHouse, 18.16, whose types are fewer; found through PYTHONPATH.

A map becomes text, an instant a second, and there are tables only: no views, and no roll-ups.
"""

from __future__ import annotations

import sys


def _substitute() -> None:
    import numpy as np
    import orjson
    import pyarrow as pa

    import mixer_py.runtime.arrow  # noqa: F401 (first, as in the product)
    from mixer_py.telemetry.columns import TABLES
    from mixer_py.telemetry.sinks import clickhouse
    from mixer_py.telemetry.sinks.clickhouse import ClickHouseSink

    old = {"DateTime64(9, 'UTC')": "DateTime", "Bool": "UInt8", "Map(LowCardinality(String), String)": "String"}
    statements = ["CREATE DATABASE IF NOT EXISTS mesh"]
    for table in TABLES.values():
        columns = ", ".join(
            f"`{one.name}` {old.get(one.kind.clickhouse, one.kind.clickhouse)}" for one in table.columns
        )
        statements.append(
            f"CREATE TABLE IF NOT EXISTS mesh.{table.name} ({columns}) ENGINE = MergeTree ORDER BY tuple()"
        )
    prepare, convert = ClickHouseSink.__init__, clickhouse._numpy

    def prepared(self, target, password, layout):
        prepare(self, target, password, layout, statements)

    def converted(column):
        if pa.types.is_map(column.type):
            return np.array([orjson.dumps(dict(pairs)).decode() for pairs in column.to_pylist()], dtype=object)
        return convert(column)

    ClickHouseSink.__init__, clickhouse._numpy = prepared, converted


if "mixer_py.runtime.worker" in sys.orig_argv:
    _substitute()
