"""The input document, held against a reference that walks a message by reflection over its populated fields."""

from __future__ import annotations

import base64
import json
from typing import Any

import orjson
import pytest
from envoy.config.core.v3.address_pb2 import SocketAddress
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer_py.errors import RequestParseError
from mixer_py.policy.document.body import parse_json
from mixer_py.policy.document.input import InputBuilder
from mixer_py.policy.document.projection import Projection

BUILDER = InputBuilder()


def reference_value(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return reference_message(value)
    return base64.b64encode(value).decode() if field.type == field.TYPE_BYTES else value


def reference_plain(value: Any) -> Any:
    """A Struct, Value or ListValue as the JSON it stands for."""
    if isinstance(value, Struct):
        return {key: reference_plain(item) for key, item in value.fields.items()}
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return reference_plain(value.struct_value)
    if kind == "list_value":
        return [reference_plain(item) for item in value.list_value.values]
    return None if kind in {None, "null_value"} else getattr(value, kind)


def reference_message(message: Message) -> Any:
    if isinstance(message, Struct):
        return reference_plain(message)
    document: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            inner = field.message_type.fields_by_name["value"]
            document[field.json_name] = {str(key): reference_value(inner, value[key]) for key in value}
        elif field.is_repeated:
            document[field.json_name] = [reference_value(field, item) for item in value]
        else:
            document[field.json_name] = reference_value(field, value)
    return document


NAMES = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), max_size=6)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


def _fill(data: st.DataObject, message: Message, depth: int = 0) -> None:
    """Populate a random choice of a message's fields."""
    if isinstance(message, Struct):
        message.update(data.draw(st.dictionaries(NAMES, PLAIN, max_size=3)))
        return
    for field in message.DESCRIPTOR.fields:
        if depth > 6 or not data.draw(st.booleans(), label=field.name):
            continue
        target = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            for key in data.draw(st.lists(NAMES, max_size=2, unique=True)):
                inner = field.message_type.fields_by_name["value"]
                if inner.message_type is not None:
                    target[key].SetInParent()
                    _fill(data, target[key], depth + 1)
                else:
                    target[key] = data.draw(_scalar(inner))
        elif field.message_type is not None:
            target = target.add() if field.is_repeated else target
            target.SetInParent()
            _fill(data, target, depth + 1)
        elif field.is_repeated:
            target.extend(data.draw(st.lists(_scalar(field), max_size=2)))
        else:
            setattr(message, field.name, data.draw(_scalar(field)))


def _scalar(field: Any) -> st.SearchStrategy[Any]:
    if field.enum_type is not None:
        return st.sampled_from([value.number for value in field.enum_type.values])
    return {
        field.CPPTYPE_STRING: st.binary(max_size=6) if field.type == field.TYPE_BYTES else NAMES,
        field.CPPTYPE_BOOL: st.booleans(),
        field.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1),
        field.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
        field.CPPTYPE_UINT32: st.integers(0, 2**32 - 1),
        field.CPPTYPE_UINT64: st.integers(0, 2**64 - 1),
        field.CPPTYPE_DOUBLE: st.floats(allow_nan=False, allow_infinity=False),
        field.CPPTYPE_FLOAT: st.floats(width=32, allow_nan=False, allow_infinity=False),
    }[field.cpp_type]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_attributes_are_the_populated_fields(data: st.DataObject) -> None:
    request = CheckRequest()
    _fill(data, request)
    request.attributes.request.http.path = "/"
    document = InputBuilder(skip_request_body_parse=True).document(request)
    assert document["attributes"] == reference_message(request)["attributes"]
    orjson.loads(orjson.dumps(document))


def test_an_empty_request_has_no_attributes() -> None:
    assert orjson.loads(BUILDER.build(CheckRequest())) == {
        "version": {"ext_authz": "v3", "encoding": "protojson"},
        "parsed_path": [""],
        "parsed_query": {},
        "parsed_body": None,
        "truncated_body": False,
    }


def _with_values() -> CheckRequest:
    request = CheckRequest()
    request.attributes.source.address.socket_address.protocol = SocketAddress.UDP
    request.attributes.request.time.FromJsonString("2026-01-02T03:04:05.5Z")
    request.attributes.request.http.size = 2**60
    return request


