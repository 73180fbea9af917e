"""`mixer check` decides as the server does."""

import io
import json
import sys
import uuid

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mixer_py.cli.check import _parse
from mixer_py.errors import ConfigurationError

ALLOWED = {
    "attributes": {"request": {"http": {"method": "GET", "path": "/", "headers": {"authorization": "Bearer eve"}}}}
}
DENIED = {"attributes": {"request": {"http": {"method": "GET", "path": "/"}}}}


@pytest.fixture
def request_file(tmp_path):
    def write(document):
        path = tmp_path / "request.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return path

    return write


def test_an_allowed_request(mixer, configuration, request_file):
    result = mixer("check", "-c", configuration, "--request", request_file(ALLOWED), "--format", "json")
    assert result.code == 0
    found = json.loads(result.out)
    assert found["verdict"] == "allow"
    assert uuid.UUID(found["decision_id"])
    assert found["reasons"] == []
    assert found["error"] is None
    response = found["response"]
    assert response["okResponse"]["headers"][0]["header"] == {"key": "x-user", "value": "eve"}
    assert response["okResponse"]["headersToRemove"] == ["authorization"]
    assert response["dynamicMetadata"]["mixer_verdict"] == "allow"
    assert response["dynamicMetadata"]["decision_id"] == found["decision_id"]


def test_a_denied_request_is_a_good_answer(mixer, configuration, request_file):
    result = mixer("check", "-c", configuration, "--request", request_file(DENIED), "--format", "json")
    assert result.code == 0
    found = json.loads(result.out)
    assert (found["verdict"], found["reasons"]) == ("deny", ["no token"])
    assert found["response"]["deniedResponse"]["status"]["code"] == "Unauthorized"


def test_the_summary_for_people(mixer, configuration, request_file):
    denied = mixer("check", "-c", configuration, "--request", request_file(DENIED)).out
    for line in (
        "verdict      deny",
        "reason       no token",
        "response     HTTP 401",
        "response     with x-why: token",
    ):
        assert line in denied.splitlines()
    assert r"response     body who are you\x1b[31m" in denied.splitlines()
    allowed = mixer("check", "-c", configuration, "--request", request_file(ALLOWED)).out
    for line in ("verdict      allow", "response     pass the request on", "response     without authorization"):
        assert line in allowed.splitlines()


def test_the_engine_and_the_cache_key_are_always_told(mixer, configuration, request_file):
    words = ("check", "-c", configuration, "--request", request_file(ALLOWED), "--format", "json")
    found = json.loads(mixer(*words).out)
    assert found["tier"] == "rvm_projected"
    headers = found["cache_key"]["attributes"]["request"]["http"]["headers"]
    assert headers["authorization"].startswith("sha256:")
    assert "explain" not in found
    assert json.loads(mixer(*words, "--set", "policy.cache.entries=0").out)["cache_key"] is None


def test_how_it_came_about(mixer, configuration, request_file):
    words = ("check", "-c", configuration, "--request", request_file(DENIED), "--explain")
    found = json.loads(mixer(*words, "--format", "json").out)["explain"]
    (rule,) = found["rules"]
    assert rule == {
        "rule": "data.envoy.authz.allow",
        "file": rule["file"],
        "line": 6,
        "held": False,
        "stopped": {"line": 7, "expression": 'input.attributes.request.http.headers.authorization == "Bearer eve"'},
    }
    assert rule["file"].endswith("policies/authz.rego")
    assert found["reads"] == [
        {"reference": "input.attributes.request.http.headers.authorization", "present": False, "value": None}
    ]
    assert (found["cacheable"], found["cached"], found["why_not_cached"]) == (True, True, "")
    assert all(found["seconds"].values())
    shown = mixer(*words).out
    for line in (
        "not held     data.envoy.authz.allow",
        "read         input.attributes.request.http.headers.authorization: absent",
        "tier         rvm_projected",
        "cache        key {",
        "time         first ",
    ):
        assert line in shown


def test_the_rules_that_held_and_no_secret(mixer, configuration, request_file):
    result = mixer("check", "-c", configuration, "--request", request_file(ALLOWED), "--explain")
    assert "held         data.envoy.authz.allow" in result.out
    assert 'authorization: "sha256:' in result.out
    assert '"Bearer eve' not in result.out


