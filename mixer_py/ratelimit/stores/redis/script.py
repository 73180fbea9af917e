"""What is said to the script that charges counters, and what it answers, as bytes; pure functions.

`charge.lua` beside this module tells what is in a record. Not for: connections, and what a failure means.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache, lru_cache
from importlib.resources import files
from itertools import starmap
from struct import Struct
from typing import Final, NamedTuple

from mixer_py.ratelimit.algorithms import FIXED_WINDOW, MOST_USED, SLIDING_WINDOW, TOKEN_BUCKET, Tally, Terms
from mixer_py.ratelimit.stores import Charge, Identity

_HEADER: Final = Struct("<ddd")
_TERMS: Final = Struct("<Bddd")
_HITS: Final = Struct("<Hd")
_TALLY: Final = Struct("<?qqqq")
_OVERDRAWN: Final = 8
"""Added to an algorithm's number where hits that do not fit are counted too."""
_ALGORITHMS: Final = {FIXED_WINDOW: 0, SLIDING_WINDOW: 1, TOKEN_BUCKET: 2}
_ALONE: Final = {hits: _HITS.pack(0, hits) for hits in range(17)}
"""How most records end, by their hits."""
_FAILED: Final = 255


class Script(NamedTuple):
    """A script as a server is given it.

    Attributes:
        source: its text.
        digest: what EVALSHA calls it by.
    """

    source: bytes
    digest: bytes


class Failure(NamedTuple):
    """What the server said instead of making one charge.

    Attributes:
        number: which charge, from 0.
        words: the server's; the first is a code such as WRONGTYPE.
    """

    number: int
    words: str


@cache
def charge_script(*, flags: bool = True) -> Script:
    """The script that charges.

    Args:
        flags: with its first line, which lets it reach keys of several slots; Redis before 7 knows no such line.
    """
    source = files(__package__).joinpath("charge.lua").read_bytes()
    if not flags:
        source = source.partition(b"\n")[2]
    return Script(source, hashlib.sha1(source, usedforsecurity=False).hexdigest().encode())


@lru_cache(maxsize=8192)  # who asks often asks about the same counters
def key_of(prefix: str, identity: Identity) -> bytes:
    """The key of a counter; different for different identities, because every part stands behind its length.

    Args:
        prefix: of all keys.
        identity: whose counter.
    """
    parts = [f"{len(part)}:{part}" if isinstance(part, str) else f"{len(part)}#{part.hex()}" for part in identity]
    return f"{prefix}{''.join(parts)}".encode("utf-8", "surrogatepass")


def header(now: int | None, jitter: float, part: float) -> bytes:
    """What holds for all charges of a call.

    Args:
        now: microseconds since the epoch; None for the server's own time.
        jitter: seconds that a counter is kept beyond its end at most; it is half of it at least.
        part: a random number from 0 to 1, from which each counter's own jitter follows.
    """
    return _HEADER.pack(-1 if now is None else now, jitter * 1000, part)


def records(charges: Sequence[Charge], *, together: bool = False) -> bytes:
    """What a request charges.

    Args:
        charges: 65,535 at most where they are made `together`.
        together: all of them or none.
    """
    ends = [_ALONE.get(one.hits) or _end(0, one.hits) for one in charges]
    if together and charges:
        ends[0] = _end(len(charges), charges[0].hits)
    return b"".join([_terms(one.terms) + end for one, end in zip(charges, ends, strict=True)])


def _end(together: int, hits: int) -> bytes:
    """How a record ends; more hits than there can be used are as many."""
    return _HITS.pack(together, max(min(hits, MOST_USED), -MOST_USED))


@lru_cache(maxsize=4096)  # overrides bring along whatever limits they like
def _terms(terms: Terms) -> bytes:
    algorithm = _ALGORITHMS[terms.algorithm] + _OVERDRAWN * terms.overdraw
    return _TERMS.pack(algorithm, terms.window, terms.limit, terms.burst)


def call(script: Script, keys: Sequence[bytes], arguments: Sequence[bytes], *, declared: bool, whole: bool) -> bytes:
    """A command that runs the script, in the server's protocol.

    Args:
        script: which.
        keys: a counter's for each charge.
        arguments: header and records.
        declared: whether the server is told that the keys are keys; those of several slots cannot be.
        whole: send the script itself, because the server does not know it by its digest.
    """
    count = b"%d" % len(keys)
    words = (b"EVAL", script.source) if whole else (b"EVALSHA", script.digest)
    if declared:
        return command(*words, count, *keys, *arguments)
    return command(*words, b"0", *arguments, *keys)


def command(*words: bytes) -> bytes:
    """A command in the server's protocol (RESP)."""
    return b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])


def tallies_of(reply: bytes, charges: int) -> tuple[list[Tally | None], list[Failure]]:
    """What became of each charge.

    Args:
        reply: the script's.
        charges: how many were made.

    Returns:
        A tally for each, or None for one that failed; and why it did.

    Raises:
        ValueError: the reply has not that form.
    """
    size = _TALLY.size * charges
    if len(reply) == size:
        return list(starmap(Tally, _TALLY.iter_unpack(reply))), []
    if len(reply) < size:
        raise ValueError(f"{len(reply)} bytes are no answer to {charges} charges")
    failures = []
    for line in reply[size:].decode("utf-8", "replace").splitlines():
        number, _, words = line.partition(" ")
        failures.append(Failure(int(number), words))
    tallies: list[Tally | None] = list(starmap(Tally, _TALLY.iter_unpack(reply[:size])))
    for failure in failures:
        if not 0 <= failure.number < charges or reply[failure.number * _TALLY.size] != _FAILED:
            raise ValueError(f"no charge {failure.number} of {charges} has failed")
        tallies[failure.number] = None
    return tallies, failures
