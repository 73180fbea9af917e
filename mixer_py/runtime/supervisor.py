"""The process that people start: no traffic passes through it.

It reads the configuration, starts the store and the workers, replaces what dies or stalls, reloads on SIGHUP or when a
file changes, answers `/metrics` and the people, and drains on SIGTERM.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog
from prometheus_client.core import GaugeMetricFamily, Metric

import mixer_py
from mixer_py.admin import Access, AdminServer, Pages, make_application
from mixer_py.config import load, redacted, secret_faults, socket_path
from mixer_py.config.configuration import Configuration
from mixer_py.config.exposure import exposures
from mixer_py.config.server import ServerSettings
from mixer_py.config.watching import changes
from mixer_py.errors import ConfigurationError, Fault, MixerError, NotRunningError
from mixer_py.instruments import Registry, SystemClock
from mixer_py.queries import open_reader
from mixer_py.runtime.certificates import Certificates
from mixer_py.runtime.closing import tell_books
from mixer_py.runtime.counters import whereabouts
from mixer_py.runtime.data_plane import DataPlane, places_of, read_data_plane
from mixer_py.runtime.fetching import Fetching
from mixer_py.runtime.health import UNHEALTHY
from mixer_py.runtime.late_signals import ignore_late_signals
from mixer_py.runtime.limits_page import LimitsPage
from mixer_py.runtime.logs import configure_logs, log_everything, message_of
from mixer_py.runtime.metrics import IdleSeries, ProcessMetrics
from mixer_py.runtime.places import held
from mixer_py.runtime.private_folder import private_folder
from mixer_py.runtime.shadow_role import ShadowRole
from mixer_py.runtime.store_role import StoreRole
from mixer_py.runtime.transport import describe_transport
from mixer_py.runtime.valkey_role import ValkeyRole
from mixer_py.runtime.workers import Workers
from mixer_py.telemetry.user_metrics_settings import Forms

FIXED = ("workers", "data_plane", "admin", "socket", "admin_token", "max_message_bytes", "max_in_flight",
         "max_streams", "max_metadata_bytes", "max_waiting", "max_connection_age",
         "max_connection_age_grace", "max_hang")  # fmt: skip
"""Keys of `server` that hold for the life of a process."""
_STOP_MARGIN = 5.0
_LOOK_AGAIN_SECONDS = 10.0


class Supervisor:
    """One mixer."""

    def __init__(
        self,
        path: Path | None,
        overrides: Sequence[str],
        configuration: Configuration,
        folder: Path,
        data_plane: DataPlane | None = None,
    ) -> None:
        self._path = path
        self._overrides = overrides
        self._clock = SystemClock()
        self._registry = Registry()
        self._metrics = ProcessMetrics(self._registry, IdleSeries(self._clock, self._idle_timeout))
        self._reloads = self._registry.counter("mixer_reloads_total", "Reloads by outcome.", ("outcome",))
        for outcome in ("activated", "refused", "failed"):
            self._reloads.labels(outcome)
        self._log = structlog.get_logger("runtime")
        telemetry = configuration.telemetry
        self._forms = Forms(telemetry.prometheus.metrics)
        self._store = StoreRole.when_embedded(configuration, folder, self._metrics, self._registry, self._clock)
        socket = self._store.socket if self._store else None
        self._reader = open_reader(telemetry.clickhouse, socket) if telemetry.clickhouse else None
        self._certificates = Certificates(configuration.server, self._registry, self._clock)
        self._workers = Workers(
            configuration, self._certificates.credentials, socket, folder, self._metrics, self._registry, self._clock,
            data_plane,
        )  # fmt: skip
        self._limits = LimitsPage(self._workers)
        self._valkey = ValkeyRole(folder, self._metrics, self._registry, self._clock)
        self._shadow = ShadowRole(folder, self._metrics, self._registry, self._clock)
        # From now on, so that a change while everything starts is not missed.
        self._changes = changes(path, lambda: self._workers.deployed.configuration)
        self._fetching = Fetching(folder, self._registry, self._clock, lambda: self._reload.set())  # noqa: PLW0108
        self._stop = asyncio.Event()
        self._reload = asyncio.Event()
        self._asked = self._untold = False
        self._draining = False
        self._faults: tuple[Fault, ...] = ()
        self._telling: asyncio.Task[None] | None = None
        server = configuration.server
        token = server.admin_token.reveal() if server.admin_token else None
        access = Access(server.admin.is_loopback, token)
        socket_file = socket_path(server, os.environ)
        self._admin = AdminServer(
            make_application(self._pages(), access), server.admin.host, server.admin.port, socket_file
        )

    async def run(self) -> None:
        """Runs until SIGTERM or SIGINT.

        Raises:
            MixerError: it could not start; whatever was started has ended.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._ask)
        for number, everything in ((signal.SIGUSR1, True), (signal.SIGUSR2, False)):
            loop.add_signal_handler(number, self._change_level, everything)
        tasks: list[asyncio.Task[None]] = []
        try:
            await self._admin.start()
            await self._until_stopped(self._start_children)
            if not self._stop.is_set():
                self._log.info("ready", revision=self._workers.deployed.revision)
                self._shadow.want(self._workers.deployed.configuration)
                work = (self._watch_files, self._reload_when_asked, self._shadow.run, self._renew_again)
                tasks = [asyncio.create_task(one()) for one in work]
                await self._until_stopped(lambda: _first_failure(tasks))
        finally:
            self._draining = True
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._fetching.stop()
            await self._end_children()
            await self._admin.stop()
            ignore_late_signals(loop)

    async def _until_stopped(self, work: Callable[[], Awaitable[None]]) -> None:
        """Does `work`, unless SIGTERM comes first."""
        working = asyncio.ensure_future(work())
        stopping = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if working.done():
            return working.result()
        working.cancel()
        with contextlib.suppress(asyncio.CancelledError, MixerError):
            await working
        return None

    async def _start_children(self) -> None:
        configuration = self._workers.deployed.configuration
        await self._valkey.want(configuration)
        for listener in configuration.server.listeners:
            self._log.info("calls are carried", **describe_transport(listener))
        self._say_where_counters_are(configuration)
        if self._store is not None:
            await self._store.start()
        await self._fetching.start(configuration.policy, self._workers.start)

    async def _end_children(self) -> None:
        server = self._workers.deployed.configuration.server
        grace = server.drain_timeout + server.flush_timeout + _STOP_MARGIN
        whole = await self._workers.stop(grace)
        # After the workers, which count to the end, and may wait for verdicts and for rows to be written.
        ending = [self._shadow.stop(), self._valkey.stop(_STOP_MARGIN)]
        if self._store is not None:
            ending.append(self._store.stop(server.flush_timeout + _STOP_MARGIN))
        await asyncio.gather(*ending)
        tell_books(self._log, self._metrics, whole=whole)

    async def _watch_files(self) -> None:
        async for changed in self._changes:
            others = self._certificates.notice(changed)
            if others and not self._shadow.notice(others):
                self._ask()
            elif others < changed:
                await self._renew_tls()

    def _ask(self) -> None:
        """A person, or a changed file, wants a reload; not only something that was fetched."""
        self._asked = True
        self._reload.set()

    def _change_level(self, everything: bool) -> None:  # noqa: FBT001 (the event loop hands it on as it stands)
        log_everything(now=everything)
        level = "debug" if everything else self._workers.deployed.configuration.log.level
        way_out = "SIGUSR2 writes again what log.level says" if everything else ""
        self._log.warning("the level of the log was changed by a signal", way_out=way_out, level_now=level)
        self._telling = asyncio.create_task(self._tell_how_to_log())

    async def _tell_how_to_log(self) -> None:
        message = message_of(self._workers.deployed.configuration.log)
        for role in (self._workers, self._shadow, self._store):
            if role is not None:
                await role.tell(message)

    async def _reload_when_asked(self) -> None:
        while True:
            await self._reload.wait()
            self._reload.clear()
            await self._reload_once()
            await self._renew_tls()

    async def _renew_tls(self) -> None:
        """Lets the workers show what is in the files of certificates now, and let in whom the settings name."""
        server = self._workers.deployed.configuration.server
        if self._certificates.renew(server) or self._untold:
            self._untold = not await self._workers.renew_tls(server, self._certificates.credentials)

    async def _renew_again(self) -> None:
        """Looks again at files of certificates that were not good: in time one is, or may be read by then."""
        while True:
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
            if self._certificates.faults or self._untold:
                await self._renew_tls()

    async def _reload_once(self) -> None:
        before = self._workers.deployed
        try:
            configuration = _load(self._path, self._overrides)
            self._refuse_fixed(before.configuration, configuration)
            asked, self._asked = self._asked, False
            await self._valkey.want(configuration)
            built = await self._fetching.reload(
                configuration.policy, lambda fetched: self._workers.reload(configuration, fetched), again=asked
            )
            if not built:  # what came is not enough yet
                return
        except ConfigurationError as error:
            self._faults = error.faults
            self._reloads.labels("refused").add()
            self._log.error(
                "reload refused; the last good snapshot stays",
                way_out="mend the faults; runbook MixerReloadRefused",
                faults=[str(fault) for fault in error.faults],
            )
        except MixerError as error:
            self._reloads.labels("failed").add()
            self._log.error(
                "reload failed; the last good snapshot stays",
                way_out="send SIGHUP to try again; runbook MixerReloadRefused",
                error=str(error),
            )
        else:
            self._faults = ()
            self._forms.keep(configuration.telemetry.prometheus.metrics)
            self._shadow.want(configuration)
            self._reloads.labels("activated").add()
            configure_logs(configuration.log, "supervisor")
            await self._tell_how_to_log()
            if whereabouts(configuration) != whereabouts(before.configuration):
                self._say_where_counters_are(configuration)
            bundles = self._policies().get("bundle_revisions", {})
            self._log.info(
                "reloaded", revision=self._workers.deployed.revision, before=before.revision, bundles=bundles
            )

    def _refuse_fixed(self, before: Configuration, after: Configuration) -> None:
        """Refuses a reload that changes what holds for the life of a process.

        Raises:
            ConfigurationError: naming each such key.
        """
        changed = [f"server.{key}" for key in FIXED if getattr(before.server, key) != getattr(after.server, key)]
        changed += ["server.listeners"] if _listeners(before.server) != _listeners(after.server) else []
        changed += ["telemetry"] if before.telemetry.fixed != after.telemetry.fixed else []
        way_out = "restart mixer, or take the change back"
        faults = [Fault("cannot change while mixer runs", field=key, way_out=way_out) for key in changed]
        faults += self._forms.faults(after.telemetry.prometheus.metrics)
        if faults:
            raise ConfigurationError(faults)

    def _say_where_counters_are(self, configuration: Configuration) -> None:
        where, why = whereabouts(configuration)
        self._log.info("counters of rate limits are kept", where=where, why=why)

    def _pages(self) -> Pages:
        return Pages(
            metrics=lambda: self._metrics.exposition(self._own_metrics()),
            live=lambda: None,
            ready=self._readiness,
            documents={
                "/config": self._config_page,
                "/policies": self._policies_page,
                "/rlconfig": self._limits.rules,
            },
            questions={"/rlconfig": self._limits.counters},
            query=self._query,
        )

    def _idle_timeout(self) -> float:
        return self._workers.deployed.configuration.telemetry.prometheus.idle_timeout

    def _readiness(self) -> str | None:
        if self._draining or self._stop.is_set():
            return "draining"
        if not self._workers.ready:
            return "a worker is not ready"
        if self._workers.deployed.configuration.rate_limit.unhealthy_without_store and self._metrics.total(UNHEALTHY):
            return "the counter store is away (rate_limit.unhealthy_without_store)"
        awaited = self._policies().get("not_fetched")
        return f"{awaited[0]} has not been fetched yet" if awaited else None

    def _own_metrics(self) -> Sequence[Metric]:
        snapshot = GaugeMetricFamily("mixer_snapshot_info", "The snapshot in force.", labels=["revision"])
        snapshot.add_metric([self._workers.deployed.revision], 1)
        build = GaugeMetricFamily("mixer_build_info", "What runs.", labels=["version", "python"])
        build.add_metric([mixer_py.__version__, platform.python_version()], 1)
        # As each of Istio's components has it; its mesh dashboard shows the versions.
        istio_build = GaugeMetricFamily("istio_build", "What runs, as Istio says it.", labels=["component", "tag"])
        istio_build.add_metric(["mixer", mixer_py.__version__], 1)
        bundles = GaugeMetricFamily("mixer_bundle_info", "Bundle archives in force.", labels=["bundle", "revision"])
        for bundle, revision in self._policies().get("bundle_revisions", {}).items():
            bundles.add_metric([bundle, revision], 1)
        return snapshot, build, istio_build, bundles, self._certificates.metric()

    def _config_page(self) -> Mapping[str, object]:
        deployed = self._workers.deployed
        return {
            "revision": deployed.revision,
            "configuration": redacted(deployed.configuration),
            "last_reload_faults": [str(fault) for fault in self._faults],
            "certificate_faults": [str(fault) for fault in self._certificates.faults],
            "candidate_faults": [str(fault) for fault in self._shadow.faults],
            "fetched": self._fetching.describe(),
        }

    def _policies(self) -> Mapping[str, Any]:
        described = self._workers.deployed.description.get("policies")
        return described if isinstance(described, Mapping) else {}

    def _policies_page(self) -> object:
        return {**self._described("policies"), "shadow": self._shadow.describe()}

    def _described(self, what: str) -> Mapping[str, object]:
        deployed = self._workers.deployed
        return {"revision": deployed.revision, what: deployed.description.get(what)}

    async def _query(self, sql: str) -> bytes:
        if self._reader is None:
            raise NotRunningError("no rows are kept; name a place in telemetry.clickhouse")
        return await self._reader.query(sql)


