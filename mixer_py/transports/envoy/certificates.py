"""Certificates at a listener of Envoy: how it speaks TLS, what it shows, whom it believes, and whom it has met.

Envoy takes secrets from files that it watches, so that another certificate is shown to new connections while those that
there are stay. Not for: who may call, which `tls.py` judges.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from mixer_py.credentials import Credentials
from mixer_py.errors import ProcessError
from mixer_py.transports.envoy.files import HostFiles

Resource = Mapping[str, Any]

_TYPE: Final = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."
_OWN, _BELIEVED = "own", "believed"

CALLER: Final = b"x-forwarded-client-cert"
"""The header in which Envoy tells whose certificate it has verified; a caller's own is removed."""
_CERTIFICATE: Final = b'Cert="'
_MOST_KNOWN: Final = 1024


def transport_socket(files: HostFiles, name: str, *, authenticates: bool) -> Resource:
    """TLS 1.2 and up at a listener, with what `show` has written for it.

    No session is resumed: Envoy would let a caller in again by a certificate that has expired, or whose authority is
    believed no more.

    Args:
        files: of this Envoy.
        name: of the listener.
        authenticates: whether callers have to show a certificate.
    """
    common: dict[str, Any] = {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "alpn_protocols": ["h2"],
        "tls_certificate_sds_secret_configs": [_watched(files, name, _OWN)],
    }
    if authenticates:
        common["validation_context_sds_secret_config"] = _watched(files, name, _BELIEVED)
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{_TYPE}DownstreamTlsContext",
            "common_tls_context": common,
            "require_client_certificate": authenticates,
            "disable_stateless_session_resumption": True,
            "disable_stateful_session_resumption": True,
        },
    }


def show(files: HostFiles, name: str, credentials: Credentials) -> None:
    """Lets Envoy show these at a listener, and believe their `client_ca`, from the next connections on.

    Raises:
        ProcessError: the files cannot be written; Envoy goes on with those before.
    """
    own = {
        "certificate_chain": {"inline_bytes": _text(credentials.certificate)},
        "private_key": {"inline_bytes": _text(credentials.key)},
    }
    try:
        if credentials.client_ca is not None:  # first, for it may keep somebody out
            believed = {"trusted_ca": {"inline_bytes": _text(credentials.client_ca)}}
            _write(files, name, _BELIEVED, {"validation_context": believed})
        _write(files, name, _OWN, {"tls_certificate": own})
    except OSError as error:
        raise ProcessError(f"Envoy cannot be given its certificates: {error}") from error


@lru_cache(_MOST_KNOWN)
def caller_of(header: bytes) -> bytes:
    """The certificate in PEM that Envoy tells of; empty when there is none.

    It stands last in the header, behind names that are those of our own certificate.
    """
    _, found, certificate = header.rpartition(_CERTIFICATE)
    return unquote_to_bytes(certificate.removesuffix(b'"')) if found else b""


def _path(files: HostFiles, name: str, what: str) -> Path:
    return files.folder / f"{name}-{what}.json"


def _watched(files: HostFiles, name: str, what: str) -> Resource:
    source = {"path": str(_path(files, name, what)), "watched_directory": {"path": str(files.folder)}}
    return {
        "name": f"{name}-{what}",
        "sds_config": {"path_config_source": source, "resource_api_version": "V3"},
    }


def _write(files: HostFiles, name: str, what: str, content: Resource) -> None:
    secret = {"@type": f"{_TYPE}Secret", "name": f"{name}-{what}", **content}
    files.write_resources(_path(files, name, what), [secret])


def _text(pem: bytes) -> str:
    return base64.b64encode(pem).decode("ascii")
