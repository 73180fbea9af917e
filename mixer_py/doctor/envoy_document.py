"""An Envoy's settings as plain data: a bootstrap file, or what its admin address answers at /config_dump.

Only as much of Envoy's protos as is looked at; whether the whole is valid is for `envoy --mode validate` to say.
"""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from mixer_py.errors import ConfigurationError, Fault, NotRunningError

_CAMEL: Final = re.compile(r"(?<=[a-z0-9])([A-Z])")
_TYPE: Final = "@type"
_SECONDS: Final = 10.0
_MOST: Final = 256 << 20
"""Bytes of a /config_dump that are read."""


@dataclass(frozen=True, slots=True)
class Typed:
    """A message of a type, and where it stands.

    Attributes:
        kind: the last part of its type's name, such as `ExtAuthz`.
        message: its fields, by their names in the proto.
        path: of its place, with dots.
    """

    kind: str
    message: Mapping[str, Any]
    path: str


def read_envoy(place: str) -> Any:  # noqa: ANN401 (a document of any shape)
    """Reads a bootstrap file, or asks an admin address.

    Args:
        place: a file, or `http://host:port` of Envoy's admin listener.

    Raises:
        ConfigurationError: the file cannot be read, or is neither YAML nor JSON.
        NotRunningError: the address does not answer with settings.
    """
    if place.startswith(("http://", "https://")):
        url = f"{place.rstrip('/')}/config_dump?include_eds"
        try:
            with urllib.request.urlopen(url, timeout=_SECONDS) as answer:  # noqa: S310 (http and https only, see above)
                return _plain(_in_force(json.loads(answer.read(_MOST))))
        except (urllib.error.URLError, OSError, ValueError, LookupError, TypeError) as error:
            raise NotRunningError(f"{url} does not answer with Envoy's settings: {error}") from error
    try:
        return _plain(yaml.load(Path(place).read_text(encoding="utf-8"), yaml.CSafeLoader))
    except OSError as error:
        raise ConfigurationError([Fault(f"cannot be read: {error.strerror}", place)]) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError([Fault(f"is neither YAML nor JSON: {error}".splitlines()[0], place)]) from None


def messages(document: Any, path: str = "") -> Iterator[Typed]:  # noqa: ANN401 (idem)
    """Every message in it that says its type, outer ones first."""
    if isinstance(document, dict):
        name = document.get(_TYPE)
        if isinstance(name, str):
            yield Typed(name.rpartition(".")[2], document, path)
        for key, value in document.items():
            yield from messages(value, f"{path}.{key}" if path else str(key))
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield from messages(value, f"{path}.{index}")


def clusters(document: Any) -> dict[str, Mapping[str, Any]]:  # noqa: ANN401 (idem)
    """Its clusters by name, as configured or as dumped."""
    found: dict[str, Mapping[str, Any]] = {}
    for node in _dictionaries(document):
        for key in ("clusters", "cluster"):
            value = node.get(key)
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, dict) and isinstance(one.get("name"), str):
                    found.setdefault(one["name"], one)
    return found


def inside(message: Any, *path: str) -> Any:  # noqa: ANN401 (idem)
    """What stands at a path of keys; None where one is missing."""
    for key in path:
        message = message.get(key) if isinstance(message, Mapping) else None
    return message


def duration(value: object) -> float | None:
    """Seconds of a Duration in JSON, as `0.25s`; None for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)s", value) if isinstance(value, str) else None
    return float(found[1]) if found else None


def _in_force(dump: Any) -> Any:  # noqa: ANN401 (idem)
    """Without the bootstrap: what it defines stands a second time among what is in force."""
    return [one for one in dump["configs"] if not one.get(_TYPE, "").endswith(".BootstrapConfigDump")]


def _dictionaries(document: Any) -> Iterator[Mapping[str, Any]]:  # noqa: ANN401 (idem)
    if isinstance(document, dict):
        yield document
        for value in document.values():
            yield from _dictionaries(value)
    elif isinstance(document, list):
        for value in document:
            yield from _dictionaries(value)


def _plain(document: Any) -> Any:  # noqa: ANN401 (idem)
    """With the names of the protos: JSON may write maxRequests for max_requests."""
    if isinstance(document, dict):
        return {_CAMEL.sub(r"_\1", str(key)).lower() if str(key) != _TYPE else _TYPE: _plain(value)
                for key, value in document.items()}  # fmt: skip
    if isinstance(document, list):
        return [_plain(value) for value in document]
    return document