def _listeners(server: ServerSettings) -> Sequence[object]:
    """What of the listeners holds for the life of a process: not who may call, nor what their TLS files hold."""
    return [
        (one.address, one.transport, one.service_names, tls and (tls.certificate, tls.key, tls.client_ca))
        for one, tls in ((one, server.tls_of(one)) for one in server.listeners)
    ]


async def _first_failure(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Waits for tasks that never end by themselves, and raises what one of them raised."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


def _load(path: Path | None, overrides: Sequence[str]) -> Configuration:
    """The configuration, whose secrets can be read.

    Raises:
        ConfigurationError: with every fault.
    """
    configuration = load(path, os.environ, overrides)
    faults = secret_faults(configuration)
    if faults:
        raise ConfigurationError(faults)
    return configuration


async def _serve(path: Path | None, overrides: Sequence[str]) -> None:
    configuration = _load(path, overrides)
    configure_logs(configuration.log, "supervisor")
    for exposure in exposures(configuration.server):
        structlog.get_logger("runtime").warning(exposure.message, way_out=exposure.way_out)
    data_plane = read_data_plane(configuration.server)
    addresses = [*(listener.address for listener in configuration.server.listeners), *places_of(data_plane)]
    with private_folder() as folder, held(addresses):
        await Supervisor(path, overrides, configuration, folder, data_plane).run()


def serve(path: Path | None, overrides: Sequence[str] = ()) -> int:
    """Runs `mixer serve` to its end.

    Returns:
        The exit code, 0.

    Raises:
        ConfigurationError: what a person wrote is faulty.
        MixerError: it could not start.
    """
    asyncio.run(_serve(path, overrides))
    return 0
