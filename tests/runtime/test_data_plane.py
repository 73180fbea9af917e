"""The bootstrap of a data plane with mixer inside: refused where mixer could not start or end it well, else joined."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mixer_py.config.server import ServerSettings
from mixer_py.errors import ConfigurationError
from mixer_py.runtime.data_plane import places_of, read_data_plane
from mixer_py.transports.envoy.data_plane import joined
from mixer_py.transports.envoy.files import HostFiles
from mixer_py.transports.envoy.resources import Application, bootstrap

pytestmark = pytest.mark.envoy

PIPE = {"name": "pipe", "address": {"pipe": {"path": "/run/web"}}}
LISTENER = {"name": "web", "address": {"socket_address": {"address": "127.0.0.1", "port_value": 8080}}}
ADMIN = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 9901}}}


def server(folder: Path, document: Any, workers: int = 1) -> ServerSettings:
    file = folder / "envoy.yaml"
    file.write_text(document if isinstance(document, str) else json.dumps(document))
    return ServerSettings.model_validate(
        {
            "listeners": [{"address": "internal://mixer", "transport": "envoy"}],
            "data_plane": {"bootstrap": str(file)},
            "workers": workers,
        }
    )


def with_listeners(*listeners: Any) -> dict[str, Any]:
    return {"static_resources": {"listeners": list(listeners)}}


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("a: [", "is neither YAML nor JSON"),
        ("[]", "is no bootstrap of Envoy"),
        ({"staticResources": {}}, "spells staticResources without underscores"),
        ({"static_resources": 7}, "static_resources holds neither fields nor a list"),
        ({}, "has no listener"),
        (with_listeners(7), "has no listener"),
        (with_listeners({}), "listeners.0 has no name"),
        (with_listeners(LISTENER, LISTENER), "has two listeners web"),
        (with_listeners({**LISTENER, "name": "mixer"}), "has a listener mixer"),
        ({**with_listeners(LISTENER), "dynamic_resources": {"lds_config": {"ads": {}}}}, "from a control plane"),
    ],
)
def test_what_cannot_be_used_is_told_with_its_file_and_its_setting(tmp_path: Path, document: Any, said: str):
    with pytest.raises(ConfigurationError) as error:
        read_data_plane(server(tmp_path, document))
    (fault,) = error.value.faults
    assert said in fault.message
    assert (Path(fault.file).name, fault.field) == ("envoy.yaml", "server.data_plane.bootstrap")


def test_several_workers_cannot_share_an_admin_port(tmp_path: Path):
    document = {**with_listeners(LISTENER), "admin": ADMIN}
    assert read_data_plane(server(tmp_path, document)) is not None
    with pytest.raises(ConfigurationError, match="2 workers are as many Envoys"):
        read_data_plane(server(tmp_path, document, workers=2))


def test_several_workers_cannot_share_a_unix_socket(tmp_path: Path):
    """The last to bind would have it, and when that one died nobody, though the others live."""
    assert read_data_plane(server(tmp_path, with_listeners(PIPE))) is not None
    with pytest.raises(ConfigurationError, match="a listener pipe on a unix socket, which 2 workers"):
        read_data_plane(server(tmp_path, with_listeners(PIPE), workers=2))


def test_a_file_that_is_not_there_is_told(tmp_path: Path):
    settings = server(tmp_path, "")
    (tmp_path / "envoy.yaml").unlink()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_data_plane(settings)


def test_without_one_there_is_none():
    assert read_data_plane(ServerSettings()) is None
    assert list(places_of(None)) == []


def test_its_places_are_held_but_those_that_the_kernel_gives_to_one_only(tmp_path: Path):
    alone = {**LISTENER, "name": "alone", "enable_reuse_port": False}
    udp = {"name": "udp", "address": {"socket_address": {"protocol": "UDP", "address": "::", "port_value": 53}}}
    abstract = {"name": "abstract", "address": {"pipe": {"path": "@web"}}}
    data_plane = read_data_plane(server(tmp_path, with_listeners(LISTENER, alone, udp, PIPE, abstract)))
    assert [str(address) for address in places_of(data_plane)] == ["127.0.0.1:8080", "unix:///run/web"]


def test_what_a_person_wrote_stays_and_what_mixer_needs_is_added(tmp_path: Path):
    theirs = {
        "node": {"id": "edge-1"},
        "admin": ADMIN,
        "static_resources": {"clusters": [{"name": "reviews"}]},
        "dynamic_resources": {"cds_config": {"ads": {}}},
        "bootstrap_extensions": [{"name": "theirs"}],
        "overload_manager": {"resource_monitors": [{"name": "theirs"}], "refresh_interval": "1s"},
        "stats_sinks": [{"name": "theirs"}],
    }
    own = bootstrap(HostFiles(tmp_path), Application(Path("module.so"), "module:nobody"), "mixer")
    whole = joined(own, theirs)
    assert whole["node"] == {"id": "edge-1", "cluster": "mixer"}
    assert whole["admin"] == ADMIN
    assert whole["static_resources"]["clusters"] == [{"name": "reviews"}]
    assert whole["static_resources"]["listeners"] == own["static_resources"]["listeners"]
    assert whole["dynamic_resources"].keys() == {"cds_config", "lds_config"}
    assert [one["name"] for one in whole["bootstrap_extensions"]] == ["theirs", "envoy.bootstrap.internal_listener"]
    assert len(whole["overload_manager"]["resource_monitors"]) == 2
    assert whole["overload_manager"]["refresh_interval"] == "1s"
    assert whole["stats_sinks"] == [{"name": "theirs"}]
    assert joined(own, {})["admin"] == own["admin"]
