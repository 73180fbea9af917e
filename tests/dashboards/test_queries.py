"""Every query of Istio's dashboards, asked of a real Prometheus after traffic of real Envoys.

One mesh for all of them: to set it up takes most of the time.
"""

from __future__ import annotations

import pytest

from mixer_py.demo.processes import Ports
from tests.dashboards import grafana, istio
from tests.dashboards.mesh import Mesh
from tests.parts.mixer_process import Mixer
from tests.parts.programs import Programs
from tests.parts.upstream import Upstream

pytestmark = [pytest.mark.prometheus, pytest.mark.envoy, pytest.mark.chdb]

REPORTERS = ["source", "destination", "(destination|source)"]
"""What $qrep of Istio's dashboards can be set to; the last is both."""


@pytest.fixture(scope="module")
def mesh(module_programs: Programs, ports: Ports, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Mesh:
    """The mesh after its traffic, all of it scraped."""
    folder = tmp_path_factory.mktemp("mesh")
    mixer = Mixer(module_programs, ports, folder)
    mixer.write("policy/policy.rego", "package envoy.authz\n\nallow := true\n")
    mixer.configure(
        {
            "policy": {"bundles": ["policy"]},
            "telemetry": {"clickhouse": {"url": f"chdb://{folder}/chdb"}},
        }
    )
    mixer.start()
    mesh = Mesh(module_programs, ports, mixer, upstream.port)
    mesh.work(rounds=3)
    return mesh


def test_no_query_of_istio_is_missing():
    numbers = {d["dashboard"]: len(list(istio.queries(d))) for d in istio.DASHBOARDS}
    assert numbers == {
        "Istio Mesh Dashboard": 12,
        "Istio Service Dashboard": 76,
        "Istio Workload Dashboard": 71,
    }


@pytest.mark.parametrize("reporter", REPORTERS)
@pytest.mark.parametrize("dashboard", istio.DASHBOARDS, ids=lambda dashboard: dashboard["dashboard"])
def test_istios_dashboards_show_data_or_are_listed_as_empty(dashboard, reporter, mesh):
    ways = list(grafana.ways_to_set(dashboard["variables"], {"qrep": reporter}, mesh.prometheus.now))
    assert ways, "a variable of the dashboard offers nothing to choose"
    shown, empty = set(), set()
    for query in istio.queries(dashboard):
        asked = (grafana.prometheus(query.expression, way) for way in ways)
        (shown if any(map(mesh.shows, asked)) else empty).add(query)
    listed = {query for query in shown | empty if any(istio.is_listed(query, reporter, entry) for entry in istio.EMPTY)}
    assert shown
    assert sorted({str(query) for query in empty - listed}) == [], "these show nothing, and istio_empty.yaml is silent"
    assert sorted({str(query) for query in listed & shown}) == [], "istio_empty.yaml says that these show nothing"


@pytest.mark.parametrize("entry", istio.EMPTY, ids=lambda entry: entry["why"].partition(".")[0])
def test_what_is_listed_as_empty_exists(entry):
    assert any(
        istio.is_listed(query, reporter, entry)
        for dashboard in istio.DASHBOARDS
        for query in istio.queries(dashboard)
        for reporter in REPORTERS
    )
