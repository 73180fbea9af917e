"""Who called whom: facts about both sides, worked out once for each distinct stream, cluster and pair of names.

DESIGN 5: the local workload comes from the node, the remote one from Istio's peer metadata, else from its SPIFFE name,
the service from the upstream cluster.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from mixer_py.attributes import spiffe
from mixer_py.telemetry.access_log.streams import DESTINATION, SOURCE, StreamIdentity
from mixer_py.telemetry.access_log.workloads import Workload, peer_of

_INBOUND: Final = ("inbound|", "inbound_.", "InboundPassthroughCluster")
_OUTBOUND: Final = ("outbound|", "outbound_.", "PassthroughCluster", "BlackHoleCluster")
_CATCH_ALL: Final = frozenset(("PassthroughCluster", "BlackHoleCluster", "InboundPassthroughCluster"))
"""Clusters that stand for no service; Istio reports their names as the service's, and the Host header as its host."""


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


class Service(NamedTuple):
    """The service that was asked; empty where only the authority can tell."""

    host: str
    name: str
    namespace: str


class Parties(NamedTuple):
    """Everything about both sides that does not change from request to request."""

    reporter: str
    context_reporter_uid: str
    source_principal: str
    source: Side
    destination_principal: str
    destination: Side
    service: Service

    def row(self) -> tuple[str, ...]:
        """The values in the order of `NAMES`."""
        return (
            self.reporter, self.context_reporter_uid, self.source_principal, *self.source, self.destination_principal,
            *self.destination, *self.service,
        )  # fmt: skip


NAMES: Final = (
    "reporter", "context_reporter_uid", "source_principal", *(f"source_{name}" for name in Side._fields),
    "destination_principal", *(f"destination_{name}" for name in Side._fields),
    *(f"destination_service_{name}" for name in Service._fields),
)  # fmt: skip
"""Columns that `Parties.row` gives. The last three are completed from the authority by `derivation.py`."""


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
    return Service(host, labels[0], namespace)


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
    )  # fmt: skip


def parties_of(identity: StreamIdentity, names: Names) -> Parties:
    """The facts of one combination."""
    reporter = reporter_of(identity, names.cluster)
    caller = identity.local if reporter == SOURCE else peer_of(names.downstream_peer)
    server = identity.local if reporter == DESTINATION else peer_of(names.upstream_peer)
    source_principal = names.peer or _uri(caller)
    destination_principal = names.own if reporter == DESTINATION else names.upstream or _uri(server)
    return Parties(
        reporter, identity.node_id, source_principal, _side(caller, source_principal), destination_principal,
        _side(server, destination_principal), service_of(names.cluster),
    )  # fmt: skip


def _uri(workload: Workload) -> str:
    """A workload's identity in the form of a certificate's name."""
    identity = workload.identity
    return identity if not identity or "://" in identity else f"spiffe://{identity}"
