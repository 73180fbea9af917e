from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson
import pyarrow as pa
import pytest
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest
from google.protobuf import json_format

from mixer_py.errors import EvaluationError
from mixer_py.instruments import FakeClock, Registry
from mixer_py.policy.decision import Decision
from mixer_py.policy.document.input import InputBuilder
from mixer_py.policy.log_rules import result_of
from mixer_py.telemetry import validation
from mixer_py.telemetry.decision_log import DecisionLog
from mixer_py.telemetry.decision_log_input import InputKeeper, InputSources
from mixer_py.telemetry.decision_log_settings import DecisionLogSettings
from mixer_py.telemetry.decision_record import DecisionRecord
from tests.parts.books import booked

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
    """Takes rows, and has room for as many as it is told."""

    def __init__(self, room: int = 1_000_000) -> None:
        self.batches: list[tuple[str, pa.RecordBatch]] = []
        self.dropped: list[tuple[str, int, str]] = []
        self.room = room
        self.promised: set[bool] = set()
        self.written = asyncio.Event()

    def put(self, table: str, batch: pa.RecordBatch, *, promised: bool = False) -> None:
        validation.check(table, batch)
        self.batches.append((table, batch))
        self.promised.add(promised)

    def count_dropped(self, table: str, rows: int, reason: str) -> None:
        self.dropped.append((table, rows, reason))

    def has_room(self, table: str, rows: int, size: int) -> bool:
        return rows < self.room

    async def freed(self, table: str) -> None:
        await self.written.wait()

    def rows(self) -> list[dict[str, Any]]:
        return [row for _, batch in self.batches for row in batch.drop_columns(["timestamp"]).to_pylist()]


class Rules:
    """`system.log` as a test wants it."""

    def __init__(self, *, drops: Any = False, masks: Any = ()) -> None:
        self.events: list[Mapping[str, Any]] = []
        self._drops = drops
        self._masks = list(masks) if isinstance(masks, tuple) else masks

    async def drops(self, event: str) -> bool:
        self.events.append(orjson.loads(event))
        if isinstance(self._drops, Exception):
            raise self._drops
        return bool(self._drops)

    async def masks(self, event: str) -> object:
        if isinstance(self._masks, Exception):
            raise self._masks
        return self._masks


def record(request: CheckRequest, number: int = 0, **fields: Any) -> DecisionRecord:
    return replace(
        DecisionRecord(
            request=request, started=1_700_000_000_000_000_001, duration=0.000_25, verdict="deny",
            decision_id=f"d-{number}", decision="envoy/authz/allow", rule="data.envoy.authz.allow", reasons="no role",
            error="", revision="abc", http_status=403, tier="interpreter", cache="bypass", dry_run=False,
        ),
        **fields,
    )  # fmt: skip


def request(**http: Any) -> CheckRequest:
    document = {"attributes": {"request": {"http": http}}}
    return json_format.ParseDict(document, CheckRequest())


def make_log(rows: Rows, rules: Rules | None = None, registry: Registry | None = None, **keys: Any) -> DecisionLog:
    registry = registry or Registry()
    settings = DecisionLogSettings(**keys)
    builder = InputBuilder()
    sources = InputSources(builder.document, builder.attributes, result_of, rules)
    return DecisionLog(rows, settings, InputKeeper(settings, sources, registry), registry, FakeClock())


async def one_row(record: DecisionRecord, rules: Rules | None = None, **keys: Any) -> dict[str, Any]:
    rows = Rows()
    log = make_log(rows, rules, **keys)
    log.record(record)
    await log.drain(10)
    return rows.rows()[0]


def counted(registry: Registry, name: str) -> dict[str, float]:
    found = {}
    for series, values in registry.read():
        if series.name == name and values[0]:
            found[series.labels[0][1]] = values[0]
    return found


async def test_a_decision_becomes_a_row_without_secrets() -> None:
    rows = Rows()
    log = make_log(rows)
    log.record(record(json_format.ParseDict(REQUEST, CheckRequest())))
    await log.drain(10)
    ((table, batch),) = rows.batches
    row = rows.rows()[0]
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
    document = orjson.loads(row["input"])
    assert document["attributes"]["request"]["http"] == {
        "method": "GET", "host": "reviews", "path": "/reviews/7?token=***",
        "headers": {"x-request-id": "r-1", "authorization": "***"},
    }  # fmt: skip
    assert document["parsed_query"] == {"token": ["***"]}
    assert document["parsed_path"] == ["reviews", "7"]
    assert row["masked"].split("; ") == [
        "/input/attributes/request/http/headers/authorization",
        "/input/attributes/request/http/path",
        "/input/parsed_query/token",
    ]
    assert row["erased"] == ""


