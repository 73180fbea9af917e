"""`mixer tail`: requests as they end, through a real Envoy."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mixer_py.demo.processes import own_environment
from tests.end_to_end.conftest import TENANTS_ONLY
from tests.parts.mixer_process import MIXER, Mixer, eventually

pytestmark = [pytest.mark.envoy, pytest.mark.chdb]


@pytest.fixture(scope="module")
def mixer(make_module_mixer) -> Mixer:
    mixer: Mixer = make_module_mixer(TENANTS_ONLY)
    mixer.start()
    return mixer


@contextmanager
def tailing(mixer: Mixer, tmp_path, *arguments: str) -> Iterator[list[str]]:
    """The lines that it has shown, as they come; it is ended with the block."""
    shown = tmp_path / "shown"
    command = (*MIXER, "tail", "-c", str(mixer.file), "-n", "0", *arguments)
    with shown.open("w") as file, subprocess.Popen(command, stdout=file, env=own_environment()) as process:
        try:
            yield _Lines(shown)
            assert process.poll() is None, "it goes on until it is interrupted"
        finally:
            process.kill()


class _Lines(list[str]):
    def __init__(self, path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[str]:
        return iter(self._path.read_text().splitlines())


def keep_asking(envoy, lines, what: str) -> str:
    """Requests until one is shown that came after the tail had begun; its line."""

    def one() -> str | None:
        envoy.request("/reviews/1")
        envoy.request("/reviews/2", headers=[("x-tenant", "initech")])
        return next((line for line in lines if what in line), None)

    return eventually(one, f"a line with {what}")


def test_rows_are_shown_as_they_come(mixer, envoy, tmp_path):
    with tailing(mixer, tmp_path) as lines:
        denied = keep_asking(envoy, lines, "/reviews/1")
        allowed = next(line for line in lines if "/reviews/2" in line)
    assert "deny     403" in denied
    assert "GET /reviews/1" in denied
    assert denied.endswith("UAEX, not a reader; ask the owner of reviews")
    assert "allow    200" in allowed
    assert len(set(lines)) == len(list(lines)), "no row is shown twice"


def test_a_filter_chooses_by_columns_and_attributes(mixer, envoy, tmp_path):
    words = ("--filter", 'response.code >= 400 && verdict == "deny" && request.method == "GET"', "--format", "json")
    with tailing(mixer, tmp_path, *words) as lines:
        keep_asking(envoy, lines, "/reviews/1")
        rows = [json.loads(line) for line in lines]
    assert {row["request_url_path"] for row in rows} == {"/reviews/1"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("response.cod >= 400", "did you mean response.code?"),
        ("response.code", "a bool is wanted"),
        ("verdict == ", "--filter"),
    ],
)
def test_a_faulty_filter_is_told(mixer, text, said):
    finished = mixer.run("tail", "--filter", text)
    assert finished.returncode == 1
    assert said in finished.stderr
