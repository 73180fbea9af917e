"""What may be written where: the settings classes, read as shapes.

Loading uses it for what pydantic cannot know (suggestions, files and lines, relative paths), the document for its
table. Not for: validation, which stays pydantic's.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BeforeValidator
from pydantic.fields import FieldInfo

from mixer_py.config.address import Address
from mixer_py.settings import LocalPath, Secret, Settings, parse_duration, parse_size

Kind = Literal["section", "list", "map", "value"]


@dataclass(frozen=True, slots=True)
class Shape:
    """What may stand at one place.

    Attributes:
        kind: `section` has named members, `list` items, `map` members of any name, `value` neither.
        text: the type as the document names it.
        optional: whether `null` may stand there.
        sections: the settings classes of a section, more than one where there are alternatives.
        item: what an item of a list or a member of a map is.
        scalar: whether text or a number may stand there besides the members.
        secret, path, duration: what the value is.
    """

    kind: Kind
    text: str
    optional: bool = False
    sections: tuple[type[Settings], ...] = ()
    item: Shape | None = None
    scalar: bool = False
    secret: bool = False
    path: bool = False
    duration: bool = False

    def child(self, step: str | int) -> Shape | None:
        """The shape of that member or item; None when there can be no such."""
        if self.kind == "section":
            return self.members().get(str(step))
        if self.kind == "list":
            return self.item if isinstance(step, int) or step.isdecimal() else None
        return self.item

    def members(self) -> Mapping[str, Shape]:
        """The named members of a section."""
        return {name: shape for section in self.sections for name, shape in _members(section).items()}


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the definition.

    Attributes:
        path: its dotted name; an item of a list is `[]`.
        shape: what may stand there.
        default: what holds when it is left out; None also where it has no default.
        required: whether it must be written.
        meaning: its docstring, in one line.
    """

    path: str
    shape: Shape
    default: object
    required: bool
    meaning: str


@cache
def shape_of_settings(settings: type[Settings]) -> Shape:
    """The shape of a settings class."""
    secret = issubclass(settings, Secret)
    return Shape("section", "secret" if secret else "section", sections=(settings,), secret=secret, scalar=secret)


@cache
def _members(settings: type[Settings]) -> Mapping[str, Shape]:
    return {name: _shape_of_field(field) for name, field in settings.model_fields.items()}


def _shape_of_field(field: FieldInfo) -> Shape:
    return _shape(field.annotation, tuple(field.metadata))


def _shape(annotation: object, metadata: Sequence[object] = ()) -> Shape:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _shape(arguments[0], (*arguments[1:], *metadata))
    parsers = {entry.func for entry in metadata if isinstance(entry, BeforeValidator)}
    if parse_duration in parsers:
        return Shape("value", "duration", duration=True)
    if parse_size in parsers:
        return Shape("value", "size")
    if origin in {Union, types.UnionType}:
        return _union(tuple(_shape(option) for option in arguments))
    return _plain(annotation) if origin is None else _generic(origin, arguments)


def _generic(origin: object, arguments: tuple[Any, ...]) -> Shape:
    if origin is Literal:
        return Shape("value", " | ".join(f"`{option}`" for option in arguments))
    if origin in {dict, Mapping}:
        item = _shape(arguments[1])
        return Shape("map", f"map to {item.text}", item=item)
    if origin in {list, tuple, Sequence}:
        item = _shape(arguments[0])
        return Shape("list", f"list of {item.text}", item=item)
    return Shape("value", "value", scalar=True)


def _plain(annotation: object) -> Shape:
    if annotation is type(None):
        return Shape("value", "null", optional=True)
    if not isinstance(annotation, type) or annotation is object:
        return Shape("value", "value", scalar=True)
    if issubclass(annotation, Settings):
        return shape_of_settings(annotation)
    if issubclass(annotation, LocalPath):
        return Shape("value", "path", path=True)
    named: dict[type, str] = {bool: "boolean", int: "integer", float: "number", str: "text", Address: "address"}
    return Shape("value", named.get(annotation, annotation.__name__.lower()))


def _union(options: tuple[Shape, ...]) -> Shape:
    real = tuple(option for option in options if option.text != "null")
    optional = len(real) < len(options)
    if len(real) == 1:
        only = real[0]
        return Shape(
            only.kind, only.text, optional=True, sections=only.sections, item=only.item, scalar=only.scalar,
            secret=only.secret, path=only.path, duration=only.duration,
        )  # fmt: skip
    best = next((option for option in real if option.kind != "value"), real[0])
    return Shape(
        best.kind,
        " or ".join(dict.fromkeys(option.text for option in real)),
        optional=optional,
        sections=tuple(section for option in real for section in option.sections),
        item=best.item,
        scalar=any(option.scalar or option.kind == "value" for option in real),
        secret=any(option.secret for option in real),
        path=any(option.path for option in real),
        duration=any(option.duration for option in real),
    )


@cache
def _texts(settings: type[Settings]) -> Mapping[str, str]:
    """What stands below each field, in one line, as it is written; empty where nothing does."""
    texts = dict.fromkeys(settings.model_fields, "")
    for written in reversed([base for base in settings.__mro__ if issubclass(base, Settings)]):
        (definition,) = ast.parse(inspect.getsource(written)).body
        for field, below in pairwise(definition.body if isinstance(definition, ast.ClassDef) else ()):
            match field, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str() as text)):
                    texts[name] = " ".join(text.split())
    return texts


def keys(settings: type[Settings], prefix: str = "") -> Iterator[Key]:
    """Every key under a settings class in the order of its definition, sections before their members."""
    for name, field in settings.model_fields.items():
        shape = _shape_of_field(field)
        path = f"{prefix}{name}"
        default: Any = None if field.is_required() else field.get_default(call_default_factory=True, validated_data={})
        yield Key(path, shape, default, field.is_required(), _texts(settings)[name])
        below, inner = path, shape
        while inner.item is not None:
            below, inner = f"{below}[]" if inner.kind == "list" else f"{below}.*", inner.item
        if not inner.secret:
            for section in inner.sections:
                yield from keys(section, f"{below}.")


def suggest(path: Sequence[str], root: Shape) -> str:
    """The way out for a dotted name that does not exist: the key that was probably meant, or nothing.

    A sibling that looks alike comes first, then a key that looks alike anywhere, then the list of what may stand
    there.
    """
    dotted = ".".join(path)
    *parents, name = path
    shape: Shape | None = root
    for step in parents:
        shape = shape.child(step) if shape is not None else None
    if shape is not None and shape.kind == "list":
        return "the items of a list are counted from 0"
    siblings = list(shape.members()) if shape is not None else []
    close = difflib.get_close_matches(name, siblings, n=1, cutoff=0.6)
    if close:
        return f"did you mean {'.'.join([*parents, close[0]])}?"
    # What stands in a secret was meant for it, and for no key elsewhere.
    sections = () if shape is not None and shape.secret else root.sections[:1]
    everywhere = [
        key.path for section in sections for key in keys(section) if not f"{dotted}.".startswith(f"{key.path}.")
    ]
    same_name = [known for known in everywhere if known.rsplit(".", 1)[-1] == name]
    if same_name:
        return f"did you mean {same_name[0]}?"
    close = difflib.get_close_matches(dotted, everywhere, n=1, cutoff=0.75)
    if close:
        return f"did you mean {close[0]}?"
    return f"known here: {', '.join(sorted(siblings))}" if siblings else ""
