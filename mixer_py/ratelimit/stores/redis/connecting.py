"""Opens connections with redis-py: TCP, TLS, unix sockets, users and passwords; and makes sure that the script runs.

Not for: what goes over a connection once it is open (`channel.py`).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.exceptions import ConnectionError as LostError
from redis.exceptions import TimeoutError as LateError

from mixer_py.errors import CounterStoreError
from mixer_py.ratelimit.stores.addresses import RedisAddress
from mixer_py.ratelimit.stores.redis.node import Opened
from mixer_py.ratelimit.stores.redis.reasons import reason_of
from mixer_py.ratelimit.stores.redis.script import Script, charge_script, header
from mixer_py.ratelimit.stores.redis.settings import RedisSettings

_RESP2: Final = 2
"""The older form of the protocol: the script's reply is the same in both, and nothing is pushed unasked."""
_FAILURES: Final = (RedisError, OSError, ValueError, RecursionError)
"""What connecting and asking raise. The last two come out of redis-py when a server answers what is no reply, such as a
length that is no number."""


class Connector:
    """Opens connections to servers of one store."""

    def __init__(self, address: RedisAddress, settings: RedisSettings) -> None:
        """Takes what all connections have in common; connects to nothing.

        Args:
            address: its scheme, user and database.
            settings: passwords and certificates, read here.

        Raises:
            OSError: a secret or a certificate cannot be read.
        """
        self._timeout = settings.connect_timeout
        password = settings.password.reveal() if settings.password is not None else None
        self._class: type[Connection] = SSLConnection if address.secure else Connection
        tls = _tls(settings) if address.secure else {}
        common = {
            "socket_connect_timeout": self._timeout,
            "socket_timeout": self._timeout,
            "protocol": _RESP2,
            "driver_info": None,  # CLIENT SETINFO would be one more thing for a user to be allowed
            **tls,
        }
        user = settings.username or address.user
        if address.secure:
            SSLConnection(**tls).ssl_context.get()  # certificates that cannot be read are told now
        self._arguments = {**common, "username": user, "password": password, "db": address.database}
        sentinel = settings.sentinel_password.reveal() if settings.sentinel_password is not None else None
        self._sentinel_arguments = {**common, "username": settings.sentinel_username, "password": sentinel}

    async def unix(self, path: str) -> Opened:
        """Opens a connection to a unix socket.

        Raises:
            CounterStoreError: it could not be opened, or the script does not run there.
        """
        return await self._prepared(UnixDomainSocketConnection(path=path, **self._arguments), f"unix://{path}")

    async def tcp(self, host: str, port: int) -> Opened:
        """Opens a connection to a host.

        Raises:
            CounterStoreError: it could not be opened, or the script does not run there.
        """
        return await self._prepared(self._class(host=host, port=port, **self._arguments), f"{host}:{port}")

    async def ask(self, host: str, port: int, *words: str | bytes) -> Any:  # noqa: ANN401 (whatever a server answers)
        """Asks one question over a connection of its own.

        Raises:
            CounterStoreError: it was not answered.
        """
        return await self._ask_once(self._class(host=host, port=port, **self._arguments), f"{host}:{port}", words)

    async def ask_sentinel(self, host: str, port: int, *words: str) -> Any:  # noqa: ANN401 (idem)
        """Asks a Sentinel one question, over a connection of its own.

        Raises:
            CounterStoreError: it was not answered.
        """
        connection = self._class(host=host, port=port, **self._sentinel_arguments)
        return await self._ask_once(connection, f"the Sentinel {host}:{port}", words)

    async def _ask_once(self, connection: Connection, address: str, words: Sequence[str | bytes]) -> Any:  # noqa: ANN401
        try:
            async with asyncio.timeout(self._timeout):
                await connection.connect()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
                return await _ask(connection, *words)
        except _FAILURES as error:
            raise failure(error, address) from None
        finally:
            await connection.disconnect(nowait=True)

    async def _prepared(self, connection: AbstractConnection, address: str) -> Opened:
        try:
            async with asyncio.timeout(self._timeout):
                await connection.connect()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
                script = await _prepare(connection)
        except _FAILURES as error:
            await connection.disconnect(nowait=True)
            raise failure(error, address) from None
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        writer = connection._writer  # noqa: SLF001 (redis-py has no other way to what it has opened)
        connection._reader = connection._writer = None  # noqa: SLF001 (it is ours from now on)
        if writer is None:
            raise CounterStoreError(f"{address} closed the connection at once")
        return Opened(writer, script, address)


async def _prepare(connection: AbstractConnection) -> Script:
    """Lets the server know the script, and runs it for nothing; the script that it takes.

    So a replica, a server without memory and a user without the right to write are found before anything is charged.
    """
    script = charge_script()
    try:
        await _ask(connection, "SCRIPT", "LOAD", script.source)
    except ResponseError as error:
        if "compiling" not in str(error):
            raise
        script = charge_script(flags=False)  # Redis before 7
        await _ask(connection, "SCRIPT", "LOAD", script.source)
    reply = await _ask(connection, "EVALSHA", script.digest, 0, header(None, 0, random.random()), b"")  # noqa: S311
    if reply != b"":
        raise CounterStoreError(f"the script answered {reply!r} to nothing", "nonsense")
    return script


async def _ask(connection: AbstractConnection, *words: str | bytes | int) -> Any:  # noqa: ANN401 (whatever it answers)
    await connection.send_command(*words)
    return await connection.read_response()


def failure(error: Exception, address: str) -> CounterStoreError:
    """What redis-py raised, with its reason."""
    if isinstance(error, (TimeoutError, LateError)):
        return CounterStoreError(f"{address} did not answer in time", "timeout")
    if isinstance(error, AuthenticationError):
        return CounterStoreError(f"{address}: {error}", "authentication")
    if isinstance(error, (OSError, LostError)) and not error.args:
        return CounterStoreError(f"{address}: {error!r}", "refused")
    if isinstance(error, (ValueError, RecursionError)):
        return CounterStoreError(f"{address} answered with nonsense: {error}", "nonsense")
    code = getattr(error, "status_code", None)
    words = f"{code} {error}" if code else str(error)
    return CounterStoreError(f"{address}: {words}", reason_of(words))


def _tls(settings: RedisSettings) -> dict[str, Any]:
    tls = settings.tls
    return {
        "ssl_ca_certs": tls.ca,
        "ssl_certfile": tls.certificate,
        "ssl_keyfile": tls.key,
        "ssl_check_hostname": tls.check_hostname,
        "ssl_cert_reqs": "required",
    }
