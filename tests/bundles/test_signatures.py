"""Signatures of bundles: every algorithm, and everything that can be wrong with one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mixer_py.policy.bundles.signatures import Key
from tests.bundles.archives import MODULE, faults, pack, read, signatures, whole
from tests.bundles.conftest import Pair

FILES = {"p.rego": MODULE, "roles/data.json": '{"admins":["ann"],"n":1}', "README.md": "text"}
SECRET = "a secret that is long enough for every HMAC that there is, which is 64 octets"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "bundle.tar.gz"


def keys(pair: Pair, algorithm: str = "RS256", scope: str = "") -> dict[str, Key]:
    return {"k": Key(algorithm, pair.public_pem, scope)}


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512",
                                       "EdDSA", "HS256", "HS384", "HS512"])  # fmt: skip
def test_every_algorithm(place: Path, pairs: dict[str, Pair], algorithm: str) -> None:
    pair = pairs.get(algorithm) or pairs.get(algorithm[:2]) or Pair(SECRET, "", SECRET)
    pack(place, {**FILES, ".signatures.json": signatures(FILES, pair.private, algorithm)})
    assert whole(read(place, keys=keys(pair, algorithm))) == {"roles": {"admins": ["ann"], "n": 1}}
    pack(place, {**FILES, "p.rego": MODULE + "\n", ".signatures.json": signatures(FILES, pair.private, algorithm)})
    (fault,) = faults(place, keys=keys(pair, algorithm))
    assert fault.startswith(f"{place}: the signature of the bundle does not hold: p.rego is not what was signed")


@pytest.mark.parametrize("hashing", ["md5", "sha1", "sha224", "sha256", "sha384", "sha512", "sha512_224", "sha512_256"])
def test_every_hash(place: Path, rsa_pair: Pair, hashing: str) -> None:
    signed = signatures(FILES, rsa_pair.private, "RS256", hashing=hashing)
    pack(place, {**FILES, ".signatures.json": signed})
    assert faults(place, keys=keys(rsa_pair)) == []
    pack(place, {**FILES, "README.md": "txet", ".signatures.json": signed})
    assert len(faults(place, keys=keys(rsa_pair))) == 1


def test_a_certificate_is_a_key(place: Path, rsa_pair: Pair) -> None:
    pack(place, {**FILES, ".signatures.json": signatures(FILES, rsa_pair.private, "RS256")})
    assert faults(place, keys={"k": Key("RS256", rsa_pair.certificate, "")}) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, ""),
        ({"q.rego": "package q\n"}, "q.rego is not signed"),
        ({"p.rego": None}, "p.rego is signed, and is not there"),
        ({"p.rego": MODULE.replace("true", "null")}, "p.rego is not what was signed"),
        ({"roles/data.json": '{"n": 1.0, "admins": ["ann"]}'}, "roles/data.json is not what was signed"),
        ({"roles/data.json": '{ "n": 1,\n "admins": ["ann"]}'}, ""),
        ({".signatures.json": None}, "the bundle is not signed"),
        ({".signatures.json": '{"signatures": []}'}, "does not hold exactly one token"),
        ({".signatures.json": '{"signatures": ["a", "b"]}'}, "does not hold exactly one token"),
        ({".signatures.json": '{"signatures": ["a.b"]}'}, "it is no JSON Web Token"),
        ({".signatures.json": '{"signatures": ["a", "b"], "plugin": "mine"}'}, "made by the plugin 'mine'"),
        ({".signatures.json": "{"}, ".signatures.json is no JSON"),
    ],
)
def test_whatever_is_changed_is_found(place: Path, rsa_pair: Pair, change: dict[str, str | None], message: str) -> None:
    files = {**FILES, ".signatures.json": signatures(FILES, rsa_pair.private, "RS256"), **change}
    pack(place, {name: text for name, text in files.items() if text is not None})
    found = faults(place, keys=keys(rsa_pair))
    assert [message in fault for fault in found] == [True] * bool(message), found


def test_a_token_of_another_key_or_algorithm_is_refused(place: Path, rsa_pair: Pair, other_rsa_pair: Pair) -> None:
    pack(place, {**FILES, ".signatures.json": signatures(FILES, other_rsa_pair.private, "RS256")})
    assert "it was made with another key" in faults(place, keys=keys(rsa_pair))[0]
    pack(place, {**FILES, ".signatures.json": signatures(FILES, rsa_pair.private, "RS384")})
    assert "it was made with another key" in faults(place, keys=keys(rsa_pair, "RS256"))[0]
    pack(place, {**FILES, ".signatures.json": signatures(FILES, SECRET, "HS256")})
    assert "the key cannot verify it" in faults(place, keys={"k": Key("RS256", "no PEM", "")})[0]
    unsigned = signatures(FILES, None, "none")
    pack(place, {**FILES, ".signatures.json": unsigned})
    assert "it was made with another key" in faults(place, keys=keys(rsa_pair))[0]


def test_the_public_key_is_no_secret_of_an_hmac(place: Path, rsa_pair: Pair) -> None:
    """The algorithm is the configured one: the well-known confusion of RS256 with HS256 changes nothing."""
    import base64
    import hashlib
    import hmac

    token = json.loads(signatures(FILES, SECRET, "HS256"))["signatures"][0].rpartition(".")[0]
    mac = hmac.new(rsa_pair.public_pem.encode(), token.encode(), hashlib.sha256).digest()
    forged = f"{token}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
    pack(place, {**FILES, ".signatures.json": json.dumps({"signatures": [forged]})})
    assert "it was made with another key" in faults(place, keys=keys(rsa_pair))[0]


@pytest.mark.parametrize(
    ("kid", "claims", "good"),
    [
        ("k", {}, True),
        (None, {"keyid": "k"}, True),
        ("unknown", {}, False),
        (None, {}, False),
        ("other", {}, False),
    ],
)
def test_the_token_names_its_key(
    place: Path, rsa_pair: Pair, other_rsa_pair: Pair, kid: str | None, claims: dict[str, str], *, good: bool
) -> None:
    pack(place, {**FILES, ".signatures.json": signatures(FILES, rsa_pair.private, "RS256", kid=kid, **claims)})
    both = {**keys(rsa_pair), "other": Key("RS256", other_rsa_pair.public_pem, "")}
    assert (faults(place, keys=both) == []) is good


def test_a_token_that_names_no_key_is_verified_by_the_only_one(place: Path, rsa_pair: Pair) -> None:
    pack(place, {**FILES, ".signatures.json": signatures(FILES, rsa_pair.private, "RS256", kid=None)})
    assert faults(place, keys=keys(rsa_pair)) == []


@pytest.mark.parametrize(("signed", "wanted", "good"), [("", "", True), ("read", "read", True), ("read", "", False),
                                                        ("", "read", False), ("write", "read", False)])  # fmt: skip
def test_the_scope_is_the_configured_one(place: Path, rsa_pair: Pair, signed: str, wanted: str, *, good: bool) -> None:
    claims: dict[str, Any] = {"scope": signed} if signed else {}
    pack(place, {**FILES, ".signatures.json": signatures(FILES, rsa_pair.private, "RS256", **claims)})
    found = faults(place, keys=keys(rsa_pair, scope=wanted))
    assert (found == []) is good
    assert good or "its scope is" in found[0]


def test_a_signed_bundle_without_a_key_is_refused_as_in_opa(place: Path, rsa_pair: Pair) -> None:
    pack(place, {**FILES, ".signatures.json": signatures(FILES, rsa_pair.private, "RS256")})
    (fault,) = faults(place)
    assert "there is no key to verify it with" in fault


def test_a_number_that_only_looks_the_same_is_read_as_it_was_signed(place: Path, rsa_pair: Pair) -> None:
    """2^64+1 and 2^64 are one float: what is used has to be the text that was signed."""
    signed = {"data.json": '{"n":1.8446744073709552e19}'}
    pack(place, {"data.json": '{"n": 18446744073709551617}',
                 ".signatures.json": signatures(signed, rsa_pair.private, "RS256")})  # fmt: skip
    found = faults(place, keys=keys(rsa_pair))
    if not found:
        (document,) = read(place, keys=keys(rsa_pair)).documents
        assert document.text == b'{"n":1.8446744073709552e19}'


def test_a_folder_is_verified_too(tmp_path: Path, rsa_pair: Pair) -> None:
    folder = tmp_path / "policy"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    assert "the bundle is not signed" in faults(folder, keys=keys(rsa_pair))[0]
    prefixed = {f"policy/{name}": text for name, text in FILES.items()}
    for signed in (FILES, prefixed):  # `opa sign -b .` and `opa sign -b policy`
        (folder / ".signatures.json").write_text(signatures(signed, rsa_pair.private, "RS256"))
        assert faults(folder, keys=keys(rsa_pair)) == []
    (folder / "q.rego").write_text("package q\n")
    assert "q.rego is not signed" in faults(folder, keys=keys(rsa_pair))[0]
    (folder / "q.rego").unlink()
    (folder / "p.rego").write_text("package p\n")
    assert "p.rego is not what was signed" in faults(folder, keys=keys(rsa_pair))[0]
    assert faults(folder) == []


def test_a_file_by_itself_cannot_be_signed(tmp_path: Path, rsa_pair: Pair) -> None:
    (tmp_path / "p.rego").write_text(MODULE)
    (fault,) = faults(tmp_path / "p.rego", keys=keys(rsa_pair))
    assert "is not signed" in fault
