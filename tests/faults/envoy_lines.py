"""The lines between Envoy and mixer: reset, half-closed, slow, and with thousands of streams on them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from threading import Event, Thread

import grpc
from envoy.data.accesslog.v3 import accesslog_pb2
from envoy.service.accesslog.v3 import als_pb2

from tests.faults.fault import Fault, again, lasting
from tests.faults.processes import HELD, ONE
from tests.faults.scene import Scene
from tests.faults.servers import late

LINES = "a proxy before mixer"
_STREAMS, _CONNECTIONS = 2_000, 20
_BEGUN = "mixer_access_log_unfinished_total"
_CUT_OFF = "calls that are on them may fail; Envoy connects anew"


def _reset(scene: Scene) -> None:
    scene.parts["proxy"].reset()


def _half_close(scene: Scene) -> None:
    scene.parts["proxy"].half_close()


@contextmanager
def _streams(scene: Scene) -> Iterator[None]:
    """Thousands of log streams of others, each of which has brought a message and is left open."""
    over, failures = Event(), list[str]()

    def run() -> None:
        failures.extend(asyncio.run(_hold_streams(scene.mixer.address, over)))

    before = scene.metric(_BEGUN)
    holding = Thread(target=run)
    holding.start()
    try:
        scene.eventually(lambda: scene.metric(_BEGUN) >= before + _STREAMS, "a message of every stream", 120)
        yield
    finally:
        over.set()
        holding.join()
    if failures and scene.mixer.running.exit_code is None:
        scene.complaints.append(f"{len(failures)} streams ended with an error, such as {failures[0]}")


async def _hold_streams(address: str, over: Event) -> list[str]:
    """Opens them, holds them until `over`, closes them; what went wrong."""
    own = (("grpc.use_local_subchannel_pool", 1),)
    failures: list[str] = []
    gate = asyncio.Event()

    async def messages(name: str) -> AsyncIterator[als_pb2.StreamAccessLogsMessage]:
        message = als_pb2.StreamAccessLogsMessage()
        message.identifier.log_name = message.identifier.node.id = name
        begun = message.http_logs.log_entry.add()  # of a request that has only begun: it is counted, and no row
        begun.common_properties.access_log_type = accesslog_pb2.DownstreamStart
        yield message
        await gate.wait()

    async def one(call: grpc.aio.StreamUnaryMultiCallable, name: str) -> None:
        while True:
            try:
                await call(messages(name), timeout=300)
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.CANCELLED and not gate.is_set():
                    await asyncio.sleep(0.5)  # too many at once (docs/bounds.md): again, as Envoy does
                    continue
                failures.append(f"{error.code().name}: {error.details()}")
            return

    async def wait_for_end() -> None:
        await asyncio.to_thread(over.wait)
        gate.set()

    channels = [grpc.aio.insecure_channel(address, options=own) for _ in range(_CONNECTIONS)]
    calls = [
        channel.stream_unary(
            "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs",
            request_serializer=als_pb2.StreamAccessLogsMessage.SerializeToString,
            response_deserializer=als_pb2.StreamAccessLogsResponse.FromString,
        )
        for channel in channels
    ]
    streams = [asyncio.create_task(one(calls[number % _CONNECTIONS], f"n{number}")) for number in range(_STREAMS)]
    await asyncio.gather(wait_for_end(), *streams)
    for channel in channels:
        await channel.close()
    return failures


FAULTS = (
    Fault("Envoy's connections reset, five times", LINES, _CUT_OFF, again(_reset, 5, 0.3), HELD, 2),
    Fault("Envoy's connections half-closed, five times", LINES, _CUT_OFF, again(_half_close, 5, 0.5), HELD, 2),
    Fault("Envoy reads slowly (200 ms)", LINES, "calls are slow, and none fails", lasting(late(0.2), 3.0)),
    Fault(
        "2,000 log streams left open beside the traffic", ONE, "no call of others notices", lasting(_streams, 3.0), 5
    ),
)
