"""Paths, queries and bodies against the packages of Go that opa-envoy-plugin reads them with.

What Go refuses is refused here, and what both take has one value. What only we refuse is named.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer_py.errors import RequestParseError
from mixer_py.policy.document.body import BodyParser
from mixer_py.policy.document.path import parse_query, split_path

pytestmark = pytest.mark.opa_module  # whoever has that has Go

SOURCE = Path(__file__).parents[1] / "parts" / "go_reader.go"
BODIES = BodyParser()
BOUNDARY = "multipart/form-data; boundary=b"
MANY = settings(max_examples=400, deadline=None)


class Go:
    """The program in tests/parts/go_reader.go."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def read(self, kind: str, octets: bytes, content_type: str = "") -> Any:
        """The value, its numbers as they were written; the `RequestParseError` with Go's words where there is none."""
        question = {"kind": kind, "octets": base64.b64encode(octets).decode(), "content_type": content_type}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question).encode() + b"\n")
        self._process.stdin.flush()
        answer = as_written(self._process.stdout.readline())
        return RequestParseError(answer["error"]) if "error" in answer else answer["value"]


def as_written(text: bytes) -> Any:
    return json.loads(text, parse_int=lambda number: ("number", number), parse_float=lambda number: ("number", number))


@pytest.fixture(scope="module")
def go(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Go]:
    compiler = shutil.which("go")
    assert compiler is not None
    program = tmp_path_factory.mktemp("go") / "reader"
    subprocess.run((compiler, "build", "-o", program, SOURCE), check=True, cwd=program.parent, timeout=600)
    with subprocess.Popen((program,), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield Go(process)


def assert_alike(theirs: Any, read: Callable[[], object], stricter: tuple[str, ...] = ()) -> None:
    """`stricter` are words of the refusals that are ours alone."""
    try:
        ours = as_written(orjson.dumps(read()))
    except RequestParseError as error:
        ours = error
    if isinstance(ours, RequestParseError) and any(words in str(ours) for words in stricter):
        return
    both_refuse = isinstance(ours, RequestParseError) and isinstance(theirs, RequestParseError)
    assert both_refuse or ours == theirs


def parse_body(content_type: str, octets: bytes) -> object:
    http = CheckRequest().attributes.request.http
    http.headers["content-type"] = content_type
    http.raw_body = octets
    return BODIES.parse(http)[0]


PIECES = st.sampled_from([
    "/", "//", "%2F", "%", "%2", "%zz", "%25", "a", "b+c", ";", "&", "=", "%00", "%ff", "%c3%a9", "é", "*", ":443",
    "http://h/", "..", ".", "%3F", "#", "a=1", "\0", "+", "%e2%82", "%f0%9f%98", "\u2028",
])  # fmt: skip
TEXTS = st.lists(PIECES, max_size=8).map("".join)
JSON = st.sampled_from([
    b"{", b"}", b"[", b"]", b",", b":", b'"a"', b"1", b"1.0", b"-0", b"1e400", b"1E5", b"01", b"-", b"true", b"null",
    b"99999999999999999999999", b"0.1000000000000000055511151231257827", b"1e-400", b" ", b"\n", b"\0", b"NaN",
    b'"\\ud800"', b'"\\ud83d\\ude00"', b'"\\udc00\\ud800"', b'"\\\\ud800"', b'"\xff"', b'"\\u0000"', b'"\x01"',
    b'"\xe2\x82"', b'"a":1', b'"a":2', b'"\xe2\x80\xa8"', b"/", b'"\\/"', b'"\\x"', b"\xc2\xa0", b"\xef\xbb\xbf",
])  # fmt: skip
PARTS = st.sampled_from([
    b"--b", b"--b--", b"--", b"\r\n", b"\n", b"\r\n\r\n", b"\n\n", b" ", b"\t", b"text", b"X", b": x", b"--bb", b"=3D",
    b'Content-Disposition: form-data; name="x"', b'content-disposition: form-data; name=y; filename="f"',
    b'Content-Disposition: attachment; name="x"', b'Content-Disposition: form-data; name="a\\"b"', b"=\r\n",
    b"Content-Type: application/json", b'{"a":1}', b"Content-Transfer-Encoding: quoted-printable",
    b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\nvalue', b"\r\n--b--\r\n", b"\r\n--b\r\n",
])  # fmt: skip
TYPES = st.sampled_from([
    BOUNDARY, BOUNDARY, BOUNDARY, 'multipart/form-data;boundary="b"', "multipart/form-data; BOUNDARY=b",
    "multipart/form-data", "multipart/form-data; boundary=", f"{BOUNDARY}; boundary=b", f"{BOUNDARY}; x",
    f"{BOUNDARY};", "Multipart/x; a=multipart/form-data; boundary=b", 'multipart/form-data; boundary="b',
    "multipart/form-data boundary=b", f"x {BOUNDARY}", f"{BOUNDARY}; boundary=c",
])  # fmt: skip


@MANY
@given(TEXTS)
def test_a_path(go: Go, text: str) -> None:
    assert_alike(go.read("path", text.encode()), lambda: split_path(text))


@MANY
@given(TEXTS)
def test_a_query(go: Go, text: str) -> None:
    assert_alike(go.read("query", text.encode()), lambda: parse_query(text))


@MANY
@given(st.lists(JSON, min_size=1, max_size=6).map(b"".join))
def test_a_json_body(go: Go, octets: bytes) -> None:
    stricter = ("invalid JSON",) if b"1e400" in octets else ()  # a number beyond a double
    assert_alike(go.read("json", octets), lambda: parse_body("application/json", octets), stricter)


@MANY
@given(st.lists(PARTS, min_size=1, max_size=9).map(b"".join), TYPES)
def test_a_multipart_body(go: Go, octets: bytes, content_type: str) -> None:
    stricter = ("is not accepted", "ends within its headers")
    assert_alike(go.read("multipart", octets, content_type), lambda: parse_body(content_type, octets), stricter)
