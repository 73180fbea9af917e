"""What a good configuration becomes, and which source wins."""

from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mixer_py.config import Address, Configuration, find_file, load
from mixer_py.errors import ConfigurationError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder, text, name="mixer.yaml"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def faults(*arguments):
    with pytest.raises(ConfigurationError) as caught:
        load(*arguments)
    return [str(fault) for fault in caught.value.faults]


def test_defaults_are_those_of_the_design(folder):
    base = """
    server:
      listeners:
        - {address: "127.0.0.1:9091", transport: grpcio, services: [all]}
      workers: 1
      admin: "127.0.0.1:15014"
    policy:
      engine: embedded
      bundles: []
      decision: envoy/authz/allow
      on_error: error
      dry_run: false
      skip_request_body_parse: false
      proto_descriptor: null
      cache: {entries: 10000, ttl: 60s}
      opa: {url: "http://127.0.0.1:8181", timeout: 150ms}
    rate_limit:
      config: []
      quotas: []
      store: "memory://"
      on_error: error
    telemetry:
      clickhouse: null
      prometheus: {}
    """
    assert load(write(folder, base), {}) == load(None, {"HOME": "/"}) == Configuration()


def test_what_is_dumped_loads_to_the_same(folder):
    given = load(None, {}, {"server.max_connection_age": "90s", "log.level": "debug", "server.admin": "[::1]:15014"})
    dumped = yaml.safe_dump(given.model_dump(mode="json"))
    assert load(write(folder, dumped), {}) == given


@pytest.mark.parametrize("text", ["", "# nothing\n", "server:\nlog:\n", "---\n", "server: {}\n"])
def test_what_is_left_empty_is_the_default(folder, text):
    assert load(write(folder, text), {}) == Configuration()


def test_command_line_wins_over_environment_over_file_over_default(folder):
    path = write(folder, "server: {max_in_flight: 1, drain_timeout: 1s}\nlog: {level: warning, format: console}\n")
    environment = {"MIXER_SERVER__MAX_IN_FLIGHT": "2", "MIXER_LOG__LEVEL": "error"}
    found = load(path, environment, ["server.max_in_flight=3", "server.max_in_flight=4"])
    assert (found.server.max_in_flight, found.log.level, found.log.format) == (4, "error", "console")
    assert (found.server.drain_timeout, found.server.flush_timeout) == (1.0, 10.0)


def test_the_file_is_the_one_named_else_the_one_here(folder):
    assert find_file(None) is None or find_file(None) == Path("/etc/mixer/mixer.yaml")
    here = write(folder, "log: {level: debug}\n")
    other = write(folder, "log: {level: error}\n", "other.yaml")
    assert find_file(None) == Path(here.name)
    assert load(None, {}).log.level == "debug"
    assert load(other, {}).log.level == "error"


def test_a_relative_path_is_relative_to_where_it_is_written(folder):
    path = write(folder, "policy: {bundles: [a, /b, ../c]}\nrate_limit: {config: [limits]}\n", "etc/mixer.yaml")
    found = load(path, {"MIXER_RATE_LIMIT__CONFIG__1": "more"}, ["server.admin_token.file=token"])
    assert found.policy.bundles == (f"{folder}/etc/a", "/b", f"{folder}/etc/../c")
    assert found.rate_limit.config == (f"{folder}/etc/limits", f"{folder}/more")
    assert found.server.admin_token.file == f"{folder}/token"


def test_an_embedded_store_is_relative_to_the_file(folder):
    path = write(folder, "telemetry: {clickhouse: {url: 'chdb://rows'}}\n", "etc/mixer.yaml")
    assert load(path, {}).telemetry.clickhouse.target.directory == folder / "etc" / "rows"
    absolute = load(None, {"MIXER_TELEMETRY__CLICKHOUSE__URL": "chdb:///rows"}).telemetry.clickhouse
    assert absolute.target.directory == Path("/rows")


def test_lists_are_reached_by_index(folder):
    path = write(
        folder, 'server: {listeners: [{address: "127.0.0.1:1", services: [health]}, {address: "127.0.0.1:2"}]}\n'
    )
    environment = {
        "MIXER_SERVER__LISTENERS__0__ADDRESS": "127.0.0.1:3",
        "MIXER_SERVER__LISTENERS__2__ADDRESS": "unix:///run/mixer.sock",
        "MIXER_SERVER__LISTENERS__2__SERVICES": "[ext_authz]",
    }
    listeners = load(path, environment).server.listeners
    assert [str(one.address) for one in listeners] == ["127.0.0.1:3", "127.0.0.1:2", "unix:///run/mixer.sock"]
    assert listeners[0].services == ("health",)
    assert listeners[2].service_names == ("ext_authz",)


def test_an_index_counts_from_the_default_where_nobody_wrote_a_list(folder):
    listeners = load(None, {"MIXER_SERVER__LISTENERS__1__ADDRESS": "127.0.0.1:9092"}).server.listeners
    assert [one.address.port for one in listeners] == [9091, 9092]


