from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from mixer_py.calls import Call
from mixer_py.demo.processes import Ports
from mixer_py.errors import EvaluationError, ProcessError
from mixer_py.instruments import FakeClock, Registry, SystemClock
from mixer_py.transports import Admission, Forwarder, GrpcioServer, HandlerTable, ServerLimits

LIMITS = ServerLimits(
    max_message_bytes=1000,
    max_in_flight=2,
    max_connection_age=600,
    max_connection_age_grace=5,
    max_streams=100,
    max_metadata_bytes=16 << 10,
    max_waiting=100,
)
CHECK = "/envoy.service.auth.v3.Authorization/Check"
LIMIT = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
STREAM = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"


class Panic(BaseException):
    """As a native library's panic arrives."""


async def echo(message: bytes, call: Call) -> bytes:
    if message == b"status":
        raise EvaluationError("policy says no")
    if message == b"bug":
        raise KeyError("bug")
    if message == b"panic":
        raise Panic
    if message == b"exit":
        raise SystemExit(0)
    if message == b"slow":
        await asyncio.sleep(5)
    return message


async def count(messages: AsyncIterator[bytes], call: Call) -> bytes:
    return b"%d" % len([message async for message in messages])


@asynccontextmanager
async def serving(
    path: Path, limits: ServerLimits = LIMITS
) -> AsyncIterator[tuple[GrpcioServer, grpc.aio.Channel, Admission]]:
    clock = SystemClock()
    admission = Admission(limits.max_in_flight, clock, Registry())
    address = f"unix://{path / 's'}"
    server = GrpcioServer(address, HandlerTable({CHECK: echo}, {STREAM: count}), limits, admission, clock)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            yield server, channel, admission
    finally:
        await server.stop(0)


def unary(channel: grpc.aio.Channel, method: str = CHECK) -> Callable[..., grpc.aio.UnaryUnaryCall]:
    return channel.unary_unary(method)


async def status_of(call: grpc.aio.UnaryUnaryCall) -> tuple[grpc.StatusCode, str | None]:
    return await call.code(), await call.details()


async def test_bytes_go_in_and_out(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, channel, _):
        assert await unary(channel)(b"hello") == b"hello"


async def test_a_client_stream_gets_one_answer(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, channel, _):
        call = channel.stream_unary(STREAM)(iter([b"a", b"b", b"c"]))
        assert await call == b"3"


@pytest.mark.parametrize(
    ("message", "status", "words"),
    [
        (b"status", grpc.StatusCode.UNKNOWN, "policy says no"),
        (b"bug", grpc.StatusCode.INTERNAL, "KeyError"),
        (b"panic", grpc.StatusCode.INTERNAL, "Panic"),
        (b"exit", grpc.StatusCode.INTERNAL, "SystemExit"),
    ],
)
async def test_no_failure_reads_as_success_and_the_next_call_works(
    tmp_path: Path, message: bytes, status: grpc.StatusCode, words: str
) -> None:
    async with serving(tmp_path) as (_, channel, _):
        code, details = await status_of(unary(channel)(message))
        assert code is status
        assert words in (details or "")
        assert await unary(channel)(b"next") == b"next"


async def test_an_unknown_method_is_unimplemented(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, channel, _):
        assert (await status_of(unary(channel, "/a.B/C")(b"")))[0] is grpc.StatusCode.UNIMPLEMENTED


