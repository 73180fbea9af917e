"""Children that die, hang or lose their parent: nothing stops for long or is lost in silence, and nothing stays."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import grpc
import pytest

from tests.end_to_end.conftest import LOOPING, NO_ROWS
from tests.parts.grpc_client import Client, check_request, connect
from tests.parts.mixer_process import Mixer, child_processes, eventually, is_running


def checks_again(client: Client) -> bool:
    try:
        return client.check(check_request()).status.code == 0
    except grpc.RpcError:
        return False


def restarts(mixer: Mixer) -> float:
    return mixer.metric("mixer_worker_restarts_total")


def test_a_killed_worker_is_replaced_and_counters_do_not_go_back(make_mixer):
    mixer = make_mixer(telemetry=NO_ROWS)
    mixer.start()
    with connect(mixer.address) as client:
        for _ in range(10):
            client.check(check_request())
        assert mixer.metric("mixer_checks_total") == 10
        before = mixer.worker()
        os.kill(before, signal.SIGKILL)
        eventually(lambda: restarts(mixer) == 1, "a counted restart")
        eventually(lambda: checks_again(client), "checks by another worker")
    assert mixer.worker() != before
    assert mixer.metric("mixer_checks_total") == 11


@pytest.mark.envoy
def test_a_killed_worker_costs_the_requests_through_envoy_no_more_than_a_moment(make_mixer, make_envoy):
    mixer = make_mixer(telemetry=NO_ROWS)
    mixer.start()
    envoy = make_envoy(mixer)
    envoy.start()
    assert envoy.request("/").status == 200
    os.kill(mixer.worker(), signal.SIGKILL)
    eventually(lambda: envoy.request("/").status == 200, "200 by another worker")


@pytest.mark.chdb
@pytest.mark.envoy
def test_without_the_store_checks_go_on_and_rows_arrive_later(make_mixer, make_envoy):
    mixer = make_mixer()
    mixer.start()
    envoy = make_envoy(mixer)
    envoy.start()
    mixer.row(envoy.request("/").header("x-request-id"))
    before = mixer.store()
    os.kill(before, signal.SIGKILL)
    responses = [envoy.request(f"/{number}") for number in range(20)]
    assert {response.status for response in responses} == {200}
    for response in responses:
        mixer.row(response.header("x-request-id"), "request_id")
    assert mixer.store() != before
    wanted = ", ".join(f"'{response.header('x-request-id')}'" for response in responses)
    (counted,) = mixer.rows(f"SELECT count() AS rows FROM requests WHERE request_id IN ({wanted})")
    assert int(counted["rows"]) == 20
    assert mixer.metric("mixer_rows_total", state="dropped") == 0


def test_a_policy_that_loops_costs_one_worker(make_mixer):
    mixer = make_mixer(LOOPING, telemetry=NO_ROWS, policy={"max_stall": "300ms"})
    mixer.start()
    before = mixer.worker()
    with connect(mixer.address) as client:
        assert checks_again(client)
        with pytest.raises(grpc.RpcError) as failure:
            client.check(check_request("/loop"))
        assert failure.value.code() == grpc.StatusCode.UNAVAILABLE
        eventually(lambda: checks_again(client), "checks by another worker")
    assert mixer.metric("mixer_worker_restarts_total", reason="stalled") == 1
    assert mixer.worker() != before


def test_slow_but_permitted_evaluations_cost_no_worker(make_mixer):
    slow = LOOPING.replace("numbers.range(1, 10000)", "numbers.range(1, 300)")
    mixer = make_mixer(slow, telemetry=NO_ROWS, policy={"max_stall": "30s"})
    mixer.start()
    with connect(mixer.address) as client:
        assert client.check(check_request("/loop")).status.code == 0
    assert restarts(mixer) == 0


@pytest.mark.chdb
def test_where_processors_are_short_checks_come_before_rows(make_mixer):
    mixer = make_mixer()
    mixer.start()
    niceness = {name: os.getpriority(os.PRIO_PROCESS, pid) for name, pid in
                (("worker", mixer.worker()), ("store", mixer.store()), ("test", os.getpid()))}  # fmt: skip
    assert niceness["worker"] == niceness["test"]
    assert niceness["store"] > niceness["worker"]


@pytest.mark.chdb
def test_every_child_ends_when_the_supervisor_is_killed(make_mixer):
    mixer = make_mixer()
    mixer.start()
    mixer.store()
    mixer.worker()
    family = child_processes(mixer.running.pid)
    family += [grandchild for child in family for grandchild in child_processes(child)]
    assert len(family) >= 2
    os.kill(mixer.running.pid, signal.SIGKILL)  # the supervisor alone, not its process group
    eventually(lambda: not any(is_running(pid) for pid in family), "the end of every child")
    mixer.running.kill()
    mixer.start()  # nothing that stayed behind keeps it from starting
    with connect(mixer.address) as client:
        assert checks_again(client)


def test_a_second_mixer_on_the_same_port_is_refused_and_the_first_goes_on(make_mixer):
    first = make_mixer()
    first.configure({"policy": {"bundles": ["policy"]}})
    first.start()
    second = make_mixer()
    second.grpc = first.grpc
    second.configure({"policy": {"bundles": ["policy"]}, "server": {"socket": str(second.folder / "second.sock")}})
    program = second.start(ready=False)
    assert program.wait(60) == 1
    assert str(first.grpc) in program.tail()
    assert "in use" in program.tail()
    with connect(first.address) as client:
        assert checks_again(client)


@pytest.mark.parametrize("transport", ["grpcio", pytest.param("envoy", marks=pytest.mark.envoy)])
def test_a_second_mixer_on_the_same_unix_socket_is_refused_also_while_nobody_listens_there(
    make_mixer, tmp_path, transport
):
    """As in the moment in which a worker is replaced; a look at the socket alone would find it free."""
    place = tmp_path / "s"
    server = {"listeners": [{"address": f"unix://{place}", "transport": transport, "services": ["ext_authz"]}]}
    first = make_mixer()
    first.configure({"policy": {"bundles": ["policy"]}, "server": server})
    first.start()
    second = make_mixer()
    own = {**server, "socket": str(second.folder / "second.sock")}
    second.configure({"policy": {"bundles": ["policy"]}, "server": own})
    moved = place.rename(tmp_path / "moved")
    program = second.start(ready=False)
    assert program.wait(60) == 1
    assert f"cannot listen on unix://{place}: another mixer does" in program.tail()
    moved.rename(place)
    with connect(f"unix://{place}") as client:
        assert checks_again(client)
    assert first.running.stop(60) == 0
    second.start()
    with connect(f"unix://{place}") as client:
        assert checks_again(client)


def test_the_socket_of_a_living_mixer_is_not_stolen(make_mixer):
    first = make_mixer()
    first.configure({"policy": {"bundles": ["policy"]}})
    first.start()
    second = make_mixer()  # in the same folder, so with the same socket
    second.configure({"policy": {"bundles": ["policy"]}})
    program = second.start(ready=False)
    assert program.wait(60) == 1
    assert "mixer.sock" in program.tail()


def test_processes_that_verify_no_token_and_no_certificate_do_not_load_what_does(make_mixer):
    mixer = make_mixer(telemetry={"clickhouse": None})
    mixer.start()
    with connect(mixer.address) as client:
        client.check(check_request())
    for pid in (mixer.running.pid, mixer.worker()):
        loaded = Path(f"/proc/{pid}/maps").read_text()
        assert "python" in loaded
        assert "cryptography" not in loaded
