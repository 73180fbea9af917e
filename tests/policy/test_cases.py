"""The case folders of ext_authz, offline: the same request, policy and answer as over gRPC and through Envoy.

Each is decided by both engines: the embedded one, and a real OPA server. The cases of the sample policies are run too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from google.protobuf import json_format

from mixer_py.calls import Call
from mixer_py.demo.processes import Ports
from mixer_py.errors import UNKNOWN, EvaluationError
from mixer_py.instruments import FakeClock, Registry
from mixer_py.policy.policy import Policy
from mixer_py.policy.settings import PolicySettings
from mixer_py.ratelimit.quotas.charging import Quotas
from mixer_py.ratelimit.settings import RateLimitSettings
from mixer_py.ratelimit.stores.memory import MemoryStore
from mixer_py.services.ext_authz import Authorization, AuthorizationService
from mixer_py.telemetry.decision_record import DecisionRecord
from tests.parts.opa_server import Opa
from tests.parts.programs import Programs

CASES = Path(__file__).parents[1] / "cases" / "ext_authz"
SAMPLES = sorted(path.parent for path in Path(__file__).parents[2].glob("policies/*/cases/*/want.json"))
FOLDERS = sorted(path.parent for path in CASES.glob("*/want.json"))


class Recorder:
    def __init__(self) -> None:
        self.checks: list[DecisionRecord] = []

    def record(self, record: DecisionRecord) -> None:
        self.checks.append(record)


def load_settings(folder: Path) -> PolicySettings:
    config = folder / "config.yaml"
    keys: dict[str, Any] = yaml.safe_load(config.read_text())["policy"] if config.exists() else {}
    if "proto_descriptor" in keys:
        keys["proto_descriptor"] = str(folder / keys["proto_descriptor"])
    files = [str(folder / name) for name in ("policy.rego", "data.json") if (folder / name).exists()]
    return PolicySettings(bundles=tuple(files), **keys)


def assert_part(part: Any, whole: Any, where: str) -> None:
    """`part` is in `whole`: keys of objects that it names, and whole lists."""
    if isinstance(part, dict):
        assert isinstance(whole, dict), where
        for key, value in part.items():
            assert key in whole, f"{where}.{key} is missing in {whole}"
            assert_part(value, whole[key], f"{where}.{key}")
    elif isinstance(part, list):
        assert isinstance(whole, list), where
        assert len(whole) == len(part), f"{where}: {whole}"
        for index, (wanted, given) in enumerate(zip(part, whole, strict=True)):
            assert_part(wanted, given, f"{where}[{index}]")
    else:
        assert whole == part, where


async def assert_answer(folder: Path, settings: PolicySettings, limits: RateLimitSettings | None = None) -> None:
    policy = Policy.load(settings)
    try:
        await assert_policy_answers(folder, settings, policy, limits or RateLimitSettings())
    finally:
        await policy.close()


async def assert_policy_answers(
    folder: Path, settings: PolicySettings, policy: Policy, limits: RateLimitSettings
) -> None:
    request = json_format.Parse((folder / "request.json").read_text(), CheckRequest())
    want = json.loads((folder / "want.json").read_text())
    recorder, registry, clock = Recorder(), Registry(), FakeClock()
    quotas = Quotas(limits, MemoryStore(clock, registry, limits.max_counters), registry, clock)
    authorization = Authorization(policy, policy.revision, settings.on_error, quotas=quotas)
    service = AuthorizationService(authorization, recorder, registry, clock)

    if "error" in want:
        with pytest.raises(EvaluationError, match=re.escape(want["error"]["contains"])) as caught:
            await service.check(request.SerializeToString(), Call())
        assert want["error"]["grpc_status"] == "UNKNOWN"
        assert caught.value.grpc_status == UNKNOWN
    else:
        answer = await service.check(request.SerializeToString(), Call())
        response = json_format.MessageToDict(CheckResponse.FromString(answer))
        assert_part(want["response"], response, "response")
        assert response["dynamicMetadata"]["decision_id"] == recorder.checks[0].decision_id
    assert [check.verdict for check in recorder.checks] == [want["verdict"]]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
async def test_case(folder: Path) -> None:
    await assert_answer(folder, load_settings(folder))


@pytest.fixture(scope="module")
def servers(module_programs: Programs, ports: Ports) -> Iterator[Callable[[str], Opa]]:
    """A real OPA server, empty, for each version of Rego."""
    started: dict[str, Opa] = {}

    def server(language: str) -> Opa:
        if language not in started:
            started[language] = Opa(module_programs, ports, language=language)
        return started[language]

    yield server
    for one in started.values():
        one.close()


@pytest.mark.opa
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
async def test_case_decided_by_an_opa_server(folder: Path, servers: Callable[[str], Opa]) -> None:
    """The same answer in every case: what one engine cannot hold is refused before either sees it."""
    embedded = load_settings(folder)
    opa = servers(embedded.rego_version)
    engine = {"engine": "opa", "opa": {"url": opa.url, "timeout": "60s"}, "bundles": ()}
    settings = PolicySettings(**{name: getattr(embedded, name) for name in embedded.model_fields_set} | engine)
    data = folder / "data.json"
    with opa.holding((folder / "policy.rego").read_text(), data.read_text() if data.exists() else "{}"):
        await assert_answer(folder, settings)


@pytest.mark.parametrize("folder", SAMPLES, ids=lambda folder: f"{folder.parts[-3]}-{folder.name}")
async def test_sample(folder: Path) -> None:
    """A sample is loaded as its README configures it."""
    sample = folder.parents[1]
    config = re.search(r"```yaml\n(.*?)```", (sample / "README.md").read_text(), re.DOTALL)
    assert config is not None
    whole = yaml.safe_load(config[1])
    keys, limits = whole["policy"], RateLimitSettings(**whole.get("rate_limit", {}))
    bundles = keys.pop("bundles")
    assert bundles[0] == f"policies/{sample.name}/bundle"
    root = sample.parents[1]
    settings = PolicySettings(bundles=tuple(str(root / bundle) for bundle in bundles), **keys)
    await assert_answer(folder, settings, limits)


def test_the_page_about_moving_names_cases_that_exist() -> None:
    """In its tables a question's last column says what holds the answer."""
    page = (CASES.parents[2] / "docs" / "opa-envoy-plugin.md").read_text(encoding="utf-8")
    columns = [line.rsplit("|", 2)[1] for line in page.splitlines() if line.startswith("|") and line.count("|") == 4]
    named = {name for column in columns for name in re.findall(r"`([a-z0-9_]+)`", column)}
    held = {name for name in named if name in {folder.name for folder in FOLDERS}}
    assert len(held) > 40
    assert named - held <= {"pack_as_bytes", "all", "mixer_stage_duration_seconds", "decision_log"}


def test_there_are_cases() -> None:
    assert len(FOLDERS) >= 30
    assert SAMPLES
