from __future__ import annotations

import socket
import stat
from pathlib import Path

import httpx
import pytest
from starlette.responses import PlainTextResponse

from mixer_py.admin.server import AdminServer
from mixer_py.demo.processes import Ports
from mixer_py.errors import ProcessError

APPLICATION = PlainTextResponse("hello")


@pytest.fixture
def port(ports: Ports) -> int:
    return ports.take()


async def over_socket(path: Path) -> str:
    async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(path))) as http:
        return (await http.get("http://mixer/")).text


async def test_one_application_answers_on_both_and_the_socket_is_private(tmp_path: Path, port: int) -> None:
    path = tmp_path / "new" / "mixer.sock"
    server = AdminServer(APPLICATION, "127.0.0.1", port, path)
    await server.start()
    async with httpx.AsyncClient() as http:
        assert (await http.get(f"http://127.0.0.1:{port}/")).text == "hello"
    assert await over_socket(path) == "hello"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await server.stop()
    assert not path.exists()


async def test_a_stale_socket_is_replaced(tmp_path: Path, port: int) -> None:
    path = tmp_path / "mixer.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    server = AdminServer(APPLICATION, "127.0.0.1", port, path)
    await server.start()
    assert await over_socket(path) == "hello"
    await server.stop()


async def test_a_live_socket_is_never_stolen(tmp_path: Path, port: int, ports: Ports) -> None:
    path = tmp_path / "mixer.sock"
    first = AdminServer(APPLICATION, "127.0.0.1", port, path)
    await first.start()
    with pytest.raises(ProcessError, match=r"another mixer answers on .*mixer\.sock"):
        await AdminServer(APPLICATION, "127.0.0.1", ports.take(), path).start()
    assert await over_socket(path) == "hello"
    await first.stop()


async def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ProcessError, match=rf"127\.0\.0\.1:{port} \(server\.admin\)"):
            await AdminServer(APPLICATION, "127.0.0.1", port, tmp_path / "s").start()
    assert not any(tmp_path.iterdir())


async def test_a_file_in_the_way_is_not_removed(tmp_path: Path, port: int) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(ProcessError, match="precious"):
        await AdminServer(APPLICATION, "127.0.0.1", port, path).start()
    assert path.read_text() == "data"
