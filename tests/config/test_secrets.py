"""Secrets are found wherever they stand, and told when they cannot be read; their values never."""

import pytest

from mixer_py.config import load, secret_faults
from mixer_py.config.secrets import secrets_of


@pytest.fixture
def configuration(tmp_path):
    """Two secrets, one of them in a file."""
    clickhouse = "{url: 'clickhouse://db', password: {file: password}}"
    (tmp_path / "mixer.yaml").write_text(
        f"server: {{admin_token: topsecret}}\ntelemetry: {{clickhouse: {clickhouse}}}\n"
    )
    return load(tmp_path / "mixer.yaml", {})


def test_all_are_found(configuration):
    assert [path for path, _ in secrets_of(configuration)] == ["server.admin_token", "telemetry.clickhouse.password"]
    assert [path for path, _ in secrets_of((configuration.server,), "servers")] == ["servers.0.admin_token"]


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "cannot be read: No such file or directory"), (b"\n", "is empty"), (b"topsecret\xff", "is not UTF-8 text")],
)
def test_one_that_cannot_be_used_is_told(configuration, tmp_path, content, said):
    if content is not None:
        (tmp_path / "password").write_bytes(content)
    (fault,) = secret_faults(configuration)
    assert str(fault) == f"{tmp_path}/password: telemetry.clickhouse.password: {said}"
    assert secret_faults(configuration.telemetry, "telemetry") == [fault]


def test_ones_that_can_be_used_are_not(configuration, tmp_path):
    (tmp_path / "password").write_text("topsecret\n")
    assert secret_faults(configuration) == []
