"""Decide one CheckRequest offline, with the same code as the server. A denial is a good answer: exit 0.

Exit 1 when the verdict is not the expected one, when the policy failed, or when policy or request are malformed; 2
when the request cannot be read.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from google.protobuf import json_format

from mixer_py.calls import Call
from mixer_py.cli.accounts import account_document, account_lines, quota_documents, quota_lines
from mixer_py.cli.json_input import read_json
from mixer_py.cli.main import BAD, GOOD, USAGE, complain
from mixer_py.cli.options import add_configuration, add_format, load_configuration
from mixer_py.cli.output import print_json, print_line, printable, shorten_paths
from mixer_py.config import Configuration
from mixer_py.errors import (
    ConfigurationError,
    CounterStoreError,
    EvaluationError,
    Fault,
    RequestParseError,
    UnknownQuotaError,
)
from mixer_py.instruments import Registry, SystemClock
from mixer_py.policy.bundles.bundle import Bundle
from mixer_py.policy.decision import Decision
from mixer_py.policy.explaining.account import Account, account_for
from mixer_py.policy.explaining.interpreter import parse
from mixer_py.policy.point import DecisionPoint
from mixer_py.policy.policy import Policy
from mixer_py.policy.rego.attributes_data import check_decision
from mixer_py.policy.settings import PolicySettings
from mixer_py.ratelimit.quotas.charging import Measured, Quotas
from mixer_py.ratelimit.stores.memory import MemoryStore
from mixer_py.runtime.snapshot import build, read
from mixer_py.services.ext_authz import Authorization, AuthorizationService
from mixer_py.telemetry.decision_record import DecisionRecord

EXAMPLES = (
    "mixer check -c mixer.yaml --request request.json",
    "mixer check -c mixer.yaml --request request.json --explain",
    "mixer check --request - --expect deny --format json < request.json",
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the server would have done.

    Attributes:
        record: what it would have logged.
        response: what it would have answered; None when the call would have failed.
        key: what the request is told apart by in the cache, with secrets hashed; None for one that is not kept.
        advice: what may be wrong where the policy failed; empty when nobody knows.
        account: how it came about; None unless it was asked for.
        measured: what the check is charged for; None unless it was asked for, or where nothing is charged.
    """

    record: DecisionRecord
    response: CheckResponse | None
    key: object = None
    advice: str = ""
    account: Account | None = None
    measured: Measured | None = None


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_configuration(parser)
    parser.add_argument("--request", required=True, metavar="FILE", help="a CheckRequest as JSON; - is standard input")
    parser.add_argument("--expect", choices=("allow", "deny"), help="exit 1 when the verdict is another")
    parser.add_argument(
        "--explain", action="store_true", help="say how it came about: rules, reads, engine, cache, time"
    )
    add_format(parser)


def run(arguments: argparse.Namespace) -> int:
    """Decides, prints, and compares with what was expected."""
    source = "stdin" if arguments.request == "-" else arguments.request
    try:
        text = sys.stdin.buffer.read() if arguments.request == "-" else Path(arguments.request).read_bytes()
    except OSError as error:
        complain(f"{source}: cannot be read: {error.strerror}")
        return USAGE
    request = _parse(text, source)
    with contextlib.redirect_stdout(sys.stderr):  # what the policy prints and the engine logs
        outcome = asyncio.run(decide(load_configuration(arguments), request, explain=arguments.explain))
    if arguments.format == "json":
        print_json(_document(outcome))
    else:
        for line in _summary(outcome):
            print_line(printable(shorten_paths(line)))
    verdict = outcome.record.verdict
    if arguments.expect is not None and verdict != arguments.expect:
        complain(f"expected {arguments.expect}, got {verdict}")
        return BAD
    return BAD if verdict == "error" else GOOD


async def decide(configuration: Configuration, request: CheckRequest, *, explain: bool = False) -> Outcome:
    """One check through the service that the server runs.

    Args:
        configuration: the settings.
        request: what to decide.
        explain: also say how it came about.

    Raises:
        ConfigurationError: policies or limits cannot be loaded.
    """
    sources = read(configuration)
    snapshot = build(configuration, sources)
    settings = configuration.policy
    limits, clock, registry = configuration.rate_limit, SystemClock(), Registry()
    counters = MemoryStore(clock, registry, limits.max_counters)  # of this check alone: nobody else is charged
    quotas = Quotas(limits, counters, registry, clock) if limits.quotas else None
    authorization = Authorization(snapshot.policy, snapshot.revision, settings.on_error, quotas=quotas)
    recorder = _Recorder()
    service = AuthorizationService(authorization, recorder, registry, clock)
    response = account = measured = None
    snapshot.policy.open()
    try:
        with contextlib.suppress(EvaluationError, CounterStoreError):  # the record says what failed
            response = CheckResponse.FromString(await service.check(request.SerializeToString(), Call()))
        if explain:
            account = await account_for(settings, sources.bundle, snapshot.policy, request)
            measured = _measure(quotas, request, recorder.records[0])
    finally:
        await snapshot.policy.close()
    record = recorder.records[0]
    advice = _advice(settings, sources.bundle, record.path) if record.error else ""
    return Outcome(record, response, _cache_key(snapshot.policy, request), advice, account, measured)


