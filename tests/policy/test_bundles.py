"""Finding and reading the files of bundles."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mixer_py.errors import PolicyLoadError
from mixer_py.policy.bundles.reading import read_bundles
from mixer_py.policy.policy import Policy
from mixer_py.policy.settings import PolicySettings

MODULE = "package a\n"


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def names(paths: tuple[str, ...]) -> list[str]:
    return [Path(path).name for path in paths]


def test_data_is_rooted_by_its_folder(tmp_path: Path) -> None:
    write(tmp_path, **{
        "data.json": '{"top": 1}',
        "roles/data.json": '{"admins": ["ann"]}',
        "roles/more/data.yaml": "since: 2026-01-02\nn: 1\n",
        "p.rego": MODULE,
    })  # fmt: skip
    bundle = read_bundles([str(tmp_path)])
    assert bundle.data_at([()]) == {"top": 1, "roles": {"admins": ["ann"], "more": {"since": "2026-01-02", "n": 1}}}
    assert names(tuple(module.file for module in bundle.modules)) == ["p.rego"]


def test_a_data_file_that_is_named_itself_has_no_root(tmp_path: Path) -> None:
    write(tmp_path, **{"roles/data.json": '{"a": 1}'})
    assert read_bundles([str(tmp_path / "roles" / "data.json")]).data_at([()]) == {"a": 1}


def test_documents_of_several_bundles_are_merged(tmp_path: Path) -> None:
    write(tmp_path, **{"one/x/data.json": '{"a": {"b": 1}}', "two/x/data.json": '{"a": {"c": 2}}'})
    assert read_bundles([str(tmp_path / "one"), str(tmp_path / "two")]).data_at([()]) == {"x": {"a": {"b": 1, "c": 2}}}


def test_documents_that_contradict_name_each_other(tmp_path: Path) -> None:
    write(tmp_path, **{"one/data.json": '{"x": {"a": 1}}', "two/x/data.json": '{"a": 2}'})
    with pytest.raises(PolicyLoadError) as caught:
        read_bundles([str(tmp_path / "one"), str(tmp_path / "two")])
    (fault,) = caught.value.faults
    assert fault.message.startswith("data.x.a is also set by ")
    assert str(tmp_path / "one" / "data.json") in fault.message
    assert fault.file == str(tmp_path / "two" / "x" / "data.json")


def test_tests_hidden_files_and_other_files_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, **{
        "p.rego": MODULE,
        "p_test.rego": "package a_test\n",
        ".hidden.rego": "no rego",
        ".git/q.rego": "no rego",
        ".manifest": "{",
        "README.md": "text",
    })  # fmt: skip
    bundle = read_bundles([str(tmp_path)])
    assert names(tuple(module.file for module in bundle.modules)) == ["p.rego"]
    assert bundle.data_at([()]) == {}


def test_a_mounted_configmap_is_read_once(tmp_path: Path) -> None:
    write(tmp_path, **{"..2026_11/p.rego": MODULE, "..2026_11/data.json": '{"a": 1}'})
    (tmp_path / "..data").symlink_to("..2026_11")
    for name in ("p.rego", "data.json"):
        (tmp_path / name).symlink_to(Path("..data") / name)
    bundle = read_bundles([str(tmp_path)])
    assert len(bundle.modules) == 1
    assert bundle.data_at([()]) == {"a": 1}


def test_a_link_that_leads_back_ends(tmp_path: Path) -> None:
    write(tmp_path, **{"sub/p.rego": MODULE})
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    assert len(read_bundles([str(tmp_path)]).modules) == 1


def test_the_same_file_in_two_bundles_is_read_once(tmp_path: Path) -> None:
    write(tmp_path, **{"p.rego": MODULE})
    assert len(read_bundles([str(tmp_path), str(tmp_path / "p.rego")]).modules) == 1


@pytest.mark.parametrize(
    ("name", "text", "message", "line"),
    [
        ("data.json", '{\n "a": \n}', "invalid JSON", 3),
        ("data.json", "[1]", "a data document must be an object", 0),
        ("data.yaml", "a: 1\nb: [", "invalid YAML", 2),
        ("data.yaml", "3", "a data document must be an object", 0),
    ],
)
def test_bad_documents_are_named(tmp_path: Path, name: str, text: str, message: str, line: int) -> None:
    write(tmp_path, **{name: text})
    with pytest.raises(PolicyLoadError) as caught:
        read_bundles([str(tmp_path)])
    (fault,) = caught.value.faults
    assert message in fault.message
    assert Path(fault.file).name == name
    assert fault.line == line


def test_an_octet_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "p.rego").write_bytes(b"package a\xff")
    with pytest.raises(PolicyLoadError, match=r"p\.rego: cannot be read"):
        read_bundles([str(tmp_path)])


def test_missing_and_empty_bundles_and_other_files_are_faults(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("x")
    with pytest.raises(PolicyLoadError) as caught:
        read_bundles([str(tmp_path / "nowhere"), str(tmp_path / "empty"), str(tmp_path / "text.txt")])
    assert [fault.message for fault in caught.value.faults] == [
        "does not exist",
        "the folder holds no .rego, .json or .yaml file",
        "is neither a folder nor a file that holds policies or data",
    ]


def test_a_data_document_may_not_overlap_a_rule(tmp_path: Path) -> None:
    write(
        tmp_path,
        **{"p.rego": "package envoy.authz\n\nallow := false\n", "data.json": '{"envoy": {"authz": {"allow": true}}}'},
    )
    with pytest.raises(PolicyLoadError, match=r"p\.rego:3: .*data\.envoy\.authz\.allow"):
        Policy.load(PolicySettings(bundles=(str(tmp_path),)))


def test_the_digest_is_the_content_alone(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write(tmp_path, **{f"{folder}/a.rego": MODULE, f"{folder}/x/data.json": '{"a": 1}'})
    one, two = (read_bundles([str(tmp_path / folder)]).digest for folder in ("one", "two"))
    assert one == two
    os.rename(tmp_path / "two" / "x", tmp_path / "two" / "y")  # noqa: PTH104
    assert read_bundles([str(tmp_path / "two")]).digest != one
