"""Unix sockets between our processes, in their private folder."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path


def bind_private(path: Path) -> socket.socket:
    """A socket at `path` that only this user may use, from its first moment; it replaces what stands there.

    Whoever calls this is the only one to listen there, or takes over from another, whose connections stay.

    Raises:
        OSError: it cannot be made.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    fresh = path.with_name(f".{secrets.token_hex(4)}")
    try:
        listener.bind(str(fresh))
        fresh.chmod(0o600)  # nobody can connect before it listens
        fresh.replace(path)
    except OSError:
        listener.close()
        fresh.unlink(missing_ok=True)
        raise
    return listener
