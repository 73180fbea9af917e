"""Archives that a real OPA builds and signs are read as OPA reads them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import yaml

from mixer_py.policy.bundles.signatures import Key
from tests.bundles.archives import MODULE, faults, opa, read, whole
from tests.bundles.conftest import Pair

pytestmark = pytest.mark.opa

DATA = '{"admins": [1.10, 1e3, -0, 123456789012345678901234567890], "a<b": "x\\u2028y\\u0007\\b\\u00e9\\/"}'
YAML = "since: 2026-01-02\nn: 1\nf: 1.50\nb: yes\no: 0o17\nh: 0x1F\nbig: 1e30\n"
YAML += 's: "yes"\nnul: ~\n1: one\ntrue: t\nt: 1e-7\n'


@pytest.fixture
def folder(tmp_path: Path, rsa_pair: Pair) -> Path:
    """A bundle's folder, with a key beside it."""
    files = {"p.rego": MODULE, "p_test.rego": "package envoy.authz_test\n", "roles/data.json": DATA,
             "x/data.yaml": YAML, ".manifest": '{"revision": "r1", "roots": ["envoy", "roles", "x"]}'}  # fmt: skip
    for name, text in files.items():
        path = tmp_path / "policy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "private.pem").write_text(rsa_pair.private_pem)
    return tmp_path / "policy"


def test_a_built_bundle(folder: Path) -> None:
    opa("build", "-b", "policy", cwd=folder.parent)
    bundle = read(folder.parent / "bundle.tar.gz")
    assert list(bundle.revisions.values()) == ["r1"]
    assert [module.text for module in bundle.modules] == [MODULE]
    data = whole(bundle)
    assert data["x"] == {
        "since": "2026-01-02", "n": 1, "f": 1.5, "b": "yes", "o": 15, "h": 31, "big": 1e30, "s": "yes", "nul": None,
        "1": "one", "true": "t", "t": 1e-7,
    }  # fmt: skip
    assert whole(read(folder)) == data, "a folder is read as OPA builds it"


def test_a_signed_bundle(folder: Path, rsa_pair: Pair, other_rsa_pair: Pair) -> None:
    opa("build", "-b", "policy", "--signing-key", "private.pem", cwd=folder.parent)
    archive = folder.parent / "bundle.tar.gz"
    assert faults(archive, keys={"default": Key("RS256", rsa_pair.public_pem, "")}) == []
    assert len(faults(archive, keys={"default": Key("RS256", other_rsa_pair.public_pem, "")})) == 1
    assert len(faults(archive, keys={"other": Key("RS256", rsa_pair.public_pem, ""),
                                     "another": Key("RS256", rsa_pair.public_pem, "")})) == 1  # fmt: skip


@pytest.mark.parametrize("algorithm", ["RS512", "PS256", "ES256", "ES384", "HS512"])
def test_signatures_by_other_algorithms(folder: Path, pairs: dict[str, Pair], algorithm: str) -> None:
    secret = "a secret that is long enough for every HMAC that there is, which is 64 octets"
    pair = pairs.get(algorithm) or pairs.get(algorithm[:2]) or Pair(secret, secret, secret)
    (folder.parent / "key").write_text(pair.private_pem)
    opa("build", "-b", "policy", "--signing-key", "key", "--signing-alg", algorithm, cwd=folder.parent)
    assert faults(folder.parent / "bundle.tar.gz", keys={"default": Key(algorithm, pair.public_pem, "")}) == []


def test_a_scope_and_a_key_id_from_claims(folder: Path, rsa_pair: Pair) -> None:
    (folder.parent / "claims.json").write_text(json.dumps({"keyid": "release", "scope": "write"}))
    opa("build", "-b", "policy", "--signing-key", "private.pem", "--claims-file", "claims.json", cwd=folder.parent)
    archive = folder.parent / "bundle.tar.gz"
    assert faults(archive, keys={"release": Key("RS256", rsa_pair.public_pem, "write")}) == []
    assert "its scope is 'write'" in faults(archive, keys={"release": Key("RS256", rsa_pair.public_pem, "")})[0]


