"""Each folder in `cases/` is a configuration that must be refused, with exactly the faults of its want.txt."""

import json
from pathlib import Path

import pytest

from mixer_py.config import load
from mixer_py.errors import ConfigurationError

CASES = Path(__file__).parent / "cases"


def read_json(path, otherwise):
    return json.loads(path.read_text()) if path.exists() else otherwise


@pytest.mark.parametrize("name", sorted(case.name for case in CASES.iterdir()))
def test_faults_are_told_with_place_and_way_out(name, monkeypatch):
    case = CASES / name
    monkeypatch.chdir(case)
    with pytest.raises(ConfigurationError) as caught:
        load(Path("mixer.yaml"), read_json(case / "env.json", {}), read_json(case / "set.json", []))
    assert str(caught.value) + "\n" == (case / "want.txt").read_text()
    assert "topsecret" not in str(caught.value)
