"""Who reports: the identity in the first message of an access-log stream, and what it says of the local workload.

Envoy sends `identifier` once a stream (mixer.md 2.2), so whoever reads the stream keeps it beside each message.
Not for: the other side (`parties.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from envoy.service.accesslog.v3 import als_pb2
from google.protobuf.message import DecodeError

from mixer_py.errors import InvalidRequestError
from mixer_py.telemetry.access_log.wire import first_field
from mixer_py.telemetry.access_log.workloads import Workload, texts_of, workload_of

SOURCE: Final = "source"
DESTINATION: Final = "destination"
WAYPOINT: Final = "waypoint"
_BY_WORD: Final = {
    "inbound": DESTINATION, "server": DESTINATION, "destination": DESTINATION,
    "outbound": SOURCE, "client": SOURCE, "source": SOURCE, "waypoint": WAYPOINT,
}  # fmt: skip
_BY_NODE_TYPE: Final = {"router": SOURCE, "waypoint": WAYPOINT}
_WORD: Final = re.compile(r"[a-z]+")


@dataclass(frozen=True, slots=True, eq=False)
class StreamIdentity:
    """Who reports on one stream. Two streams are two identities, so this compares by object.

    Attributes:
        log_name: `identifier.log_name`, as configured in Envoy.
        node_id: `identifier.node.id`; Istio's is `type~ip~pod.namespace~domain`.
        node_cluster: `identifier.node.cluster`.
        node_metadata: strings of `identifier.node.metadata`; labels as `LABELS.<label>`.
        local: the workload beside the proxy.
        reporter_by_name: which side reports, as the log's name says; empty when it does not.
        reporter_by_node: idem, as the node's type says.
    """

    log_name: str = ""
    node_id: str = ""
    node_cluster: str = ""
    node_metadata: Mapping[str, str] = field(default_factory=dict)
    local: Workload = field(init=False)
    reporter_by_name: str = field(init=False)
    reporter_by_node: str = field(init=False)

    def __post_init__(self) -> None:
        node_type, _, rest = self.node_id.partition("~")
        pod = rest.split("~")[1] if rest.count("~") else ""
        namespace = pod.rpartition(".")[2] * ("." in pod)
        local = workload_of(self.node_metadata, namespace, self.node_cluster)
        sides = {_BY_WORD[word] for word in _WORD.findall(self.log_name.lower()) if word in _BY_WORD}
        object.__setattr__(self, "local", local)
        object.__setattr__(self, "reporter_by_name", sides.pop() if len(sides) == 1 else "")
        object.__setattr__(self, "reporter_by_node", _BY_NODE_TYPE.get(node_type, ""))


ANONYMOUS: Final = StreamIdentity()
"""The reporter of a stream whose first message said nothing."""


def parse_identity(message: bytes) -> StreamIdentity | None:
    """The identity in a StreamAccessLogsMessage.

    Returns:
        None when the message carries none, as every message but the first.

    Raises:
        InvalidRequestError: its `identifier` is malformed.
    """
    identifier = first_field(message, als_pb2.StreamAccessLogsMessage.IDENTIFIER_FIELD_NUMBER)
    if identifier is None:
        return None
    try:
        parsed = als_pb2.StreamAccessLogsMessage.Identifier.FromString(identifier)
    except DecodeError as error:
        raise InvalidRequestError(f"StreamAccessLogsMessage.identifier is malformed: {error}") from error
    node = parsed.node
    return StreamIdentity(parsed.log_name, node.id, node.cluster, dict(texts_of(node.metadata)))
