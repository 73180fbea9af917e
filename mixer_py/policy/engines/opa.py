"""An OPA server behind the `Engine` Protocol: it holds the policies, their data and their bundles.

What it reads for a decision is not known here, so it gets the whole input document and nothing is kept in the cache.
An OPA that is away, slow or confused fails the evaluation, within `policy.opa.timeout`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Final

import aiohttp
import orjson
import structlog

from mixer_py.errors import EvaluationError, Fault, PolicyLoadError, UndefinedDecisionError
from mixer_py.instruments import Registry
from mixer_py.policy.engines.opa_client import Connection
from mixer_py.policy.engines.protocol import Evaluation
from mixer_py.policy.rego.reads import Reads
from mixer_py.policy.settings import OpaSettings

_READS: Final = Reads(None, cacheable=False, why="the OPA server holds the policy, so what it reads is not known")
_REASONS: Final = ("away", "timeout", "refused", "evaluation", "unreadable")


class OpaEngine:
    """Asks one OPA server. Use it in one event loop."""

    tier = "opa"

    def __init__(self, settings: OpaSettings, registry: Registry) -> None:
        """Prepares the connection; asks nothing yet.

        Args:
            settings: where the server is.
            registry: of what is counted.

        Raises:
            PolicyLoadError: the token or the certificates cannot be read.
        """
        try:
            self._connection = Connection(settings)
        except OSError as error:
            place = str(error.filename or settings.ca or "")
            fault = Fault(f"cannot be read: {error.strerror or error}", place, field="policy.opa")
            raise PolicyLoadError([fault]) from None
        self._url = settings.url
        self._timeout = settings.timeout
        self._interval = settings.health_interval
        self._urls: dict[str, Any] = {}
        self._running = 0
        self._closing = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._probing: asyncio.Task[None] | None = None
        self._log = structlog.get_logger("policy").bind(opa=settings.url)
        self._up = registry.gauge("mixer_opa_up", "Workers that find the OPA server healthy.").labels()
        errors = registry.counter(
            "mixer_opa_errors_total", "Questions that the OPA server did not answer.", ("reason",)
        )
        self._errors = {reason: errors.labels(reason) for reason in _REASONS}

    def tier_of(self, decision: str) -> str:  # noqa: ARG002 (whatever decides)
        """See `Engine.tier_of`."""
        return self.tier

    def reads(self, decision: str) -> Reads:  # noqa: ARG002 (whatever decides)
        """See `Engine.reads`."""
        return _READS

    def describe(self) -> dict[str, Any]:
        """See `Engine.describe`."""
        return {"opa": self._url, "builtin_errors": "undefined"}

    def open(self) -> None:
        """See `Engine.open`: asks the server for its health from now on."""
        if self._probing is None:
            self._probing = asyncio.create_task(self._probe())

    async def close(self) -> None:
        """See `Engine.close`."""
        self._closing = True
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait({self._probing})
        await self._idle.wait()
        await self._connection.close_connection()

    async def evaluate(self, decision: str, input_json: str) -> Evaluation:
        """See `Engine.evaluate`."""
        if self._closing:
            raise EvaluationError("the connections to the OPA server are closed")
        url = self._urls.get(decision)
        if url is None:
            url = self._urls[decision] = self._connection.rule_url(decision)
        self._running += 1
        self._idle.clear()
        try:
            status, body = await self._ask(lambda: self._connection.ask(url, input_json))
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()
        return self._read(status, body)

    async def _ask(self, question: Callable[[], Awaitable[tuple[int, bytes]]]) -> tuple[int, bytes]:
        """Asks; once more when a kept connection turns out to be closed, as one is when OPA was restarted."""
        try:
            async with asyncio.timeout(self._timeout):
                try:
                    return await question()
                except (aiohttp.ServerDisconnectedError, ConnectionResetError, BrokenPipeError):
                    return await question()
        except TimeoutError:
            self._errors["timeout"].add()
            raise EvaluationError(f"the OPA server at {self._url} did not answer within {self._timeout:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            self._errors["away"].add()
            raise EvaluationError(f"the OPA server at {self._url} cannot be asked: {error}") from None

    def _read(self, status: int, body: bytes) -> Evaluation:
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            document = None
        if not isinstance(document, dict):
            self._errors["unreadable"].add()
            raise EvaluationError(f"the OPA server answered {status}, and no JSON object")
        if status != 200:
            self._errors["evaluation" if status == 500 else "refused"].add()
            raise EvaluationError(f"the OPA server answered {status}: {_words(document)}")
        if "result" not in document:
            raise UndefinedDecisionError("the decision is undefined for this request")
        return Evaluation(orjson.dumps([document["result"]]).decode(), self.tier)

    async def _probe(self) -> None:
        """Asks for OPA's health for ever; says when it changes."""
        was: bool | None = None
        try:
            while True:
                now = await self._is_healthy()
                if now is not was:
                    self._up.set(float(now))
                    if now:
                        self._log.info("the OPA server is healthy")
                    else:
                        self._log.error("the OPA server is away, or not healthy", way_out="runbook MixerOpaAway")
                    was = now
                await asyncio.sleep(self._interval)
        finally:
            self._up.set(0.0)

    async def _is_healthy(self) -> bool:
        with contextlib.suppress(aiohttp.ClientError, OSError):  # OSError is TimeoutError's parent too
            return await self._connection.is_healthy()
        return False


def _words(document: dict[str, Any]) -> str:
    """What OPA says went wrong: the first of its errors with its place, else its message."""
    errors = document.get("errors")
    if isinstance(errors, list) and errors and isinstance(errors[0], dict):
        error = errors[0]
        place = error.get("location")
        where = f"{place.get('file', '')}:{place.get('row', '')}: " if isinstance(place, dict) else ""
        return where + " ".join(str(error.get("message", "")).split())
    return str(document.get("message", ""))
