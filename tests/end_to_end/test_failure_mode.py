"""What Envoy does while mixer is away, and that nobody has to heal it."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest

from tests.parts.envoy_proxy import Bootstrap, http_filter
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


def checks_go_nowhere(port: int) -> Callable[[Bootstrap], None]:
    """Sends checks to a port where nobody listens, and fails open; the access log still reaches mixer."""

    def edit(bootstrap: Bootstrap) -> None:
        clusters = bootstrap["static_resources"]["clusters"]
        away = copy.deepcopy(next(cluster for cluster in clusters if cluster["name"] == "mixer"))
        away["name"] = away["load_assignment"]["cluster_name"] = "away"
        endpoint = away["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
        endpoint["address"]["socket_address"]["port_value"] = port
        clusters.append(away)
        check = http_filter(bootstrap, "ext_authz")
        check["failure_mode_allow"] = True
        check["grpc_service"]["envoy_grpc"]["cluster_name"] = "away"

    return edit


def test_a_request_that_passed_unchecked_says_so_in_its_row(make_mixer, make_envoy, ports):
    mixer = make_mixer()
    mixer.start()
    envoy = make_envoy(mixer)
    envoy.start(edit=checks_go_nowhere(ports.take()))
    response = envoy.request("/")
    assert response.status == 200
    assert response.sent["x-envoy-auth-failure-mode-allowed"] == "true"
    assert mixer.row(response.header("x-request-id"))["verdict"] == "bypassed"


def test_a_client_cannot_pretend_that_its_request_passed_unchecked(make_mixer, make_envoy):
    mixer = make_mixer()
    mixer.start()
    envoy = make_envoy(mixer)
    envoy.start()
    response = envoy.request("/", headers=[("x-envoy-auth-failure-mode-allowed", "true")])
    assert "x-envoy-auth-failure-mode-allowed" not in response.sent
    assert mixer.row(response.header("x-request-id"))["verdict"] == "allow"


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
