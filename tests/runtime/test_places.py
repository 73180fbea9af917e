"""A mixer holds its places: its own workers share them, and nobody who wants them alone gets them."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from mixer_py.config.address import Address, parse_address
from mixer_py.demo.processes import Ports
from mixer_py.errors import ProcessError
from mixer_py.runtime.places import held
from tests.parts.mixer_process import eventually

EVERYWHERE = "0.0.0.0"  # noqa: S104 (bound for a moment, to nobody's use)


def sharer(host: str, port: int) -> socket.socket:
    """What a worker listens on."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((host, port))
    listener.listen()
    return listener


@pytest.fixture
def port(ports: Ports) -> int:
    return ports.take()


def is_free(host: str, port: int) -> bool:
    try:
        with held([parse_address(f"{host}:{port}")]):
            return True
    except ProcessError:
        return False


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", EVERYWHERE])
def test_workers_share_a_held_place(host: str, port: int):
    with held([parse_address(f"{host}:{port}")]), ExitStack() as workers:
        for _ in range(3):
            workers.enter_context(sharer("127.0.0.1", port))
        socket.create_connection(("127.0.0.1", port)).close()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", EVERYWHERE),
        (EVERYWHERE, "127.0.0.1"),
        (EVERYWHERE, "[::]"),
        ("localhost", "127.0.0.1"),
    ],
)
def test_a_second_mixer_is_refused_before_between_and_after_workers(first, second, workers, port):
    with held([parse_address(f"{first}:{port}")]):
        assert not is_free(second, port)
        with ExitStack() as listening:
            for _ in range(workers):
                listening.enter_context(sharer("127.0.0.1", port))
            assert not is_free(second, port)
        assert not is_free(second, port), "while a worker is being replaced"
    assert is_free(second, port)


def test_another_address_at_the_same_port_is_free(port):
    with held([parse_address(f"127.0.0.1:{port}")]):
        assert is_free("127.0.0.2", port)


def serve_one_connection(listener: socket.socket, port: int) -> None:
    client = socket.create_connection(("127.0.0.1", port))
    served, _ = listener.accept()
    served.close()  # first, so that it is this end that waits
    client.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", EVERYWHERE, "[::]"])
def test_connections_of_a_mixer_that_ended_lately_do_not_keep_a_place(host, port):
    with held([parse_address(f"{host}:{port}")]), sharer("127.0.0.1", port) as listener:
        serve_one_connection(listener, port)
    assert is_free(host, port)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", EVERYWHERE, "[::]"])
def test_connections_of_another_program_that_ended_lately_do_not_either(host, port):
    with socket.create_server(("127.0.0.1", port)) as listener:
        assert not is_free(host, port)
        serve_one_connection(listener, port)
    with held([parse_address(f"{host}:{port}")]):
        assert not is_free(host, port), "it is held as any other"
        sharer("127.0.0.1", port).close()


def test_of_many_that_start_at_once_one_has_the_place(port):
    at_once, over = threading.Barrier(12), threading.Event()
    winners: list[str] = []
    losers: list[str] = []

    def start(host: str) -> None:
        at_once.wait()
        try:
            with held([parse_address(f"{host}:{port}")]):
                winners.append(host)
                over.wait(30)
        except ProcessError as error:
            losers.append(str(error))

    threads = [threading.Thread(target=start, args=(host,)) for host in ("127.0.0.1", EVERYWHERE) * 6]
    for thread in threads:
        thread.start()
    eventually(lambda: len(winners) + len(losers) == len(threads), "an outcome for each")
    over.set()
    for thread in threads:
        thread.join()
    assert len(winners) == 1
    assert len(losers) == 11


def test_to_take_a_place_is_not_begun_while_another_mixer_is_about_to(port):
    taken = threading.Event()

    def start() -> None:
        with held([parse_address(f"127.0.0.1:{port}")]):
            taken.set()

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(f"\0mixer-port-{port}")
        thread = threading.Thread(target=start)
        thread.start()
        assert not taken.wait(0.3)
    thread.join()
    assert taken.is_set()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "grpc.sock"


def refusal(path: Path) -> str:
    """What is said of a unix socket; nothing where it is free."""
    try:
        with held([Address(path=str(path))]):
            return ""
    except ProcessError as error:
        return str(error)


def test_a_unix_socket_is_held_before_between_and_after_workers_and_nothing_is_left_of_that(path: Path):
    with held([Address(path=str(path))]):
        assert f"unix://{path}" in refusal(path)
        with socket.socket(socket.AF_UNIX) as worker:
            worker.bind(str(path))
            worker.listen()
            assert "another mixer does" in refusal(path)
        path.unlink()
        assert "end that one, or write another address" in refusal(path), "while a worker is being replaced"
    assert refusal(path) == ""
    assert list(path.parent.iterdir()) == []


def test_a_unix_socket_by_another_name_of_its_folder_is_the_same(path: Path, tmp_path_factory: pytest.TempPathFactory):
    other = tmp_path_factory.mktemp("other") / "link"
    other.symlink_to(path.parent)
    with held([Address(path=str(path))]):
        assert refusal(other / path.name)


def test_of_many_that_start_at_once_one_has_the_unix_socket_for_as_long_as_it_lives(path: Path):
    """Each removes its file, perhaps while another one has just opened it."""
    inside, worst, rounds, lock = 0, 0, 0, threading.Lock()

    def start() -> None:
        nonlocal inside, worst, rounds
        for _ in range(50):
            with suppress(ProcessError), held([Address(path=str(path))]):
                with lock:
                    inside, rounds = inside + 1, rounds + 1
                    worst = max(worst, inside)
                time.sleep(0.0005)
                with lock:
                    inside -= 1

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rounds > 1
    assert worst == 1


def test_what_a_killed_mixer_left_keeps_nobody_out(path: Path):
    """Its file, and a socket at which nobody listens."""
    path.with_name("grpc.sock.lock").touch()
    with socket.socket(socket.AF_UNIX) as worker:
        worker.bind(str(path))
    assert refusal(path) == ""


def test_a_unix_socket_of_a_program_that_holds_nothing_is_refused_too(path: Path):
    with socket.socket(socket.AF_UNIX) as program:
        program.bind(str(path))
        program.listen()
        assert "another process does" in refusal(path)


def test_a_unix_socket_in_no_folder_is_refused_with_the_reason(path: Path):
    assert "(No such file or directory)" in refusal(path.parent / "missing" / "grpc.sock")


def test_a_place_that_is_not_ours_is_refused_by_name():
    with pytest.raises(ProcessError, match=r"cannot listen on 192\.0\.2\.1:9091"):
        held([parse_address("192.0.2.1:9091")]).__enter__()
