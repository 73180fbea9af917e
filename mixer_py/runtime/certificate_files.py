"""Read the files of the listeners' TLS, and find what is wrong with them before anybody is shown them.

gRPC takes what it cannot use without a word and lets every handshake fail. Not for: what is in force
(`certificates.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from mixer_py.config.server import ListenerSettings, ServerSettings
from mixer_py.config.tls import TlsSettings
from mixer_py.credentials import Credentials
from mixer_py.errors import Fault

_LEAST_RSA_BITS: Final = 2048
# BoringSSL, which gRPC and Envoy speak TLS with, can use other keys only when it is told to.
_CURVES: Final = (ec.SECP256R1, ec.SECP384R1)
_NAMES: Final = ("certificate", "key", "client_ca")


@dataclass(frozen=True, slots=True)
class Shown:
    """What a listener shows.

    Attributes:
        credentials: in memory.
        expires: seconds since the epoch: the first end among the certificates that it shows.
    """

    credentials: Credentials
    expires: float


def read_all(server: ServerSettings, now: float) -> tuple[dict[str, Shown], list[Fault]]:
    """What the listeners with TLS show, by their addresses, and a fault for each file that is not good.

    Args:
        server: the settings.
        now: seconds since the epoch.
    """
    shown: dict[str, Shown] = {}
    faults: list[Fault] = []
    for index, listener in enumerate(server.listeners):
        tls = server.tls_of(listener)
        if tls is None:
            continue
        files = _Files(tls, _fields(index, listener), datetime.fromtimestamp(now, UTC))
        one = files.read()
        if one is not None:
            shown[str(listener.address)] = one
        faults += files.faults
    return shown, list(dict.fromkeys(faults))


def _fields(index: int, listener: ListenerSettings) -> dict[str, str]:
    """Where each file of a listener is named."""
    own = listener.tls.model_fields_set if listener.tls is not None else frozenset()
    return {name: f"server.listeners.{index}.tls.{name}" if name in own else f"server.tls.{name}" for name in _NAMES}


class _Files:
    """The files of one listener, and what is wrong with them."""

    def __init__(self, tls: TlsSettings, fields: dict[str, str], now: datetime) -> None:
        self._paths = {name: path for name in _NAMES if (path := getattr(tls, name)) is not None}
        self._fields = fields
        self._now = now
        self.faults: list[Fault] = []

    def read(self) -> Shown | None:
        """What they hold; None when something is wrong with them."""
        texts = {name: self._text(name) for name in self._paths}
        if self.faults:
            return None
        chain = self._certificates("certificate", texts["certificate"])
        self._check_times(chain)
        self._check_key(texts["key"], chain)
        if "client_ca" in texts:
            authorities = self._certificates("client_ca", texts["client_ca"])
            if authorities and all(one.not_valid_after_utc <= self._now for one in authorities):
                self._fault("client_ca", "every authority in it has expired, so no caller would be let in")
        if self.faults:
            return None
        credentials = Credentials(texts["certificate"], texts["key"], texts.get("client_ca"))
        return Shown(credentials, min(one.not_valid_after_utc for one in chain).timestamp())

    def _text(self, name: str) -> bytes:
        try:
            return Path(self._paths[name]).read_bytes()
        except OSError as error:
            self._fault(name, f"cannot be read: {error.strerror}")
            return b""

    def _certificates(self, name: str, text: bytes) -> list[x509.Certificate]:
        try:
            return x509.load_pem_x509_certificates(text)
        except ValueError:
            self._fault(name, "holds no certificate in PEM, which begins with -----BEGIN CERTIFICATE-----")
            return []

    def _check_times(self, chain: list[x509.Certificate]) -> None:
        for number, one in enumerate(chain):
            what = "the certificate" if number == 0 else f"certificate {number + 1} in it"
            if one.not_valid_after_utc <= self._now:
                self._fault("certificate", f"{what} expired at {one.not_valid_after_utc.isoformat()}")
            if one.not_valid_before_utc > self._now:
                self._fault("certificate", f"{what} is good only from {one.not_valid_before_utc.isoformat()}")

    def _check_key(self, text: bytes, chain: list[x509.Certificate]) -> None:
        try:
            public = load_pem_private_key(text, password=None).public_key()
        except TypeError:
            self._fault("key", "is locked with a password", "store it without; its file's mode keeps others out")
            return
        except (ValueError, UnsupportedAlgorithm):
            self._fault("key", "holds no private key in PEM")
            return
        if not _is_usable(public):
            way_out = f"make one of RSA with {_LEAST_RSA_BITS} bits or more, or of the curve P-256 or P-384"
            self._fault("key", "is of a kind that Envoy and gRPC do not take", way_out)
        elif chain and _bytes_of(public) != _bytes_of(chain[0].public_key()):
            way_out = "the listener's own certificate stands first in its file"
            self._fault("key", f"is not the key of {self._paths['certificate']}", way_out)

    def _fault(self, name: str, message: str, way_out: str = "") -> None:
        self.faults.append(Fault(message, str(self._paths[name]), field=self._fields[name], way_out=way_out))


def _is_usable(key: PublicKeyTypes) -> bool:
    if isinstance(key, rsa.RSAPublicKey):
        return key.key_size >= _LEAST_RSA_BITS
    return isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _CURVES)


def _bytes_of(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
