"""The part of the input document that a decision reads, from a CheckRequest, without building the rest.

What it gives at these paths is exactly what `InputBuilder` gives there, and absent where that is absent. An object on
the way to a path is there when it is there in the whole document, be it empty: `http := input.a.http` is then defined
for the same requests. A request whose path, query or body cannot be parsed is refused all the same.

Not for: which paths those are (`rego/reads.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest

from mixer_py.policy.document.input import VERSION, InputBuilder
from mixer_py.policy.document.path import parse_query, split_path, unescape
from mixer_py.policy.document.projection_steps import StepMaker, Tree


def path_tree(paths: Iterable[tuple[str, ...]]) -> Tree:
    """The tree of paths none of which is below another."""
    root: dict[str, Any] = {}
    for path in paths:
        node = root
        for part in path:
            node = node.setdefault(part, {})
    return root


class Projection:
    """Builds the part of input documents that some paths name. Thread-safe, holds no request."""

    __slots__ = (
        "_body",
        "_options",
        "_parse_body",
        "_path",
        "_query",
        "_query_names",
        "_steps",
        "_truncated",
        "_version",
    )

    def __init__(self, paths: Iterable[tuple[str, ...]], builder: InputBuilder) -> None:
        """Prepares everything that does not depend on a request.

        Args:
            paths: below `input`; none of them below another. What no document holds is absent.
            builder: of the whole documents.
        """
        tree = path_tree(paths)
        maker = StepMaker(builder.plans)
        self._steps = tuple(maker.message_steps(CheckRequest.DESCRIPTOR, tree))
        if "source_principal" in tree:
            self._steps += (_add_source_principal,)
        self._version = "version" in tree
        self._path = "parsed_path" in tree
        self._query = "parsed_query" in tree
        self._query_names = tuple(sorted(tree.get("parsed_query", ())))
        self._parse_body = builder.parse_body
        self._body = "parsed_body" in tree and self._parse_body is not None
        self._truncated = "truncated_body" in tree and self._parse_body is not None
        # Equal documents must be equal texts, and the members of a map come in any order.
        unordered = maker.unordered or self._body or (self._query and not self._query_names)
        self._options = orjson.OPT_SORT_KEYS if unordered else 0

    def document(self, request: CheckRequest) -> dict[str, object]:
        """The projected document; `parsed_body` may be an `orjson.Fragment`.

        Raises:
            RequestParseError: path, query or body cannot be parsed, even when they are not read.
        """
        document: dict[str, object] = {}
        for step in self._steps:
            step(request, document)
        http = request.attributes.request.http
        path, _, query = http.path.partition("?")
        if self._path:
            document["parsed_path"] = split_path(path)
        elif "%" in path:
            unescape(path, "path")
        if self._query:
            document["parsed_query"] = self._read_query(query)
        elif query and ("%" in query or ";" in query):
            parse_query(query)
        parse_body = self._parse_body
        if parse_body is not None and (self._body or self._truncated or "content-type" in http.headers):
            body, truncated = parse_body(http)
            if self._body:
                document["parsed_body"] = body
            if self._truncated:
                document["truncated_body"] = truncated
        if self._version:
            document["version"] = VERSION
        return document

    def build(self, request: CheckRequest) -> str:
        """The projected document as JSON text; requests that are equal at the paths have equal texts.

        Raises:
            RequestParseError: path, query or body cannot be parsed, even when they are not read.
        """
        return orjson.dumps(self.document(request), option=self._options).decode()

    def _read_query(self, query: str) -> Mapping[str, object]:
        values = parse_query(query)
        names = self._query_names
        return {name: values[name] for name in names if name in values} if names else values


def _add_source_principal(request: CheckRequest, document: dict[str, object]) -> None:
    principal = request.attributes.source.principal
    if principal:
        document["source_principal"] = principal
