"""Which names of headers, parameters and fields are those of secrets: mixer's own list, and what a person adds.

A name is compared by its words, so that `access_token`, `accessToken` and `x-access-token` are alike.
Not for: finding names in a document (`masking.py`).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache
from typing import Final
from urllib.parse import unquote, unquote_plus

HEADERS: Final = frozenset({
    "authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "apikey", "x-amzn-oidc-data",
})  # fmt: skip
"""Headers that are masked whatever their words."""

WORDS: Final = frozenset({
    "token", "secret", "secrets", "password", "passwords", "passwd", "pwd", "passphrase", "signature", "credential",
    "credentials", "apikey", "assertion",
})  # fmt: skip
"""A name with one of these words is that of a secret, wherever it stands."""

ENDINGS: Final = (
    "token", "secret", "password", "passwd", "passphrase", "signature", "apikey", "accesskey", "secretkey",
    "privatekey", "subscriptionkey", "authkey", "sessionid", "sessid", "credential", "assertion", "jwt",
)  # fmt: skip
"""So is one that, without its separators, ends with one of these."""

PARAMETERS: Final = frozenset({
    "auth", "code", "key", "otp", "pass", "pin", "session", "sid", "sig", "ticket", "samlrequest", "samlresponse",
})  # fmt: skip
"""In queries and forms these whole names too."""

_REMEMBERED: Final = 4096
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SEPARATOR = re.compile(r"[^a-z0-9]+")


class SecretNames:
    """Answers for names; answers are remembered, as most names come again."""

    def __init__(self, headers: Collection[str], parameters: Collection[str], *, defaults: bool) -> None:
        """Takes the names that a person adds.

        Args:
            headers: of headers, in any case.
            parameters: of query parameters and form fields, in any case.
            defaults: whether the lists above hold.
        """
        more_headers = frozenset(name.lower() for name in headers)
        more_parameters = frozenset(name.lower() for name in parameters)

        # Functions and not methods: a cache of a method would hold its object in a circle, which is never collected.
        def is_header(name: str) -> bool:
            lower = name.lower()
            return lower in more_headers or (defaults and (lower in HEADERS or _is_secret(name)))

        def is_parameter(name: str) -> bool:
            plain = unquote_plus(name)
            lower = plain.strip().lower()
            return lower in more_parameters or (defaults and (lower in PARAMETERS or _is_secret(plain)))

        def is_member(name: str) -> bool:
            return defaults and _is_secret(name)

        self.is_header = lru_cache(_REMEMBERED)(is_header)
        self.is_parameter = lru_cache(_REMEMBERED)(is_parameter)
        self.is_member = lru_cache(_REMEMBERED)(is_member)

    @staticmethod
    def decoded(text: str) -> str:
        """Text with one round of percent escapes decoded."""
        return unquote(text)


def _is_secret(name: str) -> bool:
    words = _SEPARATOR.split(_HUMP.sub("_", name).lower())
    return not WORDS.isdisjoint(words) or "".join(words).endswith(ENDINGS)
