"""Policies and requests made at random, over one small vocabulary so that they meet.

A policy's decision is the set of everything that its rules find out: what they read, compare, iterate, negate, hand to
functions, and what holds `with` another input. So a value that is left out of the input shows in the decision.
"""

from __future__ import annotations

from typing import Any

from envoy.service.auth.v3.external_auth_pb2 import CheckRequest
from hypothesis import strategies as st

HTTP = ("attributes", "request", "http")
JWT = ("attributes", "metadataContext", "filterMetadata", "jwt")
PATHS = [
    (*HTTP, "method"),
    (*HTTP, "path"),
    (*HTTP, "headers", "x-a"),
    (*HTTP, "headers", "x-b"),
    (*HTTP, "headers"),
    (*HTTP, "method", "deeper"),
    (*HTTP, "nothing"),
    HTTP,
    ("attributes", "request"),
    ("attributes", "request", "time", "seconds"),
    ("attributes", "request", "time"),
    ("attributes", "source", "principal"),
    ("attributes", "source", "labels", "app"),
    ("attributes", "source", "address", "socketAddress", "address"),
    ("attributes", "source"),
    ("attributes", "destination", "principal"),
    ("attributes", "contextExtensions", "tenant"),
    ("attributes", "contextExtensions"),
    (*JWT, "payload", "sub"),
    (*JWT, "payload"),
    (*JWT, "payload", "sub", "deeper"),
    (*JWT, "list"),
    JWT,
    JWT[:-1],
    ("attributes",),
    ("parsed_path",),
    ("parsed_query", "a"),
    ("parsed_query", "b"),
    ("parsed_query",),
    ("parsed_body", "a", "b"),
    ("parsed_body", "a"),
    ("parsed_body",),
    ("truncated_body",),
    ("source_principal",),
    ("version", "ext_authz"),
    ("nothing", "at", "all"),
]
WORDS = ["GET", "POST", "x", "y", ""]
_HEADER = "package generated\n\nimport rego.v1\n"


def _brackets(parts: tuple[str, ...]) -> str:
    return "".join(f'["{part}"]' if "-" in part else f".{part}" for part in parts)


def _forms(path: tuple[str, ...], cut: int, name: str) -> dict[str, tuple[str, str, str]]:
    """Ways to write what is at a path: the expression, what stands before it in the body, and in the module."""
    before, after = _brackets(path[:cut]), _brackets(path[cut:])
    forms = {
        "direct": (f"input{before}{after}", "", ""),
        "import": (name + after, "", f"import input{before} as {name}\n"),
        "variable": (name + after, f"{name} := input{before}; ", ""),
        "rule": (name + after, "", f"{name} := input{before}\n"),
    }
    if cut < len(path):
        forms |= {
            "dynamic": (f"input{before}[{name}]{_brackets(path[cut + 1 :])}", f'{name} := "{path[cut]}"; ', ""),
            "call": (f"{name}(input{before})", "", f"{name}(x) := x{after}\n"),
            "negated call": (f"{name}(input{before})", "", f"{name}(x) if not x{after}\n"),
        }
    if cut > 1:
        first, second = _brackets(path[:1]), _brackets(path[1:cut])
        forms["variables"] = (name + after, f"{name}a := input{first}; {name} := {name}a{second}; ", "")
    if cut == len(path) - 1 > 0:
        forms["get"] = (f'object.get(input{before}, "{path[cut]}", "none")', "", "")
    return forms


@st.composite
def _operands(draw: st.DrawFn, number: int) -> tuple[str, str, str]:
    """One such form of one path, with names of its own."""
    path = draw(st.sampled_from(PATHS))
    cut = draw(st.sampled_from([len(path) - 1, len(path) - 1, len(path), 1]))
    forms = _forms(path, max(cut, 1), f"n{number}")
    return forms[draw(st.sampled_from(sorted(forms)))]


