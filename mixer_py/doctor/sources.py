"""Whether what is fetched can be fetched, and whether the OPA server is well."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

from mixer_py.doctor.finding import Finding, about, fault, good
from mixer_py.policy.bundles.sources import Source, sources_of
from mixer_py.policy.settings import OpaSettings, PolicySettings
from mixer_py.runtime.downloads import Downloader, DownloadError


async def examine_sources(policy: PolicySettings) -> AsyncIterator[Finding]:
    """Fetches every source once, into a temporary folder; what is in it is for `mixer validate` to judge."""
    if policy.engine == "opa":
        yield await _opa(policy.opa)
        return
    sources = list(sources_of(policy.bundles, policy.data))
    with TemporaryDirectory(prefix="mixer-doctor-") as folder:
        for finding in await asyncio.gather(*(_look(policy, source, Path(folder)) for source in sources)):
            yield finding


async def _look(policy: PolicySettings, source: Source, folder: Path) -> Finding:
    key = "policy.bundles" if source.kind == "bundle" else source.name
    limit = policy.bundle_limits.archive
    file = folder / source.key
    try:
        await Downloader(policy.fetch, policy.data_hosts).look(source, "", limit, file)
    except DownloadError as error:
        return fault(source.name, str(error), "see the address, the token in policy.fetch.hosts, and the server", key)
    return good(source.name, f"was fetched: {about(file.stat().st_size)}", key)


async def _opa(settings: OpaSettings) -> Finding:
    from mixer_py.policy.engines.opa_client import Connection  # noqa: PLC0415 (most mixers ask no OPA)

    subject, key = f"OPA server {settings.url}", "policy.opa.url"
    connection = Connection(settings)
    try:
        healthy = await connection.is_healthy()
    except OSError as error:  # no connection, or a certificate that is not trusted
        return fault(subject, str(error) or type(error).__name__, "start it, or mend the address", key)
    finally:
        await connection.close_connection()
    if healthy:
        return good(subject, "is healthy, and has activated its bundles", key)
    return fault(subject, "is not there, or has not activated its bundles", "see its own log, and its /health", key)
