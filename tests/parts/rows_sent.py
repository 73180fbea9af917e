"""Numbered rows sent to a running mixer, and what its books and its tables say of them."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from envoy.service.accesslog.v3 import als_pb2

from tests.parts.grpc_client import connect
from tests.parts.mixer_process import Mixer

PATIENT = {"max_hang": "1h"}
"""Settings of the server with which nothing is replaced because a test lets it hang."""
QUEUE = {"rows": 500, "block_rows": 100, "block_interval": "10ms"}


def message(first: int, count: int) -> als_pb2.StreamAccessLogsMessage:
    sent = als_pb2.StreamAccessLogsMessage()
    sent.identifier.node.id = "edge"
    for number in range(first, first + count):
        entry = sent.http_logs.log_entry.add()
        entry.request.request_id = f"r{number}"
        entry.common_properties.start_time.seconds = 1_790_000_000
        entry.response.response_code.value = 200
    return sent


def send(mixer: Mixer, first: int, count: int) -> None:
    """Entries in messages of 20, a stream for each hundred; returns when all were answered."""
    with connect(mixer.address) as client:
        for begin in range(first, first + count, 100):
            client.log(message(number, 20) for number in range(begin, min(begin + 100, first + count), 20))


@contextmanager
def hanging_store(mixer: Mixer) -> Iterator[None]:
    """ClickHouse that answers nothing for as long as the block takes.

    A mixer that is not given `PATIENT` replaces it meanwhile.
    """
    store = mixer.store()
    os.kill(store, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):  # a mixer that was killed takes it along
            os.kill(store, signal.SIGCONT)


def booked(mixer: Mixer, state: str) -> float:
    return mixer.metric("mixer_rows_total", table="requests", state=state)


def books_of(mixer: Mixer) -> Counter[str]:
    """What became of the rows of `requests`, in one look: by state and by reason; `waiting` are the rest."""
    books: Counter[str] = Counter()
    for (name, labels), value in mixer.metrics("mixer_").items():
        has = dict(labels)
        if has.get("table") == "requests" and name in {"mixer_rows_total", "mixer_queue_rows", "mixer_spool_rows"}:
            books[has.get("state", "waiting")] += int(value)
            books[has.get("reason", "")] += int(value)
            books[name] += int(value)
    return books


def balance(mixer: Mixer, rows: int) -> bool:
    """Whether so many rows were received, and each was written, was dropped, or waits."""
    books = books_of(mixer)
    return books["received"] == rows == books["written"] + books["dropped"] + books["waiting"]


def all_are_booked(mixer: Mixer, rows: int) -> bool:
    """Whether so many rows were received and each was written or dropped, in one look at the books."""
    books = books_of(mixer)
    return books["received"] == rows == books["written"] + books["dropped"] and not books["waiting"]


def stored(mixer: Mixer) -> list[int]:
    rows = mixer.rows("SELECT request_id FROM requests")
    return sorted(int(row["request_id"].removeprefix("r")) for row in rows)