def test_a_value_takes_the_place_of_what_stood_there(folder):
    path = write(folder, "policy: {bundles: [a, b], on_error: deny}\n")
    assert load(path, {"MIXER_POLICY__BUNDLES": '["c"]'}).policy.bundles == (f"{folder}/c",)
    environment = {"MIXER_POLICY": "{dry_run: true}", "MIXER_POLICY__DECISION": "x/y"}
    policy = load(path, environment).policy
    assert (policy.bundles, policy.on_error, policy.dry_run, policy.decision) == ((), "error", True, "x/y")


@pytest.mark.parametrize("secret", ["123456", "true", "null", "a: b", "a #b", "[x", "@!%", " padded ", "*x", "1.5"])
def test_a_secret_in_the_environment_is_text_whatever_it_looks_like(folder, secret):
    assert load(None, {"MIXER_SERVER__ADMIN_TOKEN": secret}).server.admin_token.reveal() == secret


def test_a_secret_in_the_environment_may_be_a_file(folder):
    write(folder, "hidden\n", "token")
    assert load(None, {"MIXER_SERVER__ADMIN_TOKEN": "{file: token}"}).server.admin_token.reveal() == "hidden"
    found = load(write(folder, "server: {admin_token: text}"), {"MIXER_SERVER__ADMIN_TOKEN__FILE": "token"})
    assert found.server.admin_token.reveal() == "hidden"


def test_text_that_looks_like_a_number_fits_text_from_the_environment_only(folder):
    assert load(None, {"MIXER_POLICY__DECISION": "123"}).policy.decision == "123"
    path = write(folder, "policy: {decision: 123}\n")
    assert faults(path, {}) == [f"{path}:1: policy.decision: 123 is not text (put it in quotes)"]


def test_variables_that_kubernetes_makes_for_a_service_are_none_of_ours(folder):
    environment = {
        "MIXER_SERVICE_HOST": "10.0.0.1",
        "MIXER_SERVICE_PORT": "9091",
        "MIXER_SERVICE_PORT_GRPC_CHECK": "9091",
        "MIXER_PORT": "tcp://10.0.0.1:9091",
        "MIXER_PORT_9091_TCP": "tcp://10.0.0.1:9091",
        "MIXER_PORT_9091_TCP_PROTO": "tcp",
        "MIXER_PORT_9091_TCP_PORT": "9091",
        "MIXER_PORT_9091_TCP_ADDR": "10.0.0.1",
        "MIXER_PY_SERVICE_HOST": "10.0.0.1",
        "MIXER_PY_PORT_53_UDP_ADDR": "10.0.0.1",
    }
    assert load(None, environment) == Configuration()


def test_types_are_those_of_yaml_1_2(folder):
    path = write(folder, "policy: {decision: no}\nserver: {max_in_flight: 0o17, max_message_bytes: 0x10}\n")
    found = load(path, {})
    assert (found.policy.decision, found.server.max_in_flight, found.server.max_message_bytes) == ("no", 15, 16)


def test_anchors_and_merges_work(folder):
    text = """
    server:
      listeners:
        - &base {address: "127.0.0.1:1", services: [ext_authz]}
        - {<<: *base, address: "127.0.0.1:2"}
        - {<<: [{address: "127.0.0.1:3"}, *base]}
    """
    listeners = load(write(folder, text), {}).server.listeners
    assert [(one.address.port, one.services) for one in listeners] == [(port, ("ext_authz",)) for port in (1, 2, 3)]


def test_a_file_that_cannot_be_read_is_named(folder):
    assert faults(folder, {}) == [f"{folder}: cannot be read: Is a directory"]
    path = folder / "latin.yaml"
    path.write_bytes(b"log:\n  level: inf\xf6\n")
    assert faults(path, {}) == [f"{path}:2: is not UTF-8 text"]


def test_every_source_is_checked_even_when_the_file_is_not_there(folder):
    found = faults(folder / "none.yaml", {"MIXER_X": "1"}, ["y=2"])
    assert [fault.partition(":")[0] for fault in found] == [str(folder / "none.yaml"), "environment", "command line"]


@settings(deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=200))
@example("server: {listeners: [{address: {}}]}")
@example("server: {admin_token: {file: [1]}}")
@example("telemetry: {clickhouse: 1, prometheus: [1]}")
@example("rate_limit: {quotas: [{a: [1, {b: 2}]}]}")
@example("policy: !!null x")
@example("a: !!int x\nb: !!float x\nc: !!timestamp x\nd: !!set {x}\ne: !!binary x")
@example("? &a [*a]\n: 1")
@example("[" * 500)
def test_any_text_is_a_configuration_or_a_configuration_error(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text, encoding="utf-8", newline="")
    try:
        load(path, {"MIXER_POLICY__DECISION": text.replace("\0", "")}, [text])
    except ConfigurationError as error:
        assert error.faults  # noqa: PT017 (either outcome is good)


def test_listen_addresses_know_who_can_reach_them():
    path = {"server.admin": "localhost:1"}
    assert load(None, {}, path).server.admin == Address("localhost", 1)
    assert Address("localhost", 1).is_loopback
    assert Address("127.9.9.9", 1).is_loopback
    assert Address("::1", 1).is_loopback
    assert Address(path="/run/x").is_loopback
    assert not Address("10.0.0.1", 1).is_loopback
    assert not Address("::", 1).is_loopback
    assert not Address("example.org", 1).is_loopback
