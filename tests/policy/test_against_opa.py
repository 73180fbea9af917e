"""The embedded engine against a real OPA: the same policy and the same input document have the same value.

Compared is what the engines say, before a result is decoded: a value, undefined, or an error. An error's words are each
engine's own.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer_py.demo.processes import Ports
from mixer_py.errors import EvaluationError, RequestParseError, UndefinedDecisionError
from mixer_py.policy.bundles.reading import read_bundles, read_policy
from mixer_py.policy.document.input import InputBuilder
from mixer_py.policy.engines.embedded import EmbeddedEngine
from mixer_py.policy.engines.protocol import NoWatch
from mixer_py.policy.policy import Policy
from mixer_py.policy.settings import PolicySettings
from tests.parts.opa_server import Answer, Opa
from tests.parts.programs import Programs

pytestmark = pytest.mark.opa

ROOT = Path(__file__).parents[2]
FOLDERS = sorted(
    path.parent
    for path in (ROOT / "tests" / "cases" / "ext_authz").glob("*/policy.rego")
    if (path.parent / "request.json").exists()  # else it is about several requests, and what mixer counts of them
)
SAMPLE = ROOT / "policies" / "rbac" / "bundle"
SAMPLE_CASES = sorted(path.parent for path in SAMPLE.parent.glob("cases/*/request.json"))
DEMO = ROOT / "mixer_py" / "demo" / "files" / "policy.rego"
RESULT = "envoy/authz/result"


@pytest.fixture(scope="module")
def start_opa(module_programs: Programs, ports: Ports) -> Iterator[Callable[..., Opa]]:
    """Starts servers that end with the module."""
    started: list[Opa] = []

    def start(*paths: Path) -> Opa:
        started.append(Opa(module_programs, ports, paths))
        return started[-1]

    yield start
    for opa in started:
        opa.close()


@pytest.fixture(scope="module")
def empty_opa(start_opa: Callable[..., Opa]) -> Opa:
    return start_opa()


def evaluate(engine: EmbeddedEngine, decision: str, input_json: str) -> Answer:
    try:
        return Answer("value", asyncio.run(engine.evaluate(decision, input_json)).value)
    except RequestParseError:
        return Answer("unreadable")
    except UndefinedDecisionError:
        return Answer("undefined")
    except EvaluationError:
        return Answer("error")


def plain(answer: Answer) -> str:
    """An answer as text in which `true` is not `1`, `1` is not `1.0`, and the order of keys means nothing."""
    return f"{answer.kind} {json.dumps(answer.value, sort_keys=True)}"


def read_request(folder: Path) -> CheckRequest:
    return json_format.Parse((folder / "request.json").read_text(), CheckRequest())


@dataclass(frozen=True, slots=True)
class Pair:
    """Both engines with the same policies, which OPA has read by itself."""

    engine: EmbeddedEngine
    opa: Opa

    def assert_agreed(self, request: CheckRequest) -> Answer:
        """What both say."""
        input_json = InputBuilder().build(request)
        ours, theirs = evaluate(self.engine, RESULT, input_json), self.opa.evaluate(RESULT, input_json)
        assert plain(ours) == plain(theirs), input_json
        return ours


@pytest.fixture(scope="module")
def sample(start_opa: Callable[..., Opa]) -> Pair:
    return Pair(EmbeddedEngine(read_bundles([str(SAMPLE)]), [RESULT], NoWatch()), start_opa(SAMPLE))


@pytest.fixture(scope="module")
def demo(start_opa: Callable[..., Opa]) -> Pair:
    return Pair(EmbeddedEngine(read_bundles([str(DEMO)]), [RESULT], NoWatch()), start_opa(DEMO))


METHODS = st.sampled_from(["GET", "POST", "DELETE", "PUT", "get", ""])
SEGMENTS = st.sampled_from(
    ["people", "peoplé", "People", "admin", "%70eople", "a%2fpeople", "..", "", "7", "%ff", "%00"]
)
PATHS = st.lists(SEGMENTS, max_size=4).map("/".join)
QUERIES = st.sampled_from(["", "?", "?a=1&a=2&b", "?people=%e2%82%ac+x", "?=&a=%2f"])
NAMES = st.sampled_from([b"alice", b"bob", b"ann", b"Ann", b"an\xc3\xa9", b"ann\xff", b"\xff", b"", b"a\0"])
PASSWORDS = st.sampled_from([b"wonderland", b"builder", b"Builder", b"a:b", b"", b"\xff\xfe", b'"<&\xe2\x80\xa8'])
TOKENS = st.one_of(
    st.builds(lambda name, password: name + b":" + password, NAMES, PASSWORDS),
    st.binary(max_size=9),
).map(lambda token: base64.b64encode(token).decode())
# A header carries no control characters. A text without `=` is no base64 with stray bits before its padding either:
# OPA ignores those, the embedded engine does not (see test_builtins_against_opa.py, as for letters of other scripts).
SPOILT = st.one_of(
    TOKENS.map(lambda token: token.rstrip("=")),
    TOKENS.map(lambda token: token + "="),
    st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="="), max_size=6),
)
SCHEMES = st.sampled_from(["Basic ", "basic ", "BASIC ", "Basic  ", "Basic", "Bearer ", ""])
AUTHORIZATIONS = st.one_of(
    st.builds(lambda token: f"Basic {token}", TOKENS),
    st.builds(lambda scheme, token: scheme + token, SCHEMES, st.one_of(TOKENS, SPOILT)),
)
BODIES = st.one_of(
    st.none(),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=4),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=6,
    ),
)


@st.composite
def check_requests(draw: st.DrawFn) -> CheckRequest:
    """Requests close to those that the policies let through."""
    request = CheckRequest()
    http = request.attributes.request.http
    http.method, http.path = (
        draw(METHODS),
        draw(st.just("/") | st.just("//") | st.just("")) + draw(PATHS) + draw(QUERIES),
    )
    authorization = draw(st.none() | AUTHORIZATIONS)
    if authorization is not None:
        http.headers["authorization"] = authorization
    body = draw(BODIES)
    if body is not None:
        http.headers["content-type"] = "application/json"
        http.body = json.dumps(body)
    return request


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_case(folder: Path, empty_opa: Opa) -> None:
    policy, data = folder / "policy.rego", folder / "data.json"
    config = folder / "config.yaml"
    keys: dict[str, Any] = yaml.safe_load(config.read_text())["policy"] if config.exists() else {}
    if "proto_descriptor" in keys:
        keys["proto_descriptor"] = str(folder / keys["proto_descriptor"])
    files = tuple(str(file) for file in (policy, data) if file.exists())
    case = PolicySettings(bundles=files, **keys)
    bundle = read_policy(case)
    engine = EmbeddedEngine(bundle, [case.decision], NoWatch())
    try:
        input_json = Policy.load(case).inputs.build(read_request(folder))
    except RequestParseError:  # no engine sees it
        want = json.loads((folder / "want.json").read_text())
        assert want["response"]["deniedResponse"]["status"]["code"] == "BadRequest"
        return
    (module,) = bundle.modules  # in Rego v1, whatever it was written in
    with empty_opa.holding(module.text, data.read_text() if data.exists() else "{}"):
        theirs = empty_opa.evaluate(case.decision, input_json)
    assert plain(evaluate(engine, case.decision, input_json)) == plain(theirs)


@pytest.mark.parametrize("folder", SAMPLE_CASES, ids=lambda folder: folder.name)
def test_sample_case(folder: Path, sample: Pair) -> None:
    sample.assert_agreed(read_request(folder))


@given(check_requests())
@settings(max_examples=100, deadline=None)
def test_sample_policy(sample: Pair, generated: CheckRequest) -> None:
    sample.assert_agreed(generated)


@pytest.mark.parametrize(
    ("method", "token", "allowed"),
    [
        ("DELETE", b"alice:wonderland", True),
        ("GET", b"bob:builder", True),
        ("POST", b"bob:builder", False),
        ("GET", b"alice:builder", False),
    ],
)
def test_demo_case(demo: Pair, method: str, token: bytes, allowed: bool) -> None:
    request = CheckRequest()
    http = request.attributes.request.http
    http.method, http.path = method, "/reviews/1"
    http.headers["authorization"] = f"Basic {base64.b64encode(token).decode()}"
    answer = demo.assert_agreed(request)
    assert isinstance(answer.value, dict)
    assert answer.value["allowed"] is allowed


@given(check_requests())
@settings(max_examples=100, deadline=None)
def test_demo_policy(demo: Pair, generated: CheckRequest) -> None:
    demo.assert_agreed(generated)
