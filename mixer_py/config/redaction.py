"""A configuration as plain data that may be shown: without its secrets."""

from __future__ import annotations

import re

from pydantic import BaseModel

from mixer_py.config.configuration import Configuration
from mixer_py.settings import LocalPath, Secret

HIDDEN = "***"

# The password of a URL's user, also where a person forgot to encode an @ in it.
_URL_PASSWORD = re.compile(r"(?<=://)([^/@:\s]*):[^/\s]*@")


def redacted(configuration: Configuration) -> dict[str, object]:
    """The configuration as JSON-compatible data: secrets hidden, files of secrets named, units as they are written."""
    shown = _redact(configuration, configuration.model_dump(mode="json"))
    assert isinstance(shown, dict)  # noqa: S101 (a model dumps as a dict)
    return shown


def _redact(value: object, dumped: object) -> object:
    """`dumped` without what `value` says must not be shown."""
    if isinstance(value, Secret):
        return HIDDEN if value.file is None else {"file": str(value.file)}
    if isinstance(value, BaseModel) and isinstance(dumped, dict):
        return {name: _redact(getattr(value, name), inner) for name, inner in dumped.items()}
    if isinstance(value, dict) and isinstance(dumped, dict):
        pairs = zip(value.values(), dumped.items(), strict=True)
        return {name: _redact(inner, inner_dumped) for inner, (name, inner_dumped) in pairs}
    if isinstance(value, (list, tuple)) and isinstance(dumped, list):
        return [_redact(item, item_dumped) for item, item_dumped in zip(value, dumped, strict=True)]
    if isinstance(dumped, str) and not isinstance(value, LocalPath):
        return _URL_PASSWORD.sub(rf"\1:{HIDDEN}@", dumped)
    return dumped
