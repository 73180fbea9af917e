"""The rooms of one worker, composed: services over a snapshot, and what outlives snapshots — counters and rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from mixer_py.calls import ClientStreamHandler, UnaryHandler
from mixer_py.config.configuration import Configuration
from mixer_py.errors import ConfigurationError, Fault
from mixer_py.instruments import Clock, Registry
from mixer_py.policy.log_rules import result_of
from mixer_py.ratelimit.answering.limiter import Limiter
from mixer_py.ratelimit.explaining.descriptors import WrittenEntry
from mixer_py.ratelimit.explaining.looking import look
from mixer_py.ratelimit.quotas.charging import Quotas
from mixer_py.ratelimit.stores import CounterStore
from mixer_py.ratelimit.stores.memory import MemoryStore
from mixer_py.ratelimit.stores.opening import open_store, opened_by
from mixer_py.runtime.counters import worker_store
from mixer_py.runtime.orders import shadow_socket
from mixer_py.runtime.snapshot import Snapshot
from mixer_py.services import access_log, ext_authz, rate_limit
from mixer_py.services.access_log import AccessLogService
from mixer_py.services.ext_authz import Authorization, AuthorizationService
from mixer_py.services.precedence import Precedence
from mixer_py.services.rate_limit import RateLimitService
from mixer_py.services.shadow_feed import ShadowFeed
from mixer_py.telemetry.access_log.decoding import AccessLogDecoder
from mixer_py.telemetry.columns import TABLES
from mixer_py.telemetry.decision_log import DecisionLog
from mixer_py.telemetry.decision_log_input import InputKeeper, InputSources
from mixer_py.telemetry.istio_metrics import IstioMetrics
from mixer_py.telemetry.recorder import Recorder
from mixer_py.telemetry.row_masking import RowMask
from mixer_py.telemetry.settings import EmbeddedTarget, SpoolSettings, TelemetrySettings
from mixer_py.telemetry.sinks import Sink
from mixer_py.telemetry.spool.spool import SpoolFolder
from mixer_py.telemetry.store.client import StoreClient
from mixer_py.telemetry.user_metrics import UserMetrics
from mixer_py.transports import HandlerTable

UNARY = ("ext_authz", "rate_limit")
"""The services that answer single calls, as `server.listeners[].services` names them."""


class Rooms:
    """Everything in a worker that answers.

    Attributes:
        counters: of the rate limits.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        registry: Registry,
        clock: Clock,
        store_socket: Path | None,
        folder: Path,
        precedence: Precedence,
    ) -> None:
        """Composes what answers.

        Args:
            snapshot: to begin with.
            registry: of everything that is counted.
            clock: of everything that waits.
            store_socket: where the store process answers; None without one.
            folder: the private one, where the process of a candidate policy and the embedded Valkey listen, when there
                are any.
            precedence: of calls over log streams.
        """
        self._registry = registry
        self._clock = clock
        self._folder = folder
        self._policy = snapshot.policy
        settings = snapshot.configuration
        sink = _sink(settings.telemetry, store_socket)
        spool = settings.telemetry.spool if sink is not None else None
        self._recorder = Recorder(
            settings.telemetry.queue, registry, clock, sink, _spool_folder(spool, folder.name),
            spool_first=spool is not None and spool.mode == "always",
            waiting_tables=access_log.TABLES if settings.telemetry.when_full == "back_pressure" else (),
        )  # fmt: skip
        mask = RowMask(settings.telemetry.mask)
        self._decisions = (
            DecisionLog(
                self._recorder, settings.decision_log, _keeper(snapshot, registry), registry, clock,
                mask,
            )
            if sink is not None
            else None
        )  # fmt: skip
        counting, name = worker_store(settings, folder)
        self.counters: CounterStore = open_store(counting, registry, clock, name=name)
        self._opened_by = opened_by(counting)
        self._needs_counters = counting.unhealthy_without_store
        self._shadow = ShadowFeed(shadow_socket(folder), self._decisions, registry, clock)
        self._shadow.activate(settings.policy.shadow)
        self._authorization = AuthorizationService(
            self._authorize(snapshot), self._decisions, registry, clock, self._decisions, self._shadow
        )
        self._rate_limit = RateLimitService(self._limiter(snapshot), clock, registry)
        prometheus = settings.telemetry.prometheus
        self._user_metrics = UserMetrics(registry, prometheus.metrics)
        self._decoder = AccessLogDecoder(clock, settings.telemetry.privacy, mask)
        self._access_log = AccessLogService(
            self._decoder, (IstioMetrics(registry, prometheus), self._user_metrics), self._recorder, registry, clock,
            precedence,
        )  # fmt: skip

    def start(self) -> None:
        """Begins to write rows and to connect, and looks for the candidate."""
        self.counters.open()
        self._recorder.start()
        self._shadow.start()
        self._policy.open()

    async def activate(self, snapshot: Snapshot) -> None:
        """Decides by another snapshot from the next call on; counters and rows stay.

        Returns once what the old policy held is given back: here and now, because its engine is freed in this thread.
        """
        telemetry = snapshot.configuration.telemetry
        mask = RowMask(telemetry.mask)  # reads a key from its file: first, because it may fail
        retired_counters = self._change_counters(snapshot.configuration)
        self._needs_counters = snapshot.configuration.rate_limit.unhealthy_without_store
        self._authorization.activate(self._authorize(snapshot))
        self._shadow.activate(snapshot.configuration.policy.shadow)
        if self._decisions is not None:
            keeper = _keeper(snapshot, self._registry)
            self._decisions.activate(snapshot.configuration.decision_log, keeper, mask)
        self._rate_limit.limiter = self._limiter(snapshot)
        self._record(telemetry, mask)
        if retired_counters is not None:
            await retired_counters.close()
        retired, self._policy = self._policy, snapshot.policy
        self._policy.open()
        await retired.close()

    def record_by(self, telemetry: TelemetrySettings) -> None:
        """Shows and counts by other settings what is logged from now on; who decides is left as it is.

        Raises:
            OSError: the file of the mask's key cannot be read.
        """
        self._record(telemetry, RowMask(telemetry.mask))

    def _record(self, telemetry: TelemetrySettings, mask: RowMask) -> None:
        self._access_log.flush()  # what has come is counted as it was wanted until now
        self._decoder.activate(telemetry.privacy, mask)
        self._user_metrics.activate(telemetry.prometheus.metrics)

    def table(self, services: Iterable[str]) -> HandlerTable:
        """The handlers of a listener.

        Args:
            services: names as in `server.listeners[].services`, `all` spelt out.
        """
        named = set(services)
        unary: dict[str, tuple[str, UnaryHandler]] = {
            "ext_authz": (ext_authz.METHOD, self._authorization.check),
            "rate_limit": (rate_limit.METHOD, self._rate_limit.should_rate_limit),
        }
        streams: dict[str, tuple[str, ClientStreamHandler]] = {
            "access_log": (access_log.METHOD, self._access_log.stream),
        }
        return HandlerTable(
            dict(handler for name, handler in unary.items() if name in named),
            dict(handler for name, handler in streams.items() if name in named),
            health="health" in named,
            health_names=rate_limit.HEALTH_NAMES if "rate_limit" in named else (),
            reflection="reflection" in named,
            names={method: name for name, (method, _) in (*unary.items(), *streams.items())},
        )

    async def look(self, domain: str, descriptors: Sequence[Sequence[WrittenEntry]]) -> list[dict[str, object]]:
        """What stands in the counters of descriptors now.

        Raises:
            CounterStoreError: the store is away.
        """
        return await look(self._rate_limit.limiter, domain, descriptors)

    def unhealthy(self) -> tuple[str, ...]:
        """What health checkers ask for and is not well, as the settings see it."""
        return rate_limit.HEALTH_NAMES if self._needs_counters and self.counters.is_away else ()

    async def drain_streams(self, grace: float) -> None:
        """Ends the access-log streams once what is on its way has arrived."""
        await self._access_log.drain(grace)

    async def close(self, grace: float) -> None:
        """Writes what waits, for up to `grace` seconds; the rest is booked as dropped."""
        self._access_log.flush()
        end = self._clock.monotonic() + grace
        await self._shadow.drain(grace / 4)  # most of the time is for writing
        if self._decisions is not None:
            await self._decisions.drain(max(end - self._clock.monotonic(), 0.0))
        await self._recorder.drain(max(end - self._clock.monotonic(), 0.0))
        await self.counters.close()

    def _change_counters(self, configuration: Configuration) -> CounterStore | None:
        """Counts in another store when the settings name one, or speak to it in another way; the one before."""
        settings, name = worker_store(configuration, self._folder)
        opened_by_now = opened_by(settings)
        if opened_by_now == self._opened_by:
            if isinstance(self.counters, MemoryStore):
                self.counters.capacity = settings.max_counters
            return None
        before, self.counters = self.counters, open_store(settings, self._registry, self._clock, name=name)
        self._opened_by = opened_by_now
        self.counters.open()
        return before

    def _limiter(self, snapshot: Snapshot) -> Limiter:
        settings = snapshot.configuration.rate_limit
        return Limiter(snapshot.rules, self.counters, self._registry, self._clock, settings)

    def _authorize(self, snapshot: Snapshot) -> Authorization:
        settings = snapshot.configuration
        limits = settings.rate_limit
        quotas = Quotas(limits, self.counters, self._registry, self._clock) if limits.quotas else None
        policy = snapshot.policy
        return Authorization(policy, snapshot.revision, settings.policy.on_error, policy.bundle_revision, quotas)


