from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import httpx
import pytest

from mixer_py.admin import Access, Pages, make_application
from mixer_py.errors import InvalidRequestError, NotRunningError, QueryRefusedError

LOCAL = Access(loopback=True)
REMOTE = Access(loopback=False)
GUARDED = Access(loopback=False, token="open sesame")
PRIVATE_PATHS = ["/", "/config", "/query?sql=SELECT 1"]


async def run(sql: str) -> bytes:
    if sql == "DROP":
        raise QueryRefusedError("DROP is not a SELECT")
    if sql == "away":
        raise NotRunningError("the store is away")
    if sql == "bug":
        raise KeyError("secret detail")
    return b'{"sql":"%s"}\n' % sql.encode()


async def ask(asked: Mapping[str, Sequence[str]]) -> object:
    if "domain" not in asked:
        raise InvalidRequestError("name a domain")
    return asked


def client(
    access: Access = LOCAL,
    fault: str | None = None,
    address: tuple[str, int] | None = ("10.0.0.1", 1),
    host: str = "localhost",
    metrics: Callable[[], Iterator[bytes]] = lambda: iter([b"# metrics\n"]),
) -> httpx.AsyncClient:
    pages = Pages(
        metrics=metrics, live=lambda: None, ready=lambda: fault,
        documents={"/config": lambda: {"revision": "r"}}, query=run, questions={"/config": ask},
    )  # fmt: skip
    transport = httpx.ASGITransport(make_application(pages, access), raise_app_exceptions=False, client=address)
    if address is None:
        transport = httpx.ASGITransport(_without_client(make_application(pages, access)))
    return httpx.AsyncClient(transport=transport, base_url=f"http://{host}")


def _without_client(app: Callable[..., object]) -> Callable[..., object]:
    """As uvicorn serves a unix socket: without an address of the client."""

    async def served(scope: dict[str, object], receive: object, send: object) -> None:
        await app({**scope, "client": None}, receive, send)  # type: ignore[misc]

    return served


async def test_metrics_health_and_documents() -> None:
    async with client() as http:
        metrics = await http.get("/metrics")
        assert (metrics.status_code, metrics.text) == (200, "# metrics\n")
        assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert (await http.get("/healthz/live")).status_code == 200
        assert (await http.get("/healthz/ready")).status_code == 200
        assert (await http.get("/config")).json() == {"revision": "r"}
        assert (await http.get("/nothing")).status_code == 404


@pytest.mark.parametrize(
    ("accepted", "compressed"),
    [
        ("gzip", True), ("deflate, GZIP;q=0.5", True), ("x-gzip", True), ("gzip; q=1", True),
        ("identity", False), ("", False), ("gzip;q=0", False), ("gzip; q=0.000", False), ("br", False),
    ],
)  # fmt: skip
async def test_metrics_are_compressed_for_whoever_takes_that(accepted, compressed):
    text = [b"", b"# a line\n" * 20_000, b"x 1\n"]
    asked = {"accept-encoding": accepted}
    async with client(metrics=lambda: iter(text)) as http, http.stream("GET", "/metrics", headers=asked) as answer:
        body = b"".join([piece async for piece in answer.aiter_raw()])
    assert answer.headers["vary"] == "accept-encoding"
    assert (answer.headers.get("content-encoding") == "gzip") is compressed
    assert (gzip.decompress(body) if compressed else body) == b"".join(text)
    assert (len(body) < 10_000) is compressed


async def test_while_a_long_text_is_sent_others_are_answered():
    answered = asyncio.Event()

    def pieces() -> Iterator[bytes]:
        deadline = time.monotonic() + 60
        while not answered.is_set():
            assert time.monotonic() < deadline, "nobody else is answered meanwhile"
            yield b"# more\n"

    async with client(metrics=pieces) as http:
        reading = asyncio.create_task(http.get("/metrics"))
        assert (await http.get("/healthz/live")).status_code == 200
        answered.set()
        assert (await reading).status_code == 200


