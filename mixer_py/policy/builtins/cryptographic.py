"""Builtins of tokens and certificates, whose library is loaded when a policy that calls one is.

It takes 7 MiB of every worker and a tenth of a second of its start, and most policies verify nothing.
Not for: what the builtins do (`tokens.py`, `signing.py`, `certificates.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Final

_FAMILIES: Final = ("es", "hs", "ps", "rs")
_BITS: Final = (256, 384, 512)

ARITIES: Final[Mapping[str, int]] = {
    "crypto.x509.parse_and_verify_certificates": 1,
    "crypto.x509.parse_and_verify_certificates_with_options": 2,
    "crypto.x509.parse_certificate_request": 1,
    "crypto.x509.parse_certificates": 1,
    "crypto.x509.parse_rsa_private_key": 1,
    "io.jwt.decode": 1,
    "io.jwt.decode_verify": 2,
    "io.jwt.encode_sign": 3,
    "io.jwt.encode_sign_raw": 3,
    "io.jwt.verify_eddsa": 2,
    **{f"io.jwt.verify_{family}{bits}": 2 for family in _FAMILIES for bits in _BITS},
}
"""Number of arguments by name."""


def functions() -> dict[str, Callable[..., object]]:
    """The functions by name, with memories of their own; loads the library."""
    from mixer_py.policy.builtins import certificates, signing, tokens  # noqa: PLC0415 (see above)

    found = (*certificates.builtins(), *tokens.Tokens().builtins())
    return {
        "io.jwt.encode_sign": signing.encode_sign,
        "io.jwt.encode_sign_raw": signing.encode_sign_raw,
        **{name: function for name, _, function in found},
    }


def load_for(called: Collection[str | None]) -> None:
    """Loads the library beforehand where one of these builtins is called, so that no request waits for that."""
    if not ARITIES.keys().isdisjoint(called):
        functions()


class Cryptographic:
    """These builtins as functions of one engine."""

    def __init__(self) -> None:
        self._functions: dict[str, Callable[..., object]] = {}

    def builtins(self) -> tuple[tuple[str, int, Callable[..., object]], ...]:
        """Name, number of arguments, and function of each."""
        return tuple((name, arity, partial(self._call, name)) for name, arity in ARITIES.items())

    def _call(self, name: str, *arguments: object) -> object:
        if not self._functions:
            self._functions = functions()
        return self._functions[name](*arguments)
