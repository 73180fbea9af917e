"""The places where this mixer is to listen, held for its whole life so that no second mixer shares them in silence.

Workers share their ports (SO_REUSEPORT), and so would the workers of a second mixer. Therefore the supervisor takes
each port first, for itself alone, and lets only then others in: whoever wants to take it for itself alone, as every
mixer does at its start, finds it in use. It answers nobody. A unix socket can be replaced by whoever may write in its
folder, and each worker that takes over does. Therefore the supervisor makes a file beside it and locks that.
"""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from mixer_py.config.address import Address
from mixer_py.errors import ProcessError

_BUSY_SECONDS: Final = 1.0
_TURN_SECONDS: Final = 5.0
_TURN_PAUSE: Final = 0.01
_WAY_OUT: Final = "end that one, or write another address"

Place = tuple[Any, ...]
"""What a socket of some family is bound to."""


@contextmanager
def held(addresses: Sequence[Address]) -> Iterator[None]:
    """Holds every place, for the workers of this mixer.

    Raises:
        ProcessError: another process has one, or an address is not ours.
    """
    with ExitStack() as guards:
        for address in addresses:
            if address.is_unix:
                guards.enter_context(_locked(address))
                _refuse_live_socket(address)
            elif address.port:  # 0 lets the system choose, and it chooses none that is taken
                with _turn(address):
                    for guard in _take(address):
                        guards.enter_context(guard)
        yield


def _take(address: Address) -> list[socket.socket]:
    """A bound socket for each that the workers will listen on."""
    try:
        found = bindable(address)
    except OSError as error:
        raise ProcessError(f"cannot listen on {address}: {error}") from error
    guards = []
    try:
        for family, place in found:
            guard = socket.socket(family, socket.SOCK_STREAM)
            guards.append(guard)
            try:
                _bind_alone(guard, place, only_v6=len(place) > 2 and place[0] != "::")
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL and len(found) > 1:
                    continue  # a name with an address that this machine does not have; gRPC takes the others
                raise ProcessError(
                    f"cannot listen on {address}: the address is in use or not ours ({error.strerror})"
                ) from error
    except BaseException:
        for guard in guards:
            guard.close()
        raise
    return guards


def bindable(address: Address) -> list[tuple[socket.AddressFamily, Place]]:
    """What gRPC binds for an address: every interface is one socket for both families, where there is IPv6.

    Raises:
        OSError: a name has no address.
    """
    host = address.host
    if _is_unspecified(host) and socket.has_dualstack_ipv6():
        return [(socket.AF_INET6, ("::", address.port))]
    found = socket.getaddrinfo(host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return [(family, place) for family, _, _, _, place in found]


def _is_unspecified(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False  # a name


def _bind_alone(guard: socket.socket, place: Place, *, only_v6: bool) -> None:
    """Binds where nobody else has, and lets those in that ask to share and are run by the same user.

    Raises:
        OSError: somebody has.
    """
    if guard.family == socket.AF_INET6:
        guard.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only_v6)
    guard.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that ended lately do not count
    guard.bind(place)
    # But sockets count that do not listen, from now on: other mixers' guards.
    guard.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    guard.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    with socket.socket(guard.family, socket.SOCK_STREAM) as second:
        # There are kernels that remember of a port that its first socket would have shared it, until one would not.
        # One that listens would not, and does not mind connections that ended lately either, whoever served them.
        if guard.family == socket.AF_INET6:
            second.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only_v6)
        second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        second.bind(place)
        second.listen(0)


@contextmanager
def _turn(address: Address) -> Iterator[None]:
    """One mixer after another: to take a port takes several steps. The name lives where ports do, and with us.

    Raises:
        ProcessError: another mixer does not come to an end with it.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as turn:
        end = time.monotonic() + _TURN_SECONDS
        while True:
            try:
                turn.bind(f"\0mixer-port-{address.port}")
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE or time.monotonic() > end:
                    raise ProcessError(f"cannot listen on {address}: another process is about to") from error
                time.sleep(_TURN_PAUSE)
        yield


@contextmanager
def _locked(address: Address) -> Iterator[None]:
    """Holds the file beside a unix socket, and removes it at the end; a mixer that was killed left its own unlocked.

    Raises:
        ProcessError: another mixer holds it, or it cannot be made.
    """
    path = Path(f"{address.path}.lock")
    try:
        while (lock := _lock(path)) is None:
            pass
    except BlockingIOError:
        raise ProcessError(f"cannot listen on {address}: another mixer does, and locks {path}; {_WAY_OUT}") from None
    except OSError as error:
        raise ProcessError(
            f"cannot listen on {address}: {path} cannot be locked ({error.strerror}); let this user write in its folder"
            ", and remove that file where it is another user's"
        ) from error
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()  # before it is let go: whoever has opened it meanwhile sees that it is not there any more
        os.close(lock)


def _lock(path: Path) -> int | None:
    """The file, open and locked; None when its owner removed it while it was being opened.

    Raises:
        OSError: it cannot be opened; of these BlockingIOError: somebody else has it.
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock), path.stat()):
            return lock
    except FileNotFoundError:
        pass
    except OSError:
        os.close(lock)
        raise
    os.close(lock)
    return None


def _refuse_live_socket(address: Address) -> None:
    """Refuses the socket of a program that locks nothing.

    Raises:
        ProcessError: one listens there.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_BUSY_SECONDS)
        try:
            probe.connect(address.path)
        except (FileNotFoundError, ConnectionRefusedError):
            return  # nobody, or what a process left that is gone
        except TimeoutError:
            pass  # somebody who is busy
        except OSError as error:
            raise ProcessError(f"cannot listen on {address}: {error.strerror}") from error
    raise ProcessError(f"cannot listen on {address}: another process does; {_WAY_OUT}")
