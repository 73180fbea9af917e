"""Whether somebody else listens where this mixer is to listen.

The workers share their ports, so that one can take over from another; a second mixer would share them unseen. So the
places are looked at before anything starts.
"""

from __future__ import annotations

import errno
import socket

from mixer_py.config.address import Address
from mixer_py.errors import ProcessError

_BUSY_SECONDS = 1.0


def refuse_taken(address: Address) -> None:
    """Looks whether another process listens at an address.

    Raises:
        ProcessError: one does, or the address is not ours.
    """
    if address.is_unix:
        _refuse_live_socket(address)
    elif address.port:
        _refuse_taken_port(address)


def _refuse_taken_port(address: Address) -> None:
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ProcessError(f"cannot listen on {address}: {error}") from error
    for family, kind, protocol, _, place in found:
        with socket.socket(family, kind, protocol) as probe:
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that ended lately do not count
            try:
                probe.bind(place)
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL and len(found) > 1:
                    continue  # a name with an address that this machine does not have; gRPC takes the others
                raise ProcessError(
                    f"cannot listen on {address}: the address is in use or not ours ({error.strerror})"
                ) from error


def _refuse_live_socket(address: Address) -> None:
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
    raise ProcessError(f"cannot listen on {address}: another process does")
