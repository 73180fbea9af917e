"""Quotas on attributes: what a check is charged for, all or none, and what is said of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from envoy.service.auth.v3.attribute_context_pb2 import AttributeContext
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer_py.attributes.bag import Bag
from mixer_py.errors import CounterStoreError, UnknownQuotaError
from mixer_py.instruments import FakeClock, Registry
from mixer_py.policy.decision import QuotaAsked
from mixer_py.ratelimit.algorithms import Tally
from mixer_py.ratelimit.quota_settings import QuotaSettings
from mixer_py.ratelimit.quotas.charging import Quotas
from mixer_py.ratelimit.quotas.index import QuotaIndex
from mixer_py.ratelimit.quotas.outcome import NO_QUOTA, QuotaOutcome
from mixer_py.ratelimit.quotas.quota import Quota
from mixer_py.ratelimit.settings import RateLimitSettings
from mixer_py.ratelimit.stores import Charge
from mixer_py.ratelimit.stores.memory import MemoryStore

TENANT = 'request.headers["x-tenant"]'


def quota(name: str = "q", limit: str = "2 / 1m", **keys: Any) -> QuotaSettings:
    return QuotaSettings(name=name, limit=limit, **keys)


def check(method: str = "GET", host: str = "shop", **headers: str) -> AttributeContext:
    context = AttributeContext()
    http = context.request.http
    http.method, http.host = method, host
    for name, value in headers.items():
        http.headers[name.replace("_", "-")] = value
    return context


class Desk:
    """Quotas over a store, with a clock that the test moves."""

    def __init__(self, *settings: QuotaSettings, capacity: int = 1000, on_error: Any = "error") -> None:
        self.clock, self.registry = FakeClock(), Registry()
        self.store = MemoryStore(self.clock, self.registry, capacity)
        limits = RateLimitSettings(quotas=settings, on_error=on_error)
        self.quotas = Quotas(limits, self.store, self.registry, self.clock)

    async def __call__(self, context: AttributeContext | None = None, *asked: QuotaAsked) -> QuotaOutcome:
        return await self.quotas.charge(check() if context is None else context, asked)

    async def verdicts(self, count: int, context: AttributeContext | None = None) -> list[str]:
        return [(await self(context)).verdict for _ in range(count)]

    def counted(self, name: str = "mixer_quotas_total") -> dict[tuple[str, ...], float]:
        return {
            tuple(dict(series.labels).values()): values[0]
            for series, values in self.registry.read()
            if series.name == name and values[0]
        }


async def test_hits_above_the_limit_are_denied_until_the_window_ends() -> None:
    desk = Desk(quota())
    assert await desk.verdicts(3) == ["allow", "allow", "deny"]
    desk.clock.advance(60)
    assert (await desk()).verdict == "allow"


async def test_only_checks_that_match_are_charged() -> None:
    desk = Desk(quota(match='request.method == "POST"', limit="1 / 1m"))
    assert await desk.verdicts(5) == ["allow"] * 5
    assert await desk(check()) is NO_QUOTA
    assert await desk.verdicts(2, check("POST")) == ["allow", "deny"]


async def test_what_a_key_tells_apart_is_counted_apart() -> None:
    desk = Desk(quota(key=(TENANT, "request.method"), limit="1 / 1m"))
    for context in (check(x_tenant="a"), check(x_tenant="b"), check("POST", x_tenant="a")):
        assert await desk.verdicts(2, context) == ["allow", "deny"]


async def test_parts_of_a_key_do_not_run_together() -> None:
    desk = Desk(quota(key=(TENANT, 'request.headers["x-user"]'), limit="1 / 1m"))
    assert await desk.verdicts(1, check(x_tenant="a", x_user="bc")) == ["allow"]
    assert await desk.verdicts(1, check(x_tenant="ab", x_user="c")) == ["allow"]


async def test_a_cost_is_charged_whole_or_not_at_all() -> None:
    desk = Desk(quota(limit="5 / 1m", cost='int(request.headers["x-cost"])'))
    outcomes = [await desk(check(x_cost=cost)) for cost in ("3", "3", "2")]
    assert [(one.verdict, one.remaining) for one in outcomes] == [("allow", 2), ("deny", 2), ("allow", 0)]


async def test_a_cost_beyond_any_limit_is_over_it_and_no_failure() -> None:
    outcome = await Desk(quota(cost='int(request.headers["x-cost"])'))(check(x_cost=str(2**62)))
    assert (outcome.verdict, outcome.code) == ("deny", "OVER_LIMIT")
    assert "Retry-After" not in dict(outcome.headers), "it will never fit"


async def test_a_negative_cost_refills_nothing() -> None:
    desk = Desk(quota(cost='int(request.headers["x-cost"])', limit="1 / 1m", on_expression_error="skip"))
    assert await desk.verdicts(1, check(x_cost="1")) == ["allow"]
    assert await desk(check(x_cost="-5")) is NO_QUOTA
    assert await desk.verdicts(1, check(x_cost="1")) == ["deny"]
    assert desk.counted("mixer_quota_expression_errors_total") == {("q", "cost"): 1}


async def test_several_are_charged_together_or_not_at_all() -> None:
    desk = Desk(quota("wide", "3 / 1m"), quota("narrow", "1 / 1m", key=(TENANT,)))
    first, second = await desk(check(x_tenant="a")), await desk(check(x_tenant="a"))
    assert (first.verdict, first.name, first.remaining) == ("allow", "narrow", 0)
    assert (second.verdict, second.name, second.remaining) == ("deny", "narrow", 0)
    assert desk.counted()["wide", "NOT_CHARGED"] == 1
    third = await desk(check(x_tenant="b"))
    assert third.verdict == "allow"
    assert await desk.verdicts(2, check(x_tenant="c")) == ["allow", "deny"], "wide had 3, of which 2 were used"


async def test_a_shadow_quota_counts_and_tells_and_never_denies() -> None:
    desk = Desk(quota("real", "9 / 1m"), quota("candidate", "1 / 1m", shadow=True))
    first, second = await desk(), await desk()
    assert (first.name, first.code, first.reason) == ("candidate", "OK", "")
    assert (second.verdict, second.name, second.code) == ("allow", "candidate", "SHADOW_OVER_LIMIT")
    assert second.reason == "quota candidate is used up: 1 / 1m (shadow)"
    assert desk.counted()["candidate", "SHADOW_OVER_LIMIT"] == 1


async def test_a_denied_check_is_not_charged_to_a_shadow_quota() -> None:
    desk = Desk(quota("real", "1 / 1m"), quota("candidate", "9 / 1m", shadow=True))
    assert await desk.verdicts(3) == ["allow", "deny", "deny"]
    assert desk.counted()["candidate", "OK"] == 1


async def test_a_policy_names_quotas_with_a_key_and_hits_of_its_own() -> None:
    desk = Desk(quota(match="false", key=(TENANT,), limit="5 / 1m", cost="2"))
    assert await desk(check(x_tenant="a")) is NO_QUOTA
    for asked, left in ((QuotaAsked("q"), 3), (QuotaAsked("q", hits=1), 2), (QuotaAsked("q", ("a",), 1), 1)):
        assert (await desk(check(x_tenant="a"), asked)).remaining == left
    assert (await desk(check(x_tenant="a"), QuotaAsked("q", ("b",), 1))).remaining == 4


async def test_a_quota_that_is_named_and_matches_is_charged_once() -> None:
    desk = Desk(quota(limit="9 / 1m"))
    assert (await desk(check(), QuotaAsked("q", hits=2))).remaining == 7


async def test_a_quota_that_is_named_twice_is_charged_the_sum() -> None:
    desk = Desk(quota(match="false", limit="5 / 1m"))
    assert (await desk(check(), QuotaAsked("q", hits=2), QuotaAsked("q", hits=1))).remaining == 2
    assert (await desk(check(), QuotaAsked("q", hits=2), QuotaAsked("q", hits=1))).verdict == "deny"
    assert (await desk(check(), QuotaAsked("q", hits=2))).remaining == 0, "nothing was charged by the one denied"


async def test_a_quota_that_there_is_not_fails_the_policy() -> None:
    with pytest.raises(UnknownQuotaError, match=r"'r'.*known: q"):
        await Desk(quota())(check(), QuotaAsked("r"))


@pytest.mark.parametrize(("setting", "verdict"), [("skip", "allow"), ("deny", "deny")])
@pytest.mark.parametrize("part", ["match", "key", "cost"])
async def test_an_expression_that_fails_skips_the_quota_or_denies(part: str, setting: Any, verdict: str) -> None:
    number = 'int(request.headers["x-cost"])'
    text = {"match": f"{number} > 1", "key": (f"string({number})",), "cost": number}[part]
    desk = Desk(quota(**{part: text}, on_expression_error=setting))
    outcome = await desk(check(x_cost="many"))
    assert (outcome.verdict, outcome.code) == (verdict, "ERROR" if verdict == "deny" else "")
    assert desk.counted("mixer_quota_expression_errors_total") == {("q", part): 1}
    assert outcome.reason.startswith(f"quota q: its {part} has no value: ") is (verdict == "deny")


async def test_a_failing_expression_of_a_shadow_quota_denies_nothing() -> None:
    desk = Desk(quota(cost='int(request.headers["x-cost"])', shadow=True), quota("real"))
    assert (await desk(check(x_cost="many"))).name == "real"


async def test_what_is_not_there_fulfils_no_condition() -> None:
    desk = Desk(quota(match=f'{TENANT} == "a"', limit="1 / 1m"))
    assert await desk(check()) is NO_QUOTA
    assert desk.counted("mixer_quota_expression_errors_total") == {}
    assert await desk.verdicts(2, check(x_tenant="a")) == ["allow", "deny"]


@pytest.mark.parametrize(
    ("setting", "verdicts"),
    [("empty", ["allow", "deny"]), ("skip", ["allow", "allow"]), ("deny", ["deny", "deny"])],
)
async def test_a_key_that_is_not_there_is_what_the_setting_says(setting: Any, verdicts: list[str]) -> None:
    desk = Desk(quota(key=(TENANT,), limit="1 / 1m", on_absent_key=setting))
    assert await desk.verdicts(2) == verdicts


async def test_headers_say_what_is_left_and_when_to_come_again() -> None:
    desk = Desk(quota("slow", "1 / 1h"), quota("fast", "1 / 10s"))
    await desk()
    outcome = await desk()
    assert outcome.name == "slow", "the one for which it takes longest"
    assert outcome.reason == "quota slow is used up: 1 / 1h; quota fast is used up: 1 / 10s"
    headers = dict(outcome.headers)
    assert headers["RateLimit-Limit"] == "1"
    assert headers["RateLimit-Remaining"] == "0"
    assert 10 < int(headers["Retry-After"]) <= 3600
    assert headers["RateLimit-Reset"] == headers["Retry-After"]


class Away:
    """A store that is away."""

    async def charge(self, charges: Sequence[Charge], *, together: bool = False) -> Sequence[Tally | None]:
        raise CounterStoreError("nobody answers")

    def open(self) -> None: ...

    async def close(self) -> None: ...


@pytest.mark.parametrize("on_error", ["error", "allow", "deny"])
async def test_a_store_that_is_away_is_what_on_error_says(on_error: Any) -> None:
    limits = RateLimitSettings(quotas=(quota(), quota("s", shadow=True)), on_error=on_error)
    quotas = Quotas(limits, Away(), Registry(), FakeClock())
    outcome = await quotas.charge(check())
    assert (outcome.verdict, outcome.name, outcome.code) == (on_error, "q", "ERROR")
    assert outcome.reason == "quota q could not be counted: nobody answers"


async def test_a_store_that_is_away_never_denies_by_a_shadow_quota() -> None:
    limits = RateLimitSettings(quotas=(quota(shadow=True),))
    outcome = await Quotas(limits, Away(), Registry(), FakeClock()).charge(check())
    assert outcome.verdict == "allow"


async def test_a_store_without_room_for_all_charges_none() -> None:
    desk = Desk(quota("a"), quota("b"), capacity=1)
    outcome = await desk()
    assert (outcome.verdict, outcome.code) == ("error", "ERROR")
    assert desk.store.live == 0


async def test_a_hundred_quotas_are_told_apart_by_what_they_ask_for() -> None:
    desk = Desk(
        *(quota(f"q{n}", "1 / 1m", match=f'request.host == "h{n}" && request.method == "GET"') for n in range(100))
    )
    assert [(await desk(check(host=f"h{n}"))).name for n in range(100)] == [f"q{n}" for n in range(100)]
    assert await desk(check("POST", host="h7")) is NO_QUOTA
    assert await desk(check(host="h100")) is NO_QUOTA


methods, hosts = st.sampled_from(["GET", "PUT"]), st.sampled_from(["a", "b", "c"])
conditions = st.lists(
    methods.map('request.method == "{}"'.format) | hosts.map('request.host == "{}"'.format)
    | hosts.map('request.headers["x-tenant"] == "{}"'.format) | st.sampled_from(["true", "false"]),
    min_size=1, max_size=3,
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.tuples(conditions, st.sampled_from([" && ", " || "])), max_size=12), methods, hosts)
def test_the_index_passes_over_none_that_matches(matches: list[tuple[list[str], str]], method: str, host: str) -> None:
    declared = [quota(f"q{n}", match=joint.join(parts)) for n, (parts, joint) in enumerate(matches)]
    context = check(method, host, x_tenant="a")
    together, _ = Desk(*declared).quotas.measure(context)
    alone = [one for setting in declared for one in Desk(setting).quotas.measure(context)[0]]
    wanted = [
        setting.name
        for setting, (parts, joint) in zip(declared, matches, strict=True)
        if (all if joint == " && " else any)(
            part in {"true", f'request.method == "{method}"', f'request.host == "{host}"', f'{TENANT} == "a"'}
            for part in parts
        )
    ]
    assert sorted(one.quota.name for one in alone) == sorted(wanted)
    assert sorted(one.quota.name for one in together) == sorted(wanted)


@pytest.mark.parametrize("algorithm", ["fixed_window", "sliding_window", "token_bucket"])
async def test_checks_at_once_never_admit_more_than_the_limits(algorithm: Any) -> None:
    desk = Desk(
        quota("all", "40 / 1h", algorithm=algorithm),
        quota("each", "15 / 1h", key=(TENANT,), algorithm=algorithm),
        quota("dear", "30 / 1h", cost='int(request.headers["x-cost"])', match=f'{TENANT} != "b"', algorithm=algorithm),
    )
    asked = [(tenant, cost) for tenant in "abcd" for cost in (1, 2, 3)] * 10
    outcomes = await asyncio.gather(*(desk(check(x_tenant=tenant, x_cost=str(cost))) for tenant, cost in asked))
    let_in = [one for one, outcome in zip(asked, outcomes, strict=True) if outcome.verdict == "allow"]
    assert len(let_in) <= 40
    for tenant in "abcd":
        assert sum(one == tenant for one, _ in let_in) <= 15
    dear = sum(cost for tenant, cost in let_in if tenant != "b")
    assert dear <= 30
    assert len(let_in) == 40 or dear > 27, "and no room was left unused"


def test_of_many_quotas_only_those_are_tried_that_ask_for_what_the_check_has() -> None:
    family = Registry().counter("c", "", ("quota", "code"), max_label_sets=10_000)
    declared = [
        quota(f"q{n}", match=f'request.method == "GET" && request.headers["x-tenant"] == "t{n}"') for n in range(500)
    ]
    declared += [quota(f"in{n}", match=f'request.host in ["a{n}", "b{n}"]') for n in range(500)]
    index = QuotaIndex([Quota(one, family) for one in declared])
    tried = index.candidates(Bag(check(host="b7", x_tenant="t7")))
    assert sorted(one.name for one in tried) == ["in7", "q7"]
    assert list(index.candidates(Bag(check()))) == []
