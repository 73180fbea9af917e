"""Names and types: from the syntax tree to a tree in which both are known, or a mistake. Not for: macros (`macros.py`).

Every type is known from the text alone. So what could only fail at a request is refused when it is loaded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Final

from mixer_py.expressions import functions, limits, macros, tree
from mixer_py.expressions.faults import MistakeError, did_you_mean
from mixer_py.expressions.functions import FUNCTIONS, METHODS, OPERATORS, Overload
from mixer_py.expressions.restrictions import KEY_WAY_OUT, check_depth, check_key, prepared
from mixer_py.expressions.scope import Scope
from mixer_py.expressions.syntax import (
    CHOICE,
    INDEX,
    NEGATION,
    Call,
    ListLiteral,
    Literal,
    MapLiteral,
    Name,
    Node,
    Select,
    start,
)
from mixer_py.expressions.types import (
    BOOL,
    DOUBLE,
    INT,
    KEYS,
    NOTHING,
    STRING,
    Type,
    common,
    list_of,
    map_of,
)

_LITERALS: Final = {bool: BOOL, int: INT, float: DOUBLE, str: STRING}
_UNSUPPORTED: Final = {
    "uint": "use int",
    "bytes": "use the string itself",
    "dyn": "every type is known here; leave dyn out",
    "type": "every type is known here; leave the comparison out",
    "max": "use math.greatest",
    "min": "use math.least",
    "ip": "compare the string, or use cidr(…).containsIP(…)",
    "now": "the time of the request is request.time",
}


class Checker:
    """Checks one expression against a scope."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._variables: dict[str, tree.Variable] = {}
        self._made = 0
        self._depth = 0

    def check(self, node: Node) -> tree.Typed:
        """The node with names and types.

        Raises:
            MistakeError: a name is not known, a type does not fit, or the tree is too deep.
        """
        self._depth += 1
        if self._depth > limits.NESTING:
            message = f"the expression is nested more than {limits.NESTING} levels deep"
            raise MistakeError(node.at, message, "write it flatter")
        match node:
            case Literal(_, value):
                typed: tree.Typed = tree.Constant(_LITERALS[type(value)], value)
            case Name() | Select():
                typed = self._path(node)
            case ListLiteral():
                typed = self._list(node)
            case MapLiteral():
                typed = self._map(node)
            case Call():
                typed = self._call(node)
        self._depth -= 1
        return typed

    @contextlib.contextmanager
    def variable(self, name: str, kind: Type) -> Iterator[tree.Variable]:
        """A variable of a macro, known inside of the context only; it hides what has the same name."""
        self._made += 1
        variable = tree.Variable(kind, name, self._made)
        hidden = self._variables.get(name)
        self._variables[name] = variable
        yield variable
        if hidden is None:
            del self._variables[name]
        else:
            self._variables[name] = hidden

    def wanted(self, node: Node, kind: Type, what: str) -> tree.Typed:
        """The node, which has to be of that type."""
        typed = self.check(node)
        if typed.type != kind:
            raise MistakeError(start(node), f"{what} has to be {kind.one}, and this is {typed.type.one}")
        return typed

    # Names.

    def attribute(self, node: Node) -> tree.Typed | None:
        """The attribute or variable that a name, perhaps with dots, stands for; None when it is none by itself."""
        dotted = _dotted(node)
        if dotted is None:
            return None
        variable = self._variables.get(dotted)
        if variable is not None:
            return variable
        if dotted.partition(".")[0] in self._variables:
            return None
        if dotted in self._scope.lacking:
            raise MistakeError(start(node), f"{dotted} never has a value here; {self._scope.lacking[dotted]}")
        kind = self._scope.types.get(dotted)
        return tree.Attribute(kind, dotted) if kind is not None else None

    def _path(self, node: Name | Select) -> tree.Typed:
        found = self.attribute(node)
        if found is not None:
            return found
        dotted = _dotted(node)
        if isinstance(node, Select) and (dotted is None or not self._ends_in_a_name(dotted)):
            return self.entry(node, self.check(node.operand), tree.Constant(STRING, node.field))
        raise self._unknown(node, dotted or "")

    def _ends_in_a_name(self, dotted: str) -> bool:
        """Whether no attribute and no variable stands before a dot in it, so that it is one name or nothing."""
        parts = dotted.split(".")
        known = (".".join(parts[:count]) for count in range(1, len(parts)))
        return not any(
            name in self._scope.types or name in self._scope.lacking or name in self._variables for name in known
        )

    def _unknown(self, node: Node, name: str) -> MistakeError:
        names = (*self._scope.types, *self._variables)
        if name in self._scope.prefixes:
            below = [known for known in self._scope.types if known.startswith(name + ".")]
            return MistakeError(start(node), f"{name} is no attribute by itself", f"use one of {', '.join(below)}")
        return MistakeError(
            start(node),
            f"no attribute is called {name}",
            did_you_mean(name, names) or "docs/attributes.md names them all",
        )

    def entry(self, node: Node, container: tree.Typed, key: tree.Typed) -> tree.Entry:
        """`container[key]`, which has to be a map."""
        if container.type.name != "map":
            raise MistakeError(node.at, f"{container.type.one} has no fields", _without_fields(container.type))
        of_keys, of_values = container.type.parameters
        if common(of_keys, key.type) is None:
            raise MistakeError(node.at, f"the keys of this map are of type {of_keys}, and this one is {key.type.one}")
        check_key(node, container, key)
        return tree.Entry(of_values, container, key)

    # Literals.

    def _list(self, node: ListLiteral) -> tree.Typed:
        items = tuple(self.check(item) for item in node.items)
        kind = self._one_type(node.items, items, "the elements of a list")
        return tree.Listing(check_depth(node, list_of(kind)), items)

    def _map(self, node: MapLiteral) -> tree.Typed:
        keys = tuple(self.check(key) for key, _ in node.entries)
        values = tuple(self.check(value) for _, value in node.entries)
        key = self._one_type([key for key, _ in node.entries], keys, "the keys of a map")
        if key not in KEYS:
            raise MistakeError(node.entries[0][0].at, f"{key.one} is no key of a map", KEY_WAY_OUT)
        value = self._one_type([value for _, value in node.entries], values, "the values of a map")
        return tree.Mapping(check_depth(node, map_of(key, value)), tuple(zip(keys, values, strict=True)))

    def _one_type(self, nodes: Sequence[Node], typed: Sequence[tree.Typed], what: str) -> Type:
        kind = NOTHING
        for node, item in zip(nodes, typed, strict=True):
            both = common(kind, item.type)
            if both is None:
                message = f"{what} are of one type, and this is {item.type.one} after {kind.one}"
                raise MistakeError(start(node), message, "convert them, as in string(…)")
            kind = both
        return kind

    # Functions and operators.

    def _call(self, node: Call) -> tree.Typed:
        name = node.function
        if node.target is None and name == "has":
            return macros.has(self, node)
        if node.target is not None and name in macros.LOOPS:
            return macros.loop(self, node, node.target)
        if name in {"&&", "||"} and node.target is None:
            return self._logic(node)
        node = _with_dotted_name(node)
        name = node.function
        operands = node.arguments if node.target is None else (node.target, *node.arguments)
        typed = tuple(self.check(operand) for operand in operands)
        generic = self._generic(node, typed)
        if generic is not None:
            return generic
        overloads = self._overloads(node)
        kinds = tuple(item.type for item in typed)
        for overload in overloads:
            if overload.parameters == kinds or _fits(overload.parameters, kinds):
                if overload.prepare is not None:
                    typed = (*typed[:-1], prepared(overload.prepare, name, operands[-1], typed[-1]))
                return tree.Apply(overload.result, overload, typed)
        raise _mismatch(node, kinds, overloads)

    def _logic(self, node: Call) -> tree.Typed:
        operands: list[tree.Typed] = []
        conjunction = node.function == "&&"
        for argument in node.arguments:
            typed = self.wanted(argument, BOOL, f"what {node.function} joins")
            if isinstance(typed, tree.Logic) and typed.conjunction == conjunction:
                operands.extend(typed.operands)
            else:
                operands.append(typed)
        return tree.Logic(BOOL, conjunction, tuple(operands))

    def _generic(self, node: Call, typed: tuple[tree.Typed, ...]) -> tree.Typed | None:  # noqa: PLR0911 (one a form)
        """What takes values of any type, as long as they fit one another."""
        match node.function, typed:
            case ("==" | "!=") as sign, (one, other) if node.target is None:
                if common(one.type, other.type) is None:
                    raise MistakeError(node.at, f"{sign} compares {one.type.one} with {other.type.one}",
                                       _conversion(one.type, other.type))  # fmt: skip
                overload = functions.EQUAL if sign == "==" else functions.UNEQUAL
                return tree.Apply(BOOL, overload, typed)
            case "in", (value, container):
                return _within(node, value, container)
            case kind, (condition, yes, no) if kind == CHOICE:
                if condition.type != BOOL:
                    raise MistakeError(
                        node.at, f"what stands before ? has to be a bool, and this is {condition.type.one}"
                    )
                both = common(yes.type, no.type)
                if both is None:
                    raise MistakeError(
                        node.at, f"both values of ?: are of one type, and these are {yes.type.one} and {no.type.one}"
                    )
                return tree.Choice(both, condition, yes, no)
            case kind, (container, key) if kind == INDEX:
                return self._index(node, container, key)
            case "+", (one, other) if one.type.name == other.type.name == "list":
                both = common(one.type, other.type)
                if both is not None:
                    return tree.Apply(both, functions.concatenation_of(both), typed)
            case "size", (container,) if container.type.parameters:
                return tree.Apply(INT, functions.SIZE, typed)
            case _:
                pass
        return None

    def _index(self, node: Call, container: tree.Typed, key: tree.Typed) -> tree.Typed:
        if container.type.name != "list":
            return self.entry(node, container, key)
        if key.type != INT:
            raise MistakeError(node.at, f"the index of a list is an int, and this is {key.type.one}")
        kind = container.type.parameters[0]
        return tree.Apply(kind, functions.element_of(kind), (container, key))

    def _overloads(self, node: Call) -> Sequence[Overload]:
        name = node.function
        if node.target is not None:
            if name in METHODS:
                return METHODS[name]
            way_out = f"write {name}(…)" if name in FUNCTIONS else did_you_mean(name, (*METHODS, *macros.LOOPS))
            raise MistakeError(node.at, f"no method is called {name}", way_out)
        overloads = OPERATORS.get(name) or FUNCTIONS.get(name)
        if overloads is not None:
            return overloads
        if name in _UNSUPPORTED:
            raise MistakeError(node.at, f"{name} is not supported", _UNSUPPORTED[name])
        way_out = f"write a.{name}(…)" if name in METHODS or name in macros.LOOPS else did_you_mean(name, FUNCTIONS)
        raise MistakeError(node.at, f"no function is called {name}", way_out)


