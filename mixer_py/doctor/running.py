"""What the mixer that runs with this configuration says of itself."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from mixer_py.config import Configuration
from mixer_py.doctor.finding import Finding, fault, good, skipped, warning
from mixer_py.errors import NotRunningError
from mixer_py.runtime.asking import connect

_SECONDS = 10.0
_SUBJECT = "running mixer"


@dataclass(frozen=True, slots=True)
class Running:
    """What its pages hold.

    Attributes:
        away: why nothing is known; empty when it answered.
        not_ready: why it is not ready; empty when it is.
        page: `/config`.
        samples: of its own metrics: name, labels, value.
    """

    away: str = ""
    not_ready: str = ""
    page: Mapping[str, Any] = field(default_factory=dict)
    samples: tuple[tuple[str, Mapping[str, str], float], ...] = ()

    @property
    def addresses(self) -> frozenset[str]:
        """Where it listens, as configured."""
        server = self.page.get("configuration", {}).get("server", {})
        found = {str(listener["address"]) for listener in server.get("listeners", ())}
        return frozenset(found | {str(server["admin"])} if "admin" in server else found)

    def rising(self, name: str) -> Iterator[tuple[Mapping[str, str], float]]:
        """The series of a counter that have counted something."""
        return ((labels, value) for found, labels, value in self.samples if found == name and value)


def look(configuration: Configuration) -> Running:
    """Asks it."""
    try:
        connection = connect(configuration, _SECONDS)
    except NotRunningError as error:
        return Running(away=str(error))
    try:
        status, words = _get(connection, "/healthz/ready")
        _, page = _get(connection, "/config")
        _, metrics = _get(connection, "/metrics")
        lines = metrics.decode().splitlines(keepends=True)
        own = "".join(line for line in lines if line.startswith(("mixer_", "# TYPE mixer_")))
        samples = tuple(
            (sample.name, sample.labels, sample.value)
            for family in text_string_to_metric_families(own)
            for sample in family.samples
        )
        not_ready = "" if status == http.client.OK else words.decode().strip() or f"status {status}"
        return Running("", not_ready, json.loads(page), samples)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Running(away=f"its socket does not answer as it should: {error or type(error).__name__}")
    finally:
        connection.close()


def examine_running(running: Running) -> Iterator[Finding]:
    """What it has to complain of."""
    if running.away:
        yield skipped(_SUBJECT, running.away)
        return
    if running.not_ready:
        yield fault(_SUBJECT, f"is not ready: {running.not_ready}", "its log says more")
    else:
        yield good(_SUBJECT, f"is ready, with revision {running.page.get('revision', 'unknown')}")
    for key, what in (("last_reload_faults", "the last reload was refused"), ("candidate_faults", "the candidate")):
        for text in running.page.get(key, ()):
            yield fault(_SUBJECT, f"{what}: {text}", "mend it; the last good snapshot decides until then")
    yield from _counted(running)


def _counted(running: Running) -> Iterator[Finding]:
    """What its counters have seen since it was started."""
    for labels, value in running.rising("mixer_rows_total"):
        if labels.get("state") == "dropped" and labels.get("reason") not in {"sampled", "policy"}:
            yield warning(
                f"rows of {labels.get('table')}", f"{value:.0f} were dropped: {labels.get('reason')}",
                "see the runbook, MixerRowsLost", "mixer_rows_total",
            )  # fmt: skip
    for labels, value in running.rising("mixer_worker_restarts_total"):
        yield warning(
            f"process {labels.get('process')}", f"was replaced {value:.0f} times: {labels.get('reason')}",
            "see the runbook, MixerWorkerReplaced", "mixer_worker_restarts_total",
        )  # fmt: skip
    for labels, value in running.rising("mixer_calls_refused_total"):
        yield warning(
            "calls", f"{value:.0f} were refused before any work: {labels.get('reason')}",
            "see the runbook, MixerChecksRefused", "mixer_calls_refused_total",
        )  # fmt: skip
    for labels, value in running.rising("mixer_store_errors_total"):
        yield warning(
            "stores", f"{value:.0f} times something could not be kept: {labels.get('reason')}",
            "see the runbook, MixerStoreErrors", "mixer_store_errors_total",
        )  # fmt: skip
    for labels, value in running.rising("mixer_spool_rows"):
        yield warning(
            f"rows of {labels.get('table')}", f"{value:.0f} wait on disk", "see the runbook, MixerSpoolGrows",
            "mixer_spool_rows",
        )  # fmt: skip


def _get(connection: http.client.HTTPConnection, path: str) -> tuple[int, bytes]:
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read()
