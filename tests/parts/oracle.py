"""A policy that says what it is told to, for tests of those who ask one."""

from __future__ import annotations

from envoy.service.auth.v3.external_auth_pb2 import CheckRequest

from mixer_py.policy.decision import Decision, Ruling


class Oracle:
    """What services ask, with one answer to everything."""

    path = name = "envoy/authz/allow"
    revision = "r"
    tier = "interpreter"
    reads = ()

    def __init__(self, answer: Decision | Exception, *, dry_run: bool = False) -> None:
        self.answer = answer
        self.dry_run = dry_run
        self.points = (self,)

    def select(self, request: CheckRequest) -> Oracle:
        """Itself, whatever is asked."""
        return self

    async def decide(self, request: CheckRequest) -> Ruling:
        """The answer; raises it when it is an exception."""
        if isinstance(self.answer, Exception):
            raise self.answer
        return Ruling(self.answer, self.tier, "bypass")
