"""Requests to the admin address: one answer each, no stack trace, nothing private without the token; SQL that reads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from mixer_py.admin import Access, Pages, make_application
from mixer_py.errors import InvalidRequestError, QueryRefusedError
from mixer_py.queries.sql import check_query
from mixer_py.ratelimit.explaining.descriptors import parse_descriptor
from tests.fuzz.target import joined, run, split

PRIVATE = "what only those may see who have the token"
TOKEN = "open sesame"
QUOTES = ("'", "`", '"')
REACHING_OUT = re.compile(
    r"(?<![\w\x00-\x08\x0e-\x1f])(?:(?:file|url|remote)\s*\(|(?:outfile|insert|settings)\b)", re.IGNORECASE
)
"""As whole words: there is no function `ffile`, and ClickHouse refuses control characters (SYNTAX_ERROR)."""


async def query(sql: str) -> bytes:
    check_query(sql, "mesh")
    return PRIVATE.encode()


async def limits(asked: Any) -> object:
    try:
        return [parse_descriptor(text) and PRIVATE for text in asked.get("descriptor", ())]
    except ValueError as error:
        raise InvalidRequestError(str(error)) from None


PAGES = Pages(
    metrics=lambda: iter([b"# metrics\n"]), live=lambda: None, ready=lambda: "draining",
    documents={"/config": lambda: PRIVATE, "/rlconfig": lambda: PRIVATE}, query=query, questions={"/rlconfig": limits},
)  # fmt: skip
GUARDED = make_application(PAGES, Access(loopback=False, token=TOKEN))
OPEN = make_application(PAGES, Access(loopback=True))


def check(data: bytes) -> None:
    """Method, path with its query, body, and headers as pairs."""
    _check_sql(data.decode("utf-8", "ignore"))
    parts = split(data)
    if len(parts) < 3:
        return
    method, target, body, *rest = parts
    path, _, query_string = target.partition(b"?")
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "server": ("m", 15014),
        "client": ("10.0.0.1", 1), "method": method.decode("latin-1").upper(), "path": path.decode("utf-8", "replace"),
        "raw_path": path, "query_string": query_string, "root_path": "",
        "headers": [(name.lower(), value) for name, value in zip(rest[::2], rest[1::2], strict=False)],
    }  # fmt: skip
    for application in (GUARDED, OPEN):
        status, answer = run(_ask(application, dict(scope), body))
        assert status < 500 or answer == b"draining\n" or b"internal error" not in answer, f"{status}: {answer!r}"
        assert b"Traceback" not in answer, "a stack trace is shown"
        token = dict(scope["headers"]).get(b"authorization")
        if application is GUARDED and token != f"Bearer {TOKEN}".encode():
            assert PRIVATE.encode() not in answer, "a page is shown to one without the token"


async def _ask(application: Any, scope: dict[str, Any], body: bytes) -> tuple[int, bytes]:
    sent: list[dict[str, Any]] = []
    received = iter(({"type": "http.request", "body": body, "more_body": False},))

    async def receive() -> dict[str, Any]:
        return next(received, {"type": "http.disconnect"})

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await application(scope, receive, send)
    starts = [message["status"] for message in sent if message["type"] == "http.response.start"]
    assert len(starts) == 1, "one answer a request"
    return starts[0], b"".join(message.get("body", b"") for message in sent)


def _check_sql(text: str) -> None:
    try:
        allowed = check_query(text, "mesh")
    except QueryRefusedError:
        return
    assert check_query(allowed, "mesh") == allowed, "what was checked is not what runs"
    if not any(quote in allowed for quote in QUOTES):
        assert not REACHING_OUT.search(allowed), f"this reaches out: {allowed}"


def seeds() -> Iterator[bytes]:
    token = (b"authorization", b"Bearer open sesame")
    for method, target, body, headers in (
        (b"GET", b"/config", b"", token), (b"GET", b"/metrics", b"", ()), (b"GET", b"//config", b"", ()),
        (b"GET", b"/metrics/../config", b"", (b"host", b"x")), (b"POST", b"/query", b'{"sql": "SELECT 1"}', token),
        (b"GET", b'/rlconfig?domain=shop&descriptor=a=b,"c,d"=e', b"", token), (b"HEAD", b"/healthz/ready", b"", ()),
        (b"GET", b"/query?sql=SELECT%201", b"", token),
    ):  # fmt: skip
        yield joined((method, target, body, *headers))
    yield b"SELECT count() FROM requests WHERE verdict = 'deny' AND timestamp > now() - INTERVAL 1 HOUR GROUP BY ALL"
    yield b"WITH x AS (SELECT 1) SELECT * FROM x UNION ALL SELECT toString(number) FROM numbers(10) LIMIT 5"
    yield b"SELECT * FROM file('/etc/passwd') INTO OUTFILE 'x' SETTINGS a = 1"
    yield b"SELECT quantile(0.5)(response_duration), arrayMap(x -> x + 1, [1]) FROM mesh.requests FORMAT JSON"
