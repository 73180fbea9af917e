"""The whole configuration, composed of the settings that each room defines beside its code."""

from __future__ import annotations

from pydantic import model_validator

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

    @model_validator(mode="after")
    def _a_log_that_must_not_be_missed_is_there(self) -> Configuration:
        when_full = self.decision_log.when_full
        if when_full != "drop" and self.telemetry.clickhouse is None:
            raise ValueError(
                f"decision_log.when_full: {when_full} needs a log; set telemetry.clickhouse, or leave when_full out"
            )
        return self
