"""What is shown of a configuration: the reference page, and `/config` without secrets."""

import json
from pathlib import Path

import yaml

from mixer_py.config import Configuration, load, redacted
from mixer_py.config.definition import keys
from mixer_py.config.document import render
from mixer_py.config.redaction import _URL_PASSWORD

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_page_is_what_the_definition_says():
    assert PAGE.read_text() == render(), "run: python -m mixer_py.config.document > docs/configuration.md"


def test_the_page_shows_the_defaults_as_a_file_that_loads(tmp_path):
    block = render().split("```yaml\n")[1].split("```")[0]
    (tmp_path / "mixer.yaml").write_text(block)
    assert load(tmp_path / "mixer.yaml", {}) == Configuration()
    assert yaml.safe_load(block)["server"]["max_message_bytes"] == "4MiB"


def test_every_key_has_a_meaning_and_a_row():
    page = render()
    for key in keys(Configuration):
        assert key.meaning, f"{key.path} has no docstring"
        assert f"`{key.path}`" in page


def test_secrets_are_not_shown(tmp_path):
    file = tmp_path / "mixer.yaml"
    file.write_text("server: {admin_token: topsecret}\npolicy: {bundles: [p]}\n")
    configuration = load(file, {})
    shown = redacted(configuration)
    assert shown["server"]["admin_token"] == "***"
    assert shown["policy"]["bundles"] == [f"{tmp_path}/p"]
    assert shown["server"]["max_connection_age"] == "10m"
    assert "topsecret" not in json.dumps(shown) + repr(configuration) + str(configuration)


def test_the_file_of_a_secret_is_shown(tmp_path):
    file = tmp_path / "mixer.yaml"
    file.write_text("server: {admin_token: {file: token}}\n")
    assert redacted(load(file, {}))["server"]["admin_token"] == {"file": f"{tmp_path}/token"}


def test_a_password_in_a_url_is_not_shown():
    hidden = {
        "clickhouse://me:pw@host:9000/mesh": "clickhouse://me:***@host:9000/mesh",
        "redis://:p@ss@host": "redis://:***@host",
        "clickhouse://me@host:9000/mesh": "clickhouse://me@host:9000/mesh",
        "http://host:80/a@b:c": "http://host:80/a@b:c",
    }
    assert {text: _URL_PASSWORD.sub(r"\1:***@", text) for text in hidden} == hidden
