"""The wall clock is set, forward and back: limits, tokens and the times of rows follow it, and nothing waits for it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults.fault import Fault, State, While
from tests.faults.scene import Scene
from tests.parts.http_client import request

CLOCK = "a clock that is set"
_HOUR = 3600.0
SET = (_HOUR, -_HOUR, -365 * 24 * _HOUR)
"""What it is ahead by, one after another."""
_SECRET = "of this test alone"
POLICY = f"""
package envoy.authz

import rego.v1

default allow := false

allow if input.parsed_path[0] == "reviews"

allow if {{
    input.parsed_path[0] == "token"
    token := input.attributes.request.http.headers["x-token"]
    [true, _, _] = io.jwt.decode_verify(token, {{"secret": "{_SECRET}", "alg": "HS256"}})
}}
"""
LIMITS = """
domain: mesh
descriptors:
  - key: tenant
    value: clock-*
    descriptors:
      - key: service
        rate_limit: {unit: minute, requests_per_unit: 3}
  - key: tenant
    descriptors:
      - key: service
        rate_limit: {unit: day, requests_per_unit: 1000000}
"""


def _token(**claims: float) -> str:
    """A token with these claims, signed with HS256 (RFC 7515)."""
    parts = ({"alg": "HS256", "typ": "JWT"}, claims)
    signed = b".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts)
    signature = hmac.new(_SECRET.encode(), signed, hashlib.sha256).digest()
    return b".".join((signed, base64.urlsafe_b64encode(signature).rstrip(b"="))).decode()


def _status(scene: Scene, path: str, **headers: str) -> int:
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return request(scene.envoy.port, path, headers=named).status


def _set(ahead: float) -> State:
    @contextmanager
    def state(scene: Scene) -> Iterator[None]:
        with scene.parts["clock"].ahead(ahead):
            yield

    return state


def _use_up(scene: Scene, tenant: str) -> None:
    """A tenant's limit counts: of ten requests at most six pass, though a minute may end among them."""
    statuses = [_status(scene, "/reviews/limit", x_tenant=tenant) for _ in range(10)]
    if not 3 <= statuses.count(200) <= 6 or set(statuses) != {200, 429}:
        scene.complaints.append(f"a limit of 3 a minute let {statuses.count(200)} of 10 pass: {statuses}")


def _jump(ahead: float) -> While:
    """The clock is set by so much while a limit is used up, and set right again."""

    def inject(scene: Scene) -> None:
        now, tenant = time.time(), f"clock-{time.monotonic_ns()}"
        until, since = _token(exp=int(now + _HOUR / 2)), _token(nbf=int(now - _HOUR / 2))
        for told in (0.0, ahead, 0.0):
            with scene.parts["clock"].ahead(told):
                _use_up(scene, tenant)
                wanted = (403 if told > 0 else 200, 403 if told < 0 else 200)
                seen = tuple(_status(scene, "/token", x_tenant="soak", x_token=one) for one in (until, since))
                if seen != wanted:
                    scene.complaints.append(f"{told:+.0f} s: tokens were answered {seen}, not {wanted}")
                if told:
                    time.sleep(1.0)
        moment = int(now + ahead)
        sql = f"SELECT count() AS n FROM decisions WHERE abs(toUnixTimestamp(timestamp) - {moment}) < 600"

        def has_rows() -> bool:
            return int(scene.mixer.rows(sql)[0]["n"]) > 0

        scene.eventually(has_rows, "decisions at the time that the clock showed")

    return While(_set(ahead), inject)


_FOLLOWED = "no call fails; limits count on in the window that the clock shows, tokens and times of rows follow it"

FAULTS = (
    Fault("the clock set forward an hour, and back", CLOCK, _FOLLOWED, _jump(_HOUR)),
    Fault("the clock set back an hour, and forward", CLOCK, _FOLLOWED, _jump(-_HOUR)),
    Fault("the clock set back by a year, and forward", CLOCK, _FOLLOWED, _jump(SET[2])),
)
