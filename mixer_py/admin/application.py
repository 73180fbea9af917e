"""The HTTP application for scrapers and people. Pages about other rooms are handed in; it knows only how to serve them.

Everything but `/metrics` and `/healthz` is for those who may: anyone on the private socket or on loopback, elsewhere
the holder of `server.admin_token`.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mixer_py.admin.long_texts import compressible
from mixer_py.errors import MixerError

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPEN_PATHS = ("/metrics", "/healthz")
MAX_QUERY_BYTES = 256 * 1024
_SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


Question = Callable[[Mapping[str, Sequence[str]]], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Pages:
    """What the application serves.

    Attributes:
        metrics: the Prometheus text, in pieces that are made as they are sent.
        live: None when the process works, else what is wrong.
        ready: None when it takes traffic, else why not.
        documents: path → a JSON document, such as `/config`.
        query: SQL → JSON lines; raises `MixerError` with what the person did wrong.
        questions: path of a document → what answers instead of it when there is a query string: its names and values →
            a JSON document. It raises `MixerError` as `query` does.
    """

    metrics: Callable[[], Iterator[bytes]]
    live: Callable[[], str | None]
    ready: Callable[[], str | None]
    documents: Mapping[str, Callable[[], object]]
    query: Callable[[str], Awaitable[bytes]]
    questions: Mapping[str, Question] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Access:
    """Who may see more than metrics and health on the TCP address.

    Attributes:
        loopback: the address is reached from this machine only.
        token: bearer token for other addresses; None lets nobody in there.
    """

    loopback: bool
    token: str | None = None


def make_application(pages: Pages, access: Access) -> ASGIApp:
    """The application; the same one answers on TCP and on the private socket."""

    def document(path: str, page: Callable[[], object]) -> Callable[[Request], Awaitable[Response]]:
        question = pages.questions.get(path)

        async def answer(request: Request) -> Response:
            asked = request.query_params if question is not None else None
            if question is not None and asked:
                shown = await question({name: asked.getlist(name) for name in asked})
            else:
                shown = page()
            content = orjson.dumps(shown, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
            return Response(content, media_type="application/json")

        return answer

    async def metrics(request: Request) -> Response:
        return compressible(request, pages.metrics(), METRICS_TYPE)

    async def query(request: Request) -> Response:
        sql = await _sql_of(request)
        if sql is None:
            return _error(400, 'send {"sql": "SELECT …"} as JSON, or ?sql=')
        return Response(await pages.query(sql), media_type="application/x-ndjson")

    async def index(_request: Request) -> Response:
        paths = ("/metrics", "/healthz/live", "/healthz/ready", *pages.documents, "/query")
        return PlainTextResponse("mixer-py\n\n" + "".join(f"{path}\n" for path in paths))

    routes = [
        Route("/", index),
        Route("/metrics", metrics),
        Route("/healthz/live", _health(pages.live)),
        Route("/healthz/ready", _health(pages.ready)),
        Route("/query", query, methods=["GET", "POST"]),
        *(Route(path, document(path, page)) for path, page in pages.documents.items()),
    ]
    application = Starlette(
        routes=routes,
        exception_handlers={MixerError: _mixer_error, Exception: _internal_error},
    )
    # No page has two spellings; and what Starlette would answer instead fails for a query string that is no UTF-8.
    application.router.redirect_slashes = False
    return _Guard(application, access)  # outermost: what answers for a bug is Starlette's own, and has its headers too


def _health(check: Callable[[], str | None]) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_request: Request) -> Response:
        fault = check()
        return PlainTextResponse("ok\n" if fault is None else f"{fault}\n", 200 if fault is None else 503)

    return answer


class _Guard:
    """Keeps out who may not see a page, and adds the security headers."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_SECURITY_HEADERS]
            await send(message)

        if scope["type"] == "http" and not self._may(scope):
            refusal = "this page needs server.admin_token, but on loopback under 127.0.0.1, [::1] or localhost"
            await _error(403, refusal)(scope, receive, with_headers)
            return
        await self._app(scope, receive, with_headers)

    def _may(self, scope: Scope) -> bool:
        headers = dict(scope["headers"])
        if scope["client"] is None:  # a unix socket has no client address
            return True
        if self._access.loopback and _is_no_foreign_name(headers.get(b"host", b"")):
            return True
        path = scope["path"]
        if any(path == known or path.startswith(f"{known}/") for known in OPEN_PATHS):
            return True
        if self._access.token is None:
            return False
        given = headers.get(b"authorization", b"")
        return hmac.compare_digest(given, b"Bearer " + self._access.token.encode())


def _is_no_foreign_name(host: bytes) -> bool:
    """Whether a request names this machine by an address or as localhost.

    A page of the web that a browser here shows may point a name of its own at 127.0.0.1 (DNS rebinding), and would then
    read what it likes; the name that it has to use gives it away.
    """
    name = host.decode("latin-1").lower()
    name = name[1 : name.find("]")] if name.startswith("[") else name.partition(":")[0]
    if name in {"", "localhost"}:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def _sql_of(request: Request) -> str | None:
    """The query of a request; None when there is none that can be read."""
    if request.method == "GET":
        return request.query_params.get("sql")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_QUERY_BYTES:
            return None
    try:
        sent = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    sql = sent.get("sql") if isinstance(sent, dict) else None
    return sql if isinstance(sql, str) else None


def _error(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": message}, status_code=status)


async def _mixer_error(_request: Request, error: Exception) -> Response:
    status = 400 if isinstance(error, MixerError) and error.grpc_status == 3 else 503  # INVALID_ARGUMENT
    return _error(status, str(error))


async def _internal_error(_request: Request, _failure: Exception) -> Response:
    return _error(500, "internal error; mixer's log says more")
