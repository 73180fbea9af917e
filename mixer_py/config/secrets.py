"""The secrets of a configuration: which there are, and whether they can be read here. Never their values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import BaseModel

from mixer_py.errors import Fault
from mixer_py.settings import Secret, Settings


def secrets_of(value: object, path: str = "") -> Iterator[tuple[str, Secret]]:
    """Every secret below settings, with its dotted name."""
    if isinstance(value, Secret):
        yield path, value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from secrets_of(getattr(value, name), f"{path}.{name}" if path else name)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from secrets_of(item, f"{path}.{name}")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from secrets_of(item, f"{path}.{index}")


def secret_faults(settings: Settings, path: str = "") -> list[Fault]:
    """A fault for each secret below `settings` (whose dotted name is `path`) that cannot be read, or is empty.

    Not part of `load`, because who only asks (`mixer check`, `mixer query`) need not be allowed to read them.
    """
    found = []
    for field, secret in secrets_of(settings, path):
        try:
            reason = "" if secret.reveal() else "is empty"
        except OSError as error:
            reason = f"cannot be read: {error.strerror}"
        except UnicodeDecodeError:
            reason = "is not UTF-8 text"
        if reason:
            found.append(Fault(reason, str(secret.file or ""), field=field))
    return found