_FINDINGS = [
    "{0}",
    "not {0}",
    '{0} == "GET"',
    '{0} != "x"',
    "{0} == {1}",
    "is_string({0})",
    "is_object({0})",
    "is_array({0})",
    "{0} in {1}",
    '"x" in {0}',
    "some k, v in {0}; v == {1}",
    "every v in {0} {{ v != {1} }}",
    "count([v | some v in {0}]) > 1",
    "count({{v | v := {0}[_]}}) == 1",
    "count({{k: v | some k, v in {0}; v == {1}}}) == 0",
    "helper with input.{target} as {0}",
    'helper with input as {{"attributes": {0}, "parsed_query": {1}}}',
    "not helper with input.{target} as {0}",
    "walk({0}, [_, {1}])",
]


@st.composite
def policies(draw: st.DrawFn) -> str:
    """A module whose rule `generated.found` is the decision."""
    imports, rules = "", ""
    helper = draw(_operands(0))
    for number in range(1, draw(st.integers(2, 6)) + 1):
        first, second = draw(_operands(10 * number)), draw(_operands(10 * number + 1))
        target = ".".join(draw(st.sampled_from([path for path in PATHS if "-" not in str(path)])))
        finding = draw(st.sampled_from(_FINDINGS)).format(first[0], second[0], target=target)
        uses_second = second[0] in finding
        body = first[1] + (second[1] if uses_second else "") + finding
        rules += f'found contains "{number}" if {{ {body} }}\n'
        if draw(st.booleans()):
            rules += f"found contains [{number}, v] if {{ {first[1]}v := {first[0]} }}\n"
        for _, _, module in (first, second) if uses_second else (first,):
            imports, rules = (imports + module, rules) if module.startswith("import") else (imports, rules + module)
    rules += f"helper if {{ {helper[1]}{helper[0]} }}\n"
    imports, rules = (imports + helper[2], rules) if helper[2].startswith("import") else (imports, rules + helper[2])
    return f"{_HEADER}{imports}{rules}"


@st.composite
def requests(draw: st.DrawFn) -> CheckRequest:
    """A request that can be parsed."""
    word = st.sampled_from(WORDS)
    request = CheckRequest()
    attributes = request.attributes
    http = attributes.request.http
    http.method = draw(word)
    http.path = draw(st.sampled_from(["", "/", "/x", "/x/GET?a=x", "/x?a=GET&a=y&b=x", "//y?b", "/%41?c=%20"]))
    for name in draw(st.sets(st.sampled_from(["x-a", "x-b", "x-c"]))):
        http.headers[name] = draw(word)
    if draw(st.booleans()):
        http.headers["content-type"] = "application/json"
        http.body = draw(st.sampled_from(['{"a": {"b": "x"}}', '{"a": "GET"}', "[1, 2.50]", '"x"', "null", ""]))
    if draw(st.booleans()):
        attributes.request.time.seconds = draw(st.integers(0, 2))
    _add_peers(draw, attributes)
    if draw(st.booleans()):
        attributes.context_extensions["tenant"] = draw(word)
    _add_metadata(draw, attributes)
    return request


def _add_peers(draw: st.DrawFn, attributes: Any) -> None:
    for peer in draw(st.sets(st.sampled_from(["source", "destination"]))):
        side = getattr(attributes, peer)
        side.principal = draw(st.sampled_from(WORDS))
        if draw(st.booleans()):
            side.labels["app"] = draw(st.sampled_from(WORDS))
        if draw(st.booleans()):
            side.address.socket_address.address = "10.0.0.1"


def _add_metadata(draw: st.DrawFn, attributes: Any) -> None:
    claims: list[Any] = [None, {}, {"payload": {}}, {"payload": {"sub": "x"}}, {"payload": {"sub": {"deeper": "y"}}}]
    claims += [{"payload": "x"}, {"payload": None}, {"list": ["x", 1, 2.5]}, {"payload": {"other": True}}]
    chosen = draw(st.sampled_from(claims))
    if chosen is not None:
        attributes.metadata_context.filter_metadata["jwt"].update(chosen)
    if draw(st.booleans()):
        attributes.metadata_context.filter_metadata["other"].update({"payload": {"sub": "z"}})
