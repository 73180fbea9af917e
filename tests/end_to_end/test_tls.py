"""TLS between Envoy and mixer, from outside: all three services, who is refused, and certificates that change."""

from __future__ import annotations

import base64
import copy
import json
import os
import shutil
import signal
import socket
import ssl
import stat
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from mixer_py.demo.processes import Ports
from tests.end_to_end.conftest import ALLOW_ALL, NO_ROWS, MakeMixer, settings
from tests.parts.callers import Callers, limit_request
from tests.parts.certificates import Authority, Certificate, put
from tests.parts.envoy_proxy import EnvoyProxy, manager
from tests.parts.grpc_client import Client, check_request, connect, credentials
from tests.parts.mixer_process import Mixer, command_line, eventually
from tests.parts.programs import Programs
from tests.parts.upstream import Upstream

pytestmark = pytest.mark.chdb

ENVOY = "spiffe://cluster.local/ns/istio-system/sa/gateway"
OTHER = "spiffe://cluster.local/ns/shop/sa/till"


class World:
    """A folder of certificates, and mixer's configuration of them."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.authority = Authority(folder)
        self.own = self.authority.issue("server")
        self.envoy = self.authority.issue("envoy", uris=[ENVOY])
        self.other = self.authority.issue("other", uris=[OTHER])
        self.tls: dict[str, Any] = {
            "certificate": str(self.own.certificate), "key": str(self.own.key),
            "client_ca": str(self.authority.certificate),
        }  # fmt: skip

    def client(self, shown: Certificate | None) -> grpc.ChannelCredentials:
        return credentials(self.authority.certificate, shown)

    def configure(self, mixer: Mixer, **tls: Any) -> None:
        """Writes mixer's configuration with other settings of TLS."""
        whole = yaml.safe_load(mixer.file.read_text())
        whole["server"]["tls"] = {**self.tls, **tls}
        mixer.write("mixer.yaml", yaml.safe_dump(whole))


@pytest.fixture(params=["grpcio", pytest.param("envoy", marks=pytest.mark.envoy)])
def transport(request: pytest.FixtureRequest) -> str:
    """What carries checks and limits."""
    name: str = request.param
    return name


@pytest.fixture
def on_both(transport: str, make_mixer: MakeMixer) -> MakeMixer:
    """Makes a mixer whose checks and limits come by one of the transports; logs always come by grpcio."""

    def make(*policy: str, **rooms: Any) -> Mixer:
        mixer = make_mixer(*policy, **rooms)
        if transport == "envoy":
            mixer.use_envoy()
            mixer.configure(settings(mixer.folder, **rooms))
        return mixer

    return make


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "tls")


def shown_by(mixer: Mixer, world: World) -> str:
    """The serial number of the certificate that a new connection sees."""
    context = ssl.create_default_context(cafile=str(world.authority.certificate))
    context.load_cert_chain(world.envoy.certificate, world.envoy.key)
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", mixer.grpc), timeout=60) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
    ):
        return str(secure.getpeercert()["serialNumber"])


def refuses(client: Client) -> bool:
    """Whether mixer lets the peer do nothing, for who it is."""
    try:
        client.check(check_request())
    except grpc.RpcError as error:
        return error.code() is grpc.StatusCode.PERMISSION_DENIED
    return False


def speak_tls(bootstrap, shown: Certificate, authority: Path) -> None:
    """Lets Envoy speak TLS to mixer, as docs/tls.md has it, and log to the address that takes streams."""
    clusters = bootstrap["static_resources"]["clusters"]
    logs = copy.deepcopy(next(cluster for cluster in clusters if cluster["name"] == "mixer"))
    logs["name"] = logs["load_assignment"]["cluster_name"] = "logs"
    clusters.append(logs)
    common = manager(bootstrap)["access_log"][0]["typed_config"]["common_config"]
    common["grpc_service"] = {"envoy_grpc": {"cluster_name": "logs"}}
    context = {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": {
            "tls_certificates": [
                {"certificate_chain": {"filename": str(shown.certificate)}, "private_key": {"filename": str(shown.key)}}
            ],
            "validation_context": {
                "trusted_ca": {"filename": str(authority)},
                "match_typed_subject_alt_names": [{"san_type": "IP_ADDRESS", "matcher": {"exact": "127.0.0.1"}}],
            },
        },
    }
    for cluster in clusters:
        if cluster["name"] in {"mixer", "logs"}:
            cluster["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": context}


