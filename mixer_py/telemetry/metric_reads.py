"""What the user's metrics read of columns that show only what a setting names: headers, trailers, parameters, claims.

What a metric reads by its name it finds, masked as in rows, whether rows show it or not; it goes nowhere else. A column
as a whole is what rows show of it, so that nothing depends on what other metrics read.
Not for: reading (`access_log/configured.py`), or what the keys of a metric are (`user_metrics_settings.py`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from mixer_py.expressions import compile_expression
from mixer_py.telemetry.privacy_settings import ALL, Privacy
from mixer_py.telemetry.user_metrics_settings import UserMetricSettings

if TYPE_CHECKING:
    from mixer_py.telemetry.column import NamedBySetting


class Unreadable(NamedTuple):
    """An expression that would never find what it reads.

    Attributes:
        place: of the expression, below the list of metrics.
        text: the expression.
        message: why, and the way out.
    """

    place: tuple[int | str, ...]
    text: str
    message: str


class _Read(NamedTuple):
    """What an expression reads of such a column.

    Attributes:
        attribute: as the expression calls the column.
        column: its name.
        source: of the column.
        name: of what is read; None for the column as a whole.
    """

    attribute: str
    column: str
    source: NamedBySetting
    name: str | None


def names_read(metrics: Iterable[UserMetricSettings]) -> Mapping[str, tuple[str, ...]]:
    """By column, what metrics read of it by name."""
    found: dict[str, set[str]] = defaultdict(set)
    for metric in metrics:
        for _, text in _expressions(metric):
            for read in _reads(text):
                if read.name is not None:
                    found[read.column].add(read.name)
    return {column: tuple(sorted(names)) for column, names in found.items()}


def for_metrics(metrics: Iterable[UserMetricSettings], privacy: Privacy) -> Mapping[str, tuple[str, ...]]:
    """The same for columns of which rows do not show all that is read."""
    read = names_read(metrics)
    if not read:
        return {}
    sources = _sources()
    return {
        column: names for column, names in read.items() if _hidden(names, privacy.named(sources[column].setting))
    }  # fmt: skip


def unreadable(metrics: Iterable[UserMetricSettings], privacy: Privacy) -> Iterator[Unreadable]:
    """Expressions that would never find what they read."""
    for number, metric in enumerate(metrics):
        for place, text in _expressions(metric):
            reads = sorted(_reads(text), key=str)
            for read in reads:
                message = _fault(read, reads, privacy.named(read.source.setting))
                if message:
                    yield Unreadable((number, *place), text, message)
                    break


def _fault(read: _Read, all_reads: Iterable[_Read], shown: tuple[str, ...]) -> str:
    """Why something would not be found, and the way out; empty where it would."""
    if read.name is not None or ALL in shown:
        return ""
    besides = {other.name for other in all_reads if other.column == read.column and other.name is not None}
    if shown and not _hidden(besides, shown):
        return ""
    of_it = f"only {', '.join(shown)}" if shown else "nothing"
    return (
        f"reads {read.attribute} as a whole, or by a name that is not known before, and rows show {of_it} of it; read "
        f'members by their names, as {read.attribute}["name"], or name them in telemetry.{read.source.setting}'
    )


def _hidden(names: Iterable[str | None], shown: tuple[str, ...]) -> bool:
    """Whether rows do not show one of the names."""
    return ALL not in shown and any(name not in shown for name in names)


def _expressions(metric: UserMetricSettings) -> Iterator[tuple[tuple[str, ...], str]]:
    """The place and the text of each expression."""
    yield ("match",), metric.match
    yield ("value",), metric.value
    for label, text in metric.labels.items():
        yield ("labels", label), text


def _reads(text: str) -> Iterator[_Read]:
    """What an expression reads of such columns. Imports here, because Arrow comes with them."""
    from mixer_py.telemetry.column import NamedHeader  # noqa: PLC0415
    from mixer_py.telemetry.row_scope import COLUMN_OF, ROW_SCOPE  # noqa: PLC0415

    sources = _sources()
    for reference in compile_expression(text, scope=ROW_SCOPE).reads:
        column = COLUMN_OF[reference.attribute]
        if column in sources:
            source = sources[column]
            name = source.header if isinstance(source, NamedHeader) else reference.key
            yield _Read(reference.attribute, column, source, name)


def _sources() -> Mapping[str, NamedBySetting]:
    """The columns that show only what a setting names."""
    from mixer_py.telemetry.column import NamedBySetting  # noqa: PLC0415 (as above)
    from mixer_py.telemetry.columns import REQUESTS  # noqa: PLC0415

    return {column.name: column.source for column in REQUESTS.columns if isinstance(column.source, NamedBySetting)}
