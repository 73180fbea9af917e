"""The projected input decides as the whole one does, refuses what it refuses, and tells apart what is read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
import regorus
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest
from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mixer_py.errors import EvaluationError, PolicyLoadError, RequestParseError
from mixer_py.policy.bundles.reading import read_bundles
from mixer_py.policy.document.input import InputBuilder
from mixer_py.policy.document.projection import Projection
from mixer_py.policy.engines.embedded import EmbeddedEngine
from mixer_py.policy.engines.protocol import NoWatch
from tests.policy.generated_policies import PATHS, policies, requests

INPUTS = InputBuilder()
DECISION = "generated/found"
GIVEN_WHOLE = {"parsed_body", "version"}
"""A body is given as the text that it is, and the version is always the same."""


def widest(paths: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    return [path for path in paths if not any(path[:depth] in paths for depth in range(len(path)))]


def restrict(document: object, paths: list[tuple[str, ...]]) -> object:
    """What the paths name of a document, and the objects on the way there."""
    if not isinstance(document, dict) or () in paths:
        return document
    below: dict[str, list[tuple[str, ...]]] = {}
    for path in paths:
        below.setdefault(path[0], []).append(path[1:])
    return {name: restrict(document[name], rest) for name, rest in below.items() if name in document}


@settings(max_examples=300, deadline=None)
@given(request=requests(), paths=st.lists(st.sampled_from(PATHS), unique=True, max_size=4))
def test_it_is_the_whole_document_at_its_paths(request: CheckRequest, paths: list[tuple[str, ...]]) -> None:
    wide = widest(paths)
    known = [path[:1] if path[0] in GIVEN_WHOLE else path for path in wide]
    projected = orjson.loads(Projection(wide, INPUTS).build(request))
    assert projected == restrict(orjson.loads(INPUTS.build(request)), known)


def interpret(policy: str, text: str) -> object:
    """The decision in the interpreter."""
    engine = regorus.Engine()
    engine.add_policy("policy.rego", policy)
    engine.add_policy("value.rego", "package own\n\nvalue := [data.generated.found]\n")
    engine.set_input_json(text)
    try:
        return engine.eval_rule_as_json("data.own.value")
    except RuntimeError as error:
        return str(error).partition("Stack backtrace")[0]


async def evaluate(engine: EmbeddedEngine, text: str) -> object:
    """The decision and the tier that made it; errors too are the same or not."""
    try:
        evaluation = await engine.evaluate(DECISION, text)
    except EvaluationError as error:
        return type(error)
    return evaluation.value, evaluation.tier


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(policy=policies(), some_requests=st.lists(requests(), min_size=6, max_size=6))
def test_it_decides_as_the_whole_document(tmp_path: Path, policy: str, some_requests: list[CheckRequest]) -> None:
    file = tmp_path / "policy.rego"
    file.write_text(policy, encoding="utf-8")
    try:
        engine = EmbeddedEngine(read_bundles((str(file),)), [DECISION], NoWatch())
    except PolicyLoadError as error:
        pytest.fail(f"{error}\n{policy}")
    reads = engine.reads(DECISION)
    if reads.input is None:
        return
    projection = Projection(reads.input, INPUTS)
    for request in (*some_requests, CheckRequest()):
        whole, part = INPUTS.build(request), projection.build(request)
        note = f"{policy}\nreads {reads.input}\nwhole {whole}\npart {part}"
        assert asyncio.run(evaluate(engine, part)) == asyncio.run(evaluate(engine, whole)), note
        assert interpret(policy, part) == interpret(policy, whole), note


BAD_REQUESTS = {
    "an escape in the path": {"path": "/%zz"},
    "an escape in the query": {"path": "/?a=%zz"},
    "a semicolon in the query": {"path": "/?a;b"},
    "a body": {"body": "{", "headers": {"content-type": "application/json"}},
    "a body that is too deep": {"body": "[" * 121 + "]" * 121, "headers": {"content-type": "application/json"}},
    "a body's length": {"body": "{}", "headers": {"content-type": "application/json", "content-length": "many"}},
    "a form": {"body": "a=%zz", "headers": {"content-type": "application/x-www-form-urlencoded"}},
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
@pytest.mark.parametrize("reads", [(), (("parsed_path",),), (("parsed_query", "a"),), (("truncated_body",),)])
def test_a_bad_request_is_refused_whatever_is_read(case: str, reads: tuple[tuple[str, ...], ...], make_request) -> None:
    request = make_request(**BAD_REQUESTS[case])
    with pytest.raises(RequestParseError) as whole:
        INPUTS.build(request)
    with pytest.raises(RequestParseError) as part:
        Projection(reads, INPUTS).build(request)
    assert str(part.value) == str(whole.value)


def test_bodies_that_are_not_parsed_refuse_nothing(make_request) -> None:
    inputs = InputBuilder(skip_request_body_parse=True)
    request = make_request(**BAD_REQUESTS["a body"])
    assert Projection([("parsed_body",), ("truncated_body",)], inputs).build(request) == "{}"


def test_equal_reads_are_equal_texts(make_request) -> None:
    names = [f"x-{number}" for number in range(50)]
    first = make_request("/?b=1&a=2", headers=dict.fromkeys(names, "v"))
    second = make_request("/?a=2&b=1", headers=dict.fromkeys(reversed(names), "v"))
    for paths in ([("attributes", "request", "http", "headers")], [("parsed_query",)], [("attributes",)]):
        first.attributes.request.http.path = second.attributes.request.http.path = "/"
        if paths == [("parsed_query",)]:
            first.attributes.request.http.path, second.attributes.request.http.path = "/?b=1&a=2", "/?a=2&b=1"
        projection = Projection(paths, INPUTS)
        assert projection.build(first) == projection.build(second)


@pytest.mark.parametrize(
    ("paths", "text"),
    [
        ([], "{}"),
        ([("nothing",), ("attributes", "nothing")], '{"attributes":{}}'),
        ([("attributes", "request", "http", "method")], '{"attributes":{"request":{"http":{"method":"GET"}}}}'),
        (
            [("attributes", "request", "http", "headers", "authorization"), ("parsed_path",)],
            '{"attributes":{"request":{"http":{"headers":{}}}},"parsed_path":["a","b"]}',
        ),
        ([("source_principal",), ("version",)], '{"version":{"ext_authz":"v3","encoding":"protojson"}}'),
        ([("parsed_query", "q"), ("parsed_query", "none")], '{"parsed_query":{"q":["1"]}}'),
    ],
)
def test_the_text_of_a_request(paths: list[tuple[str, ...]], text: str, make_request) -> None:
    assert Projection(paths, INPUTS).build(make_request("/a/b?q=1&r=2", headers={"x-other": "1"})) == text


CASES = Path(__file__).parents[1] / "cases" / "ext_authz"
DISTINCT = {path.read_bytes(): path for path in sorted(CASES.glob("*/request.json"))}
"""The requests of the cases, each once."""


def places(document: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of everything in a document that is reached by names alone."""
    if isinstance(document, dict) and path[:1] not in {(name,) for name in GIVEN_WHOLE}:
        for name, member in document.items():
            yield (*path, name)
            yield from places(member, (*path, name))


@pytest.mark.parametrize("file", DISTINCT.values(), ids=lambda file: file.parent.name)
def test_every_place_of_a_request_can_be_read_alone(file: Path) -> None:
    request = json_format.Parse(file.read_bytes(), CheckRequest())
    try:
        whole = orjson.loads(INPUTS.build(request))
    except RequestParseError:
        with pytest.raises(RequestParseError):
            Projection([], INPUTS).build(request)
        return
    assert orjson.loads(Projection([(name,) for name in whole], INPUTS).build(request)) == whole
    for path in places(whole):
        part = Projection([path], INPUTS).build(request)
        assert orjson.loads(part) == restrict(whole, [path]), path
