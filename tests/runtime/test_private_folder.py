from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mixer_py.errors import ProcessError
from mixer_py.runtime.private_folder import private_folder

KILLED = """
import os, signal, sys
from pathlib import Path
from mixer_py.runtime.private_folder import private_folder
with private_folder([Path(sys.argv[1])]) as folder:
    (folder / "order").write_text("x")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_nobody_else_may_enter_and_nothing_is_left(tmp_path: Path) -> None:
    with private_folder([tmp_path]) as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "table").write_text("x")
    assert not any(tmp_path.iterdir())


def test_what_a_killed_mixer_left_is_removed_by_the_next_and_a_live_one_is_not(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    other = tmp_path / f"mixer-{os.getuid()}-no-lock"
    other.mkdir()
    with private_folder([tmp_path]) as first, private_folder([tmp_path]) as second:
        assert sorted(tmp_path.iterdir()) == sorted([first, second, other])


def test_the_next_parent_is_used_and_at_last_it_says_why_not(tmp_path: Path) -> None:
    with private_folder([tmp_path / "missing", tmp_path]) as folder:
        assert folder.parent == tmp_path
    with pytest.raises(ProcessError, match="missing"), private_folder([tmp_path / "missing"]):
        pass