async def test_not_ready_says_why() -> None:
    async with client(fault="draining") as http:
        answer = await http.get("/healthz/ready")
        assert (answer.status_code, answer.text) == (503, "draining\n")


@pytest.mark.parametrize("path", PRIVATE_PATHS)
async def test_off_loopback_the_pages_for_people_need_the_token(path: str) -> None:
    async with client(REMOTE) as http:
        assert (await http.get(path)).status_code == 403
        assert (await http.get("/metrics")).status_code == 200
        assert (await http.get("/healthz/ready")).status_code == 200
    async with client(GUARDED) as http:
        assert (await http.get(path)).status_code == 403
        assert (await http.get(path, headers={"authorization": "Bearer wrong"})).status_code == 403
        assert (await http.get(path, headers={"authorization": "Bearer open sesame"})).status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.1:15014", "[::1]:15014", "localhost:15014", "LOCALHOST"])
async def test_on_loopback_this_machine_is_named_by_its_address(host: str) -> None:
    async with client(host=host) as http:
        assert (await http.get("/config")).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:15014", "localhost.evil.example", "127.0.0.1.evil.example"]
)
async def test_a_page_of_the_web_that_points_its_name_at_loopback_reads_nothing(host: str) -> None:
    async with client(host=host) as http:
        assert (await http.get("/config")).status_code == 403
        assert (await http.post("/query", json={"sql": "SELECT 1"})).status_code == 403
        assert (await http.get("/healthz/live")).status_code == 200


@pytest.mark.parametrize("path", ["/metricsx", "/healthzx", "//config", "/metrics/../config"])
async def test_a_path_that_only_looks_open_is_not(path: str) -> None:
    async with client(REMOTE) as http:
        assert (await http.get(path)).status_code in {403, 404}


async def test_the_private_socket_needs_no_token() -> None:
    async with client(REMOTE, address=None) as http:
        assert (await http.get("/config")).status_code == 200


async def test_queries_by_get_and_post_and_their_refusals() -> None:
    async with client() as http:
        assert (await http.get("/query", params={"sql": "SELECT 1"})).text == '{"sql":"SELECT 1"}\n'
        answer = await http.post("/query", json={"sql": "SELECT 2"})
        assert (answer.text, answer.headers["content-type"]) == ('{"sql":"SELECT 2"}\n', "application/x-ndjson")
        refused = await http.post("/query", json={"sql": "DROP"})
        assert (refused.status_code, refused.json()) == (400, {"error": "DROP is not a SELECT"})
        assert (await http.post("/query", json={"sql": "away"})).status_code == 503
        for body in (b"", b"{", b"[]", b'{"sql": 1}', b'{"sql": "' + b"x" * 300_000 + b'"}'):
            assert (await http.post("/query", content=body)).status_code == 400


async def test_a_bug_shows_no_detail() -> None:
    async with client() as http:
        answer = await http.get("/query", params={"sql": "bug"})
        assert answer.status_code == 500
        assert "secret" not in answer.text
        assert "Traceback" not in answer.text
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_every_answer_has_the_security_headers() -> None:
    async with client(REMOTE) as http:
        for path in ("/metrics", "/config", "/nothing"):
            headers = (await http.get(path)).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cache-control"] == "no-store"
            assert "content-security-policy" in headers


async def test_a_document_may_answer_questions() -> None:
    async with client() as http:
        answer = await http.get("/config?domain=shop&descriptor=a=b,c=d%26e&descriptor=f")
        assert answer.json() == {"domain": ["shop"], "descriptor": ["a=b,c=d&e", "f"]}
        refused = await http.get("/config?descriptor=a=b")
        assert (refused.status_code, refused.json()) == (400, {"error": "name a domain"})
        assert (await http.get("/config")).json() == {"revision": "r"}
    async with client(REMOTE) as http:
        assert (await http.get("/config?domain=shop")).status_code == 403
