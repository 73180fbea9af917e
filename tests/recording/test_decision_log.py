from __future__ import annotations

import asyncio
from dataclasses import replace

import pyarrow as pa
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest
from google.protobuf import json_format

from mixer_py.telemetry import validation
from mixer_py.telemetry.decision_log import DecisionLog, DecisionRecord

REQUEST = {
    "attributes": {
        "source": {
            "address": {"socketAddress": {"address": "10.0.0.7", "portValue": 4711}},
            "principal": "spiffe://cluster.local/ns/shop/sa/web",
        },
        "destination": {"principal": "spiffe://cluster.local/ns/books/sa/reviews"},
        "request": {
            "http": {
                "method": "GET",
                "host": "reviews",
                "path": "/reviews/7?token=secret",
                "headers": {"x-request-id": "r-1", "authorization": "Bearer secret"},
            }
        },
    }
}


class Rows:
    def __init__(self) -> None:
        self.batches: list[tuple[str, pa.RecordBatch]] = []
        self.dropped: list[tuple[str, int, str]] = []

    def put(self, table: str, batch: pa.RecordBatch) -> None:
        validation.check(table, batch)
        self.batches.append((table, batch))

    def count_dropped(self, table: str, rows: int, reason: str) -> None:
        self.dropped.append((table, rows, reason))


def record(request: CheckRequest, number: int = 0) -> DecisionRecord:
    return DecisionRecord(
        request=request, started=1_700_000_000_000_000_001, duration=0.000_25, verdict="deny",
        decision_id=f"d-{number}", decision="envoy/authz/allow", rule="data.envoy.authz.allow", reasons="no role",
        error="", revision="abc", http_status=403, tier="interpreter", cache="bypass", dry_run=False,
    )  # fmt: skip


async def test_a_decision_becomes_a_row_without_secrets() -> None:
    rows = Rows()
    log = DecisionLog(rows)
    log.record(record(json_format.ParseDict(REQUEST, CheckRequest())))
    log.flush()
    ((table, batch),) = rows.batches
    row = batch.drop_columns(["timestamp"]).to_pylist()[0]
    assert table == "decisions"
    assert {name: row[name] for name in ("decision_id", "request_id", "verdict", "source_ip", "source_principal",
            "source_namespace", "destination_namespace", "request_method", "request_host", "request_url_path",
            "http_status", "reasons", "duration_us", "quota_remaining", "dry_run")} == {
        "decision_id": "d-0", "request_id": "r-1", "verdict": "deny", "source_ip": "10.0.0.7",
        "source_principal": "spiffe://cluster.local/ns/shop/sa/web", "source_namespace": "shop",
        "destination_namespace": "books", "request_method": "GET", "request_host": "reviews",
        "request_url_path": "/reviews/7", "http_status": 403, "reasons": "no role", "duration_us": 250.0,
        "quota_remaining": None, "dry_run": False,
    }  # fmt: skip
    assert batch.column("timestamp").cast(pa.int64()).to_pylist() == [1_700_000_000_000_000_001]
    assert "secret" not in str(row)


async def test_an_empty_request_is_a_row_too() -> None:
    rows = Rows()
    log = DecisionLog(rows)
    log.record(record(CheckRequest()))
    log.flush()
    assert rows.batches[0][1].column("request_url_path").to_pylist() == [""]


async def test_a_record_that_fits_no_row_costs_itself_and_is_counted() -> None:
    rows = Rows()
    log = DecisionLog(rows)
    for number in range(10):
        odd = {3: {"http_status": 1 << 70}, 7: {"reasons": "half a \ud800 letter"}}.get(number, {})
        log.record(replace(record(CheckRequest(), number), **odd))
    log.flush()
    kept = [row for _, batch in rows.batches for row in batch.column("decision_id").to_pylist()]
    assert kept == [f"d-{number}" for number in range(10) if number not in {3, 7}]
    assert rows.dropped == [("decisions", 1, "malformed")] * 2


async def test_rows_are_handed_on_by_number_and_by_time() -> None:
    rows = Rows()
    log = DecisionLog(rows)
    for number in range(1001):
        log.record(record(CheckRequest(), number))
    assert [len(batch) for _, batch in rows.batches] == [1000]
    for _ in range(500):
        if len(rows.batches) == 2:
            break
        await asyncio.sleep(0.01)
    assert [len(batch) for _, batch in rows.batches] == [1000, 1]
    log.flush()
    assert len(rows.batches) == 2
