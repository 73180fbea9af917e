"""docs/rego.md says what the tables say."""

from __future__ import annotations

from mixer_py.policy.documentation import page
from tests.parts.presence import ROOT


def test_the_page_is_written_anew() -> None:
    assert (ROOT / "docs" / "rego.md").read_text(encoding="utf-8") == page(), "run `make docs`"