def _sink(settings: TelemetrySettings, store_socket: Path | None) -> Sink | None:
    clickhouse = settings.clickhouse
    if clickhouse is None:
        return None
    target = clickhouse.target
    if isinstance(target, EmbeddedTarget):
        if store_socket is None:
            return None
        import mixer_py.telemetry.store.batches  # noqa: F401, PLC0415 (now: later there may be no descriptor for its file)

        return StoreClient(store_socket)
    from mixer_py.telemetry.sinks.clickhouse import ClickHouseSink  # noqa: PLC0415 (a driver that few processes need)

    return ClickHouseSink(target, clickhouse.password.reveal() if clickhouse.password else "", settings.layout)


def _spool_folder(settings: SpoolSettings | None, life: str) -> SpoolFolder | None:
    """This process's folder of the spool.

    Args:
        settings: of the spool.
        life: names this run of the mixer, in all its processes.

    Raises:
        ConfigurationError: it cannot be made.
    """
    if settings is None:
        return None
    try:
        return SpoolFolder(Path(settings.directory), life, tuple(TABLES), settings.bytes)
    except OSError as error:
        message = f"no folder for spooled rows can be made: {error}"
        fault = Fault(message, str(settings.directory), field="telemetry.spool.directory")
        raise ConfigurationError([fault]) from error


def _keeper(snapshot: Snapshot, registry: Registry) -> InputKeeper:
    """What prepares the rows of decisions that this snapshot makes."""
    policy = snapshot.policy
    sources = InputSources(policy.inputs.document, policy.inputs.attributes, result_of, policy.log_rules)
    return InputKeeper(snapshot.configuration.decision_log, sources, registry)
