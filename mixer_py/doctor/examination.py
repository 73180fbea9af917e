"""All that `mixer doctor` looks at, in the order in which a person would mend it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final

from mixer_py.config import Configuration
from mixer_py.doctor.certificates import examine_certificates
from mixer_py.doctor.clock import examine_clock
from mixer_py.doctor.counter_store import examine_counter_store
from mixer_py.doctor.envoy import Known, examine_envoy
from mixer_py.doctor.envoy_document import read_envoy
from mixer_py.doctor.finding import Finding, fault, skipped
from mixer_py.doctor.ports import examine_ports
from mixer_py.doctor.rows import examine_rows
from mixer_py.doctor.running import examine_running, look
from mixer_py.doctor.sources import examine_sources
from mixer_py.errors import ConfigurationError, MixerError
from mixer_py.ratelimit.rules import Rules

_SECONDS: Final = 30.0
"""What one examination may take: whatever hangs is itself a finding."""


def examine(configuration: Configuration, envoys: tuple[str, ...]) -> list[Finding]:
    """Looks at everything around a configuration that is itself without faults.

    Args:
        configuration: the settings.
        envoys: files, or admin addresses, of the Envoys that ask this mixer.
    """
    running = look(configuration)
    found = list(examine_ports(configuration, running.addresses))
    found += examine_certificates(configuration)
    found += asyncio.run(_outside(configuration))
    for place in envoys:
        found += _envoy(configuration, place)
    if not envoys:
        found.append(skipped("Envoy", "its settings are not known here", "--envoy FILE, or --envoy http://host:9901"))
    found += examine_clock()
    found += examine_running(running)
    return found


async def _outside(configuration: Configuration) -> list[Finding]:
    """What other programs answer; all at once, so that one that hangs delays no other."""
    looks: dict[str, Callable[[], AsyncIterator[Finding]]] = {
        "policies": lambda: examine_sources(configuration.policy),
        "counter store": lambda: examine_counter_store(configuration.rate_limit),
        "ClickHouse": lambda: examine_rows(configuration),
    }
    answers = await asyncio.gather(*(_bounded(subject, one) for subject, one in looks.items()))
    return [finding for findings in answers for finding in findings]


async def _bounded(subject: str, one: Callable[[], AsyncIterator[Finding]]) -> list[Finding]:
    found: list[Finding] = []
    try:
        async with asyncio.timeout(_SECONDS):
            found.extend([finding async for finding in one()])
    except TimeoutError:
        found.append(fault(subject, f"did not answer within {_SECONDS:g} s", "see whether it hangs"))
    except ConfigurationError as error:
        found.extend(fault(subject, one.message, one.way_out, one.field or one.place) for one in error.faults)
    except MixerError as error:
        found.append(fault(subject, str(error), "its own log says more"))
    return found


def _envoy(configuration: Configuration, place: str) -> Iterator[Finding]:
    try:
        document = read_envoy(place)
    except MixerError as error:
        yield fault("Envoy", str(error), "name its bootstrap file, or its admin address")
        return
    try:
        domains = frozenset(Rules.load(configuration.rate_limit).domains)
    except ConfigurationError:
        domains = None  # `mixer validate` has told why
    yield from examine_envoy(document, Known(configuration, domains))
