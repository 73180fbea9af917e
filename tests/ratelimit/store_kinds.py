"""The stores that the one suite runs over, and how each is started."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixer_py.demo.processes import Ports
from tests.parts.certificates import make_certificate
from tests.parts.presence import find_server
from tests.parts.programs import Programs
from tests.parts.valkey import Valkey
from tests.parts.valkey_groups import Cluster, Watched

Settings = dict[str, Any]

SECRET = "not-to-be-told"


@dataclass(frozen=True)
class Kind:
    """One kind of store.

    Attributes:
        name: of the kind.
        start: starts its servers; the settings that lead there.
        shared: whether several stores count together.
        part: what it needs.
    """

    name: str
    start: Callable[[Programs, Ports], Settings]
    shared: bool = True
    part: str = "valkey"


def secured(programs: Programs, ports: Ports) -> tuple[Valkey, Settings]:
    """A Redis that asks for TLS with a client's certificate, and for a user who may do no more than is needed."""
    folder: Path = programs.folder
    own, mixer = make_certificate(folder, "valkey"), make_certificate(folder, "mixer")
    users = folder / "users.acl"
    users.write_text(
        f"user default on >{SECRET} ~* &* +@all\n"
        f"user mixer on >secret ~* +get +set +del +time +eval +evalsha +script|load\n",
        encoding="ascii",
    )
    (folder / "password").write_text("secret\n", encoding="ascii")
    options = (
        "--tls-cert-file", own.certificate, "--tls-key-file", own.key, "--tls-ca-cert-file", mixer.certificate,
        "--aclfile", users,
    )  # fmt: skip
    valkey = Valkey(programs, ports, *options, tls=True, secret=SECRET, program=find_server("redis"))
    return valkey, {
        "store": f"rediss://mixer@127.0.0.1:{valkey.port}/0",
        "redis": {
            "password": {"file": str(folder / "password")},
            "tls": {"ca": str(own.certificate), "certificate": str(mixer.certificate), "key": str(mixer.key)},
        },
    }


KINDS = (
    Kind("memory", lambda programs, ports: {"store": "memory://"}, shared=False),
    Kind("single", lambda programs, ports: {"store": Valkey(programs, ports).uri}),
    Kind("unix", lambda programs, ports: {"store": f"unix://{Valkey(programs, ports).socket}?db=3"}),
    Kind("cached", lambda programs, ports: {"store": Valkey(programs, ports).uri, "local_cache": 100}),
    Kind("redis with TLS", lambda programs, ports: secured(programs, ports)[1], part="redis"),
    Kind("sentinel", lambda programs, ports: {"store": Watched(programs, ports).uri}),
    Kind("cluster", lambda programs, ports: {"store": Cluster(programs, ports).uri}),
)
