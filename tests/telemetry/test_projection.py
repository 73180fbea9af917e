"""The projection is Envoy's message, less what no column reads."""

import dataclasses

import pytest
from envoy.data.accesslog.v3 import accesslog_pb2
from envoy.service.accesslog.v3 import als_pb2
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import FieldDescriptor
from ptars import HandlerPool

from mixer_py.instruments import FakeClock
from mixer_py.telemetry import documentation, validation
from mixer_py.telemetry.access_log import decoding, projection
from mixer_py.telemetry.access_log.derivation import RESPONSE_FLAGS
from mixer_py.telemetry.column import NAME, SPAN, TEXT, Column, Field, Metadata, Span, Tag
from mixer_py.telemetry.columns import CONNECTIONS, REQUESTS, TABLES
from mixer_py.telemetry.ddl import table_statements
from mixer_py.telemetry.layout import Layout
from mixer_py.telemetry.migrations import schema_version
from mixer_py.telemetry.privacy_settings import RowMaskSettings
from mixer_py.telemetry.row_masking import RowMask

# A varint is a varint: an enum may be read as a number.
SAME_WIRE_TYPE = {FieldDescriptor.TYPE_ENUM: FieldDescriptor.TYPE_INT32}


AS_BYTES = (".struct_value", ".response_flags", ".tcp_logs")
"""Messages that are kept as bytes, which is the same wire type, to be read later or once for each distinct value."""


def root(file=None):
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile((file or projection.build()).SerializeToString())
    return pool.FindMessageTypeByName(f"{projection.PACKAGE}.{projection.ROOT}")


def pairs(ours, envoy, path=""):
    """Every field of ours with Envoy's field of that number, as deep as ours goes."""
    for field in ours.fields:
        theirs, below = envoy.fields_by_number[field.number], field.message_type
        yield f"{path}.{field.name}", field, theirs
        if field.name == "tcp_logs":
            below = ours.file.message_types_by_name[projection.TCP_ENTRIES]
        if below and theirs.message_type:
            yield from pairs(below, theirs.message_type, f"{path}.{field.name}")


def test_every_field_has_envoys_name_number_type_and_label():
    found = list(pairs(root(), als_pb2.StreamAccessLogsMessage.DESCRIPTOR))
    for path, ours, theirs in found:
        assert ours.name == theirs.name, path
        assert ours.is_repeated == (theirs.is_repeated or path == ".tcp_logs"), path  # all that come, as merging does
        if not path.endswith(AS_BYTES):
            assert ours.type == SAME_WIRE_TYPE.get(theirs.type, theirs.type), path
    assert len(found) > 100


@pytest.mark.parametrize(("logs", "table"), [("http_logs", REQUESTS), ("tcp_logs", CONNECTIONS)])
def test_it_reads_what_the_columns_read_and_nothing_else(logs, table):
    below = f".{logs}.log_entry."
    found = [path for path, *_ in pairs(root(), als_pb2.StreamAccessLogsMessage.DESCRIPTOR)]
    paths = {path.removeprefix(below) for path in found if path.startswith(below)}
    wanted = projection.paths_of(table)
    assert set(wanted) <= paths
    leaves = {path for path in paths if not any(other.startswith(path + ".") for other in paths)}
    unread = {leaf for leaf in leaves if not any(leaf == path or leaf.startswith(path + ".") for path in wanted)}
    assert not unread


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (Column("forwarded_for", TEXT, "x-forwarded-for", Field("request.forwarded_for")), "1.2.3.4"),
        (Column("tenant", NAME, "whose", Tag("tenant")), "acme"),
        (Column("link", TEXT, "where", Tag("link"), "text"), "/?token=***"),
        (Column("until_sent", SPAN, "how long", Span("common_properties.time_to_last_upstream_tx_byte")), 7),
        (Column("colour", NAME, "which", Metadata("envoy.filters.http.ext_authz", "colour")), "blue"),
    ],
    ids=lambda value: value.name if isinstance(value, Column) else "",
)
def test_adding_a_column_is_one_line(monkeypatch, column, value):
    """Projection, Arrow schema, decoding, masks, DDL, migration, validation and the page of columns follow from it."""
    table = dataclasses.replace(REQUESTS, columns=(*REQUESTS.columns, column))
    monkeypatch.setitem(TABLES, "requests", table)
    file = projection.build(table)
    monkeypatch.setattr(projection, "build", lambda: file)
    monkeypatch.setattr(decoding, "REQUESTS", table)
    message = als_pb2.StreamAccessLogsMessage()
    entry = message.http_logs.log_entry.add()
    entry.request.forwarded_for = "1.2.3.4"
    entry.common_properties.custom_tags.update({"tenant": "acme", "link": "/?token=s3cret"})
    entry.common_properties.time_to_last_upstream_tx_byte.nanos = 7_000
    entry.common_properties.metadata.filter_metadata["envoy.filters.http.ext_authz"].update({"colour": "blue"})
    rows = decoding.AccessLogDecoder().decode([(message.SerializeToString(), decoding.ANONYMOUS)]).requests
    assert rows.column(column.name).to_pylist() == [value]
    validation.check("requests", rows)
    layout = Layout("mesh")
    assert any(f"{column.name} {column.kind.clickhouse}" in statement for statement in table_statements(layout))
    (described,) = [line for line in documentation.render().splitlines() if line.startswith(f"| `{column.name}` |")]
    assert described.startswith(f"| `{column.name}` | `{column.kind.clickhouse}` | {column.meaning} | ")
    assert described.endswith("| in text |" if column.secrets else "|  |")
    rules = RowMask(RowMaskSettings(columns={column.name: "remove"})).step(column)
    assert rules is not None
    assert rules(rows.column(column.name)).to_pylist() == [column.kind.default]
    with_it = schema_version(layout)
    monkeypatch.setitem(TABLES, "requests", REQUESTS)
    assert with_it != schema_version(layout)  # so that a database without it is migrated


