"""gRPC bodies by a descriptor set: framing, faults of the set, and that no octets do more than be refused.

What a message becomes is in the case folders `body_grpc_*`.
"""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc
from hypothesis import given
from hypothesis import strategies as st

from mixer_py.errors import PolicyLoadError, RequestParseError
from mixer_py.policy.document.body import MAX_DEPTH, BodyParser
from mixer_py.policy.document.grpc_body import GrpcBodies
from mixer_py.policy.document.input import InputBuilder
from mixer_py.policy.policy import Policy
from mixer_py.policy.settings import PolicySettings

DESCRIPTORS = Path(__file__).parents[1] / "cases" / "ext_authz" / "descriptors"
LIBRARY = DESCRIPTORS / "library.pb"
BODIES = GrpcBodies(LIBRARY.read_bytes(), str(LIBRARY))
BORROW = ("test.library.Library", "Borrow")
STRING, MESSAGE = FieldDescriptorProto.TYPE_STRING, FieldDescriptorProto.TYPE_MESSAGE


def frame(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


def proto2_set() -> FileDescriptorSet:
    """A message with a required field, and a service that takes it; the files stand in the wrong order."""
    messages = FileDescriptorProto(name="messages.proto", package="old", syntax="proto2")
    needed = messages.message_type.add(name="Needed")
    needed.field.add(name="name", number=1, label=FieldDescriptorProto.LABEL_REQUIRED, type=STRING)
    service = FileDescriptorProto(name="service.proto", package="old", dependency=["messages.proto"])
    method = service.service.add(name="Service").method.add(name="Call")
    method.input_type = method.output_type = ".old.Needed"
    return FileDescriptorSet(file=[service, messages])


def test_the_committed_set_is_what_its_proto_says(tmp_path: Path) -> None:
    made = tmp_path / "library.pb"
    arguments = ["protoc", f"-I{DESCRIPTORS}", "--include_imports", f"--descriptor_set_out={made}", "library.proto"]
    include = Path(protoc.__file__).parent / "_proto"
    assert protoc.main([*arguments, f"-I{include}"]) == 0
    assert FileDescriptorSet.FromString(made.read_bytes()) == FileDescriptorSet.FromString(LIBRARY.read_bytes())


@given(st.binary(max_size=40))
def test_octets_are_refused_or_are_a_message(octets: bytes) -> None:
    for body in (octets, frame(octets)):
        try:
            value, truncated = BODIES.parse(BORROW, body)
        except RequestParseError:
            continue
        assert isinstance(value, dict) or value is None
        assert not (truncated and value is not None)
        orjson.dumps(value)


@given(st.binary(min_size=5, max_size=12), st.integers(0, 20))
def test_a_frame_longer_than_its_body_is_truncated(body: bytes, more: int) -> None:
    promised = len(body) - 5 + 1 + more
    assert BODIES.parse(BORROW, b"\0" + promised.to_bytes(4, "big") + body[5:]) == (None, True)


def test_whole_doubles_are_whole_up_to_64_bits() -> None:
    # fee, field 9, a double; notes, field 12, a Struct
    assert BODIES.parse(BORROW, frame(b"\x49" + bytes.fromhex("0000000000000840"))) == ({"fee": 3}, False)
    value, _ = BODIES.parse(BORROW, frame(b"\x49" + bytes.fromhex("00000000000000f0")[::-1]))
    assert orjson.dumps(value)  # an integer beyond 64 bits could not be written


def test_a_required_field_must_be_there() -> None:
    bodies = GrpcBodies(proto2_set().SerializeToString(), "old.pb")
    assert bodies.parse(("old.Service", "Call"), frame(b"\x0a\x01a")) == ({"name": "a"}, False)
    with pytest.raises(RequestParseError, match=r"old\.Needed lacks a required field"):
        bodies.parse(("old.Service", "Call"), frame(b""))


@pytest.mark.parametrize(("depth", "fits"), [(50, True), (70, False), (200, False)])
def test_a_message_nested_too_deep_is_refused(depth: int, fits: bool) -> None:
    """Each message is an object in an array, so two levels of JSON; protobuf itself reads 100 messages deep."""
    tree = FileDescriptorProto(name="tree.proto", package="tree", syntax="proto3")
    node = tree.message_type.add(name="Node")
    node.field.add(name="children", number=1, label=FieldDescriptorProto.LABEL_REPEATED, type_name=".tree.Node")
    method = tree.service.add(name="Trees").method.add(name="Plant")
    method.input_type = method.output_type = ".tree.Node"
    message = b""
    for _ in range(depth):
        message = b"\x0a" + _length(message) + message
    http = CheckRequest().attributes.request.http
    http.path = "/tree.Trees/Plant"
    http.headers["content-type"] = "application/grpc"
    http.raw_body = frame(message)
    parser = BodyParser(GrpcBodies(FileDescriptorSet(file=[tree]).SerializeToString(), "tree.pb"))
    if fits:
        assert 2 * depth < MAX_DEPTH
        assert parser.parse(http)[0]
    else:
        with pytest.raises(RequestParseError, match=r"nested more than|no tree\.Node"):
            parser.parse(http)


def _length(octets: bytes) -> bytes:
    """The length of a nested message as protobuf writes it."""
    length, written = len(octets), bytearray()
    while length > 0x7F:
        written.append(length & 0x7F | 0x80)
        length >>= 7
    written.append(length)
    return bytes(written)


def test_without_a_set_a_grpc_body_stays_unparsed_whatever_it_holds() -> None:
    http = CheckRequest().attributes.request.http
    http.headers["content-type"] = "application/grpc"
    http.raw_body = b"\0"
    assert BodyParser().parse(http) == (None, False)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"\xff", "is no FileDescriptorSet"),
        (b"", "describes no file"),
        (
            FileDescriptorSet(file=[FileDescriptorProto(name="a", dependency=["b.proto"])]).SerializeToString(),
            r"a imports b\.proto, which is not in the set \(write it with protoc --include_imports",
        ),
        (
            FileDescriptorSet(file=[FileDescriptorProto(name="a", dependency=["a"])]).SerializeToString(),
            "a imports itself",
        ),
    ],
)
def test_a_faulty_set_is_a_fault_with_its_file(tmp_path: Path, content: bytes, fault: str) -> None:
    file = tmp_path / "set.pb"
    file.write_bytes(content)
    with pytest.raises(PolicyLoadError, match=fault) as caught:
        Policy.load(PolicySettings(proto_descriptor=str(file)))
    assert caught.value.faults[0].file == str(file)
    assert caught.value.faults[0].field == "policy.proto_descriptor"


