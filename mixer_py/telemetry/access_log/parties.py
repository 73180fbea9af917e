"""Who called whom: facts about both sides, worked out once for each distinct stream, cluster and pair of names.

DESIGN 5: without Istio's own metadata the local workload comes from the node, the remote one from its SPIFFE name,
the service from the upstream cluster.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from mixer_py.attributes import spiffe
from mixer_py.telemetry.access_log.streams import DESTINATION, SOURCE, LocalWorkload, StreamIdentity

_INBOUND: Final = ("inbound|", "inbound_.", "InboundPassthroughCluster")
_OUTBOUND: Final = ("outbound|", "outbound_.", "PassthroughCluster", "BlackHoleCluster")
_CATCH_ALL: Final = frozenset(("PassthroughCluster", "BlackHoleCluster", "InboundPassthroughCluster"))
"""Clusters that stand for no service; Istio reports their names as the service's, and the Host header as its host."""
_UNKNOWN: Final = LocalWorkload("", "", "", "", "", "", "")


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


class Service(NamedTuple):
    """The service that was asked; empty where only the authority can tell."""

    host: str
    name: str
    namespace: str


class Parties(NamedTuple):
    """Everything about both sides that does not change from request to request."""

    reporter: str
    context_reporter_uid: str
    source: Side
    destination_principal: str
    destination: Side
    service: Service

    def row(self) -> tuple[str, ...]:
        """The values in the order of `NAMES`."""
        return (
            self.reporter, self.context_reporter_uid, *self.source, self.destination_principal, *self.destination,
            *self.service,
        )  # fmt: skip


NAMES: Final = (
    "reporter", "context_reporter_uid", *(f"source_{name}" for name in Side._fields), "destination_principal",
    *(f"destination_{name}" for name in Side._fields), *(f"destination_service_{name}" for name in Service._fields),
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


def _side(local: LocalWorkload, principal: str) -> Side:
    """A side from its own proxy's node, and from its name where that is silent."""
    name = spiffe.parse(principal)
    namespace = local.namespace or (name.namespace if name else "")
    workload = local.workload_name or (name.service_account if name else "")
    return Side(
        namespace, workload, namespace, local.canonical_service, local.canonical_revision, local.app, local.version,
        local.cluster,
    )  # fmt: skip


def parties_of(identity: StreamIdentity, cluster: str, peer: str, own: str) -> Parties:
    """The facts of one combination.

    Args:
        identity: of the stream.
        cluster: `upstream_cluster`.
        peer: name in the certificate of the downstream peer.
        own: name in the certificate that the proxy showed downstream.
    """
    reporter = reporter_of(identity, cluster)
    source = _side(identity.local if reporter == SOURCE else _UNKNOWN, peer)
    principal = own if reporter == DESTINATION else ""
    destination = _side(identity.local if reporter == DESTINATION else _UNKNOWN, principal)
    return Parties(reporter, identity.node_id, source, principal, destination, service_of(cluster))
