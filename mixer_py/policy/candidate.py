"""A candidate policy: by which settings it decides. It changes no answer; it only shows what it would have decided."""

from __future__ import annotations

from mixer_py.policy.settings import CacheSettings, PolicySettings


def candidate_settings(settings: PolicySettings) -> PolicySettings | None:
    """The settings by which the candidate of `policy.shadow` decides; None where there is none.

    They are those of the policies in force, with its own bundles and, if it names one, its own decision. The engine
    is always the embedded one, in the candidate's own process, and nothing is cached: each verdict is its own.
    """
    shadow = settings.shadow
    if shadow is None:
        return None
    changes: dict[str, object] = {
        "shadow": None,
        "engine": "embedded",
        "bundles": shadow.bundles,
        "cache": CacheSettings(entries=0),
    }
    if shadow.decision is not None:
        changes |= {"decision": shadow.decision, "decisions": ()}
    return settings.model_copy(update=changes)
