from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mixer_py.telemetry.settings import (
    ClickHouseSettings,
    EmbeddedTarget,
    PrometheusSettings,
    ServerTarget,
    parse_target,
)

TARGETS = {
    "chdb:///var/lib/mixer": EmbeddedTarget(Path("/var/lib/mixer"), "mesh"),
    "chdb:///var/lib/mixer?database=shop": EmbeddedTarget(Path("/var/lib/mixer"), "shop"),
    "chdb://rows": EmbeddedTarget(Path("/etc/mixer/rows"), "mesh"),
    "chdb://./rows": EmbeddedTarget(Path("/etc/mixer/rows"), "mesh"),
    "chdb:///with%20room%23%3F": EmbeddedTarget(Path("/with room#?"), "mesh"),
    "clickhouse://host": ServerTarget("host", 9000, "default", "mesh", secure=False),
    "clickhouse://me@host:9001/shop": ServerTarget("host", 9001, "me", "shop", secure=False),
    "clickhouses://host": ServerTarget("host", 9440, "default", "mesh", secure=True),
    "clickhouse://[::1]:9000": ServerTarget("::1", 9000, "default", "mesh", secure=False),
}
REFUSED = {
    "": "neither chdb",
    "http://host": "neither chdb",
    "chdb://": "names no folder",
    "chdb:///x?path=y": "only .database= may follow",
    "chdb:///x#y": "only .database= may follow",
    "chdb:///x?database=a-b": "no name of a database",
    "clickhouse://": "names no host",
    "clickhouse://me:secret@host": "a password does not belong into the URL",
    "clickhouse://host:port": "(?i)port",
    "clickhouse://host:0": "port 0",
    "clickhouse://host:70000": "(?i)port",
    "clickhouse://host/a/b": "no name of a database",
    "clickhouse://host/mesh?secure=1": "nothing may follow",
}


def resolve(url: str) -> EmbeddedTarget | ServerTarget:
    return ClickHouseSettings.model_validate({"url": url}, context={"base": "/etc/mixer"}).target


@pytest.mark.parametrize(("url", "target"), TARGETS.items())
def test_a_url_names_a_target(url: str, target: EmbeddedTarget | ServerTarget) -> None:
    assert resolve(url) == target


@pytest.mark.parametrize(("url", "message"), REFUSED.items())
def test_a_url_that_names_none_is_refused_with_the_reason(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_target(url)
    with pytest.raises(ValidationError, match=message) as caught:
        resolve(url)
    assert "secret" not in str(caught.value.errors()[0]["msg"])


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0\t\r\n"), min_size=1, max_size=12))
def test_what_is_resolved_resolves_to_itself(name: str) -> None:
    first = ClickHouseSettings.model_validate({"url": f"chdb:///rows/{quoted(name)}"}, context={"base": "/base"})
    again = ClickHouseSettings.model_validate({"url": first.url}, context={"base": "/elsewhere"})
    assert again.target == first.target == EmbeddedTarget(Path(f"/rows/{name}"), "mesh")


def quoted(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"buckets": {"istio_request_bytes": [2, 1]}}, "ascending"),
        ({"buckets": {"istio_request_bytes": [1, float("inf")]}}, "ascending"),
        ({"buckets": {"istio_requests_total": [1]}}, "istio_requests_total"),
        ({"drop_labels": ["pod"]}, "pod: no label of Istio's; those are reporter"),
        ({"max_label_sets": 0}, "greater than or equal to 1"),
    ],
)
def test_settings_of_metrics_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        PrometheusSettings.model_validate(settings)
