"""Two mixers behind the shipped Envoy configuration: one at a time may go, and no request notices."""

from __future__ import annotations

import signal
import threading
from collections import Counter

import pytest

from mixer_py.demo.processes import Ports
from tests.parts.envoy_proxy import Bootstrap, EnvoyProxy, manager
from tests.parts.mixer_process import Mixer, eventually
from tests.parts.programs import Programs

pytestmark = pytest.mark.envoy


@pytest.fixture
def mixers(programs: Programs, ports: Ports, tmp_path) -> list[Mixer]:
    made = []
    for name in ("one", "other"):
        mixer = Mixer(programs, ports, tmp_path / name)
        mixer.write("policy/policy.rego", "package envoy.authz\n\nallow := true\n")
        mixer.configure({"policy": {"bundles": ["policy"]}})
        mixer.start()
        made.append(mixer)
    return made


def test_mixers_restart_one_by_one_under_load_and_no_request_notices(mixers, programs, ports, upstream):
    one, other = mixers
    envoy = EnvoyProxy(programs, ports, mixer=(one.grpc, other.grpc), upstream=upstream.port)

    def flush_seldom(bootstrap: Bootstrap) -> None:
        log = manager(bootstrap)["access_log"][0]["typed_config"]["common_config"]
        log["buffer_flush_interval"] = (
            "1s"  # a log stream that is never quiet is listened to for the whole drain_timeout
        )

    envoy.start(edit=flush_seldom)
    seen: Counter[int] = Counter()
    done = threading.Event()

    def send_on_and_on() -> None:
        while not done.is_set():
            seen[envoy.request("/").status] += 1

    senders = [threading.Thread(target=send_on_and_on) for _ in range(3)]
    for sender in senders:
        sender.start()
    try:
        for mixer in (one, other):
            before = seen.total()
            eventually(lambda before=before: seen.total() >= before + 50, "requests before")
            mixer.running.signal(signal.SIGTERM)
            assert mixer.running.wait(60) == 0
            before = seen.total()
            eventually(lambda before=before: seen.total() >= before + 50, "requests while one is away")
            mixer.start()
            eventually(lambda mixer=mixer: mixer.metric("mixer_checks_total") > 0, "checks at the one that came back")
    finally:
        done.set()
        for sender in senders:
            sender.join()
    assert set(seen) == {200}, seen
