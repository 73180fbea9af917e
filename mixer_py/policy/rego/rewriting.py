"""Write what a decision needs anew, in the part of Rego that the engine's virtual machine answers as OPA does.

The machine (RVM) compiles more of Rego than it gets right: a conflict is silent, an undefined value may be assigned, an
operator's error ends more than its expression, `else` is skipped after a loop. So nothing goes there as it was written.
Every construct known here is put in a form that was held against OPA, in one module of its own; what is not known is
`KeptOffError`, and its decision stays with the interpreter. Where the machine would have to report a conflict or call
a function that only Python has right, the new text runs into the machine's limit of instructions, and the caller
repeats the evaluation in the interpreter.

Not for: faults that a policy's author should see. Those come from the modules as they were written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from mixer_py.policy.rego.groups import Definition, Group, Groups, KeptOffError, Path
from mixer_py.policy.rego.rewriting_names import Names, find_names
from mixer_py.policy.rego.rewriting_prelude import JOIN, PACKAGE, PRELUDE, in_loop
from mixer_py.policy.rego.rewriting_terms import Terms

_MACHINE_ARGUMENTS: Final = 8
_DEEPEST: Final = 200
_RULES: Final = 500
"""Rules in one module, for the engine's limits on modules."""


@dataclass(frozen=True, slots=True)
class Written:
    """The rules of one or more decisions, written anew.

    Attributes:
        modules: texts of modules, all of package `PACKAGE`.
        entry_points: by decision, the path of a rule that is an array of the decision's value.
        kept_off: by decision, why it is not among them.
        data: names below `data` of the base documents that the rules read.
    """

    modules: Sequence[str]
    entry_points: Mapping[str, str]
    kept_off: Mapping[str, str]
    data: frozenset[str]


@dataclass(slots=True)
class _Rules:
    """One group, written anew."""

    lines: list[str] = field(default_factory=list)
    needs: set[Path] = field(default_factory=set)
    data: set[str] = field(default_factory=set)

    def note(self, terms: Terms) -> None:
        """What terms turned out to need."""
        self.needs |= terms.needs
        self.data |= terms.data


def write_decisions(trees: Sequence[Any], decisions: Sequence[str], replaced: Callable[[str], bool]) -> Written:
    """Write what `decisions` need.

    Args:
        trees: the modules' syntax trees.
        decisions: paths of rules, as `envoy/authz/allow`.
        replaced: whether a builtin is a function of ours, which the machine does not call.
    """
    writer = _Writer(Groups(trees), replaced)
    lines: list[str] = []
    entry_points: dict[str, str] = {}
    kept_off: dict[str, str] = {}
    wanted: dict[Path, None] = {}
    data: set[str] = set()
    for index, decision in enumerate(decisions):
        try:
            terms, value, needed = writer.decision(decision)
        except KeptOffError as error:
            kept_off[decision] = str(error)
            continue
        wanted.update(dict.fromkeys(needed))
        data |= terms.data
        lines.append(f"decision_{index} := [{value}]")
        entry_points[decision] = f"data.{PACKAGE}.decision_{index}"
    for path in wanted:
        rules = writer.rules(path)
        lines += rules.lines
        data |= rules.data
    modules = [PRELUDE, *("\n".join(lines[start : start + _RULES]) for start in range(0, len(lines), _RULES))]
    head = f"package {PACKAGE}\nimport rego.v1\n"
    return Written([f"{head}{text}\n" for text in modules], entry_points, kept_off, frozenset(data))


