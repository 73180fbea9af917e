"""`mixer query` asks the running mixer over its socket."""

import json
import socketserver
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import pytest


@contextmanager
def answering(path, status, body, *, cut=False):
    """A mixer's socket that gives one answer; yields what was asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            length = int(self.headers["Content-Length"])
            asked.append((self.path, json.loads(self.rfile.read(length))))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body) + (10 if cut else 0)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self):
            return "socket"

        def log_message(self, *_):
            pass

    with socketserver.UnixStreamServer(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield asked
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def path(tmp_path):
    """Where the socket is."""
    return tmp_path / "m.sock"


ROWS = (
    b'{"verdict":"deny","n":2,"labels":{"a":["b"]},"none":null}\n'
    b'{"verdict":"x\\u001b[31m\xc2\x9b","n":10,"labels":{},"none":null}\n'
)


def test_rows_as_json_are_one_object_a_line(mixer, path):
    with answering(path, 200, ROWS) as asked:
        result = mixer("query", "SELECT 1", "--set", f"server.socket={path}", "--format", "json")
    assert asked == [("/query", {"sql": "SELECT 1"})]
    assert result.code == 0
    assert [json.loads(line) for line in result.out.splitlines()] == [json.loads(line) for line in ROWS.splitlines()]
    assert "\x1b" not in result.out
    assert "\x9b" not in result.out


def test_rows_as_a_table(mixer, path):
    with answering(path, 200, ROWS):
        result = mixer("query", "SELECT 1", "--set", f"server.socket={path}")
    lines = result.out.splitlines()
    assert lines[0].split() == ["verdict", "n", "labels", "none"]
    assert lines[1].split() == ["deny", "2", '{"a":', '["b"]}']
    assert lines[2].split() == [r"x\x1b[31m\x9b", "10", "{}"]


def test_no_rows(mixer, path):
    with answering(path, 200, b""):
        words = ("query", "SELECT 1", "--set", f"server.socket={path}")
        assert mixer(*words).out.strip() == "no rows"
        result = mixer(*words, "--format", "json")
    assert (result.code, result.out) == (0, "")


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (400, b'{"error":"only one SELECT"}', "only one SELECT"),
        (503, b'{"error":"the store is away"}', "the store is away"),
        (500, b"<html>", "mixer answered with status 500"),
        (500, b"[]", "mixer answered with status 500"),
    ],
)
def test_a_refusal_is_told(mixer, path, status, body, said):
    with answering(path, status, body):
        result = mixer("query", "DROP TABLE requests", "--set", f"server.socket={path}")
    assert (result.code, result.out, result.err) == (1, "", f"mixer: {said}\n")


def test_an_answer_that_is_cut_off_is_told(mixer, path):
    with answering(path, 200, ROWS[:-10], cut=True):
        result = mixer("query", "SELECT 1", "--set", f"server.socket={path}", "--format", "json")
    assert result.code == 1
    assert len(result.out.splitlines()) == 1
    assert "mixer stopped answering" in result.err


def test_no_running_mixer_is_told_with_the_socket(mixer, path, tmp_path, monkeypatch):
    result = mixer("query", "SELECT 1", "--set", f"server.socket={path}")
    assert result.code == 1
    assert f"{path} (not there)" in result.err
    assert "mixer serve" in result.err
    path.write_text("")
    assert f"{path} (Connection refused)" in mixer("query", "SELECT 1", "--set", f"server.socket={path}").err
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert f"{tmp_path}/mixer-1.sock" in mixer("query", "SELECT 1", "--set", "server.admin=127.0.0.1:1").err


def test_a_clickhouse_server_is_asked_without_a_running_mixer(mixer, monkeypatch):
    from mixer_py.queries import reader

    asked = []

    class FakeReader:
        async def query(self, sql):
            asked.append(sql)
            return ROWS

    monkeypatch.setattr(
        reader, "open_reader", lambda settings, socket: asked.append((settings.url, socket)) or FakeReader()
    )
    words = ("query", "SELECT 1", "--format", "json", "--set", "telemetry.clickhouse.url=clickhouse://me@db:9000/mesh")
    result = mixer(*words)
    assert result.code == 0
    assert len(result.out.splitlines()) == 2
    assert asked == [("clickhouse://me@db:9000/mesh", None), "SELECT 1"]


@pytest.mark.parametrize(
    ("sql", "said"), [("SELECT 1", "ClickHouse at 127.0.0.1:1 does not answer"), ("DROP TABLE requests", "SELECT")]
)
def test_a_server_that_is_away_and_a_query_that_is_refused(mixer, sql, said):
    result = mixer("query", sql, "--set", "telemetry.clickhouse.url=clickhouse://127.0.0.1:1/mesh")
    assert (result.code, result.out) == (1, "")
    assert said in result.err


def test_a_password_that_cannot_be_read(mixer, tmp_path):
    settings = "telemetry.clickhouse={url: 'clickhouse://127.0.0.1:1', password: {file: none}}"
    result = mixer("query", "SELECT 1", "--set", settings)
    assert result.code == 1
    assert f"{tmp_path}/none: telemetry.clickhouse.password: cannot be read: No such file" in result.err