def _measure(quotas: Quotas | None, request: CheckRequest, record: DecisionRecord) -> Measured | None:
    """What the check is charged for, where the policy allowed it."""
    decision = record.result
    if quotas is None or not isinstance(decision, Decision) or not decision.allowed:
        return None
    with contextlib.suppress(UnknownQuotaError):  # the record says so
        return quotas.measure(request.attributes, decision.quotas)
    return None


def _advice(settings: PolicySettings, bundle: Bundle, path: str) -> str:
    """Says so when no policy defines what was asked for."""
    if settings.engine != "embedded":
        return ""
    way_out = check_decision(parse(bundle.modules), bundle.data_at([()]), list(settings.data), path)
    return "" if way_out is None else str(Fault(f"no policy defines {path}", way_out=way_out))


def _cache_key(policy: Policy, request: CheckRequest) -> object:
    point = policy.select(request)
    if not isinstance(point, DecisionPoint):
        return None
    try:
        explanation = point.explain(request)
    except RequestParseError:
        return None
    return explanation.key if explanation.cached else None


class _Recorder:
    """A decision log that remembers."""

    def __init__(self) -> None:
        self.records: list[DecisionRecord] = []

    def record(self, record: DecisionRecord) -> None:
        self.records.append(record)


def _parse(text: bytes, source: str) -> CheckRequest:
    document = read_json(text, source)
    if not isinstance(document, dict):
        raise ConfigurationError([Fault("a CheckRequest is a JSON object", source, 1)])
    try:
        return json_format.ParseDict(document, CheckRequest())
    except json_format.ParseError as error:
        reason = " ".join(str(error).split())
        raise ConfigurationError([Fault(f"not a CheckRequest: {reason}", source)]) from None


def _document(outcome: Outcome) -> dict[str, Any]:
    record = outcome.record
    response = None if outcome.response is None else json_format.MessageToDict(outcome.response)
    return {
        "verdict": record.verdict,
        "decision_id": record.decision_id,
        "decision": record.decision,
        "revision": record.revision,
        "rule": record.rule,
        "reasons": _reasons(record),
        "error": record.error or None,
        "tier": record.tier,
        "cache_key": outcome.key,
        "response": response,
        **({} if outcome.account is None else {"explain": _explained(outcome, outcome.account)}),
    }


def _explained(outcome: Outcome, account: Account) -> dict[str, Any]:
    return account_document(account, outcome.record.duration) | {"quotas": quota_documents(outcome.measured)}


def _reasons(record: DecisionRecord) -> list[str]:
    return record.reasons.split("; ") if record.reasons else []


def _summary(outcome: Outcome) -> Iterator[str]:
    record = outcome.record
    yield f"verdict      {record.verdict}"
    if record.error:
        yield f"error        {record.error}"
    if outcome.advice:
        yield f"error        {outcome.advice}"
    for reason in _reasons(record):
        yield f"reason       {reason}"
    if record.rule:
        yield f"rule         {record.rule}"
    yield f"decision     {record.decision} at revision {record.revision}"
    yield f"decision id  {record.decision_id}"
    if outcome.response is None:
        yield "response     none: the call fails, and Envoy's failure_mode_allow decides"
    else:
        yield from (f"response     {line}" for line in _answer(outcome.response))
    if outcome.account is not None:
        yield from account_lines(outcome.account, record.tier, record.duration)
        yield from quota_lines(outcome.measured)


def _answer(response: CheckResponse) -> Iterator[str]:
    """What Envoy is told to do, one thing a line."""
    if response.HasField("denied_response"):
        denied = response.denied_response
        yield f"HTTP {denied.status.code or 403}"
        yield from (f"with {option.header.key}: {option.header.value}" for option in denied.headers)
        if denied.body:
            yield f"body {denied.body}"
        return
    yield "pass the request on" if response.status.code == 0 else "HTTP 403"
    passed = response.ok_response
    yield from (f"with {option.header.key}: {option.header.value}" for option in passed.headers)
    yield from (f"without {name}" for name in passed.headers_to_remove)
    yield from (f"query {parameter.key}={parameter.value}" for parameter in passed.query_parameters_to_set)
    yield from (f"query without {name}" for name in passed.query_parameters_to_remove)
    yield from (
        f"answered with {option.header.key}: {option.header.value}" for option in passed.response_headers_to_add
    )
