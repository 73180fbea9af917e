"""A real Envoy with what Istio's releases left in filter state: the row and Istio's metrics know the other side by it.

A filter of Wasm leaves the objects, by the call that Istio's own metadata exchange used up to 1.23, so that Envoy makes
of them in the log what it made of Istio's. Envoy puts `wasm.` before their names. The Struct of Istio 1.24 and later is
the same object of Envoy's (CelState) with a declared type; Istio's own C++ filters put it there without `wasm.` before
its name, and a plain Envoy has nothing that does: set_filter_state leaves strings. So `downstream_peer`,
`downstream_peer_obj`, `envoy.wasm.metadata_exchange.downstream` and their likes of the upstream are shown with `wasm.`
before them here where such a name exists, and under their own in tests/telemetry/test_workloads.py alone.
"""

from __future__ import annotations

import socket
from typing import Any, NamedTuple

import pytest

from tests.parts.carried_tcp import carry_tcp
from tests.parts.echo import Echo
from tests.parts.envoy_proxy import Bootstrap, EnvoyProxy, manager
from tests.parts.mixer_process import Mixer, eventually
from tests.parts.peer_filter import FLAT_BUFFERS, HEADER, PROTOBUF, http_filter, network_filter
from tests.parts.peer_forms import FLAT_NODE, IDENTITY, NODE_METADATA, OWNER, WORKLOAD_METADATA, a_struct

pytestmark = [pytest.mark.envoy, pytest.mark.chdb]


class Form(NamedTuple):
    """What a release of Istio left.

    Attributes:
        name: of the object, with `{}` where the direction stands.
        value: its bytes.
        declared: type and schema that its filter declared; None where it declared none.
        principal: what it tells of it.
    """

    name: str
    value: bytes
    declared: tuple[int, str] | None
    principal: str


FORMS = {
    "node metadata": Form(
        "envoy.wasm.metadata_exchange.{}stream", a_struct(NODE_METADATA).SerializeToString(), None, ""
    ),
    "FlatBuffer by the old name": Form("envoy.wasm.metadata_exchange.{}stream", FLAT_NODE, None, IDENTITY),
    "FlatBuffer": Form("{}stream_peer", FLAT_NODE, (FLAT_BUFFERS, ""), IDENTITY),
    "Struct": Form(
        "{}stream_peer",
        a_struct(WORKLOAD_METADATA).SerializeToString(),
        (PROTOBUF, "type.googleapis.com/google.protobuf.Struct"),
        IDENTITY,
    ),
}
"""The oldest first; the Struct is that of Istio 1.24 and later."""
WORDS = dict(zip(FORMS, "abcd", strict=True))
"""What a request says to get one of them."""
SIDES = {"inbound": ("source",), "outbound": ("destination",), "waypoint": ("source", "destination")}
"""By the name of the log: the sides that its node is not on."""
REPORTERS = {"inbound": "destination", "outbound": "source", "waypoint": "waypoint"}


def objects(form: Form) -> dict[str, bytes]:
    """The objects of both directions; what a proxy does not need is there, too, and must not count."""
    return {form.name.format(direction): form.value for direction in ("down", "up")}


def names() -> list[str]:
    """What the log is asked for."""
    return sorted({f"wasm.{name}" for form in FORMS.values() for name in objects(form)})


def row_of(side: str, form: Form) -> dict[str, Any]:
    """Columns of a side, as the peer's metadata tell them."""
    told = {
        "workload_name": "reviews-v1", "namespace": "shop", "canonical_service": "reviews", "canonical_revision": "v1",
        "app": "reviews", "version": "v1", "cluster": "east", "name": "reviews-v1-abc", "owner": OWNER,
        "uid": "kubernetes://reviews-v1-abc.shop", "workload_uid": "istio://shop/workloads/reviews-v1",
        "principal": form.principal, "serviceAccount": "reviews" if form.principal else "",
    }  # fmt: skip
    return {f"{side}_{name}": value for name, value in told.items()}


