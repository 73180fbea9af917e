"""The keys of `telemetry:` that say what of headers, queries and tokens is stored, and what is masked in every row.

Not for: what a decision keeps of the policy's input (`decision_log_settings.py`), or doing it (`row_masking.py`).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from mixer_py.settings import Secret, Settings

if TYPE_CHECKING:
    from mixer_py.telemetry.column import Column

ALL: Final = "*"
"""Stands for every name."""
Operation = Literal["replace", "remove", "hash"]
"""What becomes of a value: `***`; nothing; or text that is the same for equal values."""


def _lower(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip().lower() for name in names))


HeaderNames = Annotated[tuple[str, ...], AfterValidator(_lower)]
"""Names of headers, in any case."""


class HeaderSettings(Settings):
    """Headers and trailers that are stored; `*` is all that Envoy logs, and Envoy has to be told which."""

    request: HeaderNames = ()
    """Of requests, in the column `request_headers`; Envoy logs what `additional_request_headers_to_log` names.
    `referer` fills `request_referer` too, and Envoy logs that one unasked."""
    response: HeaderNames = ()
    """Of responses, in the column `response_headers`; Envoy logs what `additional_response_headers_to_log` names."""
    trailers: HeaderNames = ()
    """Trailers of responses, in the column `response_trailers`; Envoy logs what `additional_response_trailers_to_log`
    names."""


class RowMaskSettings(Settings):
    """What is masked in rows before anything is counted, queued or spooled."""

    defaults: bool = True
    """Mask what docs/privacy.md lists: credentials in headers, and values whose names look like a secret's."""
    headers: HeaderNames = ()
    """Further headers, trailers and custom tags whose values are masked, in any case."""
    query: tuple[str, ...] = ()
    """Further query parameters whose values are masked, in any case."""
    columns: Mapping[str, Operation] = Field(default_factory=dict)
    """By column, or member of one such as `custom_tags/user`, in every table that has it: `replace` by `***`,
    `remove`, or `hash` by `hash_key`, so that equal values can still be told."""
    hash_key: Secret | None = None
    """What `hash` is keyed with; without the key nobody can find a value by trying. At least 16 characters are wise."""

    @model_validator(mode="after")
    def _columns_can_be_masked(self) -> RowMaskSettings:
        for place, operation in self.columns.items():
            _check_place(place, operation)
        if "hash" in self.columns.values() and self.hash_key is None:
            raise ValueError("hash needs a key; write hash_key: {file: path} beside columns")
        return self


@dataclass(frozen=True, slots=True)
class Privacy:
    """What rows may show.

    Attributes:
        headers: which are stored.
        query: names of the query parameters that are.
        mask: what of a row is not shown.
        claims: names of the claims that are stored.
        for_metrics: by column, what a metric reads of it that rows need not show (`metric_reads.py`).
    """

    headers: HeaderSettings = field(default_factory=HeaderSettings)
    query: tuple[str, ...] = ()
    mask: RowMaskSettings = field(default_factory=RowMaskSettings)
    claims: tuple[str, ...] = ()
    for_metrics: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def named(self, setting: str) -> tuple[str, ...]:
        """What a setting below `telemetry` names, such as `headers.request`."""
        names: tuple[str, ...] = attrgetter(setting)(self)
        return names


def _check_place(place: str, operation: Operation) -> None:
    name, slash, member = place.partition("/")
    columns = _columns()
    if name not in columns:
        close = difflib.get_close_matches(name, list(columns), n=1, cutoff=0.6)
        raise ValueError(
            f"no table has a column {name}; " + (f"did you mean {close[0]}?" if close else "docs/columns.md has them")
        )
    column = columns[name]
    if column.kind.clickhouse.startswith("DateTime"):
        raise ValueError(f"{name} cannot be masked: rows are kept in its order")
    if slash and not (member and column.kind.is_map):
        raise ValueError(f"{place}: {name} has no members; write {name}")
    if operation != "remove" and not column.kind.is_text:
        raise ValueError(f"{name} is no text, and can only be masked by remove")


def _columns() -> Mapping[str, Column]:
    """Imported here, because it needs Arrow, and without such masks nobody loads that."""
    from mixer_py.telemetry.columns import TABLES  # noqa: PLC0415

    return {column.name: column for table in TABLES.values() for column in table.columns}
