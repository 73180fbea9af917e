"""`mixer validate` finds everything that is wrong, and says what is seldom meant."""

import json

import pytest

from tests.parts.certificates import Authority


def warnings(result):
    return {warning["field"] for warning in json.loads(result.out)["warnings"]}


def test_a_good_configuration(mixer, configuration):
    result = mixer("validate", "-c", configuration)
    assert result.code == 0
    assert result.out.splitlines()[-1] == "mixer.yaml: good"


def test_without_a_file_the_defaults_are_checked(mixer):
    result = mixer("validate")
    assert result.code == 0
    assert "policy.bundles" in result.out
    assert result.out.splitlines()[-1] == "the defaults (no configuration file): good"


def test_an_opa_server_needs_no_bundles_here(mixer):
    result = mixer("validate", "--set", "policy.engine=opa", "--format", "json")
    assert result.code == 0
    assert "policy.bundles" not in warnings(result)


def test_every_fault_of_the_configuration(mixer, tmp_path):
    (tmp_path / "mixer.yaml").write_text("server: {workers: x, admni: y}\nlog:\n  level: loud\n")
    result = mixer("validate")
    assert result.code == 1
    assert [line.partition(": ")[2].partition(": ")[0] for line in result.out.splitlines()[:-1]] == [
        "mixer.yaml:1", "mixer.yaml:1", "mixer.yaml:3",
    ]  # fmt: skip
    assert result.out.splitlines()[-1] == "mixer.yaml: 3 faults"
    found = json.loads(mixer("validate", "--format", "json").out)
    assert found["good"] is False
    assert found["checked"] == "mixer.yaml"
    assert [fault["field"] for fault in found["faults"]] == ["server.admni", "server.workers", "log.level"]
    assert found["faults"][0]["line"] == 1
    assert found["faults"][0]["way_out"] == "did you mean server.admin?"


def test_faults_of_policies_and_limits_at_once(mixer, tmp_path, configuration):
    (tmp_path / "policies" / "bad.rego").write_text("package bad\n\nallow := \n")
    (tmp_path / "limits.yaml").write_text("domain: a\ndescriptors:\n  - kye: b\n")
    configuration.write_text("policy: {bundles: [policies]}\nrate_limit: {config: [limits.yaml]}\n")
    found = json.loads(mixer("validate", "--format", "json").out)
    files = {fault["file"]: fault["line"] for fault in found["faults"]}
    assert f"{tmp_path}/policies/bad.rego" in files
    assert f"{tmp_path}/limits.yaml" in files
    assert all(files.values())


@pytest.mark.parametrize("content", [None, b"", b"\xff"])
def test_a_secret_that_cannot_be_used(mixer, tmp_path, configuration, content):
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    result = mixer("validate", "-c", configuration, "--set", "server.admin_token={file: token}")
    assert result.code == 1
    assert "error: token: server.admin_token: " in result.out


def test_what_is_seldom_meant(mixer, configuration):
    settings = [
        "server.listeners.0.address=0.0.0.0:9091", "server.admin=0.0.0.0:15014", "policy.dry_run=true",
        "telemetry.clickhouse={url: 'chdb:///nowhere'}",
    ]  # fmt: skip
    words = [word for one in settings for word in ("--set", one)]
    result = mixer("validate", "-c", configuration, "--format", "json", *words)
    assert result.code == 0
    assert warnings(result) == {"server.listeners.0.address", "server.admin", "policy.dry_run"}


def test_what_is_meant_gives_no_warning(mixer, tmp_path, configuration):
    (tmp_path / "token").write_text("t")
    settings = [
        "server.listeners.0.address=unix:///run/mixer.sock", "server.admin=0.0.0.0:15014",
        "server.admin_token={file: token}", "telemetry.clickhouse={url: 'chdb:///nowhere'}",
    ]  # fmt: skip
    words = [word for one in settings for word in ("--set", one)]
    result = mixer("validate", "-c", configuration, "--format", "json", *words)
    assert result.code == 0
    assert warnings(result) == set()


def test_what_is_wrong_with_files_of_tls(mixer, tmp_path, configuration):
    own = Authority(tmp_path).issue("server")
    own.key.write_bytes(Authority(tmp_path, "other").issue("other").key.read_bytes())
    words = ["--set", "server.tls={certificate: server.pem, key: server.key, client_ca: none.pem}"]
    result = mixer("validate", "-c", configuration, *words)
    assert result.code == 1
    assert "error: none.pem: server.tls.client_ca: cannot be read: No such file or directory" in result.out
    words = ["--set", "server.tls={certificate: server.pem, key: server.key}"]
    result = mixer("validate", "-c", configuration, *words)
    assert "error: server.key: server.tls.key: is not the key of " in result.out


@pytest.mark.parametrize(
    ("address", "tls", "words"),
    [
        ("0.0.0.0:9091", None, "without TLS"),
        ("127.0.0.1:9091", None, ""),
        ("0.0.0.0:9091", {}, "its TLS asks for no certificate"),
        ("127.0.0.1:9091", {}, ""),
        ("127.0.0.1:9091", {"client_ca": "authority.pem"}, "each becomes a row"),
        ("0.0.0.0:9091", {"client_ca": "authority.pem", "allow": ["envoy.example"]}, ""),
        ("0.0.0.0:9091", {"client_ca": "authority.pem", "services": {"access_log": ["envoy.example"]}}, ""),
    ],
)
def test_what_stands_open_at_a_listener(mixer, tmp_path, address, tls, words):
    Authority(tmp_path).issue("server")
    listener = {"address": address}
    if tls is not None:
        listener["tls"] = {"certificate": "server.pem", "key": "server.key", **tls}
    path = tmp_path / "mixer.yaml"
    path.write_text(json.dumps({"server": {"listeners": [listener]}}))
    result = mixer("validate", "-c", path, "--format", "json")
    assert result.code == 0
    field = "server.listeners.0.address"
    told = [one["message"] for one in json.loads(result.out)["warnings"] if one["field"] == field]
    assert words in told[0] if words else told == []


