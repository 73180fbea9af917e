"""Carry bytes over grpcio's asyncio server: unary calls and client streams, health and reflection.

Whatever is raised, a panic of a native library included, ends its call with a status that is not OK and leaves the next
one working. Nothing here knows what the bytes mean.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import CoroutineType
from typing import TYPE_CHECKING, NoReturn

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from mixer_py.calls import Call, ClientStreamHandler
from mixer_py.errors import CardinalityError, MixerError, ProcessError
from mixer_py.instruments import Clock
from mixer_py.transports.admission import Admission
from mixer_py.transports.forwarding import VOUCHER, Forwarder
from mixer_py.transports.grpcio_tls import GrpcioTls
from mixer_py.transports.handlers import HandlerTable
from mixer_py.transports.intake import MOST_ASKED_FOR, Intake
from mixer_py.transports.places import UNIX, Place
from mixer_py.transports.refusals import Refusal, refusal
from mixer_py.transports.standard import GuardedHealth, GuardedReflection
from mixer_py.transports.tls import ListenerTls
from mixer_py.transports.untaken import UntakenCalls

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[bytes, bytes]
    Context = grpc.aio.ServicerContext[bytes, bytes]

_STATUS = {code.value[0]: code for code in grpc.StatusCode}
_NO_LIMIT = -1
_LET_IN_SECONDS = 1.0
"""How long a listener that stops still takes calls in, when they come without a pause."""
_CUT_SECONDS = 0.05
"""gRPC shows a message that is too large as if none had come, and ends the call itself a moment later."""


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Manners of a listener.

    Attributes:
        max_message_bytes: a larger message ends its call with RESOURCE_EXHAUSTED, also one that is so large only when
            it is decompressed.
        max_in_flight: unary calls in hand; one more ends with UNAVAILABLE.
        max_connection_age: seconds after which a connection gets GOAWAY, so that new replicas get traffic.
        max_connection_age_grace: seconds that its calls then have to end.
        max_streams: calls that a connection may have open at once; gRPC refuses one more, unseen by us, with RST_STREAM
            REFUSED_STREAM. A well-behaved client waits, or makes another connection.
        max_metadata_bytes: of the headers of a call; more of them end it with RESOURCE_EXHAUSTED.
        max_waiting: calls of a method that were read from the wire and not taken by this process's loop yet; gRPC ends
            one more at once with CANCELLED, in a thread of its own, which costs little. It knows no other status for
            it, and for us to refuse one takes half of what an answer does. `UntakenCalls` counts them.
    """

    max_message_bytes: int
    max_in_flight: int
    max_connection_age: float
    max_connection_age_grace: float
    max_streams: int
    max_metadata_bytes: int
    max_waiting: int

    @property
    def asked_for(self) -> int:
        """Calls of a method that this process asks for at a time, of `max_waiting`; grpc.aio asks for one more."""
        return min(MOST_ASKED_FOR, self.max_waiting) - 1

    def channel_arguments(self) -> list[tuple[str, int]]:
        """The limits as gRPC core's channel arguments (grpc/grpc include/grpc/impl/channel_arg_names.h)."""
        pending = self.max_waiting - self.asked_for
        return [
            ("grpc.max_receive_message_length", self.max_message_bytes),
            ("grpc.max_send_message_length", _NO_LIMIT),
            ("grpc.max_connection_age_ms", int(self.max_connection_age * 1000)),
            ("grpc.max_connection_age_grace_ms", int(self.max_connection_age_grace * 1000)),
            ("grpc.max_concurrent_streams", self.max_streams),
            # Between the two gRPC would refuse some calls and not others, by chance.
            ("grpc.max_metadata_size", self.max_metadata_bytes),
            ("grpc.absolute_max_metadata_size", self.max_metadata_bytes),
            # Between the two, too, chance would decide.
            ("grpc.server.max_pending_requests", pending),
            ("grpc.server.max_pending_requests_hard_limit", pending),
            # Without probes of the bandwidth a call's window stays at 64 KiB. With them gRPC takes in megabytes of a
            # log stream that is not read on for want of room, which no bound of ours sees.
            ("grpc.http2.bdp_probe", 0),
            ("grpc.so_reuseport", 1),  # workers share a port, and successors listen before predecessors stop: `places`
            # Envoy may keep idle connections alive with pings; the default of 5 minutes would answer those with GOAWAY.
            ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            ("grpc.keepalive_permit_without_calls", 1),
        ]


