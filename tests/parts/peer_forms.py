"""What Istio's proxies said of a peer, in the forms of its releases: the same workload in each.

Not for: how it comes into Envoy's filter state (`peer_filter.py`), or who reads it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, Final

from google.protobuf import struct_pb2

IDENTITY: Final = "spiffe://td/ns/shop/sa/reviews"
OWNER: Final = "kubernetes://apis/apps/v1/namespaces/shop/deployments/reviews-v1"
LABELS: Final = {
    "app": "reviews", "version": "v1", "service.istio.io/canonical-name": "reviews",
    "service.istio.io/canonical-revision": "v1", "other": "x",
}  # fmt: skip


def a_struct(fields: Mapping[str, Any]) -> struct_pb2.Struct:
    """A Struct with these fields."""
    made = struct_pb2.Struct()
    made.update(fields)
    return made


class FlatBuilder:
    """Writes the tables that FlatNode consists of, each behind the one that names it."""

    def __init__(self) -> None:
        self.data = bytearray(4)

    def table(self, fields: dict[int, object]) -> int:
        """Where the table stands; strings and lists of such dictionaries as fields."""
        count = max(fields, default=-1) + 1
        vtable = len(self.data)
        self.data += struct.pack(f"<HH{count}H", 4 + 2 * count, 4 + 4 * len(fields), *([0] * count))
        table = len(self.data)
        self.data += struct.pack("<i", table - vtable) + bytes(4 * len(fields))
        for index, (field, value) in enumerate(fields.items()):
            struct.pack_into("<H", self.data, vtable + 4 + 2 * field, 4 + 4 * index)
            place = table + 4 + 4 * index
            self.point(place, self.text(value) if isinstance(value, str) else self.vector(value))
        return table

    def point(self, place: int, target: int) -> None:
        struct.pack_into("<I", self.data, place, target - place)

    def text(self, value: str) -> int:
        at = len(self.data)
        self.data += struct.pack("<I", len(value.encode())) + value.encode() + b"\0"
        return at

    def vector(self, tables) -> int:
        at = len(self.data)
        self.data += struct.pack("<I", len(tables)) + bytes(4 * len(tables))
        for index, fields in enumerate(tables):
            self.point(at + 4 + 4 * index, self.text(fields) if isinstance(fields, str) else self.table(fields))
        return at

    def finish(self, fields: dict[int, object]) -> bytes:
        self.point(0, self.table(fields))
        return bytes(self.data)


NODE_METADATA: Final = {
    "NAME": "reviews-v1-abc", "NAMESPACE": "shop", "WORKLOAD_NAME": "reviews-v1", "CLUSTER_ID": "east", "OWNER": OWNER,
    "LABELS": LABELS, "ISTIO_VERSION": "1.12", "APP_CONTAINERS": "reviews,side",
}  # fmt: skip
"""Of the peer's node, as it was sent: the first releases."""
FLAT_NODE: Final = FlatBuilder().finish(
    {0: "reviews-v1-abc", 1: "shop", 2: [{0: key, 1: value} for key, value in LABELS.items()], 3: OWNER,
     4: "reviews-v1", 6: "1.12", 8: ["reviews", "side"], 9: "east", 11: IDENTITY}
)  # fmt: skip
"""A FlatBuffer: up to 1.23."""
WORKLOAD_METADATA: Final = {
    "namespace": "shop", "workload": "reviews-v1", "service": "reviews", "revision": "v1", "app": "reviews",
    "version": "v1", "cluster": "east", "name": "reviews-v1-abc", "type": "deployment", "identity": IDENTITY,
    "region": "r",
}  # fmt: skip
"""What is in the Struct since 1.24."""
