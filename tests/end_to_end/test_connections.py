"""TCP through a real Envoy: each report about a connection is a row, and Istio's metrics of TCP count it once."""

from __future__ import annotations

import socket
import ssl

import pytest

from tests.parts.carried_tcp import CLUSTER, carry_tcp
from tests.parts.certificates import Certificate, make_certificate
from tests.parts.echo import Echo
from tests.parts.envoy_proxy import Bootstrap, EnvoyProxy
from tests.parts.mixer_process import Mixer, eventually

pytestmark = [pytest.mark.envoy, pytest.mark.chdb]

CHUNK = b"x" * 1000


def demand_certificates(bootstrap: Bootstrap, upstream: int, server: Certificate, client: Certificate) -> None:
    """The same beside the server, with mutual TLS, and without reports before the end."""
    carry_tcp(bootstrap, upstream)
    listener = bootstrap["static_resources"]["listeners"][0]
    inspector = "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"
    listener["listener_filters"] = [
        {"name": "envoy.filters.listener.tls_inspector", "typed_config": {"@type": inspector}}
    ]
    (chain,) = listener["filter_chains"]
    proxy = chain["filters"][0]["typed_config"]
    del proxy["access_log_options"]
    proxy["access_log"][0]["typed_config"]["common_config"]["log_name"] = "inbound"
    chain["transport_socket"] = {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": True,
            "common_tls_context": {
                "tls_certificates": [
                    {
                        "certificate_chain": {"filename": str(server.certificate)},
                        "private_key": {"filename": str(server.key)},
                    }
                ],
                "validation_context": {"trusted_ca": {"filename": str(client.certificate)}},
            },
        },
    }


def try_out(bootstrap: Bootstrap, upstream: int, *results: tuple[str, str]) -> None:
    """The TCP proxy behind RBAC rules, an action and a prefix each, that match everybody and are only tried out."""
    carry_tcp(bootstrap, upstream)
    filters = bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"]
    policy = {"permissions": [{"any": True}], "principals": [{"any": True}]}
    filters[:0] = [
        {
            "name": "envoy.filters.network.rbac",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC",
                "stat_prefix": "rbac",
                "shadow_rules": {"action": action, "policies": {f"{action.lower()}-everybody": policy}},
                "shadow_rules_stat_prefix": prefix,
            },
        }
        for action, prefix in results
    ]


@pytest.fixture(scope="module")
def mixer(make_module_mixer) -> Mixer:
    mixer = make_module_mixer()
    mixer.start()
    return mixer


@pytest.fixture(scope="module")
def envoy(module_programs, ports, mixer: Mixer, echo: Echo) -> EnvoyProxy:
    envoy = EnvoyProxy(module_programs, ports, mixer=mixer.grpc, upstream=echo.port)
    before = counted(mixer, "connections_closed")
    envoy.start(edit=lambda bootstrap: carry_tcp(bootstrap, echo.port))
    eventually(
        lambda: counted(mixer, "connections_closed") == before + 1, "the connection that asked whether it listens"
    )
    return envoy


def exchange(connection: socket.socket) -> None:
    connection.sendall(CHUNK)
    left = len(CHUNK)
    while left:
        left -= len(connection.recv(left))


def counted(mixer: Mixer, name: str) -> float:
    return mixer.metric(f"istio_tcp_{name}_total", request_protocol="tcp")


def test_a_connection_is_rows_from_its_opening_to_its_end(envoy: EnvoyProxy, mixer: Mixer):
    names = ("connections_opened", "connections_closed", "received_bytes", "sent_bytes")
    before = {name: counted(mixer, name) for name in names}
    with socket.create_connection(("127.0.0.1", envoy.port)) as connection:
        client = connection.getsockname()[1]
        # A report on the way tells no time and is dated when it came: after the end, if it was on its way for so long.
        order = "connection_event = 'close', timestamp"
        sql = f"SELECT * FROM connections WHERE source_port = {client} ORDER BY {order}"
        exchange(connection)
        eventually(lambda: sum(r["connection_received_bytes"] for r in mixer.rows(sql)) == 1000, "a first report")
        exchange(connection)
        exchange(connection)
        eventually(lambda: sum(r["connection_received_bytes"] for r in mixer.rows(sql)) == 3000, "a second report")
        assert counted(mixer, "connections_closed") == before["connections_closed"]
    eventually(lambda: any(r["connection_event"] == "close" for r in mixer.rows(sql)), "the end")
    rows = mixer.rows(sql)
    events = [row["connection_event"] for row in rows]
    assert (events[:2], events[-1]) == (["open", "open"], "close")  # accepted, then connected upstream
    assert set(events[2:-1]) == {"continue"}
    assert len({row["connection_id"] for row in rows}) == 1
    assert rows[0]["connection_id"]
    last = rows[-1]
    assert (last["connection_received_bytes_total"], last["connection_sent_bytes_total"]) == (3000, 3000)
    assert sum(row["connection_sent_bytes"] for row in rows) == 3000
    assert last["connection_duration"] > 0
    assert {
        "destination_service_host": "ledger.bank.svc.cluster.local", "destination_service_name": "ledger",
        "destination_service_namespace": "bank", "reporter": "source", "source_workload_name": "edge",
        "source_ip": "127.0.0.1", "verdict": "none", "response_flags": "-", "upstream_cluster": CLUSTER,
    }.items() <= last.items()  # fmt: skip
    grown = {name: counted(mixer, name) - value for name, value in before.items()}
    assert grown == {
        "connections_opened": 1, "connections_closed": 1, "received_bytes": 3000, "sent_bytes": 3000,
    }  # fmt: skip