async def test_an_empty_request_is_a_row_too() -> None:
    row = await one_row(record(CheckRequest()))
    assert row["request_url_path"] == ""
    assert orjson.loads(row["input"])["parsed_path"] == [""]


async def test_a_request_that_cannot_be_parsed_is_kept_as_far_as_it_can_be() -> None:
    row = await one_row(record(request(path="/a%zz?token=secret", method="GET")))
    assert orjson.loads(row["input"]) == {
        "attributes": {"request": {"http": {"method": "GET", "path": "/a%zz?token=***"}}}
    }
    assert row["request_url_path"] == "/a%zz"


async def test_the_input_can_be_left_out() -> None:
    row = await one_row(record(request(path="/a;token=secret?token=secret")), input=False)
    assert (row["input"], row["masked"], row["erased"]) == ("", "", "")
    assert row["request_url_path"] == "/a;token=***"


async def test_of_a_large_input_the_bodies_go_first() -> None:
    headers = {"content-type": "application/json"}
    row = await one_row(record(request(path="/a", body='{"a": "' + "b" * 5000 + '"}', headers=headers)), max_input=2000)
    http = orjson.loads(row["input"])["attributes"]["request"]["http"]
    assert (http["body"], http["path"]) == (None, "/a")
    assert row["erased"] == "/input/attributes/request/http/body; /input/parsed_body"
    registry, rows = Registry(), Rows()
    log = make_log(rows, registry=registry, max_input=100)
    log.record(record(request(path="/a", body="b" * 5000)))
    await log.drain(10)
    assert (rows.rows()[0]["input"], rows.rows()[0]["request_url_path"]) == ("", "/a")
    assert rows.rows()[0]["erased"].endswith("; /input")
    assert counted(registry, "mixer_decision_inputs_left_out_total") == {"size": 1}


async def test_a_record_that_fits_no_row_costs_itself_and_is_counted() -> None:
    rows = Rows()
    log = make_log(rows)
    for number in range(10):
        odd = {3: {"http_status": 1 << 70}, 7: {"reasons": "half a \ud800 letter"}}.get(number, {})
        log.record(record(CheckRequest(), number, **odd))
    await log.drain(10)
    assert [row["decision_id"] for row in rows.rows()] == [
        f"d-{number}" for number in range(10) if number not in {3, 7}
    ]
    assert rows.dropped == [("decisions", 1, "malformed")] * 2


async def test_a_request_too_odd_to_be_shown_costs_its_input() -> None:
    """A nesting so deep that Python gives up on it."""
    deep: Any = "secret"
    for _ in range(5000):
        deep = [deep]
    rows, registry = Rows(), Registry()
    sources = InputSources(lambda _: {"parsed_body": deep}, InputBuilder().attributes, result_of)
    settings = DecisionLogSettings()
    log = DecisionLog(rows, settings, InputKeeper(settings, sources, registry), registry, FakeClock())
    log.record(record(request(path="/secret"), reasons="secret"))
    await log.drain(10)
    row = rows.rows()[0]
    assert (row["input"], row["erased"], row["request_url_path"], row["reasons"]) == ("", "/input", "***", "***")
    assert counted(registry, "mixer_decision_inputs_left_out_total") == {"failed": 1}


async def test_rows_are_handed_on_by_number_and_by_time() -> None:
    rows = Rows()
    log = make_log(rows)
    for number in range(1001):
        log.record(record(CheckRequest(), number))
    for _ in range(1000):
        if sum(len(batch) for _, batch in rows.batches) == 1001:
            break
        await asyncio.sleep(0.01)
    assert [row["decision_id"] for row in rows.rows()] == [f"d-{number}" for number in range(1001)]


async def test_a_check_gets_its_turn_while_rows_are_prepared() -> None:
    rows = Rows()
    log = make_log(rows)
    for number in range(1000):
        log.record(record(CheckRequest(), number))
    turns = 0
    while not rows.batches:
        turns += 1
        await asyncio.sleep(0)
    assert turns > 5
    await log.drain(10)


async def test_what_comes_while_rows_are_prepared_is_written_too() -> None:
    rows = Rows()
    log = make_log(rows)
    for number in range(1000):
        log.record(record(CheckRequest(), number))
    await asyncio.sleep(0)
    log.record(record(CheckRequest(), 1000))
    for _ in range(1000):
        if sum(len(batch) for _, batch in rows.batches) == 1001:
            break
        await asyncio.sleep(0.01)
    assert len(rows.rows()) == 1001