class GrpcioServer:
    """One listener."""

    def __init__(
        self,
        address: str,
        table: HandlerTable,
        limits: ServerLimits,
        admission: Admission,
        clock: Clock,
        *,
        sharers: int = 1,
        behind: bool = False,
        tls: ListenerTls | None = None,
        give_up: Callable[[], None] = lambda: signal.raise_signal(signal.SIGTERM),
    ) -> None:
        """Prepares a listener; nothing is bound before `start`.

        Args:
            address: `host:port` or `unix:///path`.
            table: what it answers.
            limits: its manners.
            admission: shared by all listeners of a process, because they share its loop.
            clock: for deadlines.
            sharers: how many processes listen at the address at a time, but for takeovers.
            behind: only other workers of this mixer can connect, and hand calls on (`Forwarder`); each says whether
                its caller is authenticated. Else everybody who can open a unix socket is, and on TCP who has shown a
                certificate.
            tls: what is spoken there; None for plaintext.
            give_up: called when the listener can take no more calls; drains this process, so that it is replaced.
        """
        self.address = address
        self._tls = None if tls is None else GrpcioTls(tls)
        self._behind = behind
        self._on_unix = address.startswith(UNIX)
        self._place = Place(address, sharers)
        self._admission = admission
        self._clock = clock
        self._log = structlog.get_logger("transports.grpcio").bind(address=address)
        self._server = grpc.aio.server(options=limits.channel_arguments())
        self._methods = _Methods()
        # The core lets so many wait of each method that it tells apart, and of all others together, while those that it
        # has handed over in a turn have not begun yet.
        most_waiting = (limits.max_waiting + MOST_ASKED_FOR) * (len(table.unary) + 1)
        self._untaken = UntakenCalls(most_waiting, lambda: self._methods.taken, admission.count_untaken)
        self._looking: asyncio.Task[None] | None = None
        self._answers = dict(table.unary)
        self._names = table.names
        self._methods.handlers.update(
            self._client_stream(method, handler) for method, handler in table.client_streams.items()
        )
        unary = dict(self._unary(method) for method in table.unary)
        self._intake = Intake(self._server, unary, limits.asked_for, self._serving_ended)
        self._server.add_generic_rpc_handlers([self._methods])  # the first, so that it is asked for every call
        self._health = GuardedHealth(self._admit_to("health")) if table.health else None
        self._services = table.service_names()
        self._health_names = frozenset(("", *self._services, *table.health_names))
        self._leaving = self._stopping = self._broken = False
        self._give_up = give_up
        if self._health is not None:
            asked = _AskedForEach(self._server)
            health_pb2_grpc.add_HealthServicer_to_server(self._health, asked)  # type: ignore[arg-type]  # all it uses
        if table.reflection:
            names = [*self._services, reflection.SERVICE_NAME]
            names += [health.SERVICE_NAME] if table.health else []
            servicer = GuardedReflection(names, self._admit_to("reflection"))
            reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, _AskedForEach(self._server))  # type: ignore[no-untyped-call]  # generated

    async def start(self) -> None:
        """Binds and accepts.

        Raises:
            ProcessError: the address cannot be bound.
        """
        try:
            port = self._bind()
        except RuntimeError as error:
            raise ProcessError(f"cannot listen on {self.address}: {error}") from error
        if port == 0 and not self.address.startswith("unix:"):
            raise ProcessError(f"cannot listen on {self.address}: the address is in use or not ours")
        await self._set_health(self._health_names, serving=True)
        running = asyncio.all_tasks()
        await self._server.start()
        for task in asyncio.all_tasks() - running:
            if not isinstance(task.get_coro(), CoroutineType):  # a coroutine of gRPC's own: the one that takes calls
                task.add_done_callback(self._serving_ended)
        self._intake.start()
        self._looking = asyncio.create_task(self._untaken.look_for_ever())
        self._place.publish()

    def _bind(self) -> int:
        if self._tls is None:
            return self._server.add_insecure_port(self._place.bound)
        return self._server.add_secure_port(self._place.bound, self._tls.server_credentials())

    def _serving_ended(self, task: asyncio.Task[None]) -> None:
        """Notices that gRPC takes calls no more: it ends for good at a `:path` that is no UTF-8, and tells nobody."""
        error = None if task.cancelled() else task.exception()
        if error is None or self._stopping:
            return
        self._broken = True
        self._log.critical(
            "a request has ended the listener for good; this process is replaced",
            way_out="see who may call here: only a broken or hostile client sends it (server.tls)",
            error=repr(error),
        )
        self._give_up()

    def forward(self, forwarder: Forwarder) -> None:
        """Lets another process answer every unary call that is not being answered yet."""
        for method in self._answers:
            self._answers[method] = forwarder.handler(method)

    async def give_way(self) -> None:
        """Takes no new connections, for a successor listens; those that there are stay, until they reach their age."""
        await self._place.until_empty()
        self._place.stop_listening()

    async def refuse_new(self) -> None:
        """Tells health checkers that this listener is going away."""
        self._leaving = True
        await self._set_health(self._health_names, serving=False)

    async def tell_health(self, names: Iterable[str], *, serving: bool) -> None:
        """Tells health checkers that ask for these names, where this listener has them, until it goes away."""
        if not self._leaving:
            await self._set_health(self._health_names.intersection(names), serving=serving)

    async def stop(self, grace: float) -> None:
        """Sends GOAWAY, lets calls in flight end for up to `grace` seconds, then cancels the rest.

        gRPC cancels calls that it has not handed over yet when it stops, so those are let in first.
        """
        self._stopping = True
        if self._looking is not None:
            self._looking.cancel()
        if not self._broken:  # else it raises once more what has ended it
            loop = asyncio.get_running_loop()
            end = loop.time() + grace
            await self._admission.all_in(min(grace, _LET_IN_SECONDS))
            await self._untaken.look()
            await self._server.stop(max(end - loop.time(), 0.0))
        self._place.leave()

    async def _set_health(self, names: Iterable[str], *, serving: bool) -> None:
        if self._health is None:
            return
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in names:
            await self._health.set(name, status)

    def _call(self, service: str, context: Context) -> Call:
        """What is known of a call to one of our services.

        Raises:
            PermissionDeniedError: its caller may not make it.
        """
        remaining = context.time_remaining()
        deadline = None if remaining is None else self._clock.monotonic() + remaining
        if self._tls is not None:
            return Call(deadline, self._tls.judge(service, context))
        return Call(deadline, _is_vouched_for(context) if self._behind else self._on_unix)

    def _admit_to(self, service: str) -> Callable[[Context], Awaitable[None]]:
        """Lets calls of a service that is not ours through, or ends them."""

        async def admit(context: Context) -> None:
            try:
                self._call(service, context)
            except MixerError as error:
                await _abort(context, refusal(error))

        return admit

    def _unary(self, method: str) -> tuple[str, Handler]:
        admission, answers, methods = self._admission, self._answers, self._methods
        service = self._names.get(method, method)

        def handler(message: bytes, call: Call) -> Awaitable[bytes]:
            return answers[method](message, call)  # as late as this, so that `forward` holds from one call to the next

        # A stream of requests to gRPC, because it never ends a unary call whose client half-closes without a message.
        async def answer(_: AsyncIterator[bytes], context: Context) -> bytes:
            methods.taken += 1
            try:
                call = self._call(service, context)
                message = await _only_message(context, call, admission)
                return _sound(await admission.run(handler, message, call))
            except BaseException as error:  # noqa: BLE001 (no failure may read as success)
                await self._fail(method, context, error)

        return method, grpc.stream_unary_rpc_method_handler(answer)

    def _client_stream(self, method: str, handler: ClientStreamHandler) -> tuple[str, Handler]:
        service = self._names.get(method, method)

        async def answer(messages: AsyncIterator[bytes], context: Context) -> bytes:
            try:
                return _sound(await handler(messages, self._call(service, context)))
            except BaseException as error:  # noqa: BLE001 (no failure may read as success)
                await self._fail(method, context, error)

        return method, grpc.stream_unary_rpc_method_handler(answer)

    async def _fail(self, method: str, context: Context, error: BaseException) -> NoReturn:
        """Ends a call that raised with a status that is not OK."""
        if isinstance(error, asyncio.CancelledError) and _is_cancelled():  # the caller went away, or the server stops
            raise error
        told = refusal(error)
        if told.is_meant:
            await _abort(context, told)
        try:
            self._log.error(
                "call failed",
                way_out="report it with this line; the caller saw INTERNAL",
                method=method,
                error=type(error).__name__,  # some have no other words; those that there are stand below the traceback
                exc_info=error,
            )
        finally:  # to log may fail as well
            await _abort(context, told)


