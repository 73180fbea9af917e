"""By which settings a candidate decides."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from mixer_py.policy.candidate import candidate_settings
from mixer_py.policy.settings import PolicySettings

DECISIONS = [{"name": "pay", "path": "a/pay", "match": {"hosts": ["pay.test"]}}]


def test_without_a_shadow_there_is_none() -> None:
    assert candidate_settings(PolicySettings()) is None


def test_it_decides_by_the_settings_in_force_with_its_own_bundles_and_no_cache() -> None:
    live = PolicySettings(
        bundles=("live",), decision="a/b", decisions=DECISIONS, max_stall="2s", shadow={"bundles": ["c"]}
    )  # type: ignore[arg-type]
    found = candidate_settings(live)
    assert found is not None
    assert (found.bundles, found.decision, found.decisions) == (("c",), "a/b", live.decisions)
    assert (found.shadow, found.cache.entries, found.max_stall, found.engine) == (None, 0, 2.0, "embedded")


def test_a_decision_of_its_own_is_for_every_request() -> None:
    live = PolicySettings(decisions=DECISIONS, shadow={"bundles": ["c"], "decision": "/x/y"})  # type: ignore[arg-type]
    found = candidate_settings(live)
    assert found is not None
    assert (found.decision, found.decisions) == ("x/y", ())


@pytest.mark.parametrize(
    ("keys", "place"),
    [
        ({}, "bundles"),
        ({"bundles": []}, "bundles"),
        ({"bundles": ["c"], "share": 1.1}, "share"),
        ({"bundles": ["c"], "share": -0.1}, "share"),
        ({"bundles": ["c"], "timeout": "0s"}, "timeout"),
        ({"bundles": ["c"], "timeout": "11s"}, "timeout"),
        ({"bundles": ["c"], "queue": 0}, "queue"),
        ({"bundles": ["c"], "bundels": []}, "bundels"),
    ],
)
def test_wrong_values_are_refused_at_their_place(keys: dict[str, Any], place: str) -> None:
    with pytest.raises(ValidationError) as caught:
        PolicySettings(shadow=keys)  # type: ignore[arg-type]
    assert [error["loc"] for error in caught.value.errors()] == [("shadow", place)]
