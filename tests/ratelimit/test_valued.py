"""Values in metrics: which stand there, how many may, and where the others are counted."""

from __future__ import annotations

from envoy.service.ratelimit.v3 import rls_pb2

from mixer_py.instruments import Registry

RULES = """\
domain: shop
descriptors:
  - key: route
    value: api/*
    value_to_metric: true
    descriptors:
      - key: tenant
        rate_limit: {unit: day, requests_per_unit: 1}
        metadata: {kept: true}
      - key: user
        detailed_metric: true
        shadow_mode: true
        rate_limit: {unit: day, requests_per_unit: 1}
  - key: path
    value: /a*
    share_threshold: true
    value_to_metric: true
    detailed_metric: true
    rate_limit: {unit: day, requests_per_unit: 9}
  - key: colour
    rate_limit: {unit: day, requests_per_unit: 9}
"""


def ask(*entries: tuple[str, str]) -> object:
    request = rls_pb2.RateLimitRequest(domain="shop")
    descriptor = request.descriptors.add()
    for key, value in entries:
        descriptor.entries.add(key=key, value=value)
    return request


def counted(registry: Registry, name: str = "mixer_rate_limits_total", *labels: str) -> dict[tuple[str, ...], float]:
    return {
        tuple(dict(series.labels)[label] for label in labels or ("rule", "code")): values[0]
        for series, values in registry.read()
        if series.name == name and values[0]
    }


async def test_values_stand_in_the_label_where_they_are_asked_for(make_limiter, registry) -> None:
    limiter = make_limiter(RULES)
    for entries in (
        [("route", "api/x"), ("tenant", "gold")],
        [("route", "api/x"), ("tenant", "tin")],
        [("route", "api/y"), ("tenant", "tin")],
        [("route", "api/y"), ("tenant", "tin")],
        [("route", "api/x"), ("user", "ann")],
        [("route", "api/x"), ("user", "ann")],
        [("path", "/ab")],
        [("path", "/ac")],
        [("colour", "blue")],
    ):
        answer = await limiter.should_rate_limit(ask(*entries))
        assert "api/x" not in answer.dynamic_metadata.fields["mixer_limit"].string_value
    assert counted(registry) == {
        ('shop/route="api/x"/tenant', "OK"): 2,
        ('shop/route="api/y"/tenant', "OK"): 1,
        ('shop/route="api/y"/tenant', "OVER_LIMIT"): 1,
        ('shop/route="api/x"/user=ann', "OK"): 1,
        ('shop/route="api/x"/user=ann', "SHADOW_OVER_LIMIT"): 1,
        ('shop/path="/a*"', "OK"): 2,
        ("shop/colour", "OK"): 1,
    }


async def test_metadata_is_kept_where_values_are_shown(make_limiter) -> None:
    """The original loses it there."""
    limiter = make_limiter(RULES, metadata=True)
    answer = await limiter.should_rate_limit(ask(("route", "api/x"), ("tenant", "gold")))
    assert answer.dynamic_metadata["metadata"]["kept"] is True


async def test_values_beyond_the_bound_are_counted_together(make_limiter, registry) -> None:
    limiter = make_limiter(RULES, max_metric_values=2)
    for route in ("api/1", "api/2", "api/3", "api/4", "api/1"):
        await limiter.should_rate_limit(ask(("route", route), ("tenant", "gold")))
    assert counted(registry) == {
        ('shop/route="api/1"/tenant', "OK"): 1,
        ('shop/route="api/1"/tenant', "OVER_LIMIT"): 1,
        ('shop/route="api/2"/tenant', "OK"): 1,
        ('shop/route="api/*"/tenant/(other)', "OK"): 2,
    }
    overflow = counted(registry, "mixer_rate_limit_values_overflow_total", "domain", "rule")
    assert overflow == {("shop", 'shop/route="api/*"/tenant'): 2}


async def test_long_values_get_no_series(make_limiter, registry) -> None:
    limiter = make_limiter(RULES)
    await limiter.should_rate_limit(ask(("route", "api/" + "x" * 600), ("tenant", "gold")))
    assert counted(registry) == {('shop/route="api/*"/tenant/(other)', "OK"): 1}


async def test_replaced_limits_are_counted_as_such(make_limiter, registry) -> None:
    limiter = make_limiter(
        "domain: shop\ndescriptors:\n"
        "  - {key: a, value_to_metric: true, rate_limit: {unit: day, requests_per_unit: 1, name: each}}\n"
        "  - {key: b, rate_limit: {unit: day, requests_per_unit: 1, replaces: [{name: each}]}}\n"
    )
    request = ask(("a", "x"))
    request.descriptors.add().entries.add(key="b", value="y")
    await limiter.should_rate_limit(request)
    assert counted(registry) == {("shop/a", "REPLACED"): 1, ("shop/b", "OK"): 1}
