"""References to attributes that no input document has.

Such a reference is always undefined, which is seldom meant and easily overlooked: `not input.x` is then always true.
A mistake to tell a person of; OPA loads such policies, and so does the server.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final

from envoy.service.auth.v3.external_auth_pb2 import CheckRequest
from google.protobuf import any_pb2, struct_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from mixer_py.errors import Fault
from mixer_py.policy.reference import join
from mixer_py.policy.rego.reads import ReadAnalysis
from mixer_py.policy.rego.reads_rules import InputRead

_ANYTHING: Final = frozenset({struct_pb2.Struct.DESCRIPTOR.full_name, any_pb2.Any.DESCRIPTOR.full_name})
_HEADERS: Final = ("attributes", "request", "http", "headers")
_SUGGESTED: Final = 0.6
_WITH_INPUT: Final = re.compile(r"\bwith\s+input\b")


@dataclass(frozen=True, slots=True)
class Shape:
    """What can be at a place of the input document.

    Attributes:
        members: shapes by name, of an object.
        open: any member may be there: a map, an array, or JSON that a caller wrote.
    """

    members: Mapping[str, Shape] = field(default_factory=dict)
    open: bool = False


_LEAF: Final = Shape()
_OPEN: Final = Shape(open=True)


def input_shape() -> Shape:
    """The shape of every input document: opa-envoy-plugin's."""
    members = dict(_message(CheckRequest.DESCRIPTOR, {}).members)
    members["version"] = Shape({"ext_authz": _LEAF, "encoding": _LEAF})
    members |= dict.fromkeys(("parsed_path", "parsed_query", "parsed_body"), _OPEN)
    members |= dict.fromkeys(("truncated_body", "source_principal"), _LEAF)
    return Shape(members)


def check_attributes(trees: Sequence[Any], decisions: Sequence[str]) -> list[Fault]:
    """A fault for every attribute that a decision reads and no input document has, with a suggestion.

    Modules that give rules another `input` by `with` are left out: their input may be of any shape.

    Args:
        trees: the modules' syntax trees.
        decisions: paths of the rules that are asked for.
    """
    analysis = ReadAnalysis(trees)
    replaced = {_file(tree) for tree in trees if _WITH_INPUT.search(tree["source"]["contents"])}
    reads = {read: None for decision in decisions for read in analysis.places(decision) if read.file not in replaced}
    shape = input_shape()
    known = list(_paths(shape, ()))
    faults = (_attribute_fault(read, shape, known) for read in reads)
    return sorted((fault for fault in faults if fault is not None), key=lambda fault: (fault.file, fault.line))


def _message(descriptor: Descriptor, known: dict[str, Shape]) -> Shape:
    if descriptor.full_name in _ANYTHING:
        return _OPEN
    if descriptor.full_name not in known:
        members: dict[str, Shape] = {}
        known[descriptor.full_name] = Shape(members)  # first, because types may refer to themselves
        members.update((str(one.json_name), _field(one, known)) for one in descriptor.fields)
    return known[descriptor.full_name]


def _field(one: FieldDescriptor, known: dict[str, Shape]) -> Shape:
    if one.is_repeated:
        return _OPEN
    return _LEAF if one.message_type is None else _message(one.message_type, known)


def _paths(shape: Shape, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for name, below in shape.members.items():
        yield (*path, name)
        if name not in path:
            yield from _paths(below, (*path, name))


def _attribute_fault(read: InputRead, shape: Shape, known: Sequence[tuple[str, ...]]) -> Fault | None:
    for depth, part in enumerate(read.path):
        if shape.open:
            return _header_fault(read)
        below = shape.members.get(part)
        if below is None:
            where, named = read.path[:depth], join("input", read.path[: depth + 1])
            if not shape.members:
                message = f"{join('input', where)} is no object, so {named} is always undefined"
                return Fault(message, read.file, read.line)
            message = f"there is no attribute {named} in the input of a check"
            return Fault(message, read.file, read.line, way_out=_better(read.path, depth, shape, known))
        shape = below
    return None


def _header_fault(read: InputRead) -> Fault | None:
    """Envoy writes the names of headers in small letters."""
    depth = len(_HEADERS)
    if read.path[:depth] != _HEADERS or read.path[depth] == read.path[depth].lower():
        return None
    good = join("input", (*_HEADERS, read.path[depth].lower()))
    message = f"Envoy gives names of headers in small letters, so {join('input', read.path)} is always undefined"
    return Fault(message, read.file, read.line, way_out=f"did you mean {good}?")


def _better(path: tuple[str, ...], depth: int, shape: Shape, known: Sequence[tuple[str, ...]]) -> str:
    """A suggestion: a name of the same place, else the shortest path that ends as the reference does."""
    rest = path[depth:]
    ends = (rest, rest[-1:])
    below = next(filter(None, ([one for one in known if one[-len(end) :] == end] for end in ends)), [])
    near = get_close_matches(path[depth], shape.members, n=1, cutoff=_SUGGESTED)
    if near:
        return f"did you mean {join('input', (*path[:depth], near[0]))}?"
    if below:
        shortest: tuple[str, ...] = min(below, key=len)
        return f"did you mean {join('input', shortest)}?"
    return f"there are {', '.join(sorted(shape.members))}"


def _file(tree: Any) -> str:  # noqa: ANN401 (JSON)
    return str(tree["source"]["file"])
