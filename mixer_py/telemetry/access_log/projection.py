"""The projection: a small message with Envoy's field numbers and only the fields that some column reads.

Made from the table of columns and Envoy's own descriptors, decoded by ptars straight into Arrow. Where Envoy has a
map, the projection has a list of key-value messages: the wire form is the same, and ptars panics on maps with
messages in them. Every message is nullable, so an absent one can be told from an empty one.
Not for: what the values mean (`decoding.py`, `derivation.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from envoy.data.accesslog.v3 import accesslog_pb2
from envoy.service.accesslog.v3 import als_pb2
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from ptars import HandlerPool

from mixer_py.telemetry.column import (
    Derived,
    Field,
    Metadata,
    Named,
    NamedClaims,
    NamedHeader,
    NamedParameters,
    Party,
    Span,
    TableOfColumns,
    Tag,
    Token,
)
from mixer_py.telemetry.columns import CONNECTIONS, REQUESTS

PACKAGE: Final = "mixer_py.projection.v1"
FILE: Final = "mixer_py/projection/v1/access_log.proto"
ROOT: Final = "AccessLogMessage"
TCP_ENTRIES: Final = "TcpEntries"
CUSTOM_TAGS: Final = "common_properties.custom_tags"
METADATA: Final = "common_properties.metadata.filter_metadata"
FLAGS: Final = "common_properties.response_flags"
_FLAGS: Final = accesslog_pb2.ResponseFlags.DESCRIPTOR.full_name

ALWAYS: Final = ("common_properties.access_log_type", "common_properties.intermediate_log_entry")
"""What tells a finished request from one that goes on; no column, but read of each entry."""

_FieldProto = descriptor_pb2.FieldDescriptorProto
_Tree = dict[str, "_Tree"]


def paths_of(table: TableOfColumns) -> tuple[str, ...]:
    """Every path below the table's log entry that some column of it reads, once, sorted."""
    paths = set(ALWAYS)
    for column in table.columns:
        match column.source:
            case Field(path) | Span(path) | Named(path) | NamedHeader(path):
                paths.add(path)
            case NamedParameters(path, otherwise):
                paths.update((path, otherwise))
            case Party(paths=below):
                paths.update(below)
            case Token() | NamedClaims():
                paths.add(METADATA)
            case Tag():
                paths.add(CUSTOM_TAGS)
            case Derived(paths=below, metadata=metadata):
                paths.update(below)
                paths.update([METADATA] if metadata else ())
            case Metadata():
                paths.add(METADATA)
    return tuple(sorted(paths))


