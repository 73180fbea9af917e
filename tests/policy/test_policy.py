"""One revision of the policies: what is refused at load, what a failed evaluation costs, and who is told of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pytest
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest

from mixer_py.errors import EvaluationError, PolicyLoadError, RequestParseError, UndefinedDecisionError
from mixer_py.policy.decision import Decision
from mixer_py.policy.policy import Policy
from mixer_py.policy.reference import reference
from mixer_py.policy.settings import PolicySettings

ALLOW = "package envoy.authz\n\ndefault allow := false\n\nallow if input.attributes.request.http.method == {}\n"
GET = ALLOW.format('"GET"')


def decide(policy: Policy, request: CheckRequest) -> Decision:
    return asyncio.run(policy.select(request).decide(request)).decision


class Watch:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def begin(self) -> None:
        self.calls.append("begin")

    def end(self) -> None:
        self.calls.append("end")


def test_without_a_bundle_everything_is_denied_and_says_why(make_request) -> None:
    policy = Policy.load(PolicySettings())
    decision = decide(policy, make_request())
    assert not decision.allowed
    assert decision.reasons == ("no policy bundle is configured",)
    assert policy.describe()["tier"] == "none"
    assert policy.describe()["packages"] == []


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("package envoy.authz\n\nallow if {\n  input.a =\n}\n", 4, "expecting"),
        ("package envoy.authz\n\nallow if {\n  x > 3\n}\n", 4, "variable `x` is unsafe"),
        ("package envoy.authz\n\nallow { input.a }\n", 3, "`if` keyword is required"),
        (
            "package envoy.authz\n\nallow if {\n  graphql.parse_query(input.t)\n}\n",
            4,
            "lacks the builtin graphql.parse_query",
        ),
        ("package envoy.authz\n\nallow if {\n  not http.send({}).x\n}\n", 4, "lacks the builtin http.send"),
        (
            "package envoy.authz\n\nallow if count(upper(rego.metadata.rule())) > 1\n",
            3,
            "lacks the builtin rego.metadata",
        ),
        ("package envoy.authz\n\nallow if missing(3)\n", 3, "function missing is not defined"),
        ("package envoy.authz\n\nallow if count(3, 4, 5) > 1\n", 3, "builtin count takes 1 argument, 3 are given"),
        ("package envoy.authz\n\nallow if b\n\nb if allow\n", 3, "is recursive"),
    ],
)
def test_what_cannot_work_is_refused_at_load_with_its_place(load, text: str, line: int, message: str) -> None:
    with pytest.raises(PolicyLoadError) as caught:
        load(text)
    (fault,) = caught.value.faults
    assert message in fault.message
    assert Path(fault.file).name == "policy.rego"
    assert fault.line == line
    assert "backtrace" not in str(caught.value).lower()


def test_a_lacking_builtin_names_the_way_out(load) -> None:
    with pytest.raises(PolicyLoadError, match="engine: opa"):
        load("package envoy.authz\n\nallow if rego.parse_module(input.t, input.u)\n")


def test_a_name_that_is_nearly_a_builtins_brings_a_suggestion(load) -> None:
    with pytest.raises(PolicyLoadError, match=r"did you mean io\.jwt\.decode_verify\?"):
        load("package envoy.authz\n\nallow if io.jwt.decode_verfy(input.t, {})[0]\n")


def test_an_argument_of_the_wrong_type_is_refused(load) -> None:
    with pytest.raises(
        PolicyLoadError, match=r"policy\.rego:3: argument 2 of startswith must be a string, an array is given"
    ):
        load('package envoy.authz\n\nallow if startswith(input.attributes.request.http.path, ["/a"])\n')


def test_every_faulty_module_is_named(load) -> None:
    with pytest.raises(PolicyLoadError) as caught:
        load({"a.rego": "package a\n\nx := \n", "b.rego": "package b\n\ny := {\n", "good.rego": GET})
    assert [Path(fault.file).name for fault in caught.value.faults] == ["a.rego", "b.rego"]


def test_a_lacking_builtin_is_found_where_no_request_may_ever_reach(load) -> None:
    with pytest.raises(PolicyLoadError, match=r"other\.rego:2"):
        load({"policy.rego": GET, "other.rego": "package other\nx if graphql.is_valid(input.q, input.s)\n"})


def test_functions_of_the_policies_are_no_builtins(load, make_request) -> None:
    library = 'package lib.text\n\nis_read(method) if method == "GET"\n\ndefault twice(_) := 0\n'
    policy = load(
        {
            "lib.rego": library,
            "policy.rego": (
                "package envoy.authz\n\nimport data.lib.text\nimport data.lib.text as words\n\n"
                "method := input.attributes.request.http.method\n\n"
                "own(x) := x\n\n"
                "allow if {\n  text.is_read(method)\n  words.is_read(own(method))\n"
                "  data.lib.text.is_read(data.envoy.authz.own(method))\n  text.twice(1) == 0\n}\n"
            ),
        }
    )
    assert decide(policy, make_request()).allowed


def test_an_error_that_only_an_empty_input_makes_is_no_fault(load, make_request) -> None:
    text = (
        'package envoy.authz\n\nname := object.get(input, ["source_principal"], 3)\n\n'
        "allow := true if not is_string(name)\n\nallow := false if not input.attributes\n"
    )
    assert decide(load(text), make_request()).allowed


def test_undefined_and_conflict_are_evaluation_errors(load, make_request) -> None:
    policy = load("package envoy.authz\n\nallow := 1 if input.parsed_query.a\n\nallow := 2 if input.parsed_query.a\n")
    with pytest.raises(UndefinedDecisionError):
        decide(policy, make_request("/"))
    with pytest.raises(EvaluationError, match=r"policy\.rego:5: .*conflict") as caught:
        decide(policy, make_request("/?a=1"))
    assert "backtrace" not in str(caught.value).lower()


def test_a_decision_that_nothing_defines_is_undefined(load, make_request) -> None:
    with pytest.raises(UndefinedDecisionError):
        decide(load(GET, decision="envoy/authz/other"), make_request())


def test_a_panic_costs_one_call(load, make_request, capfd) -> None:
    policy = load("package envoy.authz\n\nq := input.parsed_query.q[0]\n\nallow if time.parse_ns(q, q) > 0\n")
    assert decide(policy, make_request("/?q=2006-01-02")).allowed
    with pytest.raises(EvaluationError, match="panicked"):
        decide(policy, make_request("/?q=%C3%A9"))
    assert decide(policy, make_request("/?q=2006-01-02")).allowed
    capfd.readouterr()  # the engine writes of a panic to the process's standard error


def test_a_panic_after_a_builtin_error_costs_one_call(load, make_request, capfd) -> None:
    text = (
        "package envoy.authz\n\nq := input.parsed_query.q[0]\n\n"
        "allow if to_number(q) == 1\n\nallow if time.parse_ns(substring(q, 1, -1), substring(q, 1, -1)) > 0\n"
    )
    policy = load(text)
    assert decide(policy, make_request("/?q=x2006-01-02")).allowed
    with pytest.raises(EvaluationError, match="panicked"):
        decide(policy, make_request("/?q=x%C3%A9"))
    assert decide(policy, make_request("/?q=x2006-01-02")).allowed
    assert decide(policy, make_request("/?q=12006-01-02")).allowed
    capfd.readouterr()


def test_the_watch_sees_every_evaluation_end(load, make_request) -> None:
    watch = Watch()
    policy = load("package envoy.authz\n\nallow if input.parsed_query.a\n", watch=watch)
    decide(policy, make_request("/?a=1"))
    with pytest.raises(UndefinedDecisionError):
        decide(policy, make_request("/"))
    with pytest.raises(RequestParseError):
        decide(policy, make_request("/%"))
    assert watch.calls == ["begin", "end", "begin", "end"]


def test_a_revision_is_the_content_and_the_decision(tmp_path: Path) -> None:
    def revision(folder: str, text: str, data: str = "{}", decision: str = "envoy/authz/allow") -> str:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "p.rego").write_text(text)
        (tmp_path / folder / "data.json").write_text(data)
        return Policy.load(PolicySettings(bundles=(str(tmp_path / folder),), decision=decision)).revision

    first = revision("a", GET)
    assert len(first) == 12
    assert int(first, 16) >= 0
    assert revision("b", GET) == first
    others = {
        revision("c", GET + "# changed\n"),
        revision("d", GET, '{"a": 1}'),
        revision("e", GET, decision="envoy/authz/deny"),
    }
    assert len(others - {first}) == 3


def test_describe_says_what_is_loaded(load) -> None:
    policy = load({"policy.rego": GET, "roles/data.json": "{}"})
    described = policy.describe()
    assert described["decision"] == "envoy/authz/allow"
    assert described["packages"] == ["data.envoy.authz"]
    assert [Path(file).name for file in described["modules"]] == ["policy.rego"]
    assert [Path(file).parent.name for file in described["data"]] == ["roles"]
    orjson.dumps(described)


def test_a_decision_path_is_quoted_where_rego_needs_it(load, make_request) -> None:
    assert reference("envoy/my-authz/if") == 'data.envoy["my-authz"]["if"]'
    policy = load('package envoy["my-authz"]\n\nallow := true\n', decision="envoy/my-authz/allow")
    assert decide(policy, make_request()).rule == 'data.envoy["my-authz"].allow'


def test_a_whole_package_can_be_the_decision(load, make_request) -> None:
    policy = load('package envoy.authz\n\nallowed := true\n\nheaders := {"x-a": "b"}\n', decision="envoy/authz")
    assert decide(policy, make_request()).headers == (("x-a", "b"),)


def test_a_number_that_the_engine_cannot_read_is_the_requests_fault(load, make_request) -> None:
    request = make_request(headers={"content-type": "application/json"}, body="1e999")
    with pytest.raises(RequestParseError):
        decide(load(GET), request)


def test_the_policys_own_metadata_cannot_be_mixers(load, make_request) -> None:
    policy = load(
        'package envoy.authz\n\nallow := {"allowed": true, "dynamic_metadata": metadata}\n\n'
        'metadata := {"a": 1, "decision_id": "x", "mixer_a": 2}\n'
    )
    assert decide(policy, make_request()).dynamic_metadata == {"a": 1}
