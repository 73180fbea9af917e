"""The projected input decides as the whole one does, refuses what it refuses, and tells apart what is read."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pytest
import regorus
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mixer_py.errors import EvaluationError, PolicyLoadError
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
@given(request=requests(), paths=st.lists(st.sampled_from(PATHS), unique=True))
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


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(policy=policies(), some_requests=st.lists(requests(), min_size=3, max_size=6))
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
    for request in some_requests:
        whole, part = INPUTS.build(request), projection.build(request)
        note = f"{policy}\nreads {reads.input}\nwhole {whole}\npart {part}"
        assert asyncio.run(evaluate(engine, part)) == asyncio.run(evaluate(engine, whole)), note
        assert interpret(policy, part) == interpret(policy, whole), note
