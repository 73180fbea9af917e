"""One look at an HTTP(S) server: what is there now, unless it is what we have. Keeps nothing and repeats nothing.

aiohttp is imported when the first source is looked at: most mixers fetch nothing.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin, urlsplit

import orjson

import mixer_py
from mixer_py.errors import MixerError
from mixer_py.policy.bundles.settings import FetchSettings, host_of
from mixer_py.policy.bundles.sources import Source
from mixer_py.settings import format_size

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

_CHUNK: Final = 1 << 16
_MOST_REDIRECTS: Final = 5
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_OK: Final = 200
_NOT_MODIFIED: Final = 304
_GZIP: Final = b"\x1f\x8b"
_CONNECT_SECONDS: Final = 10.0


class DownloadError(MixerError):
    """A source could not be fetched; it is tried again."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """What a server sent.

    Attributes:
        file: where its content is.
        etag: by which the server knows it; empty for none.
        digest: hex sha256 of the content.
    """

    file: Path
    etag: str
    digest: str


class Downloader:
    """Looks at servers with the settings in force."""

    def __init__(self, settings: FetchSettings, allowed: Collection[str]) -> None:
        """Prepares; nothing is opened.

        Args:
            settings: `policy.fetch`.
            allowed: hosts to which an answer may redirect.
        """
        self._settings = settings
        self._allowed = allowed

    async def look(self, source: Source, etag: str, limit: int, into: Path) -> Arrival | None:
        """Fetches a source.

        Args:
            source: what to fetch.
            etag: of what we have; empty for nothing.
            limit: the most octets that are taken.
            into: the file to write.

        Returns:
            None when it is what we have.

        Raises:
            DownloadError: it did not come; the file may hold a part of it.
        """
        import aiohttp  # noqa: PLC0415 (most mixers fetch nothing)

        timeout = aiohttp.ClientTimeout(total=self._settings.timeout, sock_connect=_CONNECT_SECONDS)
        try:
            connector = aiohttp.TCPConnector(ssl=self._trust())
            async with aiohttp.ClientSession(
                connector=connector, timeout=timeout, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
            ) as session:
                return await self._follow(session, source, etag, limit, into)
        except TimeoutError:
            raise DownloadError(f"did not come within {self._settings.timeout:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise DownloadError(f"cannot be fetched: {error or type(error).__name__}") from None

    async def _follow(
        self, session: ClientSession, source: Source, etag: str, limit: int, into: Path
    ) -> Arrival | None:
        url = source.url
        for _ in range(_MOST_REDIRECTS + 1):
            async with session.get(url, headers=self._headers(url, source, etag), allow_redirects=False) as response:
                if response.status in _REDIRECTS:
                    url = self._redirected(url, response.headers.get("Location", ""), source)
                    continue
                if response.status == _NOT_MODIFIED and etag:
                    return None
                if response.status != _OK:
                    raise DownloadError(f"the server answered {response.status} {response.reason or ''}".rstrip())
                return await _take(response, source, limit, into)
        raise DownloadError(f"the server redirects more than {_MOST_REDIRECTS} times")

    def _headers(self, url: str, source: Source, etag: str) -> Mapping[str, str]:
        headers = {"User-Agent": f"mixer-py/{mixer_py.__version__}", "Accept-Encoding": "identity"}
        if source.kind == "bundle":
            headers["Prefer"] = "modes=snapshot"  # as OPA says which kinds of bundles it takes
        if etag:
            headers["If-None-Match"] = etag
        host = self._settings.hosts.get(host_of(url))
        if host is not None:
            headers |= {name: secret.reveal() for name, secret in host.headers.items()}
            if host.token is not None:
                headers["Authorization"] = f"Bearer {host.token.reveal()}"
        return headers

    def _redirected(self, url: str, location: str, source: Source) -> str:
        target = urljoin(url, location)
        if urlsplit(target).scheme not in {"https", urlsplit(source.url).scheme}:
            raise DownloadError("the server redirects to what is not https")
        host = host_of(target)
        if host not in {host_of(source.url), *self._settings.redirect_hosts, *self._allowed}:
            raise DownloadError(f"the server redirects to {host}, which is not among policy.fetch.redirect_hosts")
        return target

    def _trust(self) -> ssl.SSLContext | bool:
        """Whom to trust: the configured authorities, else the system's."""
        return True if self._settings.ca is None else ssl.create_default_context(cafile=self._settings.ca)


async def _take(response: ClientResponse, source: Source, limit: int, into: Path) -> Arrival:
    digest, total = hashlib.sha256(), 0
    with into.open("wb") as file:
        async for chunk in response.content.iter_chunked(_CHUNK):
            total += len(chunk)
            if total > limit:
                raise DownloadError(f"is larger than {format_size(limit)}")
            digest.update(chunk)
            file.write(chunk)
    _look_at(into, source)
    return Arrival(into, response.headers.get("ETag", ""), digest.hexdigest())


def _look_at(file: Path, source: Source) -> None:
    """Refuses what is plainly something else, such as the page of a portal."""
    if source.kind == "bundle":
        with file.open("rb") as stream:
            if stream.read(len(_GZIP)) != _GZIP:
                raise DownloadError("is no bundle archive (.tar.gz)")
        return
    try:
        orjson.loads(file.read_bytes())
    except orjson.JSONDecodeError as error:
        raise DownloadError(f"is no JSON: {error.msg}") from None
