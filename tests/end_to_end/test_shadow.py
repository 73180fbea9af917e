"""A candidate on live traffic: its verdicts stand beside the live ones, and nothing it does touches a live check."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

import pytest

from tests.bundles.archives import pack
from tests.bundles.web_server import Page, WebServer
from tests.parts.grpc_client import Client, check_request, connect
from tests.parts.mixer_process import Mixer, eventually

pytestmark = pytest.mark.chdb

CANDIDATE = """package envoy.authz

allow := {"allowed": input.attributes.request.http.method == "GET", "reasons": ["only GET"], "rule": "methods"}
"""
LOOPS = """package envoy.authz

default allow := true

allow := false if {
    input.parsed_path[0] == "loop"
    numbers := numbers.range(1, 3000)
    some first in numbers
    some second in numbers
    some third in numbers
    first + second + third < 0
}
"""


def shadow(**keys: Any) -> dict[str, Any]:
    return {"policy": {"shadow": {"bundles": ["candidate"], "share": 1.0, "timeout": "5s", **keys}}}


def described(mixer: Mixer) -> dict[str, Any]:
    return json.loads(mixer.get("/policies").body)["shadow"]


def wait_for_candidate(mixer: Mixer, client: Client) -> None:
    """Returns once the candidate has answered."""

    def answered() -> bool:
        client.check(check_request("/warm-up"))
        return mixer.metric("mixer_shadow_checks_total", shadow="allow") > 0

    eventually(answered, "a verdict of the candidate")


def rows(mixer: Mixer, path: str, count: int) -> list[dict[str, Any]]:
    sql = f"SELECT * FROM decisions WHERE request_url_path = '{path}' ORDER BY timestamp"
    return eventually(lambda: found if len(found := mixer.rows(sql)) >= count else None, f"{count} rows of {path}")


def test_both_verdicts_stand_side_by_side(make_mixer):
    mixer = make_mixer(**shadow())
    mixer.write("candidate/policy.rego", CANDIDATE)
    mixer.start()
    with connect(mixer.address) as client:
        wait_for_candidate(mixer, client)
        for method in ("GET", "POST"):
            assert client.check(check_request("/both", method=method)).status.code == 0
    found = {row["request_method"]: row for row in rows(mixer, "/both", 2)}
    assert {method: (row["verdict"], row["shadow_verdict"]) for method, row in found.items()} == {
        "GET": ("allow", "allow"),
        "POST": ("allow", "deny"),
    }
    assert found["POST"]["shadow_reasons"] == "only GET"
    assert found["POST"]["shadow_revision"] == described(mixer)["revision"]
    assert mixer.metric("mixer_shadow_checks_total", live="allow", shadow="deny") == 1


def test_a_candidate_that_never_ends_delays_no_check_and_loses_no_row(make_mixer):
    mixer = make_mixer(**shadow(timeout="1s"))
    mixer.write("candidate/policy.rego", LOOPS)
    mixer.start()
    with connect(mixer.address) as client:
        wait_for_candidate(mixer, client)
        client.check(check_request("/loop"))
        for _ in range(50):  # while the candidate evaluates
            assert client.check(check_request("/meanwhile")).status.code == 0
        meanwhile = rows(mixer, "/meanwhile", 50)
        assert {row["shadow_verdict"] for row in meanwhile} <= {"timeout", "error", "dropped"}
        assert rows(mixer, "/loop", 1)[0]["shadow_verdict"] in {"timeout", "error"}
        eventually(
            lambda: mixer.metric("mixer_worker_restarts_total", process="shadow", reason="stalled") == 1,
            "the candidate's process is replaced",
        )
        assert mixer.metric("mixer_worker_restarts_total", process="worker") == 0
        before = mixer.metric("mixer_shadow_checks_total", shadow="allow")
        eventually(
            lambda: (
                client.check(check_request()) and mixer.metric("mixer_shadow_checks_total", shadow="allow") > before
            ),
            "a verdict of its successor",
        )


def test_rows_that_wait_for_a_verdict_are_written_at_the_end(make_mixer):
    mixer = make_mixer(**shadow(timeout="2s"))
    mixer.write("candidate/policy.rego", LOOPS)
    mixer.start()
    with connect(mixer.address) as client:
        wait_for_candidate(mixer, client)
        client.check(check_request("/loop"))
        for _ in range(20):
            client.check(check_request("/held"))
    assert mixer.running.stop() == 0
    mixer.start()
    assert {row["shadow_verdict"] for row in rows(mixer, "/held", 20)} <= {"timeout", "error", "dropped"}
    assert len(rows(mixer, "/loop", 1)) == 1


def test_a_faulty_candidate_is_shown_and_the_policies_in_force_do_not_know(make_mixer):
    mixer = make_mixer(**shadow())
    mixer.configure({"policy": {"bundles": ["policy"], **shadow()["policy"]}})  # rows are kept nowhere
    mixer.write("candidate/policy.rego", "package envoy.authz\n\nallow := io.jwt.decode(\n")
    validated = mixer.run("validate")
    assert validated.returncode == 1
    assert "candidate/policy.rego:" in validated.stdout
    mixer.start()
    eventually(lambda: described(mixer)["faults"], "the candidate's fault")
    revision = mixer.revision()
    assert "candidate/policy.rego:" in described(mixer)["faults"][0]
    assert "candidate/policy.rego:" in json.loads(mixer.get("/config").body)["candidate_faults"][0]
    assert (described(mixer)["running"], described(mixer)["revision"]) == (False, None)
    mixer.write("candidate/policy.rego", CANDIDATE)
    first = eventually(lambda: described(mixer)["revision"], "the candidate, mended")
    assert described(mixer)["faults"] == []
    with connect(mixer.address) as client:
        wait_for_candidate(mixer, client)
        mixer.write("candidate/policy.rego", CANDIDATE.replace("only GET", "GET alone"))
        second = eventually(lambda: found if (found := described(mixer)["revision"]) != first else None, "another")
        mixer.write("candidate/policy.rego", "package envoy.authz\n\nallow := {\n")
        eventually(lambda: described(mixer)["faults"], "the candidate's fault")
        assert (described(mixer)["running"], described(mixer)["revision"]) == (True, second)
        before = mixer.metric("mixer_shadow_checks_total", shadow="deny")
        client.check(check_request(method="POST"))
        eventually(lambda: mixer.metric("mixer_shadow_checks_total", shadow="deny") > before, "the last good decides")
    assert mixer.revision() == revision  # the policies in force were not even loaded again
    assert mixer.metric("mixer_reloads_total") == 0
    mixer.reload(lambda: mixer.configure({"policy": {"bundles": ["policy"]}}))
    eventually(lambda: not mixer.children("mixer_py.runtime.shadow"), "the end of the candidate's process")
    assert described(mixer) is None
    assert mixer.metric("mixer_worker_restarts_total") == 0


def test_another_candidate_takes_over_without_a_missing_verdict_and_a_killed_one_is_replaced(make_mixer):
    mixer = make_mixer(**shadow())
    mixer.configure({"policy": {"bundles": ["policy"], **shadow()["policy"]}})  # rows are kept nowhere
    mixer.write("candidate/policy.rego", CANDIDATE)
    mixer.start()
    with connect(mixer.address) as client:
        wait_for_candidate(mixer, client)
        first = described(mixer)["revision"]
        mixer.write("candidate/policy.rego", CANDIDATE.replace("only GET", "GET alone"))
        end = time.monotonic() + 60
        while described(mixer)["revision"] == first:
            assert time.monotonic() < end
            client.check(check_request())
        for _ in range(20):
            client.check(check_request())
        (pid,) = eventually(
            lambda: found if len(found := mixer.children("mixer_py.runtime.shadow")) == 1 else None, "one left"
        )
        missing = sum(mixer.metric("mixer_shadow_checks_total", shadow=verdict) for verdict in ("error", "timeout"))
        assert missing == 0
        assert mixer.metric("mixer_worker_restarts_total") == 0

        mixer.write("candidate/policy.rego", "package envoy.authz\n\nallow := {\n")  # what decides was read before
        os.kill(pid, signal.SIGKILL)
        before = mixer.metric("mixer_shadow_checks_total", shadow="allow")
        eventually(
            lambda: (
                client.check(check_request()) and mixer.metric("mixer_shadow_checks_total", shadow="allow") > before
            ),
            "a verdict of its successor",
        )
    assert mixer.metric("mixer_worker_restarts_total", process="shadow", reason="killed") == 1
    assert mixer.metric("mixer_worker_restarts_total", process="worker") == 0


def test_a_candidate_comes_from_a_server_that_may_be_away(make_mixer, ports):
    place = ports.take()
    mixer = make_mixer()
    fetch = {"min_delay": "100ms", "max_delay": "200ms", "timeout": "5s", "folder": str(mixer.folder / "state")}
    candidate = {"bundles": [f"http://127.0.0.1:{place}/candidate.tar.gz"], "share": 1.0, "timeout": "5s"}
    mixer.configure({"policy": {"bundles": ["policy"], "fetch": fetch, "shadow": candidate}})
    mixer.start()  # and is ready without it
    server = WebServer(place)
    try:
        server.pages["/candidate.tar.gz"] = Page(pack(mixer.folder / "1.tar.gz", {"p.rego": CANDIDATE}).read_bytes())
        first = eventually(lambda: described(mixer)["revision"], "the candidate")
        with connect(mixer.address) as client:
            wait_for_candidate(mixer, client)
        bad = {"p.rego": "package envoy.authz\n\nallow := {\n"}
        server.pages["/candidate.tar.gz"] = Page(pack(mixer.folder / "bad.tar.gz", bad).read_bytes())
        eventually(lambda: described(mixer)["faults"], "the fault of what came")
        assert (described(mixer)["running"], described(mixer)["revision"]) == (True, first)
        better = CANDIDATE.replace("only GET", "GET alone")
        server.pages["/candidate.tar.gz"] = Page(pack(mixer.folder / "2.tar.gz", {"p.rego": better}).read_bytes())
        eventually(lambda: described(mixer)["revision"] != first, "the candidate that is better")
        eventually(lambda: not described(mixer)["faults"], "no fault")
    finally:
        server.end()
    assert mixer.metric("mixer_reloads_total") == 0
