"""References to what cannot be there are found, and no reference to what can."""

from __future__ import annotations

from pathlib import Path

import pytest
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest
from google.protobuf import json_format

from mixer_py.errors import RequestParseError
from mixer_py.policy.bundles.bundle import Module
from mixer_py.policy.bundles.reading import Terms, read_bundles
from mixer_py.policy.document.input import InputBuilder
from mixer_py.policy.explaining.interpreter import parse
from mixer_py.policy.rego.attributes import Shape, check_attributes, input_shape
from mixer_py.policy.rego.attributes_data import check_documents

ROOT = Path(__file__).parents[2]
REQUESTS = sorted([*ROOT.glob("tests/cases/ext_authz/*/request.json"), *ROOT.glob("policies/*/cases/*/request.json")])
POLICIES = sorted([*ROOT.glob("tests/cases/ext_authz/*/policy.rego"), *ROOT.glob("policies/*/bundle")])


def attributes(text: str) -> list[tuple[int, str]]:
    faults = check_attributes(parse([Module("p.rego", f"package p\n\n{text}\n")]), ["p/allow"])
    return [(fault.line, fault.way_out) for fault in faults]


def documents(text: str, data: dict[str, object], *fetched: str) -> list[tuple[int, str, str]]:
    faults = check_documents(parse([Module("p.rego", f"package p\n\n{text}\n")]), data, fetched)
    return [(fault.line, fault.message.rpartition(" ")[2], fault.way_out) for fault in faults]


def unknown(document: object, shape: Shape, path: str = "input") -> list[str]:
    """Places of a document that a shape has not."""
    if shape.open or not isinstance(document, dict):
        return []
    missing = [f"{path}.{key}" for key in document if key not in shape.members]
    below = [unknown(document[key], shape.members[key], f"{path}.{key}") for key in document if key in shape.members]
    return missing + [one for each in below for one in each]


def test_every_attribute_of_every_case_is_known() -> None:
    shape, seen = input_shape(), 0
    for file in REQUESTS:
        request = json_format.Parse(file.read_text(), CheckRequest())
        try:
            document = InputBuilder().document(request)
        except RequestParseError:
            continue
        seen += 1
        assert unknown(document, shape) == [], file
    assert seen > 100


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.parent.name)
def test_no_good_policy_is_blamed(path: Path) -> None:
    version = 0 if path.parent.name == "rego_v0" else 1
    trees = parse(read_bundles([str(path)], Terms(rego_version=version)).modules)
    assert check_attributes(trees, ["envoy/authz/allow", "envoy/authz/result"]) == []


@pytest.mark.parametrize(
    ("reference", "way_out"),
    [
        ("input.attributes.request.http.metod", "did you mean input.attributes.request.http.method?"),
        ("input.attributes.request.http.method.x", ""),
        ("input.atributes.request.http.method", "did you mean input.attributes?"),
        ("input.parsed_pth[0]", "did you mean input.parsed_path?"),
        ("input.method", "did you mean input.attributes.request.http.method?"),
        ("input.attributes.metadata_context", "did you mean input.attributes.metadataContext?"),
        ("input.attributes.source.qqq", "there are address, certificate, labels, principal, service"),
        (
            'input.attributes.request.http.headers["X-User"]',
            'did you mean input.attributes.request.http.headers["x-user"]?',
        ),
        ("input.attributes.request.http.headers.anything", None),
        ("input.attributes.contextExtensions.anything", None),
        ("input.attributes.metadataContext.filterMetadata.a.b.c", None),
        ("input.parsed_body.a.b", None),
        ("input.attributes.request.http[input.parsed_path[0]]", None),
        ("input.version.encoding", None),
        ("input.attributes.source.address.socketAddress.portValue", None),
    ],
)
def test_a_reference(reference: str, way_out: str | None) -> None:
    assert attributes(f"allow if {reference}") == ([] if way_out is None else [(3, way_out)])


def test_imports_rules_and_variables_are_other_names() -> None:
    text = (
        "import input.attributes.request.http as web\n\nallow if {\n\tweb.metod\n\trequest.tyme\n"
        "\tsource := input.attributes.source\n\tsource.principl\n}\n\nrequest := input.attributes.request\n"
    )
    assert [way_out.rpartition(".")[2] for _, way_out in attributes(text)] == ["method?", "principal?", "time?"]


def test_what_no_decision_reaches_may_be_for_another_input() -> None:
    assert attributes("allow if input.parsed_path\n\nother if input.review.object.kind") == []


def test_another_input_by_with_may_have_another_shape() -> None:
    assert attributes('allow if inner with input as {"user": "ann"}\n\ninner if input.user') == []


DATA: dict[str, object] = {"roles": {"users": {"ann": ["a"]}, "none": None}}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("x := data.roles.users.ann", None),
        ("x := data.roles.users[input.name]", None),
        ("x := data.roles.usrs", ("data.roles.usrs", "did you mean data.roles.users?")),
        ("x := data.rolls.users", ("data.rolls", "did you mean data.roles?")),
        ("x := data.roles.users.ann.first", None),
        ("x := data[input.name].y", None),
        ("x := data.p.y\n\ny := 1", None),
        ("x := data.p.y.z\n\ny := {}", None),
        ("x := data.p.f(1)\n\nf(n) := n", None),
        ("x := data.p.zz\n\nyy := 1", ("data.p.zz", "")),
        ("x := data.p", None),
        ("x := data.keys.jwks.keys", None),
        ("x := 1 if data.later.y == 2 with data.later.y as 2", ("data.later", "")),
        ("import data.roles as r\n\nx := r.usrs", ("data.roles.usrs", "did you mean data.roles.users?")),
        ("x[input.a] := 1\n\ny := data.p.x.anything", None),
    ],
)
def test_a_document(text: str, found: tuple[str, str] | None) -> None:
    faults = documents(text, DATA, "keys.jwks")
    assert [(name, way_out) for _, name, way_out in faults] == ([] if found is None else [found])
