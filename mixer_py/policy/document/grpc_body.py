"""gRPC bodies by a FileDescriptorSet (`policy.proto_descriptor`), as opa-envoy-plugin reads them.

The first message of a call that is no client stream, in protobuf's JSON form. Not for: how a body is told to be
gRPC's, or compressed messages, which stay unparsed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    json_format,
    message_factory,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message

from mixer_py.errors import Fault, PolicyLoadError, RequestParseError

FIELD: Final = "policy.proto_descriptor"
_FRAME: Final = 5
"""Octets before a message: whether it is compressed, and its length in four of them."""
_EXACT: Final = 2.0**63
"""Whole numbers below it are written without a fraction."""
_WAY_OUT: Final = "write it with protoc --include_imports --descriptor_set_out=FILE"
_WELL_KNOWN: Final = tuple(
    module.DESCRIPTOR.serialized_pb
    for module in (
        any_pb2, descriptor_pb2, duration_pb2, empty_pb2, field_mask_pb2, struct_pb2, timestamp_pb2, wrappers_pb2,
    )
)  # fmt: skip


class GrpcBodies:
    """The methods of a descriptor set. Thread-safe, holds no request."""

    __slots__ = ("_inputs", "_pool")

    def __init__(self, descriptors: bytes, file: str) -> None:
        """Reads a FileDescriptorSet.

        Args:
            descriptors: its serialized form.
            file: where it came from, for faults.

        Raises:
            PolicyLoadError: it is none, or lacks a file that another one imports.
        """
        try:
            found = descriptor_pb2.FileDescriptorSet.FromString(descriptors)
        except DecodeError:
            raise PolicyLoadError([Fault("is no FileDescriptorSet", file, field=FIELD, way_out=_WAY_OUT)]) from None
        if not found.file:
            raise PolicyLoadError([Fault("describes no file", file, field=FIELD, way_out=_WAY_OUT)])
        self._pool = _pool(found, file)
        self._inputs = dict(_input_classes(found, self._pool))

    def parse(self, path: Sequence[str], body: bytes) -> tuple[object, bool]:
        """`(parsed_body, truncated_body)` of a call.

        Args:
            path: `parsed_path` of the request.
            body: its octets, never empty.

        Raises:
            RequestParseError: the path is no method's, the frame is too short, or the message is not what the method
                takes.
        """
        if len(path) != 2:
            raise RequestParseError(f"body: the path of a gRPC call has 2 segments, not {len(path)}")
        if len(body) < _FRAME:
            raise RequestParseError(f"body: a gRPC frame has at least {_FRAME} bytes, not {len(body)}")
        if body[0]:
            return None, False
        end = _FRAME + int.from_bytes(body[1:_FRAME], "big")
        if end > len(body):
            return None, True
        kind = self._inputs.get((path[0], path[1]))
        if kind is None:
            return None, False
        return self._decode(kind, body[_FRAME:end]), False

    def _decode(self, kind: type[Message], octets: bytes) -> object:
        message = kind()
        try:
            message.ParseFromString(octets)
            if not message.IsInitialized():
                raise RequestParseError(f"body: {_name(kind)} lacks a required field")
            document = json_format.MessageToDict(message, descriptor_pool=self._pool)
        except (DecodeError, json_format.Error, TypeError, ValueError, RecursionError) as error:
            reason = " ".join(str(error).split())
            raise RequestParseError(f"body: no {_name(kind)}: {reason[:200]}") from None
        return _whole_numbers(document)


def _name(kind: type[Message]) -> str:
    return str(kind.DESCRIPTOR.full_name)


def _whole_numbers(value: Any) -> Any:  # noqa: ANN401 (a JSON value)
    """Doubles that are whole as Go writes them, `1` and not `1.0`: a policy that prints them sees the difference."""
    if isinstance(value, dict):
        return {name: _whole_numbers(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_whole_numbers(item) for item in value]
    if (
        isinstance(value, float)
        and value.is_integer()
        and abs(value) < _EXACT
        and (value or math.copysign(1, value) > 0)
    ):
        return int(value)
    return value


def _pool(found: descriptor_pb2.FileDescriptorSet, file: str) -> DescriptorPool:
    """A pool of the described files and of protobuf's own, which an `Any` may hold in any case."""
    waiting = {one.name: one for one in found.file}
    for serialized in _WELL_KNOWN:
        own = descriptor_pb2.FileDescriptorProto.FromString(serialized)
        waiting.setdefault(own.name, own)
    pool = DescriptorPool()
    added: set[str] = set()
    while waiting:
        ready = [one for one in waiting.values() if added.issuperset(one.dependency)]
        if not ready:
            raise PolicyLoadError([_import_fault(waiting, added, file)])
        for one in ready:
            try:
                pool.Add(one)
            except (TypeError, ValueError) as error:
                reason = " ".join(str(error).split())
                fault = Fault(f"{one.name} is no valid descriptor: {reason[:300]}", file, field=FIELD, way_out=_WAY_OUT)
                raise PolicyLoadError([fault]) from None
            added.add(one.name)
            del waiting[one.name]
    return pool


def _import_fault(waiting: dict[str, descriptor_pb2.FileDescriptorProto], added: set[str], file: str) -> Fault:
    for one in waiting.values():
        for dependency in one.dependency:
            if dependency not in waiting and dependency not in added:
                return Fault(
                    f"{one.name} imports {dependency}, which is not in the set", file, field=FIELD, way_out=_WAY_OUT
                )
    return Fault(f"{next(iter(waiting))} imports itself", file, field=FIELD)


def _input_classes(
    found: descriptor_pb2.FileDescriptorSet, pool: DescriptorPool
) -> Iterator[tuple[tuple[str, str], type[Message]]]:
    """The message class of every method that is no client stream, by service and method."""
    for one in found.file:
        for service in pool.FindFileByName(one.name).services_by_name.values():
            for method in service.methods:
                if not method.client_streaming:
                    kind = message_factory.GetMessageClass(method.input_type)
                    yield (str(service.full_name), str(method.name)), kind
