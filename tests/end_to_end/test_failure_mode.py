"""What Envoy does while mixer is away, and that nobody has to heal it."""

from __future__ import annotations

import pytest

from tests.parts.envoy_proxy import http_filter
from tests.parts.mixer_process import eventually

pytestmark = [pytest.mark.envoy, pytest.mark.chdb]


def test_killed_mixer_means_403_and_a_restart_heals_it(make_mixer, make_envoy):
    mixer = make_mixer()
    mixer.start()
    envoy = make_envoy(mixer)
    envoy.start()
    assert envoy.request("/").status == 200
    mixer.running.kill()
    assert [envoy.request("/").status for _ in range(3)] == [403, 403, 403]
    mixer.start()
    healed = eventually(lambda: (response := envoy.request("/")).status == 200 and response, "200 after a restart")
    assert mixer.row(healed.header("x-request-id"))["verdict"] == "allow"


def test_requests_that_passed_unchecked_say_so_in_their_rows(make_mixer, make_envoy):
    mixer = make_mixer()
    envoy = make_envoy(mixer)
    envoy.start(edit=lambda bootstrap: http_filter(bootstrap, "ext_authz").update(failure_mode_allow=True))
    forged = envoy.request("/", headers=[("x-envoy-auth-failure-mode-allowed", "true")])
    assert forged.status == 200
    mixer.start()  # Envoy kept its log until now
    assert mixer.row(forged.header("x-request-id"))["verdict"] == "bypassed"

    def check_again() -> bool:
        return "x-envoy-auth-failure-mode-allowed" not in envoy.request("/").sent

    eventually(check_again, "a check that reaches mixer")
    honest = envoy.request("/", headers=[("x-envoy-auth-failure-mode-allowed", "true")])
    assert "x-envoy-auth-failure-mode-allowed" not in honest.sent
    assert mixer.row(honest.header("x-request-id"))["verdict"] == "allow"


def test_denied_by_an_error_of_the_policy_says_error(make_mixer, make_envoy):
    mixer = make_mixer('package envoy.authz\n\nallow := "neither true nor an object"\n')
    mixer.start()
    envoy = make_envoy(mixer)
    envoy.start()
    response = envoy.request("/")
    assert response.status == 403
    row = mixer.row(response.header("x-request-id"))
    assert (row["verdict"], row["response_code"]) == ("error", 403)
    (decision,) = eventually(
        lambda: mixer.rows(f"SELECT * FROM decisions WHERE request_id = '{row['request_id']}'"), "the decision's row"
    )
    assert decision["verdict"] == "error"
    assert "result" in decision["error"]