def test_files_here_are_named_as_a_person_would(mixer, configuration, request_file, tmp_path):
    words = ("check", "-c", configuration, "--request", request_file(ALLOWED), "--explain")
    assert "held         data.envoy.authz.allow  policies/authz.rego:6" in mixer(*words).out
    assert json.loads(mixer(*words, "--format", "json").out)["explain"]["rules"][0]["file"].startswith(str(tmp_path))


def test_a_negation_is_shown_as_it_is_written(mixer, configuration, request_file, tmp_path):
    (tmp_path / "policies" / "authz.rego").write_text(
        "package envoy.authz\n\ndefault allow := false\n\n"
        'allow if {\n\tname := "x"\n\tnot startswith(data.names[name], "a")\n}\n\n'
        'allow if not input.attributes.request.http.method == "GET"\n\nnames := 1\n'
    )
    (tmp_path / "policies" / "data.json").write_text('{"names": {"x": "abc"}}')
    shown = mixer("check", "-c", configuration, "--request", request_file(DENIED), "--explain").out
    assert 'stopped at line 7: not startswith(data.names[name], "a")' in shown
    assert 'stopped at line 10: not input.attributes.request.http.method == "GET"' in shown
    assert "mixer_" not in shown


def test_why_another_tier_than_usual_evaluated(mixer, configuration, request_file, tmp_path):
    (tmp_path / "policies" / "authz.rego").write_text(
        "package envoy.authz\n\ndefault allow := false\n\n"
        "allow if count([x | some x in numbers.range(1, 30000); x > 1]) > count(input.parsed_path)\n"
    )
    shown = mixer("check", "-c", configuration, "--request", request_file(DENIED), "--explain").out
    assert "tier         interpreter: the engine's virtual machine did not finish this request" in shown


def test_claims_are_read_and_secrets_hashed_within_them(mixer, configuration, request_file, tmp_path):
    (tmp_path / "policies" / "authz.rego").write_text(
        "package envoy.authz\n\ndefault allow := false\n\n"
        'jwt := input.attributes.metadataContext.filterMetadata["envoy.filters.http.jwt_authn"].jwt_payload\n\n'
        'allow if {\n\tjwt.sub == "ann"\n\tjwt.session.id == "s3cret"\n}\n'
    )
    claims = {"jwt_payload": {"sub": "ann", "session": {"id": "s3cret"}}}
    request = {
        "attributes": {
            "request": {"http": {"path": "/"}},
            "metadataContext": {"filterMetadata": {"envoy.filters.http.jwt_authn": claims}},
        }
    }
    shown = mixer("check", "-c", configuration, "--request", request_file(request), "--explain").out
    assert 'jwt_payload.sub: "ann"' in shown
    assert 'jwt_payload.session.id: "sha256:' in shown
    assert "s3cret" not in shown


def test_of_many_rules_some_are_shown(mixer, configuration, request_file, tmp_path):
    rules = "".join(f'allow if input.parsed_path[0] == "{index}"\n\n' for index in range(60))
    (tmp_path / "policies" / "authz.rego").write_text(f"package envoy.authz\n\ndefault allow := false\n\n{rules}")
    words = ("check", "-c", configuration, "--request", request_file(DENIED), "--explain")
    lines = mixer(*words).out.splitlines()
    assert sum(line.startswith("not held") for line in lines) == 51
    assert "not held     10 more, which --format json tells" in lines
    assert len(json.loads(mixer(*words, "--format", "json").out)["explain"]["rules"]) == 60


def test_why_nothing_is_kept(mixer, configuration, request_file, tmp_path):
    (tmp_path / "policies" / "authz.rego").write_text(
        "package envoy.authz\n\nallow if {\n\tprint(input.version)\n\ttime.now_ns() > 0\n}\n"
    )
    result = mixer("check", "-c", configuration, "--request", request_file(ALLOWED), "--explain")
    assert "policies/authz.rego:5: the answer of time.now_ns is not always the same" in result.out
    assert "printed      " in result.out
    plain = mixer("check", "-c", configuration, "--request", request_file(ALLOWED), "--format", "json")
    assert json.loads(plain.out)["verdict"] == "allow"
    assert plain.err.count("protojson") == 1
    assert result.err.count("protojson") == 1
    assert "from the cache" not in result.out


def test_there_is_little_to_explain_without_a_policy(mixer, request_file):
    result = mixer("check", "--request", request_file(ALLOWED), "--explain", "--format", "json")
    found = json.loads(result.out)
    assert (found["tier"], found["cache_key"]) == ("none", None)
    assert (found["explain"]["rules"], found["explain"]["cached"]) == (None, False)


