"""Who a listener lets in, as the settings of TLS say it."""

from pathlib import Path

import pytest
import yaml

from mixer_py.config import load
from mixer_py.config.server import ServerSettings
from mixer_py.peers import parse_allow_list

WHOLE = {"certificate": "server.pem", "key": "server.key", "client_ca": "ca.pem"}


def server(tmp_path: Path, **settings) -> ServerSettings:
    path = tmp_path / "mixer.yaml"
    path.write_text(yaml.safe_dump({"server": settings}))
    return load(path, {}).server


def test_without_tls_a_listener_speaks_plaintext(tmp_path):
    settings = server(tmp_path)
    assert settings.tls_of(settings.listeners[0]) is None


def test_the_servers_tls_holds_for_every_listener_on_a_port_and_for_no_unix_socket(tmp_path):
    listeners = [{"address": "127.0.0.1:9091"}, {"address": "0.0.0.0:9092"}, {"address": "unix:///run/m.sock"}]
    settings = server(tmp_path, tls=WHOLE, listeners=listeners)
    assert [settings.tls_of(listener) for listener in settings.listeners] == [settings.tls, settings.tls, None]
    assert settings.tls is not None
    assert settings.tls.certificate == str(tmp_path / "server.pem"), "paths are relative to the file"


def test_what_a_listener_leaves_out_is_taken_from_the_servers(tmp_path):
    listeners = [
        {"address": "127.0.0.1:9091", "tls": {"allow": ["a.example"]}},
        {"address": "127.0.0.1:9092", "tls": {"client_ca": None, "allow": None, "services": {}}},
    ]
    services = {"access_log": ["log.example"]}
    settings = server(tmp_path, tls={**WHOLE, "allow": ["x.example"], "services": services}, listeners=listeners)
    first, second = (settings.tls_of(listener) for listener in settings.listeners)
    assert first is not None
    assert first.key == str(tmp_path / "server.key")
    assert first.allowed("ext_authz") == parse_allow_list(["a.example"])
    assert first.allowed("access_log") == parse_allow_list(["log.example"])
    assert second is not None
    assert (second.client_ca, second.allowed("access_log")) == (None, None)


def test_only_one_listener_may_have_tls(tmp_path):
    settings = server(tmp_path, listeners=[{"address": "127.0.0.1:1"}, {"address": "127.0.0.1:2", "tls": WHOLE}])
    plain, secure = (settings.tls_of(listener) for listener in settings.listeners)
    assert plain is None
    assert secure is not None


@pytest.mark.parametrize("key", ["certificate", "key", "client_ca"])
def test_every_file_can_be_named_by_the_environment(tmp_path, monkeypatch, key):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mixer.yaml"
    path.write_text(yaml.safe_dump({"server": {"tls": WHOLE}}))
    tls = load(path, {f"MIXER_SERVER__TLS__{key.upper()}": "other.pem"}).server.tls
    assert getattr(tls, key) == str(tmp_path / "other.pem")