class _Builder:
    """Collects the messages of the projection."""

    def __init__(self) -> None:
        self.file = descriptor_pb2.FileDescriptorProto(name=FILE, package=PACKAGE, syntax="proto3")
        self._made: set[str] = set()
        self._walked: dict[tuple[str, str], str] = {}

    def message(self, name: str) -> descriptor_pb2.DescriptorProto | None:
        """A new message of that name, or None when it exists."""
        if name in self._made:
            return None
        self._made.add(name)
        return self.file.message_type.add(name=name)

    def add(
        self,
        message: descriptor_pb2.DescriptorProto,
        name: str,
        number: int,
        kind: int | str,
        *,
        repeated: bool = False,
    ) -> None:
        """A field; `kind` is a scalar type or the name of one of our messages."""
        field = message.field.add(name=name, number=number)
        field.label = _FieldProto.LABEL_REPEATED if repeated else _FieldProto.LABEL_OPTIONAL
        if isinstance(kind, str):
            field.type, field.type_name = _FieldProto.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
        else:
            field.type = _FieldProto.Type.ValueType(kind)

    def walk(self, envoy: Descriptor, tree: _Tree) -> str:
        """The message with those fields of Envoy's message that the tree names, once for each tree."""
        key = (envoy.full_name, repr(tree))
        name = self._walked.get(key)
        if name is not None:
            return name
        name, message = envoy.name, self.message(envoy.name)
        while message is None:
            name = f"Tcp{name}"  # what the entries of requests have made otherwise
            message = self.message(name)
        self._walked[key] = name
        for field_name, below in sorted(tree.items(), key=lambda item: envoy.fields_by_name[item[0]].number):
            field = envoy.fields_by_name[field_name]
            self.add(message, field_name, field.number, self._kind(field, below), repeated=field.is_repeated)
        return name

    def _kind(self, field: FieldDescriptor, below: _Tree) -> int | str:
        """The projected type of one of Envoy's fields."""
        if field.message_type is None or field.message_type.full_name == _FLAGS:
            return _scalar(field)
        if below:
            return self.walk(field.message_type, below)
        if field.message_type.GetOptions().map_entry:
            value = field.message_type.fields_by_name["value"].message_type
            if value is None:
                return self._pair()
            return self._filter_state() if value.full_name == "google.protobuf.Any" else self._metadata()
        return self._whole(field.message_type)

    def _whole(self, envoy: Descriptor) -> str:
        """One of the messages that a column reads as a whole: Timestamp, Duration, a wrapper."""
        message = self.message(envoy.name)
        if message is not None:
            for field in envoy.fields:
                self.add(message, field.name, field.number, field.type)
        return envoy.name

    def _pair(self) -> str:
        message = self.message("Pair")
        if message is not None:
            self.add(message, "key", 1, _FieldProto.TYPE_STRING)
            self.add(message, "value", 2, _FieldProto.TYPE_STRING)
        return "Pair"

    def _filter_state(self) -> str:
        """map<string, google.protobuf.Any>."""
        message = self.message("FilterStateObject")
        if message is not None:
            self.add(message, "key", 1, _FieldProto.TYPE_STRING)
            self.add(message, "value", 2, "Any")
            value = self.message("Any")
            assert value is not None  # noqa: S101 (made here only)
            self.add(value, "type_url", 1, _FieldProto.TYPE_STRING)
            self.add(value, "value", 2, _FieldProto.TYPE_BYTES)
        return "FilterStateObject"

    def _metadata(self) -> str:
        """map<string, google.protobuf.Struct> with the scalars of the structs, and structs in them as bytes."""
        namespace = self.message("MetadataNamespace")
        if namespace is not None:
            self.add(namespace, "key", 1, _FieldProto.TYPE_STRING)
            self.add(namespace, "value", 2, "MetadataStruct")
            struct, entry, value = map(self.message, ("MetadataStruct", "MetadataField", "MetadataValue"))
            assert struct is not None and entry is not None and value is not None  # noqa: S101, PT018 (made here only)
            self.add(struct, "fields", 1, "MetadataField", repeated=True)
            self.add(entry, "key", 1, _FieldProto.TYPE_STRING)
            self.add(entry, "value", 2, "MetadataValue")
            value.oneof_decl.add(name="kind")
            self.add(value, "number_value", 2, _FieldProto.TYPE_DOUBLE)
            self.add(value, "string_value", 3, _FieldProto.TYPE_STRING)
            self.add(value, "struct_value", 5, _FieldProto.TYPE_BYTES)  # read of tokens only, once for each
            for field in value.field:
                field.oneof_index = 0  # presence: an absent scalar is null rather than zero
        return "MetadataNamespace"


def _scalar(field: FieldDescriptor) -> int:
    """The type by which a field is read that has no fields of its own, or is read as if it had none."""
    if field.message_type is not None:
        return _FieldProto.TYPE_BYTES  # few distinct values, each read once; as a message it would be 29 arrays
    if field.type == FieldDescriptor.TYPE_ENUM:
        return _FieldProto.TYPE_INT32  # the same varint; an unknown value is kept rather than refused
    return field.type


def build(
    requests: TableOfColumns = REQUESTS, connections: TableOfColumns = CONNECTIONS
) -> descriptor_pb2.FileDescriptorProto:
    """The projection of StreamAccessLogsMessage for the columns of two tables.

    Raises:
        KeyError: a column reads a path that Envoy's message does not have.
    """
    builder = _Builder()
    envoy = als_pb2.StreamAccessLogsMessage.DESCRIPTOR
    root = builder.message(ROOT)
    assert root is not None  # noqa: S101 (the first of that name)
    for field, name, table in (("http_logs", "HttpEntries", requests), ("tcp_logs", TCP_ENTRIES, connections)):
        logs = envoy.fields_by_name[field]
        entries = builder.message(name)
        assert entries is not None  # noqa: S101 (as above)
        if name == TCP_ENTRIES:  # as bytes, as often as they come: few streams have any, and each of their fields costs
            builder.add(root, logs.name, logs.number, _FieldProto.TYPE_BYTES, repeated=True)
        else:
            builder.add(root, logs.name, logs.number, name)
        log_entry = logs.message_type.fields_by_name["log_entry"]
        entry = builder.walk(accesslog_pb2.DESCRIPTOR.message_types_by_name[table.entry], _tree(table))
        builder.add(entries, log_entry.name, log_entry.number, entry, repeated=True)
    return builder.file


