"""The case folders of quotas, offline, through the service's bytes, decided by both engines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from envoy.service.auth.v3.external_auth_pb2 import CheckResponse

from mixer_py import errors
from mixer_py.calls import Call
from mixer_py.demo.processes import Ports
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
from tests.parts.quota_cases import Case, assert_answer, load_cases

ALL_CASES = load_cases()


class Records(list[DecisionRecord]):
    """A decision log that remembers."""

    def record(self, record: DecisionRecord) -> None:
        self.append(record)


async def assert_steps(case: Case, settings: PolicySettings) -> None:
    clock, registry, records = FakeClock(), Registry(), Records()
    limits = RateLimitSettings(**case.configuration.get("rate_limit", {}))
    store = MemoryStore(clock, registry, limits.max_counters)
    quotas = Quotas(limits, store, registry, clock) if limits.quotas else None
    policy = Policy.load(settings)
    service = AuthorizationService(
        Authorization(policy, "r", settings.on_error, quotas=quotas), records, registry, clock
    )
    policy.open()
    try:
        for step in case.steps:
            clock.advance(step.advance)
            message = step.message().SerializeToString()
            if step.error is not None:
                with pytest.raises(errors.MixerError) as raised:
                    await service.check(message, Call())
                assert raised.value.grpc_status == getattr(errors, step.error["grpc_status"])
                assert step.error["contains"] in str(raised.value)
                continue
            assert_answer(CheckResponse.FromString(await service.check(message, Call())), step.want)
            row, want = records[-1], step.want
            assert row.verdict == want["verdict"]
            told = {"quota": row.quota_name, "code": row.quota_code, "remaining": row.quota_remaining}
            assert told | want == {**want, **told}, "the row says what the metadata says"
    finally:
        await policy.close()


@pytest.mark.parametrize("case", ALL_CASES, ids=lambda case: case.name)
async def test_case(case: Case, tmp_path: Path) -> None:
    module = tmp_path / "policy.rego"
    module.write_text(case.policy, encoding="utf-8")
    await assert_steps(case, PolicySettings(bundles=(str(module),), **case.configuration.get("policy", {})))


@pytest.fixture(scope="module")
def opa(module_programs: Programs, ports: Ports) -> Iterator[Opa]:
    server = Opa(module_programs, ports, language="v1")
    yield server
    server.close()


@pytest.mark.opa
@pytest.mark.parametrize("case", ALL_CASES, ids=lambda case: case.name)
async def test_case_decided_by_an_opa_server(case: Case, opa: Opa) -> None:
    keys = {"engine": "opa", "opa": {"url": opa.url, "timeout": "60s"}} | case.configuration.get("policy", {})
    with opa.holding(case.policy, "{}"):
        await assert_steps(case, PolicySettings(**keys))


def test_there_are_cases_of_both_kinds() -> None:
    assert len(ALL_CASES) > 15
    assert {True, False} == {case.moves_the_clock for case in ALL_CASES}
