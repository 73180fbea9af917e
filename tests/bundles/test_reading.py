"""Everything that a configuration names, put together; and what settings of bundles may say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mixer_py.config.secrets import secrets_of
from mixer_py.errors import PolicyLoadError
from mixer_py.policy.bundles.advice import advice
from mixer_py.policy.bundles.reading import read_policy
from mixer_py.policy.bundles.sources import bundle_source, copies_folder, data_source
from mixer_py.policy.policy import Policy
from mixer_py.policy.settings import PolicySettings
from tests.bundles.archives import MODULE, pack, signatures
from tests.bundles.conftest import Pair

URL = "https://bundles.example.com/mesh.tar.gz"
JWKS = "https://idp.example.com/jwks"


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., PolicySettings]:
    """Settings whose copies are in a folder of the test."""

    def make(**changes: Any) -> PolicySettings:
        fetch = {"folder": str(tmp_path / "copies"), **changes.pop("fetch", {})}
        return PolicySettings.model_validate({"bundles": [URL], "fetch": fetch, **changes})

    return make


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    (tmp_path / "copies").mkdir()
    return tmp_path / "copies"


def test_a_copy_is_read_under_the_name_of_its_url(settings: Callable[..., PolicySettings], copies: Path) -> None:
    pack(
        copies / bundle_source(URL).key, {"p.rego": MODULE, "roles/data.json": "[1]", ".manifest": '{"revision": "a"}'}
    )
    bundle = read_policy(settings())
    assert [module.file for module in bundle.modules] == [f"{URL}/p.rego"]
    assert bundle.revisions == {URL: "a"}
    assert bundle.missing == ()
    policy = Policy.load(settings())
    assert policy.bundle_revision == "a"
    described = policy.describe()
    assert described["bundle_revisions"] == {URL: "a"}
    assert described["not_fetched"] == []


def test_bundles_that_differ_in_their_query_only_are_two(settings: Callable[..., PolicySettings], copies: Path) -> None:
    urls = [f"{URL}?part={part}" for part in ("one", "two")]
    for url, root in zip(urls, ("one", "two"), strict=True):
        files = {"p.rego": f"package {root}\n", ".manifest": f'{{"roots": ["{root}"]}}'}
        pack(copies / bundle_source(url).key, files)
    assert len(read_policy(settings(bundles=urls)).modules) == 2


def test_what_was_never_fetched_is_named(settings: Callable[..., PolicySettings], tmp_path: Path) -> None:
    (tmp_path / "p.rego").write_text(MODULE)
    data = {"jwks": {"url": JWKS}}
    made = settings(bundles=[f"{URL}?secret=1", str(tmp_path / "p.rego")], data=data, data_hosts=["idp.example.com"])
    assert read_policy(made).missing == (URL, "policy.data.jwks")
    policy = Policy.load(made)
    assert policy.describe()["not_fetched"] == [URL, "policy.data.jwks"]
    assert policy.points[-1].tier == "none"


def test_a_copy_has_to_be_signed_as_well(settings: Callable[..., PolicySettings], copies: Path, rsa_pair: Pair) -> None:
    made = settings(bundle_keys={"k": {"key": rsa_pair.public_pem}})
    copy = copies / bundle_source(URL).key
    files = {"p.rego": MODULE}
    pack(copy, {**files, ".signatures.json": signatures(files, rsa_pair.private, "RS256")})
    assert len(read_policy(made).modules) == 1
    pack(copy, {"p.rego": MODULE + "\n", ".signatures.json": signatures(files, rsa_pair.private, "RS256")})
    with pytest.raises(PolicyLoadError, match=r"p\.rego is not what was signed"):
        read_policy(made)
    pack(copy, files)
    with pytest.raises(PolicyLoadError, match="the bundle is not signed"):
        read_policy(made)


@pytest.mark.parametrize("name", ["idp.jwks", "idp/jwks"])
def test_a_document_has_its_place_in_data(settings: Callable[..., PolicySettings], copies: Path, name: str) -> None:
    made = settings(bundles=[], data={name: {"url": JWKS}}, data_hosts=["idp.example.com"])
    (copies / data_source(name, made.data[name]).key).write_text('{"keys": [1.10]}')
    bundle = read_policy(made)
    assert [document.text for document in bundle.documents] == [b'{"idp":{"jwks":{"keys": [1.10]}}}']


def test_a_document_may_not_contradict_a_bundle(
    settings: Callable[..., PolicySettings], copies: Path, tmp_path: Path
) -> None:
    (tmp_path / "data.json").write_text('{"idp": {"jwks": {}, "other": 1}}')
    data = {"idp.other": {"url": JWKS}}
    made = settings(bundles=[str(tmp_path / "data.json")], data=data, data_hosts=["idp.example.com"])
    (copies / data_source("idp.other", made.data["idp.other"]).key).write_text("2")
    with pytest.raises(PolicyLoadError) as caught:
        read_policy(made)
    (fault,) = caught.value.faults
    assert str(fault) == f"policy.data.idp.other: data.idp.other is also set by {tmp_path / 'data.json'}"


def test_a_key_that_cannot_be_read_is_named(settings: Callable[..., PolicySettings], tmp_path: Path) -> None:
    made = settings(bundle_keys={"release": {"key": {"file": str(tmp_path / "away.pem")}}})
    with pytest.raises(PolicyLoadError, match=r"away\.pem: policy\.bundle_keys\.release: cannot be read"):
        read_policy(made)
    assert "bundle_keys.release.key" in [name for name, _ in secrets_of(made)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bundles": ["ftp://host/b.tar.gz"]}, "cannot be fetched; write a path, or a URL with http or https"),
        ({"bundles": ["https:///b.tar.gz"]}, "names no host"),
        ({"bundles": ["https://user:pass@host/b"]}, "must not hold a user or a password"),
        ({"bundles": ["https://host/b#x"]}, "has a fragment"),
        ({"bundles": ["https://host:99999/b"]}, "is no URL"),
        ({"data": {"jwks": {"url": JWKS}}}, "the host idp.example.com is not among policy.data_hosts; add it there"),
        ({"data": {"jwks": {"url": JWKS + ":8443"}}, "data_hosts": ["idp.example.com:1"]}, "not among"),
        ({"data": {"a..b": {"url": JWKS}}, "data_hosts": ["idp.example.com"]}, "is no place in data"),
        ({"data": {"a": {"url": JWKS, "refresh": "10ms"}}, "data_hosts": ["idp.example.com"]}, "at least 1s"),
        ({"data_hosts": ["https://idp.example.com"]}, "is no host"),
        ({"fetch": {"min_delay": "3s", "max_delay": "2s"}}, "min_delay must be above 0 and at most max_delay"),
        ({"fetch": {"timeout": "0s"}}, "timeout must be above 0"),
        ({"bundle_keys": {"k": {"key": "x", "algorithm": "none"}}}, "Input should be"),
    ],
)
def test_settings_that_cannot_work(settings: Callable[..., PolicySettings], changes: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        settings(**changes)


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"STATE_DIRECTORY": "/var/lib/one:/var/lib/two"}, Path("/var/lib/one")),
        ({"STATE_DIRECTORY": "relative", "XDG_STATE_HOME": "/x"}, None),
    ],
)
def test_where_copies_are_kept(environment: dict[str, str], folder: Path | None) -> None:
    assert copies_folder("/named", environment) == Path("/named")
    found = copies_folder(None, environment)
    assert found == folder or (folder is None and found in {Path("/var/lib/mixer"), Path("/x/mixer")})


def test_a_user_without_a_home_has_a_place_for_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.setattr("os.access", lambda *_: False)
    assert copies_folder(None, {}) == Path("/var/lib/mixer")


def test_advice(settings: Callable[..., PolicySettings], copies: Path, rsa_pair: Pair) -> None:
    plain, near = "http://bundles.example.com/mesh.tar.gz", "http://127.0.0.1:1/b.tar.gz"
    found = [str(fault) for fault in advice(settings(bundles=[plain, near, URL]))]
    assert len([text for text in found if "comes over http" in text]) == 1
    assert len([text for text in found if "there is no copy of" in text]) == 3
    for url in (plain, near, URL):
        (copies / bundle_source(url).key).touch()
    assert len(list(advice(settings(bundles=[plain, near, URL])))) == 1
    keys = {"k": {"key": rsa_pair.public_pem}}
    assert list(advice(settings(bundles=[plain, near, URL], bundle_keys=keys))) == []
