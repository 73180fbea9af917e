"""Certificates, requests and private keys as OPA 1.22 gives them: in the form that Go gives them in JSON.

Numbers beyond 64 bits (serial numbers, public keys) are texts of digits, because the engine has no such numbers.
"""

from __future__ import annotations

import base64
import ipaddress
import warnings
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtensionOID, NameOID, SignatureAlgorithmOID

from mixer_py.policy.builtins.chains import USAGES

_NAMES: Final = {
    "Country": NameOID.COUNTRY_NAME,
    "Organization": NameOID.ORGANIZATION_NAME,
    "OrganizationalUnit": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "Locality": NameOID.LOCALITY_NAME,
    "Province": NameOID.STATE_OR_PROVINCE_NAME,
    "StreetAddress": NameOID.STREET_ADDRESS,
    "PostalCode": NameOID.POSTAL_CODE,
}
_SIGNATURES: Final = {
    SignatureAlgorithmOID.RSA_WITH_MD5: 2,
    SignatureAlgorithmOID.RSA_WITH_SHA1: 3,
    SignatureAlgorithmOID.RSA_WITH_SHA256: 4,
    SignatureAlgorithmOID.RSA_WITH_SHA384: 5,
    SignatureAlgorithmOID.RSA_WITH_SHA512: 6,
    SignatureAlgorithmOID.DSA_WITH_SHA1: 7,
    SignatureAlgorithmOID.DSA_WITH_SHA256: 8,
    SignatureAlgorithmOID.ECDSA_WITH_SHA1: 9,
    SignatureAlgorithmOID.ECDSA_WITH_SHA256: 10,
    SignatureAlgorithmOID.ECDSA_WITH_SHA384: 11,
    SignatureAlgorithmOID.ECDSA_WITH_SHA512: 12,
    SignatureAlgorithmOID.ED25519: 16,
}
_PSS: Final = {"sha256": 13, "sha384": 14, "sha512": 15}
"""Go's numbers of the algorithms."""
_KEY_USAGES: Final = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
)
_HANDLED: Final = frozenset(
    {
        ExtensionOID.KEY_USAGE,
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.NAME_CONSTRAINTS,
        ExtensionOID.CRL_DISTRIBUTION_POINTS,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.CERTIFICATE_POLICIES,
        ExtensionOID.AUTHORITY_INFORMATION_ACCESS,
        ExtensionOID.POLICY_CONSTRAINTS,
        ExtensionOID.INHIBIT_ANY_POLICY,
        ExtensionOID.POLICY_MAPPINGS,
    }
)


def describe(certificate: x509.Certificate) -> dict[str, Any]:
    """A certificate, without `URIStrings`."""
    found = {extension.oid: extension.value for extension in certificate.extensions}
    basic = found.get(ExtensionOID.BASIC_CONSTRAINTS)
    has_basic = isinstance(basic, x509.BasicConstraints)
    length = (-1 if basic.path_length is None else basic.path_length) if isinstance(basic, x509.BasicConstraints) else 0
    return _common(certificate) | {
        **_identifiers(found),
        **_usages(found),
        **_policies(found),
        **_permitted(certificate, found.get(ExtensionOID.NAME_CONSTRAINTS)),
        "BasicConstraintsValid": has_basic,
        "IsCA": isinstance(basic, x509.BasicConstraints) and basic.ca,
        "MaxPathLen": length,
        "MaxPathLenZero": has_basic and length == 0,
        "Issuer": _name(certificate.issuer),
        "NotAfter": f"{certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%S}Z",
        "NotBefore": f"{certificate.not_valid_before_utc:%Y-%m-%dT%H:%M:%S}Z",
        "Raw": _encoded(certificate.public_bytes(Encoding.DER)),
        "RawIssuer": _encoded(certificate.issuer.public_bytes()),
        "RawTBSCertificate": _encoded(certificate.tbs_certificate_bytes),
        "SerialNumber": _serial_number(certificate),
        "UnhandledCriticalExtensions": [
            _oid(one.oid) for one in certificate.extensions if one.critical and one.oid not in _HANDLED
        ]
        or None,
        "Version": certificate.version.value + 1,
    }


