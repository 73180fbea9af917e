"""The immutable whole that a worker decides with: settings, policy and rules under one revision.

Built beside the one in use; using it is one assignment in each service.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mixer_py.config.configuration import Configuration
from mixer_py.instruments import Registry
from mixer_py.policy.bundles.bundle import Bundle
from mixer_py.policy.bundles.reading import read_policy
from mixer_py.policy.policy import Policy
from mixer_py.ratelimit.rules import Rules
from mixer_py.ratelimit.stores.opening import check_store
from mixer_py.runtime.vital_signs import VitalSigns

_REVISION_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Sources:
    """Everything that was read from files: what may be handed to another worker."""

    bundle: Bundle
    rules: Rules


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What decides from one moment to the next reload.

    Attributes:
        revision: 12 hexadecimal digits over everything below; equal content has an equal revision.
        configuration: the settings.
        policy: bound to the thread that built it.
        rules: of the rate limits.
    """

    revision: str
    configuration: Configuration
    policy: Policy
    rules: Rules

    def describe(self) -> dict[str, object]:
        """What people see at `/policies` and `/rlconfig`."""
        return {
            "revision": self.revision,
            "policies": self.policy.describe(),
            "limits": self.rules.describe(),
            "quotas": [quota.describe() for quota in self.configuration.rate_limit.quotas],
        }


def read(configuration: Configuration, fetched: Mapping[str, Path] | None = None) -> Sources:
    """Reads the files that the configuration names.

    Args:
        configuration: the settings.
        fetched: files of what was fetched, by the keys of their sources; None for the copies that were kept.

    Raises:
        ConfigurationError: with every fault found.
    """
    return Sources(read_policy(configuration.policy, fetched), Rules.load(configuration.rate_limit))


def build(
    configuration: Configuration,
    sources: Sources,
    vital_signs: VitalSigns | None = None,
    registry: Registry | None = None,
) -> Snapshot:
    """Builds a snapshot.

    Args:
        configuration: the settings.
        sources: what `read` gave, for this configuration.
        vital_signs: told of every evaluation.
        registry: of what the decision cache counts.

    Raises:
        PolicyLoadError: the policies do not compile.
        ConfigurationError: the counter store cannot be opened.
    """
    check_store(configuration.rate_limit)
    policy = Policy.compile(configuration.policy, sources.bundle, vital_signs, registry)
    content = "\0".join((policy.revision, sources.rules.revision, configuration.model_dump_json()))
    revision = hashlib.sha256(content.encode()).hexdigest()[:_REVISION_DIGITS]
    return Snapshot(revision, configuration, policy, sources.rules)
