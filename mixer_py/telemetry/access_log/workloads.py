"""A workload as metadata tell it: of the proxy's own node, or of the peer in filter state, in all of Istio's forms.

Forms of a peer: a Struct with node metadata's names in capitals (up to 1.7), a FlatBuffer (1.8 to 1.23), a Struct with
names of its own in small letters (from 1.24). What cannot be read tells nothing.
Not for: which side a workload is on (`parties.py`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from google.protobuf import struct_pb2, wrappers_pb2
from google.protobuf.message import DecodeError

from mixer_py.telemetry.access_log import flat_buffer

LABELS: Final = "LABELS"
_APP: Final = f"{LABELS}.app"
_VERSION: Final = f"{LABELS}.version"
_CANONICAL_SERVICE: Final = f"{LABELS}.service.istio.io/canonical-name"
_CANONICAL_REVISION: Final = f"{LABELS}.service.istio.io/canonical-revision"
KEPT: Final = frozenset(
    ("NAME", "NAMESPACE", "WORKLOAD_NAME", "OWNER", "CLUSTER_ID", _APP, _VERSION, _CANONICAL_SERVICE,
     _CANONICAL_REVISION)
)  # fmt: skip
"""What is kept of node metadata (istio/istio pkg/model/proxy.go); a node may carry kilobytes of the rest."""
_IDENTITY: Final = "IDENTITY"

_LATER_NAMES: Final = {
    "name": "NAME", "namespace": "NAMESPACE", "workload": "WORKLOAD_NAME", "cluster": "CLUSTER_ID",
    "service": _CANONICAL_SERVICE, "revision": _CANONICAL_REVISION, "app": _APP, "version": _VERSION,
    "identity": _IDENTITY,
}  # fmt: skip
"""Names of a peer's Struct since 1.24 (istio/proxy extensions/common/metadata_object.cc)."""
_FLAT_TEXTS: Final = {0: "NAME", 1: "NAMESPACE", 3: "OWNER", 4: "WORKLOAD_NAME", 9: "CLUSTER_ID", 11: _IDENTITY}
_FLAT_LABELS: Final = 2
"""Fields of FlatNode (istio/proxy extensions/common/node_info.fbs), by their number."""
SEPARATOR: Final = b"\0"
"""Between the type and the value of a peer's Any."""


@dataclass(frozen=True, slots=True)
class Workload:
    """One workload; what is not told of it is empty.

    Attributes:
        namespace: its namespace.
        workload_name: its name.
        canonical_service, canonical_revision, app, version: by its labels.
        cluster: Kubernetes cluster.
        name: its instance, a pod.
        owner: what controls it.
        identity: its SPIFFE name, where metadata tell it.
    """

    namespace: str = ""
    workload_name: str = ""
    canonical_service: str = ""
    canonical_revision: str = ""
    app: str = ""
    version: str = ""
    cluster: str = ""
    name: str = ""
    owner: str = ""
    identity: str = ""


UNKNOWN: Final = Workload()


def workload_of(known: Mapping[str, str], namespace: str = "", workload_name: str = "") -> Workload:
    """The workload of node metadata.

    Args:
        known: strings by their names in node metadata, labels as `LABELS.<label>`.
        namespace: where metadata do not tell it.
        workload_name: idem.
    """
    told = known.get
    return Workload(
        told("NAMESPACE", "") or namespace, told("WORKLOAD_NAME", "") or workload_name, told(_CANONICAL_SERVICE, ""),
        told(_CANONICAL_REVISION, ""), told(_APP, ""), told(_VERSION, ""), told("CLUSTER_ID", ""), told("NAME", ""),
        told("OWNER", ""), told(_IDENTITY, ""),
    )  # fmt: skip


def peer_of(told: bytes) -> Workload:
    """The workload that an object in filter state tells.

    Args:
        told: type URL, `SEPARATOR` and value of the object's Any; empty for none.
    """
    kind, _, value = told.partition(SEPARATOR)
    try:
        if kind.endswith(b"/google.protobuf.Struct"):
            return workload_of(dict(_of_struct(struct_pb2.Struct.FromString(value))))
        if kind.endswith(b"/google.protobuf.BytesValue"):
            return workload_of(dict(_of_flat_node(wrappers_pb2.BytesValue.FromString(value).value)))
    except (DecodeError, struct.error, UnicodeDecodeError):
        return UNKNOWN
    return UNKNOWN


def texts_of(metadata: struct_pb2.Struct) -> Iterator[tuple[str, str]]:
    """The strings of node metadata that are kept."""
    found = [(key, value.string_value) for key, value in metadata.fields.items()]
    if LABELS in metadata.fields:
        labels = metadata.fields[LABELS].struct_value.fields.items()
        found += [(f"{LABELS}.{key}", value.string_value) for key, value in labels]
    return ((key, value) for key, value in found if key in KEPT and value)


def _of_struct(peer: struct_pb2.Struct) -> Iterator[tuple[str, str]]:
    yield from texts_of(peer)
    for key, value in peer.fields.items():
        if key in _LATER_NAMES and value.string_value:
            yield _LATER_NAMES[key], value.string_value


def _of_flat_node(data: bytes) -> Iterator[tuple[str, str]]:
    node = flat_buffer.root(data)
    for field, name in _FLAT_TEXTS.items():
        yield name, node.text(field)
    for label in node.tables(_FLAT_LABELS):
        key = f"{LABELS}.{label.text(0)}"
        if key in KEPT:
            yield key, label.text(1)
