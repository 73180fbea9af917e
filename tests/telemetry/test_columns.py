"""The table of columns is consistent with itself, with the vocabulary and with the pages made from it."""

from pathlib import Path

import pyarrow as pa
import pytest

from mixer_py.attributes import VOCABULARY
from mixer_py.attributes.vocabulary import Absent
from mixer_py.telemetry import documentation
from mixer_py.telemetry.access_log.connections import ConnectionSlice
from mixer_py.telemetry.access_log.parties import NAMES, Names, parties_of
from mixer_py.telemetry.access_log.requests import RequestSlice
from mixer_py.telemetry.access_log.streams import ANONYMOUS
from mixer_py.telemetry.attribute_columns import ELSEWHERE, SAME
from mixer_py.telemetry.column import Derived, Metadata, Named, NamedClaims, NamedHeader, NamedParameters
from mixer_py.telemetry.columns import CONNECTIONS, REQUESTS, TABLES
from mixer_py.telemetry.decision_columns import DECISIONS

# Columns that no attribute stands behind: the contract's own (DESIGN 3.5), and Envoy's.
OWN = {
    "timestamp", "decision_id", "verdict", "decision", "policy_revision", "rule", "reasons", "quota_name",
    "quota_code", "quota_remaining", "limit_name", "limit_code", "limit_remaining", "reporter", "response_flags",
    "response_code_details", "upstream_cluster", "upstream_transport_failure_reason", "route_name",
    "protocol_version", "source_port", "error", "http_status", "tier", "cache", "dry_run", "duration_us",
    "shadow_verdict", "shadow_rule", "shadow_reasons", "shadow_revision", "bundle_revision", "input", "masked", "reads",
    "erased", "connection_termination_details", "request_messages", "response_messages", "request_headers_bytes",
    "response_headers_bytes", "response_trailers", "upstream_ip", "upstream_request_attempt_count",
    "upstream_wire_bytes_sent", "upstream_wire_bytes_received", "downstream_transport_failure_reason",
    "tls_version", "custom_tags",
    *(f"time_to_{point}" for point in (
        "last_rx_byte", "first_upstream_tx_byte", "last_upstream_tx_byte", "first_upstream_rx_byte",
        "last_upstream_rx_byte", "first_downstream_tx_byte", "last_downstream_tx_byte",
    )),
}  # fmt: skip
ISTIO = {f"{side}_{name}" for side in ("source", "destination")
         for name in ("canonical_service", "canonical_revision", "app", "version", "cluster")}  # fmt: skip


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_names_are_unique_and_are_attributes_names(table):
    assert len(set(table.names)) == len(table.names)
    attributes = {name.replace(".", "_"): attribute for name, attribute in VOCABULARY.items()}
    assert set(table.names) - OWN - ISTIO <= set(attributes)
    if table.entry:
        stored = [attributes[name] for name in table.names if name in attributes]
        assert not [attribute.name for attribute in stored if isinstance(attribute.log, Absent)]


def test_every_attribute_has_a_column_or_a_reason_why_not():
    named = {name.replace("_", "") for table in (REQUESTS, CONNECTIONS) for name in table.names}
    missing = {name for name in VOCABULARY if name.replace(".", "").replace("_", "") not in named}
    assert missing == set(SAME) | set(ELSEWHERE)
    assert not set(SAME) & set(ELSEWHERE)
    assert set(SAME.values()) <= set(REQUESTS.names)


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_a_row_of_defaults_fits_the_schema(table):
    row = {column.name: column.kind.default for column in table.columns}
    assert pa.RecordBatch.from_pylist([row], schema=table.schema).num_rows == 1
    assert [field.nullable for field in table.schema] == [column.kind.nullable for column in table.columns]
    assert set(table.indexed) <= set(table.names)


def test_the_contract_names_these_columns():
    assert {
        "timestamp", "request_id", "decision_id", "verdict", "policy_revision", "rule", "reasons", "limit_name",
        "limit_code", "limit_remaining", "response_flags", "response_code", "source_principal",
        "destination_workload_name",
    } <= set(REQUESTS.names)  # fmt: skip
    assert {"timestamp", "request_id", "decision_id", "verdict", "policy_revision", "rule"} <= set(DECISIONS.names)


@pytest.mark.parametrize(("table", "slices"), [(REQUESTS, RequestSlice), (CONNECTIONS, ConnectionSlice)])
def test_every_derived_column_has_its_function_and_every_party_its_place(table, slices):
    for column in table.columns:
        if isinstance(column.source, Derived):
            assert callable(getattr(slices, column.name))
        if isinstance(column.source, Metadata):
            assert column.source.namespace.startswith("envoy.filters.")
    assert len(parties_of(ANONYMOUS, Names("")).row()) == len(NAMES)
    assert set(NAMES) <= set(table.names)


def test_headers_and_queries_are_stored_only_as_configured_and_masked():
    asked_for = [
        column
        for table in TABLES.values()
        for column in table.columns
        if isinstance(column.source, (Named, NamedHeader, NamedParameters, NamedClaims))
    ]
    assert {column.name for column in asked_for} == {
        "request_headers", "request_referer", "request_query_params", "response_headers", "response_trailers",
        "request_auth_claims",
    }  # fmt: skip
    assert all(column.secrets for column in asked_for)


@pytest.mark.parametrize("table", [REQUESTS, CONNECTIONS], ids=lambda table: table.name)
def test_what_clients_and_policies_write_is_masked(table):
    """Every text and map that comes as it is from a client, an upstream or a policy; no addresses and names."""
    written = {"request_url_path", "request_useragent", "reasons", "response_grpc_message", "custom_tags"}
    assert {name for name in written if name in table.names} <= {
        column.name for column in table.columns if column.secrets
    }
    assert not [column.name for column in table.columns if column.kind.is_map and not column.secrets]


@pytest.mark.parametrize("path", documentation.generated())
def test_what_is_generated_is_current(path):
    committed = Path(__file__).parents[2] / path
    text = documentation.generated()[path]
    assert committed.read_text(encoding="utf-8") == text, "run python -m mixer_py.telemetry.documentation"


def test_generated_files_are_written_where_they_belong(tmp_path):
    documentation.write(tmp_path)
    for path, text in documentation.generated().items():
        assert (tmp_path / path).read_text(encoding="utf-8") == text
