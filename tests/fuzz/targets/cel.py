"""CEL: a text is refused with its place, or evaluates within its bounds to a value of the type that it was given."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from mixer_py.errors import ConfigurationError, ExpressionError
from mixer_py.expressions import BOOL, DOUBLE, DURATION, INT, STRING, TIMESTAMP, VOCABULARY, compile_expression
from tests.fuzz.target import CASES

PYTHON: dict[Any, type | tuple[type, ...]] = {
    BOOL: bool, INT: int, STRING: str, DOUBLE: float, DURATION: (int, float), TIMESTAMP: int,
}  # fmt: skip
ROW: dict[str, Any] = {
    "request.method": "POST", "request.host": "reviews:9080", "request.path": "/a/b?x=1", "request.size": 2048,
    "request.headers": {"x-tenant": "gold", "x-cost": "7", "user-agent": "curl/8"}, "source.ip": "10.1.2.3",
    "request.time": 1_234_567_890_000_000_000, "connection.mtls": True, "response.duration": 1.5,
}  # fmt: skip


def check(data: bytes) -> None:
    text = data.decode("utf-8", "ignore")
    try:
        expression = compile_expression(text, scope=VOCABULARY)
    except ConfigurationError as error:
        assert error.faults and all(str(fault) for fault in error.faults), "a refusal without a reason"
        return
    for row in (ROW, {}):
        try:
            value = expression.evaluate(row)
        except ExpressionError as error:
            assert error.reason, "a failure without a reason"
            continue
        if expression.type in PYTHON:
            assert isinstance(value, PYTHON[expression.type]), f"{value!r} is no {expression.type}"
        assert not expression.reads or row or not _must_fail(text), "an absent attribute has a value"


def _must_fail(text: str) -> bool:
    return text in {"request.method", "request.size", "source.ip"}


@cache
def _written() -> tuple[str, ...]:
    return (
        'request.method == "POST" && destination.service.name == "reviews"',
        'request.headers["x-tenant"] + "@" + string(request.size)', "request.size / 1024 + 1 * -2 % 3",
        'request.path.matches("^/[a-z]+/b$")', 'request.headers.exists(n, n.startsWith("x-")) ? 1 : 2',
        "request.headers.filter(n, n.size() < 5).map(n, n + n)", 'request.time.getHours("Asia/Kathmandu")',
        'request.time + duration("30s") == timestamp("2009-02-13T23:32:00Z")', "has(request.headers.referer)",
        'request.path.split("/")[1].upperAscii()', '[1, 2.0, "a"]', '{"a": 1}["a"]', "1e309", "0x7fffffffffffffff + 1",
        "r'\\d' + b'\\xff'", '"\\U0001F600\\u00e9\\x41\\101"', "[[1], [2]].all(x, x.all(y, y > 0))", "!!!true", "-(-1)",
    )  # fmt: skip


def seeds() -> Iterator[bytes]:
    for text in _written():
        yield text.encode()
    for file in sorted(CASES.glob("quotas/*/*.yaml")):
        yield file.read_bytes()
