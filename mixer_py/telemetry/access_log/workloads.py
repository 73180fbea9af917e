"""A workload as metadata tell it: of the proxy's own node, or of the peer in filter state, in all of Istio's forms.

Forms of a peer: a Struct in bytes with node metadata's names in capitals (the first releases), a FlatBuffer in bytes
(up to 1.23), a Struct with names of its own in small letters (from 1.24). What cannot be read tells nothing.
Not for: which side a workload is on (`parties.py`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
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
    ("NAME", "NAMESPACE", "WORKLOAD_NAME", "OWNER", "CLUSTER_ID", "APP_CONTAINERS", "SERVICE_ACCOUNT", "ISTIO_VERSION",
     _APP, _VERSION, _CANONICAL_SERVICE, _CANONICAL_REVISION)
)  # fmt: skip
"""What is kept of node metadata besides labels (istio/istio pkg/model/proxy.go); a node may carry kilobytes more."""
MOST_LABELS: Final = 64
LONGEST_LABEL: Final = 512
"""Characters of a label and its value; Kubernetes allows 317 and 63."""
Labels = tuple[tuple[str, str], ...]
_IDENTITY: Final = "IDENTITY"

_LATER_NAMES: Final = {
    "name": "NAME", "namespace": "NAMESPACE", "workload": "WORKLOAD_NAME", "cluster": "CLUSTER_ID",
    "service": "service", "revision": "revision", "app": "app", "version": "version", "identity": _IDENTITY,
}  # fmt: skip
"""Names of a peer's Struct since 1.24 (istio/proxy extensions/common/metadata_object.cc)."""
_KIND: Final = "type"
"""Another of them: the kind of what controls the workload, which Istio makes an owner of (idem)."""
_FLAT_TEXTS: Final = {0: "NAME", 1: "NAMESPACE", 3: "OWNER", 4: "WORKLOAD_NAME", 6: "ISTIO_VERSION", 9: "CLUSTER_ID",
                      11: _IDENTITY}  # fmt: skip
_FLAT_LABELS: Final = 2
_FLAT_CONTAINERS: Final = 8
"""Fields of FlatNode (istio/proxy extensions/common/node_info.fbs), by their number."""
_OF_A_STRUCT: Final = b"\x0a"
"""How a Struct's bytes begin, with the tag of its only field; a FlatBuffer begins with a place that 4 divides."""
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
        labels: all of them, by name, as far as they are not too many or too long.
        containers: names of its containers, joined by commas.
        service_account: its service account.
        proxy_version: version of the proxy beside it.
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
    labels: Labels = ()
    containers: str = ""
    service_account: str = ""
    proxy_version: str = ""


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
        told("NAMESPACE", "") or namespace, told("WORKLOAD_NAME", "") or workload_name,
        told("service") or told(_CANONICAL_SERVICE, ""), told("revision") or told(_CANONICAL_REVISION, ""),
        told("app") or told(_APP, ""), told("version") or told(_VERSION, ""), told("CLUSTER_ID", ""), told("NAME", ""),
        told("OWNER", ""), told(_IDENTITY, ""), _labels(known), told("APP_CONTAINERS", ""), told("SERVICE_ACCOUNT", ""),
        told("ISTIO_VERSION", ""),
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
            return workload_of(dict(_of_bytes(wrappers_pb2.BytesValue.FromString(value).value)))
    except (DecodeError, struct.error, UnicodeDecodeError):
        return UNKNOWN
    return UNKNOWN


def texts_of(metadata: struct_pb2.Struct) -> Iterator[tuple[str, str]]:
    """The strings of node metadata that are kept, and labels."""
    for key, value in metadata.fields.items():
        if key in KEPT and value.string_value:
            yield key, value.string_value
        if key in {LABELS, LABELS.lower()}:
            labels = value.struct_value.fields.items()
            yield from _kept_labels((label, text.string_value) for label, text in labels)


def _kept_labels(labels: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Labels under the names that they have here; those of columns, and so many others, the first by name."""
    told = {
        f"{LABELS}.{label}": value for label, value in labels if value and _is_kept(label, value)
    }  # none held twice
    others = sorted(key for key in told if key not in KEPT)[:MOST_LABELS]
    return ((key, told[key]) for key in (*(key for key in told if key in KEPT), *others))


def _is_kept(label: str, value: str) -> bool:
    return len(label) + len(value) <= LONGEST_LABEL or f"{LABELS}.{label}" in KEPT


def _labels(known: Mapping[str, str]) -> Labels:
    prefix = f"{LABELS}."
    return tuple(sorted((key.removeprefix(prefix), value) for key, value in known.items() if key.startswith(prefix)))


def _of_struct(peer: struct_pb2.Struct) -> Iterator[tuple[str, str]]:
    yield from texts_of(peer)
    for key, value in peer.fields.items():
        if key in _LATER_NAMES and value.string_value:
            yield _LATER_NAMES[key], value.string_value
    kind, namespace, workload = (peer.fields[key].string_value for key in (_KIND, "namespace", "workload"))
    if kind and workload:
        yield "OWNER", f"kubernetes://apis/apps/v1/namespaces/{namespace}/{kind}s/{workload}"


def _of_bytes(data: bytes) -> Iterator[tuple[str, str]]:
    if data.startswith(_OF_A_STRUCT):
        return _of_struct(struct_pb2.Struct.FromString(data))
    return _of_flat_node(data)


def _of_flat_node(data: bytes) -> Iterator[tuple[str, str]]:
    node = flat_buffer.root(data)
    for field, name in _FLAT_TEXTS.items():
        yield name, node.text(field)
    containers = (name for name in node.texts(_FLAT_CONTAINERS) if len(name) <= LONGEST_LABEL)
    yield "APP_CONTAINERS", ",".join(islice(containers, MOST_LABELS))
    yield from _kept_labels((label.text(0), label.text(1)) for label in node.tables(_FLAT_LABELS))