def labels_of(side: str, form: Form) -> dict[str, str]:
    """Labels of Istio's metrics that tell the same."""
    told = {
        "workload": "reviews-v1", "workload_namespace": "shop", "canonical_service": "reviews",
        "canonical_revision": "v1", "app": "reviews", "version": "v1", "cluster": "east",
        "principal": form.principal or "unknown",
    }  # fmt: skip
    return {f"{side}_{name}": value for name, value in told.items()}


@pytest.fixture(scope="module")
def mixer(make_module_mixer) -> Mixer:
    mixer = make_module_mixer()
    mixer.start()
    return mixer


@pytest.fixture(scope="module", params=SIDES)
def log(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def envoy(make_module_envoy, mixer: Mixer, log: str) -> EnvoyProxy:
    def edit(bootstrap: Bootstrap) -> None:
        connection_manager = manager(bootstrap)
        filters = [http_filter(objects(form), WORDS[kind], form.declared) for kind, form in FORMS.items()]
        connection_manager["http_filters"][:0] = filters
        common = connection_manager["access_log"][0]["typed_config"]["common_config"]
        common.update(log_name=log, filter_state_objects_to_log=names())

    envoy = make_module_envoy(mixer)
    envoy.start(edit=edit)
    return envoy


@pytest.mark.parametrize("kind", FORMS)
def test_the_other_side_is_who_filter_state_says(envoy: EnvoyProxy, mixer: Mixer, log: str, kind: str):
    form = FORMS[kind]
    labels = {"reporter": REPORTERS[log]}
    for side in SIDES[log]:
        labels |= labels_of(side, form)
    before = mixer.metric("istio_requests_total", **labels)
    row = mixer.row(envoy.request("/open", headers=[(HEADER, WORDS[kind])]).header("x-request-id"))
    for side in ("source", "destination"):
        wanted = row_of(side, form) if side in SIDES[log] else {f"{side}_workload_name": "edge"}
        assert {name: row[name] for name in wanted} == wanted
    eventually(lambda: mixer.metric("istio_requests_total", **labels) == before + 1, "the request in Istio's metric")


def test_nobody_is_made_up_where_filter_state_has_nobody(envoy: EnvoyProxy, mixer: Mixer, log: str):
    row = mixer.row(envoy.request("/open").header("x-request-id"))
    for side in SIDES[log]:
        assert (row[f"{side}_name"], row[f"{side}_owner"], row[f"{side}_principal"]) == ("", "", "")


@pytest.mark.parametrize("kind", FORMS)
def test_the_other_side_of_a_connection_is_who_filter_state_says(
    module_programs, ports, mixer: Mixer, echo: Echo, kind: str
):
    form = FORMS[kind]

    def edit(bootstrap: Bootstrap) -> None:
        carry_tcp(bootstrap, echo.port)
        filters = bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"]
        log = filters[0]["typed_config"]["access_log"][0]["typed_config"]["common_config"]
        log.update(log_name="inbound", filter_state_objects_to_log=names())
        filters.insert(0, network_filter(objects(form), form.declared))

    envoy = EnvoyProxy(module_programs, ports, mixer=mixer.grpc, upstream=echo.port)
    envoy.start(edit=edit)
    with socket.create_connection(("127.0.0.1", envoy.port)) as connection:
        port = connection.getsockname()[1]
        connection.sendall(b"x")
        assert connection.recv(1) == b"x"
    sql = f"SELECT * FROM connections WHERE source_port = {port} AND connection_event = 'close'"
    (row,) = eventually(lambda: mixer.rows(sql), "the end")
    wanted = {**row_of("source", form), "destination_workload_name": "edge"}
    assert {name: row[name] for name in wanted} == wanted
    labels = {"reporter": "destination", "request_protocol": "tcp", **labels_of("source", form)}
    eventually(lambda: mixer.metric("istio_tcp_connections_closed_total", **labels), "the connection in Istio's metric")