def test_what_no_listener_answers_needs_no_policy_and_no_tables(mixer, tmp_path):
    path = tmp_path / "mixer.yaml"
    path.write_text("server:\n  listeners: [{address: '127.0.0.1:9091', services: [rate_limit, health]}]\n")
    assert warnings(mixer("validate", "-c", path, "--format", "json")) == set()


def test_a_file_that_is_not_there(mixer):
    result = mixer("validate", "-c", "none.yaml")
    assert result.code == 1
    assert "error: none.yaml: there is no such file" in result.out


def test_attributes_that_no_check_has_are_faults(mixer, tmp_path, configuration):
    (tmp_path / "policies" / "authz.rego").write_text(
        "package envoy.authz\n\nimport input.attributes.request.http\n\n"
        'allow if {\n\thttp.metod == "GET"\n\tinput.parsed_pth[0] == "x"\n\thttp.headers["X-User"]\n}\n'
    )
    result = mixer("validate", "-c", configuration, "--format", "json")
    assert result.code == 1
    faults = json.loads(result.out)["faults"]
    assert [(fault["line"], fault["way_out"]) for fault in faults] == [
        (6, "did you mean input.attributes.request.http.method?"),
        (7, "did you mean input.parsed_path?"),
        (8, 'did you mean input.attributes.request.http.headers["x-user"]?'),
    ]
    assert {fault["file"] for fault in faults} == {f"{tmp_path}/policies/authz.rego"}


def test_unknown_builtins_are_faults_with_a_suggestion(mixer, tmp_path, configuration):
    (tmp_path / "policies" / "authz.rego").write_text("package envoy.authz\n\nallow if conut(input) == 1\n")
    result = mixer("validate", "-c", configuration)
    assert result.code == 1
    assert "error: policies/authz.rego:3: " in result.out
    assert "did you mean count?" in result.out


def test_a_recursion_of_functions_is_a_fault_and_ends_no_process(mixer, tmp_path, configuration):
    (tmp_path / "policies" / "authz.rego").write_text(
        "package envoy.authz\n\nallow if f(1)\n\nf(x) := g(x)\n\ng(x) := f(x)\n"
    )
    result = mixer("validate", "-c", configuration)
    assert result.code == 1
    circle = "data.envoy.authz.f -> data.envoy.authz.g -> data.envoy.authz.f"
    assert f"error: policies/authz.rego:5: the rule data.envoy.authz.f is recursive: {circle}" in result.out


def test_a_decision_that_the_candidate_lacks_is_told_as_its_fault(mixer, configuration, tmp_path):
    (tmp_path / "candidate").mkdir()
    (tmp_path / "candidate" / "authz.rego").write_text("package envoy.other\n\nallow := true\n")
    configuration.write_text("policy: {bundles: [policies], shadow: {bundles: [candidate]}}\n")
    result = mixer("validate", "-c", configuration)
    assert result.code == 1
    assert "error: policy.decision: no policy of the candidate defines envoy/authz/allow" in result.out


def test_a_pattern_that_is_none_is_warned_of(mixer, tmp_path, configuration):
    (tmp_path / "policies" / "more.rego").write_text(
        'package envoy.more\n\nfirst if regex.match("(a", input.parsed_path[0])\n\n'
        'second := regex.replace(input.parsed_path[0], `[z-a]`, "x")\n\n'
        'third if regex.match(`^(?i:a|b)+$`, input.parsed_path[0])\n\nfourth if regex.is_valid("(")\n'
    )
    result = mixer("validate", "-c", configuration)
    assert result.code == 0
    warned = [line for line in result.out.splitlines() if "pattern" in line]
    assert len(warned) == 2
    assert warned[0].startswith("warning: policies/more.rego:3: regex.match is always undefined")
    assert warned[1].startswith("warning: policies/more.rego:5: regex.replace is always undefined")


def test_data_that_nothing_defines_is_warned_of(mixer, tmp_path, configuration):
    (tmp_path / "policies" / "data.json").write_text('{"roles": {"users": {}}}')
    (tmp_path / "policies" / "more.rego").write_text(
        "package envoy.more\n\nfirst := data.roles.usrs.ann\n\nsecond := data.envoy.more.frist\n\nthird := data.jwks\n"
    )
    result = mixer("validate", "-c", configuration, "--format", "json")
    assert result.code == 0
    warned = {one["line"]: one["way_out"] for one in json.loads(result.out)["warnings"] if one["file"]}
    assert warned == {3: "did you mean data.roles.users?", 5: "did you mean data.envoy.more.first?", 7: ""}


def test_a_decision_that_no_policy_defines_is_a_fault(mixer, configuration):
    result = mixer("validate", "-c", configuration, "--set", "policy.decision=envoy/autz/allow")
    assert result.code == 1
    assert "error: policy.decision: no policy defines envoy/autz/allow (did you mean envoy/authz/allow?)" in result.out
    configuration.write_text(
        "policy:\n  bundles: [policies]\n  decisions: [{name: a, path: envoy/authz/alow, match: {hosts: [x.test]}}]\n"
    )
    assert "policy.decisions.0.path: no policy defines envoy/authz/alow" in mixer("validate", "-c", configuration).out
