"""The keys of `telemetry:` in a configuration: where rows go, and how many may wait."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit

from pydantic import AfterValidator, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import InitErrorDetails

from mixer_py.settings import Duration, LocalPath, Secret, Settings, Size
from mixer_py.telemetry.bucket_bounds import BucketBounds
from mixer_py.telemetry.istio_names import LABELS
from mixer_py.telemetry.layout import Layout
from mixer_py.telemetry.metric_reads import for_metrics, unreadable
from mixer_py.telemetry.privacy_settings import HeaderSettings, Privacy, RowMaskSettings
from mixer_py.telemetry.user_metrics_settings import UserMetrics

DEFAULT_DATABASE = "mesh"
NATIVE_PORTS = {"clickhouse": 9000, "clickhouses": 9440}
"""By scheme, where the URL names none."""
_DATABASE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class EmbeddedTarget:
    """A folder that the store process opens with chDB."""

    directory: Path
    database: str


@dataclass(frozen=True, slots=True)
class ServerTarget:
    """A ClickHouse server, spoken to over its native protocol."""

    host: str
    port: int
    user: str
    database: str
    secure: bool


def _at_least_an_hour(seconds: float) -> float:
    if seconds < 3600:
        raise ValueError("rows are kept for at least an hour: 1h")
    return seconds


Retention = Annotated[Duration, AfterValidator(_at_least_an_hour)]
"""How long something is kept, in seconds; at least an hour."""


class ClickHouseSettings(Settings):
    """The ClickHouse that keeps the rows."""

    url: str
    """`chdb:///folder` keeps them in that folder, in a process of mixer's own (extra `embedded`); `chdb://folder` is
    relative to the configuration file. `clickhouse://user@host:9000/database` is a server, `clickhouses://` one with
    TLS. The database is `mesh` unless the URL names one, with chDB as `?database=`."""
    password: Secret | None = None
    """The server's password; never in the URL."""

    @field_validator("url")
    @classmethod
    def _resolve(cls, url: str, info: ValidationInfo) -> str:
        target = parse_target(url)
        if not isinstance(target, EmbeddedTarget):
            return url
        base = (info.context or {}).get("base")
        directory = target.directory if base is None else Path(base, target.directory)
        return f"chdb://{quote(str(directory))}?database={target.database}"

    @property
    def target(self) -> EmbeddedTarget | ServerTarget:
        """What the URL names."""
        return parse_target(self.url)


class QueueSettings(Settings):
    """Rows that wait to be written."""

    rows: int = Field(default=200_000, ge=1)
    """Rows of one table that may wait, at about a kilobyte each; above it the oldest are dropped and counted."""
    bytes: Size = Field(default=256 << 20, ge=1)
    """Bytes that the waiting rows of one table may take; above it, too, the oldest are dropped and counted."""
    block_rows: int = Field(default=10_000, ge=1)
    """A block is written as soon as it has so many rows."""
    block_interval: Duration = 1.0
    """Or as soon as its first row has waited so long."""


class SpoolSettings(Settings):
    """Rows that wait on disk while ClickHouse is away."""

    directory: LocalPath
    """A folder for them, on a disk that outlives the machine; each process has one of its own in it."""
    bytes: Size = Field(default=1 << 30, ge=1 << 20)
    """Bytes that the rows of one table and one worker may take there; above it the oldest are dropped and counted."""
    mode: Literal["overflow", "always"] = "overflow"
    """`overflow`: rows go to disk when half of the queue in memory is taken; a killed process loses at most its queue.
    `always`: every row goes to disk before it is written, and a killed process loses what came in the last
    milliseconds."""


class RetentionSettings(Settings):
    """How long rows are kept; what is not named is kept for ever."""

    requests: Retention | None = None
    """Rows of `requests`, from the start of the request."""
    connections: Retention | None = None
    """Rows of `connections`, from when each was reported."""
    decisions: Retention | None = None
    """Rows of `decisions`."""
    rollups: Retention | None = None
    """Roll-ups by the minute."""


