"""`mixer limits explain` says which rule a descriptor matches, and why."""

import json

import pytest

RULES = """\
domain: shop
descriptors:
  - key: tenant
    value: gold
    rate_limit: {unit: minute, requests_per_unit: 10, name: gold tenants}
    shadow_mode: true
  - key: path
    rate_limit: {unit: day, requests_per_unit: 5}
"""


@pytest.fixture
def configuration(tmp_path):
    (tmp_path / "limits.yaml").write_text(RULES)
    path = tmp_path / "mixer.yaml"
    path.write_text("rate_limit: {config: [limits.yaml]}\n")
    return path


def test_a_match_for_people(mixer, configuration, tmp_path):
    result = mixer("limits", "explain", "-c", configuration, "--descriptor", "tenant=gold")
    assert result.code == 0
    for line in (
        "descriptor  tenant=gold in shop",
        "level 1     tenant=gold: exact value taken",
        "rule        shop/tenant=gold",
        f"place       {tmp_path}/limits.yaml:3",
        "limit       10 per minute",
        "shadow_mode",
        "gold tenants",
        "counter     shop | fixed_window/60000000 | tenant | gold",
    ):
        assert line in result.out


def test_what_is_set_on_a_limit_is_told(mixer, configuration, tmp_path):
    limit = "{window: 90s, requests_per_unit: 60, algorithm: token_bucket, burst: 5, overdraw: true}"
    (tmp_path / "limits.yaml").write_text(RULES.replace("{unit: day, requests_per_unit: 5}", limit))
    result = mixer("limits", "explain", "-c", configuration, "--descriptor", "path=/")
    assert "limit       60 per 90s; token_bucket; burst: 5; overdraw" in result.out


def test_a_descriptor_that_matches_nothing_is_a_good_answer(mixer, configuration):
    result = mixer("limits", "explain", "-c", configuration, "--descriptor", "tenant=silver,path=/")
    assert result.code == 0
    assert "rule        none: the descriptor is not limited" in result.out
    assert "level 1: no descriptor with the key 'tenant' takes the value 'silver'" in result.out


def test_a_limit_that_another_one_of_the_request_replaces(mixer, configuration, tmp_path):
    replacing = RULES.replace("requests_per_unit: 5", "requests_per_unit: 5, replaces: [{name: gold tenants}]")
    (tmp_path / "limits.yaml").write_text(replacing)
    words = ("limits", "explain", "-c", configuration, "--descriptor", "tenant=gold", "--descriptor", "path=/")
    assert "replaced    by shop/path: not counted in a request that has both" in mixer(*words).out
    found = json.loads(mixer(*words, "--format", "json").out)
    assert [one["replaced_by"] for one in found["descriptors"]] == ["shop/path", None]


def test_for_scripts(mixer, configuration):
    words = ("--descriptor", 'path="/a,b"', "--descriptor", "colour=blue", "--format", "json")
    result = mixer("limits", "explain", "-c", configuration, "--domain", "shop", *words)
    found = json.loads(result.out)
    assert found["domain"] == "shop"
    first, second = found["descriptors"]
    assert first["descriptor"] == [{"key": "path", "value": "/a,b"}]
    assert first["rule"]["rule"] == "shop/path"
    assert first["counter"] == ["shop", "fixed_window/86400000000", "path", "/a,b"]
    assert first["levels"][0]["tried"][-1] == {"how": "any", "value": "", "taken": True}
    assert second["rule"] is None
    assert second["reason"] == "level 1: no descriptor has the key 'colour'"


def test_wrong_usage(mixer, configuration):
    result = mixer("limits", "explain", "-c", configuration, "--descriptor", "=x")
    assert (result.code, "a key was expected" in result.err) == (2, True)
    assert mixer("limits", "explain", "-c", configuration).code == 2
    assert mixer("limits", "-c", configuration, "--descriptor", "a=b").code == 2


def test_a_domain_has_to_be_named_among_several(mixer, configuration, tmp_path):
    (tmp_path / "limits.yaml").write_text(RULES)
    (tmp_path / "more.yaml").write_text(RULES.replace("shop", "bank"))
    configuration.write_text("rate_limit: {config: [limits.yaml, more.yaml]}\n")
    result = mixer("limits", "explain", "-c", configuration, "--descriptor", "path=/")
    assert result.code == 2
    assert "known are: bank, shop" in result.err
    assert mixer("limits", "explain", "-c", configuration, "--domain", "bank", "--descriptor", "path=/").code == 0


def test_faulty_rules_and_none_are_bad(mixer, configuration, tmp_path):
    (tmp_path / "limits.yaml").write_text(RULES.replace("minute", "fortnight"))
    result = mixer("limits", "explain", "-c", configuration, "--descriptor", "path=/")
    assert result.code == 1
    assert f"{tmp_path}/limits.yaml:5" in result.err
    configuration.write_text("{}")
    result = mixer("limits", "explain", "-c", configuration, "--descriptor", "path=/")
    assert (result.code, "rate_limit.config names no rules" in result.err) == (1, True)


def test_nobody_s_data_moves_the_cursor(mixer, configuration):
    result = mixer("limits", "explain", "-c", configuration, "--descriptor", "tenant=\x1b[31mred")
    assert "\x1b" not in result.out