@pytest.mark.parametrize("named", [".", "policy"])
def test_a_signed_folder(folder: Path, rsa_pair: Pair, named: str) -> None:
    """YAML and exact numbers are hashed as OPA hashes them."""
    place = folder if named == "." else folder.parent
    opa("sign", "-b", named, "--signing-key", folder.parent / "private.pem", "-o", folder, cwd=place)
    keys = {"k": Key("RS256", rsa_pair.public_pem, "")}
    assert faults(folder, keys=keys) == []
    (folder / "x" / "data.yaml").write_text(YAML.replace("n: 1", "n: 2"))
    assert "x/data.yaml is not what was signed" in faults(folder, keys=keys)[0]


NUMBERS = (
    "0",
    "-0",
    "1.0",
    "1E5",
    "1e-7",
    "-0.10",
    "0.1e1",
    "12345678901234567890123",
    "18446744073709551616",
    "1e400",
)
CHARACTERS = "aZ0 \"\\/\b\f\n\r\t\x00\x1f\x7f<>&'é\u2028\u2029\ufeff\uffff\U0001f600:#-*!"


def random_document(random: Random, depth: int, number: Callable[[], str]) -> str:
    """JSON with whatever is hashed in a way of its own."""
    text = lambda: "".join(random.choices(CHARACTERS, k=random.randrange(5)))  # noqa: E731 (of this function)
    kind = random.randrange(7 if depth else 5)
    if kind == 5:
        return f"[{', '.join(random_document(random, depth - 1, number) for _ in range(random.randrange(4)))}]"
    if kind == 6:
        keys = {text() for _ in range(random.randrange(6))}
        members = (f"{json.dumps(key)} :{random_document(random, depth - 1, number)}" for key in keys)
        return f"{{{' ,'.join(members)}}}"
    return (json.dumps(text(), ensure_ascii=random.random() < 0.5), number(), "true", "false", "null")[kind]


def test_random_documents_are_hashed_as_opa_hashes_them(tmp_path: Path, rsa_pair: Pair) -> None:
    random = Random(20261124)
    folder = tmp_path / "policy"
    for index in range(60):
        place = folder / f"d{index}"
        place.mkdir(parents=True)
        exact = random_document(random, 4, lambda: random.choice(NUMBERS))
        (place / "data.json").write_text(f'{{"d": {exact}}}', encoding="utf-8")
        values = json.loads(random_document(random, 4, lambda: str(random.choice((0, -7, 1.5, 1e22, 1e-9, 2**63)))))
        (folder / f"y{index}").mkdir()
        written = yaml.safe_dump({"y": values}, allow_unicode=random.random() < 0.5)
        (folder / f"y{index}" / "data.yaml").write_text(written, encoding="utf-8")
    (tmp_path / "private.pem").write_text(rsa_pair.private_pem)
    opa("sign", "-b", "policy", "--signing-key", "private.pem", "-o", "policy", cwd=tmp_path)
    found = faults(folder, keys={"k": Key("RS256", rsa_pair.public_pem, "")})
    assert [fault for fault in found if "signature" in fault] == []


def test_what_is_built_for_another_engine_is_refused(folder: Path) -> None:
    opa("build", "-b", "policy", "-t", "plan", "-e", "envoy/authz/allow", cwd=folder.parent)
    assert "holds a plan" in faults(folder.parent / "bundle.tar.gz")[0]


def test_rego_v0_is_read_where_the_manifest_says_so(folder: Path) -> None:
    (folder / "p.rego").write_text("package envoy.authz\n\nallow { input.x }\n")
    (folder / "p_test.rego").unlink()
    opa("build", "-b", "policy", "--v0-compatible", cwd=folder.parent)
    assert faults(folder.parent / "bundle.tar.gz") == []
    (module,) = read(folder.parent / "bundle.tar.gz").modules
    assert "allow if {" in module.text
