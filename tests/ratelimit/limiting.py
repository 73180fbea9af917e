"""The limiter as tests ask it: messages in and out, and each answer held against a plain one.

The plain answer is written field by field with protobuf's own API, where the product puts parts together that were
serialized before. So whatever a test asks about, it also tests that both say the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from envoy.service.ratelimit.v3 import rls_pb2
from google.protobuf import text_format
from google.protobuf.struct_pb2 import Struct

from mixer_py.instruments import Clock, Registry
from mixer_py.ratelimit.algorithms import SECOND, Tally
from mixer_py.ratelimit.answering.limiter import Limiter
from mixer_py.ratelimit.answering.requests import Asked
from mixer_py.ratelimit.answering.responses import Answer, ResponseWriter
from mixer_py.ratelimit.answering.statistics import Statistics
from mixer_py.ratelimit.answering.verdict import OVER, Verdict
from mixer_py.ratelimit.answering.wording import UNLIMITED_REMAINING
from mixer_py.ratelimit.headers import Headers, Told
from mixer_py.ratelimit.rules import Rules
from mixer_py.ratelimit.settings import RateLimitSettings
from mixer_py.ratelimit.stores import CounterStore

OK, OVER_LIMIT = rls_pb2.RateLimitResponse.OK, rls_pb2.RateLimitResponse.OVER_LIMIT


class Limiting(Limiter):
    """A limiter that compares."""

    def __init__(
        self,
        rules: Rules,
        store: CounterStore,
        registry: Registry,
        clock: Clock,
        settings: RateLimitSettings | None = None,
    ) -> None:
        super().__init__(rules, store, registry, clock, settings)
        self.registry = registry
        settings = settings or RateLimitSettings()
        statistics = Statistics(registry, shadow_mode=settings.shadow_mode)
        self._compared = ComparedWriter(rules, statistics, settings)
        self._writer = self._compared

    async def should_rate_limit(self, request: Any, *, authenticated: bool = False) -> Any:
        self._compared.request = request
        answer = await self.answer(request.SerializeToString(), authenticated=authenticated)
        return rls_pb2.RateLimitResponse.FromString(answer.message)


class ComparedWriter(ResponseWriter):
    """Writes each answer in both ways."""

    request: Any = None
    """The request that is answered; None when the test asked by bytes."""

    def __init__(self, rules: Rules, statistics: Statistics, settings: RateLimitSettings) -> None:
        super().__init__(rules, statistics, settings)
        self._settings = settings

    def write(self, asked: Asked, tallies: Sequence[Tally | None]) -> Answer:
        answer = super().write(asked, tallies)
        got = rls_pb2.RateLimitResponse.FromString(answer.message)
        want = plain(self._settings, self.request, asked, tallies)
        if self.request is None and self._settings.metadata:
            return answer
        assert got == want
        assert answer.over == (want.overall_code == OVER_LIMIT)
        return answer


def plain(settings: RateLimitSettings, request: Any, asked: Asked, tallies: Sequence[Tally | None]) -> Any:
    """The answer, field by field."""
    response = rls_pb2.RateLimitResponse()
    told: list[Told] = []
    verdict = _statuses(settings, response, asked, tallies, told)
    over = verdict.close() and not settings.shadow_mode
    response.overall_code = OVER_LIMIT if over else OK
    if settings.headers.of != "none":
        written = Headers(settings.headers).write(told, verdict.shown, verdict.retry if over else None)
        response.MergeFromString(written)
    fields = response.dynamic_metadata.fields
    if settings.metadata and request is not None:
        _metadata(fields, request, _passed(response, asked))
    fields["mixer_limit"].string_value = verdict.target.name if verdict.target is not None else ""
    fields["mixer_code"].string_value = "OVER_LIMIT" if over else "OK"
    if verdict.target is not None:
        fields["mixer_remaining"].number_value = max(verdict.left, 0)
    return response


def _statuses(
    settings: RateLimitSettings, response: Any, asked: Asked, tallies: Sequence[Tally | None], told: list[Told]
) -> Verdict:
    verdict = Verdict()
    charged = iter(tallies)
    for position, target in enumerate(asked.targets or (None,) * asked.descriptors):
        status = response.statuses.add(code=OK)
        if target is None or target.replaced:
            continue
        if target.unlimited:
            status.limit_remaining = UNLIMITED_REMAINING
            verdict.take(target, UNLIMITED_REMAINING, None)
            continue
        tally = next(charged)
        refused = not target.shadow_mode
        if tally is None:
            if settings.on_error != "deny":  # or `error` in shadow mode: else there is no answer
                verdict.let_in(target)
                continue
        else:
            refused = refused and not tally.admitted
            status.limit_remaining = tally.remaining
            status.duration_until_reset.seconds = -(-tally.reset // SECOND)
        status.current_limit.CopyFrom(target.wording._limit)
        if refused:
            status.code = OVER_LIMIT
        if tally is not None:
            told.append(Told(position, target.policy, target.terms, tally))
        left = OVER if refused else status.limit_remaining
        verdict.take(target, left, told[-1] if tally is not None else None)
    return verdict


def _passed(response: Any, asked: Asked) -> Iterator[Struct]:
    for target, status in zip(asked.targets, response.statuses, strict=False):
        if target is not None and target.metadata is not None and status.code == OK and not target.replaced:
            yield target.metadata


def _metadata(fields: Any, request: Any, passed: Iterator[Struct]) -> None:
    fields["domain"].string_value = request.domain
    for descriptor in request.descriptors:
        said = fields["descriptors"].list_value.values.add().struct_value.fields
        said["entries"].list_value.SetInParent()
        for entry in descriptor.entries:
            said["entries"].list_value.values.add().string_value = f"{entry.key}={entry.value}"
        if descriptor.HasField("limit"):
            said["limit"].string_value = text_format.MessageToString(descriptor.limit, as_one_line=True)
        if descriptor.HasField("hits_addend"):
            said["hitsAddend"].number_value = descriptor.hits_addend.value
    if request.hits_addend:
        fields["hitsAddend"].number_value = request.hits_addend
    merged: dict[str, Any] = {}
    some = False
    for metadata in passed:
        some = True
        _merge(merged, dict(metadata))
    if some:
        fields["metadata"].struct_value.update(merged)


def _merge(into: dict[str, Any], source: Any) -> None:
    """Mappings are merged at every depth; of two other values the first stays."""
    for name, found in source.items():
        value = dict(found) if isinstance(found, Struct) else found
        if name not in into:
            into[name] = value
        elif isinstance(into[name], dict) and isinstance(value, dict):
            _merge(into[name], value)