@pytest.mark.parametrize(
    ("request_document", "expected", "code"),
    [(ALLOWED, "allow", 0), (ALLOWED, "deny", 1), (DENIED, "deny", 0), (DENIED, "allow", 1)],
)
def test_an_expectation(mixer, configuration, request_file, request_document, expected, code):
    result = mixer("check", "-c", configuration, "--request", request_file(request_document), "--expect", expected)
    assert result.code == code
    assert (f"expected {expected}, got" in result.err) == bool(code)


def test_a_request_on_standard_input(mixer, configuration, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(json.dumps(ALLOWED).encode())))
    assert mixer("check", "-c", configuration, "--request", "-", "--expect", "allow").code == 0


def test_without_a_policy_everything_is_denied(mixer, request_file):
    result = mixer("check", "--request", request_file(ALLOWED), "--format", "json")
    assert result.code == 0
    found = json.loads(result.out)
    assert found["verdict"] == "deny"
    assert "bundle" in found["reasons"][0]


def test_an_undefined_decision_is_bad(mixer, configuration, request_file):
    words = (
        "check",
        "-c",
        configuration,
        "--request",
        request_file(DENIED),
        "--set",
        "policy.decision=envoy/authz/none",
    )
    result = mixer(*words, "--format", "json")
    assert result.code == 1
    found = json.loads(result.out)
    assert (found["verdict"], found["response"]) == ("error", None)
    assert found["error"]
    assert mixer(*words, "--expect", "deny").code == 1
    shown = mixer(*words).out
    assert "failure_mode_allow" in shown
    assert "error        no policy defines envoy/authz/none" in shown
    denied = json.loads(mixer(*words, "--set", "policy.on_error=deny", "--format", "json").out)
    assert denied["verdict"] == "error"
    assert "deniedResponse" in denied["response"]


def test_a_request_whose_path_cannot_be_parsed_is_denied_with_400(mixer, configuration, request_file):
    request = {"attributes": {"request": {"http": {"method": "GET", "path": "/%zz"}}}}
    found = json.loads(mixer("check", "-c", configuration, "--request", request_file(request), "--format", "json").out)
    assert found["verdict"] == "deny"
    assert found["response"]["deniedResponse"]["status"]["code"] == "BadRequest"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{\n "attributes": {,}\n}', "request.json:2: is not JSON"),
        ("", "request.json:1: is not JSON"),
        ("[]", "a CheckRequest is a JSON object"),
        ('{"attributes": {"requst": {}}}', '"requst"'),
        ('{"attributes": {"request": {"http": {"method": 3}}}}', "not a CheckRequest"),
        ('{"attributes": {}, "attributes": {}}', "'attributes' stands twice"),
        ('{"attributes": NaN}', "NaN is no JSON number"),
    ],
)
def test_a_malformed_request_is_told_with_its_place(mixer, configuration, request_file, text, said):
    path = request_file(text)
    result = mixer("check", "-c", configuration, "--request", path)
    assert result.code == 1
    assert result.out == ""
    assert str(path) in result.err
    assert said in result.err


def test_a_request_that_is_not_there_is_wrong_usage(mixer, configuration):
    result = mixer("check", "-c", configuration, "--request", "none.json")
    assert result.code == 2
    assert result.err == "mixer: none.json: cannot be read: No such file or directory\n"


def test_a_policy_that_does_not_compile_is_told(mixer, configuration, request_file, tmp_path):
    (tmp_path / "policies" / "bad.rego").write_text("package bad\n\nallow := \n")
    result = mixer("check", "-c", configuration, "--request", request_file(ALLOWED))
    assert result.code == 1
    assert f"{tmp_path}/policies/bad.rego:" in result.err


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5)),
    lambda one: st.one_of(
        st.lists(one, max_size=2),
        st.dictionaries(
            st.sampled_from(["attributes", "request", "http", "time", "headers", "body", "x"]), one, max_size=3
        ),
    ),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.one_of(JSON.map(lambda value: json.dumps({"attributes": value}).encode()), st.binary(max_size=20)))
def test_any_document_is_a_request_or_a_configuration_error(text):
    try:
        _parse(text, "x")
    except ConfigurationError as error:
        assert error.faults[0].file == "x"  # noqa: PT017 (either outcome is good)
