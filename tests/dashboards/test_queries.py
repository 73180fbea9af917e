"""Every query of Istio's dashboards, of ours and of the rules, asked of real parts after traffic of real Envoys.

One mesh for all of them: to set it up takes most of the time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from mixer_py.demo.processes import Ports
from tests.dashboards import grafana, istio, ours, scene
from tests.dashboards.mesh import Mesh
from tests.parts.echo import Echo
from tests.parts.programs import Programs
from tests.parts.upstream import Upstream

pytestmark = [pytest.mark.prometheus, pytest.mark.envoy, pytest.mark.chdb, pytest.mark.valkey, pytest.mark.long(2)]

REPORTERS = ["source", "destination", "(destination|source)"]
"""What $qrep of Istio's dashboards can be set to; the last is both."""


@pytest.fixture(scope="module")
def mesh(
    module_programs: Programs, ports: Ports, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mesh]:
    """The mesh after its traffic, all of it scraped and stored."""
    mixer = scene.prepare(module_programs, ports, tmp_path_factory.mktemp("mesh"))
    with Echo() as echo:
        thread = threading.Thread(target=echo.serve_forever, kwargs={"poll_interval": 0.05}, name="echo")
        thread.start()
        try:
            mesh = Mesh(module_programs, ports, mixer, http=upstream.port, tcp=echo.port)
            scene.play(mesh, rounds=3)
            yield mesh
        finally:
            echo.shutdown()
            thread.join()


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
    silent = "\n".join(sorted({str(query) for query in empty - listed}))
    assert not silent, f"these show nothing, and istio_empty.yaml does not say why:\n{silent}"
    wrong = "\n".join(sorted({str(query) for query in listed & shown}))
    assert not wrong, f"istio_empty.yaml says that these show nothing:\n{wrong}"


@pytest.mark.parametrize("entry", istio.EMPTY, ids=lambda entry: entry["why"].partition(".")[0])
def test_what_is_listed_as_empty_exists(entry):
    assert any(
        istio.is_listed(query, reporter, entry)
        for dashboard in istio.DASHBOARDS
        for query in istio.queries(dashboard)
        for reporter in REPORTERS
    )


@pytest.mark.parametrize("name", ours.DASHBOARDS)
def test_our_dashboards_show_data_or_are_listed_as_empty(name, mesh):
    ways = ours.ways_to_set(name, mesh)
    shown, empty = set(), set()
    for query in ours.queries(name):
        answers = [shows(mesh, query, way) for way in ways]  # of every way: each has to be a valid query
        (shown if any(answers) else empty).add(query)
    always = [entry for entry in ours.EMPTY if not entry.get("sometimes")]
    listed = {query for query in shown | empty if any(ours.is_listed(query, entry) for entry in always)}
    told = {query for query in empty if any(ours.is_listed(query, entry) for entry in ours.EMPTY)}
    assert shown
    silent = "\n".join(sorted(map(str, empty - told)))
    assert not silent, f"these show nothing, and empty.yaml does not say why:\n{silent}"
    wrong = "\n".join(sorted(map(str, listed & shown)))
    assert not wrong, f"empty.yaml says that these show nothing:\n{wrong}"


def shows(mesh: Mesh, query: ours.Query, way: ours.Values) -> bool:
    if query.is_sql:
        return bool(mesh.mixer.rows(grafana.clickhouse(query.text, way, mesh.start - 60, mesh.end)))
    return mesh.shows(grafana.prometheus(query.text, way))


@pytest.mark.parametrize("entry", ours.EMPTY, ids=lambda entry: entry["panel"])
def test_what_we_list_as_empty_exists(entry):
    assert any(ours.is_listed(query, entry) for query in ours.queries(entry["dashboard"]))


def test_prometheus_evaluates_every_rule(mesh):
    groups = mesh.prometheus.get("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) > 20
    assert {rule["name"]: rule.get("lastError") for rule in rules if rule["health"] != "ok"} == {}


def test_recording_rules_record(mesh):
    groups = mesh.prometheus.get("rules", type="record")["groups"]
    names = [rule["name"] for group in groups for rule in group["rules"]]
    assert [name for name in names if not mesh.shows(name)] == []