def _common(signed: x509.Certificate | x509.CertificateSigningRequest) -> dict[str, Any]:
    """What certificates and requests share."""
    key = signed.public_key()
    names = next((one.value for one in signed.extensions if isinstance(one.value, x509.SubjectAlternativeName)), None)
    return {
        **_alternative(names),
        **_public_key(key),
        "Extensions": [
            {"Critical": one.critical, "Id": _oid(one.oid), "Value": _encoded(one.value.public_bytes())}
            for one in signed.extensions
        ]
        or None,
        "ExtraExtensions": None,
        "RawSubject": _encoded(signed.subject.public_bytes()),
        "RawSubjectPublicKeyInfo": _encoded(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)),
        "Signature": _encoded(signed.signature),
        "SignatureAlgorithm": _signature(signed),
        "Subject": _name(signed.subject),
    }


def _identifiers(found: Mapping[x509.ObjectIdentifier, x509.ExtensionType]) -> dict[str, Any]:
    authority, subject = (
        found.get(ExtensionOID.AUTHORITY_KEY_IDENTIFIER),
        found.get(ExtensionOID.SUBJECT_KEY_IDENTIFIER),
    )
    access, points = (
        found.get(ExtensionOID.AUTHORITY_INFORMATION_ACCESS),
        found.get(ExtensionOID.CRL_DISTRIBUTION_POINTS),
    )
    descriptions = list(access) if isinstance(access, x509.AuthorityInformationAccess) else []
    uris = {
        method: [
            one.access_location.value
            for one in descriptions
            if one.access_method == method and isinstance(one.access_location, x509.UniformResourceIdentifier)
        ]
        for method in (AuthorityInformationAccessOID.OCSP, AuthorityInformationAccessOID.CA_ISSUERS)
    }
    revoked = [
        name.value
        for point in (points if isinstance(points, x509.CRLDistributionPoints) else ())
        for name in point.full_name or ()
        if isinstance(name, x509.UniformResourceIdentifier)
    ]
    return {
        "AuthorityKeyId": _optional(
            authority.key_identifier if isinstance(authority, x509.AuthorityKeyIdentifier) else None
        ),
        "SubjectKeyId": _optional(subject.digest if isinstance(subject, x509.SubjectKeyIdentifier) else None),
        "OCSPServer": uris[AuthorityInformationAccessOID.OCSP] or None,
        "IssuingCertificateURL": uris[AuthorityInformationAccessOID.CA_ISSUERS] or None,
        "CRLDistributionPoints": revoked or None,
    }


def _usages(found: Mapping[x509.ObjectIdentifier, x509.ExtensionType]) -> dict[str, Any]:
    usage, extended = found.get(ExtensionOID.KEY_USAGE), found.get(ExtensionOID.EXTENDED_KEY_USAGE)
    bits = 0
    if isinstance(usage, x509.KeyUsage):
        bits = sum(1 << index for index, name in enumerate(_KEY_USAGES) if getattr(usage, name))
        if usage.key_agreement:
            bits += (usage.encipher_only << 7) + (usage.decipher_only << 8)
    oids = list(extended) if isinstance(extended, x509.ExtendedKeyUsage) else []
    known = {oid: number for oid, number in ((one, _usage_number(one)) for one in oids) if number is not None}
    return {
        "KeyUsage": bits,
        "ExtKeyUsage": [known[oid] for oid in oids if oid in known] or None,
        "UnknownExtKeyUsage": [_oid(oid) for oid in oids if oid not in known] or None,
    }


def _usage_number(oid: x509.ObjectIdentifier) -> int | None:
    return USAGES.get(oid.dotted_string)


