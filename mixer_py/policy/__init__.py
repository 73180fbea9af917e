"""Decide: Rego engines behind one Protocol, with opa-envoy-plugin's input and result."""

from mixer_py.policy.decision import Decision
from mixer_py.policy.engine import EvaluationWatch
from mixer_py.policy.policy import Policy
from mixer_py.policy.settings import PolicySettings

__all__ = ["Decision", "EvaluationWatch", "Policy", "PolicySettings"]
