"""What every room's settings are made of: the strict base class and the types of their fields.

A room defines its own settings beside its code with these; `config/` composes them and knows files, lines and
the environment. Nothing here reads a file, but for `Secret.reveal`.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, model_validator

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d)")
_DURATION_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d+)\s*(B|KiB|MiB|GiB|TiB|kB|MB|GB|TB)?")
_SIZE_BYTES = {
    "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
    "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
}  # fmt: skip


class Settings(BaseModel):
    """Base of all settings: frozen, and an unknown key is an error.

    The text below a field is for people, and is read when they ask for it (`config/definition.py`): pydantic would read
    it at each start of a process.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def parse_duration(value: object) -> float:
    """Seconds from text such as `150ms`, `1m30s` or `60s`.

    Raises:
        ValueError: the text is no duration; a bare number is refused because its unit would be a guess.
    """
    if isinstance(value, float):  # an already validated model is validated again
        return value
    text = str(value)
    position, seconds = 0, 0.0
    for part in _DURATION.finditer(text):
        if part.start() != position:
            break
        seconds += float(part[1]) * _DURATION_SECONDS[part[2]]
        position = part.end()
    if not text or position != len(text) or isinstance(value, (bool, int)):
        raise ValueError(
            f"{text!r} is not a duration; write a number with a unit: ns, us, ms, s, m, h or d, as in 150ms"
        )
    return seconds


def format_duration(seconds: float) -> str:
    """The shortest text that `parse_duration` reads back, for tables and `/config`."""
    for unit in ("d", "h", "m", "s", "ms", "us", "ns"):
        count = seconds / _DURATION_SECONDS[unit]
        if count >= 1 and math.isclose(count, round(count), rel_tol=1e-12):  # whole units only
            return f"{round(count)}{unit}"
    return f"{Decimal(repr(float(seconds))).normalize():f}s"  # never an exponent, which would not be read back


def parse_size(value: object) -> int:
    """Bytes from a number or text such as `4MiB`.

    Raises:
        ValueError: the text is no size.
    """
    match = _SIZE.fullmatch(str(value)) if not isinstance(value, bool) else None
    if match is None:
        raise ValueError(f"{value!r} is not a size; write bytes or a number with a unit, as in 4MiB")
    return int(match[1]) * _SIZE_BYTES[match[2] or "B"]


def format_size(size: int) -> str:
    """The shortest text that `parse_size` reads back."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % _SIZE_BYTES[unit] == 0:
            return f"{size // _SIZE_BYTES[unit]}{unit}"
    return str(size)


Duration = Annotated[float, BeforeValidator(parse_duration), PlainSerializer(format_duration, return_type=str)]
"""Seconds; written with a unit, as in `150ms`."""

Size = Annotated[int, BeforeValidator(parse_size), PlainSerializer(format_size, return_type=str)]
"""Bytes; written as a number or with a unit, as in `4MiB`."""


class LocalPath(str):
    """A path in a configuration; `config/` makes it absolute, relative to the file that names it."""

    __slots__ = ()

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: object) -> Any:  # noqa: ANN401 (pydantic's hook)
        """A string whose value is resolved against `context["base"]` where the loader gives one."""
        from pydantic_core import core_schema  # noqa: PLC0415 (only pydantic calls this)

        def resolve(value: str, info: core_schema.ValidationInfo) -> LocalPath:
            base = (info.context or {}).get("base")
            return cls(value if base is None or "://" in value else str(Path(base, value)))

        return core_schema.with_info_after_validator_function(resolve, core_schema.str_schema())


class Secret(Settings):
    """A value that is never shown: written as text, or as `{file: path}` and read when it is used."""

    value: str | None = None
    """The secret itself; better `file`."""
    file: LocalPath | None = None
    """A file whose content, without the final newline, is the secret."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        return {"value": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _exactly_one(self) -> Secret:
        if (self.value is None) == (self.file is None):
            raise ValueError("give the secret as text or as {file: path}")
        return self

    def reveal(self) -> str:
        """The secret.

        Raises:
            OSError: its file cannot be read.
        """
        if self.file is not None:
            return Path(self.file).read_text(encoding="utf-8").rstrip("\n")
        return self.value or ""

    def __repr__(self) -> str:
        return "Secret(***)" if self.file is None else f"Secret(file={self.file!r})"

    __str__ = __repr__
