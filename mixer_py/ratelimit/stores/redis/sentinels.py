"""Finds the master that Sentinels name.

One that is away, hangs, answers nonsense or names a server that is no master costs a moment: the next is asked, and
that one last from then on.

Not for: what Sentinels do among themselves, and when one server is made the master in place of another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from mixer_py.errors import CounterStoreError
from mixer_py.ratelimit.stores.redis.connecting import Connector
from mixer_py.ratelimit.stores.redis.node import Opened


class Sentinels:
    """Those that watch one master."""

    def __init__(self, hosts: Sequence[tuple[str, int]], name: str, connector: Connector) -> None:
        """Prepares; asks nobody.

        Args:
            hosts: host and port of each.
            name: what they call the master.
            connector: of them and of the master.
        """
        self._hosts = deque(hosts)
        self._name = name
        self._connector = connector

    async def master(self) -> Opened:
        """Opens a connection to the master that they name now.

        Raises:
            CounterStoreError: none of them names a server that takes charges.
        """
        told: CounterStoreError | None = None
        silent: list[str] = []
        tried = set[tuple[str, int]]()
        for _ in range(len(self._hosts)):
            try:
                place = await self._ask(*self._hosts[0])
            except CounterStoreError as error:
                silent.append(str(error))
            else:
                if place not in tried:
                    tried.add(place)
                    try:
                        return await self._connector.tcp(*place)
                    except CounterStoreError as error:
                        told = error
            self._hosts.rotate(-1)
        raise told or CounterStoreError(f"the Sentinels: {'; '.join(silent)}", "no_master")

    async def _ask(self, host: str, port: int) -> tuple[str, int]:
        answer = await self._connector.ask_sentinel(host, port, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name)
        if answer is None:
            raise CounterStoreError(f"{host}:{port} knows no master {self._name!r}", "no_master")
        return _place(answer, f"{host}:{port}")


def _place(answer: Any, sentinel: str) -> tuple[str, int]:  # noqa: ANN401 (whatever a Sentinel answers)
    try:
        host, port = answer
        return host.decode(), int(port)
    except (TypeError, ValueError, AttributeError) as error:
        raise CounterStoreError(f"{sentinel} answered with nonsense: {error}", "nonsense") from None
