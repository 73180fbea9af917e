"""Modules in Rego v0, written anew in Rego v1 when they are read, so that all that comes after knows one language.

Only heads and keywords differ, so the text is edited and each line stays where it is: `p {` becomes `p if {`, and the
set `p[x] {` becomes `p contains x if {`. Which rule a head stands for is OPA's to say (v1.22 v1/ast/parser.go,
`parseRules`, and parser_ext.go, `ParseRuleFromExpr`). The new text is parsed as v1 and has to mean what the old one
did, node for node; what does not is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import orjson

from mixer_py.errors import Fault, PolicyLoadError
from mixer_py.policy.rego.calls import Functions, call_nodes
from mixer_py.policy.rego.faults import engine_fault
from mixer_py.policy.rego.panics import guarded
from mixer_py.policy.rego.parser import new_engine
from mixer_py.policy.rego.trees import ref_path, span_of

_RENAMED: Final = {"re_match": ("regex", "match"), "net.cidr_overlap": ("net", "cidr_contains")}
"""Builtins that v1 has by another name only. Source: OPA v1.22 v1/topdown/regex.go and cidr.go."""
_BLANK: Final = re.compile(rb"(?:\s|#[^\n]*(?:\n|\Z))*")
_CLOSING: Final = (b'"', b"`")
_CHAINED_SET: Final = "else cannot be used with set rules"
_POSITIONS: Final = frozenset({"span", "eidx", "sidx", "qidx"})
_SPAN: Final = frozenset({"line", "col", "start", "end"})
_ADVICE: Final = (
    "if it is written in Rego v1, set policy.rego_version: v1, or rego_version in its bundle's .manifest; else rewrite "
    "it with `opa fmt --write --v0-v1`"
)

Edit = tuple[int, int, bytes]
"""Start, end, and what to put there; in bytes."""


class _UntranslatableError(Exception):
    """Why a rule cannot be written in v1, and its line."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def as_version_one(text: str, file: str) -> str:
    """A module in v0 as v1; one that imports `rego.v1` is that already.

    Args:
        text: the module.
        file: the path that people know.

    Raises:
        PolicyLoadError: it is no Rego v0, or what it means cannot be kept for certain.
    """
    text, tree = _parse_chains(text, file)
    if tree["ast"]["rego_v1"]:
        return text
    try:
        translated = _Translation(tree).text()
    except _UntranslatableError as error:
        raise PolicyLoadError([Fault(str(error), file, error.line, way_out=_ADVICE)]) from None
    _compare(tree, _parse(translated, file, version_zero=False), file)
    return translated


def _parse_chains(text: str, file: str) -> tuple[str, Any]:
    """A module in v0 and its syntax tree. The engine knows no second body of a set: each gets a head of its own."""
    while True:
        try:
            return text, _parse(text, file, version_zero=True)
        except PolicyLoadError as error:
            (fault,) = error.faults
            if _CHAINED_SET not in fault.message:
                raise
            text = _with_head(text, file, fault)


def _with_head(text: str, file: str, fault: Fault) -> str:
    """The text with a set's head before its second body, which a fault is about.

    Raises:
        PolicyLoadError: the body or the head cannot be told for certain.
    """
    lines = text.split("\n")
    line = lines[fault.line - 1]
    for found in re.finditer(r"\{", line):
        before = "\n".join([*lines[: fault.line - 1], line[: found.start()]])
        with suppress(PolicyLoadError):
            rule = _parse(before, file, version_zero=True)["ast"]["rules"][-1]
            span = rule["Spec"]["head"].get("Set", {}).get("span")
            if span is not None and len(rule["Spec"]["bodies"]) == 1:
                head = before.encode()[span["start"] : span["end"]].decode()
                if not {"\n", "#"} & set(head) and rule["Spec"]["span"]["end"] == len(before.rstrip().encode()):
                    return f"{before} {head} {text[len(before) :]}"
    raise PolicyLoadError([fault])


def _parse(text: str, file: str, *, version_zero: bool) -> Any:  # noqa: ANN401 (JSON)
    engine = new_engine(version_zero=version_zero)
    try:
        guarded(engine.add_policy, file, text)
    except RuntimeError as error:
        fault = engine_fault(error, file)
        message = f"cannot be read as Rego v0: {fault.message}"
        raise PolicyLoadError([Fault(message, fault.file, fault.line, way_out=_ADVICE)]) from None
    (tree,) = orjson.loads(engine.get_ast_as_json())
    return tree


def _compare(old: Any, new: Any, file: str) -> None:  # noqa: ANN401 (JSON)
    """Refuses a translation that means something else; `old` has the heads that are wanted.

    Raises:
        PolicyLoadError: with the first rule that does.
    """
    olds, news = (tree["ast"]["rules"] for tree in (old, new))
    for one, two in zip(olds, news, strict=False):
        if _plain(one) != _plain(two):
            line = span_of(one)["line"]
            raise PolicyLoadError([Fault("means something else in Rego v1", file, line, way_out=_ADVICE)])
    if len(olds) != len(news) or _plain(old["ast"]["imports"]) != _plain(new["ast"]["imports"]):
        raise PolicyLoadError([Fault("means something else in Rego v1", file, way_out=_ADVICE)])


def _plain(node: Any) -> Any:  # noqa: ANN401 (JSON)
    """A syntax tree without the places in it."""
    if isinstance(node, dict):
        return {key: _plain(value) for key, value in node.items() if key not in _POSITIONS and not _is_span(value)}
    if isinstance(node, list):
        return [_plain(item) for item in node if not _is_span(item)]
    return node