async def test_of_a_stream_that_is_not_read_on_little_is_taken_in_and_it_goes_on_when_it_is(ports: Ports) -> None:
    held = asyncio.Event()

    async def hold(messages: AsyncIterator[bytes], call: Call) -> bytes:
        sizes = []
        async for message in messages:
            sizes.append(len(message))
            await held.wait()
        return b"%d" % sum(sizes)

    address = f"127.0.0.1:{ports.take()}"  # not a unix socket, which gRPC measures otherwise
    clock, limits = SystemClock(), replace(LIMITS, max_message_bytes=1 << 20)
    admission = Admission(limits.max_in_flight, clock, Registry())
    server = GrpcioServer(address, HandlerTable({}, {STREAM: hold}), limits, admission, clock)
    await server.start()
    message, most, sent = b"x" * 16_384, 32 << 20, 0
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.stream_unary(STREAM)()
        writing = asyncio.ensure_future(call.write(message))
        while sent < most and (await asyncio.wait({writing}, timeout=3))[0]:
            sent += len(message)
            writing = asyncio.ensure_future(call.write(message))
        assert sent < 1 << 20, "what was taken in beside the message that is worked on"
        held.set()
        await writing
        await call.done_writing()
        assert await call == b"%d" % (sent + len(message))
    await server.stop(0)


async def test_a_message_above_the_limit_is_resource_exhausted(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, channel, _):
        assert await unary(channel)(b"x" * 1000) == b"x" * 1000
        assert (await status_of(unary(channel)(b"x" * 1001)))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_above_max_in_flight_a_call_is_unavailable_at_once_and_counted(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, channel, admission):
        slow = [unary(channel)(b"slow") for _ in range(2)]
        while admission.in_flight < 2:
            await asyncio.sleep(0.01)
        code, details = await status_of(unary(channel)(b"one more"))
        assert code is grpc.StatusCode.UNAVAILABLE
        assert "max_in_flight" in (details or "")
        assert admission._overloaded.value == 1
        for call in slow:
            call.cancel()
        while admission.in_flight:
            await asyncio.sleep(0.01)
        assert await unary(channel)(b"again") == b"again"


async def test_the_crowd_behind_a_call_that_held_the_loop_is_let_in_or_refused_before_any_is_worked_on() -> None:
    registry = Registry()
    admission = Admission(3, SystemClock(), registry)

    async def hold(message: bytes, call: Call) -> bytes:
        time.sleep(0.05 if message == b"long" else 0)
        return message

    async def one_by_one() -> list[asyncio.Task[bytes]]:
        """As gRPC hands over calls where it is asked for one at a time: one a turn of the loop."""
        tasks = []
        for number in range(20):
            tasks.append(asyncio.create_task(admission.run(hold, b"%d" % number, Call())))
            await asyncio.sleep(0)
        return tasks

    assert await admission.run(hold, b"long", Call()) == b"long"
    answers = await asyncio.gather(*await one_by_one(), return_exceptions=True)
    assert [answer for answer in answers if isinstance(answer, bytes)] == [b"0", b"1", b"2"]
    assert admission._overloaded.value == 17
    assert await admission.run(hold, b"after", Call()) == b"after"
    assert admission.in_flight == 0


async def test_calls_that_wait_for_another_process_hold_up_no_others() -> None:
    admission = Admission(100, SystemClock(), Registry())

    async def wait(message: bytes, call: Call) -> bytes:
        await asyncio.sleep(0.03)
        return message

    calls = []
    for _ in range(20):
        calls.append(asyncio.create_task(admission.run(wait, b"x", Call())))
        await asyncio.sleep(0.004)
    await asyncio.gather(*calls[:10])
    assert admission._intake is None, "nobody was kept from the loop, so nobody needs to be let in first"
    await asyncio.gather(*calls)


async def test_everything_that_has_arrived_is_in_before_a_listener_stops() -> None:
    admission = Admission(100, SystemClock(), Registry())

    async def work(message: bytes, call: Call) -> bytes:
        return message

    async def arriving() -> list[bytes]:
        return [await admission.run(work, b"x", Call()) for _ in range(50)]

    arrivals = asyncio.create_task(arriving())
    await admission.all_in(10)
    assert arrivals.done()
    assert await arrivals == [b"x"] * 50


async def test_a_call_whose_deadline_passed_while_it_waited_is_not_worked_on() -> None:
    clock = FakeClock()
    registry = Registry()
    admission = Admission(10, clock, registry)
    worked_on: list[bytes] = []

    async def work(message: bytes, call: Call) -> bytes:
        worked_on.append(message)
        return message

    late = asyncio.create_task(admission.run(work, b"late", Call(deadline=clock.monotonic() + 1)))
    clock.advance(2)
    with pytest.raises(Exception, match="deadline passed"):
        await late
    assert worked_on == []
    assert admission._late.value == 1
    assert await admission.run(work, b"in time", Call(deadline=clock.monotonic() + 1)) == b"in time"


