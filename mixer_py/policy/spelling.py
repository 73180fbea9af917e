"""How hosts and paths may be spelt, and what can be told of a spelling: that it matches, does not, or neither.

Proxies and servers disagree on encoded slashes, empty and dotted segments, backslashes, path parameters, doubly encoded
octets, and letter case. What all of them read alike is certain; a path is compared as far as it is certain, and what
comes after may be anything that begins with the text before the first odd character. Not for: `parsed_path`, which
is opa-envoy-plugin's.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final
from urllib.parse import unquote_to_bytes

from mixer_py.policy.document.path import unescape


class Match(Enum):
    """Whether a condition holds."""

    NO = 0
    YES = 1
    UNCERTAIN = 2


NO: Final = Match.NO
YES: Final = Match.YES
UNCERTAIN: Final = Match.UNCERTAIN

_PORT: Final = re.compile(r":\d*$")
_HOST: Final = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\]")

_NOT_PLAIN: Final = re.compile(r"[^!-~]|[%;?#\\]|//|\.(?:/|$)")
_ODD: Final = re.compile(r"[\x00-\x1f\x7f/\\;?#\ufffd]|%(?=[0-9A-Fa-f]{2}|u)")
"""In a decoded segment: what a server may take for the end of the segment or of the path, or decode once more."""
# Segments that a server may resolve, so that the path leads elsewhere; and octets that are no UTF-8 but that lenient
# decoders take for dots and slashes (overlong forms: C0, C1, E0 80-9F, F0 80-8F).
_CLIMB: Final = re.compile(r"(?:^|[/\\])[ .]++(?:[/\\;?#]|$)|[\x00-\x1f\x7f]|%[uU]")
_OVERLONG: Final = re.compile(r"%[cC][01]|%[eE]0%[89]|%[fF]0%8")
_DECODINGS: Final = 4
"""Times that a path is decoded in search of dotted segments; what is encoded more often leads anywhere."""
_LONGEST_DECODED_AGAIN: Final = 2048
"""Characters of a path that is decoded more than once, so that nobody keeps a worker busy with a long one."""


class Hosts:
    """Hosts as Envoy's `domains` have them: exact, `*.foo.com`, `foo.*`, `*`. Letter case and port do not matter."""

    __slots__ = ("_all", "_exact", "_prefixes", "_suffixes")

    def __init__(self, patterns: Sequence[str]) -> None:
        """Takes patterns in lower case."""
        self._all = "*" in patterns
        self._exact = frozenset(pattern for pattern in patterns if "*" not in pattern)
        self._suffixes = tuple(one[1:] for one in patterns if one.startswith("*") and one != "*")
        self._prefixes = tuple(one[:-1] for one in patterns if one.endswith("*") and one != "*")

    def match(self, host: str) -> Match:
        """Whether a request's host, as Envoy sends it, is one of these. No host is none of them but `*`."""
        if self._all:
            return YES
        name = _PORT.sub("", host).lower().removesuffix(".")
        if not name:
            return NO if not host else UNCERTAIN
        if _HOST.fullmatch(name) is None:
            return UNCERTAIN
        if name in self._exact:
            return YES
        # As in Envoy, a star stands for at least one character.
        if any(len(name) > len(suffix) and name.endswith(suffix) for suffix in self._suffixes):
            return YES
        return YES if any(len(name) > len(prefix) and name.startswith(prefix) for prefix in self._prefixes) else NO


@dataclass(frozen=True, slots=True)
class PathReading:
    """What is certain of a path.

    Attributes:
        certain: the decoded segments that every server reads alike, from the first.
        folded: the same without what some servers ignore: letter case, blanks and dots at the end, forms of a letter.
        stem: folded beginning of the segment behind them, which may be anything that begins so; None when all is
            certain.
        climbs: it may lead anywhere, whatever it begins with.
    """

    certain: tuple[str, ...]
    folded: tuple[str, ...]
    stem: str | None
    climbs: bool