@pytest.mark.parametrize(
    ("protojson", "protocol", "time", "size"),
    [
        (False, 1, {"seconds": 1767323045, "nanos": 500000000}, 2**60),
        (True, "UDP", "2026-01-02T03:04:05.500Z", str(2**60)),
    ],
)
def test_times_enums_and_long_integers_have_two_forms(
    protojson: bool, protocol: object, time: object, size: object
) -> None:
    builder = InputBuilder(protojson=protojson)
    attributes = orjson.loads(builder.build(_with_values()))["attributes"]
    assert attributes["source"]["address"]["socketAddress"]["protocol"] == protocol
    assert attributes["request"]["time"] == time
    assert attributes["request"]["http"]["size"] == size
    read = ("attributes", "request", "time", "seconds")  # text has no members, so it is given as a whole
    projected = orjson.loads(Projection([read], builder).build(_with_values()))
    assert projected["attributes"]["request"]["time"] == (time if protojson else {"seconds": 1767323045})


def test_what_has_no_form_of_its_own_keeps_its_numbers() -> None:
    request = CheckRequest()
    request.attributes.request.time.seconds = 2**60
    typed = request.attributes.metadata_context.typed_filter_metadata
    typed["known"].Pack(Duration(seconds=3))
    typed["unknown"].type_url = "type.googleapis.com/no.Such"
    attributes = orjson.loads(InputBuilder(protojson=True).build(request))["attributes"]
    assert attributes["request"]["time"] == {"seconds": str(2**60)}
    assert attributes["metadataContext"]["typedFilterMetadata"] == {
        "known": {"@type": "type.googleapis.com/google.protobuf.Duration", "value": "3s"},
        "unknown": {"typeUrl": "type.googleapis.com/no.Such"},
    }


def test_numbers_of_a_struct_that_are_none_are_text_as_in_go() -> None:
    request = CheckRequest()
    struct = request.attributes.metadata_context.filter_metadata["f"]
    for name in ("nan", "inf", "-inf"):
        struct.fields[name].number_value = float(name)
    metadata = orjson.loads(BUILDER.build(request))["attributes"]["metadataContext"]
    assert metadata["filterMetadata"]["f"] == {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


@given(st.text(max_size=30) | st.recursive(st.integers(), st.lists, max_leaves=3).map(str))
def test_a_json_body_stays_within_its_place(body: str) -> None:
    """Whatever a body holds, it is refused, or it is `parsed_body` and nothing else."""
    request = CheckRequest()
    http = request.attributes.request.http
    http.headers["content-type"] = "application/json"
    http.body = body
    try:
        text = BUILDER.build(request)
    except RequestParseError:
        return
    document = orjson.loads(text)
    assert set(document) == {"attributes", "version", "parsed_path", "parsed_query", "parsed_body", "truncated_body"}
    assert document["parsed_body"] == (orjson.loads(body) if body else None)


def test_a_body_that_is_no_utf8_outside_of_text_is_refused() -> None:
    request = CheckRequest()
    http = request.attributes.request.http
    http.headers["content-type"] = "application/json"
    http.raw_body = b"\xff"
    with pytest.raises(RequestParseError, match="invalid JSON"):
        BUILDER.build(request)


@pytest.mark.parametrize("text", [b"1 null", b"1 2", b"", b"\xef\xbb\xbf1", b'"\\ud800" null', b'"\xff" null'])
def test_json_is_one_value_and_nothing_else(text: bytes) -> None:
    """A `null` after the value too, which opa-envoy-plugin overlooks."""
    with pytest.raises(RequestParseError, match="invalid JSON"):
        parse_json(text)


@given(
    st.lists(
        st.sampled_from(["\\", '\\"', "\\u", "d800", "dc00", "D8", "a", "é", "\\ud83d", "\\ude00", "\\n"]), max_size=8
    )
)
def test_halves_of_surrogate_pairs_are_replaced_as_the_standard_library_finds_them(parts: list[str]) -> None:
    """Python's own reader keeps them apart, so it says which are halves."""
    text = '"' + "".join(parts) + '"'
    try:
        wanted = json.loads(text)
    except ValueError:
        with pytest.raises(RequestParseError):
            parse_json(text.encode())
        return
    replaced = "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in wanted)
    assert orjson.loads(orjson.dumps(parse_json(text.encode()))) == replaced
