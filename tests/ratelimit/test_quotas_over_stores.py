"""Quotas over the stores that are shared: several mixers that charge at once never admit more than the limits."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from envoy.service.auth.v3.attribute_context_pb2 import AttributeContext

from mixer_py.instruments import FakeClock, Registry
from mixer_py.ratelimit.quota_settings import QuotaSettings
from mixer_py.ratelimit.quotas.charging import Quotas
from mixer_py.ratelimit.settings import RateLimitSettings
from mixer_py.ratelimit.stores.opening import open_store
from tests.parts.valkey import Valkey

pytestmark = pytest.mark.valkey

TENANT = 'request.headers["x-tenant"]'
_NAMES = itertools.count()


@pytest.fixture(scope="module")
def valkey(module_programs, ports) -> Iterator[Valkey]:
    return Valkey(module_programs, ports)


def check(tenant: str, cost: int) -> AttributeContext:
    context = AttributeContext()
    context.request.http.headers.update({"x-tenant": tenant, "x-cost": str(cost)})
    return context


@pytest.mark.parametrize("algorithm", ["fixed_window", "sliding_window", "token_bucket"])
async def test_mixers_that_charge_at_once_never_admit_more_than_the_limits(valkey: Valkey, algorithm: Any) -> None:
    clock, registry, number = FakeClock(), Registry(), next(_NAMES)
    quotas = (
        QuotaSettings(name=f"all-{number}", limit="40 / 1h", algorithm=algorithm),
        QuotaSettings(name=f"each-{number}", limit="15 / 1h", key=(TENANT,), algorithm=algorithm),
        QuotaSettings(name=f"dear-{number}", limit="30 / 1h", cost='int(request.headers["x-cost"])',
                      match=f'{TENANT} != "b"', algorithm=algorithm),
    )  # fmt: skip
    settings = RateLimitSettings(store=valkey.uri, time="caller", timeout="10s", quotas=quotas)
    asked = [(tenant, cost) for tenant in "abcd" for cost in (1, 2, 3)] * 10
    async with AsyncExitStack() as stack:
        mixers = []
        for _ in range(3):
            store = open_store(settings, registry, clock)
            store.open()
            stack.push_async_callback(store.close)
            mixers.append(Quotas(settings, store, registry, clock))
        outcomes = await asyncio.gather(*(mixers[index % 3].charge(check(*one)) for index, one in enumerate(asked)))
    assert {outcome.verdict for outcome in outcomes} == {"allow", "deny"}
    let_in = [one for one, outcome in zip(asked, outcomes, strict=True) if outcome.verdict == "allow"]
    assert len(let_in) <= 40
    assert all(sum(one == tenant for one, _ in let_in) <= 15 for tenant in "abcd")
    dear = sum(cost for tenant, cost in let_in if tenant != "b")
    assert dear <= 30
    assert len(let_in) == 40 or dear > 27, "and no room was left unused"
