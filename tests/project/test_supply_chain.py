"""The bill of materials says what the lock says, and the audit sees what differs from it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from importlib.metadata import Distribution, distributions
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "supply_chain.py"
HASH = "a" * 64


def script():
    spec = spec_from_file_location("supply_chain", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules["supply_chain"] = module  # dataclasses look for it there
    spec.loader.exec_module(module)
    return module


supply_chain = script()


def run(what: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, what], capture_output=True, text=True, check=False, timeout=120)


def test_what_is_installed_is_what_the_lock_names():
    done = run("audit")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_bill_of_materials_is_the_lock_and_the_same_each_time():
    first, second = run("sbom"), run("sbom")
    assert first.stdout == second.stdout
    bill = json.loads(first.stdout)
    assert (bill["bomFormat"], bill["specVersion"], bill["version"]) == ("CycloneDX", "1.6", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}", bill["serialNumber"])
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pinned = re.findall(r"^([A-Za-z0-9._-]+)(?:\[.*?\])?==([^ ;\\]+)", lock, flags=re.MULTILINE)
    assert len(bill["components"]) == len(pinned) > 50
    references = [component["bom-ref"] for component in bill["components"]]
    assert len(set(references)) == len(references)
    assert bill["dependencies"][0]["dependsOn"] == references
    assert {one["hashes"][0]["alg"] for part in bill["components"] for one in part["externalReferences"]} == {"SHA-256"}
    assert lock.count("--hash=sha256:") == sum(len(part["externalReferences"]) for part in bill["components"])


def test_an_authority_of_the_machine_may_stand_behind_those_of_certifi(tmp_path):
    one = install(tmp_path, "one")
    authorities = tmp_path / "cacert.pem"
    ours = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    digest = base64.urlsafe_b64encode(hashlib.sha256(ours.encode()).digest()).rstrip(b"=").decode()
    with (tmp_path / "one-1.dist-info" / "RECORD").open("a") as record:
        record.write(f"cacert.pem,sha256={digest},{len(ours)}\n")
    one = next(iter(distributions(name="one", path=[str(tmp_path)])))
    for added, found in (("", []), (ours, []), ("# nothing\n", ["one: cacert.pem was changed"])):
        authorities.write_text(ours + added)
        assert differences(pin("one"), one) == found


@pytest.mark.parametrize("line", ["a>=1 --hash=sha256:" + HASH, "a==1", "a @ file:///a"])
def test_a_lock_that_pins_nothing_is_refused(line):
    with pytest.raises(ValueError, match="no version, or no hash"):
        supply_chain.read_lock(line)


def install(site: Path, name: str, content: str = "x = 1\n", recorded: str | None = None) -> Distribution:
    digest = base64.urlsafe_b64encode(hashlib.sha256((recorded or content).encode()).digest()).rstrip(b"=").decode()
    folder = site / f"{name}-1.dist-info"
    folder.mkdir(parents=True)
    (site / f"{name}.py").write_text(content)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (folder / "RECORD").write_text(f"{name}.py,sha256={digest},{len(content)}\n{name}-1.dist-info/RECORD,,\n")
    return next(iter(distributions(name=name, path=[str(site)])))


def differences(lock: str, *installed: Distribution) -> list[str]:
    return list(supply_chain.differences(supply_chain.read_lock(lock), installed))


def pin(name: str, version: str = "1", marker: str = "") -> str:
    return f"{name}=={version} {marker} \\\n    --hash=sha256:{HASH}\n"


def test_what_differs_is_told(tmp_path):
    good, extra = install(tmp_path, "good"), install(tmp_path, "extra")
    assert differences(pin("Good"), good) == []
    assert differences(pin("good"), good, extra) == ["extra 1 is installed and not in the lock"]
    assert differences(pin("good") + pin("absent"), good) == ["absent 1 is in the lock and not installed"]
    assert differences(pin("good", "2"), good) == ["good is 1, and the lock names 2"]
    assert differences(pin("good") + pin("other", marker="; sys_platform == 'win32'"), good) == []
    (tmp_path / "good.py").write_text("x = 2\n")
    assert differences(pin("good"), good) == ["good: good.py was changed"]
    (tmp_path / "good.py").unlink()
    assert differences(pin("good"), good) == ["good: good.py is missing"]


def test_a_file_that_two_packages_bring_is_as_one_of_them_recorded_it(tmp_path):
    first = install(tmp_path, "first")
    second = install(tmp_path, "second")
    record = tmp_path / "second-1.dist-info" / "RECORD"
    other = base64.urlsafe_b64encode(hashlib.sha256(b"y = 1\n").digest()).rstrip(b"=").decode()
    record.write_text(f"first.py,sha256={other},6\n")
    lock = pin("first") + pin("second")
    assert differences(lock, first, second) == []
    (tmp_path / "first.py").write_text("y = 1\n")
    assert differences(lock, first, second) == []
    (tmp_path / "first.py").write_text("z = 1\n")
    assert differences(lock, first, second) == ["first: first.py was changed", "second: first.py was changed"]
