"""CheckRequest: nothing is let in that the policy does not name, and a cache changes no answer."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote_to_bytes

from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from google.protobuf import json_format
from google.protobuf.message import DecodeError

from mixer_py.calls import Call
from mixer_py.errors import MixerError
from mixer_py.instruments import FakeClock, Registry
from mixer_py.policy.log_rules import result_of
from mixer_py.policy.policy import Policy
from mixer_py.policy.settings import PolicySettings
from mixer_py.ratelimit.quota_settings import QuotaSettings
from mixer_py.ratelimit.quotas.charging import Quotas
from mixer_py.ratelimit.settings import RateLimitSettings
from mixer_py.ratelimit.stores.memory import MemoryStore
from mixer_py.services.ext_authz import Authorization, AuthorizationService
from mixer_py.telemetry import validation
from mixer_py.telemetry.decision_log import DecisionLog
from mixer_py.telemetry.decision_log_input import InputKeeper, InputSources
from mixer_py.telemetry.decision_log_settings import DecisionLogSettings
from mixer_py.telemetry.decision_record import DecisionRecord
from tests.fuzz.target import CASES, run

DENY = "package envoy.authz\n\nallow := false\n"
ONE_DOOR = """package envoy.authz

default allow := false

allow if {
    input.attributes.request.http.method == "GET"
    input.parsed_path == ["open", "door"]
    not input.parsed_query.admin
}
"""
BODY = """package envoy.authz

default allow := {"allowed": false, "reasons": "no role"}

allow := {"allowed": true, "headers": {"x-role": "admin"}, "quotas": [{"name": "each"}]} if {
    input.parsed_body.role == "admin"
}
"""


class Rows:
    """Takes the rows of the decision log, and checks them."""

    def __init__(self) -> None:
        self.count = 0

    def put(self, table: str, batch: object, *, promised: bool = False) -> None:
        validation.check(table, batch)  # type: ignore[arg-type]
        self.count += len(batch)  # type: ignore[arg-type]

    def count_dropped(self, table: str, rows: int, reason: str) -> None:
        raise AssertionError(f"{rows} rows of {table} were dropped: {reason}")

    def has_room(self, table: str, rows: int, size: int) -> bool:
        return True

    async def freed(self, table: str) -> None: ...


class Records(list[DecisionRecord]):
    """A decision log that keeps nothing for long."""

    def record(self, record: DecisionRecord) -> None:
        self.append(record)


class Asked:
    """A service over one policy, and its decision log; `whole` makes rows of what is logged."""

    def __init__(self, module: str, *, cached: bool = False, whole: bool = False) -> None:
        registry, clock = Registry(), FakeClock()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "policy.rego")
            path.write_text(module, encoding="utf-8")
            policy = Policy.load(PolicySettings(bundles=(str(path),), cache={"entries": 100 if cached else 0}))
        limits = _quotas(registry, clock) if whole else None
        self.rows, self.records = Rows(), Records()
        builder, settings = policy.inputs, DecisionLogSettings()
        keeper = InputKeeper(settings, InputSources(builder.document, builder.attributes, result_of), registry)
        self.log = DecisionLog(self.rows, settings, keeper, registry, clock) if whole else None
        authorization = Authorization(policy, "r", "error", quotas=limits)
        self.service = AuthorizationService(authorization, self.log or self.records, registry, clock)

    async def ask(self, message: bytes) -> CheckResponse | MixerError:
        """The answer, or with what the call ended."""
        self.rows.count = 0
        self.records.clear()
        try:
            answer = await self.service.check(message, Call())
        except MixerError as error:
            assert error.grpc_status != 0, "a call that failed has the status OK"
            return error
        finally:
            if self.log is not None:
                await self.log.drain(10)
        assert self.rows.count + len(self.records) == 1, "one decision is logged a call"
        response = CheckResponse.FromString(answer)
        assert response.WhichOneof("http_response") in {None, "ok_response", "denied_response"}
        if response.status.code == 0:
            assert response.WhichOneof("http_response") != "denied_response", "allowed and denied at once"
        else:
            assert response.WhichOneof("http_response") != "ok_response", "denied and allowed at once"
        del response.dynamic_metadata.fields["decision_id"]
        return response


def _quotas(registry: Registry, clock: FakeClock) -> Quotas:
    settings = (
        QuotaSettings(name="each", limit="5 / 1m", key=('request.headers["x-tenant"]', "source.principal")),
        QuotaSettings(name="tokens", limit="5 / 1m", match='request.url_path.startsWith("/t")', cost="request.size"),
    )
    limits = RateLimitSettings(quotas=settings, on_error="deny")
    return Quotas(limits, MemoryStore(clock, registry, 1000), registry, clock)


@cache
def services() -> tuple[Asked, Asked, Asked, Asked]:
    """Deny all; one door without and with a cache; by the body, with quotas."""
    return (
        Asked(DENY, cached=True),
        Asked(ONE_DOOR),
        Asked(ONE_DOOR, cached=True),
        Asked(BODY, whole=True),
    )


def check(data: bytes) -> None:
    run(_check(data))


async def _check(data: bytes) -> None:
    deny, door, cached, body = services()
    denied = await deny.ask(data)
    assert not _allows(denied), "a policy that denies all let a request in"
    plain = await door.ask(data)
    if _allows(plain):
        http = CheckRequest.FromString(data).attributes.request.http
        path = unquote_to_bytes(http.path.partition("?")[0]).lstrip(b"/")
        assert (http.method, path) == ("GET", b"open/door"), "another request than the one that is allowed came in"
    for _ in range(2):
        again = await cached.ask(data)
        assert str(again) == str(plain), "the cache gives another answer"
    await body.ask(data)
    try:
        CheckRequest.FromString(data)
    except DecodeError:
        assert isinstance(denied, MixerError), "bytes that are no CheckRequest were answered"


def _allows(answer: CheckResponse | MixerError) -> bool:
    return isinstance(answer, CheckResponse) and answer.status.code == 0


def seeds() -> Iterator[bytes]:
    request = CheckRequest()
    http = request.attributes.request.http
    http.method, http.path = "GET", "/open/door"
    yield request.SerializeToString()
    http.path, http.host, http.size = "/open%2fdoor?a=1&b=%20", "reviews:9080", 17
    http.headers.update({"x-tenant": "gold", "content-type": "application/json", "x-request-id": "r"})
    http.body = '{"role": "admin"}'
    request.attributes.source.principal = "spiffe://cluster.local/ns/shop/sa/web"
    request.attributes.source.address.socket_address.address = "10.0.0.7"
    yield request.SerializeToString()
    for file in sorted(CASES.glob("ext_authz/*/request.json")):
        try:
            yield json_format.Parse(file.read_text(encoding="utf-8"), CheckRequest()).SerializeToString()
        except json_format.ParseError:  # a case about what is no CheckRequest as JSON
            continue