async def test_allows_are_sampled_by_their_id_and_nothing_else_is() -> None:
    rows = Rows()
    log = make_log(rows, sample=0.25)
    for number in range(2000):
        log.record(record(CheckRequest(), number, verdict="allow"))
    for number in range(2000, 2010):
        log.record(record(CheckRequest(), number))
        log.record(record(CheckRequest(), number, verdict="error"))
    await log.drain(10)
    kept = [row["decision_id"] for row in rows.rows() if row["verdict"] == "allow"]
    assert 350 < len(kept) < 650
    assert len(rows.rows()) == len(kept) + 20
    assert rows.dropped == [("decisions", 1, "sampled")] * (2000 - len(kept))
    again = Rows()
    other = make_log(again, sample=0.25)
    for number in range(2000):
        other.record(record(CheckRequest(), number, verdict="allow"))
    await other.drain(10)
    assert [row["decision_id"] for row in again.rows()] == kept
    nothing = make_log(again, sample=0.0)
    nothing.record(record(CheckRequest(), verdict="allow"))
    assert len(again.rows()) == len(kept)


async def test_the_policies_mask_and_drop_as_in_opa() -> None:
    upsert = {"op": "upsert", "path": "/input/parsed_body/card", "value": {"last": 4}}
    rules = Rules(masks=("/input/attributes/request/http/headers/x-user", upsert, "/result"))
    asked = request(path="/a?token=t", body='{"card": 1}', headers={"content-type": "application/json", "x-user": "u"})
    row = await one_row(record(asked), rules)
    document = orjson.loads(row["input"])
    assert document["parsed_body"] == {"card": {"last": 4}}
    assert document["attributes"]["request"]["http"]["headers"] == {"content-type": "application/json"}
    assert row["erased"] == "/input/attributes/request/http/headers/x-user; /result"
    assert row["masked"].split("; ")[0] == "/input/parsed_body/card"
    assert row["reasons"] == "***"
    (event,) = rules.events
    assert event["input"]["parsed_query"] == {"token": ["t"]}, "the rules see what the policy saw"
    assert event["error"] == {"message": "no role"}
    decided = Rules()
    await one_row(record(asked, result=Decision(allowed=False, reasons=("r",))), decided)
    assert decided.events[0]["result"] == {"allowed": False, "http_status": 403, "reasons": ["r"]}
    assert "error" not in decided.events[0]
    assert {key: event[key] for key in ("decision_id", "path", "revision", "timestamp", "labels")} == {
        "decision_id": "d-0", "path": "envoy/authz/allow", "revision": "abc", "labels": {},
        "timestamp": "2023-11-14T22:13:20Z",
    }  # fmt: skip
    rows = Rows()
    log = make_log(rows, Rules(drops=True))
    log.record(record(CheckRequest()))
    await log.drain(10)
    assert (rows.batches, rows.dropped) == ([], [("decisions", 1, "policy")])


@pytest.mark.parametrize(
    "rules",
    [
        Rules(drops=EvaluationError("odd")),
        Rules(masks=EvaluationError("odd")),
        Rules(masks={"not": "a list"}),
        Rules(masks=(7,)),
        Rules(masks=("no/slash",)),
        Rules(masks=("/elsewhere/x",)),
        Rules(masks=({"op": "replace", "path": "/input/x"},)),
        Rules(masks=({"op": "remove"},)),
    ],
)
async def test_faulty_rules_cost_the_input_and_never_show_it(rules: Rules) -> None:
    rows, registry = Rows(), Registry()
    log = make_log(rows, rules, registry)
    log.record(record(request(path="/secret", headers={"x-user": "secret"}), reasons="secret"))
    await log.drain(10)
    (row,) = rows.rows()
    assert "secret" not in str(row)
    assert (row["input"], row["erased"], row["verdict"]) == ("", "/input", "deny")
    assert counted(registry, "mixer_decision_inputs_left_out_total") == {"system_log": 1}


async def test_a_full_log_drops_only_what_nobody_was_promised() -> None:
    rows = Rows(room=2)
    log = make_log(rows)
    for number in range(5):
        assert not log.is_full("allow", f"d-{number}")
        log.record(record(CheckRequest(), number, verdict="allow"))
    await log.drain(10)
    assert (len(rows.rows()), rows.promised, rows.dropped) == (5, {False}, [])


