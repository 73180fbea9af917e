"""Whether certificates that the configuration names can be read, belong to their keys, and are valid for a while."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509

from mixer_py.config import Configuration
from mixer_py.doctor.finding import Finding, fault, good, warning

_SOON: Final = timedelta(days=14)


def examine_certificates(configuration: Configuration) -> Iterator[Finding]:
    """Looks at those of listeners, of the counter store and of the OPA server; each file once."""
    pairs: dict[tuple[str, str | None], str] = {}
    for index, listener in enumerate(configuration.server.listeners):
        tls = configuration.server.tls_of(listener)
        if tls is None or tls.certificate is None:
            continue
        pairs.setdefault((tls.certificate, tls.key), f"server.listeners.{index}.tls.certificate")
        if tls.client_ca is not None:
            pairs.setdefault((tls.client_ca, None), f"server.listeners.{index}.tls.client_ca")
    redis = configuration.rate_limit.redis.tls
    others = {
        "rate_limit.redis.tls.certificate": (redis.certificate, redis.key),
        "rate_limit.redis.tls.ca": (redis.ca, None),
        "policy.opa.ca": (configuration.policy.opa.ca, None),
        "policy.fetch.ca": (configuration.policy.fetch.ca, None),
    }
    for place, (certificate, key) in others.items():
        if certificate is not None:
            pairs.setdefault((certificate, key), place)
    for (file, its_key), place in pairs.items():
        yield from _file(Path(file), None if its_key is None else Path(its_key), place)


def _file(file: Path, key: Path | None, place: str) -> Iterator[Finding]:
    subject = f"certificate {file}"
    try:
        certificates = x509.load_pem_x509_certificates(file.read_bytes())
    except OSError as error:
        yield fault(subject, f"cannot be read: {error.strerror}", "let this user read it, or name another", place)
        return
    except ValueError as error:
        yield fault(subject, f"holds no certificate in PEM: {error}", "write BEGIN CERTIFICATE … there", place)
        return
    if key is not None:
        problem = _pair(file, key)
        if problem:
            yield fault(subject, problem, "name the key that it was made with", place)
            return
    yield from _times(subject, certificates, place)


def _pair(file: Path, key: Path) -> str:
    """Why a certificate and a key cannot be used together; empty when they can."""
    if not key.is_file():
        return f"its key {key} is not there"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(file, key, password=lambda: "")
    except PermissionError:
        return f"this user may not read its key {key}"
    except (ssl.SSLError, OSError) as error:
        return f"does not belong to the key {key}, or that cannot be used: {error}"
    return ""


def _times(subject: str, certificates: list[x509.Certificate], place: str) -> Iterator[Finding]:
    now = datetime.now(UTC)
    first = min(certificates, key=lambda one: one.not_valid_after_utc)
    ends = f"{first.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    name = first.subject.rfc4514_string()
    begins = max(one.not_valid_before_utc for one in certificates)
    if first.not_valid_after_utc < now:
        yield fault(subject, f"{name} has been invalid since {ends}", "renew it; mixer takes it when it changes", place)
    elif begins > now:
        message = f"is valid from {begins:%Y-%m-%d %H:%M} UTC on only"
        yield fault(subject, message, "see the clocks here and where it was made", place)
    elif first.not_valid_after_utc < now + _SOON:
        yield warning(subject, f"{name} is valid until {ends} only", "renew it; mixer takes it when it changes", place)
    else:
        yield good(subject, f"is valid until {ends}", place)
