"""The wheel: it carries what a run needs, and works from an empty folder without this checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import mixer_py

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of scripts of a fresh environment that has the wheel, and this one's packages for the rest."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (packages,) = folder.glob("lib/python*/site-packages")
    # A path that a .pth file adds is not searched for .pth files itself, so our editable install stays unseen.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return folder / "bin"


def run(installed: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MIXER_", "PYTHON"))}
    return subprocess.run(
        [installed / words[0], *words[1:]],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def test_it_carries_the_whole_package_and_nothing_else(wheel: Path) -> None:
    package = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "mixer_py").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    about = f"mixer_py-{mixer_py.__version__}.dist-info/"
    assert names - {name for name in names if name.startswith(about)} == package
    assert "mixer_py/py.typed" in names
    assert f"{about}licenses/LICENSE" in names


def test_the_command_runs_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    where = run(installed, tmp_path, "python", "-c", "import mixer_py; print(mixer_py.__file__)")
    assert where.stdout.startswith(str(installed.parent)), "the checkout is not what was imported"
    done = run(installed, tmp_path, "mixer", "version")
    assert done.returncode == 0, done.stderr
    assert mixer_py.__version__ in done.stdout


def test_nothing_it_runs_lies_outside_the_wheel(installed: Path, tmp_path: Path) -> None:
    """With no file at all: defaults, and a denial that says why."""
    request = '{"attributes": {"request": {"http": {"method": "GET", "path": "/"}}}}'
    (tmp_path / "request.json").write_text(request, encoding="utf-8")
    done = run(installed, tmp_path, "mixer", "check", "--request", "request.json", "--expect", "deny")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.envoy
@pytest.mark.chdb
def test_the_demo_runs_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    done = run(installed, tmp_path, "mixer", "demo", "--once")
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == [], "it leaves nothing behind"
