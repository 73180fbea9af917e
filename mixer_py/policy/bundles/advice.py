"""What works about bundles and is seldom meant: for `mixer validate`."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import urlsplit

from mixer_py.errors import Fault
from mixer_py.policy.bundles.reading import terms_of
from mixer_py.policy.bundles.sources import sources_of
from mixer_py.policy.settings import PolicySettings


def advice(settings: PolicySettings) -> Iterator[Fault]:
    """Warnings about what is fetched.

    Raises:
        PolicyLoadError: a key of bundles cannot be read.
    """
    fetched = terms_of(settings).fetched
    for source in sources_of(settings.bundles, settings.data):
        field = "policy.bundles" if source.kind == "bundle" else source.name
        verified = source.kind == "bundle" and settings.bundle_keys
        if source.url.startswith("http://") and not verified and not _is_loopback(source.url):
            message = f"{source.name} comes over http: anybody on its way can change who is let in"
            way_out = "fetch it over https" + (", or sign it and name policy.bundle_keys" * (source.kind == "bundle"))
            yield Fault(message, field=field, way_out=way_out)
        if source.key not in fetched:
            way_out = "it is checked when a mixer with this configuration has fetched it"
            yield Fault(f"there is no copy of {source.name}, so nothing was checked", field=field, way_out=way_out)


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