class _Methods(grpc.GenericRpcHandler):
    """Finds the handler of a method; an unknown one is answered UNIMPLEMENTED by gRPC.

    Attributes:
        handlers: by full method name.
        taken: calls of any method that gRPC has handed over.
    """

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {}
        self.taken = 0

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """The handler of the called method."""
        self.taken += 1
        return self.handlers.get(handler_call_details.method)


class _AskedForEach:
    """A server to which generated code adds methods for which `_Methods` is asked, as it is not for registered ones."""

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Adds them behind those that are there."""
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, object]) -> None:
        """Leaves them out; they were added as generic ones, too."""


async def _only_message(context: Context, call: Call, admission: Admission) -> bytes:
    """The message of a unary call; what comes after it is not read.

    Raises:
        CardinalityError: there was none.
        CancelledError: the call ended before it was handed over, perhaps because its deadline passed.
    """
    try:
        message: object = await context.read()
    except asyncio.CancelledError:
        admission.waited_in_vain(call)
        raise
    if isinstance(message, bytes):
        return message
    await asyncio.sleep(_CUT_SECONDS)  # it is grpc.aio.EOF
    raise CardinalityError("the call carried no message, or not the whole of it")


def _sound(answer: bytes) -> bytes:
    """The answer of a handler; gRPC would send an empty one, and OK, for None."""
    if type(answer) is not bytes:
        raise TypeError(f"a handler answered with {type(answer).__name__} instead of bytes")
    return answer


def _is_cancelled() -> bool:
    """Whether somebody wants this call to end; else a handler raised `CancelledError` on its own."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _is_vouched_for(context: Context) -> bool:
    return any(key == VOUCHER for key, _ in context.invocation_metadata() or ())


async def _abort(context: Context, told: Refusal) -> NoReturn:
    text = told.details.encode("utf-8", "replace").decode("utf-8")  # gRPC fails at what is no text
    await context.abort(_STATUS[told.status], text)
    raise AssertionError("abort raises")