def _policies(found: Mapping[x509.ObjectIdentifier, x509.ExtensionType]) -> dict[str, Any]:
    policies, constraints, inhibit = (
        found.get(ExtensionOID.CERTIFICATE_POLICIES),
        found.get(ExtensionOID.POLICY_CONSTRAINTS),
        found.get(ExtensionOID.INHIBIT_ANY_POLICY),
    )
    oids = [one.policy_identifier for one in policies] if isinstance(policies, x509.CertificatePolicies) else []
    limits = {
        "InhibitAnyPolicy": inhibit.skip_certs if isinstance(inhibit, x509.InhibitAnyPolicy) else None,
        "InhibitPolicyMapping": getattr(constraints, "inhibit_policy_mapping", None),
        "RequireExplicitPolicy": getattr(constraints, "require_explicit_policy", None),
    }
    return {
        "Policies": [oid.dotted_string for oid in oids] or None,
        "PolicyIdentifiers": [_oid(oid) for oid in oids] or None,
        "PolicyMappings": None,
        **{name: limit or 0 for name, limit in limits.items()},
        **{f"{name}Zero": limit == 0 for name, limit in limits.items()},
    }


def _permitted(certificate: x509.Certificate, constraints: object) -> dict[str, Any]:
    critical = any(one.critical for one in certificate.extensions if one.oid == ExtensionOID.NAME_CONSTRAINTS)
    members: dict[str, Any] = {"PermittedDNSDomainsCritical": critical}
    for side in ("Permitted", "Excluded"):
        names = getattr(constraints, f"{side.lower()}_subtrees", None) or []
        members |= {
            f"{side}DNSDomains": [one.value for one in names if isinstance(one, x509.DNSName)] or None,
            f"{side}EmailAddresses": [one.value for one in names if isinstance(one, x509.RFC822Name)] or None,
            f"{side}URIDomains": [one.value for one in names if isinstance(one, x509.UniformResourceIdentifier)]
            or None,
            f"{side}IPRanges": [
                {"IP": str(one.value.network_address), "Mask": _encoded(one.value.netmask.packed)}
                for one in names
                if isinstance(one, x509.IPAddress)
                and isinstance(one.value, ipaddress.IPv4Network | ipaddress.IPv6Network)
            ]
            or None,
        }
    return members


def _alternative(names: x509.SubjectAlternativeName | None) -> dict[str, Any]:
    given = list(names) if names is not None else []
    return {
        "DNSNames": [one.value for one in given if isinstance(one, x509.DNSName)] or None,
        "EmailAddresses": [one.value for one in given if isinstance(one, x509.RFC822Name)] or None,
        "IPAddresses": [str(one.value) for one in given if isinstance(one, x509.IPAddress)] or None,
        "URIs": [_uri(one.value) for one in given if isinstance(one, x509.UniformResourceIdentifier)] or None,
    }


def _uri(text: str) -> dict[str, Any]:
    """A URI as Go's net/url would print it in JSON, where nothing in it is escaped."""
    parts = urlsplit(text)
    is_opaque = bool(parts.scheme) and not parts.netloc and not parts.path.startswith("/")
    return {
        "Scheme": parts.scheme,
        "Opaque": parts.path if is_opaque else "",
        "User": {} if "@" in parts.netloc else None,
        "Host": parts.netloc.rpartition("@")[2],
        "Path": "" if is_opaque else parts.path,
        "Fragment": parts.fragment,
        "RawQuery": parts.query,
        "RawPath": "",
        "RawFragment": "",
        "ForceQuery": False,
        "OmitHost": bool(parts.scheme) and not parts.netloc and parts.path.startswith("/"),
    }


def uri_strings(certificate: x509.Certificate) -> dict[str, object]:
    """The member that OPA adds to what Go gives."""
    names = next(
        (one.value for one in certificate.extensions if isinstance(one.value, x509.SubjectAlternativeName)), ()
    )
    return {"URIStrings": [one.value for one in names if isinstance(one, x509.UniformResourceIdentifier)] or None}


def _name(name: x509.Name) -> dict[str, Any]:
    def values(oid: x509.ObjectIdentifier) -> list[str]:
        return [str(one.value) for one in name.get_attributes_for_oid(oid)]

    return {
        **{member: values(oid) or None for member, oid in _NAMES.items()},
        "CommonName": (values(NameOID.COMMON_NAME) or [""])[-1],
        "SerialNumber": (values(NameOID.SERIAL_NUMBER) or [""])[-1],
        "Names": [{"Type": _oid(one.oid), "Value": str(one.value)} for one in name] or None,
        "ExtraNames": None,
    }