@pytest.fixture
def make_tls_envoy(programs: Programs, ports: Ports, upstream: Upstream) -> Callable[[Mixer], EnvoyProxy]:
    """Makes an Envoy that logs to where mixer takes streams; `speak_tls` says how."""
    return lambda mixer: EnvoyProxy(
        programs, ports, mixer=mixer.grpc, upstream=upstream.port, logs=int(mixer.logs.rpartition(":")[2])
    )


@pytest.mark.envoy
def test_envoy_checks_asks_for_quota_and_reports_over_mutual_tls(on_both, make_tls_envoy, world):
    tls = {**world.tls, "allow": [ENVOY]}
    mixer: Mixer = on_both(server={"tls": tls, "workers": 1})
    mixer.start()
    envoy: EnvoyProxy = make_tls_envoy(mixer)
    envoy.start(edit=lambda bootstrap: speak_tls(bootstrap, world.envoy, world.authority.certificate))
    answers = [envoy.request("/reviews/1", headers=[("x-tenant", "acme")]) for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    row = mixer.row(answers[3].header("x-request-id"))
    assert (row["verdict"], row["limit_code"], row["response_code"]) == ("allow", "OVER_LIMIT", 429)
    assert mixer.metric("mixer_peers_refused_total") == 0
    assert envoy.stats("cluster.mixer.ssl.handshake")["cluster.mixer.ssl.handshake"] >= 1


@pytest.mark.envoy
def test_an_envoy_whose_name_is_not_allowed_lets_no_request_through_and_leaves_no_row(on_both, make_tls_envoy, world):
    mixer: Mixer = on_both(server={"tls": {**world.tls, "allow": [OTHER], "services": {"health": [ENVOY]}}})
    mixer.start()
    envoy: EnvoyProxy = make_tls_envoy(mixer)
    envoy.start(edit=lambda bootstrap: speak_tls(bootstrap, world.envoy, world.authority.certificate))
    answer = envoy.request("/reviews/1", headers=[("x-tenant", "acme")])
    assert answer.status == 403, "the shipped failure mode of ext_authz"
    for service in ("ext_authz", "access_log"):
        eventually(
            lambda service=service: mixer.metric("mixer_peers_refused_total", service=service, reason="not_allowed"),
            f"a refused call of {service}",
        )
    assert mixer.rows("SELECT * FROM requests") == []
    assert mixer.metric("mixer_rows_total", table="requests") == 0


def test_a_forged_row_is_refused_the_peer_is_named_and_nobody_comes_in_without_tls(make_mixer, world):
    mixer: Mixer = make_mixer(server={"tls": {**world.tls, "services": {"access_log": [ENVOY]}}})
    mixer.start()
    with connect(mixer.address, world.client(world.other)) as client:
        assert client.check(check_request()).status.code == 0
        with pytest.raises(grpc.RpcError) as caught:
            client.log([b"\x12\x00"])
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert mixer.metric("mixer_peers_refused_total", listener=mixer.address, service="access_log") == 1
    assert OTHER in mixer.running.tail(200)
    assert mixer.rows("SELECT * FROM requests") == []
    for shown in (None, world.client(None)):
        with connect(mixer.address, shown) as plain, pytest.raises(grpc.RpcError) as caught:
            plain.check(check_request(), seconds=20)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    command = ["openssl", "s_client", "-connect", mixer.address, "-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    assert b"Cipher is (NONE)" in done.stdout


@pytest.mark.valkey
def test_rotation_under_traffic_fails_no_call_and_new_connections_see_what_is_new(on_both, world):
    mixer: Mixer = on_both(
        'package envoy.authz\n\nallow := {"allowed": true, "headers": {"x-version": "0"}}\n',
        server={"tls": {**world.tls, "allow": [ENVOY]}, "workers": 2},
        rate_limit={"timeout": "10s"},
        telemetry=NO_ROWS,
    )
    mixer.start()
    seen = {shown_by(mixer, world)}
    with Callers(mixer.address, world.client(world.envoy)) as callers:
        for number in range(2):
            put(world.authority.issue(f"renewed-{number}"), world.own)
            before = set(seen)
            eventually(
                lambda before=before: {shown_by(mixer, world) for _ in range(8)}.isdisjoint(before),
                "every worker shows what is new",
            )
            seen.add(shown_by(mixer, world))
            count = callers.seen["0"]
            eventually(lambda count=count: callers.seen["0"] > count + 10, "more answers")
    assert [str(failure) for failure in callers.failures] == []
    assert len(seen) == 3
    assert mixer.metric("mixer_certificate_renewals_total", listener=mixer.address, outcome="renewed") == 2
    assert mixer.metric("mixer_reloads_total", outcome="activated") == 0, "policies were not built anew for it"


def test_what_is_wrong_with_new_files_is_told_and_the_old_certificate_stays(on_both, world):
    mixer: Mixer = on_both(telemetry=NO_ROWS, server={"tls": world.tls})
    mixer.start()
    before = shown_by(mixer, world)
    expiry = mixer.metric("mixer_certificate_expiry_timestamp_seconds", listener=mixer.address)
    good = Certificate(*(shutil.copy(file, f"{file}.good") for file in world.own))
    good = Certificate(*map(Path, good))

    def faults() -> list[str]:
        found: list[str] = json.loads(mixer.get("/config").body)["certificate_faults"]
        return found

    def told(words: str) -> None:
        eventually(lambda: any(words in fault for fault in faults()), f"a fault that says: {words}")
        assert shown_by(mixer, world) == before
        assert mixer.metric("mixer_certificate_expiry_timestamp_seconds", listener=mixer.address) == expiry

    world.own.key.write_bytes(world.authority.issue("another").key.read_bytes())
    told("is not the key of")
    put(world.authority.issue("old", begins=timedelta(days=-2), ends=timedelta(days=-1)), world.own)
    told("expired at")
    world.own.certificate.unlink()
    told("cannot be read: No such file or directory")
    assert mixer.metric("mixer_certificate_renewals_total", outcome="refused") >= 3
    assert "certificate refused; the one in force stays" in mixer.running.tail(200)
    assert mixer.get("/healthz/ready").status == 200
    worker = mixer.worker()
    mixer.running.signal(signal.SIGHUP)  # a reload of all else goes on meanwhile
    mixer.reload(lambda: mixer.write("policy/policy.rego", ALLOW_ALL + "\nother := 1\n"))
    assert shown_by(mixer, world) == before
    assert mixer.worker() == worker
    put(good, world.own)
    eventually(lambda: faults() == [], "no fault any more")
    renewed = world.authority.issue("renewed")
    put(renewed, world.own)
    mixer.running.signal(signal.SIGHUP)
    eventually(lambda: shown_by(mixer, world) != before, "what is new")


def test_lists_of_peers_are_reloaded_and_hold_for_connections_that_live(on_both, world):
    mixer: Mixer = on_both(telemetry=NO_ROWS, server={"tls": {**world.tls, "allow": [ENVOY, OTHER]}})
    mixer.start()
    with connect(mixer.address, world.client(world.other)) as client:
        assert client.check(check_request()).status.code == 0
        mixer.reload(lambda: world.configure(mixer, allow=[ENVOY]))
        eventually(lambda: refuses(client), "the peer that is no longer on the list is refused")
    os.kill(before := mixer.worker(), signal.SIGKILL)
    eventually(lambda: mixer.worker() != before and mixer.get("/healthz/ready").status == 200, "another worker")
    with connect(mixer.address, world.client(world.other)) as client:
        assert refuses(client), "by a worker that started later, too"


def test_tls_itself_cannot_be_taken_away_while_mixer_runs(make_mixer, world):
    mixer: Mixer = make_mixer(telemetry=NO_ROWS, server={"tls": world.tls})
    mixer.start()
    whole = yaml.safe_load(mixer.file.read_text())
    del whole["server"]["tls"]
    mixer.write("mixer.yaml", yaml.safe_dump(whole))
    eventually(lambda: mixer.metric("mixer_reloads_total", outcome="refused"), "a refused reload")
    assert "server.listeners" in json.loads(mixer.get("/config").body)["last_reload_faults"][0]
    with connect(mixer.address, world.client(world.envoy)) as client:
        assert client.check(check_request()).status.code == 0


@pytest.mark.parametrize("spoil", ["key", "expired"])
def test_mixer_does_not_start_with_what_is_not_good(make_mixer, world, spoil):
    if spoil == "key":
        world.own.key.write_bytes(world.authority.issue("another").key.read_bytes())
    else:
        put(world.authority.issue("old", begins=timedelta(days=-2), ends=timedelta(days=-1)), world.own)
    mixer: Mixer = make_mixer(telemetry=NO_ROWS, server={"tls": world.tls})
    program = mixer.start(ready=False)
    assert program.wait(60) == 1
    assert f"server.tls.{'key' if spoil == 'key' else 'certificate'}" in program.tail()


def test_a_listener_that_others_reach_without_tls_says_so_at_the_start(make_mixer, tmp_path):
    mixer: Mixer = make_mixer(telemetry=NO_ROWS, server={"listeners": [{"address": "0.0.0.0:0"}]})
    mixer.start()
    assert "can be reached by other machines, without TLS" in mixer.running.tail(200)


@pytest.mark.envoy
def test_inside_envoy_failed_handshakes_are_counted_and_only_its_user_can_read_the_key(make_mixer, world):
    mixer: Mixer = make_mixer()
    mixer.use_envoy()
    mixer.configure(settings(mixer.folder, telemetry=NO_ROWS, server={"tls": world.tls}))
    mixer.start()
    arguments = command_line(mixer.worker())
    folder = Path(arguments[arguments.index("--config-path") + 1]).parent
    key = base64.b64encode(world.own.key.read_bytes()).decode()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = [file for file in folder.iterdir() if file.is_file()]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files if key in file.read_text()} == {0o600}
    assert not any("PRIVATE" in word or key in word for word in arguments)
    for shown in (None, world.client(None)):
        with connect(mixer.address, shown) as stranger, pytest.raises(grpc.RpcError):
            stranger.check(check_request())
    for reason in ("protocol", "no_certificate"):
        eventually(
            lambda reason=reason: mixer.metric("mixer_handshakes_failed_total", listener=mixer.address, reason=reason),
            f"handshakes that failed for {reason}",
        )
    assert "handshakes failed" in mixer.running.tail(200)
    with connect(mixer.address, world.client(world.envoy)) as client:
        assert client.check(check_request()).status.code == 0


@pytest.mark.envoy
def test_a_certificate_that_cannot_be_handed_to_envoy_is_told_and_tried_again(make_mixer, world):
    mixer: Mixer = make_mixer()
    mixer.use_envoy()
    mixer.configure(settings(mixer.folder, telemetry=NO_ROWS, server={"tls": world.tls}))
    mixer.start()
    worker, before = mixer.worker(), shown_by(mixer, world)
    arguments = command_line(worker)
    folder = Path(arguments[arguments.index("--config-path") + 1]).parent
    (file,) = folder.glob("*-own.json")
    kept = file.rename(file.with_suffix(".kept"))
    file.mkdir()
    put(world.authority.issue("renewed"), world.own)
    words = "a worker was not given its certificates; it shows those before"
    eventually(lambda: words in mixer.running.tail(200), "a line about it")
    assert (shown_by(mixer, world), mixer.worker()) == (before, worker)
    with connect(mixer.address, world.client(world.envoy)) as client:
        assert client.check(check_request()).status.code == 0
        file.rmdir()
        eventually(lambda: shown_by(mixer, world) != before, "what is new")
        assert client.check(check_request()).status.code == 0
    assert mixer.worker() == worker
    kept.unlink()


RULES = 3000
MANY_RULES = "".join(f'\nrule_{number} if input.parsed_path[0] == "path-{number}-of-many"\n' for number in range(RULES))


def policy(version: str) -> str:
    return f'package envoy.authz\n\nallow := {{"allowed": true, "headers": {{"x-version": "{version}"}}}}\n{MANY_RULES}'


def test_who_called_is_known_to_a_worker_that_has_taken_over(on_both, world):
    """Old connections stay with the predecessor, which judges, and vouches for them to its successor."""
    mixer: Mixer = on_both(policy("0"), telemetry=NO_ROWS, server={"tls": {**world.tls, "allow": [ENVOY, OTHER]}})
    mixer.start()
    give_back = limit_request("acme")
    give_back.hits_addend = 0
    give_back.descriptors[0].hits_addend.value = 1
    give_back.descriptors[0].MergeFromString(b"\x20\x01")  # is_negative_hits
    with (
        connect(mixer.address, world.client(world.envoy)) as envoy,
        connect(mixer.address, world.client(world.other)) as other,
    ):
        assert envoy.check(check_request()).ok_response.headers[0].header.value == "0"
        assert other.check(check_request()).ok_response.headers[0].header.value == "0"

        def change() -> None:
            mixer.write("policy/policy.rego", policy("1"))
            world.configure(mixer, allow=[ENVOY])

        mixer.reload(change)
        assert len(mixer.workers(2)) == 2, "a predecessor with connections, and its successor"
        assert envoy.check(check_request()).ok_response.headers[0].header.value == "1"
        assert envoy.limit(give_back).statuses, "only those who are authenticated may give hits back"
        eventually(lambda: refuses(other), "the list of the new revision holds for connections of the old worker")
