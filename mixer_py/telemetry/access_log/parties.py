"""Who called whom: facts about both sides, each worked out once for what it follows from.

DESIGN 5: the local workload comes from the node, the remote one from Istio's peer metadata, else from its SPIFFE name,
the service from the upstream cluster.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from mixer_py.attributes import spiffe
from mixer_py.telemetry.access_log.streams import DESTINATION, SOURCE, StreamIdentity
from mixer_py.telemetry.access_log.workloads import Labels, Workload, peer_of

_INBOUND: Final = ("inbound|", "inbound_.", "InboundPassthroughCluster")
_OUTBOUND: Final = ("outbound|", "outbound_.", "PassthroughCluster", "BlackHoleCluster")
_CATCH_ALL: Final = frozenset(("PassthroughCluster", "BlackHoleCluster", "InboundPassthroughCluster"))
"""Clusters that stand for no service; Istio reports their names as the service's, and the Host header as its host."""


Row = tuple[Any, ...]
"""Values of columns: texts, and labels."""


class Side(NamedTuple):
    """One side, in the order of its columns."""

    namespace: str
    workload_name: str
    workload_namespace: str
    canonical_service: str
    canonical_revision: str
    app: str
    version: str
    cluster: str
    name: str
    owner: str
    workload_uid: str
    uid: str
    serviceAccount: str  # noqa: N815 (Mixer's name of the attribute)
    labels: Labels


class Service(NamedTuple):
    """The service that was asked; empty where only the authority can tell."""

    host: str
    name: str
    namespace: str
    uid: str = ""


class Parties(NamedTuple):
    """Everything about both sides that does not change from request to request."""

    reporter: str
    context_reporter_uid: str
    context_proxy_version: str
    source_principal: str
    source: Side
    destination_principal: str
    destination: Side
    destination_container_name: str
    service: Service

    def row(self) -> Row:
        """The values in the order of `NAMES`."""
        return (
            self.reporter, self.context_reporter_uid, self.context_proxy_version, self.source_principal, *self.source,
            self.destination_principal, *self.destination, self.destination_container_name, *self.service,
        )  # fmt: skip


REPORTER_NAMES: Final = ("reporter", "context_reporter_uid", "context_proxy_version")
SOURCE_NAMES: Final = ("source_principal", *(f"source_{name}" for name in Side._fields))
DESTINATION_NAMES: Final = (
    "destination_principal", *(f"destination_{name}" for name in Side._fields), "destination_container_name",
)  # fmt: skip
SERVICE_NAMES: Final = tuple(f"destination_service_{name}" for name in Service._fields)
"""Columns of which all but the last are completed from the authority by `derivation.py`."""
NAMES: Final = (*REPORTER_NAMES, *SOURCE_NAMES, *DESTINATION_NAMES, *SERVICE_NAMES)
"""Columns that `Parties.row` gives."""
OF_INSTANCES: Final = frozenset((
    "context_reporter_uid", "context_proxy_version",
    *(f"{side}_{name}" for side in ("source", "destination") for name in ("name", "uid", "labels")),
))  # fmt: skip
"""Those that tell instances of one workload apart, which metrics do not."""


def direction_of(cluster: str) -> int:
    """A number for what a cluster's name tells of the reporter; entries of one stream with one number have one."""
    return 1 if cluster.startswith(_INBOUND) else 2 if cluster.startswith(_OUTBOUND) else 0


DIRECTIONS: Final = 3


def reporter_of(identity: StreamIdentity, cluster: str) -> str:
    """Which side's proxy reports (DESIGN 3.5): the log's name, the cluster's prefix, the node, else `source`."""
    if identity.reporter_by_name:
        return identity.reporter_by_name
    if cluster.startswith(_INBOUND):
        return DESTINATION
    if cluster.startswith(_OUTBOUND):
        return SOURCE
    return identity.reporter_by_node or SOURCE


def service_of(cluster: str) -> Service:
    """The service that a cluster's name tells: `direction|port|subset|host`, or a plain name."""
    if cluster in _CATCH_ALL:
        return Service("", cluster, "")
    parts = cluster.split("|")
    if len(parts) == 1 and cluster.startswith(("outbound_.", "inbound_.")):
        parts = cluster.split("_.", 3)  # Istio's form for SNI routing
    if len(parts) == 1:
        return Service(cluster, cluster, "")
    host = parts[3] if len(parts) > 3 else ""  # three bars, four parts
    labels = host.split(".")
    namespace = labels[1] if len(labels) > 2 and labels[2] == "svc" else ""
    return Service(host, labels[0], namespace, f"istio://{namespace}/services/{labels[0]}" if namespace else "")


