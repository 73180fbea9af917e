"""The whole configuration, composed of the settings that each room defines beside its code."""

from __future__ import annotations

from mixer_py.config.log import LogSettings
from mixer_py.config.server import ServerSettings
from mixer_py.policy.settings import PolicySettings
from mixer_py.ratelimit.settings import RateLimitSettings
from mixer_py.settings import Settings
from mixer_py.telemetry.decision_log_settings import DecisionLogSettings
from mixer_py.telemetry.settings import TelemetrySettings


class Configuration(Settings):
    """Everything that a person may say to mixer; immutable once loaded."""

    server: ServerSettings = ServerSettings()
    """What listens where, for whom, and its manners."""
    log: LogSettings = LogSettings()
    """What the program says about itself on stderr."""
    policy: PolicySettings = PolicySettings()
    """How a check is decided."""
    rate_limit: RateLimitSettings = RateLimitSettings()
    """How calls are counted against limits."""
    decision_log: DecisionLogSettings = DecisionLogSettings()
    """What is remembered of every check."""
    telemetry: TelemetrySettings = TelemetrySettings()
    """Where rows and metrics go."""
