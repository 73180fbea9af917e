"""The input document of a policy, exactly opa-envoy-plugin's, from a CheckRequest. Evaluates nothing.

A message is walked by a plan made once from its descriptor: only populated fields, camelCase names, enums and 64-bit
integers as numbers, Timestamp as `{seconds, nanos}`, Struct as plain JSON, bytes as base64 (opa-envoy-plugin's
`protomap`, which differs from protojson). On request, these four as protojson has them, as that plugin had until 2025.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from typing import Any

import orjson
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest
from google.protobuf import any_pb2, json_format, struct_pb2, timestamp_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from mixer_py.policy.document.body import BodyParser
from mixer_py.policy.document.path import parse_query, split_path

Walk = Callable[[Any], Any]
"""A Python value of a field to the JSON value that stands for it."""
Entry = tuple[str, str, bool, Walk | None]
"""A field's name, its name in JSON, whether it has presence, and its walk, None when it is JSON already."""

VERSION = {"ext_authz": "v3", "encoding": "protojson"}
_STRUCT = struct_pb2.Struct.DESCRIPTOR.full_name
_TIMESTAMP = timestamp_pb2.Timestamp.DESCRIPTOR.full_name
_ANY = any_pb2.Any.DESCRIPTOR.full_name
_LONG = {FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64}


def plain_value(value: struct_pb2.Value) -> object:
    """The JSON value that a Value holds."""
    kind = value.WhichOneof("kind")
    if kind is None or kind == "null_value":
        return None
    if kind == "struct_value":
        return plain_struct(value.struct_value)
    if kind == "list_value":
        return [plain_value(item) for item in value.list_value.values]
    if kind == "number_value":
        number = value.number_value
        if math.isfinite(number):
            return int(number) if number.is_integer() and abs(number) < 2**63 else number
        return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"  # as Go's AsInterface
    return getattr(value, kind)


def plain_struct(struct: struct_pb2.Struct) -> dict[str, object]:
    """The JSON object that a Struct holds."""
    return {name: plain_value(value) for name, value in struct.fields.items()}


def _encode_bytes(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def key_text(key: object) -> str:
    """A map key as Go's `MapKey.String` writes it."""
    return ("true" if key else "false") if isinstance(key, bool) else str(key)


def _own_form(plain: Walk) -> Walk:
    """A walk to the form that a message has of its own in protojson; `plain` where it has none.

    That is a time of no calendar, or an `Any` of an unknown type: neither may fail a request that nobody asks about it.
    """

    def walk(message: Message) -> object:
        try:
            return json_format.MessageToDict(message)
        except (json_format.Error, TypeError, ValueError):
            return plain(message)

    return walk


class Plans:
    """How messages become JSON: plans by message type, made on first use; types may refer to themselves."""

    def __init__(self, *, protojson: bool = False) -> None:
        """Takes whether times, enums, 64-bit integers and `Any` are as protojson has them."""
        self._plans: dict[str, list[Entry]] = {}
        self._own_forms = frozenset({_TIMESTAMP, _ANY}) if protojson else frozenset()
        self._protojson = protojson

    def is_indivisible(self, descriptor: Descriptor) -> bool:
        """Whether a message of this type has other members in JSON than its fields, or none."""
        return descriptor.full_name in self._own_forms

    def walker(self, descriptor: Descriptor) -> Walk:
        """A function from a message of this type to JSON values."""
        if descriptor.full_name == _STRUCT:
            return plain_struct
        plan = self._plans.get(descriptor.full_name)
        if plan is None:
            plan = self._plans[descriptor.full_name] = []
            plan.extend(self.entry(field) for field in descriptor.fields)
        entries = plan

        def walk(message: Message) -> dict[str, object]:
            document: dict[str, object] = {}
            for name, json_name, presence, convert in entries:
                if presence:
                    if not message.HasField(name):
                        continue
                    value = getattr(message, name)
                else:
                    value = getattr(message, name)
                    if not value:
                        continue
                document[json_name] = value if convert is None else convert(value)
            return document

        return _own_form(walk) if self.is_indivisible(descriptor) else walk

    def entry(self, field: FieldDescriptor) -> Entry:
        """How one field of a message becomes JSON."""
        json_name = str(field.json_name)
        message = field.message_type
        if message is not None and message.GetOptions().map_entry:
            return field.name, json_name, False, self._map_walk(message)
        convert = self.value_walk(field)
        if field.is_repeated:
            each = convert
            return (
                field.name,
                json_name,
                False,
                list if each is None else (lambda items: [each(item) for item in items]),
            )
        return field.name, json_name, bool(field.has_presence), convert

    def _map_walk(self, entry: Descriptor) -> Walk:
        convert = self.value_walk(entry.fields_by_name["value"])
        if convert is None and entry.fields_by_name["key"].type == FieldDescriptor.TYPE_STRING:
            return dict  # headers, labels and the like, so on every request
        if convert is None:
            return lambda entries: {key_text(key): entries[key] for key in entries}
        return lambda entries: {key_text(key): convert(entries[key]) for key in entries}

    def value_walk(self, field: FieldDescriptor) -> Walk | None:
        """The walk of one value of a field, also of one value of a repeated one."""
        if field.message_type is not None:
            return self.walker(field.message_type)
        if self._protojson and field.cpp_type in _LONG:
            return str
        if self._protojson and field.enum_type is not None:
            names = {value.number: str(value.name) for value in field.enum_type.values}
            return lambda number: names.get(number, number)
        return _encode_bytes if field.type == FieldDescriptor.TYPE_BYTES else None


class InputBuilder:
    """Builds input documents. Thread-safe, holds no request.

    Attributes:
        plans: how messages become JSON.
        parse_body: `(parsed_body, truncated_body)` of `attributes.request.http`; None when bodies stay unparsed.
    """

    __slots__ = ("_walk", "parse_body", "plans")

    def __init__(
        self, *, skip_request_body_parse: bool = False, bodies: BodyParser | None = None, protojson: bool = False
    ) -> None:
        """Makes the plans.

        Args:
            skip_request_body_parse: leave `parsed_body` and `truncated_body` out.
            bodies: parses bodies; None parses all but gRPC's.
            protojson: see `Plans`.
        """
        self.plans = Plans(protojson=protojson)
        self.parse_body: Callable[[Any], tuple[object, bool]] | None = (
            None if skip_request_body_parse else (bodies or BodyParser()).parse
        )
        self._walk = self.plans.walker(CheckRequest.DESCRIPTOR)

    def attributes(self, request: CheckRequest) -> dict[str, object]:
        """The part of the document that needs no parsing, so that a request that cannot be parsed is logged too."""
        attributes: dict[str, object] = self._walk(request)
        return attributes

    def document(self, request: CheckRequest) -> dict[str, object]:
        """The input document; `parsed_body` may be an `orjson.Fragment`.

        Raises:
            RequestParseError: path, query or body cannot be parsed.
        """
        document: dict[str, object] = self._walk(request)
        attributes = request.attributes
        http = attributes.request.http
        raw_path, _, raw_query = http.path.partition("?")
        document["version"] = VERSION
        document["parsed_path"] = split_path(raw_path)
        document["parsed_query"] = parse_query(raw_query)
        if self.parse_body is not None:
            document["parsed_body"], document["truncated_body"] = self.parse_body(http)
        principal = attributes.source.principal
        if principal:
            document["source_principal"] = principal
        return document

    def build(self, request: CheckRequest) -> str:
        """The input document as JSON text.

        Raises:
            RequestParseError: path, query or body cannot be parsed.
        """
        return orjson.dumps(self.document(request)).decode()
