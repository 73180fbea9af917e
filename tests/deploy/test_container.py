"""The container image: it is built, is small, and runs as a user without rights on a read-only root file system."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.image import Image, built
from tests.parts.mixer_process import eventually
from tests.parts.presence import ROOT
from tests.parts.programs import Programs

CONTAINER = ROOT / "deploy" / "container"
OWN_MEGABYTES = 400
"""What the image has beyond Debian and its Python; pyarrow, pandas and numpy are the half of it."""
GRPC_HEALTH = (
    "import grpc; from grpc_health.v1 import health_pb2 as pb, health_pb2_grpc as stubs; "
    "channel = grpc.insecure_channel('127.0.0.1:9091'); "
    "print(stubs.HealthStub(channel).Check(pb.HealthCheckRequest(), timeout=30))"
)
_PIN = re.compile(r"^(?P<name>[a-z0-9._-]+)==(?P<version>[^ ;]+)", re.MULTILINE)


def pins(path: Path) -> dict[str, str]:
    return {f"{found['name']}=={found['version']}": path.name for found in _PIN.finditer(path.read_text())}


@pytest.mark.parametrize("name", ["small.lock", "whole.lock"])
def test_an_image_holds_what_was_tested_and_none_of_the_tools(name: str):
    """The same pins and hashes as requirements.lock; `make lock` writes all three."""
    own, whole = CONTAINER / name, ROOT / "requirements.lock"
    assert pins(own).keys() <= pins(whole).keys()
    hashes = re.compile(r"sha256:[0-9a-f]{64}")
    assert set(hashes.findall(own.read_text())) <= set(hashes.findall(whole.read_text()))
    assert not {"pytest", "mypy", "ruff", "jsonschema"} & {pin.partition("==")[0] for pin in pins(own)}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    with built(tmp_path_factory.mktemp("image")) as made:
        yield made


@pytest.mark.long(1)
@pytest.mark.buildah
def test_it_starts_is_healthy_answers_and_drains(image: Image, programs: Programs, tmp_path: Path):
    etc = tmp_path / "etc"
    (etc / "policies").mkdir(parents=True)
    (etc / "policies" / "policy.rego").write_text("package envoy.authz\n\ndefault allow := true\n")
    shutil.copy(CONTAINER / "mixer.yaml", etc)
    for path in (tmp_path, etc):
        path.chmod(0o755)
    container = image.start(programs, etc)
    kind, *health = image.configuration["Healthcheck"]["Test"]
    assert kind == "CMD"
    eventually(lambda: image.ask(container, health).returncode == 0, "a healthy container")
    answer = image.ask(container, ["/opt/mixer/bin/python", "-c", GRPC_HEALTH])
    assert "status: SERVING" in answer.stdout, answer
    status = Path(f"/proc/{container.pid}/status").read_text()
    assert re.search(r"^Uid:\t65532\t65532\t65532\t65532$", status, re.MULTILINE)
    assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE)
    assert image.ask(container, ["/usr/bin/touch", "/opt/mixer/written"]).returncode != 0
    query = image.ask(container, ["/opt/mixer/bin/mixer", "validate", "-c", "/etc/mixer/mixer.yaml"])
    assert query.returncode == 0, query
    container.signal(getattr(signal, image.configuration.get("StopSignal", "SIGTERM")))
    assert container.wait(60) == 0


@pytest.mark.buildah
def test_it_is_small_and_its_configuration_says_who_it_is(image: Image):
    bytes_ = sum(path.lstat().st_size for path in (image.root / "opt").rglob("*") if path.is_file())
    assert bytes_ < OWN_MEGABYTES * 1024 * 1024
    assert image.configuration["User"] == "65532:65532"
    assert set(image.configuration["ExposedPorts"]) == {"9091/tcp", "15014/tcp"}
    assert set(image.configuration["Volumes"]) == {"/var/lib/mixer"}
    assert not list((image.root / "opt" / "mixer").rglob("pip")), "nothing can be installed in a running container"
