"""What a decision reads of a request, as it stands in the message: enough to tell that it was decided before.

Equal fingerprints have equal projected documents; the converse need not hold (`/a` and `//a`). Taking one costs a third
of building the document, which a decision from the cache does not need. There is none of a request that first has to be
parsed (escapes, bodies), nor of decisions that read more than single fields, headers, the path or the query as a whole:
those are told apart by the document's text.

Not for: what goes into that document (`projection.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any, Final

from envoy.service.auth.v3.attribute_context_pb2 import AttributeContext
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest
from google.protobuf.descriptor import Descriptor

from mixer_py.policy.document.input import InputBuilder

Taken = tuple[object, ...]
"""Begins with the decision's path and has at least three members."""

_HTTP: Final = ("attributes", "request", "http")
_HEADERS: Final = (*_HTTP, "headers")
_HTTP_REQUEST: Final = AttributeContext.HttpRequest.DESCRIPTOR
_LONGEST: Final = 256


class Fingerprint:
    """Takes fingerprints for one decision. Thread-safe, holds no request."""

    __slots__ = ("_bodies", "_decision", "_fields", "_headers", "_http_fields", "_path", "_query")

    def __init__(self, decision: str, paths: Iterable[tuple[str, ...]], builder: InputBuilder) -> None:
        """Prepares everything that does not depend on a request.

        Args:
            decision: its path.
            paths: what it reads below `input`; none of them below another.
            builder: of the whole documents.

        Raises:
            LookupError: it reads something that has to be parsed or walked.
        """
        self._decision = decision
        self._bodies = builder.parse_body is not None
        self._path = self._query = False
        headers: list[str] = []
        http_fields: list[str] = []
        fields: list[str] = []
        for path in sorted(paths):
            if path == ("parsed_path",):
                self._path = True
            elif path == ("parsed_query",):
                self._query = True
            elif path == ("source_principal",):
                fields.append("source.principal")
            elif path[:-1] == _HEADERS:
                headers.append(path[-1])
            elif path[:-1] == _HTTP:
                http_fields.append(_dotted(path[3:], _HTTP_REQUEST))
            elif path[:1] == ("attributes",):
                fields.append(_dotted(path[1:], AttributeContext.DESCRIPTOR))
            else:
                raise LookupError(".".join(path))
        self._headers = tuple(headers)
        self._http_fields = _getter(http_fields)
        self._fields = _getter(fields)

    def take(self, request: CheckRequest) -> Taken | None:
        """The fingerprint of a request; None where only its document tells."""
        attributes = request.attributes
        http = attributes.request.http
        path, _, query = http.path.partition("?")
        # A path that is not empty says that everything on the way to it is there. An escape may be a bad one.
        if not path or "%" in path or (query and ("%" in query or ";" in query)):
            return None
        headers = http.headers
        if self._bodies and "content-type" in headers:
            return None
        fields: tuple[object, ...] = ()
        if self._fields is not None:
            fields = self._fields(attributes)
            if not all(fields):  # it is empty, and what it belongs to may be there or not
                return None
        return (
            self._decision,
            path if self._path else None,
            query if self._query else None,
            fields,
            None if self._http_fields is None else self._http_fields(http),
            (bool(headers), *map(headers.get, self._headers)) if self._headers else None,
        )


def is_long(taken: Taken) -> bool:
    """Whether a fingerprint is too long to be held for each decision in the cache."""
    return _length(taken) > _LONGEST


def _length(value: object) -> int:
    if isinstance(value, tuple):
        return sum(map(_length, value))
    return len(value) if isinstance(value, (str, bytes)) else 0


def _getter(names: list[str]) -> Callable[[Any], tuple[object, ...]] | None:
    """Reads fields of a message, always as a tuple."""
    if not names:
        return None
    return attrgetter(*names, *names[:1])  # of one name alone it would give the value itself


def _dotted(path: tuple[str, ...], descriptor: Descriptor | None) -> str:
    """A path of names in JSON as the names of the fields, for `attrgetter`.

    Raises:
        LookupError: it does not lead through messages to a field that is one text or number.
    """
    names = []
    for name in path:
        if descriptor is None or descriptor.full_name.startswith("google.protobuf."):
            raise LookupError(name)
        field = {str(one.json_name): one for one in descriptor.fields}[name]
        if field.is_repeated or (descriptor is _HTTP_REQUEST and field.has_presence):  # empty would look like absent
            raise LookupError(name)
        names.append(str(field.name))
        descriptor = field.message_type
    if descriptor is not None or not names:
        raise LookupError(".".join(path))
    return ".".join(names)
