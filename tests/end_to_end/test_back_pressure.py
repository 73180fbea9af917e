"""ClickHouse is slower than the traffic: with back-pressure mixer reads no further, and Envoy drops and counts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.parts.envoy_proxy import Bootstrap, EnvoyProxy, manager
from tests.parts.mixer_process import Mixer, eventually

pytestmark = [pytest.mark.envoy, pytest.mark.chdb, pytest.mark.long(1)]

SLOW = {"rows": 20, "block_rows": 4, "block_interval": "1ms"}
"""A part for every four rows takes chDB far longer than Envoy needs for four requests."""
LONG = "/open/" + "x" * 50_000
AT_ONCE, MOST = 8, 6_000


def small_buffers(bootstrap: Bootstrap) -> None:
    common = manager(bootstrap)["access_log"][0]["typed_config"]["common_config"]
    common.update(buffer_size_bytes=262_144, buffer_flush_interval="0.05s")
    (cluster,) = (one for one in bootstrap["static_resources"]["clusters"] if one["name"] == "mixer")
    cluster["per_connection_buffer_limit_bytes"] = 262_144


def books(mixer: Mixer) -> dict[str, float]:
    return {
        state: mixer.metric("mixer_rows_total", table="requests", state=state)
        for state in ("received", "written", "dropped")
    }


@pytest.mark.parametrize("spool", [{}, {"spool": {"directory": "spool", "bytes": "1MiB"}}], ids=["memory", "spool"])
def test_envoy_drops_what_mixer_has_no_room_for_and_every_request_is_in_one_of_both_books(
    make_mixer, make_envoy, spool
):
    mixer: Mixer = make_mixer(telemetry={"queue": SLOW, "when_full": "back_pressure", **spool})
    mixer.start()
    envoy: EnvoyProxy = make_envoy(mixer)
    envoy.start(edit=small_buffers)

    def dropped() -> int:
        return envoy.stats("access_logs.grpc_access_log.logs_dropped")["access_logs.grpc_access_log.logs_dropped"]

    sent = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        while not dropped():
            assert sent < MOST, books(mixer)
            statuses = set(pool.map(lambda _: envoy.request(LONG).status, range(100)))
            assert statuses == {200}, "checks are answered while logs are held back"
            sent += 100
            assert mixer.metric("mixer_queue_rows", table="requests") < 1_000
    eventually(lambda: books(mixer)["received"] + dropped() == sent, "every request in one of both books", 400)
    eventually(lambda: books(mixer)["written"] == books(mixer)["received"], "what mixer took is written", 400)
    assert books(mixer)["dropped"] == 0
    assert mixer.metric("mixer_access_log_held_seconds_total") > 0.1
    assert len(mixer.rows("SELECT 1 FROM requests")) == sent - dropped()