class BucketSettings(Settings):
    """Upper bounds of the buckets of Istio's histograms, in ascending order; where there are none, Envoy's own."""

    istio_request_duration_milliseconds: BucketBounds = ()
    """Milliseconds; from 0.5 to 3600000 in 19 steps unless others are given, as of the following."""
    istio_request_bytes: BucketBounds = ()
    """Bytes."""
    istio_response_bytes: BucketBounds = ()
    """Bytes."""


class PrometheusSettings(Settings):
    """Istio's standard metrics, and your own."""

    buckets: BucketSettings = BucketSettings()
    """Upper bounds of histograms' buckets."""
    drop_labels: tuple[str, ...] = ()
    """Labels of Istio's metrics that are left out because they make more series than they are worth. Istio's dashboards
    do without those of canonical services and revisions, app, version, response_flags, request_protocol and
    grpc_response_status."""
    max_label_sets: int = Field(default=10_000, ge=1)
    """Series that each of Istio's metrics may have in one process. What comes above it is counted in one series whose
    labels are all `other`, and in `mixer_series_overflow_total`."""
    metrics: UserMetrics = ()
    """Metrics of your own. They follow reloads; what one of them is called by, its kind, labels and buckets hold until
    mixer is restarted."""

    idle_timeout: Duration = 86_400.0
    """A series that has not changed for so long is not shown any more; when it changes again it goes on from where it
    was."""

    @field_validator("drop_labels")
    @classmethod
    def _check_labels(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [label for label in labels if label not in LABELS]
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: no label of Istio's; those are {', '.join(LABELS)}")
        return labels


class TelemetrySettings(Settings):
    """Where rows and metrics go."""

    clickhouse: ClickHouseSettings | None = None
    """Where rows are written; without it there are metrics only."""
    queue: QueueSettings = QueueSettings()
    """Rows that wait to be written."""
    when_full: Literal["drop", "back_pressure"] = "drop"
    """When the rows of log entries leave no more room, in memory and in the spool: `drop` the oldest of them; or
    `back_pressure`: read no further until there is room, so that Envoy's own buffer fills, and Envoy drops what comes
    and counts it. Decisions follow `decision_log.when_full`; checks are answered as ever."""
    spool: SpoolSettings | None = None
    """Where rows wait on disk when there are too many for the queue; without it the oldest are dropped then."""
    retention: RetentionSettings = RetentionSettings()
    """How long rows are kept. A change takes effect with the next start; rows go when ClickHouse merges their parts."""
    cluster: str = ""
    """Name of the ClickHouse cluster that holds the tables, replicated and distributed; empty for one server."""
    headers: HeaderSettings = HeaderSettings()
    """Headers and trailers that rows show; none unless you name them. Follows reloads, as `query`, `claims` and
    `mask` do."""
    query: tuple[str, ...] = ()
    """Query parameters that rows show, in the column `request_query_params`; `*` is all of them. None unless you name
    them: `request_url_path` never has a query."""
    claims: tuple[str, ...] = ()
    """Claims of a request's token that rows show, in the column `request_auth_claims`; `*` is all of them. None unless
    you name them. Envoy has to keep the token: `payload_in_metadata` of jwt_authn."""
    mask: RowMaskSettings = RowMaskSettings()
    """What rows do not show."""
    prometheus: PrometheusSettings = PrometheusSettings()
    """Istio's standard metrics, and your own."""

    @model_validator(mode="after")
    def _metrics_find_what_they_read(self) -> TelemetrySettings:
        """Each fault at the place of its expression."""
        faults = [
            InitErrorDetails(
                type="value_error",
                loc=("prometheus", "metrics", *fault.place),
                input=fault.text,
                ctx={"error": ValueError(fault.message)},
            )
            for fault in unreadable(self.prometheus.metrics, self._shown)
        ]
        if faults:
            raise ValidationError.from_exception_data("telemetry", faults)
        return self

    @property
    def privacy(self) -> Privacy:
        """What rows may show, and what metrics read besides."""
        return replace(self._shown, for_metrics=for_metrics(self.prometheus.metrics, self._shown))

    @property
    def _shown(self) -> Privacy:
        return Privacy(self.headers, self.query, self.mask, self.claims)

    @property
    def fixed(self) -> TelemetrySettings:
        """What of it holds for the life of a process: all but what rows show, and the user's own metrics."""
        shown = {"headers": HeaderSettings(), "query": (), "claims": (), "mask": RowMaskSettings()}
        return self.model_copy(update={"prometheus": self.prometheus.model_copy(update={"metrics": ()}), **shown})

    @property
    def layout(self) -> Layout:
        """Where the tables stand."""
        kept = {name: int(seconds) for name, seconds in self.retention if seconds is not None}
        database = self.clickhouse.target.database if self.clickhouse is not None else DEFAULT_DATABASE
        return Layout(database, MappingProxyType(kept), self.cluster)

    @field_validator("cluster")
    @classmethod
    def _cluster_of_servers(cls, cluster: str, info: ValidationInfo) -> str:
        if cluster:
            Layout(DEFAULT_DATABASE, cluster=cluster)
            clickhouse: ClickHouseSettings | None = info.data.get("clickhouse")
            if clickhouse is None or isinstance(clickhouse.target, EmbeddedTarget):
                raise ValueError("a cluster is one of ClickHouse servers; name one of them in telemetry.clickhouse.url")
        return cluster


def parse_target(url: str) -> EmbeddedTarget | ServerTarget:
    """What a URL names.

    Raises:
        ValueError: it names nothing that rows can be written to; the message says what would.
    """
    parts = urlsplit(url)
    match parts.scheme:
        case "chdb":
            return _embedded(url, parts)
        case "clickhouse" | "clickhouses":
            return _server(url, parts)
        case _:
            raise ValueError(f"{url!r} is neither chdb:///folder nor clickhouse://user@host:9000/database")


def _embedded(url: str, parts: SplitResult) -> EmbeddedTarget:
    query = parse_qs(parts.query, keep_blank_values=True)
    unknown = sorted(set(query) - {"database"})
    if unknown or parts.fragment:
        raise ValueError(f"{url!r}: only ?database= may follow the folder, not {', '.join(unknown) or parts.fragment}")
    folder = unquote(parts.netloc + parts.path)
    if not folder:
        raise ValueError(f"{url!r} names no folder; write chdb:///var/lib/mixer/chdb")
    return EmbeddedTarget(Path(folder), _database(url, query.get("database", [DEFAULT_DATABASE])[-1]))


def _server(url: str, parts: SplitResult) -> ServerTarget:
    if parts.password is not None:
        raise ValueError("a password does not belong into the URL; write password: {file: path} beside it")
    if not parts.hostname:
        raise ValueError(f"{url!r} names no host; write clickhouse://user@host:9000/mesh")
    try:
        port = NATIVE_PORTS[parts.scheme] if parts.port is None else parts.port
    except ValueError as error:
        raise ValueError(f"{url!r}: {error}") from None
    if not port:
        raise ValueError(f"{url!r}: port 0 cannot be connected to")
    if parts.query or parts.fragment:
        raise ValueError(f"{url!r}: nothing may follow the database")
    database = _database(url, parts.path.strip("/") or DEFAULT_DATABASE)
    user = unquote(parts.username or "default")
    return ServerTarget(parts.hostname, port, user, database, secure=parts.scheme == "clickhouses")


def _database(url: str, name: str) -> str:
    if _DATABASE.fullmatch(name) is None:
        raise ValueError(f"{url!r}: {name!r} is no name of a database; use letters, digits and _")
    return name
