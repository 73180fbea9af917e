"""A tree to the Python that evaluates it. Not for: meaning, which `checking.py` has settled.

Nothing of the text gets into the Python as it is: strings are written by `repr`, and every name is made here. One
rule holds: a value is a Python expression, and what needs statements (macros, and `&&` and `||` over what may fail) is
written before it and leaves its value in a variable.

CEL's `&&` and `||` do not fail when one operand decides, in whatever order they stand. So the failure of an operand is
put aside as (message, reason) until the others were asked; never as an exception, which would hold on to the frame that
holds on to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC
from types import CodeType
from typing import Any, Final, Protocol

from mixer_py.attributes.vocabulary import Value
from mixer_py.errors import ExpressionBudgetError, ExpressionError
from mixer_py.expressions import limits, networks, operations, times, tree
from mixer_py.expressions.failing import fails, needs_statements, reads_only
from mixer_py.expressions.types import DURATION, STRING, Type


class Attributes(Protocol):
    """What an expression is evaluated over: `attributes.Bag`, or a row of columns."""

    def get(self, name: str, /) -> Value | None:
        """The value of an attribute as its `ValueType` says, or None where it has none."""


_INDENTATION: Final = 80  # levels; Python reads 100
_NAMES: Final[dict[str, object]] = {
    name: value
    for module in (operations, times, networks)
    for name, value in vars(module).items()
    if callable(value) and not name.startswith("_") and getattr(value, "__module__", "") == module.__name__
} | {"UTC": UTC, "ExpressionError": ExpressionError, "ExpressionBudgetError": ExpressionBudgetError}
"""What the Python of an expression may call."""


class NestedTooDeeplyError(Exception):
    """Python would not compile what was written: it has too many blocks within one another."""


@dataclass(frozen=True, slots=True)
class Python:
    """The text of a function `evaluate(attributes)`.

    Attributes:
        text: its lines.
        names: objects that it refers to, apart from those that every expression may call.
    """

    text: str
    names: Mapping[str, object]


def python_of(root: tree.Typed) -> Python:
    """The Python of a tree.

    Raises:
        NestedTooDeeplyError: macros or logical operators stand in one another too deeply.
    """
    writer = _Writer()
    value = writer.value(root)
    writer.line(f"return {value}")
    head = ["def evaluate(attributes):", "    get = attributes.get"]
    if writer.loops:
        head.append(f"    steps = {limits.STEPS}")
    return Python("\n".join([*head, *writer.lines, ""]), writer.names)


def function_of(python: Python) -> Callable[[Attributes], Any]:
    """The function that was written. It knows no names but those it uses, so that ten thousand of them stay small."""
    module = compile(python.text, "<expression>", "exec")
    (body,) = (part for part in module.co_consts if isinstance(part, CodeType))
    names = {name: _NAMES[name] for name in body.co_names if name in _NAMES} | dict(python.names)
    exec(module, names)  # noqa: S102 (written here from a checked tree)
    evaluate: Callable[[Attributes], Any] = names["evaluate"]  # type: ignore[assignment]
    return evaluate


class _Writer:
    """Writes one function.

    Attributes:
        lines: of its body.
        names: objects that the lines refer to.
        loops: whether there are any, so that steps are counted.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.names: dict[str, object] = {}
        self.loops = False
        self._indentation = 1
        self._blocks = 0
        self._made = 0
        self._in_loop = 0
        self._guards: list[tuple[str, str]] | None = None

    def line(self, text: str) -> None:
        self.lines.append("    " * self._indentation + text)

    @contextmanager
    def _block(self, head: str, *, counts: bool = False) -> Iterator[None]:
        """An indented block; `counts` says whether Python limits how many of its kind nest."""
        self.line(head)
        self._indentation += 1
        self._blocks += counts
        if self._blocks > limits.BLOCKS or self._indentation > _INDENTATION:
            raise NestedTooDeeplyError
        yield
        self._indentation -= 1
        self._blocks -= counts

    def _new(self, prefix: str = "v") -> str:
        self._made += 1
        return f"{prefix}{self._made}"

    def _name(self, value: object) -> str:
        name = self._new("k")
        self.names[name] = value
        return name

    def value(self, node: tree.Typed) -> str:  # noqa: PLR0911 (one answer a kind)
        """A Python expression for the value; statements that it needs are written before."""
        match node:
            case tree.Constant(_, value):
                return f"({value!r})"
            case tree.Prepared(_, value, _):
                return self._name(value)
            case tree.Variable(_, _, number):
                return f"x{number}"
            case tree.Attribute() | tree.Entry() | tree.HasAttribute() | tree.HasKey():
                return self._read(node)
            case tree.Apply():
                return self._apply(node)
            case tree.Among(_, value, constants):
                return f"({self.value(value)} in {self._name(constants)})"
            case tree.Logic():
                return self._logic(node)
            case tree.Choice():
                return self._choice(node)
            case tree.Listing(_, items):
                return f"[{', '.join(map(self.value, items))}]"
            case tree.Mapping(_, entries):
                pairs = "".join(f"({self.value(key)}, {self.value(value)}), " for key, value in entries)
                return f"mapping(({pairs}))"
            case tree.Loop():
                return self._loop(node)

    # Reading.

    def _read(self, node: tree.Attribute | tree.Entry | tree.HasAttribute | tree.HasKey) -> str:
        match node:
            case tree.HasAttribute(_, name):
                return f"(get({name!r}) is not None)"
            case tree.HasKey(_, tree.Attribute(_, name), key):
                found = self._new()
                return f"(({found} := get({name!r})) is not None and {self.value(key)} in {found})"
            case tree.HasKey(_, container, key):
                return f"({self.value(key)} in {self.value(container)})"
            case tree.Attribute(kind, name):
                read = self._present(f"get({name!r})", f"{name} is absent")
                return f"of_seconds({read})" if kind == DURATION else read
            case tree.Entry(_, container, key):
                shown = repr(key.value) if isinstance(key, tree.Constant) else "of that value"
                named = container.name if isinstance(container, tree.Attribute) else "the map"
                read = self.value(container)
                entry = f"{read}.get({self.value(key)})"
                if self._guards is not None:
                    entry += f" if {read} is not None else None"
                return self._present(entry, f"{named} has no key {shown}")

    def _present(self, read: str, message: str) -> str:
        """What was read, or a failure when it is None."""
        found = self._new()
        if self._guards is not None:
            self._guards.append((found, message))
            self.line(f"{found} = {read}")
            return found
        return f"({found} if ({found} := {read}) is not None else absent({message!r}))"

    # Functions.

    def _apply(self, node: tree.Apply) -> str:
        arguments = [self.value(argument) for argument in node.arguments]
        if self._in_loop and node.overload.weighs:
            cost = max(argument.cost if isinstance(argument, tree.Prepared) else 1 for argument in node.arguments)
            known = [isinstance(argument, (tree.Constant, tree.Prepared)) for argument in node.arguments]
            arguments = [
                text if constant else self._charged(text, argument.type, cost)
                for text, constant, argument in zip(arguments, known, node.arguments, strict=True)
            ]
        return node.overload.template.format(*arguments, t=self._new("t"))

    def _charged(self, value: str, kind: Type, cost: int) -> str:
        """The same value, after the steps that looking at it takes were counted."""
        if kind == STRING:
            found = self._new()
            size = f"(len({found} := {value}) * {cost} // {limits.STEP_CHARACTERS})"
        elif kind.parameters:
            found = self._new()
            size = f"weight({found} := {value})"
        else:
            return value
        return f"({found} if (steps := steps - {size}) >= 0 else exhausted())"

    # Logic.

    def _logic(self, node: tree.Logic) -> str:
        if not any(map(fails, node.operands)) and not any(map(needs_statements, node.operands)):
            return f"({(' and ' if node.conjunction else ' or ').join(map(self.value, node.operands))})"
        goes_on = "" if node.conjunction else "not "
        result, aside = self._new("r"), self._new("e")
        absorbs = any(map(fails, node.operands[:-1]))
        if absorbs:
            self.line(f"{aside} = None")
        for index, operand in enumerate(node.operands):
            last = index == len(node.operands) - 1
            if index == 0:
                self._operand(operand, result, aside, neutral=node.conjunction, last=last)
            else:
                with self._block(f"if {goes_on}{result}:"):
                    self._operand(operand, result, aside, neutral=node.conjunction, last=last)
        if absorbs:
            with self._block(f"if {aside} is not None and {goes_on}{result}:"):
                self.line(f"again(*{aside})")
        return result

    def _operand(self, node: tree.Typed, result: str, aside: str, *, neutral: bool, last: bool) -> None:
        """One operand's value into `result`; a failure goes aside, and `result` is then what decides nothing."""
        if last or not fails(node):
            self.line(f"{result} = {self.value(node)}")
        elif reads_only(node) and self._guards is None:
            self._guards = []
            value = self.value(node)
            guards, self._guards = self._guards, None
            self._decide(guards, value, result, aside, neutral=neutral)
        else:
            with self._block("try:", counts=True):
                self.line(f"{result} = {self.value(node)}")
            with self._block("except ExpressionBudgetError:"):
                self.line("raise")
            with self._block("except ExpressionError as failure:"):
                self.line(f"{aside} = (str(failure), failure.reason)")
                self.line(f"{result} = {neutral}")

    def _decide(self, guards: list[tuple[str, str]], value: str, result: str, aside: str, *, neutral: bool) -> None:
        """An operand that fails only when something is absent: no exception is needed for that."""
        word = "if"
        for found, message in guards:
            with self._block(f"{word} {found} is None:"):
                self.line(f"{aside} = {self._name((message, 'absent'))}")
                self.line(f"{result} = {neutral}")
            word = "elif"
        with self._block("else:"):
            self.line(f"{result} = {value}")

    def _choice(self, node: tree.Choice) -> str:
        condition = self.value(node.condition)
        if not needs_statements(node.yes) and not needs_statements(node.no):
            return f"({self.value(node.yes)} if {condition} else {self.value(node.no)})"
        result = self._new("r")
        with self._block(f"if {condition}:"):
            self.line(f"{result} = {self.value(node.yes)}")
        with self._block("else:"):
            self.line(f"{result} = {self.value(node.no)}")
        return result

    # Macros.

    def _loop(self, node: tree.Loop) -> str:
        over = self.value(node.range)
        result, test, aside = self._new("r"), self._new("b"), self._new("e")
        decides = node.kind in {"all", "exists"}
        absorbs = decides and node.test is not None and fails(node.test)
        starts = {"all": "True", "exists": "False", "exists_one": "0"}
        self.loops = True
        self.line(f"{result} = {starts.get(node.kind, '[]')}")
        if absorbs:
            self.line(f"{aside} = None")
        with self._block(f"for x{node.variable.number} in {over}:", counts=True):
            self._in_loop += 1
            self.line(f"steps -= {node.size + 1}")
            self.line("if steps < 0: exhausted()")
            if node.test is not None:
                self._operand(node.test, test, aside, neutral=node.kind == "all", last=not decides)
            self._pass(node, result, test)
            self._in_loop -= 1
        if absorbs:
            with self._block(f"if {aside} is not None and {'' if node.kind == 'all' else 'not '}{result}:"):
                self.line(f"again(*{aside})")
        return f"({result} == 1)" if node.kind == "exists_one" else result

    def _pass(self, node: tree.Loop, result: str, test: str) -> None:
        """What one pass does with its test."""
        match node.kind:
            case "all":
                self.line(f"if not {test}: {result} = False; break")
            case "exists":
                self.line(f"if {test}: {result} = True; break")
            case "exists_one":
                self.line(f"if {test}: {result} += 1")
            case "filter":
                self.line(f"if {test}: {result}.append(x{node.variable.number})")
            case "map" if node.test is not None:
                with self._block(f"if {test}:"):
                    self._append(node, result)
            case "map":
                self._append(node, result)

    def _append(self, node: tree.Loop, result: str) -> None:
        if node.result is None:
            return
        value = self.value(node.result)
        if node.result.type.parameters:  # else lists of lists would be larger than what it took to make them
            value = f"({value})"
            size = self._new("v")
            self.line(f"{size} = {value}")
            self.line(f"steps -= len({size})")
            value = size
        self.line(f"{result}.append({value})")
