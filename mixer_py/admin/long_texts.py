"""Texts that are made while they are sent, and compressed for whoever asks for that.

Between two pieces the loop turns, so that a long text keeps no probe and no person waiting.
Not for: what the texts say.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

_GZIP: Final = 16 + zlib.MAX_WBITS
"""How zlib is told to write gzip's frame (RFC 1952)."""
_LEVEL: Final = 1
"""The fastest; texts of one label set after another become a fiftieth even so."""


def compressible(request: Request, pieces: Iterator[bytes], media_type: str) -> Response:
    """An answer that is made as it is sent, as gzip where the request takes that.

    Args:
        request: whose `accept-encoding` says so (RFC 9110 12.5.3).
        pieces: of the text; each is made within milliseconds.
        media_type: of the text.
    """
    headers = {"vary": "accept-encoding"}
    if takes_gzip(request.headers.get("accept-encoding", "")):
        headers["content-encoding"] = "gzip"
        return StreamingResponse(_compressed(pieces), headers=headers, media_type=media_type)
    return StreamingResponse(_in_turns(pieces), headers=headers, media_type=media_type)


def takes_gzip(accepted: str) -> bool:
    """Whether an `accept-encoding` has gzip, and not with the weight zero that forbids it."""
    for one in accepted.lower().split(","):
        name, _, parameters = one.partition(";")
        if name.strip() in {"gzip", "x-gzip"}:
            weight = parameters.replace(" ", "").partition("q=")[2]
            return not weight or weight.strip("0.") != ""
    return False


async def _in_turns(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        if piece:
            yield piece
        await asyncio.sleep(0)


async def _compressed(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The pieces as gzip, compressed in a thread: that takes longer than to make them."""
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    async for piece in _in_turns(pieces):
        compressed = await asyncio.to_thread(compressor.compress, piece)
        if compressed:
            yield compressed
    yield compressor.flush()
