"""From text to an expression: what it reads, its type, and the function that evaluates it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from mixer_py.errors import ConfigurationError
from mixer_py.expressions import limits, tree
from mixer_py.expressions.checking import Checker
from mixer_py.expressions.faults import MistakeError, Place
from mixer_py.expressions.functions import EQUAL, FUNCTIONS, Overload
from mixer_py.expressions.generation import Attributes, NestedTooDeeplyError, Python, function_of, python_of
from mixer_py.expressions.parser import parse
from mixer_py.expressions.scope import CHECK, Scope
from mixer_py.expressions.types import DURATION, STRING, Type

_NOWHERE: Final = Place()
_SECONDS: Final = Overload((DURATION,), DURATION, "({0} / 1000000000)")
"""A duration as an attribute has it."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Something that an expression reads.

    Attributes:
        attribute: its name.
        key: the one key of a map that is read; None for an attribute as a whole, or when a request decides the key.
    """

    attribute: str
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression. Two of the same text and type are equal.

    Attributes:
        text: as it was written.
        type: of its value.
        reads: all that its value depends on.
        equalities: constants that it asks of what it reads: when such an attribute, or such a key of a map, has a value
            that is not among its constants, then the expression is false. Where it has none the expression may fail.
        evaluate: its value over attributes: a str, int, float or bool, as `ValueType` says; a list or a dict of these.
            Raises ExpressionError when it has none. `limits` and the size of the attributes bound its cost.
    """

    text: str
    type: Type
    reads: frozenset[Reference] = field(compare=False)
    equalities: Mapping[Reference, frozenset[tree.Scalar]] = field(compare=False)
    evaluate: Callable[[Attributes], Any] = field(compare=False, repr=False)


def compile_expression(
    text: str, wanted: Type | None = None, place: Place = _NOWHERE, scope: Scope = CHECK, *, as_text: bool = False
) -> Expression:
    """Compiles a text.

    Args:
        text: in CEL; docs/expressions.md says what can be written.
        wanted: the type that its value has to have; None for any.
        place: where the text stands, for faults.
        scope: the attributes that it may use.
        as_text: turn a value that is no list and no map into text, as `string(…)` does; its type is then STRING.

    Raises:
        ConfigurationError: with what is wrong in the text.
    """
    root, python = _python(text, wanted, place, scope, as_text=as_text)
    return Expression(text, root.type, _reads(root), _equalities(root), function_of(python))


def check_expression(
    text: str, wanted: Type | None = None, place: Place = _NOWHERE, scope: Scope = CHECK, *, as_text: bool = False
) -> None:
    """Finds every fault that `compile_expression` would, in about half its time.

    Raises:
        ConfigurationError: with what is wrong in the text.
    """
    _python(text, wanted, place, scope, as_text=as_text)


def _python(text: str, wanted: Type | None, place: Place, scope: Scope, *, as_text: bool) -> tuple[tree.Typed, Python]:
    """The tree of a text, and the Python that evaluates it."""
    try:
        root = Checker(scope).check(parse(text))
        root = _as_text(root) if as_text else root
        _check_type(root.type, wanted)
        return root, python_of(tree.Apply(DURATION, _SECONDS, (root,)) if root.type == DURATION else root)
    except MistakeError as mistake:
        raise ConfigurationError([mistake.fault(text, place)]) from mistake
    except NestedTooDeeplyError as error:
        message = f"macros, and && and || in turn, stand in one another more than {limits.BLOCKS} deep"
        raise ConfigurationError([MistakeError(0, message, "write it flatter").fault(text, place)]) from error


def _as_text(root: tree.Typed) -> tree.Typed:
    for overload in FUNCTIONS["string"]:
        if overload.parameters == (root.type,):
            return tree.Apply(STRING, overload, (root,))
    raise MistakeError(0, f"{root.type.one} is no text", 'take one element, or join a list of strings by .join(",")')


def _check_type(found: Type, wanted: Type | None) -> None:
    if wanted in {None, found}:
        return
    convertible = any(overload.parameters == (found,) for overload in FUNCTIONS.get(str(wanted), ()))
    way_out = f"convert it by {wanted}(…)" if convertible else ""
    raise MistakeError(0, f"{wanted.one} is wanted, and this is {found.one}", way_out)


def _reference(node: tree.Typed) -> Reference | None:
    """What a node reads, when reading is all it does."""
    match node:
        case tree.Attribute(_, name):
            return Reference(name)
        case tree.Entry(_, tree.Attribute(_, name), tree.Constant(_, str() as key)):
            return Reference(name, key)
        case _:
            return None


def _reads(root: tree.Typed) -> frozenset[Reference]:
    found: set[Reference] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        match node:
            case tree.HasAttribute(_, name):
                found.add(Reference(name))
            case tree.HasKey(_, tree.Attribute(_, name), tree.Constant(_, str() as key)):
                found.add(Reference(name, key))
            case _:
                reference = _reference(node)
                if reference is None:
                    waiting.extend(tree.children(node))
                else:
                    found.add(reference)
    return frozenset(found)


def _equalities(root: tree.Typed) -> Mapping[Reference, frozenset[tree.Scalar]]:
    operands = root.operands if isinstance(root, tree.Logic) and root.conjunction else (root,)
    found: dict[Reference, frozenset[tree.Scalar]] = {}
    for operand in operands:
        match operand:
            case tree.Apply(_, overload, (node, tree.Constant(_, value))) if overload is EQUAL:
                reference, values = _reference(node), frozenset((value,))
            case tree.Apply(_, overload, (tree.Constant(_, value), node)) if overload is EQUAL:
                reference, values = _reference(node), frozenset((value,))
            case tree.Among(_, node, values):
                reference = _reference(node)
            case _:
                continue
        if reference is not None:
            found[reference] = found.get(reference, values) & values
    return MappingProxyType(found)