def _tree(table: TableOfColumns) -> _Tree:
    tree: _Tree = {}
    for path in paths_of(table):
        branch = tree
        for part in path.split("."):
            branch = branch.setdefault(part, {})
    return tree


def render(file: descriptor_pb2.FileDescriptorProto) -> str:
    """The projection as .proto text, for people and for proto/."""
    lines = [
        "// Generated from mixer_py/telemetry/columns.py by `python -m mixer_py.telemetry.documentation`; do not edit.",
        "// StreamAccessLogsMessage with Envoy's field numbers and what some column reads; maps as lists of pairs.",
        f'syntax = "{file.syntax}";',
        "",
        f"package {file.package};",
    ]
    for message in file.message_type:
        lines += ["", f"message {message.name} {{"]
        for field in message.field:
            kind = field.type_name.rsplit(".", 1)[-1] or _FieldProto.Type.Name(field.type)[5:].lower()
            repeated = "repeated " if field.label == _FieldProto.LABEL_REPEATED else ""
            indent = "    " if field.HasField("oneof_index") else "  "
            if field.HasField("oneof_index") and field is message.field[0]:
                lines.append(f"  oneof {message.oneof_decl[0].name} {{")
            lines.append(f"{indent}{repeated}{kind} {field.name} = {field.number};")
        lines += ["  }", "}"] if message.oneof_decl else ["}"]
    return "\n".join(lines) + "\n"


class Projected(NamedTuple):
    """Log entries of some messages.

    Attributes:
        http: HTTPAccessLogEntry of all messages, as projected.
        http_messages: for each of them the index of its message.
        tcp: TCPAccessLogEntry, idem.
        tcp_messages: for each of them the index of its message.
    """

    http: pa.StructArray
    http_messages: npt.NDArray[np.int64]
    tcp: pa.StructArray
    tcp_messages: npt.NDArray[np.int64]


class Projection:
    """Decodes messages of an access-log stream into Arrow."""

    def __init__(self) -> None:
        pool = descriptor_pool.DescriptorPool()
        pool.AddSerializedFile(build().SerializeToString())
        file = pool.FindFileByName(FILE)
        self._pool = HandlerPool([file])  # the handlers borrow from it
        self._handler: Any = self._pool.get_for_message(file.message_types_by_name[ROOT])
        self._tcp_handler: Any = self._pool.get_for_message(file.message_types_by_name[TCP_ENTRIES])
        nothing = _entries(self._tcp_handler.list_to_record_batch([]).column(0))
        self._no_tcp = nothing
        http = _entries(self._handler.list_to_record_batch([]).column(0).field(0))
        self.empty = Projected(*http, *nothing)

    def decode(self, messages: Iterable[bytes]) -> Projected | None:
        """The entries of messages.

        Returns:
            None when any of the messages is malformed; which one is not known.
        """
        try:
            batch = self._handler.list_to_record_batch(list(messages))
            http = _entries(batch.column(0).field(0))
            tcp = self._decode_tcp(batch.column(1))
            for structs, _ in (http, tcp):
                _check_flags(structs)
        except Exception:  # noqa: BLE001 (whatever it is, the bytes are at fault and are looked at again one by one)
            return None
        except BaseException as panic:
            # PyO3's PanicException cannot be imported; anything else, such as KeyboardInterrupt, is not ours.
            if type(panic).__name__ != "PanicException":
                raise
            return None
        return Projected(*http, *tcp)

    def _decode_tcp(self, lists: pa.ListArray) -> tuple[pa.StructArray, npt.NDArray[np.int64]]:
        logs = lists.flatten()
        if not len(logs):
            return self._no_tcp
        structs, owners = _entries(self._tcp_handler.list_to_record_batch(logs.to_pylist()).column(0))
        messages: npt.NDArray[np.int64] = lists.value_parent_indices().to_numpy()
        return structs, messages[owners]


def _entries(lists: pa.ListArray) -> tuple[pa.StructArray, npt.NDArray[np.int64]]:
    """What is in the lists, and for each the index of its list."""
    return lists.flatten(), lists.value_parent_indices().to_numpy()


def _check_flags(structs: pa.StructArray) -> None:
    """Passes entries whose response flags are messages.

    Raises:
        DecodeError: one has others.
    """
    common, flags = FLAGS.split(".")
    for value in structs.field(common).field(flags).unique().to_pylist():
        if value:
            accesslog_pb2.ResponseFlags.FromString(value)
