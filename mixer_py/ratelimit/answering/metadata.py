"""The dynamic metadata that envoyproxy/ratelimit answers with under RESPONSE_DYNAMIC_METADATA.

Not for: our own keys (`responses.py`), which are there always.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from envoy.service.ratelimit.v3 import rls_pb2
from google.protobuf import text_format
from google.protobuf.struct_pb2 import Struct

RateLimitRequest = Any  # envoy.service.ratelimit.v3.RateLimitRequest: the generated modules carry no types
Descriptor = Any


def request_metadata(request: RateLimitRequest) -> bytes:
    """What was asked: `domain`, `descriptors`, and `hitsAddend` where the request has it.

    Args:
        request: the whole request.

    Returns:
        A part of a RateLimitResponse; such parts are merged.
    """
    response = rls_pb2.RateLimitResponse()
    fields = response.dynamic_metadata.fields
    fields["domain"].string_value = request.domain
    descriptors = fields["descriptors"].list_value.values
    for descriptor in request.descriptors:
        _describe(descriptors.add().struct_value.fields, descriptor)
    if request.hits_addend:
        fields["hitsAddend"].number_value = request.hits_addend
    written: bytes = response.SerializeToString()
    return written


def passed_metadata(passed: Iterable[Struct]) -> bytes:
    """What the limits say that let the request pass: `metadata`, where there is any.

    Args:
        passed: metadata of each descriptor that was let pass, in their order. Mappings are merged at every depth, and
            of two other values the first stays.

    Returns:
        A part of a RateLimitResponse.
    """
    response = rls_pb2.RateLimitResponse()
    for metadata in passed:
        _merge(response.dynamic_metadata.fields["metadata"].struct_value, metadata)
    written: bytes = response.SerializeToString()
    return written


def _describe(fields: Any, descriptor: Descriptor) -> None:  # noqa: ANN401 (upb's map)
    entries = fields["entries"].list_value
    for entry in descriptor.entries:
        entries.values.add().string_value = f"{entry.key}={entry.value}"
    fields["entries"].list_value.SetInParent()
    if descriptor.HasField("limit"):
        fields["limit"].string_value = text_format.MessageToString(descriptor.limit, as_one_line=True)
    if descriptor.HasField("hits_addend"):
        fields["hitsAddend"].number_value = descriptor.hits_addend.value


def _merge(into: Struct, source: Struct) -> None:
    into.SetInParent()
    for name, value in source.fields.items():
        if name not in into.fields:
            into.fields[name].CopyFrom(value)
        elif into.fields[name].HasField("struct_value") and value.HasField("struct_value"):
            _merge(into.fields[name].struct_value, value.struct_value)