def _with_dotted_name(node: Call) -> Call:
    """A function whose name has a dot, such as `math.least`, in place of a method of `math`."""
    match node:
        case Call(at, name, Name(_, prefix), arguments) if f"{prefix}.{name}" in FUNCTIONS:
            return Call(at, f"{prefix}.{name}", None, arguments)
        case Call(at, name, Name(_, "math")):
            raise MistakeError(at, f"no function is called math.{name}", did_you_mean(f"math.{name}", FUNCTIONS))
        case _:
            return node


def _dotted(node: Node) -> str | None:
    """The name that selections from a name spell, or None when they begin elsewhere."""
    fields: list[str] = []
    while isinstance(node, Select):
        fields.append(node.field)
        node = node.operand
    return ".".join((node.text, *reversed(fields))) if isinstance(node, Name) else None


def _within(node: Call, value: tree.Typed, container: tree.Typed) -> tree.Typed:
    if container.type.name not in {"list", "map"}:
        way_out = "a part of a string is found by a.contains(b)" if container.type == STRING else ""
        raise MistakeError(node.at, f"in looks into a list or a map, and this is {container.type.one}", way_out)
    if common(container.type.parameters[0], value.type) is None:
        message = f"in looks for {value.type.one} where each is {container.type.parameters[0].one}"
        raise MistakeError(node.at, message, _conversion(value.type, container.type.parameters[0]))
    if container.type.name == "map":
        check_key(node, container, value)
        return tree.HasKey(BOOL, container, value)
    if isinstance(container, tree.Listing):
        constants = [item.value for item in container.items if isinstance(item, tree.Constant)]
        if constants and len(constants) == len(container.items):  # what is asked of an empty one may have no hash
            return tree.Among(BOOL, value, frozenset(constants))
    return tree.Apply(BOOL, functions.WITHIN, (value, container))


