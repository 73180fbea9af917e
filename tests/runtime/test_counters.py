"""Where the counters of rate limits are kept, and that several workers do not count apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from mixer_py.config.configuration import Configuration
from mixer_py.errors import ConfigurationError
from mixer_py.runtime import counters
from mixer_py.runtime.counters import needs_valkey, require_valkey, whereabouts, worker_store


def configured(workers: int, **rate_limit: object) -> Configuration:
    return Configuration.model_validate(
        {"server": {"workers": workers}, "rate_limit": {"config": ["/limits.yaml"], **rate_limit}}
    )


@pytest.mark.parametrize(
    ("configuration", "where"),
    [
        (configured(1), "the worker's memory"),
        (configured(2), "an embedded Valkey"),
        (configured(2, config=[]), "nowhere"),
        (configured(2, store="redis://redis:6379/0"), "redis:6379"),
        (configured(1, store="unix:///run/valkey.sock"), "unix:///run/valkey.sock"),
    ],
)
def test_it_is_said_where_counters_are(configuration, where):
    assert whereabouts(configuration)[0] == where
    assert needs_valkey(configuration) == (where == "an embedded Valkey")


def test_workers_that_count_together_are_given_the_embedded_valkey_as_store(tmp_path: Path):
    asked = configured(2, timeout="20ms", time="caller", redis={"username": "somebody"})
    settings, name = worker_store(asked, tmp_path)
    assert name == "embedded Valkey"
    assert settings.store == f"unix://{tmp_path}/valkey.sock"
    assert (settings.timeout, settings.time, settings.redis.username) == (0.02, "server", None)


@pytest.mark.parametrize("configuration", [configured(1), configured(2, store="redis://redis:6379/0")])
def test_everybody_else_counts_where_the_settings_say(configuration, tmp_path: Path):
    assert worker_store(configuration, tmp_path) == (configuration.rate_limit, None)


def test_a_valkey_that_is_needed_and_missing_is_a_fault_that_names_the_extra(monkeypatch):
    monkeypatch.setattr(counters, "find_spec", lambda _name: None)
    require_valkey(configured(1))
    with pytest.raises(ConfigurationError) as refused:
        require_valkey(configured(2))
    (fault,) = refused.value.faults
    assert fault.field == "server.workers"
    assert "mixer-py[valkey]" in fault.way_out