async def test_health_says_serving_and_then_that_it_goes_away(tmp_path: Path) -> None:
    async with serving(tmp_path) as (server, channel, _):
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "envoy.service.auth.v3.Authorization"):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        await server.refuse_new()
        answer = await health.Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING


async def test_reflection_lists_the_services(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, channel, _):
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        answer = await call.read()
        names = {service.name for service in answer.list_services_response.service}
        assert {"envoy.service.auth.v3.Authorization", "envoy.service.accesslog.v3.AccessLogService"} <= names
        call.cancel()


async def test_calls_of_health_and_reflection_are_not_among_those_that_grpc_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as (server, channel, admission):
        await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        await call.read()
        call.cancel()
        await server._untaken.look()
        assert admission._untaken.value == 0


async def test_an_address_in_use_is_refused_by_name() -> None:
    clock = SystemClock()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        server = GrpcioServer(address, HandlerTable(), LIMITS, Admission(1, clock, Registry()), clock)
        with pytest.raises(ProcessError, match=address):
            await server.start()
        await server.stop(0)


async def test_a_connection_is_asked_to_go_when_it_is_old(tmp_path: Path) -> None:
    limits = replace(LIMITS, max_connection_age=0.3)
    async with serving(tmp_path, limits) as (_, channel, _):
        await unary(channel)(b"x")
        assert channel.get_state() is grpc.ChannelConnectivity.READY
        await asyncio.wait_for(channel.wait_for_state_change(grpc.ChannelConnectivity.READY), 20)
        assert await unary(channel)(b"on a new connection") == b"on a new connection"


async def tell_caller(_message: bytes, call: Call) -> bytes:
    return b"authenticated" if call.authenticated else b"anybody"


async def test_a_caller_is_authenticated_on_a_unix_socket_only(tmp_path: Path, ports: Ports) -> None:
    clock = SystemClock()
    admission = Admission(10, clock, Registry())
    servers = [
        GrpcioServer(address, HandlerTable({CHECK: tell_caller}), LIMITS, admission, clock)
        for address in (f"unix://{tmp_path / 's'}", f"127.0.0.1:{ports.take()}")
    ]
    said = []
    for server in servers:
        await server.start()
        async with grpc.aio.insecure_channel(server.address) as channel:
            said.append(await unary(channel)(b"", metadata=(("mixer-authenticated", "1"),)))
        await server.stop(0)
    assert said == [b"authenticated", b"anybody"]


@pytest.mark.parametrize("authenticated", [True, False])
async def test_a_worker_says_of_calls_that_it_hands_on_whether_their_caller_is_authenticated(
    tmp_path: Path, authenticated: bool
) -> None:
    clock = SystemClock()
    table, admission = HandlerTable({CHECK: tell_caller}), Admission(10, clock, Registry())
    behind = GrpcioServer(f"unix://{tmp_path / 's'}", table, LIMITS, admission, clock, behind=True)
    await behind.start()
    forwarder = Forwarder(behind.address, 1000, clock)
    answer = await forwarder.handler(CHECK)(b"", Call(authenticated=authenticated))
    assert answer == (b"authenticated" if authenticated else b"anybody")
    await forwarder.close(0)
    await behind.stop(0)


