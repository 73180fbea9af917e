"""The keys of `policy:` that say where bundles and documents come from, and what they must look like."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from annotated_types import Ge
from pydantic import AfterValidator, Field, field_validator, model_validator

from mixer_py.settings import Duration, LocalPath, Secret, Settings, Size

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "HS256", "HS384", "HS512", "EdDSA"
]


_DOCUMENT_NAME: Final = re.compile(r"[^./\s]+(?:[./][^./\s]+)*")


def is_url(text: str) -> bool:
    """Whether a bundle is fetched, rather than a path on this machine."""
    return "://" in text


def check_url(text: str) -> str:
    """The URL, if mixer can fetch it.

    Raises:
        ValueError: it has another scheme, no host, or shows a password.
    """
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"{text!r} is no URL: {error}") from None
    if parts.scheme not in {"http", "https"}:
        raise ValueError(f"{text!r} cannot be fetched; write a path, or a URL with http or https")
    if not host:
        raise ValueError(f"{text!r} names no host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("a URL must not hold a user or a password; write them under policy.fetch.hosts")
    if parts.fragment:
        raise ValueError(f"{text!r} has a fragment, which is never sent; leave it out")
    return text


def host_of(url: str) -> str:
    """`host`, or `host:port` where the URL names a port, as lists of hosts write it."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    host = f"[{host}]" if ":" in host else host
    return host if parts.port is None else f"{host}:{parts.port}"


def check_host(text: str) -> str:
    """A host as `host_of` writes it.

    Raises:
        ValueError: it is none.
    """
    try:
        written = host_of(f"//{text}")
    except ValueError:
        written = ""
    if not written or written != text.lower():
        raise ValueError(f"{text!r} is no host; write example.com, or example.com:8443")
    return written


Host = Annotated[str, AfterValidator(check_host)]
Url = Annotated[str, AfterValidator(check_url)]


def _check_bundle(value: LocalPath) -> LocalPath:
    return LocalPath(check_url(value)) if is_url(value) else value


BundlePath = Annotated[LocalPath, AfterValidator(_check_bundle)]
"""A bundle: a local path, or an http(s) URL."""


class BundleKeySettings(Settings):
    """A key that verifies signatures of bundles."""

    algorithm: Algorithm = "RS256"
    """The algorithm of the signature, whatever the signature itself says."""
    key: Secret
    """The public key or certificate in PEM, or the secret of HS256, HS384 and HS512."""
    scope: str = ""
    """The scope that a signature must have; empty means that it must have none."""


class BundleLimits(Settings):
    """How large a bundle archive may be."""

    archive: Annotated[Size, Ge(1)] = 256 << 20
    """The archive itself."""
    unpacked: Annotated[Size, Ge(1)] = 1 << 30
    """All its files together."""
    entries: Annotated[int, Ge(1)] = 20_000
    """How many files and folders."""


class DataSettings(Settings):
    """A JSON document that is fetched into `data`."""

    url: Url
    """Where it is; its host must be among `policy.data_hosts`."""
    refresh: Duration = 300.0
    """How often it is fetched again."""

    @field_validator("refresh")
    @classmethod
    def _is_no_hurry(cls, value: float) -> float:
        if value < 1:
            raise ValueError("refresh must be at least 1s")
        return value


def check_documents(documents: Mapping[str, DataSettings], hosts: Collection[str]) -> None:
    """Checks the names of `policy.data`, and that each host is allowed.

    Raises:
        ValueError: naming the first that is wrong.
    """
    for name, document in documents.items():
        if not _DOCUMENT_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no place in data; write jwks, or keys.jwks")
        host = host_of(document.url)
        if host not in hosts:
            raise ValueError(f"{name}: the host {host} is not among policy.data_hosts; add it there, if you trust it")


class FetchHostSettings(Settings):
    """What a host is sent besides the request."""

    token: Secret | None = None
    """Sent as `Authorization: Bearer`."""
    headers: dict[str, Secret] = Field(default_factory=dict)
    """Further headers."""


class FetchSettings(Settings):
    """How bundles and documents are fetched over HTTP(S)."""

    min_delay: Duration = 60.0
    """The least time between two looks at a bundle."""
    max_delay: Duration = 120.0
    """The most; the time is chosen anew each time, and doubles up to this after failures."""
    timeout: Duration = 60.0
    """How long one answer may take altogether."""
    max_document: Annotated[Size, Ge(1)] = 16 << 20
    """The largest document of `policy.data`; archives: `policy.bundle_limits`."""
    folder: LocalPath | None = None
    """Where the last good copies are kept; by default `$STATE_DIRECTORY`, else `/var/lib/mixer` where that can be
    written, else `mixer` in `$XDG_STATE_HOME`, else in `~/.local/state`."""
    ca: LocalPath | None = None
    """Certificates in PEM that are trusted in place of the system's."""
    redirect_hosts: tuple[Host, ...] = ()
    """Hosts to which an answer may redirect, besides its own."""
    hosts: dict[Host, FetchHostSettings] = Field(default_factory=dict)
    """Credentials by host; never sent to another one."""

    @model_validator(mode="after")
    def _delays_fit(self) -> FetchSettings:
        if not 0 < self.min_delay <= self.max_delay:
            raise ValueError("min_delay must be above 0 and at most max_delay")
        if self.timeout <= 0:
            raise ValueError("timeout must be above 0; write a duration such as 60s")
        return self
