"""What a release is made of agrees with itself: version, changelog, lock, licence, documents about dependencies."""

from __future__ import annotations

import hashlib
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import mixer_py

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")

APACHE_2_0 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
"""SHA-256 of the licence's text as the Apache Software Foundation publishes it."""


def direct_requirements() -> list[Requirement]:
    project = PROJECT["project"]
    texts = [*project["dependencies"], *PROJECT["build-system"]["requires"]]
    for extra in project["optional-dependencies"].values():
        texts += extra
    return [Requirement(text) for text in texts]


def pins() -> dict[str, list[tuple[Version, Marker | None]]]:
    """Every pin of the lock: versions by package, more than one where they differ by Python or platform."""
    found: dict[str, list[tuple[Version, Marker | None]]] = {}
    for line in LOCK.splitlines():
        if line and not line.startswith((" ", "#")):
            requirement = Requirement(line.removesuffix("\\").strip())
            (specifier,) = requirement.specifier
            assert specifier.operator == "==", line
            found.setdefault(canonicalize_name(requirement.name), []).append(
                (Version(specifier.version), requirement.marker)
            )
    return found


def test_the_version_is_the_same_everywhere() -> None:
    assert PROJECT["project"]["version"] == mixer_py.__version__


def test_the_changelog_knows_this_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    releases = re.findall(r"^## \[([^\]]+)\](?: - (\d{4}-\d{2}-\d{2}))?$", changelog, flags=re.MULTILINE)
    dated = [(name, date) for name, date in releases if name != "Unreleased"]
    assert dated[0][0] == mixer_py.__version__
    assert all(date for _, date in dated), "a release has a date"
    assert [date for _, date in dated] == sorted((date for _, date in dated), reverse=True), "newest first"


def test_the_licence_is_the_one_that_is_named() -> None:
    assert PROJECT["project"]["license"] == "Apache-2.0"
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE_2_0


def test_the_lock_holds_every_requirement() -> None:
    locked = pins()
    for requirement in direct_requirements():
        versions = [version for version, _ in locked[canonicalize_name(requirement.name)]]
        assert all(version in requirement.specifier for version in versions), f"{requirement}: run `make lock`"


def test_the_lock_pins_by_hash() -> None:
    entries = re.split(r"^(?=[a-z0-9])", LOCK, flags=re.MULTILINE)
    for entry in filter(None, entries):
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry.splitlines()[0]


def tracked_files() -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode:
        pytest.fail("not a git checkout: which files belong to the project cannot be told")
    return [ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_the_lock_names_no_registry() -> None:
    assert "://" not in LOCK
    assert not re.search(r"^\s*--?(i|f|index-url|extra-index-url|find-links)\b", LOCK, flags=re.MULTILINE)
    assert " @ " not in LOCK


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "LICENSE"])
def test_the_project_has_the_documents_people_look_for(name: str) -> None:
    assert (ROOT / name).stat().st_size > 200


def test_nothing_large_is_committed() -> None:
    large = [str(path.relative_to(ROOT)) for path in tracked_files() if path.stat().st_size > 1_000_000]
    assert not large


def test_every_dependency_is_explained() -> None:
    explained = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    missing = [r.name for r in direct_requirements() if f"`{r.name}`" not in explained]
    assert not missing, "docs/dependencies.md says why each is here"


def test_every_explained_dependency_is_one() -> None:
    explained = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `([A-Za-z0-9._-]+)`", explained, flags=re.MULTILINE))
    assert named == {requirement.name for requirement in direct_requirements()}


def test_the_readme_names_the_measured_figures() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"<!-- measured: ([a-z-]+) -->\n(.*?)<!-- measured: end -->", readme, flags=re.DOTALL)
    assert [name for name, _ in named] == ["fixed-rates", "main-job"]
    for name, text in named:
        report = ROOT / "benchmarks" / "reports" / f"{name}.md"
        wanted = report.read_text(encoding="utf-8") if report.exists() else ""
        assert text.strip() in wanted, "`make bench-index`"
        assert bool(text.strip()) == report.exists()