class Names(NamedTuple):
    """What an entry says of both sides; texts are empty where it says nothing.

    Attributes:
        cluster: `upstream_cluster`.
        peer: name in the certificate of the downstream peer.
        own: name in the certificate that the proxy showed downstream.
        upstream: name in the upstream's certificate, as a custom tag `destination.principal` tells it.
        downstream_peer: metadata of the downstream peer (`workloads.peer_of`).
        upstream_peer: idem, of the upstream.
    """

    cluster: str
    peer: str = ""
    own: str = ""
    upstream: str = ""
    downstream_peer: bytes = b""
    upstream_peer: bytes = b""


def _side(workload: Workload, principal: str) -> Side:
    """A side from its metadata, and from its name where they are silent."""
    name = spiffe.parse(principal)
    namespace = workload.namespace or (name.namespace if name else "")
    workload_name = workload.workload_name or (name.service_account if name else "")
    uid = f"istio://{namespace}/workloads/{workload_name}" if namespace and workload.workload_name else ""
    return Side(
        namespace, workload_name, namespace, workload.canonical_service, workload.canonical_revision, workload.app,
        workload.version, workload.cluster, workload.name, workload.owner, uid,
        f"kubernetes://{workload.name}.{namespace}" if workload.name and namespace else "",
        workload.service_account or (name.service_account if name else ""), workload.labels,
    )  # fmt: skip


class ToldReporter(NamedTuple):
    """What tells the columns of `REPORTER_NAMES`."""

    reporter: str
    node_id: str
    proxy_version: str = ""

    def row(self) -> Row:
        """Their values."""
        return self


class ToldSource(NamedTuple):
    """What tells the columns of `SOURCE_NAMES`.

    Attributes:
        local: the workload of the node, where that is on this side; else None.
        peer: as in `Names`.
        downstream_peer: idem; empty where the node is on this side.
    """

    local: Workload | None
    peer: str
    downstream_peer: bytes

    def row(self) -> Row:
        """Their values."""
        caller = self.local or peer_of(self.downstream_peer)
        principal = self.peer or _uri(caller)
        return (principal, *_side(caller, principal))


class ToldDestination(NamedTuple):
    """What tells the columns of `DESTINATION_NAMES`.

    Attributes:
        local: the workload of the node, where that is on this side; else None.
        own: as in `Names`, where the node is on this side; else empty.
        upstream: as in `Names`, where it is not.
        upstream_peer: idem.
    """

    local: Workload | None
    own: str
    upstream: str
    upstream_peer: bytes

    def row(self) -> Row:
        """Their values."""
        if self.local is not None:
            return (self.own, *_side(self.local, self.own), self.local.containers)
        server = peer_of(self.upstream_peer)
        principal = self.upstream or _uri(server)
        return (principal, *_side(server, principal), server.containers)


class ToldService(NamedTuple):
    """What tells the columns of `SERVICE_NAMES`."""

    cluster: str

    def row(self) -> Row:
        """Their values."""
        return service_of(self.cluster)


def parties_of(identity: StreamIdentity, names: Names) -> Parties:
    """The facts of one combination."""
    reporter = reporter_of(identity, names.cluster)
    caller = identity.local if reporter == SOURCE else None
    server = identity.local if reporter == DESTINATION else None
    source_principal, *source = ToldSource(caller, names.peer, names.downstream_peer).row()
    told = ToldDestination(server, names.own, names.upstream, names.upstream_peer)
    destination_principal, *destination, containers = told.row()
    return Parties(
        reporter, identity.node_id, identity.local.proxy_version, source_principal, Side(*source),
        destination_principal, Side(*destination), containers, service_of(names.cluster),
    )  # fmt: skip


def _uri(workload: Workload) -> str:
    """A workload's identity in the form of a certificate's name."""
    identity = workload.identity
    return identity if not identity or "://" in identity else f"spiffe://{identity}"
