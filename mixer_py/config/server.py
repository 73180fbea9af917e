"""Settings of the server: what listens where, for whom, and its manners. Not for: what the services do."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Le
from pydantic import ValidationInfo, field_validator, model_validator

from mixer_py.config.address import Address, ListenAddress
from mixer_py.config.data_plane import DataPlaneSettings
from mixer_py.config.tls import ServiceName, TlsSettings
from mixer_py.envoy_parts import find_parts
from mixer_py.errors import ProcessError
from mixer_py.peers import AllowList
from mixer_py.settings import Duration, LocalPath, Secret, Settings, Size, format_duration

_INT32 = (1 << 31) - 1  # gRPC keeps sizes in bytes and times in milliseconds in so many bits

NamedService = Literal["all", "ext_authz", "rate_limit", "access_log", "health", "reflection"]

SERVICES: tuple[ServiceName, ...] = ("ext_authz", "rate_limit", "access_log", "health", "reflection")
"""What `all` stands for."""
STREAMING: frozenset[ServiceName] = frozenset({"access_log", "reflection"})
"""Services that only speak in streams, which the transport `envoy` does not carry."""


class ListenerSettings(Settings):
    """One address that Envoy calls."""

    address: ListenAddress = Address("127.0.0.1", 9091)
    """Where to listen: `host:port`, `[::1]:9091` or `unix:///path`; `internal://name` is an internal listener of the
    Envoy of `server.data_plane`."""
    transport: Literal["grpcio", "envoy"] = "grpcio"
    """What carries the calls. `envoy` is Envoy itself with mixer inside: a single call takes less CPU, and there are no
    streams; it needs `mixer-py[envoy]`. See transports.md."""
    services: tuple[NamedService, ...] = ("all",)
    """What is answered there; `all` is every service that the transport carries."""
    tls: TlsSettings | None = None
    """TLS here; what it leaves out is taken from `server.tls`. A unix socket has none: its file says who may
    connect; nor has an internal listener, which only its own Envoy can reach."""

    @field_validator("services")
    @classmethod
    def _services_fit(cls, services: tuple[NamedService, ...], info: ValidationInfo) -> tuple[NamedService, ...]:
        if not services:
            raise ValueError("a listener without services would answer nothing; name one, or all")
        if info.data.get("transport") == "envoy":
            for name in services:
                if name in STREAMING:
                    raise ValueError(f"{name} speaks in streams, which the transport envoy does not carry; use grpcio")
        return services

    @field_validator("tls")
    @classmethod
    def _tls_fits(cls, tls: TlsSettings | None, info: ValidationInfo) -> TlsSettings | None:
        address: Address | None = info.data.get("address")
        if tls is not None and address is not None and address.is_unix:
            raise ValueError(f"{address} is a unix socket, whose file says who may connect; leave tls out")
        if tls is not None and address is not None and address.internal:
            raise ValueError(f"{address} is within one process; leave tls out")
        answered = info.data.get("services", ())
        for name in tls.services if tls is not None else ():
            if answered and not {name, "all"}.intersection(answered):
                raise ValueError(
                    f"services.{name} is not answered by this listener; add it to services, or leave it out"
                )
        return tls

    @model_validator(mode="after")
    def _transport_is_here(self) -> ListenerSettings:
        if self.address.internal and self.transport != "envoy":
            raise ValueError(f"{self.address} is within an Envoy; add transport: envoy")
        if self.transport == "envoy":
            try:
                find_parts()
            except ProcessError as error:
                raise ValueError(f"the transport envoy cannot be used here: {error}; or use grpcio") from error
        return self

    @property
    def service_names(self) -> tuple[ServiceName, ...]:
        """The services to answer, each once, with `all` spelt out, in the order of `SERVICES`."""
        carried = {name for name in SERVICES if self.transport == "grpcio" or name not in STREAMING}
        named = carried if "all" in self.services else set(self.services)
        return tuple(name for name in SERVICES if name in named)


class ServerSettings(Settings):
    """Listeners, admin and the manners of the server."""

    tls: TlsSettings | None = None
    """TLS of every listener that is no unix socket. There is no way back to plaintext for one of them; where one is to
    be without, write `tls` at the others."""
    listeners: tuple[ListenerSettings, ...] = (ListenerSettings(),)
    """The addresses that Envoy calls."""
    data_plane: DataPlaneSettings | None = None
    """The Envoy that carries your traffic, started by mixer with its worker inside; see transports.md."""
    workers: Annotated[int, Ge(1), Le(256)] = 1
    """Processes that answer, all at the same addresses: as many as there are cores for them. A connection stays with
    one of them, so clients need several connections for each; see operations.md. With more than one, `memory://` as
    `rate_limit.store` is a Valkey of mixer's own that all of them share."""
    admin: ListenAddress = Address("127.0.0.1", 15014)
    """Where metrics, health and the pages for people are: `host:port`."""
    socket: LocalPath | None = None
    """The unix socket of the same pages, which the commands use; by default `mixer-<admin port>.sock` in
    `$XDG_RUNTIME_DIR`, else in `/run/mixer`, else in a temporary folder of the user's own."""
    admin_token: Secret | None = None
    """What a reader of the pages for people shows as `Authorization: Bearer` where `admin` is not loopback."""
    max_message_bytes: Annotated[Size, Ge(1), Le(_INT32)] = 4 << 20
    """The largest message that is read; a larger one ends its call with RESOURCE_EXHAUSTED."""
    max_in_flight: Annotated[int, Ge(1)] = 1000
    """Calls that a worker holds at once; above it a call fails at once with UNAVAILABLE."""
    max_waiting: Annotated[int, Ge(1), Le(_INT32)] = 128
    """Calls that may wait for a worker: on grpcio of each method, on the transport envoy those that it works on count,
    too. One more fails at once, with CANCELLED on grpcio and UNAVAILABLE on envoy. The last of 128 is answered after
    about 25 ms, at 0.2 ms each; that has to be less than callers wait. On envoy raise it where a policy waits for
    others (`http.send`)."""
    max_streams: Annotated[int, Ge(1), Le(_INT32)] = 1000
    """Calls that a connection may have open at once, log streams among them. A client is told so and waits, or connects
    once more; a call above it is reset (REFUSED_STREAM)."""
    max_metadata_bytes: Annotated[Size, Ge(1024), Le(_INT32)] = 16 << 10
    """The most bytes of headers that a call may have; with more it ends with RESOURCE_EXHAUSTED."""
    max_connection_age: Duration = 600.0
    """After this time a client is asked to connect anew, so that new replicas get traffic."""
    max_connection_age_grace: Duration = 30.0
    """How long calls of such a connection may still take."""
    drain_timeout: Duration = 15.0
    """After SIGTERM, how long calls in flight may take."""
    flush_timeout: Duration = 10.0
    """After the last call, how long rows that wait may take to be written."""
    max_hang: Duration = 10.0
    """How long the loop of a process of mixer's may stand still, except while it loads; above it the process is
    replaced. More where a machine is so busy that processes wait that long for their turn."""

    @field_validator("listeners")
    @classmethod
    def _tls_is_whole(
        cls, listeners: tuple[ListenerSettings, ...], info: ValidationInfo
    ) -> tuple[ListenerSettings, ...]:
        if "tls" in info.data:  # else it has faults of its own
            for listener in listeners:
                tls = _tls_of(listener, info.data["tls"])
                if tls is not None and (fault := tls.fault()):
                    raise ValueError(f"{listener.address}: {fault}")
        return listeners

    @field_validator("listeners")
    @classmethod
    def _addresses_differ(cls, listeners: tuple[ListenerSettings, ...]) -> tuple[ListenerSettings, ...]:
        if not listeners:
            raise ValueError("without a listener nothing is answered; leave the key out for 127.0.0.1:9091")
        seen: set[Address] = set()
        for listener in listeners:
            if listener.address in seen and (not listener.address.is_tcp or listener.address.port):
                raise ValueError(f"two listeners have the address {listener.address}; name its services in one")
            seen.add(listener.address)
        return listeners

    @field_validator("data_plane")
    @classmethod
    def _data_plane_is_asked(
        cls, data_plane: DataPlaneSettings | None, info: ValidationInfo
    ) -> DataPlaneSettings | None:
        listeners: tuple[ListenerSettings, ...] = info.data.get("listeners", ())
        internal = [listener.address for listener in listeners if listener.address.internal]
        if data_plane is None and internal:
            raise ValueError(f"{internal[0]} is an internal listener of an Envoy that is not named; name its bootstrap")
        if data_plane is not None and listeners and not internal:
            raise ValueError(
                "no listener is inside it; add one as {address: internal://mixer, transport: envoy}, or leave it out"
            )
        return data_plane

    @field_validator("workers")
    @classmethod
    def _can_share(cls, workers: int, info: ValidationInfo) -> int:
        if workers == 1:
            return workers
        for listener in info.data.get("listeners", ()):
            if listener.address.is_unix:
                raise ValueError(
                    f"{workers} workers cannot share {listener.address}: the kernel spreads connections over processes"
                    " on TCP ports only; listen on a loopback address instead, as 127.0.0.1:9091, or leave it at 1"
                )
            if listener.address.is_tcp and not listener.address.port:
                raise ValueError(
                    f"{workers} workers cannot share {listener.address}: the system would choose another port for each;"
                    " name one, or leave it at 1"
                )
        return workers

    @field_validator("max_hang")
    @classmethod
    def _hang_fits(cls, seconds: float) -> float:
        if seconds < 1.0:  # a loop shows that it turns five times a second
            raise ValueError("must be at least 1s")
        return seconds

    @field_validator("max_connection_age", "max_connection_age_grace")
    @classmethod
    def _age_fits(cls, seconds: float, info: ValidationInfo) -> float:
        least = 1.0 if info.field_name == "max_connection_age" else 0.0
        if not least <= seconds <= _INT32 / 1000:
            raise ValueError(f"must be between {format_duration(least)} and 24d")
        return seconds

    def tls_of(self, listener: ListenerSettings) -> TlsSettings | None:
        """TLS as it holds for a listener, whole; None where it speaks plaintext."""
        return _tls_of(listener, self.tls)

    @property
    def tls_files(self) -> tuple[LocalPath, ...]:
        """The files that the listeners' TLS is made of, each once."""
        every = (self.tls_of(listener) for listener in self.listeners)
        named = ((tls.certificate, tls.key, tls.client_ca) for tls in every if tls is not None)
        return tuple(dict.fromkeys(path for paths in named for path in paths if path is not None))

    def peers_of(self, listener: ListenerSettings) -> dict[str, AllowList | None]:
        """Who may call each service of a listener; None for everybody whom its `client_ca` vouches for."""
        tls = self.tls_of(listener) or TlsSettings()
        return {name: tls.allowed(name) for name in listener.service_names}

    @field_validator("admin")
    @classmethod
    def _admin_is_tcp(cls, admin: Address, info: ValidationInfo) -> Address:
        if not admin.is_tcp:
            raise ValueError("is host:port; the unix socket of the same pages is server.socket")
        listeners: tuple[ListenerSettings, ...] = info.data.get("listeners", ())
        if admin.port and any(listener.address == admin for listener in listeners):
            raise ValueError(f"{admin} is already the address of a listener; give it a port of its own")
        return admin


def _tls_of(listener: ListenerSettings, defaults: TlsSettings | None) -> TlsSettings | None:
    if not listener.address.is_tcp:
        return None
    return defaults if listener.tls is None else listener.tls.over(defaults)