def _fits(parameters: Sequence[Type], kinds: Sequence[Type]) -> bool:
    """Whether values of these types can be the arguments; only an empty list fits without being equal."""
    return len(parameters) == len(kinds) and all(
        common(parameter, kind) == parameter for parameter, kind in zip(parameters, kinds, strict=True)
    )


def _without_fields(kind: Type) -> str:
    return "a timestamp is asked by a method, as in .getHours()" if kind.name in {"timestamp", "duration"} else ""


def _conversion(one: Type, other: Type) -> str:
    kinds = {one, other}
    if kinds == {INT, DOUBLE}:
        return "convert one, as in double(…)"
    if STRING in kinds and len(kinds) > 1:
        (name,) = (str(kind) for kind in kinds - {STRING})
        return f"convert one, as in {name}(…)" if name in FUNCTIONS else ""
    return ""


def _mismatch(node: Call, kinds: Sequence[Type], overloads: Sequence[Overload]) -> MistakeError:
    name = "-" if node.function == NEGATION else node.function
    forms = "; ".join(dict.fromkeys(", ".join(map(str, overload.parameters)) for overload in overloads))
    got = ", ".join(map(str, kinds)) or "nothing"
    if name in {"+", "-", "*", "/", "%", "<", "<=", ">", ">="} and set(kinds) == {INT, DOUBLE}:
        return MistakeError(node.at, f"{name} does not mix int and double", "convert one, as in double(…)")
    what = "takes, its own object first," if node.target is not None else "takes"
    return MistakeError(node.at, f"{name} {what} {forms}, and this is {got}")