def test_a_path_that_envoy_does_not_have_is_an_error():
    column = Column("odd", TEXT, "", Field("common_properties.no_such_field"))
    with pytest.raises(KeyError, match="no_such_field"):
        projection.build(dataclasses.replace(REQUESTS, columns=(column,)))


def test_every_response_flag_has_its_code():
    flags = accesslog_pb2.ResponseFlags.DESCRIPTOR
    assert tuple(RESPONSE_FLAGS) == tuple(field.name for field in flags.fields)
    assert len(set(RESPONSE_FLAGS.values())) == len(RESPONSE_FLAGS)


NO_VALUE = b"\x62\x03\x0a\x01\x66"
"""Field 12, a map's entry with a key and no value."""


def with_a_map() -> descriptor_pb2.FileDescriptorProto:
    """A message with `map<string, Value> map = 12`."""
    file = descriptor_pb2.FileDescriptorProto(name="a_map.proto", package="a", syntax="proto3")
    root = file.message_type.add(name="Root")
    entry = root.nested_type.add(name="MapEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=9, label=1)
    entry.field.add(name="value", number=2, type=11, label=1, type_name=".a.Value")
    root.field.add(name="map", number=12, type=11, label=3, type_name=".a.Root.MapEntry")
    file.message_type.add(name="Value").field.add(name="number", number=1, type=5, label=1)
    return file


def test_what_makes_ptars_panic_is_a_map_of_messages_and_the_projection_has_no_map():
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(with_a_map().SerializeToString())
    file = pool.FindFileByName("a_map.proto")
    handlers = HandlerPool([file])
    with pytest.raises(BaseException) as panic:  # noqa: PT011 (it cannot be imported)
        handlers.get_for_message(file.message_types_by_name["Root"]).list_to_record_batch([NO_VALUE])
    assert type(panic.value).__name__ == "PanicException"
    made = projection.build()
    assert not any(message.nested_type or message.options.map_entry for message in made.message_type)


def test_a_value_that_is_missing_costs_nothing_wherever_envoy_has_a_map():
    """Not even its entry: a list of pairs takes an absent value for an empty one, as protobuf does."""
    decoder = decoding.AccessLogDecoder(FakeClock())
    entry = accesslog_pb2.HTTPAccessLogEntry.DESCRIPTOR
    places = [
        (part, field)
        for part in entry.fields
        if part.message_type is not None
        for field in part.message_type.fields
        if field.message_type is not None and field.message_type.GetOptions().map_entry
    ]
    assert {field.name for _, field in places} >= {"filter_state_objects", "custom_tags", "request_headers"}
    for part, field in places:
        logs = bytes_field(2, bytes_field(1, bytes_field(part.number, bytes_field(field.number, b"\x0a\x01\x66"))))
        decoded = decoder.decode([(logs, decoding.ANONYMOUS)])
        assert (decoded.requests.num_rows, decoded.malformed) == (1, 0), field.full_name


def bytes_field(number: int, content: bytes) -> bytes:
    """A length-delimited field whose number may take two bytes."""
    tag = number << 3 | 2
    head = bytes([tag]) if tag < 128 else bytes([tag & 127 | 128, tag >> 7])
    return head + bytes([len(content)]) + content
