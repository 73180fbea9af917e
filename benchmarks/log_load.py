"""The client of the benchmark of log entries, in a process of its own: a bounded number, then figures as JSON.

    python benchmarks/log_load.py HOST:PORT KIND MESSAGES STREAMS LABEL_SETS [RATE]

KIND is http or tcp; RATE is entries a second, and without it they are sent as fast as the server takes them. Each
stream has a connection of its own, as each worker thread of an Envoy has. It talks to loopback addresses only.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import grpc
import uvloop
from load import STREAM_MESSAGES_AHEAD
from log_entries import http_message, identified, tcp_message
from payloads import ACCESS_LOG_METHOD, ENTRIES_PER_MESSAGE

_DEADLINE = 300.0
_FEW = 256
"""Messages that are made; they are sent again and again, so that making them does not take longer than sending."""


async def send(address: str, kind: str, messages: int, streams: int, label_sets: int, rate: float) -> dict[str, object]:
    """So many messages over so many streams in turn, each ended by the server's answer to its half-close."""
    make = http_message if kind == "http" else tcp_message
    distinct = min(messages, max(_FEW, -(-label_sets // ENTRIES_PER_MESSAGE)))
    payloads = [make(number * ENTRIES_PER_MESSAGE, label_sets) for number in range(distinct)]
    channels = [
        grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1), ("mixer.bench", number)])
        for number in range(streams)
    ]
    calls = [channel.stream_unary(ACCESS_LOG_METHOD)(timeout=_DEADLINE, wait_for_ready=True) for channel in channels]
    for channel in channels:
        await channel.channel_ready()
    begun = time.perf_counter()
    for number in range(messages):
        payload, stream = payloads[number % distinct], number % streams
        await calls[stream].write(identified(payload, stream) if number < streams else payload)
        if rate:
            due = begun + (number + 1) * ENTRIES_PER_MESSAGE / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
        elif number % STREAM_MESSAGES_AHEAD == 0:
            await asyncio.sleep(0)
    for call in calls:
        await call.done_writing()
    for call in calls:
        await call
    seconds = time.perf_counter() - begun
    for channel in channels:
        await channel.close()
    return {"entries": messages * ENTRIES_PER_MESSAGE, "bytes": sum(map(len, payloads)), "seconds": seconds}


def main() -> None:
    """Runs the load and prints its figures."""
    address, kind, *numbers = sys.argv[1:]
    if not address.startswith("127."):
        raise SystemExit(f"{address} is not a loopback address")
    messages, streams, label_sets = map(int, numbers[:3])
    rate = float(numbers[3]) if len(numbers) > 3 else 0.0
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(send(address, kind, messages, streams, label_sets, rate))))


if __name__ == "__main__":
    main()
