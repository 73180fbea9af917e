"""Data documents have the types that OPA gives to their values, and the canonical form is OPA's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mixer_py.errors import PolicyLoadError
from mixer_py.policy.bundles.canonical import exact_json, of_values, quick_json
from mixer_py.policy.bundles.documents import read_document, read_yaml
from mixer_py.policy.bundles.packages import package_of
from mixer_py.policy.bundles.reading import read_bundles


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2026-01-02", "2026-01-02"),
        ("yes", "yes"),
        ("off", "off"),
        ("True", True),
        ("false", False),
        ("~", None),
        ("", None),
        ("12", 12),
        ("-12", -12),
        ("1_000", 1000),
        ("0x1F", 31),
        ("0o17", 15),
        ("017", 15),
        ("0b101", 5),
        ("1.50", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("1:20", "1:20"),
        ('"12"', "12"),
        ("18446744073709551616", 18446744073709551616.0),
    ],
)
def test_yaml_has_opas_types(text: str, value: object) -> None:
    found = read_yaml(f"a: {text}\n".encode())["a"]
    assert found == value
    assert type(found) is type(value)


def test_keys_of_yaml_are_texts() -> None:
    assert read_yaml(b"1: a\ntrue: b\n~: c\n2.5: d\n") == {"1": "a", "true": "b", "null": "c", "2.5": "d"}


@pytest.mark.parametrize(
    "text", ["a: !!python/object/apply:os.system [ls]", "a: !!binary aGk=", "a: .inf\nb: [", "a: 1\na: 2", "a: &a [*a]"]
)
def test_yaml_that_is_no_data_is_refused(text: str) -> None:
    with pytest.raises(PolicyLoadError):
        read_document(text.encode(), "data.yaml", is_json=False)


def test_yaml_that_would_fill_the_memory_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(PolicyLoadError, match="its aliases make it far larger"):
        read_document("\n".join(lines).encode(), "data.yaml", is_json=False)


def test_yaml_that_would_use_up_the_stack_is_refused() -> None:
    with pytest.raises(PolicyLoadError, match="nested more than 500 deep"):
        read_document(b"a: " + b"[" * 100_000, "data.yaml", is_json=False)


def test_json_that_is_nested_too_deeply_is_refused() -> None:
    with pytest.raises(PolicyLoadError):
        read_document(b"[" * 100_000 + b"]" * 100_000, "data.json", is_json=True)


@pytest.mark.parametrize(
    ("number", "text"),
    [(1.0, "1"), (1.5, "1.5"), (1e30, "1e+30"), (1e-7, "1e-7"), (1e20, "100000000000000000000"), (1.25e21, "1.25e+21"),
     (-0.000001, "-0.000001"), (1e-10, "1e-10"), (10**25, "1e+25")],
)  # fmt: skip
def test_floats_are_written_as_go_writes_them(number: float, text: str) -> None:
    assert of_values([number]) == f"[{text}]".encode()


def test_the_canonical_form_keeps_numbers_and_orders_keys() -> None:
    text = '{"b": [1.10, 1e3, -0, 123456789012345678901234567890], '
    text += '"a<&>": "x\\u2028y\\u0007\\b\\u00e9\\/\\"\\\\", "": null}'
    wanted = '{"":null,"a<&>":"x\\u2028y\\u0007\\bé/\\"\\\\","b":[1.10,1e3,-0,123456789012345678901234567890]}'
    assert exact_json(text.encode()).decode() == wanted


def test_the_quick_form_is_the_exact_one_for_plain_numbers() -> None:
    document = {"z": [1, 2.5, True, None, "é\u2028\u2029\x00\x1f\x7f\t"], "a": {"\U0001f600": -1, "\uffff": 2}}
    text = json.dumps(document).encode()
    assert quick_json(text) == exact_json(text)


@pytest.mark.parametrize(
    ("text", "package"),
    [
        ("package a", ("a",)),
        ("# c\n\n\tpackage a.b_1 # d\nallow := 1", ("a", "b_1")),
        ('package a["b-c"].d\n', ("a", "b-c", "d")),
        ("packages a", None),
        ("package", None),
        ("package 1", None),
        ("package a.", None),
        ('package a["b\\"]', None),
        ("package a-b", None),
        ("import rego.v1\npackage a", None),
        ("\ufeffpackage a", None),
    ],
)
def test_the_package_of_a_module(text: str, package: tuple[str, ...] | None) -> None:
    assert package_of(text) == package


def test_a_document_is_looked_at_only_where_it_can_hold_something(tmp_path: Path) -> None:
    for name, text in {"data.json": '{"top": 1}', "a/b/data.json": '{"c": {"d": 1}}'}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    bundle = read_bundles([str(tmp_path)])
    assert bundle.data_at([("envoy", "authz")]) == {}
    assert bundle.data_at([("a", "x")]) == {}
    assert bundle.data_at([("a", "b", "x")]) == {}
    assert bundle.data_at([("a",)]) == bundle.data_at([("a", "b", "c", "e")]) == {"a": {"b": {"c": {"d": 1}}}}
    assert bundle.data_at([("top", "x")]) == {"top": 1}
