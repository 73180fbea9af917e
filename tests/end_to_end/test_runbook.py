"""The queries that pages of the runbook give to the person on call can be asked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mixer_py.demo.processes import Ports
from tests.parts.mixer_process import Mixer
from tests.parts.programs import Programs

QUERIES = {
    (page.stem, found)
    for page in Path("docs/runbook").glob("*.md")
    for found in re.findall(r'mixer query "([^"]+)"', " ".join(page.read_text(encoding="utf-8").split()))
}


@pytest.mark.chdb
def test_every_query_of_the_runbook_runs(programs: Programs, ports: Ports, tmp_path: Path):
    mixer = Mixer(programs, ports, tmp_path)
    mixer.configure({"telemetry": {"clickhouse": {"url": "chdb://rows"}}})
    mixer.start()
    assert len(QUERIES) >= 4
    for page, sql in sorted(QUERIES):
        assert isinstance(mixer.rows(sql), list), page
