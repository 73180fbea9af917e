"""Frames, without a store."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer_py.errors import InvalidRequestError, NotRunningError, SinkError
from mixer_py.telemetry.store import QueryLimits, StoreClient
from mixer_py.telemetry.store.batches import decode_batch, encode_batch
from mixer_py.telemetry.store.protocol import MAX_BODY, MAX_HEADER, VERSION, Frame, encode, read_frame
from tests.store.store_process import rows

HEADERS = st.dictionaries(
    st.text(max_size=8), st.text(max_size=20) | st.booleans() | st.integers(-(2**53), 2**53), max_size=4
)
FRAMES = st.builds(Frame, HEADERS, st.binary(max_size=200))


def read_all(data: bytes) -> list[Frame]:
    async def read() -> list[Frame]:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        frames = []
        while (frame := await read_frame(reader)) is not None:
            frames.append(frame)
        return frames

    return asyncio.run(read())


@given(st.lists(FRAMES, max_size=4))
def test_frames_arrive_as_they_were_sent(frames: list[Frame]) -> None:
    assert read_all(b"".join(piece for frame in frames for piece in encode(frame))) == frames


@given(FRAMES, st.data())
def test_a_frame_that_is_cut_off_is_none(frame: Frame, data: st.DataObject) -> None:
    whole = b"".join(encode(frame))
    assert read_all(whole[: data.draw(st.integers(0, len(whole) - 1))]) == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (struct.pack("!III", VERSION + 1, 2, 0) + b"{}", "speaks version 2"),
        (struct.pack("!III", VERSION, MAX_HEADER + 1, 0), "too large"),
        (struct.pack("!III", VERSION, 2, MAX_BODY + 1), "too large"),
        (struct.pack("!III", VERSION, 2, 0) + b"{]", "no JSON"),
        (struct.pack("!III", VERSION, 2, 0) + b"[]", "not an object"),
    ],
)
def test_what_is_no_frame_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        read_all(data)


def test_a_frame_that_nobody_would_read_is_not_sent() -> None:
    with pytest.raises(InvalidRequestError, match="are allowed"):
        encode(Frame({}, bytes(MAX_BODY + 1)))


def test_rows_arrive_as_they_were_sent() -> None:
    batch = rows(20)
    assert decode_batch(encode_batch(batch)).equals(batch)


@pytest.mark.parametrize("body", [b"", b"\xff" * 40, encode_batch(rows(5))[:-200]])
def test_what_are_no_rows_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequestError, match="body of a write"):
        decode_batch(body)


@pytest.mark.parametrize(
    "limits",
    [None, {}, {**QueryLimits().to_header(), "more": 1}]
    + [
        {**QueryLimits().to_header(), name: value} for name in ("seconds", "rows") for value in (0, -1, True, "1", None)
    ],
)
def test_wrong_limits_are_refused(limits: object) -> None:
    with pytest.raises(InvalidRequestError, match="limit"):
        QueryLimits.from_header(limits)


async def test_a_store_that_is_away_says_so(tmp_path: Path) -> None:
    client = StoreClient(tmp_path / "nobody")
    with pytest.raises(SinkError, match="is away") as caught:
        await client.write("decisions", rows(1), "token")
    assert caught.value.reason == "away"
    with pytest.raises(NotRunningError, match="is away"):
        await client.query("SELECT 1", QueryLimits())
    with pytest.raises(NotRunningError, match="is away"):
        await client.ping()


async def test_a_store_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    hung_up = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        hung_up.set()

    path = tmp_path / "silent"
    server = await asyncio.start_unix_server(silent, path)
    client = StoreClient(path, write_timeout=0.1)
    with pytest.raises(SinkError, match="did not acknowledge") as caught:
        await client.write("decisions", rows(1), "token")
    assert caught.value.reason == "timeout"
    await hung_up.wait()  # the late answer of this line would be taken for another's
    server.close()
    await server.wait_closed()
