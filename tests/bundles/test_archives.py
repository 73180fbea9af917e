"""OPA's bundle archives: what is read of them, and what is refused."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path

import pytest

from mixer_py.policy.bundles.settings import BundleLimits
from tests.bundles.archives import MODULE, faults, pack, read, tar, whole


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "bundle.tar.gz"


def entry(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    return made


def test_only_what_opa_reads_is_read(place: Path) -> None:
    pack(place, {
        "/policy/p.rego": MODULE,
        "/policy/p_test.rego": "package envoy.authz_test\n",
        "./roles/data.json": '{"admins": ["ann"]}',
        "more/data.yaml": "since: 2026-01-02\n",
        "less/data.yml": "a: 1\n",
        "data.json": '{"top": 1}',
        "list/of/data.json": "[1, 2]",
        "other.json": '{"ignored": true}',
        "README.md": "text",
    })  # fmt: skip
    bundle = read(place)
    assert [module.file for module in bundle.modules] == [f"{place}/policy/p.rego"]
    assert whole(bundle) == {
        "top": 1, "roles": {"admins": ["ann"]}, "more": {"since": "2026-01-02"}, "less": {"a": 1},
        "list": {"of": [1, 2]},
    }  # fmt: skip


def test_numbers_stay_exactly_as_they_were_written(place: Path) -> None:
    pack(place, {"n/data.json": '{"big": 123456789012345678901234567890, "exact": 0.10000000000000000000001}'})
    (document,) = read(place).documents
    assert document.text == b'{"n":{"big": 123456789012345678901234567890, "exact": 0.10000000000000000000001}}'


def test_the_revision_is_told_and_changes_the_digest(place: Path) -> None:
    digests = set()
    for revision in ("one", "two"):
        pack(place, {"p.rego": MODULE, ".manifest": f'{{"revision": "{revision}", "metadata": {{"any": 1}}}}'})
        bundle = read(place)
        assert bundle.revisions == {str(place): revision}
        digests.add(bundle.digest)
    assert len(digests) == 2


@pytest.mark.parametrize("name", ["../p.rego", "a/../../p.rego", "a\\p.rego", ".."])
def test_a_path_that_leaves_the_bundle_is_refused(place: Path, name: str) -> None:
    pack(place, {name: MODULE})
    (fault,) = faults(place)
    assert "is no path within the bundle" in fault


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE]
)
def test_what_is_no_file_is_refused(place: Path, kind: bytes) -> None:
    pack(place, {"p.rego": MODULE}, [entry("q.rego", kind, "/etc/passwd")])
    (fault,) = faults(place)
    assert "'q.rego', which is a link, a device or another thing" in fault


@pytest.mark.parametrize("version", ["0.1", "0.0"])
def test_a_sparse_file_is_refused(place: Path, version: str) -> None:
    """It would unpack to a terabyte of zeros, of which none is in the archive."""
    sparse = tarfile.TarInfo("data.json")
    numbers = {"GNU.sparse.map": "0,0"} if version == "0.1" else {
        "GNU.sparse.offset": "0", "GNU.sparse.numbytes": "0", "GNU.sparse.numblocks": "1",
    }  # fmt: skip
    sparse.pax_headers = {**numbers, "GNU.sparse.size": str(1 << 40)}
    pack(place, {"p.rego": MODULE}, [sparse])
    (fault,) = faults(place)
    assert "holds 'data.json', which is a link, a device or another thing" in fault


def test_a_name_that_is_no_text_is_refused(place: Path, tmp_path: Path) -> None:
    place.write_bytes(gzip.compress(tar([("a\udcff/data.json", b"{}")])))
    (fault,) = faults(place)
    assert "whose name is no UTF-8 text" in fault
    folder = tmp_path / "folder"
    (folder / "a\udcff").mkdir(parents=True)
    (folder / "a\udcff" / "data.json").write_text("{}")
    (fault,) = faults(folder)
    assert "its name is no UTF-8 text" in fault


def test_a_file_that_comes_twice_is_refused(place: Path) -> None:
    place.write_bytes(gzip.compress(tar([("p.rego", MODULE.encode()), ("/./p.rego", b"package a\n")])))
    (fault,) = faults(place)
    assert "holds p.rego twice" in fault


def test_folders_are_no_entries_of_their_own(place: Path) -> None:
    pack(place, {"a/p.rego": MODULE}, [entry("/", tarfile.DIRTYPE), entry("a", tarfile.DIRTYPE)])
    assert faults(place) == []


def test_limits(place: Path) -> None:
    pack(place, {"p.rego": MODULE, "data.json": '{"a": "' + "x" * 1_000_000 + '"}'})
    assert place.stat().st_size < 10_000
    assert faults(place, limits=BundleLimits(unpacked=2_000_000, entries=2)) == []
    (bomb,) = faults(place, limits=BundleLimits(unpacked=500_000))
    assert "unpacks to more than policy.bundle_limits.unpacked, 500000" in bomb
    (large,) = faults(place, limits=BundleLimits(archive=100))
    assert "is larger than policy.bundle_limits.archive, 100" in large
    (many,) = faults(place, limits=BundleLimits(entries=1))
    assert "holds more than policy.bundle_limits.entries, 1" in many


def test_a_bomb_is_not_unpacked(place: Path) -> None:
    """A header may promise what never comes, and a stream may give more than its headers say."""
    header = entry("data.json", tarfile.REGTYPE)
    header.size = 1 << 40
    place.write_bytes(gzip.compress(header.tobuf() + b"{}"))
    (fault,) = faults(place)
    assert "damaged" in fault or "ends within" in fault
    place.write_bytes(gzip.compress(tar([("p.rego", MODULE.encode())]) + b"\0" * 3_000_000))
    (fault,) = faults(place, limits=BundleLimits(unpacked=1_000_000))
    assert "unpacks to more" in fault


def test_what_is_truncated_or_changed_is_refused_everywhere(place: Path) -> None:
    pack(place, {"p.rego": MODULE, "roles/data.json": '{"a": 1}'})
    content = place.read_bytes()
    for length in range(len(content)):
        place.write_bytes(content[:length])
        assert len(faults(place)) == 1, length
    for position in (*range(10, 60), len(content) - 6, len(content) - 2):
        changed = bytearray(content)
        changed[position] ^= 0x41
        place.write_bytes(changed)
        assert len(faults(place)) == 1, position


@pytest.mark.parametrize("content", [b"", b"package a\n", b"\x1f\x8b", gzip.compress(b"no tar" * 200)])
def test_what_is_no_archive_is_refused(place: Path, content: bytes) -> None:
    place.write_bytes(content)
    (fault,) = faults(place)
    assert fault.startswith(f"{place}: is no bundle archive, or a damaged one")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("patch.json", "is a delta bundle"),
        ("policy.wasm", "holds WebAssembly"),
        ("plan.json", "holds a plan"),
        (".manifest.pb", "has a manifest in protobuf"),
        ("sub/.manifest", "a manifest does not stand there"),
    ],
)
def test_what_cannot_be_used_is_named(place: Path, name: str, message: str) -> None:
    pack(place, {"p.rego": MODULE, name: "{}"})
    (fault,) = faults(place)
    assert fault.startswith(f"{place}/{name}: {message}")


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ("{", "invalid JSON"),
        ("[]", "a manifest must be an object"),
        ('{"roots": "a"}', "roots: is 'a', which is no list"),
        ('{"roots": [1]}', "roots: must be a list of texts"),
        ('{"roots": ["a", "a/b"]}', "the roots 'a' and 'a/b' overlap"),
        ('{"wasm": [{"entrypoint": "a"}]}', "names policies in WebAssembly"),
        ('{"rego_version": 2}', "p.rego: is written in Rego v2"),
        ('{"file_rego_versions": {"/p.r*": 3}}', "p.rego: is written in Rego v3"),
        ('{"file_rego_versions": {"a": "0"}}', "must map patterns of paths"),
        ('{"file_rego_versions": {"{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}": 1}}', "stands for too many others"),
    ],
)
def test_faults_of_a_manifest(place: Path, manifest: str, message: str) -> None:
    pack(place, {"p.rego": MODULE, ".manifest": manifest})
    (fault,) = faults(place)
    assert message in fault


@pytest.mark.parametrize(
    ("manifest", "default", "v0"),
    [
        ("{}", 0, {"p", "q"}),
        ("{}", 1, set()),
        ('{"rego_version": 0}', 1, {"p", "q"}),
        ('{"rego_version": 1}', 0, set()),
        ('{"rego_version": 1, "file_rego_versions": {"/p.r*": 0}}', 0, {"p"}),
        ('{"file_rego_versions": {"p.rego": 1}}', 0, {"q"}),
    ],
)
def test_the_version_of_rego_is_said_by_the_manifest_or_else_by_the_setting(
    place: Path, manifest: str, default: int, v0: set[str]
) -> None:
    texts = {name: f"package {name}\n\nx {'' if name in v0 else 'if '}{{ input.x }}\n" for name in ("p", "q")}
    pack(place, {**{f"{name}.rego": text for name, text in texts.items()}, ".manifest": manifest})
    modules = read(place, rego_version=default).modules
    assert [module.text.splitlines()[2] for module in modules] == ["x if { input.x }"] * 2


def test_versions_of_rego_that_are_the_same(place: Path) -> None:
    text = "package a\nimport rego.v1\n"
    versions = '{"rego_version": 0, "file_rego_versions": {"/{q,r}.rego": 1}}'
    pack(place, {"p.rego": text, "q.rego": "package b\n", ".manifest": versions})
    assert faults(place) == []


@pytest.mark.parametrize(
    ("files", "roots", "where"),
    [
        ({"p.rego": MODULE}, '["envoy/other"]', "p.rego: the package data.envoy.authz lies outside"),
        ({"p.rego": MODULE}, "[]", "the package data.envoy.authz lies outside"),
        ({"p.rego": 'package envoy["a\\u0062"]\n'}, '["envoy"]', "its package cannot be told"),
        ({"data.json": '{"envoy": {}, "x": {"y": 1}}'}, '["envoy"]', "data.json: the document data.x lies outside"),
        ({"x/data.json": '{"y": 1, "z": 2}'}, '["x/y"]', "x/data.json: the document data.x.z lies outside"),
        ({"x/data.json": "[1]"}, '["x/y"]', "the document data.x lies outside"),
    ],
)
def test_what_lies_outside_of_the_roots_is_refused(place: Path, files: dict[str, str], roots: str, where: str) -> None:
    pack(place, {**files, ".manifest": f'{{"roots": {roots}}}'})
    (fault,) = faults(place)
    assert where in fault


def test_what_lies_within_the_roots_is_read(place: Path) -> None:
    module = '# roots\n\n  package envoy["authz"].deep # here\nallow := true'
    roots = '{"roots": ["/envoy/authz/", "x/y"]}'
    pack(place, {"p.rego": module, "data.json": '{"x": {"y": {"z": 1}}}', "x/data.json": "{}", ".manifest": roots})
    assert whole(read(place)) == {"x": {"y": {"z": 1}}}


def test_two_archives_own_different_parts(tmp_path: Path) -> None:
    one = pack(tmp_path / "one.tar.gz", {"p.rego": MODULE, ".manifest": '{"roots": ["envoy"]}'})
    two = pack(tmp_path / "two.tgz", {"a/data.json": '{"c": 1}', ".manifest": '{"roots": ["a"]}'})
    assert whole(read(one, two)) == {"a": {"c": 1}}
    three = pack(tmp_path / "three.tar.gz", {"a/b/data.json": "{}", ".manifest": '{"roots": ["a/b"]}'})
    (fault,) = faults(one, two, three)
    assert fault.startswith(f"{three}: roots: owns data.a.b, and so does {two}")
    four = pack(tmp_path / "four.tar.gz", {"x/data.json": "{}"})
    assert len(faults(one, four)) == 1, "an archive that names no roots owns everything"
