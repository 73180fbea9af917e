"""Expressions made up at random: texts that are right in names and types, and rows to evaluate them over."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

WORDS = ("", "a", "b", "ab", "A b", "é", "7", "-12", "x,y")
KEYS = ("a", "b", "x-c")
INTS = (0, 1, 2, -1, 7, 100, 2**31, 2**63 - 1, -(2**63) + 1)


def rows() -> st.SearchStrategy[dict[str, Any]]:
    """Values for `request.method`, `request.host`, `request.size` and `request.headers`; the map is always there."""
    words = st.sampled_from(WORDS)
    return st.fixed_dictionaries(
        {"request.headers": st.dictionaries(st.sampled_from(KEYS), words, max_size=3)},
        optional={"request.method": words, "request.host": words, "request.size": st.sampled_from(INTS)},
    )


def quoted(word: str) -> str:
    return '"' + word + '"'


@st.composite
def texts(draw: DrawFn, kind: str = "bool", depth: int = 4, variables: tuple[str, ...] = ()) -> str:
    """A text of a type: bool, int, string, ints or strings (lists of them). Variables are strings."""

    def made(of: str, *, variable: str = "") -> str:
        return draw(texts(of, depth - 1, (*variables, variable) if variable else variables))

    forms = {"bool": _bool_forms, "int": _int_forms, "string": _string_forms, "ints": _ints, "strings": _strings}[kind]
    form = draw(st.sampled_from(forms["leaves" if depth <= 0 else "all"]))
    while "{" in form:
        before, _, rest = form.partition("{")
        name, _, after = rest.partition("}")
        if name == "word":
            form = before + quoted(draw(st.sampled_from(WORDS))) + after
        elif name == "key":
            form = before + quoted(draw(st.sampled_from(KEYS))) + after
        elif name == "number":
            form = before + str(draw(st.sampled_from(INTS))) + after
        elif name == "variable":
            form = before + (draw(st.sampled_from(variables)) if variables else '"v"') + after
        elif name.endswith("!"):  # a condition that knows one more variable
            form = before + made("bool", variable=name[:-1]) + after
        else:
            form = before + made(name) + after
    return form


def _forms(leaves: list[str], others: list[str]) -> dict[str, list[str]]:
    return {"leaves": leaves, "all": leaves + others * 2}


_bool_forms = _forms(
    ["true", "false", "({key} in request.headers)", "has(request.headers.a)", "(request.method == {word})",
     "(request.size > {number})", "({variable} == {word})", "(request.headers[{key}] == {word})"],
    ["({bool} && {bool})", "({bool} || {bool})", "({bool} && {bool} && {bool})", "({bool} || {bool} || {bool})",
     "!{bool}", "({bool} ? {bool} : {bool})", "({int} == {int})", "({int} != {int})", "({int} <= {int})",
     "({string} == {string})", "({string} < {string})", "({string} in {strings})", "({int} in {ints})",
     "{string}.startsWith({string})", "{string}.endsWith({string})", "{string}.contains({string})",
     '{string}.matches("^a.?[b-z]*")', "{strings}.all(x, {x!})", "{strings}.exists(y, {y!})",
     "{strings}.exists_one(z, {z!})", "request.headers.exists(h, {h!})", "request.headers.all(h, {h!})",
     "({strings} == {strings})", "({ints} != {ints})", "({bool} == {bool})"],
)  # fmt: skip
_int_forms = _forms(
    ["{number}", "request.size", "0", "1"],
    ["({int} + {int})", "({int} - {int})", "({int} * {int})", "({int} / {int})", "({int} % {int})", "(-{int})",
     "{string}.size()", "size({strings})", "int({string})", "({bool} ? {int} : {int})", "{ints}[{int}]",
     "{string}.indexOf({string})"],
)  # fmt: skip
# Without a.substring(b, c), which fails in Google's C++ where c is the string's size; and `"".split("")` has an element
# there and none in cel-go.
_string_forms = _forms(
    ["{word}", "request.method", "request.host", "request.headers[{key}]", "{variable}"],
    ["({string} + {string})", "({bool} ? {string} : {string})", "string({int})", "{string}.lowerAscii()",
     "{string}.substring({int})", "{string}.replace({string}, {string})",
     "{strings}.join({string})", "{strings}[{int}]", "{string}.charAt({int})", "string({bool})",
     "{string}.upperAscii()"],
)  # fmt: skip
_ints = _forms(["[{number}, {number}]", "[{number}]"], ["[{int}, {int}]", "({ints} + {ints})", "[{int}]"])
_strings = _forms(
    ["[{word}, {word}]", "[{variable}]"],
    ["[{string}, {string}]", "({strings} + {strings})", "{strings}.filter(f, {f!})", "{strings}.map(m, {m!}, {string})",
     '{string}.split(",")'],
)  # fmt: skip
