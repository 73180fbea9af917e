"""Answer gRPC calls that Envoy hands over as ASGI: one request in, one message and its status out.

Envoy speaks HTTP/2; what gRPC asks beyond that is done here: framing, deadlines, sizes, statuses. Whatever is raised
here, of any class, ends its own call with a status that is not OK. pyvoy, which stands between, lets a call that gets
no reply hang. An exception that reaches it is a success to it: there Envoy puts INTERNAL in its place (`resources`), or
resets the call when its headers were sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, Final

import structlog

from mixer_py.calls import Call, UnaryHandler
from mixer_py.errors import (
    UNIMPLEMENTED,
    CallerGoneError,
    DeadlinePassedError,
    UnknownMethodError,
)
from mixer_py.instruments import Clock
from mixer_py.transports.admission import Admission
from mixer_py.transports.envoy.certificates import CALLER, caller_of
from mixer_py.transports.envoy.framing import ENCODINGS, check_length, frame, percent_encoded, timeout_seconds, unframe
from mixer_py.transports.envoy.patience import Watch
from mixer_py.transports.envoy.resources import BEGUN
from mixer_py.transports.forwarding import Forwarder
from mixer_py.transports.refusals import refusal
from mixer_py.transports.tls import ListenerTls

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]

_CONTENT_TYPE: Final = (b"content-type", b"application/grpc")
_GONE: Final = "http.disconnect"


class Answering:
    """The ASGI application of one listener.

    Attributes:
        in_flight: calls that have no reply yet.
    """

    def __init__(
        self,
        admitted: Mapping[str, UnaryHandler],
        at_once: Mapping[str, UnaryHandler],
        max_message_bytes: int,
        admission: Admission,
        clock: Clock,
        *,
        names: Mapping[str, str],
        authenticated: bool,
        tls: ListenerTls | None,
    ) -> None:
        """Composes it.

        Args:
            admitted: by full method name, what waits for its turn.
            at_once: the same for what is answered without: health.
            max_message_bytes: of a message, also decompressed.
            admission: lets calls in.
            clock: for deadlines.
            names: by full method name, what the settings call its service.
            authenticated: whether it is known who can call here, where there is no TLS.
            tls: judges callers; None where they speak plaintext.
        """
        self._answers = dict(admitted)
        self._admitted = {method: self._answer(method) for method in admitted}
        self._at_once = at_once
        self._most = max_message_bytes
        self._admission = admission
        self._clock = clock
        self._watch = Watch(clock)
        self._services = {method: names.get(method, method) for method in (*admitted, *at_once)}
        self._authenticated = authenticated
        self._tls = tls
        self._log = structlog.get_logger("transports.envoy")
        self.in_flight = 0

    def forward(self, forwarder: Forwarder) -> None:
        """Lets another process answer what is admitted from now on."""
        for method in self._answers:
            self._answers[method] = forwarder.handler(method)

    def _answer(self, method: str) -> UnaryHandler:
        answers = self._answers

        def answer(message: bytes, call: Call) -> Awaitable[bytes]:
            return answers[method](message, call)  # as late as this, so that `forward` holds from one call to the next

        return answer

    async def __call__(self, scope: Event, receive: Receive, send: Send) -> None:
        """Answers one call."""
        self.in_flight += 1
        try:
            try:
                body = await self._reply(scope, receive)
            except BaseException as error:  # noqa: BLE001 (no failure may read as success)
                await self._refuse(scope, send, error)
            else:
                await send({"type": "http.response.start", "status": 200, "headers": _HEADERS, "trailers": True})
                await send({"type": "http.response.body", "body": body})
                await send({"type": "http.response.trailers", "headers": _OK})
        except Exception:
            raise  # to pyvoy, see above
        except BaseException as error:  # SystemExit would end the loop, and pyvoy knows no panic
            raise RuntimeError("the reply could not be handed over") from error
        finally:
            self.in_flight -= 1

    async def _reply(self, scope: Event, receive: Receive) -> bytes:
        """The answer of the handler, in its time and framed.

        Raises:
            MixerError: with its status; and whatever else the handler raises.
        """
        if scope["method"] != "POST":
            raise UnknownMethodError(f"a gRPC call is a POST, not a {scope['method']}")
        method = scope["path"]
        at_once, admitted = self._at_once.get(method), self._admitted.get(method)
        if at_once is None and admitted is None:
            raise UnknownMethodError(f"{method} is not answered here")
        timeout, encoding, begun, caller = _read_headers(scope["headers"])
        authenticated = self._authenticated if self._tls is None else self._judge(method, caller)
        if timeout is not None and begun is not None:  # the call may have waited for this loop
            timeout -= max(self._clock.wall() - begun, 0.0)
            if timeout <= 0:
                self._admission.waited_in_vain(Call(self._clock.monotonic() + timeout))
                raise DeadlinePassedError("the deadline passed while the call waited")
        patience = self._watch.begin(timeout, receive)
        call = Call(patience.deadline, authenticated)
        try:
            message = unframe(await self._body(receive, call), encoding, self._most)
            patience.body_is_read = True
            if admitted is None:
                assert at_once is not None  # noqa: S101 (one of the two, see above)
                return frame(await at_once(message, call))
            return frame(await self._admission.run(admitted, message, call))
        except asyncio.CancelledError:
            raise patience.verdict() from None
        finally:
            self._watch.end(patience)

    def _judge(self, method: str, caller: bytes) -> bool:
        """Whether it is known who calls.

        Raises:
            PermissionDeniedError: who calls may not; nothing of the call is read then.
        """
        assert self._tls is not None  # noqa: S101 (see where it is called)
        return self._tls.judge(self._services[method], caller_of(caller))

    async def _body(self, receive: Receive, call: Call) -> bytes:
        """The whole body of a request.

        Raises:
            MessageTooLargeError: its message will be; the rest is not read.
            CallerGoneError: the caller went away before its end.
        """
        try:
            event = await receive()
            body: bytes = event.get("body", b"")
            if event["type"] == _GONE:
                raise CallerGoneError("the caller went away")
            if not event["more_body"]:
                return body
            parts = bytearray(body)
            while event["more_body"]:
                check_length(parts, self._most)
                event = await receive()
                if event["type"] == _GONE:
                    raise CallerGoneError("the caller went away")
                parts += event["body"]
        except asyncio.CancelledError:
            self._admission.waited_in_vain(call)
            raise
        return bytes(parts)

    async def _refuse(self, scope: Event, send: Send, error: BaseException) -> None:
        """Ends a call that raised with a status that is not OK."""
        if isinstance(error, CallerGoneError):
            return  # nobody hears it
        told = refusal(error)
        headers = [
            _CONTENT_TYPE,
            (b"grpc-status", b"%d" % told.status),
            (b"grpc-message", percent_encoded(told.details)),
        ]
        if told.status == UNIMPLEMENTED:
            headers.append((b"grpc-accept-encoding", ENCODINGS))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})
        if not told.is_meant:  # after its end, because to log may fail as well
            self._log.error(
                "call failed",
                way_out="report it with this line; the caller saw INTERNAL",
                method=scope["path"],
                error=type(error).__name__,  # some have no other words; those that there are stand below the traceback
                exc_info=error,
            )


_BEGUN: Final = BEGUN.encode()
_HEADERS: Final = [_CONTENT_TYPE]
_OK: Final = [(b"grpc-status", b"0")]


def _read_headers(headers: Headers) -> tuple[float | None, bytes, float | None, bytes]:
    """What they say of a call.

    Returns:
        The time that the caller gives in seconds, how its message is compressed, when the call came (epoch seconds),
        and what Envoy says of the caller.

    Raises:
        FramingError: the time is none.
    """
    timeout, encoding, begun, caller = None, b"", None, b""
    for name, value in headers:
        if name == b"grpc-timeout":
            timeout = timeout_seconds(value)
        elif name == b"grpc-encoding":
            encoding = value
        elif name == _BEGUN:
            begun = float(value)
        elif name == CALLER:
            caller = value
    return timeout, encoding, begun, caller
