"""Every sample policy in the embedded engine and in a real OPA, on requests made of the sample's own words.

The engine is asked twice: with the whole input document, and with the part of it that the decision reads.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest
from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mixer_py.demo.processes import Ports
from mixer_py.errors import EvaluationError, RequestParseError, UndefinedDecisionError
from mixer_py.policy.bundles.reading import read_bundles
from mixer_py.policy.document.input import InputBuilder
from mixer_py.policy.document.projection import Projection
from mixer_py.policy.engines.embedded import EmbeddedEngine
from mixer_py.policy.engines.protocol import NoWatch
from tests.parts.opa_server import Answer, Opa
from tests.parts.programs import Programs

pytestmark = pytest.mark.opa

ROOT = Path(__file__).parents[2]
SAMPLES = sorted(path.name for path in (ROOT / "policies").iterdir() if path.is_dir())
DECISION = "envoy/authz/result"
EXAMPLES = 40

Words = Mapping[str, st.SearchStrategy[Any]]
"""What parts of a request are made of; `path` gives segments."""

ODD_SEGMENTS = ["", ".", "..", "%2e%2e", "a%2fb", "%5c", ";", "%2561", "%ff", "*", "**", "é", "%C3%A9"]
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "get", ""]
TEXTS = st.sampled_from(["", "ann", "é", "\u2028", "0"])
VALUES = st.one_of(st.none(), st.booleans(), st.integers(-2, 2), TEXTS, st.lists(TEXTS, max_size=2))


def paths(*segments: str) -> st.SearchStrategy[str]:
    parts = st.lists(st.sampled_from([*segments, *segments, *ODD_SEGMENTS]), max_size=4)
    return st.builds(lambda start, rest, query: start + "/".join(rest) + query,
                     st.sampled_from(["/", "/", "/", "//", ""]), parts, st.sampled_from(["", "", "?a=1"]))  # fmt: skip


def claims(roles: list[str], **more: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    given_roles = st.one_of(st.lists(st.sampled_from([*roles, "x"]), max_size=3), VALUES)
    optional = {"sub": st.one_of(st.sampled_from(["ann", "eve"]), VALUES), "roles": given_roles, **more}
    return st.one_of(st.none(), st.fixed_dictionaries({}, optional=optional))


def header(name: str, values: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, str]]:
    return st.one_of(st.just({}), values.map(lambda value: {name: value}))


def tokens() -> st.SearchStrategy[str]:
    files = (ROOT / "policies" / "jwt_roles" / "cases").glob("*/request.json")
    texts = [
        json.loads(file.read_text())["attributes"]["request"]["http"]["headers"].get("authorization") for file in files
    ]
    known = st.sampled_from(sorted({text for text in texts if text}))
    spoilt = [
        lambda text: text[:-1],
        lambda text: text.replace("Bearer", "bearer"),
        lambda text: text.replace("Bearer ", "Bearer  "),
        lambda text: text.rpartition(".")[0] + ".",
        lambda text: text.rpartition(".")[0],
        lambda text: text.replace(".", "..", 1),
        lambda text: text + "A",
        lambda text: text.replace("e", "f", 1),
        lambda text: text.upper(),
    ]
    return st.one_of(known, st.builds(lambda text, spoil: spoil(text), known, st.sampled_from(spoilt)), TEXTS)


SPIFFE = st.sampled_from(
    [
        "spiffe://cluster.local/ns/shop/sa/productpage",
        "spiffe://cluster.local/ns/shop/sa/reviews",
        "spiffe://cluster.local/ns/monitoring/sa/prometheus",
        "spiffe://cluster.local/ns/monitoring/sa/a/b",
        "spiffe://other.local/ns/monitoring/sa/prometheus",
        "spiffe://cluster.local/ns/monitoring/sa/",
        "spiffe://cluster.local/ns/ratings",
        "spiffe:///ns//sa/",
        "CN=x",
        "",
    ]
)
BASIC = ["YW5uOnB3", "Ym9iOnB3", "ZXZlOnB3", "YW5u", "OnB3", "w6k6cHc=", "", "%%%", "YTpiOmM="]
ADDRESSES = [
    "10.20.0.1", "10.20.255.255", "10.21.0.0", "10.30.7.9", "203.0.113.1", "198.51.100.7", "::1", "2001:db8:20::1",
    "2001:db8:21::1", "::ffff:10.20.0.1", "::ffff:203.0.113.1", "fe80::1%eth0", "10.20.0", "010.20.0.1", "x", "",
]  # fmt: skip

WORDS: dict[str, Words] = {
    "rbac": {
        "path": paths("people", "peoples", "People"),
        "headers": header(
            "authorization",
            st.builds(
                lambda scheme, text: scheme + text,
                st.sampled_from(["Basic ", "basic ", "Bearer ", ""]),
                st.sampled_from(BASIC),
            ),
        ),
    },
    "jwt_roles": {"path": paths("books", "7", "people"), "headers": header("authorization", tokens())},
    "tenant_isolation": {
        "path": paths("tenants", "tenants", "acme", "globex", "initech", "orders"),
        "claims": claims(["support"], tenant=st.one_of(st.sampled_from(["acme", "globex", "initech"]), VALUES)),
    },
    "method_path_table": {
        "path": paths("books", "books", "7", "sales", "static", "a.css"),
        "claims": claims(["editor", "admin", "anyone"]),
    },
    "time_windows": {
        "path": paths("x"),
        "time": st.one_of(
            st.none(), st.integers(1_750_000_000, 1_800_000_000), st.integers(-9_000_000_000, 9_000_000_000)
        ),
    },
    "cidr_allow_list": {
        "path": paths("admin", "deploy", "books", "Admin"),
        "address": st.sampled_from(ADDRESSES),
        "headers": header("x-forwarded-for", st.just("10.20.0.1")),
    },
    "mtls_identity": {"path": paths("reviews", "ratings", "health", "7"), "caller": SPIFFE, "service": SPIFFE},
    "quotas_from_policy": {
        "path": paths("reports", "search", "books"),
        "headers": header(
            "x-api-key",
            st.sampled_from(["sample-key-of-acme", "sample-key-of-globex", "sample-key-of-initech", "é", "", "x"]),
        ),
    },
}


@st.composite
def check_requests(draw: st.DrawFn, words: Words) -> CheckRequest:
    request = CheckRequest()
    attributes = request.attributes
    attributes.request.http.method = draw(st.sampled_from(METHODS))
    attributes.request.http.path = draw(words["path"])
    attributes.request.http.headers.update(draw(words.get("headers", st.just({}))))
    seconds = draw(words.get("time", st.none()))
    if seconds is not None:
        attributes.request.time.seconds = seconds
    attributes.source.principal = draw(words.get("caller", st.just("")))
    attributes.destination.principal = draw(words.get("service", st.just("")))
    address = draw(words.get("address", st.none()))
    if address is not None:
        attributes.source.address.socket_address.address = address
    payload = draw(words.get("claims", st.none()))
    if payload is not None:
        attributes.metadata_context.filter_metadata["envoy.filters.http.jwt_authn"].update({"jwt_payload": payload})
    return request


@dataclass(frozen=True, slots=True)
class Pair:
    """Both engines with one sample."""

    engine: EmbeddedEngine
    opa: Opa

    def assert_agreed(self, request: CheckRequest) -> None:
        try:
            whole = InputBuilder().build(request)
        except RequestParseError:
            return
        theirs = plain(self.opa.evaluate(DECISION, whole))
        assert plain(self._ours(whole)) == theirs, whole
        reads = self.engine.reads(DECISION).input
        assert reads is not None, "a sample's input is projected"
        projected = Projection(reads, InputBuilder()).build(request)
        assert plain(self._ours(projected)) == theirs, projected

    def _ours(self, input_json: str) -> Answer:
        try:
            return Answer("value", asyncio.run(self.engine.evaluate(DECISION, input_json)).value)
        except UndefinedDecisionError:
            return Answer("undefined")
        except EvaluationError:
            return Answer("error")


def plain(answer: Answer) -> str:
    return f"{answer.kind} {json.dumps(answer.value, sort_keys=True)}"


@pytest.fixture(scope="module")
def pair_of(module_programs: Programs, ports: Ports) -> Iterator[Callable[[str], Pair]]:
    """Both engines with a sample, made when they are first asked for."""
    pairs: dict[str, Pair] = {}

    def make(sample: str) -> Pair:
        if sample not in pairs:
            folder = ROOT / "policies" / sample
            bundles = [path for path in (folder / "bundle", folder / "sample_keys") if path.exists()]
            engine = EmbeddedEngine(read_bundles([str(path) for path in bundles]), [DECISION], NoWatch())
            pairs[sample] = Pair(engine, Opa(module_programs, ports, bundles))
        return pairs[sample]

    yield make
    for pair in pairs.values():
        pair.opa.close()


def test_every_sample_has_words() -> None:
    assert sorted(WORDS) == SAMPLES


@pytest.mark.parametrize("sample", SAMPLES)
def test_cases(sample: str, pair_of: Callable[[str], Pair]) -> None:
    files = sorted((ROOT / "policies" / sample / "cases").glob("*/request.json"))
    assert files
    for file in files:
        pair_of(sample).assert_agreed(json_format.Parse(file.read_text(), CheckRequest()))


@pytest.mark.parametrize("sample", SAMPLES)
@given(data=st.data())
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_generated_requests(sample: str, pair_of: Callable[[str], Pair], data: st.DataObject) -> None:
    pair_of(sample).assert_agreed(data.draw(check_requests(WORDS[sample])))