def _public_key(key: object) -> dict[str, Any]:
    match key:
        case rsa.RSAPublicKey():
            numbers = key.public_numbers()
            return {"PublicKeyAlgorithm": 1, "PublicKey": {"E": _number(numbers.e), "N": _number(numbers.n)}}
        case ec.EllipticCurvePublicKey():
            point = key.public_numbers()
            members: dict[str, Any] = {"Curve": {}, "X": _number(point.x), "Y": _number(point.y)}
            return {"PublicKeyAlgorithm": 3, "PublicKey": members}
        case ed25519.Ed25519PublicKey():
            return {"PublicKeyAlgorithm": 4, "PublicKey": _encoded(key.public_bytes_raw())}
    return {"PublicKeyAlgorithm": 0, "PublicKey": None}


def _signature(signed: x509.Certificate | x509.CertificateSigningRequest) -> int:
    if signed.signature_algorithm_oid == SignatureAlgorithmOID.RSASSA_PSS:
        algorithm = signed.signature_hash_algorithm
        return _PSS.get(algorithm.name, 0) if algorithm is not None else 0
    return _SIGNATURES.get(signed.signature_algorithm_oid, 0)


def describe_request(request: x509.CertificateSigningRequest) -> dict[str, Any]:
    """A certificate request."""
    return _common(request) | {
        "Attributes": _attributes(request),
        "Raw": _encoded(request.public_bytes(Encoding.DER)),
        "RawTBSCertificateRequest": _encoded(request.tbs_certrequest_bytes),
        "Version": 0,
    }


def _attributes(request: x509.CertificateSigningRequest) -> list[dict[str, Any]] | None:
    values = [
        {"Type": _oid(one.oid), "Value": _encoded(one.value.public_bytes())}
        | ({"Critical": True} if one.critical else {})
        for one in request.extensions
    ]
    return [{"Type": [1, 2, 840, 113549, 1, 9, 14], "Value": [values]}] if values else None


def private_jwk(key: object) -> dict[str, str]:
    """A private key as a JWK."""
    match key:
        case rsa.RSAPrivateKey():
            numbers = key.private_numbers()
            members = {
                "n": numbers.public_numbers.n,
                "e": numbers.public_numbers.e,
                "d": numbers.d,
                "p": numbers.p,
                "q": numbers.q,
                "dp": numbers.dmp1,
                "dq": numbers.dmq1,
                "qi": numbers.iqmp,
            }
            return {"kty": "RSA"} | {
                name: _encoded_url(number.to_bytes((number.bit_length() + 7) // 8)) for name, number in members.items()
            }
        case ec.EllipticCurvePrivateKey():
            size, point = (key.curve.key_size + 7) // 8, key.public_key().public_numbers()
            secret = key.private_numbers().private_value
            coordinates = {"x": point.x, "y": point.y, "d": secret}
            return {"kty": "EC", "crv": f"P-{key.curve.key_size}"} | {
                name: _encoded_url(number.to_bytes(size)) for name, number in coordinates.items()
            }
        case ed25519.Ed25519PrivateKey():
            public, private = key.public_key().public_bytes_raw(), key.private_bytes_raw()
            return {"kty": "OKP", "crv": "Ed25519", "x": _encoded_url(public), "d": _encoded_url(private)}
    raise TypeError("a key of an unknown kind")


def _oid(oid: x509.ObjectIdentifier) -> list[int]:
    return [int(part) for part in oid.dotted_string.split(".")]


def _serial_number(certificate: x509.Certificate) -> int | str:
    with warnings.catch_warnings():  # of one that is no good, which is not ours
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        return _number(certificate.serial_number)


def _number(number: int) -> int | str:
    return number if -(2**63) <= number < 2**63 else str(number)


def _optional(content: bytes | None) -> str | None:
    return None if content is None else _encoded(content)


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _encoded_url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
