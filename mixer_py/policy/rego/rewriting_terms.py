"""Statements and expressions of one rule, written anew for the engine's virtual machine. See `rewriting.py`.

What the machine gets wrong, and the form that it gets instead:

- `x := e` holds though `e` is undefined: `[x]` is asked for after it, which is undefined then;
- an operator's error ends the whole body: it is a call of a function, whose own body it ends;
- `not` of what is no boolean is an error: `[1 | e] == []`;
- `x in object` looks at keys too: a function looks at the values;
- an undefined argument does not make a call undefined: every function asks for its arguments;
- an undefined value goes into collections: comprehensions ask for theirs;
- two values of one key are silent in comprehensions: pairs are collected first, then counted;
- `every` is a comparison of what holds with what there is;
- `input` and `data` are looked up where they are first named, which may be in a loop of no turns: they are named first;
- a number is no key of a base document's object, though it is in OPA: a function gives up on that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from mixer_py.policy.builtins.table import SUPPORTED
from mixer_py.policy.rego.groups import Definition, Group
from mixer_py.policy.rego.rewriting_names import kinds_below
from mixer_py.policy.rego.rewriting_prelude import LOOP, PACKAGE, in_loop, local_name
from mixer_py.policy.rego.rewriting_references import References
from mixer_py.policy.rego.trees import ref_path

_NEVER: Final = frozenset({"http.send", "opa.runtime", "print", "rand.intn", "trace", "uuid.rfc4122", "walk"})
"""Builtins with an effect, without an equal in the machine, or whose answer is another every time."""

_GUARDED: Final = frozenset({"lower", "upper"})
"""Builtins that the machine has right for some arguments; `PRELUDE` gives up on the others."""

_ARITHMETIC: Final = {"Add": "plus", "Sub": "minus", "Mul": "times", "Div": "over", "Mod": "modulo"}
_ORDER: Final = {"Lt": ("<", "less"), "Le": ("<=", "least"), "Gt": (">", "more"), "Ge": (">=", "most")}
_SETS: Final = {"Union": "|", "Intersection": "&"}
_SCALARS: Final = frozenset({"Number", "String", "RawString", "Bool", "Null"})
_COMPREHENSIONS: Final = frozenset({"ArrayCompr", "SetCompr", "ObjectCompr"})
_BOOLEAN: Final = frozenset(
    """
    base64.is_valid contains endswith glob.match is_array is_boolean is_null is_number is_object is_set is_string
    json.is_valid net.cidr_contains net.cidr_is_valid object.subset regex.is_valid regex.match semver.is_valid
    startswith strings.any_prefix_match strings.any_suffix_match yaml.is_valid
    """.split()  # noqa: SIM905 (a table of words reads better than a list of literals)
)
_SCALAR_CALLS: Final = frozenset(
    {"abs", "ceil", "count", "floor", "indexof", "lower", "product", "round", "sum", "upper"}
)


class Terms(References):
    """Writes the terms of one definition; see `References` for what it tells of them."""

    # Statements

    def body(self, bodies: Sequence[Any], index: int = 0) -> list[str]:
        """The statements of one body; none when there is none."""
        return self._query(bodies[index]["query"]) if bodies else []

    def arguments(self, patterns: Sequence[Any], names: Sequence[str]) -> list[str]:
        """Statements that give a function's arguments, which are `names`, the names that the policy uses."""
        statements = [f"[{', '.join(names)}]"] if names else []
        for pattern, name in zip(patterns, names, strict=True):
            statements += self._match(pattern, name)
        return statements

    def bind(self, name: str, node: Any) -> list[str]:  # noqa: ANN401 (JSON)
        """Statements that give a term a name, and fail where the term is undefined."""
        statement = f"{name} := {self.expression(node)}"
        return [statement] if self.is_constant(node, deep=True) else [statement, f"[{name}]"]

    def is_constant(self, node: Any, *, deep: bool = False) -> bool:  # noqa: ANN401 (JSON)
        """Whether a term is a scalar that is known now, or with `deep` a collection of such."""
        if node is None:
            return True
        ((kind, value),) = node.items()
        if kind in _SCALARS:
            return True
        if not deep:
            return False
        if kind in {"Array", "Set"}:
            return all(self.is_constant(item, deep=True) for item in value["items"])
        if kind == "Object":
            return all(self.is_constant(term, deep=True) for _, *pair in value["fields"] for term in pair)
        return False

    def _query(self, query: Any) -> list[str]:  # noqa: ANN401 (JSON)
        return [text for statement in query["stmts"] for text in self._statement(statement)]

    def _statement(self, statement: Any) -> list[str]:  # noqa: ANN401 (JSON)
        ((kind, literal),) = statement["literal"].items()
        if statement.get("with_mods"):
            raise self._no("uses `with`", statement)
        match kind:
            case "Expr":
                return self._holds(literal["expr"])
            case "NotExpr":
                return [self._negated(literal["expr"])]
            case "SomeIn":
                return self._some_in(literal)
            case "SomeVars":
                names = ", ".join(local_name(self._source(span)) for span in literal["vars"])
                return [f"some {names}"]
            case "Every":
                return self._every(literal)
        raise self._no(f"has a statement of an unknown kind, {kind}", statement)

    def _holds(self, node: Any) -> list[str]:  # noqa: ANN401 (JSON)
        ((kind, value),) = node.items()
        if kind != "AssignExpr":
            return [self.expression(node)]
        if value["op"] == "ColEq":
            return self._assign(value["lhs"], self.expression(value["rhs"]))
        for side in (value["lhs"], value["rhs"]):
            ((form, _),) = side.items()
            if form in {"Object", "Set"} and not self.is_constant(side, deep=True):
                raise self._no("unifies an object or a set by `=`", value)
        for side, other in ((value["lhs"], value["rhs"]), (value["rhs"], value["lhs"])):
            if "Array" not in side or "Array" in other:
                continue
            name = f"m_e{value['span']['start']}"
            if "Var" in other and self._root(other["Var"]["value"]) is None:  # which this may bind
                name = local_name(other["Var"]["value"])
                bound = [f"is_array({name})"] if name != "_" else []
            else:
                bound = [f"{name} := {self.expression(other)}", f"is_array({name})"]
            return [*bound, f"{self.expression(side)} = {name}"]
        return [f"{self.expression(value['lhs'])} = {self.expression(value['rhs'])}"]

    def _negated(self, node: Any) -> str:  # noqa: ANN401 (JSON)
        ((kind, value),) = node.items()
        if kind == "AssignExpr":
            raise self._no("negates an assignment", value)
        outer, self.iterates = self.iterates, False
        text = self.expression(node)
        plain, self.iterates = not self.iterates, outer
        if plain and self._is_boolean(node) and not kinds_below(node) & _COMPREHENSIONS:
            return f"not {text}"
        return f"[1 | {LOOP}; {text}] == []"

    def _every(self, literal: Any) -> list[str]:  # noqa: ANN401 (JSON)
        domain = self.expression(literal["domain"])
        outer = self.iterates
        place = literal["value"]["start"]
        key = local_name(self._source(literal["key"])) if literal.get("key") else "_"
        key = f"m_i{place}" if key == "_" else key
        value = local_name(self._source(literal["value"]))
        held = in_loop([f"some {key}, {value} in m_d{place}", *self._query(literal["query"])])
        self.iterates = outer
        return [
            f"m_d{place} := {domain}",
            f"[m_d{place}]",
            f"not is_string(m_d{place})",
            f"count({{{key} | {held}}}) == count(m_d{place})",
        ]

    def _some_in(self, literal: Any) -> list[str]:  # noqa: ANN401 (JSON)
        collection = self.expression(literal["collection"])
        self.iterates = True
        parts, statements = [], []
        for pattern in filter(None, (literal.get("key"), literal["value"])):
            ((kind, value),) = pattern.items()
            name = local_name(value["value"]) if kind == "Var" else f"m_s{value['span']['start']}"
            parts.append(name)
            statements += self._match(pattern, name) if kind != "Var" else []
        return [f"some {', '.join(parts)} in {collection}", *statements]

    def _assign(self, pattern: Any, text: str) -> list[str]:  # noqa: ANN401 (JSON)
        """Statements that match an expression with a pattern, and fail where it is undefined."""
        ((kind, value),) = pattern.items()
        name = local_name(value["value"]) if kind == "Var" else f"m_p{value['span']['start']}"
        if name == "_":
            return [f"[{text}]"]
        return [f"{name} := {text}", f"[{name}]", *(self._match(pattern, name) if kind != "Var" else [])]

    def _match(self, pattern: Any, name: str) -> list[str]:  # noqa: ANN401 (JSON)
        """Statements that match a variable with a pattern: a name, a scalar, or an array of patterns."""
        ((kind, value),) = pattern.items()
        if kind == "Var":
            return [] if value["value"] == "_" else [f"{local_name(value['value'])} := {name}"]
        if kind in _SCALARS:
            return [f"{name} == {self.expression(pattern)}"]
        if kind != "Array":
            raise self._no("matches a pattern that is more than arrays, names and constants", value)
        statements = [f"is_array({name})", f"count({name}) == {len(value['items'])}"]
        for index, item in enumerate(value["items"]):
            ((inner, content),) = item.items()
            if inner == "Var":
                statements += self._match(item, f"{name}[{index}]")
                continue
            below = f"m_p{content['span']['start']}"
            statements += [f"{below} := {name}[{index}]", *self._match(item, below)]
        return statements

    # Expressions

    def expression(self, node: Any) -> str:  # noqa: ANN401, PLR0911 (JSON; one answer a kind)
        """An expression; none is `true`, as a value that is left out."""
        if node is None:
            return "true"
        ((kind, value),) = node.items()
        match kind:
            case "Number":
                return self._source(value["span"])
            case "String" | "RawString" | "Bool" | "Null":
                return json.dumps(value["value"])
            case "Var" | "RefDot" | "RefBrack":
                return self._reference(node)
            case "Array":
                return f"[{', '.join(map(self.expression, value['items']))}]"
            case "Set":
                return f"{{{', '.join(map(self.expression, value['items']))}}}" if value["items"] else "set()"
            case "Object":
                return self._object(value)
            case "ArrayCompr" | "SetCompr" | "ObjectCompr":
                return self._comprehension(kind, value)
            case "Call":
                return self._call(value)
            case "BoolExpr" | "ArithExpr" | "BinExpr":
                return self._operator(kind, value)
            case "Membership":
                return self._membership(value)
        raise self._no(f"has an expression of a kind that is not written anew, {kind}", value)

    def _object(self, value: Any) -> str:  # noqa: ANN401 (JSON)
        fields = [(key, item) for _, key, item in value["fields"]]
        if len(fields) > 1 and not all(self.is_constant(key) for key, _ in fields):
            raise self._no("has an object of several keys that are not all constant", value)
        return f"{{{', '.join(f'{self.expression(key)}: {self.expression(item)}' for key, item in fields)}}}"

    def _comprehension(self, kind: str, value: Any) -> str:  # noqa: ANN401 (JSON)
        outer = self.iterates
        statements = self._query(value["query"])
        place = value["span"]["start"]
        if kind == "ObjectCompr":
            key, item = f"m_k{place}", f"m_v{place}"
            inner = in_loop([*statements, *self.bind(key, value["key"]), *self.bind(item, value["value"])])
            text = f"data.{PACKAGE}.object_of({{[{key}, {item}] | {inner}}})"
        else:
            item = f"m_v{place}"
            inner = in_loop([*statements, *self.bind(item, value["term"])])
            text = f"[{item} | {inner}]" if kind == "ArrayCompr" else f"{{{item} | {inner}}}"
        self.iterates = outer
        return text

    def _call(self, value: Any) -> str:  # noqa: ANN401 (JSON)
        path = ref_path(value["fcn"])
        if path is None or self._definition is None:
            raise self._no("calls something that is not named", value)
        arguments = [self.expression(argument) for argument in value["params"]]
        full = (*self._imports[path[0]], *path[1:]) if path[0] in self._imports else path
        for candidate in ((*self._package, *path), full):
            group = self._groups.by_path.get(candidate)
            if group is not None:
                if group.kind != "function" or any(len(one.arguments) != len(arguments) for one in group.definitions):
                    raise self._no(
                        f"calls {'.'.join(path)} with a result as an argument, or what is no function", value
                    )
                self.needs.add(candidate)
                return f"data.{PACKAGE}.{group.name}({', '.join(arguments)})"
        name = ".".join(path)
        if name in _NEVER or name not in SUPPORTED:
            raise self._no(f"calls {name}", value)
        if self._replaced(name):
            if name not in _GUARDED:
                raise self._no(f"calls {name}, a function in Python", value)
            name = f"data.{PACKAGE}.ascii_{name}"
        if len(arguments) != SUPPORTED.get(name, len(arguments)):
            raise self._no(f"calls {name} with its result as an argument", value)
        return f"{name}({', '.join(arguments)})"

    def _operator(self, kind: str, value: Any) -> str:  # noqa: ANN401 (JSON)
        left, right, operator = self.expression(value["lhs"]), self.expression(value["rhs"]), value["op"]
        if kind == "ArithExpr":
            return f"data.{PACKAGE}.{_ARITHMETIC[operator]}({left}, {right})"
        if kind == "BinExpr":
            return f"({left} {_SETS[operator]} {right})"
        if operator in {"Eq", "Ne"}:
            return f"{left} {'==' if operator == 'Eq' else '!='} {right}"
        sign, function = _ORDER[operator]
        if self._is_scalar(value["lhs"]) or self._is_scalar(value["rhs"]):
            return f"{left} {sign} {right}"
        return f"data.{PACKAGE}.{function}({left}, {right})"

    def _membership(self, value: Any) -> str:  # noqa: ANN401 (JSON)
        if value.get("key"):
            raise self._no("asks for a key and a value by `in`", value)
        item, collection = self.expression(value["value"]), self.expression(value["collection"])
        return f"data.{PACKAGE}.member({item}, {collection})"

    # What is known of a term

    def _is_scalar(self, node: Any) -> bool:  # noqa: ANN401 (JSON)
        ((kind, value),) = node.items()
        return kind in _SCALARS or (kind == "Call" and ".".join(ref_path(value["fcn"]) or ()) in _SCALAR_CALLS)

    def _is_boolean(self, node: Any) -> bool:  # noqa: ANN401 (JSON)
        ((kind, value),) = node.items()
        if kind in {"BoolExpr", "Membership", "Bool"}:
            return True
        if kind == "Call":
            return ".".join(ref_path(value["fcn"]) or ()) in _BOOLEAN
        if kind == "Var":
            path = self._root(value["value"])
            group = self._groups.by_path.get(path) if path is not None else None
            return group is not None and group.kind == "complete" and all(map(_is_boolean_rule, _all(group)))
        return False


def _all(group: Group) -> Iterator[Definition]:
    yield from group.definitions
    if group.default is not None:
        yield group.default


def _is_boolean_rule(definition: Definition) -> bool:
    values = [definition.value_of(index) for index in range(max(1, len(definition.bodies)))]
    return all(value is None or "Bool" in value for value in values)
