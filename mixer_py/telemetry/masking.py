"""What of an input document is never written: credentials in headers, values named like secrets, places by path.

A document is never changed: what is masked is a copy along the way, as parts of it may be shared. Where a secret
stands in one form it is masked in all: `path` and `:path`, `parsed_query`, `parsed_path`, raw headers, raw bodies.
In doubt more is masked rather than less.
Not for: the rules of `system.log.mask` (`masking_rules.py`).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import orjson

from mixer_py.telemetry.decision_log_settings import MaskSettings
from mixer_py.telemetry.json_places import Segments, below, replaced, segments_of, thawed
from mixer_py.telemetry.secret_names import SecretNames

MASKED: Final = "***"
"""What stands in place of a masked value."""

HTTP: Final[Segments] = ("attributes", "request", "http")
_BODIES: Final[tuple[Segments, ...]] = ((*HTTP, "body"), (*HTTP, "rawBody"))
_PATHS: Final[tuple[Segments, ...]] = ((*HTTP, "path"), (*HTTP, "headers", ":path"), ("parsed_path",))
_COPIES: Final = (
    ("/input/parsed_body", _BODIES),
    ("/input/parsed_path", _PATHS),
    ("/input/" + "/".join(_PATHS[0]), _PATHS),
)
"""Where the same text stands again, by the place that a person may have named."""

_NAME = re.compile(r"(?:^|[?;#,/&\s])([^=?;#,/&\s]+)=")
_JSON_NAME = re.compile(r'"((?:[^"\\]|\\.){1,200})"\s*:')
_PART_NAME = re.compile(r'\bname="?([^";\r\n]{1,200})')
_ROUNDS: Final = 3
"""How often text is percent-decoded in search of an address within an address."""

_TEXTS: Final = frozenset({"body", "rawBody"})
"""Fields of a request that are looked into however they look."""

Keeps = Callable[[str], bool]


class Mask:
    """Masks by the settings of one snapshot. Holds no request.

    Attributes:
        names: those of secrets.
    """

    def __init__(self, settings: MaskSettings) -> None:
        """Compiles the settings.

        Args:
            settings: a path of a header or of a query parameter counts as its name, so that copies are masked too.
        """
        paths = [segments_of(path) for path in settings.paths]
        headers = {path[-1] for path in paths if path[:-1] == (*HTTP, "headers")}
        query = {path[-1] for path in paths if path[:-1] == ("parsed_query",)}
        self.names = SecretNames({*settings.headers, *headers}, {*settings.query, *query}, defaults=settings.defaults)
        self._paths = paths

    def apply(self, document: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """The document with its secrets masked, and the paths of what was masked.

        Args:
            document: an input document; left as it is. JSON text in it may stand as `orjson.Fragment`.
        """
        masked: list[str] = []
        whole = {name: self._top(name, value, masked) for name, value in document.items()}
        named = [path for path in masked if path.startswith("/input/parsed_body")]
        for path in self._paths:
            whole = replaced(whole, path, MASKED, "/input", named)
        for place, copies in _COPIES:
            if any(path.startswith(place) for path in named):
                for copy in copies:
                    whole = replaced(whole, copy, MASKED, "/input", named)
        return whole, sorted({*masked, *named})

    def text(self, text: str) -> str:
        """Text with the values masked that follow a secret's name and `=`, up to the next `&`."""
        if "=" not in text and "%" not in text:
            return text
        if "%" not in text and not any(map(self.names.is_parameter, _NAME.findall(text))):
            return text
        parts = text.split("&")
        for index, part in enumerate(parts):
            start = self._secret_start(part)
            if start >= 0:
                parts[index] = part[:start] + MASKED
        return "&".join(parts)

    def _secret_start(self, part: str) -> int:
        """Where a secret begins in text without `&`; -1 where there is none."""
        plain = self._plain_start(part)
        if "%" not in part:
            return plain
        decoded = part
        for _ in range(_ROUNDS):
            before, decoded = decoded, self.names.decoded(decoded)
            if decoded == before:
                break
            if any(self._plain_start(piece) >= 0 for piece in decoded.split("&")):
                hidden = part.index("%")  # a value behind an encoded character comes after the first of them
                return hidden if plain < 0 else min(plain, hidden)
        return plain

    def _plain_start(self, part: str) -> int:
        for match in _NAME.finditer(part):
            if self.names.is_parameter(match[1]):
                return match.end()
        return -1

    def _top(self, name: str, value: Any, masked: list[str]) -> Any:  # noqa: ANN401 (JSON)
        match name, value:  # by type too, because an upsert of `system.log.mask` may have put anything anywhere
            case "attributes", {"request": {"http": {}}}:
                return self._attributes(value, masked)
            case "parsed_query" | "parsed_body", {}:  # a form's fields are named as query parameters are
                return self._members(value, self.names.is_parameter, f"/input/{name}", masked)
            case "parsed_path", [*segments]:
                return self._path_segments(segments, masked)
        return self._value(value, f"/input/{name}", masked)

    def _attributes(self, attributes: Any, masked: list[str]) -> Any:  # noqa: ANN401 (JSON)
        where, request = "/input/attributes/request/http", attributes["request"]
        new_http = {
            name: value
            if type(value) is str and "=" not in value and "%" not in value and name not in _TEXTS
            else self._http(name, value, f"{where}/{name}", masked)
            for name, value in request["http"].items()
        }
        new_request = {
            name: new_http if name == "http" else self._value(value, f"/input/attributes/request/{name}", masked)
            for name, value in request.items()
        }
        return {
            name: new_request if name == "request" else self._value(value, f"/input/attributes/{name}", masked)
            for name, value in attributes.items()
        }

    def _http(self, name: str, value: Any, path: str, masked: list[str]) -> Any:  # noqa: ANN401 (JSON)
        match name, value:
            case "headers", {}:
                return self._members(value, self.names.is_header, path, masked)
            case "headerMap", {"headers": [*headers]}:
                raw = [self._raw_header(item, f"{path}/headers/{index}", masked) for index, item in enumerate(headers)]
                return {**value, "headers": raw}
            case "body", str():
                return _mark(path, masked) if self._body_hides(value) else value
            case "rawBody", str():
                return _mark(path, masked) if self._body_hides(_text_of(value)) else value
        return self._value(value, path, masked)

    def _raw_header(self, header: Any, path: str, masked: list[str]) -> Any:  # noqa: ANN401 (JSON)
        """One entry of `headerMap`: a key, and its value as text or as base64."""
        if not isinstance(header, dict) or not all(isinstance(value, str) for value in header.values()):
            return self._value(header, path, masked)
        name = header.get("key", "")
        if self.names.is_header(name):
            return {key: value if key == "key" else _mark(f"{path}/{key}", masked) for key, value in header.items()}
        new = dict(header)
        if "value" in header:
            new["value"] = self._value(header["value"], f"{path}/value", masked)
        if "rawValue" in header:
            before = _text_of(header["rawValue"])
            after = self.text(before)
            if after != before:
                masked.append(f"{path}/rawValue")
                new["rawValue"] = base64.b64encode(after.encode("latin-1")).decode("ascii")
        return new

    def _path_segments(self, segments: list[Any], masked: list[str]) -> list[Any]:
        """Masks the rest of the path too: a secret may have held a slash, at which it was split."""
        for index, segment in enumerate(segments):
            new = self._value(segment, f"/input/parsed_path/{index}", [])
            if new != segment:
                masked.append(f"/input/parsed_path/{index}")
                return [*segments[:index], new, *[MASKED] * (len(segments) - index - 1)]
        return segments

    def _body_hides(self, text: str) -> bool:
        """Whether a body in whatever form holds a value named like a secret."""
        names: Iterator[str] = (match[1] for form in (_JSON_NAME, _PART_NAME) for match in form.finditer(text))
        return any(map(self.names.is_member, names)) or self.text(text) != text

    def _value(self, value: Any, path: str, masked: list[str]) -> Any:  # noqa: ANN401 (JSON)
        """Any value, with its secrets masked at whatever depth; the same object where there are none."""
        kind = type(value)
        if kind is str:
            new = self.text(value)
            if new != value:
                masked.append(path)
            return new
        if kind is dict:
            return self._members(value, self.names.is_member, path, masked)
        if kind is list:
            return self._items(value, path, masked)
        if kind is orjson.Fragment:  # always opened: as text, a name that comes twice would hide the first value
            opened = thawed(value)
            return value if isinstance(opened, orjson.Fragment) else self._value(opened, path, masked)
        return value

    def _items(self, items: list[Any], path: str, masked: list[str]) -> list[Any]:
        changed: list[Any] | None = None
        for index, item in enumerate(items):
            if type(item) is str and "=" not in item and "%" not in item:
                continue
            new = self._value(item, below(path, index), masked)
            if new is not item:
                changed = changed or list(items)
                changed[index] = new
        return items if changed is None else changed

    def _members(self, members: dict[str, Any], is_secret: Keeps, path: str, masked: list[str]) -> dict[str, Any]:
        changed: dict[str, Any] = {}
        renamed = False
        for name, value in members.items():
            if is_secret(name) and value is not None and value is not True and value is not False:
                mark = _mark(below(path, name), masked)
                changed[name] = [mark] * len(value) if type(value) is list else mark  # a list stays one
                continue
            if type(value) is str and "=" not in value and "%" not in value:
                new = value  # as most are; a call for each of them would cost more than all the rest
            else:
                new = self._value(value, below(path, name), masked)
            if new is not value:
                changed[name] = new
            renamed = renamed or ("=" in name and self.text(name) != name)
        if renamed:  # a name may be an address with a secret in it
            return {self.text(name): changed.get(name, value) for name, value in members.items()}
        return {**members, **changed} if changed else members


def _mark(path: str, masked: list[str]) -> str:
    masked.append(path)
    return MASKED


def _text_of(encoded: str) -> str:
    """The octets of base64 text, each as one character."""
    try:
        return base64.b64decode(encoded).decode("latin-1")
    except binascii.Error:  # what is no base64 is looked at as it is
        return encoded