async def test_a_full_log_that_denies_says_so_and_keeps_what_it_promised() -> None:
    rows, registry = Rows(room=2), Registry()
    log = make_log(rows, registry=registry, when_full="deny", sample=0.5)
    sampled = [name for name in map("d-{}".format, range(100)) if log._samples(name)]
    log.record(record(CheckRequest(), decision_id=sampled[0], verdict="allow"))
    log.record(record(CheckRequest(), decision_id=sampled[1], verdict="allow"))
    out = next(name for name in map("d-{}".format, range(100)) if name not in sampled)
    assert not log.is_full("allow", out), "what is not in the sample needs no room"
    assert log.is_full("allow", sampled[2])
    assert not await log.find_room(lets_through=True)
    assert await log.find_room(lets_through=False), "a denial needs no row"
    log.record(record(CheckRequest(), decision_id=sampled[2], verdict="error"))
    await log.drain(10)
    assert [row["decision_id"] for row in rows.rows()] == sampled[:2]
    assert (rows.promised, rows.dropped) == ({True}, [("decisions", 1, "log_full")])
    assert counted(registry, "mixer_decision_log_full_total") == {"refused": 1, "dropped": 1}


async def test_a_record_that_comes_later_has_the_room_that_was_held_and_no_other() -> None:
    rows = Rows(room=2)
    log = make_log(rows, when_full="deny")
    assert log.hold(10)
    assert log.hold(10)
    assert log.is_full("allow", "d-2")
    assert not log.hold(10), "a check that was refused does not wait for a candidate's verdict with its row"
    assert rows.dropped == [("decisions", 1, "log_full")]
    log.record_held(record(CheckRequest(), 0), 10)
    log.record_held(record(CheckRequest(), 1), 10)
    await log.drain(10)
    assert [row["decision_id"] for row in rows.rows()] == ["d-0", "d-1"]
    assert rows.dropped == [("decisions", 1, "log_full")]


async def test_what_falls_behind_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mixer_py.telemetry.decision_log._MOST_RECORDS", 5)
    rows = Rows()
    log = make_log(rows)
    for number in range(8):
        log.record(record(CheckRequest(), number))
    await log.drain(10)
    assert [row["decision_id"] for row in rows.rows()] == [f"d-{number}" for number in range(3, 8)]
    assert rows.dropped == [("decisions", 1, "queue_full")] * 3
    promised = make_log(Rows(), when_full="deny")
    for number in range(5):
        assert not promised.is_full("allow", f"d-{number}")
        promised.record(record(CheckRequest(), number))
    assert promised.is_full("allow", "d-5")
    await promised.drain(10)


class RealTime(FakeClock):
    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


async def test_a_full_log_that_blocks_waits_and_then_goes_on() -> None:
    rows, registry = Rows(room=1), Registry()
    settings = DecisionLogSettings(when_full="block", block="20ms")
    builder = InputBuilder()
    keeper = InputKeeper(settings, InputSources(builder.document, builder.attributes, result_of), registry)
    log = DecisionLog(rows, settings, keeper, registry, RealTime())
    log.record(record(CheckRequest(), 0))
    assert log.is_full("deny", "d-1")
    assert await log.find_room(lets_through=True)
    assert counted(registry, "mixer_decision_log_full_total") == {"dropped": 1}
    log.record(record(CheckRequest(), 1))
    assert rows.dropped == [("decisions", 1, "log_full")]
    log.activate(DecisionLogSettings(when_full="block", block="60s"), keeper)
    waiting = [asyncio.create_task(log.find_room(lets_through=True)) for _ in range(3)]
    await asyncio.sleep(0.05)
    assert not any(task.done() for task in waiting)
    rows.room = 10
    rows.written.set()
    assert await asyncio.wait_for(asyncio.gather(*waiting), 10) == [True] * 3
    assert counted(registry, "mixer_decision_log_full_total") == {"dropped": 1, "waited": 3}
    await log.drain(10)


async def test_what_is_gathered_is_known_until_it_is_handed_on() -> None:
    """Of a worker that is killed: its decisions were answered, and nobody else has counted them yet."""
    rows, registry = Rows(), Registry()
    log = make_log(rows, registry=registry)
    for number in range(3):
        log.record(record(CheckRequest(), number))
        assert booked(registry, "mixer_gathered_rows", table="decisions") == number + 1
    await log.drain(10)
    assert (len(rows.rows()), booked(registry, "mixer_gathered_rows")) == (3, 0)


async def test_what_cannot_be_prepared_before_the_end_is_booked_as_dropped() -> None:
    class Stuck:
        async def keep(self, record: DecisionRecord) -> None:
            await asyncio.sleep(3600)

    rows = Rows()
    registry = Registry()
    log = DecisionLog(rows, DecisionLogSettings(), Stuck(), registry, FakeClock())
    for number in range(3):
        log.record(record(CheckRequest(), number))
    await log.drain(0.05)
    assert (rows.batches, rows.dropped) == ([], [("decisions", 3, "shutdown")])
    assert booked(registry, "mixer_gathered_rows") == 0, "what is booked is not booked again when the process has ended"
