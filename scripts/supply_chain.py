"""What mixer-py is made of: a bill of materials from the lock, and whether what is installed is what the lock names.

`supply_chain.py sbom` prints CycloneDX 1.6 as JSON, the same for the same lock. `supply_chain.py audit` compares the
running Python's packages with the lock, and each of their files with the hash that its wheel recorded; it asks nobody,
and exits with 1 when something differs. Not for: known vulnerabilities, which need a database that is asked.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import sys
import tomllib
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

from packaging.markers import Marker

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
OURS = "mixer-py"
BESIDE = {OURS, "pip", "setuptools"}
"""What a venv has besides the lock: this project, and what Python puts there."""
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^ ;\\]+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_AUTHORITIES = "cacert.pem"
_CERTIFICATES = re.compile(rb"(\s*-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----\s*)+")
_WRITTEN_LATER = re.compile(r"(^|/)(__pycache__/|INSTALLER$|REQUESTED$|direct_url\.json$|RECORD$)")


@dataclass(frozen=True, slots=True)
class Pinned:
    """One package of the lock: its name in the normal form (PEP 503), version, hashes of its files, and for where."""

    name: str
    version: str
    hashes: tuple[str, ...]
    marker: str = ""

    @property
    def is_for_here(self) -> bool:
        """Whether this Python on this machine is one that it is for (PEP 508)."""
        return not self.marker or Marker(self.marker).evaluate()

    @property
    def purl(self) -> str:
        """The package as a URL (package-url/purl-spec)."""
        return f"pkg:pypi/{self.name}@{self.version}"


def normal(name: str) -> str:
    """A name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_lock(text: str) -> list[Pinned]:
    """The packages of a lock; one may be there in several versions, for different Pythons.

    Raises:
        ValueError: one is there without a version or without a hash.
    """
    found = []
    for entry in re.sub(r"\\\n", " ", text).splitlines():
        if not entry.strip() or entry.lstrip().startswith(("#", "--")):
            continue
        match = _PINNED.match(entry)
        hashes = tuple(sorted(_HASH.findall(entry)))
        if match is None or not hashes:
            raise ValueError(f"the lock names no version, or no hash: {entry.split(' --hash')[0].strip()}")
        marker = entry.partition(" --hash")[0].partition(";")[2].strip()
        found.append(Pinned(normal(match[1]), match[2], hashes, marker))
    return sorted(found, key=lambda one: (one.name, one.version))


def bill_of_materials(lock: str, version: str) -> dict[str, Any]:
    """CycloneDX 1.6 (ECMA-424): every package with its hashes; no time and no chance in it."""
    digest = hashlib.sha256(f"{version}\n{lock}".encode()).digest()
    ours = f"pkg:pypi/{OURS}@{version}"
    components = [
        {
            "type": "library",
            "bom-ref": one.purl,
            "name": one.name,
            "version": one.version,
            "purl": one.purl,
            "properties": [{"name": "mixer-py:marker", "value": one.marker}] if one.marker else [],
            "externalReferences": [
                {
                    "type": "distribution",
                    "url": one.purl,
                    "comment": "one of its files for one platform",
                    "hashes": [{"alg": "SHA-256", "content": content}],
                }
                for content in one.hashes
            ],
        }
        for one in read_lock(lock)
    ]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.UUID(bytes=digest[:16], version=4)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application", "bom-ref": ours, "name": OURS, "version": version, "purl": ours,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            }
        },
        "components": components,
        "dependencies": [{"ref": ours, "dependsOn": [component["bom-ref"] for component in components]}],
    }  # fmt: skip


def differences(packages: Sequence[Pinned], installed: Sequence[Distribution]) -> Iterator[str]:
    """What is installed otherwise than the lock says, a line each."""
    lock = {one.name: one for one in packages if one.is_for_here}
    recorded = _recorded(installed)
    there: dict[str, Distribution] = {}
    for one in installed:
        there.setdefault(normal(one.metadata["Name"]), one)
    for name in sorted(there.keys() - lock.keys() - BESIDE):
        yield f"{name} {there[name].version} is installed and not in the lock"
    for name, pinned in sorted(lock.items()):
        if name not in there:
            yield f"{name} {pinned.version} is in the lock and not installed"
        elif there[name].version != pinned.version:
            yield f"{name} is {there[name].version}, and the lock names {pinned.version}"
        else:
            yield from _changed_files(name, there[name], recorded)


def _recorded(installed: Iterable[Distribution]) -> dict[Path, set[tuple[str, str]]]:
    """The hashes of each file, by all who say that it is theirs: some packages bring the same file in two forms."""
    found: dict[Path, set[tuple[str, str]]] = {}
    for distribution in installed:
        for file in distribution.files or ():
            if file.hash is not None:
                found.setdefault(Path(str(file.locate())), set()).add((file.hash.mode, file.hash.value))
    return found


def _changed_files(
    name: str, distribution: Distribution, recorded: Mapping[Path, Collection[tuple[str, str]]]
) -> Iterator[str]:
    """Files that are not as a wheel recorded them (PEP 376, RECORD)."""
    if distribution.files is None:
        yield f"{name} has no record of its files"
    for file in distribution.files or ():
        if _WRITTEN_LATER.search(str(file)) or file.suffix == ".pyc":
            continue
        path = Path(str(file.locate()))
        if path not in recorded:
            yield f"{name}: {file} has no hash in its record"
        elif not path.is_file():
            yield f"{name}: {file} is missing"
        elif not any(_digest(_as_installed(path, file.size), mode) == value for mode, value in recorded[path]):
            yield f"{name}: {file} was changed"


def _as_installed(path: Path, size: int | None) -> bytes:
    """What a wheel brought. Machines behind a proxy append its authority to certifi's list, trusted by nobody here."""
    content = path.read_bytes()
    added = content[size:] if size is not None and path.name == _AUTHORITIES else b""
    return content[:size] if added and _CERTIFICATES.fullmatch(added) else content


def _digest(content: bytes, mode: str) -> str:
    return base64.urlsafe_b64encode(hashlib.new(mode, content).digest()).rstrip(b"=").decode()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one of both; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["sbom", "audit"])
    what = parser.parse_args(arguments).what
    lock = LOCK.read_text(encoding="utf-8")
    if what == "sbom":
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        print(json.dumps(bill_of_materials(lock, project["version"]), indent=2))
        return 0
    pinned = read_lock(lock)
    found = list(differences(pinned, list(distributions(path=[path for path in sys.path if "site-packages" in path]))))
    here = sum(one.is_for_here for one in pinned)
    print("\n".join(found) if found else f"{here} packages are what the lock names, file by file")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