def _is_span(node: Any) -> bool:  # noqa: ANN401 (JSON)
    return isinstance(node, dict) and node.keys() == _SPAN


class _Translation:
    """The edits of one module. Its syntax tree gets the heads that the new text has to have."""

    def __init__(self, tree: Any) -> None:  # noqa: ANN401 (JSON)
        self._tree = tree
        self._text: bytes = tree["source"]["contents"].encode()
        self._has_contains = any(
            ref_path(entry["refr"]) in {("future", "keywords"), ("future", "keywords", "contains")}
            for entry in tree["ast"]["imports"]
        )

    def text(self) -> str:
        """The module in v1.

        Raises:
            _UntranslatableError: a rule has no certain form there.
        """
        edits = [*self._renamed()]
        for rule in self._tree["ast"]["rules"]:
            if "Spec" in rule:
                edits += self._rule(rule["Spec"])
        pieces, position = [], 0
        for start, end, new in sorted(edits):
            pieces += [self._text[position:start], new]
            position = end
        return b"".join([*pieces, self._text[position:]]).decode()

    def _renamed(self) -> Iterator[Edit]:
        functions = Functions([self._tree])
        for call in call_nodes(self._tree["ast"]["rules"]):
            name = functions.builtin_of(call, self._tree)
            if name in _RENAMED and ".".join(ref_path(call["fcn"]) or ()) == name:
                span = span_of(call["fcn"])
                first, second = _RENAMED[name]
                call["fcn"] = {"RefDot": {"span": span, "refr": {"Var": {"span": span, "value": first}},
                                          "field": [span, second]}}  # fmt: skip
                yield span["start"], span["end"], f"{first}.{second}".encode()

    def _rule(self, rule: Any) -> Iterator[Edit]:  # noqa: ANN401 (JSON)
        bodies = rule["bodies"]
        if not bodies or not self._starts(bodies[0]["span"]["start"], b"if"):
            yield from self._head(rule)
        for index, body in enumerate(bodies):
            if index and not body["is_else"]:  # bodies in a chain follow the first without a keyword in v1 too
                continue
            brace = self._brace(body)
            if brace is not None:
                yield brace, brace, b"if " if self._text[brace - 1 : brace].isspace() else b" if "

    def _head(self, rule: Any) -> Iterator[Edit]:  # noqa: ANN401 (JSON)
        """The head of a rule without `if`."""
        ((kind, head),) = rule["head"].items()
        line, reference = head["span"]["line"], head["refr"]
        if kind == "Set":
            yield from self._set(rule, head, line)
        elif head["assign"] is not None:
            return
        elif kind == "Compr" and "Var" in reference:
            if not rule["bodies"]:
                raise _UntranslatableError(
                    f"{reference['Var']['value']} is no rule: it has neither value nor body", line
                )
        elif kind == "Compr" and "Var" in next(iter(reference.values()))["refr"]:
            yield from self._element(rule, head, line)
        elif not rule["bodies"]:
            end = head["span"]["end"]
            head["assign"] = {"op": "Eq", "value": {"Bool": {"value": True}}}
            yield end, end, b" = true"

    def _set(self, rule: Any, head: Any, line: int) -> Iterator[Edit]:  # noqa: ANN401 (JSON)
        after = _end_of_blank(self._text, span_of(head["refr"])["end"])
        if head["key"] is None:
            yield from self._element(rule, head, line)
        elif self._starts(after, b"["):
            yield from self._bracket(head, after, line)
        elif not self._has_contains:
            message = "`contains` is no keyword in Rego v0 without `import future.keywords.contains`"
            raise _UntranslatableError(message, line)

    def _element(self, rule: Any, head: Any, line: int) -> Iterator[Edit]:  # noqa: ANN401 (JSON)
        """A set's element in a head that the engine took for something else: `p.a`, or `p[x]` before a keyword."""
        ((kind, reference),) = head["refr"].items()
        base = span_of(reference["refr"])["end"]
        if kind == "RefBrack":
            made = {"span": head["span"], "refr": reference["refr"], "key": reference["index"]}
            yield from self._bracket(made, base, line)
        else:
            place, field = reference["field"]
            if self._text[base : place["end"]] != f".{field}".encode():
                raise _UntranslatableError("its head cannot be read", line)
            made = {"refr": reference["refr"], "key": {"String": {"value": field}}}
            yield base, place["end"], f" contains {json.dumps(field)}".encode()
        rule["head"] = {"Set": made}

    def _bracket(self, head: Any, start: int, line: int) -> Iterator[Edit]:  # noqa: ANN401 (JSON)
        """`[x]` as ` contains x `."""
        end = head["span"]["end"]
        if not self._starts(start, b"[") or not self._starts(end - 1, b"]"):
            raise _UntranslatableError("its head cannot be read", line)
        yield start, start + 1, b" contains "
        yield end - 1, end, b" "

    def _starts(self, position: int, word: bytes) -> bool:
        return self._text.startswith(word, position)

    def _brace(self, body: Any) -> int | None:  # noqa: ANN401 (JSON)
        """Where a body's brace is, if no `if` stands before it."""
        start: int = body["span"]["start"]
        if body["is_else"]:
            assign = body["assign"]
            start = start + len(b"else") if assign is None else assign["span"]["end"]
            if self._text[start : start + 1] in _CLOSING:  # a string's place ends within its quotes
                start += 1
            start = _end_of_blank(self._text, start)
        return start if self._starts(start, b"{") and (body["query"]["stmts"] or not body["is_else"]) else None


def _end_of_blank(text: bytes, position: int) -> int:
    """Where the space and the comments end that begin at a position."""
    found = _BLANK.match(text, position)
    return position if found is None else found.end()
