"""What a column is: its types in both worlds, its meaning, and where its value comes from.

Not for: which columns there are (`columns.py`), or how a value is computed (`access_log/`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Final, Literal

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Kind:
    """A column's type in both worlds.

    Attributes:
        clickhouse: type in DDL.
        arrow: type in a record batch.
        default: value of a row that has none; None where the column is nullable.
        codec: ClickHouse codecs, empty for the server's own choice.
    """

    clickhouse: str
    arrow: pa.DataType
    default: object
    codec: str = ""

    @property
    def nullable(self) -> bool:
        """Whether a row may have no value at all."""
        return self.default is None

    @property
    def is_map(self) -> bool:
        """Whether a value has members, which are text."""
        return bool(pa.types.is_map(self.arrow))

    @property
    def is_text(self) -> bool:
        """Whether a value, or each of its members, is text."""
        return self.is_map or bool(pa.types.is_string(self.arrow))


INSTANT: Final = Kind("DateTime64(9, 'UTC')", pa.timestamp("ns", tz="UTC"), 0, "Delta, ZSTD(1)")
TEXT: Final = Kind("String", pa.string(), "", "ZSTD(1)")
NAME: Final = Kind("LowCardinality(String)", pa.string(), "")
CODE: Final = Kind("UInt16", pa.uint16(), 0, "T64, ZSTD(1)")
COUNT: Final = Kind("UInt64", pa.uint64(), 0, "T64, ZSTD(1)")
FEW: Final = Kind("UInt32", pa.uint32(), 0, "T64, ZSTD(1)")
LEFT: Final = Kind("Nullable(UInt32)", pa.uint32(), None, "ZSTD(1)")
SPAN: Final = Kind("Nullable(UInt64)", pa.uint64(), None, "ZSTD(1)")
TEXTS: Final = Kind("Map(LowCardinality(String), String)", pa.map_(pa.string(), pa.string()), (), "ZSTD(1)")
FLAG: Final = Kind("Bool", pa.bool_(), False)  # noqa: FBT003 (a default value, not a switch)
REAL: Final = Kind("Float64", pa.float64(), 0.0, "ZSTD(1)")


@dataclass(frozen=True, slots=True)
class Field:
    """A value as it stands at a path of the table's log entry."""

    path: str

    def __str__(self) -> str:
        return f"`{self.path}`"


@dataclass(frozen=True, slots=True)
class Span:
    """Microseconds of the google.protobuf.Duration at a path; none where it is absent."""

    path: str

    def __str__(self) -> str:
        return f"`{self.path}`"


@dataclass(frozen=True, slots=True)
class Metadata:
    """A string or number in the dynamic metadata that a filter left: `common_properties.metadata`."""

    namespace: str
    key: str

    def __str__(self) -> str:
        return f'`common_properties.metadata.filter_metadata["{self.namespace}"]["{self.key}"]`'


@dataclass(frozen=True, slots=True)
class Tag:
    """The custom tag of that name: `common_properties.custom_tags`."""

    name: str

    def __str__(self) -> str:
        return f'`common_properties.custom_tags["{self.name}"]`'


_HELD: Final = '`common_properties.metadata.filter_metadata["envoy.filters.http.jwt_authn"]`, else in `["istio_authn"]`'


@dataclass(frozen=True, slots=True)
class Token:
    """A claim of the token that jwt_authn checked (`attributes/tokens.py`)."""

    claim: str

    def __str__(self) -> str:
        return f"{self.claim} in {_HELD}"


@dataclass(frozen=True, slots=True)
class NamedClaims:
    """The claims of that token which `telemetry.claims` names."""

    setting: ClassVar[str] = "claims"

    def __str__(self) -> str:
        return f"claims in {_HELD}: those that `telemetry.{self.setting}` names"


@dataclass(frozen=True, slots=True)
class Party:
    """A fact about one of the two sides: by node, peer metadata, certificates and cluster (`parties.py`)."""

    how: str
    paths: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.how


@dataclass(frozen=True, slots=True)
class Derived:
    """The method of the column's name of the table's slice (`access_log/`), over these paths and metadata."""

    how: str
    paths: tuple[str, ...] = ()
    metadata: tuple[Metadata, ...] = ()

    def __str__(self) -> str:
        return self.how


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the check itself says when it records a decision."""

    how: str = "the check"

    def __str__(self) -> str:
        return self.how


@dataclass(frozen=True, slots=True)
class Named:
    """The members of the map of headers or trailers at a path that a setting of `telemetry` names."""

    path: str
    setting: Literal["headers.request", "headers.response", "headers.trailers"]

    def __str__(self) -> str:
        return f"`{self.path}`, those that `telemetry.{self.setting}` names"


@dataclass(frozen=True, slots=True)
class NamedHeader:
    """A header that stands at a path of its own, where `telemetry.headers.request` names it."""

    path: str
    header: str
    setting: ClassVar[str] = "headers.request"

    def __str__(self) -> str:
        return f"`{self.path}`, where `telemetry.{self.setting}` names {self.header}"


@dataclass(frozen=True, slots=True)
class NamedParameters:
    """Parameters of the query that `telemetry.query` names: of the first path, or of the second if that is empty."""

    path: str
    otherwise: str
    setting: ClassVar[str] = "query"

    def __str__(self) -> str:
        return f"query of `{self.path}`, else of `{self.otherwise}`: those that `telemetry.{self.setting}` names"


NamedBySetting = Named | NamedHeader | NamedParameters | NamedClaims
"""Sources of which rows show only what `setting`, a key below `telemetry`, names."""
Source = (
    Field | Span | Tag | Token | Metadata | Party | Derived | Recorded | Named | NamedHeader | NamedParameters
    | NamedClaims
)  # fmt: skip

Secrets = Literal["text", "headers", "parameters"]
"""Where others than mixer and Envoy may have put a secret into a value, and so what `telemetry.mask` masks of it.

`text`: what follows the name of a secret and `=`; `headers`, `parameters`: that, and members of a map which have the
name of a secret, as headers (or tags) have it, or parameters of a query.
"""


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        name: column name.
        kind: its types.
        meaning: one line for people; DDL comment and docs.
        source: where its value comes from.
        secrets: where in it there may be secrets; None where nobody from outside writes, or where `decision_log.mask`
            has been applied.
    """

    name: str
    kind: Kind
    meaning: str
    source: Source
    secrets: Secrets | None = None


@dataclass(frozen=True)
class TableOfColumns:
    """One ClickHouse table.

    Attributes:
        name: table name, without database.
        meaning: one line for people.
        columns: in order.
        order_by: sorting key.
        indexed: columns that rows are looked up by.
        entry: the message of envoy.data.accesslog.v3 that a row is made of; empty when it is made of none.
    """

    name: str
    meaning: str
    columns: tuple[Column, ...]
    order_by: str
    indexed: tuple[str, ...]
    entry: str = ""

    @cached_property
    def schema(self) -> pa.Schema:
        """The Arrow schema of a batch of its rows."""
        return pa.schema([pa.field(c.name, c.kind.arrow, nullable=c.kind.nullable) for c in self.columns])

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return tuple(column.name for column in self.columns)
