"""Quotas counted in a Valkey that is killed: what clients get is what `rate_limit.on_error` says, and it heals."""

from __future__ import annotations

import pytest

from tests.end_to_end.conftest import settings
from tests.parts.mixer_process import eventually
from tests.parts.valkey import Valkey

pytestmark = [pytest.mark.envoy, pytest.mark.valkey]


@pytest.mark.parametrize(
    ("on_error", "status", "row"),
    [
        ("error", 403, {"decided_verdict": "error", "decided_quota_code": "ERROR"}),
        ("allow", 200, {"verdict": "allow", "quota_code": "ERROR", "decided_verdict": "allow"}),
        ("deny", 429, {"verdict": "deny", "quota_code": "ERROR", "decided_verdict": "deny"}),
    ],
)
def test_a_killed_store_is_what_on_error_says(make_mixer, make_envoy, programs, ports, on_error, status, row):
    valkey = Valkey(programs, ports)
    mixer = make_mixer()
    whole = settings(mixer.folder)
    quota = {"name": "counted-elsewhere", "limit": "2 / 1d"}
    whole["rate_limit"] = {"store": valkey.uri, "timeout": "10s", "on_error": on_error, "quotas": [quota]}
    mixer.configure(whole)
    mixer.start()
    envoy = make_envoy(mixer)
    envoy.start()
    assert envoy.request("/").status == 200
    valkey.kill()
    response = eventually(lambda: (answer := envoy.request("/")).status == status and answer, f"HTTP {status}")
    request_id = mixer.row(response.header("x-request-id"))["request_id"]
    sql = f"SELECT * FROM request_decisions WHERE request_id = '{request_id}' AND joined_by != ''"
    (found,) = eventually(lambda: mixer.rows(sql), "both rows")
    assert {name: found[name] for name in row} == row
    assert mixer.metric("mixer_quotas_total", quota="counted-elsewhere", code="ERROR") >= 1
    valkey.start()
    eventually(lambda: envoy.request("/").status == 200, "quotas are counted again")
    eventually(lambda: envoy.request("/").status == 429, "and hold again")