async def test_above_what_may_wait_a_call_ends_at_once_is_counted_and_those_that_wait_are_answered(
    tmp_path: Path,
) -> None:
    held, refused = threading.Event(), threading.Event()

    async def hold(message: bytes, call: Call) -> bytes:
        if message == b"hold":
            held.set()
            refused.wait(60)  # nothing is taken in meanwhile
        return message

    clock, address = SystemClock(), f"unix://{tmp_path / 's'}"
    limits = replace(LIMITS, max_waiting=5)
    registry = Registry()
    server = GrpcioServer(address, HandlerTable({CHECK: hold}), limits, Admission(100, clock, registry), clock)
    await server.start()

    def crowd() -> list[grpc.StatusCode]:
        with grpc.insecure_channel(address) as channel:
            ask = channel.unary_unary(CHECK)
            calls = [ask.future(b"hold", timeout=60)]
            held.wait(60)
            calls += [ask.future(b"x", timeout=60) for _ in range(30)]
            for call in calls:
                call.add_done_callback(lambda _: refused.set())
            return [call.code() for call in calls]

    codes = await asyncio.to_thread(crowd)
    untaken = registry.counter("mixer_calls_refused_total", "", ("reason",)).labels("waiting")
    async with asyncio.timeout(60):
        while untaken.value < codes.count(grpc.StatusCode.CANCELLED):
            await asyncio.sleep(0.05)
    await server.stop(0)
    assert codes[0] is grpc.StatusCode.OK
    assert set(codes) == {grpc.StatusCode.OK, grpc.StatusCode.CANCELLED}
    assert untaken.value == codes.count(grpc.StatusCode.CANCELLED)


class Standstill:
    """A loop that stands still at the first call of a server, until all that are to come behind it have come."""

    def __init__(self) -> None:
        self._begun, self._over = threading.Event(), threading.Event()

    def hold(self) -> None:
        """Called in the loop by the first call."""
        self._begun.set()
        self._over.wait(60)

    def come_behind(self, server: GrpcioServer, methods: Sequence[str]) -> list[grpc.StatusCode]:
        """In another thread: how the first call, which says `hold`, and one of each of these methods ended."""
        with grpc.insecure_channel(server.address) as channel:
            calls = [channel.unary_unary(CHECK).future(b"hold", timeout=60)]
            self._begun.wait(60)
            calls += [channel.unary_unary(method).future(b"x", timeout=60) for method in methods]
            while server._untaken._begun() < len(calls):
                time.sleep(0.01)
            self._over.set()
            return [call.code() for call in calls]


async def test_calls_of_two_methods_that_wait_are_not_counted_as_refused(tmp_path: Path) -> None:
    standstill = Standstill()
    admission = Admission(200, SystemClock(), Registry())

    async def hold(message: bytes, call: Call) -> bytes:
        if message == b"hold":
            standstill.hold()
            await server._untaken.look()
        return message

    table = HandlerTable({CHECK: hold, LIMIT: hold})
    address, limits = f"unix://{tmp_path / 's'}", replace(LIMITS, max_waiting=60)
    server = GrpcioServer(address, table, limits, admission, SystemClock())
    await server.start()

    assert set(await asyncio.to_thread(standstill.come_behind, server, (CHECK, LIMIT) * 45)) == {grpc.StatusCode.OK}
    await server.stop(0)
    assert admission._untaken.value == 0


async def test_calls_that_have_come_together_are_handed_over_together(tmp_path: Path) -> None:
    """grpc.aio hands one over a turn of the loop; each turn is a way through the core and its polling thread."""
    crowd, standstill = 20, Standstill()
    turn, begun = 0, Counter[int]()
    loop = asyncio.get_running_loop()

    def next_turn() -> None:
        nonlocal turn
        turn += 1
        loop.call_soon(next_turn)

    async def hold(message: bytes, call: Call) -> bytes:
        if message == b"hold":
            standstill.hold()
        else:
            begun[turn] += 1
        return message

    clock, address = SystemClock(), f"unix://{tmp_path / 's'}"
    server = GrpcioServer(address, HandlerTable({CHECK: hold}), LIMITS, Admission(100, clock, Registry()), clock)
    await server.start()
    next_turn()

    assert set(await asyncio.to_thread(standstill.come_behind, server, [CHECK] * crowd)) == {grpc.StatusCode.OK}
    await server.stop(0)
    assert sum(begun.values()) == crowd
    assert max(begun.values()) >= crowd / 2
