"""A check whose decision comes from the cache is a check of its own: identifier, row, counts. Only Rego is spared."""

from __future__ import annotations

from pathlib import Path

from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse

from mixer_py.calls import Call
from mixer_py.instruments import FakeClock, Registry
from mixer_py.policy.policy import Policy
from mixer_py.policy.settings import PolicySettings
from mixer_py.services.ext_authz import Authorization, AuthorizationService
from mixer_py.telemetry.decision_record import DecisionRecord

POLICY = 'package envoy.authz\n\nallow := {"allowed": input.parsed_path == ["a"], "reasons": "by path"}\n'


class Records(list[DecisionRecord]):
    """A decision log that remembers."""

    def record(self, record: DecisionRecord) -> None:
        self.append(record)


async def test_every_check_is_its_own(tmp_path: Path) -> None:
    file = tmp_path / "policy.rego"
    file.write_text(POLICY, encoding="utf-8")
    registry, records = Registry(), Records()
    policy = Policy.load(PolicySettings(bundles=(str(file),)), registry=registry)
    service = AuthorizationService(Authorization(policy, "r", "error"), records, registry, FakeClock())
    answers = []
    for number, path in enumerate(["/a", "/a?x=1", "/a", "/b"]):
        request = CheckRequest()
        request.attributes.request.http.path = path
        request.attributes.request.http.id = str(number)
        answers.append(CheckResponse.FromString(await service.check(request.SerializeToString(), Call())))
    assert [answer.status.code for answer in answers] == [0, 0, 0, 7]
    assert len({answer.dynamic_metadata["decision_id"] for answer in answers}) == 4
    assert {answer.dynamic_metadata["mixer_reasons"] for answer in answers} == {"by path"}
    assert [record.cache for record in records] == ["miss", "hit", "hit", "miss"]
    assert [record.request.attributes.request.http.id for record in records] == ["0", "1", "2", "3"]
    checks = registry.counter("mixer_checks_total", "", ("decision", "verdict", "cache", "tier"))
    tier = policy.points[-1].tier
    for verdict, cache, count in (("allow", "miss", 1), ("allow", "hit", 2), ("deny", "miss", 1), ("deny", "hit", 0)):
        assert checks.labels("envoy/authz/allow", verdict, cache, tier).value == count
    assert registry.gauge("mixer_decision_cache_entries", "").labels().value == 2
