"""Steps that put the wanted fields of a message into a document: made once from the message's descriptor.

Where a path goes on below something that has no members, it names that as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from google.protobuf import struct_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from mixer_py.policy.document.input import Plans, Walk, plain_value

Step = Callable[[Any, dict[str, object]], None]
"""Puts what one field of a message holds into a document."""
Tree = Mapping[str, "Tree"]
"""What is read of an object, by member; a member without members of its own is read as a whole."""

_STRUCT: Final = struct_pb2.Struct.DESCRIPTOR.full_name


class StepMaker:
    """Makes steps.

    Attributes:
        unordered: whether a step was made whose values' members come in any order.
    """

    def __init__(self, plans: Plans) -> None:
        self._plans = plans
        self.unordered = False

    def message_steps(self, descriptor: Descriptor, tree: Tree) -> Iterator[Step]:
        """The steps for the fields that a tree names; what is no field of the message has none."""
        for field in descriptor.fields:  # always in one order, so that equal documents are equal texts
            members = tree.get(str(field.json_name))
            if members is not None:
                yield self._field_step(field, members)

    def _field_step(self, field: FieldDescriptor, members: Tree) -> Step:
        name, json_name, presence, convert = self._plans.entry(field)
        message = field.message_type
        if members and message is not None and not self._plans.is_indivisible(message):
            if message.GetOptions().map_entry:
                if message.fields_by_name["key"].type == FieldDescriptor.TYPE_STRING:
                    return self._map_step(name, json_name, message.fields_by_name["value"], members)
            elif not field.is_repeated:
                return _object_step(name, json_name, self._project(message, members))
        if convert is not None:
            self.unordered = True
        return _whole_step(name, json_name, convert, presence=presence)

    def _project(self, descriptor: Descriptor, members: Tree) -> Walk:
        """A function from a message to the part of its JSON object that the members name."""
        if descriptor.full_name == _STRUCT:
            return self._project_struct(members)
        steps = tuple(self.message_steps(descriptor, members))
        if len(steps) == 1:
            return _single(steps[0])

        def project(message: Any) -> dict[str, object]:  # noqa: ANN401 (a message)
            document: dict[str, object] = {}
            for step in steps:
                step(message, document)
            return document

        return project

    def _project_struct(self, members: Tree) -> Walk:
        values = tuple((name, self._value_walk(members[name])) for name in sorted(members))

        def project(struct: struct_pb2.Struct) -> dict[str, object]:
            fields = struct.fields  # asking it for a name that it has not would add that name
            return {name: walk(fields[name]) for name, walk in values if name in fields}

        return project

    def _value_walk(self, members: Tree) -> Walk:
        if not members:
            self.unordered = True
            return plain_value
        project = self._project_struct(members)
        self.unordered = True  # when it is no object it is given as a whole

        def walk(value: struct_pb2.Value) -> object:
            return project(value.struct_value) if value.WhichOneof("kind") == "struct_value" else plain_value(value)

        return walk

    def _map_step(self, name: str, json_name: str, value: FieldDescriptor, members: Tree) -> Step:
        walks = tuple((key, self._entry_walk(value, members[key])) for key in sorted(members))
        if len(walks) == 1 and walks[0][1] is None:
            return _entry_step(name, json_name, walks[0][0])

        def step(message: Any, document: dict[str, object]) -> None:  # noqa: ANN401 (a message)
            entries = getattr(message, name)
            if entries:
                document[json_name] = {
                    key: entries[key] if walk is None else walk(entries[key]) for key, walk in walks if key in entries
                }

        return step

    def _entry_walk(self, value: FieldDescriptor, members: Tree) -> Walk | None:
        if members and value.message_type is not None and not self._plans.is_indivisible(value.message_type):
            return self._project(value.message_type, members)
        walk = self._plans.value_walk(value)
        if walk is not None:
            self.unordered = True
        return walk


def _single(step: Step) -> Walk:
    def project(message: Any) -> dict[str, object]:  # noqa: ANN401 (a message)
        document: dict[str, object] = {}
        step(message, document)
        return document

    return project


def _object_step(name: str, json_name: str, project: Walk) -> Step:
    def step(message: Any, document: dict[str, object]) -> None:  # noqa: ANN401 (a message)
        if message.HasField(name):
            document[json_name] = project(getattr(message, name))

    return step


def _entry_step(name: str, json_name: str, key: str) -> Step:
    """One entry of a map of scalars: a header."""

    def step(message: Any, document: dict[str, object]) -> None:  # noqa: ANN401 (a message)
        entries = getattr(message, name)
        value = entries.get(key)
        if value is not None:
            document[json_name] = {key: value}
        elif entries:
            document[json_name] = {}

    return step


def _whole_step(name: str, json_name: str, convert: Walk | None, *, presence: bool) -> Step:
    def step(message: Any, document: dict[str, object]) -> None:  # noqa: ANN401 (a message)
        if presence:
            if message.HasField(name):
                value = getattr(message, name)
                document[json_name] = value if convert is None else convert(value)
            return
        value = getattr(message, name)
        if value:
            document[json_name] = value if convert is None else convert(value)

    return step