def test_an_unknown_type_in_a_set_is_a_fault(tmp_path: Path) -> None:
    faulty = FileDescriptorProto(name="a.proto")
    faulty.message_type.add(name="M").field.add(name="x", number=1, label=1, type=MESSAGE, type_name=".no.Such")
    file = tmp_path / "set.pb"
    file.write_bytes(FileDescriptorSet(file=[faulty]).SerializeToString())
    with pytest.raises(PolicyLoadError, match=r"a\.proto is no valid descriptor"):
        Policy.load(PolicySettings(proto_descriptor=str(file)))


def test_a_missing_file_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(PolicyLoadError, match="cannot be read: No such file"):
        Policy.load(PolicySettings(proto_descriptor=str(tmp_path / "no.pb")))


def test_the_set_is_part_of_the_revision(tmp_path: Path) -> None:
    file = tmp_path / "old.pb"
    file.write_bytes(proto2_set().SerializeToString())
    revisions = {
        Policy.load(PolicySettings()).revision,
        Policy.load(PolicySettings(proto_descriptor=str(LIBRARY))).revision,
        Policy.load(PolicySettings(proto_descriptor=str(file))).revision,
    }
    assert len(revisions) == 3


def test_a_builder_parses_grpc_where_it_is_told_to() -> None:
    request = CheckRequest()
    http = request.attributes.request.http
    http.path = "/test.library.Library/Borrow"
    http.headers["content-type"] = "application/grpc"
    http.raw_body = frame(b"\x0a\x03ann")
    document = InputBuilder(bodies=BodyParser(BODIES)).document(request)
    assert document["parsed_body"] == {"readerName": "ann"}
    assert InputBuilder().document(request)["parsed_body"] is None
