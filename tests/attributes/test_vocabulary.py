"""The vocabulary is complete, and every declared path leads somewhere."""

from pathlib import Path

import pytest
from envoy.data.accesslog.v3 import accesslog_pb2
from envoy.service.auth.v3 import attribute_context_pb2
from google.protobuf.descriptor import FieldDescriptor

from mixer_py.attributes import ATTRIBUTES, VOCABULARY, ValueType, documentation
from mixer_py.attributes.bag import DERIVATIONS, READERS
from mixer_py.attributes.vocabulary import At, Derived, Key

INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_INT64,
    FieldDescriptor.CPPTYPE_UINT32,
    FieldDescriptor.CPPTYPE_UINT64,
}

# Every name in reference/mixer.md 2.1.
ROWS = [
    "source.uid", "source.ip", "source.labels", "source.name", "source.namespace", "source.principal",
    "source.owner", "source.workload.uid", "source.workload.name", "source.workload.namespace", "destination.uid",
    "destination.name", "destination.owner", "destination.ip", "destination.port", "destination.labels",
    "destination.namespace", "destination.principal", "destination.workload.name", "destination.container.name",
    "destination.container.image", "destination.service.host", "destination.service.name",
    "destination.service.namespace", "destination.service.uid", "origin.ip", "request.headers", "request.id",
    "request.path", "request.url_path", "request.query_params", "request.host", "request.method", "request.scheme",
    "request.referer", "request.useragent", "request.reason", "request.size", "request.total_size", "request.time",
    "request.auth.principal", "request.auth.audiences", "request.auth.presenter", "request.auth.claims",
    "request.api_key", "response.code", "response.headers", "response.size", "response.total_size",
    "response.duration", "response.time", "response.grpc_status", "response.grpc_message", "connection.id",
    "connection.event", "connection.received.bytes", "connection.sent.bytes", "connection.received.bytes_total",
    "connection.sent.bytes_total", "connection.duration", "connection.mtls", "connection.requested_server_name",
    "context.protocol", "context.time", "context.reporter.kind", "context.reporter.uid", "context.proxy_error_code",
    "api.service", "api.version", "api.operation", "api.protocol", "check.error_code", "check.error_message",
    "check.cache_hit", "quota.cache_hit", "rbac.permissive.response_code", "rbac.permissive.effective_policy_id",
    "source.user", "source.services", "source.metadata", "source.serviceAccount", "destination.serviceAccount",
    "destination.metadata", "origin.uid", "origin.user", "request.auth.raw_claims", "context.timestamp",
    "context.reporter.local", "context.proxy_version",
]  # fmt: skip


def field_at(descriptor, path):
    for part in path.split("."):
        field = descriptor.fields_by_name[part]
        descriptor = field.message_type
    return field


def test_names_are_unique():
    assert len(VOCABULARY) == len(ATTRIBUTES)


@pytest.mark.parametrize("name", ROWS)
def test_the_vocabulary_has_the_row(name):
    assert name in VOCABULARY
    assert name in READERS


@pytest.mark.parametrize("attribute", ATTRIBUTES, ids=lambda attribute: attribute.name)
def test_declared_places_exist_and_have_the_declared_type(attribute):
    for place, message in (
        (attribute.check, attribute_context_pb2.AttributeContext),
        (attribute.log, accesslog_pb2.HTTPAccessLogEntry),
    ):
        match place:
            case Key(path, _):
                assert field_at(message.DESCRIPTOR, path).message_type.GetOptions().map_entry
            case At(path):
                field = field_at(message.DESCRIPTOR, path)
                if attribute.value_type is ValueType.INT64:
                    assert field.cpp_type in INTEGERS
                elif attribute.value_type is ValueType.STRING_MAP:
                    assert field.message_type.GetOptions().map_entry
                elif attribute.value_type is ValueType.TIMESTAMP:
                    assert field.message_type.full_name == "google.protobuf.Timestamp"
                else:
                    assert field.cpp_type in {FieldDescriptor.CPPTYPE_STRING, FieldDescriptor.CPPTYPE_ENUM}
    if isinstance(attribute.check, Derived):
        assert attribute.check.function in DERIVATIONS


def test_the_committed_page_is_current():
    page = Path(__file__).parents[2] / "docs" / "attributes.md"
    assert page.read_text(encoding="utf-8") == documentation.render(), "run python -m mixer_py.telemetry.documentation"
