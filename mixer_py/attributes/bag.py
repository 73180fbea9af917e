"""The attributes of one check, each read from the CheckRequest when it is asked for.

How an attribute is read is compiled from the vocabulary when this module is imported; a look-up is then one call.
Not for: log entries, which are read in columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import parse_qsl

from envoy.service.auth.v3.attribute_context_pb2 import AttributeContext as Context
from google.protobuf import struct_pb2, timestamp_pb2

from mixer_py.attributes import spiffe
from mixer_py.attributes.tokens import ISSUER, JWT_AUTHN, claim_text, claims_as_texts
from mixer_py.attributes.vocabulary import ATTRIBUTES, Absent, At, Attribute, Derived, Key, Value, ValueType

Reader = Callable[[Context], Value | None]


def _header(context: Context, name: str) -> str:
    """One request header; of a repeated one, with `encode_raw_headers`, the values joined by commas."""
    http = context.request.http
    found = http.headers.get(name)
    if found is None and http.HasField("header_map"):
        raw = [header.raw_value for header in http.header_map.headers if header.key == name]
        return b",".join(raw).decode("utf-8", "replace")
    return found or ""


def _headers(context: Context, _argument: str) -> Mapping[str, str]:
    http = context.request.http
    if http.headers or not http.HasField("header_map"):
        return dict(http.headers)
    return {header.key: _header(context, header.key) for header in http.header_map.headers}


def _url_path(context: Context, _argument: str) -> str:
    path: str = context.request.http.path
    return path.partition("#")[0].partition("?")[0]


def _query_params(context: Context, _argument: str) -> Mapping[str, str]:
    query = context.request.http.path.partition("#")[0].partition("?")[2]
    return dict(reversed(parse_qsl(query, keep_blank_values=True)))


def _spiffe_namespace(context: Context, principal: str) -> str:
    name = spiffe.parse(str(READERS[principal](context) or ""))
    return name.namespace if name else ""


def _spiffe_service_account(context: Context, principal: str) -> str:
    name = spiffe.parse(str(READERS[principal](context) or ""))
    return name.service_account if name else ""


def _host(context: Context, _argument: str) -> str:
    """The host without its port; an IPv6 address keeps its brackets."""
    host: str = context.request.http.host
    name, colon, port = host.rpartition(":")
    return name if colon and (port.isdigit() or not port) else host


def _labels_of_host(context: Context) -> list[str]:
    host = _host(context, "")
    return [host] if host.startswith("[") or host.replace(".", "").isdigit() else host.split(".")


def _first_label(context: Context, _argument: str) -> str:
    return _labels_of_host(context)[0]


def _service_namespace(context: Context, _argument: str) -> str:
    labels = _labels_of_host(context)
    return labels[1] if len(labels) > 2 and labels[2] == "svc" else ""


def _forwarded_for(context: Context, _argument: str) -> str:
    return _header(context, "x-forwarded-for").partition(",")[0].strip()


def _mutual_tls(context: Context, _argument: str) -> bool:
    return bool(context.source.principal or context.source.certificate)


def _protocol(context: Context, _argument: str) -> str:
    return "grpc" if _header(context, "content-type").startswith("application/grpc") else "http"


def _token(context: Context) -> Mapping[str, struct_pb2.Value]:
    """Claims of the token that Envoy's jwt_authn checked; it stands under a key that its configuration chose."""
    metadata = context.metadata_context.filter_metadata
    if JWT_AUTHN in metadata:
        for value in metadata[JWT_AUTHN].fields.values():
            if ISSUER in value.struct_value.fields:
                fields: Mapping[str, struct_pb2.Value] = value.struct_value.fields
                return fields
    return {}


def _jwt(context: Context, claim: str) -> Value:
    claims = _token(context)
    if claim == "claims":
        return claims_as_texts(claims)
    return claim_text(claims, claim)


DERIVATIONS: Final[Mapping[str, Callable[[Context, str], Value]]] = MappingProxyType({
    "headers": _headers, "url_path": _url_path, "query_params": _query_params, "host": _host,
    "first_label": _first_label, "service_namespace": _service_namespace, "spiffe_namespace": _spiffe_namespace,
    "spiffe_service_account": _spiffe_service_account, "forwarded_for": _forwarded_for, "mutual_tls": _mutual_tls,
    "protocol": _protocol, "jwt": _jwt,
})  # fmt: skip
"""What the vocabulary's derived attributes are derived by."""


def _compile(attribute: Attribute) -> Reader:
    """A function from a check's context to the attribute's value, or None where it has none."""
    match attribute.check:
        case At(path):
            return _compile_path(path, attribute.value_type)
        case Key("request.http.headers", name):
            return lambda context: _header(context, name) or None
        case Key(path, name):
            map_of = attrgetter(path)
            return lambda context: map_of(context).get(name) or None
        case Derived(_, function, argument):
            derive = DERIVATIONS[function]
            if attribute.value_type in {ValueType.BOOL, ValueType.STRING_MAP}:
                return lambda context: derive(context, argument)
            return lambda context: derive(context, argument) or None
        case Absent():
            return lambda _context: None


def _compile_path(path: str, value_type: ValueType) -> Reader:
    """A reader of one path; what can be absent in the message is None where it is."""
    above, _, name = path.rpartition(".")
    get: Callable[[Context], Any] = attrgetter(path)
    parent: Callable[[Context], Any] = attrgetter(above) if above else lambda context: context
    if value_type is ValueType.STRING_MAP:
        return lambda context: dict(get(context))
    if value_type is ValueType.TIMESTAMP:

        def nanoseconds(context: Context) -> int | None:
            instant: timestamp_pb2.Timestamp = get(context)
            return instant.seconds * 1_000_000_000 + instant.nanos if parent(context).HasField(name) else None

        return nanoseconds
    if value_type is ValueType.INT64:
        if parent(Context()).DESCRIPTOR.fields_by_name[name].has_presence:
            return lambda context: get(context) if parent(context).HasField(name) else None
        return lambda context: value if (value := get(context)) >= 0 else None  # Envoy sends size -1 for unknown
    return lambda context: get(context) or None


READERS: Final[Mapping[str, Reader]] = MappingProxyType(
    {attribute.name: _compile(attribute) for attribute in ATTRIBUTES}
)
"""How each attribute of the vocabulary is read from a check."""


class Bag:
    """The attributes of one check; not to be kept longer than the check's message."""

    __slots__ = ("_context", "_values")

    def __init__(self, context: Context) -> None:
        """Takes `CheckRequest.attributes`; nothing is read yet."""
        self._context = context
        self._values: dict[str, Value | None] = {}

    def get(self, name: str) -> Value | None:
        """The attribute's value as `ValueType` says, or None where the check does not have it.

        Raises:
            KeyError: no such attribute is in the vocabulary.
        """
        try:
            return self._values[name]
        except KeyError:
            value = self._values[name] = READERS[name](self._context)
            return value

    def text(self, name: str) -> str:
        """The value of a text attribute, empty where the check does not have it."""
        value = self.get(name)
        return value if isinstance(value, str) else ""
