"""Where the control socket is served and looked for."""

import stat
from pathlib import Path

import pytest

from mixer_py.config import ServerSettings, load, socket_candidates, socket_path
from mixer_py.config import sockets as room
from mixer_py.errors import ProcessError

SERVER = ServerSettings()


@pytest.fixture
def run(tmp_path, monkeypatch):
    """What stands for /run/mixer."""
    monkeypatch.setattr(room, "_RUN", tmp_path / "run" / "mixer")
    return tmp_path / "run" / "mixer"


def test_the_configured_one(tmp_path):
    server = load(None, {}, {"server.socket": str(tmp_path / "a.sock")}).server
    assert socket_path(server, {}) == tmp_path / "a.sock"
    assert socket_candidates(server, {}) == (tmp_path / "a.sock",)


def test_in_the_session_s_folder(tmp_path, run):
    environment = {"XDG_RUNTIME_DIR": str(tmp_path)}
    server = load(None, {}, {"server.admin": "127.0.0.1:9"}).server
    assert socket_path(server, environment) == tmp_path / "mixer-9.sock"
    assert socket_candidates(server, environment)[0] == tmp_path / "mixer-9.sock"


@pytest.mark.parametrize("session", ["", "relative", "/nonexistent"])
def test_else_in_run(run, session):
    run.parent.mkdir()
    environment = {"XDG_RUNTIME_DIR": session}
    assert socket_path(SERVER, environment) == run / "mixer-15014.sock"
    assert run.is_dir()
    assert socket_candidates(SERVER, environment)[0] == run / "mixer-15014.sock"


def test_else_in_a_folder_that_only_the_user_can_use(tmp_path, run):
    environment = {"TMPDIR": str(tmp_path)}
    found = socket_path(SERVER, environment)
    assert found.parent.parent == tmp_path
    assert stat.S_IMODE(found.parent.stat().st_mode) == 0o700
    assert socket_path(SERVER, environment) == found
    assert socket_candidates(SERVER, environment) == (run / found.name, found)


@pytest.mark.parametrize("kind", ["open", "link"])
def test_a_folder_that_somebody_else_prepared_is_refused(tmp_path, run, kind):
    environment = {"TMPDIR": str(tmp_path)}
    folder = socket_path(SERVER, environment).parent
    if kind == "open":
        folder.chmod(0o777)
    else:
        folder.rmdir()
        (tmp_path / "theirs").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "theirs")
    with pytest.raises(ProcessError, match=r"set server\.socket"):
        socket_path(SERVER, environment)
    assert socket_candidates(SERVER, environment) == (run / "mixer-15014.sock",)


def test_a_temporary_folder_that_is_not_there(tmp_path, run):
    with pytest.raises(ProcessError, match="No such file"):
        socket_path(SERVER, {"TMPDIR": str(Path(tmp_path, "none"))})
