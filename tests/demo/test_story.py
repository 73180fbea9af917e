"""What the demo demands of its rows, how it prints them, and what it says when something is missing."""

from __future__ import annotations

import asyncio
import io

import pytest
from rich.console import Console

from mixer_py.demo import evidence, parts, show
from mixer_py.demo.evidence import KINDS, sort_out
from mixer_py.demo.screen import Screen
from mixer_py.demo.services import Service, ratings, reviews
from mixer_py.demo.traffic import ALICE, BEYOND_LIMIT, BOB, STRANGER, Exchange, Step, curl, send


def row(**values: object) -> dict[str, object]:
    return {
        "request_id": "0f3c1f7e-0000", "timestamp": "now", "verdict": "allow", "rule": "", "reasons": "alice is admin",
        "limit_name": "tenant_acme", "limit_code": "OK", "limit_remaining": 4, "request_method": "GET",
        "request_url_path": "/reviews/1", "response_code": 200, "response_flags": "-",
        "destination_service_name": "reviews", "decision_id": "d", "policy_revision": "r", **values,
    }  # fmt: skip


ROWS = {
    "allowed": row(),
    "denied by role": row(verdict="deny", response_code=403, limit_code="", reasons="role guest may not DELETE"),
    "denied, no token": row(verdict="deny", response_code=401, limit_code="", reasons="no valid token"),
    "over the limit": row(response_code=429, limit_code="OVER_LIMIT", limit_remaining=0),
    "upstream failure": row(response_code=503, response_flags="UC"),
}


def test_each_row_is_of_its_own_kind_alone():
    assert {kind.name for kind in KINDS} == set(ROWS)
    for name, its_row in ROWS.items():
        assert list(sort_out([its_row])) == [name]


@pytest.mark.parametrize(
    "half_joined",
    [
        row(verdict="none"),  # the log came without the verdict
        row(limit_code=""),  # without the limit
        row(response_code=0),  # without the outcome
        row(verdict="deny", response_code=403, reasons=""),  # a denial that does not say why
    ],
)
def test_a_row_that_is_not_joined_is_of_no_kind(half_joined):
    assert sort_out([half_joined]) == {}


def test_a_kind_that_never_comes_is_named(monkeypatch):
    async def three_kinds(*_: object) -> list[evidence.Row]:
        return [its_row for name, its_row in ROWS.items() if name not in {"over the limit", "upstream failure"}]

    class Running:
        configuration = "mixer.yaml"

        def check_running(self) -> None:
            """Everything runs."""

    monkeypatch.setattr(evidence, "query", three_kinds)
    monkeypatch.setattr(show, "_ROWS_SECONDS", 0.05)
    with pytest.raises(show.MissingRowError, match="over the limit, upstream failure"):
        asyncio.run(show._find_rows(Running(), [Exchange(BEYOND_LIMIT, 200, "abc-1", "")]))


def test_missing_extras_are_one_line_with_the_command(monkeypatch, capsys):
    monkeypatch.setattr(parts.importlib.util, "find_spec", lambda _name: None)
    assert show.run(once=True) == 1
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert "pip install 'mixer-py[embedded" in out


@pytest.mark.parametrize("terminal", [True, False])
def test_the_screen_prints_every_kind(terminal):
    output = io.StringIO()
    screen = Screen(Console(file=output, force_terminal=terminal, width=140, highlight=False))
    with screen.waiting("starting", "started"):
        pass
    with screen.traffic():
        for step, status in ((BEYOND_LIMIT, 429), (Step(BOB, "GET", "/[x]", "why [not]"), 200)):
            screen.show(Exchange(step, status, "id", ""))
    screen.rows(ROWS)
    screen.metrics(['istio_requests_total{reporter="source",response_code="200"} 3', "mixer_queue_rows 0"])
    text = output.getvalue()
    assert ("\x1b[" in text) is terminal
    for piece in (*ROWS, "OVER_LIMIT", "role guest may not DELETE", "started", "why [not]", "mixer_queue_rows 0"):
        assert piece in text


async def test_services_answer_and_break_down():
    service = Service("ratings", ratings)
    port = await service.start()
    try:
        assert (await send(port, Step(BOB, "GET", "/ratings/1", ""))).status == 200
        with pytest.raises(OSError, match=r"."):
            await send(port, Step(BOB, "GET", "/ratings/broken", ""))
        assert (await send(port, Step(BOB, "GET", "/ratings/2", ""))).status == 200
    finally:
        await service.stop()


async def test_a_service_that_is_stopped_answers_no_more():
    service = Service("reviews", reviews)
    port = await service.start()
    await service.stop()
    with pytest.raises(OSError, match=r"."):
        await send(port, Step(ALICE, "GET", "/reviews/1", ""))


def test_the_commands_to_try_are_whole():
    assert curl(80, Step(BOB, "DELETE", "/reviews/1", "")) == (
        "curl -i -u bob:builder -H 'host: reviews' -X DELETE http://127.0.0.1:80/reviews/1"
    )
    assert curl(80, Step(STRANGER, "GET", "/a", "")) == "curl -i -H 'host: a' http://127.0.0.1:80/a"