class PathPrefixes:
    """Prefixes in whole segments."""

    __slots__ = ("_folded", "_segments", "_texts", "_texts_folded")

    def __init__(self, prefixes: Sequence[str]) -> None:
        """Takes plain, decoded prefixes, as `/pay`; `/` is every path."""
        prefixes = [prefix.removesuffix("/") for prefix in prefixes]
        self._segments = [tuple(prefix.split("/")[1:]) for prefix in prefixes]
        self._folded = [tuple(map(_fold, segments)) for segments in self._segments]
        self._texts = tuple(f"{prefix}/" for prefix in prefixes)
        self._texts_folded = tuple("".join(f"/{segment}" for segment in folded) + "/" for folded in self._folded)

    def match_plain(self, path: str) -> Match:
        """Whether a plain path begins with one of these; as `match` would say, but quicker."""
        text = f"{path}/"
        if not text.lower().startswith(self._texts_folded):
            return NO
        return YES if text.startswith(self._texts) else UNCERTAIN

    def match(self, path: PathReading) -> Match:
        """Whether a path begins with one of these."""
        if path.climbs:
            return UNCERTAIN
        best = NO
        for segments, folded in zip(self._segments, self._folded, strict=True):
            length = len(segments)
            if path.folded[:length] == folded:
                if path.certain[:length] == segments:
                    return YES
                best = UNCERTAIN
            elif path.stem is not None and len(path.folded) < length:
                known = len(path.folded)
                if path.folded == folded[:known] and folded[known].startswith(path.stem):
                    best = UNCERTAIN
        return best


class RequestPath:
    """The path of one request, read as far as it is asked for."""

    __slots__ = ("_plain", "_reading", "_text")

    def __init__(self, path: str) -> None:
        """Takes the path as Envoy sends it, query included."""
        self._text = path.partition("?")[0]
        self._plain = is_plain(self._text)
        self._reading: PathReading | None = None

    def match(self, prefixes: PathPrefixes) -> Match:
        """Whether it begins with one of these.

        Raises:
            RequestParseError: a bad percent escape.
        """
        if self._plain:
            return prefixes.match_plain(self._text)
        if self._reading is None:
            unescape(self._text, "path")
            self._reading = read_path(self._text)
        return prefixes.match(self._reading)


def is_plain(path: str) -> bool:
    """Whether every server reads this path alike, but for letter case. It is given without its query."""
    return path.startswith("/") and _NOT_PLAIN.search(path) is None


def read_path(path: str) -> PathReading:
    """What is certain of a path.

    Args:
        path: without its query, and every `%` in it begins an escape.
    """
    if path in {"", "*"}:  # CONNECT and OPTIONS: no path at all
        return PathReading((), (), None, climbs=False)
    if not path.startswith("/"):  # a whole URL, say: what its path is depends on who reads it
        return PathReading((), (), "", climbs=True)
    segments = path[1:].split("/")
    if segments[-1] == "":
        segments.pop()
    certain: list[str] = []
    stem: str | None = None
    for segment in segments:
        decoded = _decode(segment)
        odd = _ODD.search(decoded)
        if odd is not None or not _fold(decoded):
            stem = _fold(decoded[: odd.start()] if odd is not None else "")
            break
        certain.append(decoded)
    return PathReading(tuple(certain), tuple(map(_fold, certain)), stem, _may_climb(path))


def _may_climb(path: str) -> bool:
    """Whether some server may find a dotted segment in it, or read it in a way that is not foreseen here."""
    for again in range(_DECODINGS):
        if _CLIMB.search(path) or _OVERLONG.search(path):
            return True
        decoded = _decode(path)
        if decoded == path:
            return False
        if again and len(path) > _LONGEST_DECODED_AGAIN:
            return True
        path = decoded
    return True


def _decode(text: str) -> str:
    return unquote_to_bytes(text).decode("utf-8", "replace") if "%" in text else text


def _fold(segment: str) -> str:
    """A segment without what some servers ignore."""
    return unicodedata.normalize("NFKC", segment).casefold().lstrip(" ").rstrip(" .")
