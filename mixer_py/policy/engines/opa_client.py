"""The connection to an OPA server: opa-python-client's, with bounded connections, exact input and OPA's own words.

The client knows URLs, tokens, sessions and `/health`; this module is the only one that imports it. It keeps from it
what a decision cannot use: its retries (they wait 300 ms, and repeat a policy's failure), the decoding and encoding
of the input, whose numbers would change, and the loss of an error's body.
Not for: what an answer means to a decision (`opa.py`).
"""

from __future__ import annotations

import ssl
from typing import Final
from urllib.parse import quote, urlsplit

import aiohttp
from opa_client.opa_async import AsyncOpaClient
from yarl import URL

from mixer_py.policy.settings import OpaSettings

_IDLE: Final = 60.0
"""Seconds for which an unused connection stays open; OPA closes none."""
_HEADERS: Final = {"Content-Type": "application/json", "Accept-Encoding": "identity"}


class Connection(AsyncOpaClient):  # type: ignore[misc]  # the client has no types
    """Connections to one OPA server, made when they are first needed. Use it in one event loop."""

    def __init__(self, settings: OpaSettings) -> None:
        """Takes the settings; connects to nothing.

        Raises:
            OSError: the token or the certificates cannot be read.
        """
        url = urlsplit(settings.url)
        self._socket = url.path if url.scheme == "unix" else None
        self._secure = url.scheme == "https"
        host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname or "localhost"
        super().__init__(
            host=host,
            port=url.port or (443 if self._secure else 80),
            ssl=self._secure,
            headers=dict(_HEADERS),
            token=settings.token.reveal() if settings.token is not None else None,
            retries=0,
            timeout=settings.timeout,
        )
        self._session: aiohttp.ClientSession | None = None
        self._limit = settings.connections
        self._context = ssl.create_default_context(cafile=settings.ca) if self._secure else None

    def rule_url(self, decision: str) -> URL:
        """Where OPA answers with the value of the rule at a path such as `envoy/authz/allow`."""
        return URL(f"{self.root_url}/data/{quote(decision)}", encoded=True)

    async def ask(self, url: URL, input_json: str) -> tuple[int, bytes]:
        """Status and body of the answer for one input document, within the timeout of the settings.

        Raises:
            aiohttp.ClientError: no connection, or one that broke.
            TimeoutError: no answer in time.
        """
        if self._session is None:
            await self._init_session()
        body = f'{{"input":{input_json}}}'.encode()
        async with self._request("POST", url, data=body, allow_redirects=False) as response:
            return response.status, await response.read()

    async def is_healthy(self) -> bool:
        """Whether OPA is there, and has activated the bundles that it is configured with."""
        if self._session is None:
            await self._init_session()
        return bool(await self.check_health({"bundles": "true"}))

    async def _init_session(self) -> None:
        """Replaces the client's, which bounds nothing, and knows neither unix sockets nor certificates of one's own."""
        connector: aiohttp.BaseConnector
        if self._socket is not None:
            connector = aiohttp.UnixConnector(self._socket, limit=self._limit, keepalive_timeout=_IDLE)
        else:
            tls = self._context or True  # aiohttp's default, for an address without TLS
            connector = aiohttp.TCPConnector(limit=self._limit, keepalive_timeout=_IDLE, ttl_dns_cache=30, ssl=tls)
        self._connector = connector
        self._session = aiohttp.ClientSession(
            headers=self.headers, connector=connector, timeout=aiohttp.ClientTimeout(total=self.timeout)
        )