def test_certificates_tell_both_parties_and_a_connection_that_is_reported_once_counts_whole(
    programs, ports, tmp_path, mixer: Mixer, echo: Echo
):
    server = make_certificate(tmp_path, "server", uri="spiffe://mesh.test/ns/bank/sa/ledger")
    client = make_certificate(tmp_path, "client", uri="spiffe://mesh.test/ns/shop/sa/till")
    envoy = EnvoyProxy(programs, ports, mixer=mixer.grpc, upstream=echo.port)
    envoy.start(edit=lambda bootstrap: demand_certificates(bootstrap, echo.port, server, client))
    trusting = ssl.create_default_context(cafile=str(server.certificate))
    trusting.check_hostname = False
    trusting.load_cert_chain(client.certificate, client.key)
    with (
        socket.create_connection(("127.0.0.1", envoy.port)) as plain,
        trusting.wrap_socket(plain, server_hostname="ledger.bank.test") as connection,
    ):
        port = connection.getsockname()[1]
        exchange(connection)
    (row,) = eventually(lambda: mixer.rows(f"SELECT * FROM connections WHERE source_port = {port}"), "the only report")
    wanted = {
        "connection_event": "close", "reporter": "destination", "connection_mtls": True,
        "source_principal": "spiffe://mesh.test/ns/shop/sa/till", "source_namespace": "shop",
        "source_workload_name": "till", "destination_principal": "spiffe://mesh.test/ns/bank/sa/ledger",
        "destination_workload_name": "edge", "destination_namespace": "bank",
        "connection_requested_server_name": "ledger.bank.test", "tls_version": "TLSv1.3",
        "connection_received_bytes": 1000, "connection_sent_bytes": 1000,
    }  # fmt: skip
    assert {name: row[name] for name in wanted} == wanted
    labels = {"reporter": "destination", "connection_security_policy": "mutual_tls", "source_workload": "till"}
    assert mixer.metric("istio_tcp_connections_opened_total", **labels) == 1
    assert mixer.metric("istio_tcp_sent_bytes_total", **labels) == 1000


DRY_RUNS = [
    ([("DENY", "")], ("denied", "deny-everybody")),
    ([("ALLOW", "istio_dry_run_allow_"), ("DENY", "istio_dry_run_deny_")], ("denied", "deny-everybody")),
    ([("ALLOW", "istio_dry_run_allow_")], ("allowed", "allow-everybody")),
]
"""Rules that are tried out, and what the row says of them."""


def test_a_dry_run_of_rbac_tells_what_it_would_have_done_to_a_connection(programs, ports, make_mixer, echo: Echo):
    mixer = make_mixer()  # of its own: others count every connection of theirs
    mixer.start()
    for results, told in DRY_RUNS:
        envoy = EnvoyProxy(programs, ports, mixer=mixer.grpc, upstream=echo.port)
        envoy.start(edit=lambda bootstrap, results=results: try_out(bootstrap, echo.port, *results))
        with socket.create_connection(("127.0.0.1", envoy.port)) as connection:
            port = connection.getsockname()[1]
            exchange(connection)
        sql = f"SELECT * FROM connections WHERE source_port = {port} AND connection_event = 'close'"
        (row,) = eventually(lambda sql=sql: mixer.rows(sql), "the end")
        assert (row["rbac_permissive_response_code"], row["rbac_permissive_effective_policy_id"]) == told
        assert row["connection_sent_bytes_total"] == 1000, "nobody was stopped"