class _Writer:
    def __init__(self, groups: Groups, replaced: Callable[[str], bool]) -> None:
        self._groups = groups
        self._names: dict[int, Names] = {}
        self._replaced = replaced
        self._written: dict[Path, _Rules | str] = {}  # or why not: a kept error would hold its frames, and they this

    def decision(self, decision: str) -> tuple[Terms, str, list[Path]]:
        """A decision's value as an expression, and the rules that it needs, those first that others need."""
        terms = Terms(self._groups, self._replaced, None)
        value = terms.document(("data", *decision.strip("/").split("/")), [])
        done: dict[Path, None] = {}
        for path in sorted(terms.needs):
            self._follow(path, done, [])
        return terms, value, list(done)

    def _follow(self, path: Path, done: dict[Path, None], way: list[Path]) -> None:
        if path in done:
            return
        if path in way:
            raise KeptOffError(f"the rule {'.'.join(path)} needs itself")
        if len(way) > _DEEPEST:
            raise KeptOffError(f"the rule {'.'.join(path)} is needed over more than {_DEEPEST} other rules")
        for needed in sorted(self.rules(path).needs):
            self._follow(needed, done, [*way, path])
        done[path] = None

    def rules(self, path: Path) -> _Rules:
        """One group's rules.

        Raises:
            KeptOffError: it cannot be written anew.
        """
        if path not in self._written:
            try:
                self._written[path] = self._write(self._groups.by_path[path])
            except KeptOffError as error:
                self._written[path] = str(error)
        written = self._written[path]
        if isinstance(written, str):
            raise KeptOffError(written)
        return written

    def _write(self, group: Group) -> _Rules:
        if group.fault is not None:
            raise KeptOffError(group.fault)
        rules = _Rules()
        match group.kind:
            case "set":
                self._write_set(group, rules)
            case "object":
                self._write_object(group, rules)
            case "function":
                self._write_function(group, rules)
            case _:
                self._write_complete(group, rules)
        return rules

    def _terms(self, definition: Definition) -> Terms:
        names = self._names.get(id(definition))
        if names is None:
            names = self._names[id(definition)] = find_names(definition)
        return Terms(self._groups, self._replaced, definition, names)

    def _write_set(self, group: Group, rules: _Rules) -> None:
        for definition in group.definitions:
            terms = self._terms(definition)
            statements = terms.body(definition.bodies)
            key = terms.bind("m_k", definition.key)
            rules.lines.append(f"{group.name} contains m_k if {{ {JOIN.join([*terms.lead(), *statements, *key])} }}")
            rules.note(terms)

    def _write_object(self, group: Group, rules: _Rules) -> None:
        """An object of rules: by members where all keys are known, else from pairs."""
        members: dict[str, list[Definition]] = {}
        for definition in group.definitions:
            terms = self._terms(definition)
            if not terms.is_constant(definition.key):
                self._write_pairs(group, rules)
                return
            members.setdefault(terms.expression(definition.key), []).append(definition)
        parts = []
        for index, (key, definitions) in enumerate(members.items()):
            member = Group(group.path, f"{group.name}_member_{index}", "complete", definitions)
            self._write_definitions(member, rules, [])
            parts.append(f"{{{key}: m_v | {in_loop([f'm_v := data.{PACKAGE}.{member.name}', '[m_v]'])}}}")
        rules.lines.append(f"{group.name} := object.union_n([{', '.join(parts)}])")

    def _write_pairs(self, group: Group, rules: _Rules) -> None:
        """Pairs are collected in a set, so that two values of one key are seen."""
        pairs = f"{group.name}_pairs"
        for definition in group.definitions:
            terms = self._terms(definition)
            if len(definition.bodies) > 1:
                raise definition.kept_off("has `else` beside keys that vary")
            statements = terms.body(definition.bodies) + terms.bind("m_v", definition.value)
            key = terms.bind("m_k", definition.key)
            rules.lines.append(f"{pairs} contains [m_k, m_v] if {{ {JOIN.join([*terms.lead(), *statements, *key])} }}")
            rules.note(terms)
        rules.lines.append(f"{group.name} := data.{PACKAGE}.object_of(data.{PACKAGE}.{pairs})")

    def _write_complete(self, group: Group, rules: _Rules) -> None:
        if group.default is not None:
            terms = Terms(self._groups, self._replaced, group.default)
            if not terms.is_constant(group.default.value, deep=True):
                raise group.default.kept_off("has a default that is no constant")
            rules.lines.append(f"default {group.name} := {terms.expression(group.default.value)}")
        self._write_definitions(group, rules, [])

    def _write_function(self, group: Group, rules: _Rules) -> None:
        if group.default is not None:
            raise group.default.kept_off("is a default of a function")
        arities = {len(definition.arguments) for definition in group.definitions}
        if len(arities) > 1 or max(arities) > _MACHINE_ARGUMENTS:
            raise group.definitions[0].kept_off("has many arguments, or not always as many")
        self._write_definitions(group, rules, [f"a{index}" for index in range(arities.pop())])

    def _write_definitions(self, group: Group, rules: _Rules, arguments: list[str]) -> None:
        """A complete rule or a function: its definitions must agree, unless they cannot disagree."""
        constants = {self._constant(definition) for definition in group.definitions}
        if len(group.definitions) == 1 or (len(constants) == 1 and None not in constants):
            for index, definition in enumerate(group.definitions):
                if len(definition.bodies) < 2:
                    self._write_body(definition, 0, group.name, arguments, rules)
                    continue
                value = self._write_chain(definition, f"{group.name}_{index}", _call(arguments), rules)
                rules.lines.append(f"{group.name}{_call(arguments)} := {value}")
            return
        values = []
        for index, definition in enumerate(group.definitions):
            value = self._write_chain(definition, f"{group.name}_{index}", _call(arguments), rules)
            values.append(f"{{m_v | {in_loop([f'm_v := {value}', '[m_v]'])}}}")
        rules.lines.append(f"{group.name}{_call(arguments)} := data.{PACKAGE}.only({' | '.join(values)})")

    def _constant(self, definition: Definition) -> str | None:
        """The one value that a definition can have; None when it can have several, or is not known now."""
        terms = self._terms(definition)
        texts = set()
        for index in range(max(1, len(definition.bodies))):
            value = definition.value_of(index)
            texts.add(terms.expression(value) if terms.is_constant(value) else None)
        return texts.pop() if len(texts) == 1 else None

    def _write_chain(self, definition: Definition, name: str, arguments: str, rules: _Rules) -> str:
        """A definition with its `else`s as rules of their own, and the expression that is its value."""
        names = [a for a in arguments.strip("()").split(", ") if a]
        bodies = range(max(1, len(definition.bodies)))
        for index in bodies:
            self._write_body(definition, index, f"{name}_{index}", names, rules)
        if len(bodies) == 1:
            return f"data.{PACKAGE}.{name}_0{arguments}"
        parts = [f"data.{PACKAGE}.{name}_{index}{arguments}" for index in bodies]
        chain = " else := ".join(f"m_v if {{ m_v := {part}; [m_v] }}" for part in parts)
        rules.lines.append(f"{name}{arguments} := {chain}")
        return f"data.{PACKAGE}.{name}{arguments}"

    def _write_body(self, definition: Definition, index: int, name: str, arguments: list[str], rules: _Rules) -> None:
        terms = self._terms(definition)
        statements = [*terms.arguments(definition.arguments, arguments), *terms.body(definition.bodies, index)]
        value = definition.value_of(index)
        head = name + _call(arguments)
        if terms.is_constant(value):
            text = f"{head} := {terms.expression(value)}"
            statements = [*terms.lead(), *statements]
            rules.lines.append(f"{text} if {{ {JOIN.join(statements)} }}" if statements else text)
        else:
            bound = terms.bind("m_v", value)
            if terms.iterates:
                collected = in_loop([*terms.lead(), *statements, *bound])
                rules.lines.append(f"{head} := data.{PACKAGE}.only({{m_v | {collected}}})")
            else:
                rules.lines.append(f"{head} := m_v if {{ {JOIN.join([*terms.lead(), *statements, *bound])} }}")
        rules.note(terms)


def _call(arguments: Sequence[str]) -> str:
    return f"({', '.join(arguments)})" if arguments else ""
